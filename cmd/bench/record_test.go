package main

import (
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0).Truncate(6 * time.Second)

// at makes requests of a call that arrive so many milliseconds after the epoch.
func at(call string, status int, trace string, ms ...int) []request {
	var requests []request
	for _, m := range ms {
		requests = append(requests, request{At: epoch.Add(time.Duration(m) * time.Millisecond), Call: call, Status: status, Trace: trace})
	}
	return requests
}

func TestRecordCountsFromTheFirstCreate(t *testing.T) {
	t.Parallel()
	r := &record{requests: append(at("users", 200, "", 0), at("create", 200, "", 1000, 1500)...)}
	for _, ms := range []int{1000, 6999, 7000} {
		r.invitations = append(r.invitations, invitation{CreatedAt: epoch.Add(time.Duration(ms) * time.Millisecond)})
	}
	if got := r.invited(6 * time.Second); got != 2 {
		t.Errorf("invited in the first window: %d, want 2", got)
	}
	if got := r.took(); got != 6*time.Second {
		t.Errorf("took %s, want 6s", got)
	}
	if got := (&record{}).invited(time.Hour) + int((&record{}).took()); got != 0 {
		t.Errorf("a run in which nothing happened: %d, want 0", got)
	}
}

func TestLateLooksAtEachWindow(t *testing.T) {
	t.Parallel()
	var r record
	for _, start := range []int{0, 6010, 12500} { // windows begin 10 and then 490 ms after the last could
		for range singles + bulks {
			r.requests = append(r.requests, at("create", 200, "", start)...)
		}
	}
	if got := r.late(6 * time.Second); got != 490*time.Millisecond {
		t.Errorf("late by %s, want 490ms", got)
	}
}

func TestSpared(t *testing.T) {
	t.Parallel()
	// Two are allowed in 6 s, and came at 0 and 1 ms: what is refused hears 6 s.
	full := at("create", 200, "theirs", 0, 1)
	for _, c := range []struct {
		name string
		mode string
		late []request
		want int
	}{
		{"in flight at the first", "sliding", at("create", 429, "ours", 100, 101, 102), 0},
		{"one more than were in flight", "sliding", at("create", 429, "ours", 100, 101, 102, 103), 1},
		{"another client's", "sliding", at("create", 429, "theirs", 100, 101, 102, 103), 0},
		{"a probe in time", "sliding", append(at("create", 429, "ours", 100), append(at("create", 200, "theirs", 6000, 6001), at("create", 429, "ours", 6150)...)...), 0},
		{"two probes", "sliding", append(at("create", 429, "ours", 100), append(at("create", 200, "theirs", 6000, 6001), at("create", 429, "ours", 6150, 6151)...)...), 1},
		{"fixed: a window's end frees", "fixed", append(at("create", 429, "ours", 5500), append(at("create", 200, "theirs", 6000, 6001), at("create", 429, "ours", 6550)...)...), 0},
		{"fixed: too soon after the first", "fixed", append(at("create", 429, "ours", 5500), at("create", 429, "ours", 6100, 6110, 6120)...), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ours := map[string]bool{"ours": true}
			limit := throttle{mode: c.mode, window: 6 * time.Second, limit: 2}
			episodes := limit.episodes(append(append([]request{}, full...), c.late...), ours)
			if got := spared(episodes, 3); got != c.want {
				t.Errorf("%v: got %d, want %d", episodes, got, c.want)
			}
		})
	}
}

func TestRetryAfterIsInWholeSeconds(t *testing.T) {
	t.Parallel()
	counted := []time.Time{epoch, epoch.Add(time.Second), epoch.Add(2 * time.Second)}
	now := epoch.Add(2500 * time.Millisecond)
	for mode, want := range map[string]time.Duration{"sliding": 5 * time.Second, "fixed": 4 * time.Second} {
		limit := throttle{mode: mode, window: 6 * time.Second, limit: 2}
		if got := limit.retryAfter(counted, now); got != want {
			t.Errorf("%s: %s, want %s", mode, got, want)
		}
	}
}
