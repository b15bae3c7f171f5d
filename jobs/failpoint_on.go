//go:build failpoints

package jobs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// The fail points, in the order in which a request reaches them: before_reserve, after_reserve (the
// attempt is committed), before_revoke (of a row's own revoke), after_revoke (it is answered),
// between_halves (that is committed), before_send, after_send (the request is answered),
// before_outcome, after_outcome (that is committed), before_completion (the job ends). A process
// that has just taken the lease of a task is at hold_preflight, hold_settle, hold_reconcile,
// hold_night or hold_purge.
//
// BULKINVITE_FAILPOINT=after_send:3 kills the process the third time that it reaches after_send, as
// kill -9 would.
//
// With BULKINVITE_FAILSTOP=FILE the process stops itself there instead, as SIGSTOP would, unless
// FILE exists. It writes its process id to FILE first, so that only the first of several processes
// with the same setting stops.
var (
	failAt, failCount, _ = strings.Cut(os.Getenv("BULKINVITE_FAILPOINT"), ":")
	failStop             = os.Getenv("BULKINVITE_FAILSTOP")
	failHits             atomic.Int64
)

func failpoint(name string) {
	if name != failAt {
		return
	}
	n, err := strconv.ParseInt(failCount, 10, 64)
	if err != nil {
		n = 1
	}
	if failHits.Add(1) != n {
		return
	}
	if failStop == "" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	stopOnce()
}

// stopOnce stops the process unless another process stopped before it.
func stopOnce() {
	file, err := os.OpenFile(failStop, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_, err = fmt.Fprintf(file, "%d\n", os.Getpid())
	if errors.Join(err, file.Close()) != nil {
		panic("the fail point's file can't be written")
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}
