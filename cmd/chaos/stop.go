package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bulkinvite/internal/rig"
)

// stopFile returns the file to which the worker that stops at its fail point writes its process id.
func (r *run) stopFile() string { return filepath.Join(r.Dir, "stopped") }

// stopAtPoint waits until a worker has stopped itself at its fail point, and continues it some time
// later. The other workers run.
func (r *run) stopAtPoint() error {
	pid, err := r.stopped()
	if err != nil {
		return err
	}
	r.strike()
	err = rig.Sleep(r.ctx, r.wait)
	if err == nil && r.harm.taken != "" {
		err = r.takenOver()
	}
	return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
}

// takenOver checks that another worker has done what the stopped one was about to do.
func (r *run) takenOver() error {
	var yes bool
	if err := r.Pool.QueryRow(r.ctx, r.harm.taken, r.struck).Scan(&yes); err != nil {
		return fmt.Errorf("check whether another worker took over: %w", err)
	}
	if !yes {
		r.idled = append(r.idled, fmt.Sprintf("for %s no worker did what the worker that stopped at %s was about to do", r.wait, r.harm.stopAt))
	}
	return nil
}

// stopped waits for the worker that stops, and returns its process id.
func (r *run) stopped() (int, error) {
	for {
		text, err := os.ReadFile(r.stopFile())
		if err == nil && strings.HasSuffix(string(text), "\n") {
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				return 0, fmt.Errorf("read which worker stopped: %w", err)
			}
			return pid, r.standing(pid)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		if done, err := r.over(); err != nil || done {
			return 0, errors.Join(err, fmt.Errorf("no worker came to its fail point: %s", r.harm.stopAt))
		}
		if err := rig.Sleep(r.ctx, 20*time.Millisecond); err != nil {
			return 0, fmt.Errorf("wait for a worker to stop at %s: %w", r.harm.stopAt, err)
		}
	}
}

// over reports whether every row is decided. After that no worker reaches its fail point, except
// one that workers reach without rows.
func (r *run) over() (bool, error) {
	if r.harm.idle {
		return false, nil
	}
	var done bool
	err := r.Pool.QueryRow(r.ctx, `select not exists (select from results where outcome is null)`).Scan(&done)
	return done, err
}

// standing waits until the kernel has stopped a process.
func (r *run) standing(pid int) error {
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return fmt.Errorf("read the state of the stopped worker: %w", err)
		}
		_, state, _ := strings.Cut(string(text), ") ")
		if strings.HasPrefix(state, "T") {
			return nil
		}
		if err := rig.Sleep(r.ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}
