//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"

	"bulkinvite/internal/rig"
)

var epoch = time.Unix(1_700_000_000, 0).Truncate(window)

// at returns requests that arrive at the given milliseconds after the epoch.
func at(status int, trace string, ms ...int) (requests []rig.Request) {
	for _, m := range ms {
		arrival := epoch.Add(time.Duration(m) * time.Millisecond)
		requests = append(requests, rig.Request{At: arrival, Call: "create", Status: status, Trace: trace})
	}
	return requests
}

// TestSpared checks that [TestAnotherClient] counts each avoidable answer and no other.
func TestSpared(t *testing.T) {
	t.Parallel()
	// The limit is 2 in 6 s, and requests arrived at 0 and 1 ms. A refused request gets a
	// Retry-After of up to 6 s.
	full := at(200, "theirs", 0, 1)
	first := at(429, "ours", 100)
	probe := at(200, "theirs", 6000, 6001)
	soon, next := at(429, "ours", 5500), at(200, "theirs", 6000, 6001)
	for _, c := range []struct {
		name string
		mode string
		late []rig.Request
		want int
	}{
		{"in flight at the first", "sliding", at(429, "ours", 100, 101, 102), 0},
		{"one more than were in flight", "sliding", at(429, "ours", 100, 101, 102, 103), 1},
		{"another client's", "sliding", at(429, "theirs", 100, 101, 102, 103), 0},
		{"a probe in time", "sliding", slices.Concat(first, probe, at(429, "ours", 6150)), 0},
		{"two probes", "sliding", slices.Concat(first, probe, at(429, "ours", 6150, 6151)), 1},
		{"fixed: a window's end frees", "fixed", slices.Concat(soon, next, at(429, "ours", 6550)), 0},
		{"fixed: too soon after the first", "fixed", slices.Concat(soon, at(429, "ours", 6100, 6110, 6120)), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			limit := throttle{mode: c.mode, window: window, limit: 2}
			episodes := limit.episodes(slices.Concat(full, c.late), map[string]bool{"ours": true})
			if got := spared(episodes, 3); got != c.want {
				t.Errorf("%v: got %d, want %d", episodes, got, c.want)
			}
		})
	}
}

// TestLate checks the delay of each window.
func TestLate(t *testing.T) {
	t.Parallel()
	var seen rig.Record
	for _, start := range []int{0, 6010, 12500} { // windows begin 10 ms and then 490 ms later than they could
		for range rig.Singles + rig.Bulks {
			seen.Requests = append(seen.Requests, at(200, "", start)...)
		}
	}
	if got := late(&seen, window); got != 490*time.Millisecond {
		t.Errorf("late by %s, want 490ms", got)
	}
}
