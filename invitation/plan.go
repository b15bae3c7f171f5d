package invitation

import (
	"cmp"
	"math"
	"slices"
	"time"

	"bulkinvite/ratelimit"
)

// bulkSize is how many people one bulk call takes, by Clerk's documentation.
const bulkSize = 10

// Plan is what sending takes: how many requests of which kind, and how long.
type Plan struct {
	ToSend  int     `json:"to_send"` // people
	Bulk    int     `json:"bulk"`    // bulk requests that carry them, of up to ten people each
	Create  int     `json:"create"`  // single requests
	Windows int     `json:"windows"` // windows of the longest limit in which they leave; 0: nothing is sent
	Seconds float64 `json:"seconds"` // from now until the last request leaves

	First  time.Duration `json:"-"` // from now until the first request leaves
	AtOnce int           `json:"-"` // how many people are invited at that moment
	Each   int           `json:"-"` // how many fit into each window that follows
	Ahead  int           `json:"-"` // people of other batches who are invited before the last of these
	Window time.Duration `json:"-"` // the longest limit's; zero where nothing is limited
}

// Lasts is how long it is until the last request leaves, to the microsecond, as
// PostgreSQL's times are: a part of a second that is lost would make 0:59 of 1:00.
func (p Plan) Lasts() time.Duration {
	return time.Duration(p.Seconds * float64(time.Second)).Round(time.Microsecond)
}

// Load is the people of a batch who wait, and when they may be invited.
type Load struct {
	Batch     int64 // 0: one that is not there yet, and so comes last of its priority
	Priority  int   // 1 (first) to 4 (last)
	People    int
	Held      bool           // the batch will pause after its canary
	Canary    int            // if so: how many of them go before
	NotBefore time.Time      // when the last of those who back off may be tried again; zero: nobody does
	StartAt   time.Time      // nothing before; zero: at once
	Hours     Hours          // the hours in which they are invited; zero: all
	Zone      *time.Location // that of Hours
}

// Spent is what still weighs on the limits. The zero Spent is an empty ledger.
type Spent struct {
	Create, Bulk Use
}

// Use is what weighs on one limit.
type Use struct {
	Busy   []time.Duration // for each request, how long it will go on weighing
	Frozen time.Duration   // how long nothing may be sent after a 429; zero: not frozen
}

// MakePlan works out what inviting the people of a batch takes under the limits
// on single and bulk creates, given what weighs on them already and which other
// batches wait. It goes through the requests as workers will make them: for the
// first in line whose time has come, by bulk call while there are ten people for
// it, then by singles, and by a bulk call that is not full only when no single is
// left. It counts the budget alone: a request takes no time, and none is refused. A
// canary of the batch's own is taken to be waved through, and other batches to
// stop at theirs. With both limits off, which no command allows, it plans nothing.
func MakePlan(now time.Time, own Load, others []Load, create, bulk ratelimit.Limit, spent Spent) Plan {
	p := Plan{ToSend: own.People, Window: longest(create, bulk)}
	if own.People <= 0 || (create.Off && bulk.Off) {
		return p
	}
	line, mine := lineUp(now, own, others)
	total := 0
	for _, w := range line {
		total += w.left
	}
	f := forecast{Plan: p, line: line, mine: mine,
		singles: newPlaces(create, total, spent.Create), bulks: newPlaces(bulk, total, spent.Bulk)}
	f.run()
	if wait := own.NotBefore.Sub(now).Seconds(); !own.NotBefore.IsZero() && wait > f.Seconds {
		f.Seconds = wait
	}
	f.Each = perWindow(create, 1, p.Window) + perWindow(bulk, bulkSize, p.Window)
	return f.Plan
}

// forecast goes through the requests to come.
type forecast struct {
	Plan
	line           []*waiter
	mine           *waiter
	singles, bulks *places
	began          time.Duration // the current window
}

func (f *forecast) run() {
	var now time.Duration
	for f.mine.left > 0 {
		now = max(now, earliest(f.singles, f.bulks))
		crowd, opens := f.crowd(now)
		if crowd == 0 {
			now = opens
			continue
		}
		if f.bulks.free(now) && (crowd >= bulkSize || !f.singles.free(now)) {
			f.bulks.take(now)
			if f.board(now, min(crowd, bulkSize)) {
				f.Bulk++
			}
		} else {
			f.singles.take(now)
			if f.board(now, 1) {
				f.Create++
			}
		}
	}
	f.Seconds = now.Seconds()
}

