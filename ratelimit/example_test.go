package ratelimit_test

import (
	"fmt"
	"time"

	"bulkinvite/ratelimit"
)

// A request counts until one window and a small margin after its answer. A request without an answer
// counts at least as long as if the answer came now.
func ExampleLimit_Room() {
	limit, err := ratelimit.Parse("3/10s")
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 2, 15, 0, 20, 0, time.UTC)
	ends := []time.Time{
		now.Add(-11 * time.Second), // answered more than a window ago: no longer counts
		now.Add(-4 * time.Second),
		now.Add(-1 * time.Second),
	}
	free, _ := limit.Room(now, ends)
	fmt.Println(free, "free")

	ends = append(ends, now.Add(20*time.Second)) // under way; it is answered by its deadline or not at all
	free, opens := limit.Room(now, ends)
	fmt.Println(free, "free; the next in", opens.Sub(now))
	// Output:
	// 1 free
	// 0 free; the next in 6.01s
}
