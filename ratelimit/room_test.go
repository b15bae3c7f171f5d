package ratelimit_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bulkinvite/ratelimit"
)

func TestRoom(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	limit := ratelimit.Limit{N: 3, Window: time.Second} // a request weighs 1.005 s
	for _, tt := range []struct {
		name  string
		ends  []time.Duration // relative to now
		free  int
		opens time.Duration
	}{
		{name: "nothing was sent", free: 3},
		{name: "some were answered", ends: []time.Duration{-time.Second, -time.Millisecond}, free: 1},
		{name: "weighs to the last moment", ends: []time.Duration{-1005*time.Millisecond + 1}, free: 2},
		{name: "weighs no longer", ends: []time.Duration{-1005 * time.Millisecond}, free: 3},
		{name: "no answer yet", ends: []time.Duration{time.Hour}, free: 2},
		{name: "full: the oldest answer opens", ends: []time.Duration{-100 * time.Millisecond, -900 * time.Millisecond, -500 * time.Millisecond}, opens: 105 * time.Millisecond},
		{name: "full: none is answered", ends: []time.Duration{time.Minute, time.Minute, time.Minute}, opens: 1005 * time.Millisecond},
		{name: "full: a lost one weighs from its deadline", ends: []time.Duration{-5 * time.Millisecond, time.Minute, time.Minute}, opens: time.Second},
		{name: "over full: the limit was lowered", ends: []time.Duration{-4 * time.Millisecond, -3 * time.Millisecond, -2 * time.Millisecond, -1 * time.Millisecond, -2 * time.Second}, opens: 1002 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var ends []time.Time
			for _, d := range tt.ends {
				ends = append(ends, now.Add(d))
			}
			var want time.Time
			if tt.free == 0 {
				want = now.Add(tt.opens)
			}
			if free, opens := limit.Room(now, ends); free != tt.free || !opens.Equal(want) {
				t.Errorf("%d free, opens in %v; want %d, in %v", free, opens.Sub(now), tt.free, tt.opens)
			}
		})
	}
}

// request is one as the model knows it: more than the limiter does. Times are
// nanoseconds since the model's beginning.
type request struct {
	start, arrival, deadline, answer time.Duration
	arrives, answered                bool
}

// end is what the ledger shows of a request at a time.
func (r request) end(now time.Duration) time.Duration {
	if r.answered && r.answer <= now {
		return r.answer
	}
	return r.deadline
}

// world is a model of the fleet and its requests.
type world struct {
	*rapid.T
	limit    ratelimit.Limit
	now      time.Duration
	requests []request
}

func (w *world) room(at time.Duration) (free int, opens time.Duration) {
	ends := make([]time.Time, len(w.requests))
	for i, r := range w.requests {
		ends[i] = time.Unix(0, 0).Add(r.end(w.now))
	}
	free, when := w.limit.Room(time.Unix(0, 0).Add(at), ends)
	return free, when.Sub(time.Unix(0, 0))
}

// send starts a request with a latency of its own; it may be lost, on the way
// there or back.
func (w *world) send() {
	latency := time.Duration(rapid.Int64Range(0, int64(2*w.limit.Window)).Draw(w.T, "latency"))
	if rapid.IntRange(0, 2).Draw(w.T, "quick") > 0 {
		latency /= 100
	}
	timeout := time.Duration(rapid.Int64Range(1, int64(2*w.limit.Window)).Draw(w.T, "timeout"))
	r := request{start: w.now, deadline: w.now + timeout, answer: w.now + latency}
	r.answered = r.answer <= r.deadline && rapid.IntRange(0, 9).Draw(w.T, "lost") > 0
	r.arrives = r.answered || rapid.Bool().Draw(w.T, "arrives")
	last := r.deadline
	if r.answered {
		last = r.answer
	}
	r.arrival = r.start + time.Duration(rapid.Int64Range(0, int64(last-r.start)).Draw(w.T, "arrival"))
	w.requests = append(w.requests, r)
}

// possible counts, by trying them all, the requests that may have arrived less
// than a weight before now, for all that anybody but Clerk can know.
func (w *world) possible() (n int) {
	for _, r := range w.requests {
		latest := min(r.end(w.now), w.now)
		if w.now-latest < w.limit.Weight() {
			n++
		}
	}
	return n
}

// wait moves to the next moment at which more may be known.
func (w *world) wait(opens time.Duration) {
	next := opens
	for _, r := range w.requests {
		if r.answered && r.answer > w.now && r.answer < next {
			next = r.answer
		}
	}
	if next <= w.now {
		w.Fatalf("at %v: nothing is free, and the opening is %v", w.now, opens)
	}
	w.now = next
}

