package invitation

import (
	"slices"
	"time"

	"bulkinvite/ratelimit"
)

// bulkSize is how many people one bulk call takes, by Clerk's documentation.
const bulkSize = 10

// Plan is what sending takes: how many requests of which kind, and how long.
type Plan struct {
	ToSend  int     `json:"to_send"` // people
	Bulk    int     `json:"bulk"`    // bulk requests, of up to ten people each
	Create  int     `json:"create"`  // single requests
	Windows int     `json:"windows"` // windows of the longest limit up to the last request; 0: nothing is sent
	Seconds float64 `json:"seconds"` // from now until the last request leaves

	AtOnce int           `json:"-"` // how many people are invited without waiting
	Each   int           `json:"-"` // how many fit into each window that follows
	Window time.Duration `json:"-"` // the longest limit's; zero where nothing is limited
}

// Spent is what still weighs on the limits: for each request, how long it will
// go on doing so. The zero Spent is an empty ledger.
type Spent struct {
	Create []time.Duration
	Bulk   []time.Duration
}

// MakePlan works out what inviting people takes under the limits on single and
// bulk creates, given what weighs on them already. It chooses between the calls
// as a worker does: a full bulk call while there are ten people for it, then
// singles, and a bulk call that is not full only when no single is left. It
// counts the budget alone: a request takes no time, and none is refused. With
// both limits off, which no command allows, it plans nothing.
func MakePlan(people int, create, bulk ratelimit.Limit, spent Spent) Plan {
	p := Plan{ToSend: people, Window: longest(create, bulk)}
	if people <= 0 || (create.Off && bulk.Off) {
		return p
	}
	singles := newPlaces(create, people, spent.Create)
	bulks := newPlaces(bulk, people, spent.Bulk)
	var now time.Duration
	for left := people; left > 0; {
		now = earliest(singles, bulks)
		size := 1
		if bulks.free(now) && (left >= bulkSize || !singles.free(now)) {
			size = min(left, bulkSize)
			bulks.take(now)
			p.Bulk++
		} else {
			singles.take(now)
			p.Create++
		}
		left -= size
		if now == 0 {
			p.AtOnce += size
		}
	}
	p.Seconds = now.Seconds()
	p.Windows = 1
	if p.Window > 0 {
		p.Windows += int(now / ratelimit.Limit{Window: p.Window}.Weight())
	}
	p.Each = perWindow(create, 1, p.Window) + perWindow(bulk, bulkSize, p.Window)
	return p
}

// places are the requests that a limit allows at a time, each with the moment
// from now on at which it may be made. The earliest is in front: a place that
// is taken comes back a window later, which is after all others.
type places struct {
	at     []time.Duration
	front  int
	weight time.Duration // zero: no limit, the place stays free
}

// newPlaces makes a limit's places, as many as people can fill; none for a
// limit that is off. busy are those that are taken, and for how long.
func newPlaces(limit ratelimit.Limit, people int, busy []time.Duration) *places {
	switch {
	case limit.Off:
		return &places{}
	case limit.None:
		return &places{at: make([]time.Duration, 1)}
	}
	p := &places{weight: limit.Weight()}
	busy = slices.Sorted(slices.Values(busy))
	if over := len(busy) - limit.N; over > 0 {
		busy = busy[over:] // the limit was higher when they were made: the first to end free no place
	}
	p.at = make([]time.Duration, min(limit.N-len(busy), people), limit.N)
	for _, d := range busy {
		p.at = append(p.at, max(0, d))
	}
	return p
}

// free reports whether a place may be taken at a moment.
func (p *places) free(now time.Duration) bool { return len(p.at) > 0 && p.at[p.front] <= now }

func (p *places) take(now time.Duration) {
	if p.weight == 0 {
		return
	}
	p.at[p.front] = now + p.weight
	p.front = (p.front + 1) % len(p.at)
}

// earliest is the first moment at which any of the places may be taken.
func earliest(all ...*places) time.Duration {
	first := time.Duration(-1)
	for _, p := range all {
		if len(p.at) > 0 && (first < 0 || p.at[p.front] < first) {
			first = p.at[p.front]
		}
	}
	return first
}

// perWindow is how many people a limit lets through in a window.
func perWindow(l ratelimit.Limit, size int, window time.Duration) int {
	if l.None || l.Off {
		return 0
	}
	return int(float64(l.N*size) * float64(window) / float64(l.Window))
}

// longest returns the longest window of the limits that count.
func longest(limits ...ratelimit.Limit) time.Duration {
	var w time.Duration
	for _, l := range limits {
		if !l.None && !l.Off {
			w = max(w, l.Window)
		}
	}
	return w
}