// crowd counts who may be invited now, or tells when somebody may.
func (f *forecast) crowd(now time.Duration) (people int, opens time.Duration) {
	opens = math.MaxInt64
	for _, w := range f.line {
		if w.left == 0 {
			continue
		}
		if w.open(now) {
			people += w.left
		} else {
			opens = min(opens, w.until)
		}
	}
	return people, opens
}

// board takes the first people in line into a request, and reports whether some
// are of the batch that is planned.
func (f *forecast) board(now time.Duration, seats int) bool {
	ours := false
	for _, w := range f.line {
		if w.left == 0 || !w.open(now) {
			continue
		}
		n := min(seats, w.left)
		w.left -= n
		seats -= n
		if w == f.mine {
			f.count(now, n)
			ours = true
		} else {
			f.Ahead += n
		}
		if seats == 0 {
			break
		}
	}
	return ours
}

// count notes that n people of the batch are invited now.
func (f *forecast) count(now time.Duration, n int) {
	if f.Windows == 0 {
		f.First, f.began, f.Windows = now, now, 1
	}
	if now == f.First {
		f.AtOnce += n
	}
	if f.Window > 0 && now-f.began >= (ratelimit.Limit{Window: f.Window}).Weight() {
		f.began = now
		f.Windows++
	}
}

// waiter is a load on its way through the forecast.
type waiter struct {
	Load
	now    time.Time
	left   int
	isOpen bool
	until  time.Duration // how long isOpen holds
}

// lineUp puts the loads in the order in which the fleet serves them.
func lineUp(now time.Time, own Load, others []Load) (line []*waiter, mine *waiter) {
	mine = &waiter{Load: own, now: now, left: own.People}
	line = append(line, mine)
	for _, l := range others {
		w := &waiter{Load: l, now: now, left: l.People}
		if l.Held {
			w.left = l.Canary
		}
		line = append(line, w)
	}
	slices.SortStableFunc(line, func(a, b *waiter) int {
		last := func(id int64) uint64 { return uint64(id) - 1 } // 0 comes last
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(last(a.Batch), last(b.Batch)))
	})
	return line, mine
}

// open reports whether its people may be invited at a moment from now on; until
// is when that changes. Moments must not go back.
func (w *waiter) open(at time.Duration) bool {
	if at < w.until {
		return w.isOpen
	}
	t := w.now.Add(at)
	switch {
	case t.Before(w.StartAt):
		w.isOpen, w.until = false, w.StartAt.Sub(w.now)
	case w.Hours.IsZero():
		w.isOpen, w.until = true, math.MaxInt64
	default:
		w.isOpen = w.Hours.contain(t, w.Zone)
		// Wherever the clocks are changed, it is at a quarter of an hour.
		end := t.Add(24 * time.Hour)
		for t = t.Truncate(quarter).Add(quarter); w.Hours.contain(t, w.Zone) == w.isOpen && t.Before(end); {
			t = t.Add(quarter)
		}
		w.until = t.Sub(w.now)
	}
	return w.isOpen
}

const quarter = 15 * time.Minute

// contain reports whether a moment is in the hours.
func (h Hours) contain(t time.Time, zone *time.Location) bool {
	hour := t.In(zone).Hour()
	if h.From < h.To {
		return h.From <= hour && hour < h.To
	}
	return h.From <= hour || hour < h.To
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
// limit that is off.
func newPlaces(limit ratelimit.Limit, people int, use Use) *places {
	switch {
	case limit.Off:
		return &places{}
	case limit.None:
		return &places{at: []time.Duration{use.Frozen}}
	}
	n := limit.N
	p := &places{weight: limit.Weight()}
	busy := slices.Sorted(slices.Values(use.Busy))
	if over := len(busy) - n; over > 0 {
		busy = busy[over:] // the limit was higher when they were made: the first to end free no place
	}
	p.at = make([]time.Duration, min(n-len(busy), people), n)
	for _, d := range busy {
		p.at = append(p.at, max(0, d))
	}
	for i := range p.at {
		p.at[i] = max(p.at[i], use.Frozen)
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