// checkOpening holds the opening to its word: with no other answer than those
// that can come now, there is room at that moment and none just before.
func (w *world) checkOpening(opens time.Duration) {
	was := w.requests
	w.requests = slices.Clone(was)
	for i, r := range w.requests {
		if r.end(w.now) > w.now {
			w.requests[i].answered, w.requests[i].answer = true, w.now
		}
	}
	if free, _ := w.room(opens - 1); free > 0 {
		w.Fatalf("at %v: there is room before the opening at %v", w.now, opens)
	}
	if free, _ := w.room(opens); free == 0 {
		w.Fatalf("at %v: there is no room at the opening at %v", w.now, opens)
	}
	w.requests = was
}

// arrivals returns when requests arrived by Clerk's clock, which may run faster
// or slower than ours by less than a thousandth.
func (w *world) arrivals(drift float64) []time.Duration {
	var all []time.Duration
	for _, r := range w.requests {
		if r.arrives {
			all = append(all, time.Duration(float64(r.arrival)*(1+drift)))
		}
	}
	slices.Sort(all)
	return all
}

// slidingServer counts the requests that a server refuses that looks one window back.
func slidingServer(arrivals []time.Duration, limit ratelimit.Limit) (refused int) {
	var taken []time.Duration
	for _, at := range arrivals {
		within := 0
		for _, other := range taken {
			if at-other < limit.Window {
				within++
			}
		}
		if within >= limit.N {
			refused++
			continue
		}
		taken = append(taken, at)
	}
	return refused
}

// fixedServer counts the requests that a server refuses whose windows begin at
// an offset, one after the other.
func fixedServer(arrivals []time.Duration, limit ratelimit.Limit, offset time.Duration) (refused int) {
	taken := map[time.Duration]int{}
	for _, at := range arrivals {
		window := (at + limit.Window - offset) / limit.Window
		if taken[window]++; taken[window] > limit.N {
			refused++
		}
	}
	return refused
}

// TestSlidingLog lets a fleet that sends whenever it may run against servers of
// either kind: none refuses anything, and the fleet never waits while one more
// request could not have been one too many.
func TestSlidingLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &world{T: t, limit: ratelimit.Limit{
			N:      rapid.IntRange(1, 5).Draw(t, "N"),
			Window: time.Duration(rapid.Int64Range(int64(time.Second), int64(time.Hour)).Draw(t, "window")),
		}}
		for steps := 8 * w.limit.N; steps > 0; steps-- {
			free, opens := w.room(w.now)
			if possible := w.possible(); free != max(0, w.limit.N-possible) {
				t.Fatalf("at %v: %d free of %d, though %d may have arrived", w.now, free, w.limit.N, possible)
			}
			if free == 0 {
				w.checkOpening(opens)
				w.wait(opens)
				continue
			}
			for range rapid.IntRange(1, free).Draw(t, "at once") {
				w.send()
			}
			if rapid.IntRange(0, 3).Draw(t, "pause") == 0 {
				w.now += time.Duration(rapid.Int64Range(0, int64(w.limit.Window)).Draw(t, "for"))
			}
		}
		arrivals := w.arrivals(rapid.Float64Range(-0.0009, 0.0009).Draw(t, "drift"))
		if n := slidingServer(arrivals, w.limit); n > 0 {
			t.Fatalf("a sliding server refused %d of %d: %v", n, len(arrivals), arrivals)
		}
		offset := time.Duration(rapid.Int64Range(0, int64(w.limit.Window)-1).Draw(t, "offset"))
		offsets := []time.Duration{0, offset}
		for _, at := range arrivals { // the worst ones begin with an arrival
			offsets = append(offsets, at%w.limit.Window)
		}
		for _, offset := range offsets {
			if n := fixedServer(arrivals, w.limit, offset); n > 0 {
				t.Fatalf("a server with windows from %v refused %d of %d: %v", offset, n, len(arrivals), arrivals)
			}
		}
	})
}

// TestSlidingLogIsIdeal sends without latency: N at once, and N more after each
// weight, not a nanosecond later.
func TestSlidingLogIsIdeal(t *testing.T) {
	t.Parallel()
	limit := ratelimit.Limit{N: 25, Window: time.Hour}
	now := time.Unix(0, 0)
	var ends []time.Time
	for range 10 * limit.N {
		free, opens := limit.Room(now, ends)
		if free == 0 {
			now = opens
		}
		ends = append(ends, now)
	}
	if took, want := now.Sub(time.Unix(0, 0)), 9*limit.Weight(); took != want {
		t.Errorf("ten windows took %v, want %v", took, want)
	}
}

// BenchmarkRoom asks a log of a thousand requests for room: where there is some,
// and where all are within the window.
func BenchmarkRoom(b *testing.B) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ends := make([]time.Time, ratelimit.DefaultProduction.N)
	for i := range ends {
		ends[i] = now.Add(-time.Duration(i) * 7 * time.Millisecond)
	}
	for _, way := range []struct {
		name string
		now  time.Time
		full bool
	}{{"full", now, true}, {"free", now.Add(5 * time.Second), false}} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if free, _ := ratelimit.DefaultProduction.Room(way.now, ends); (free == 0) != way.full {
					b.Fatal(free)
				}
			}
		})
	}
}
