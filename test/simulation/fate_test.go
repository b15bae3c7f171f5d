package simulation

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"
)

// fate makes the random choices of a seed. A choice depends only on the seed and on the identity of
// the event.
type fate struct {
	seed uint64

	mu   sync.Mutex
	seen map[string]int
}

// at returns the source of random choices for an event.
func (f *fate) at(event ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintln(h, f.seed)
	fmt.Fprintln(h, event...)
	return rand.New(rand.NewPCG(h.Sum64(), f.seed))
}

// nth returns how many events with the same identity came before, from 0.
func (f *fate) nth(event ...any) int {
	key := fmt.Sprintln(event...)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.seen[key]
	f.seen[key] = n + 1
	return n
}

// pick chooses one of several values, by weight.
func pick[T any](dice *rand.Rand, from []weighted[T]) T {
	sum := 0
	for _, w := range from {
		sum += w.weight
	}
	n := dice.IntN(sum)
	for _, w := range from {
		if n -= w.weight; n < 0 {
			return w.what
		}
	}
	panic("not reached: n is less than the sum of the weights")
}

type weighted[T any] struct {
	what   T
	weight int
}

// between chooses a duration, both ends included.
func between(dice *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(dice.Int64N(int64(most-least)+1))
}
