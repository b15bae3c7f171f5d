package invitation

import (
	"cmp"
	"math"
	"slices"
	"time"

	"bulkinvite/ratelimit"
)

// bulkSize is how many people one bulk call takes, according to Clerk's documentation.
const bulkSize = 10

// Plan is what sending takes: how many requests of each kind, and how long.
type Plan struct {
	ToSend  int     `json:"to_send"` // people
	Bulk    int     `json:"bulk"`    // bulk requests for them, of up to ten people each
	Create  int     `json:"create"`  // single requests
	Windows int     `json:"windows"` // windows, of the longest limit, in which they are sent; 0: nothing is sent
	Seconds float64 `json:"seconds"` // from now until the last request is sent

	First  time.Duration `json:"-"` // from now until the first request is sent
	AtOnce int           `json:"-"` // how many people are invited at that moment
	Each   int           `json:"-"` // how many people fit into each following window
	Ahead  int           `json:"-"` // people of other batches who are invited before the last person of this one
	Window time.Duration `json:"-"` // of the longest limit; zero: nothing is limited
}

// Lasts returns how long it takes until the last request is sent, rounded to microseconds as
// PostgreSQL's times are. Without rounding, a lost fraction of a second would turn 1:00 into 0:59.
func (p Plan) Lasts() time.Duration {
	return time.Duration(p.Seconds * float64(time.Second)).Round(time.Microsecond)
}

// Load is the waiting people of a batch, and when they may be invited.
type Load struct {
	Batch     int64 // 0: a batch that does not exist yet, so it is last in its priority
	Priority  int   // 1 (first) to 4 (last)
	People    int
	Held      bool           // the batch pauses after its trial
	Canary    int            // if Held: how many people the trial has left
	NotBefore time.Time      // when the last person who backs off may be tried again; zero: nobody backs off
	StartAt   time.Time      // nothing is sent before; zero: no start time
	Hours     Hours          // hours in which they are invited; zero: all hours
	Zone      *time.Location // the time zone of Hours
}

// Spent is what counts against the limits already. The zero Spent is an empty ledger.
type Spent struct {
	Create, Bulk Use
}

// Use is what counts against one limit.
type Use struct {
	Busy   []time.Duration // for each request: how much longer it counts
	Frozen time.Duration   // how much longer the bucket is frozen; zero: not frozen
}

// MakePlan computes what inviting the people of a batch takes under the limits on single and bulk
// creates, given what counts against them already and which other batches wait. It goes through the
// requests as workers will make them. The first people in line whose time has come go first: by
// bulk call while ten people wait, then by singles, and by a bulk call that is not full only if no
// single is left.
//
// MakePlan considers only the budget. It assumes that a request takes no time and that none is
// refused. It assumes that somebody confirms the batch's own trial and that other batches stop
// after theirs. If both limits are off, which no command allows, it plans nothing.
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

// forecast simulates the coming requests.
type forecast struct {
	Plan
	line           []*waiter
	mine           *waiter
	singles, bulks *places
	began          time.Duration // start of the current window
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

// crowd returns how many people may be invited now. If there are none, opens is when somebody may.
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

// board puts the first people in line into a request. It reports whether some of them belong to the
// planned batch.
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

// count records that n people of the planned batch are invited now.
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

// waiter is a load during the simulation.
type waiter struct {
	Load
	now    time.Time
	left   int
	isOpen bool
	until  time.Duration // how long isOpen is valid
}

// lineUp orders the loads as the fleet serves them.
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

// open reports whether the load's people may be invited at a given time from now. It sets until to
// the time of the next change. Times must not decrease from call to call.
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
		// Clocks change only at a quarter of an hour, in all time zones.
		end := t.Add(24 * time.Hour)
		for t = t.Truncate(quarter).Add(quarter); w.Hours.contain(t, w.Zone) == w.isOpen && t.Before(end); {
			t = t.Add(quarter)
		}
		w.until = t.Sub(w.now)
	}
	return w.isOpen
}

const quarter = 15 * time.Minute

// contain reports whether a time is in the hours.
func (h Hours) contain(t time.Time, zone *time.Location) bool {
	hour := t.In(zone).Hour()
	if h.From < h.To {
		return h.From <= hour && hour < h.To
	}
	return h.From <= hour || hour < h.To
}

// places are the requests that a limit allows in a window, each with the time from now at which it
// may be made. The earliest is at front. A place that is taken becomes free one window later, after
// all others.
type places struct {
	at     []time.Duration
	front  int
	weight time.Duration // zero: no limit, the place is always free
}

// newPlaces returns the places of a limit, but no more than people can use. A limit that is off has
// none.
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

// free reports whether a place may be taken at a given time.
func (p *places) free(now time.Duration) bool { return len(p.at) > 0 && p.at[p.front] <= now }

func (p *places) take(now time.Duration) {
	if p.weight == 0 {
		return
	}
	p.at[p.front] = now + p.weight
	p.front = (p.front + 1) % len(p.at)
}

// earliest returns the first time at which a place may be taken.
func earliest(all ...*places) time.Duration {
	first := time.Duration(-1)
	for _, p := range all {
		if len(p.at) > 0 && (first < 0 || p.at[p.front] < first) {
			first = p.at[p.front]
		}
	}
	return first
}

// perWindow returns how many people a limit allows in a window.
func perWindow(l ratelimit.Limit, size int, window time.Duration) int {
	if l.None || l.Off {
		return 0
	}
	return int(float64(l.N*size) * float64(window) / float64(l.Window))
}

// longest returns the longest window of the limits that are in force.
func longest(limits ...ratelimit.Limit) time.Duration {
	var w time.Duration
	for _, l := range limits {
		if !l.None && !l.Off {
			w = max(w, l.Window)
		}
	}
	return w
}
