package jobs

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// Answers that come while the first is written are written in one transaction after it, and each gets the error of its
// own transaction.
func TestRecorder(t *testing.T) {
	t.Parallel()
	const many = 100
	begun, wait := make(chan struct{}), make(chan struct{})
	failed := errors.New("failed")
	var done [][]answered // by one at a time
	r := recorder{write: func(_ context.Context, all []answered) error {
		done = append(done, all)
		if len(done) > 1 {
			return failed
		}
		close(begun)
		<-wait
		return nil
	}}
	var asking sync.WaitGroup
	asking.Go(func() {
		if err := r.add(t.Context(), answered{}); err != nil {
			t.Errorf("the first: %v", err)
		}
	})
	<-begun
	for i := range many {
		asking.Go(func() {
			if err := r.add(t.Context(), answered{}); !errors.Is(err, failed) {
				t.Errorf("number %d: %v", i+1, err)
			}
		})
	}
	for waiting := 0; waiting < many; {
		r.mu.Lock()
		waiting = len(r.waiting)
		r.mu.Unlock()
	}
	close(wait)
	asking.Wait()
	if len(done) != 2 || len(done[0]) != 1 || len(done[1]) != many {
		t.Errorf("written in %d transactions", len(done))
	}
}
