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

// workers is how many processes a run has.
const workers = 3

// fleet keeps worker processes alive: who dies is started again.
type fleet struct {
	binary string
	env    []string
	each   func(i int) []string // more of the environment of a worker; nil: none
	args   []string
	dir    string
	quit   bool // a worker may end by itself, and is started again

	mu     sync.Mutex
	lives  [workers]*rig.Process
	deaths []time.Time
	quits  []error // processes that ended by themselves
	ended  int     // how many did that may
	ending bool
	all    sync.WaitGroup
}

// start starts every worker. points are the fail points of their first lives.
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

// keep starts a worker again whenever it ends, until the fleet does.
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
				f.quits = append(f.quits, fmt.Errorf("worker %d ended by itself: %v: %s", i, p.Err(), rig.Tail(p.Log)))
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

// seen is how the workers ended so far.
func (f *fleet) seen() (deaths []time.Time, quits []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(deaths, f.deaths...), append(quits, f.quits...)
}

// quitted is how many workers ended by themselves so far that may.
func (f *fleet) quitted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// end ends every worker with a signal, and returns when they are gone.
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
			err = errors.Join(err, fmt.Errorf("worker %d, told to end: %w: %s", i, p.Err(), rig.Tail(p.Log)))
		}
	}
	return err
}
