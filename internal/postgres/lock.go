package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// pollInterval is how often await checks a condition outside the process: a lock, a pid file, a
// server's answer.
const pollInterval = 10 * time.Millisecond

// lock is a flock on a file. An open file holds it, so the kernel releases it when its holder dies.
type lock struct{ file *os.File }

// openLock opens the lock file at path. A missing file is created and given to the directory's
// owner.
func openLock(path string, own owner) (*lock, error) {
	file, err := openFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := own.takeFile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &lock{file}, nil
}

// try takes the lock, in mode syscall.LOCK_EX or LOCK_SH, if it is free.
func (l *lock) try(how int) (bool, error) {
	for {
		err := syscall.Flock(int(l.file.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, fmt.Errorf("lock %s: %w", l.file.Name(), err)
		}
	}
}

// take waits for the lock.
func (l *lock) take(ctx context.Context, how int) error {
	return await(ctx, func() (bool, error) { return l.try(how) })
}

func (l *lock) close() error { return l.file.Close() }

// await calls done until it returns true or an error, or ctx ends.
func await(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
