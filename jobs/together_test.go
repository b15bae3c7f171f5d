package jobs

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// What is asked for while the first is done is done at once after it, and each
// hears of the error of its own company.
func TestTogether(t *testing.T) {
	t.Parallel()
	const many = 100
	begun, wait := make(chan struct{}), make(chan struct{})
	failed := errors.New("failed")
	var done [][]int // by one at a time
	tg := together[int]{do: func(_ context.Context, all []int) error {
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
		if err := tg.ask(t.Context(), 0); err != nil {
			t.Errorf("the first: %v", err)
		}
	})
	<-begun
	for i := range many {
		asking.Go(func() {
			if err := tg.ask(t.Context(), i+1); !errors.Is(err, failed) {
				t.Errorf("number %d: %v", i+1, err)
			}
		})
	}
	for waiting := 0; waiting < many; {
		tg.mu.Lock()
		waiting = len(tg.waiting)
		tg.mu.Unlock()
	}
	close(wait)
	asking.Wait()
	if len(done) != 2 || len(done[0]) != 1 || len(done[1]) != many {
		t.Errorf("done in %d goes: %v", len(done), done)
	}
}
