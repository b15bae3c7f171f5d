//go:build failpoints

package jobs

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// The places, in the order in which a request meets them: before_reserve,
// after_reserve (the attempt is committed), before_revoke (where one makes room),
// after_revoke (its answer is there), between_halves (it is committed), before_send, after_send (the answer
// is there), before_outcome, after_outcome (it is committed), before_completion
// (the job ends).
//
// BULKINVITE_FAILPOINT=after_send:3 kills the process the third time that it
// comes to after_send, as kill -9 would.
var (
	failAt, failCount, _ = strings.Cut(os.Getenv("BULKINVITE_FAILPOINT"), ":")
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
	if failHits.Add(1) == n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
