package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"bulkinvite/internal/rig"
)

// workers is the number of worker processes in each run.
const workers = 3

// fleet keeps worker processes alive: it restarts each worker that dies.
type fleet struct {
	binary string
	env    []string
	each   func(i int) []string // additional environment of a worker; may be nil
	args   []string
	dir    string
	quit   bool // a worker may exit by itself and is restarted

	mu     sync.Mutex
	lives  [workers]*rig.Process
	deaths []time.Time
	quits  []error // processes that exited by themselves and may not
	ended  int     // number of processes that exited by themselves and may
	ending bool
	all    sync.WaitGroup
}

// start starts every worker. points has the fail point for the first process of each worker.
func (f *fleet) start(ctx context.Context, points []string) error {
	f.mu.Lock()
	f.ending = false
	f.mu.Unlock()
	for i := range workers {
		point := ""
		if len(points) > 0 {
			point = points[i]
		}
		if err := f.launch(ctx, i, point); err != nil {
			return err
		}
		f.all.Go(func() { f.keep(ctx, i) })
	}
	return nil
}

func (f *fleet) launch(ctx context.Context, i int, point string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending {
		return nil
	}
	env := append(slices.Clone(f.env), "BULKINVITE_FAILPOINT="+point)
	if f.each != nil {
		env = append(env, f.each(i)...)
	}
	p, err := rig.Launch(ctx, f.binary, env, filepath.Join(f.dir, fmt.Sprintf("work-%d.log", i)), nil, f.args...)
	if err == nil {
		f.lives[i] = p
	}
	return err
}

// keep restarts a worker each time it ends, until the fleet ends.
func (f *fleet) keep(ctx context.Context, i int) {
	for {
		p := f.worker(i)
		<-p.Over()
		f.mu.Lock()
		ending := f.ending
		if !ending {
			var exit *exec.ExitError
			if errors.As(p.Err(), &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
				f.deaths = append(f.deaths, time.Now())
			} else if f.quit && p.Err() != nil {
				f.ended++
			} else {
				f.quits = append(f.quits, fmt.Errorf("worker %d exited by itself: %v: %s", i, p.Err(), rig.Tail(p.Log)))
			}
		}
		f.mu.Unlock()
		if ending || rig.Sleep(ctx, 200*time.Millisecond) != nil {
			return
		}
		if err := f.launch(ctx, i, ""); err != nil {
			f.mu.Lock()
			f.quits = append(f.quits, err)
			f.mu.Unlock()
			return
		}
	}
}

func (f *fleet) worker(i int) *rig.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lives[i]
}

// seen returns when workers were killed, and the errors of those that exited by themselves and may
// not.
func (f *fleet) seen() (deaths []time.Time, quits []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(deaths, f.deaths...), append(quits, f.quits...)
}

// quitted returns how many workers exited by themselves, if the run allows that.
func (f *fleet) quitted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// end sends a signal to every worker and returns when all have ended.
func (f *fleet) end(sig syscall.Signal) error {
	f.mu.Lock()
	f.ending = true
	lives := f.lives
	f.mu.Unlock()
	var err error
	for _, p := range lives {
		if p != nil {
			err = errors.Join(err, p.Signal(sig))
		}
	}
	f.all.Wait()
	for i, p := range lives {
		if p != nil && sig == syscall.SIGTERM && p.Err() != nil {
			err = errors.Join(err, fmt.Errorf("stop worker %d: %w: %s", i, p.Err(), rig.Tail(p.Log)))
		}
	}
	return err
}
