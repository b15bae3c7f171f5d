package jobs

import (
	"context"
	"sync"
	"time"
)

// together does the same for many at once: what is asked for while it is at work
// is done together after that. So many jobs take few transactions, and one
// connection between them, each of which costs PostgreSQL a process with plans of
// its own.
type together[T any] struct {
	do func(context.Context, []T) error

	mu      sync.Mutex
	busy    bool
	waiting []asked[T]
}

type asked[T any] struct {
	it   T
	done chan error
}

// ask returns when it is done, with the error of all that it was done with.
func (t *together[T]) ask(ctx context.Context, it T) error {
	one := asked[T]{it, make(chan error, 1)}
	t.mu.Lock()
	t.waiting = append(t.waiting, one)
	if !t.busy {
		t.busy = true
		go t.run(context.WithoutCancel(ctx))
	}
	t.mu.Unlock()
	return <-one.done
}

// run does what waits until nothing does.
func (t *together[T]) run(ctx context.Context) {
	for {
		t.mu.Lock()
		batch := t.waiting
		t.waiting = nil
		t.busy = len(batch) > 0
		t.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		all := make([]T, len(batch))
		for i, one := range batch {
			all[i] = one.it
		}
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := t.do(within, all)
		cancel()
		for _, one := range batch {
			one.done <- err
		}
	}
}
