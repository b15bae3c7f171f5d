package invitation

import (
	"container/heap"
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
	Windows int     `json:"windows"` // windows of the longest limit in which something is sent
	Seconds float64 `json:"seconds"` // from now until the last request leaves

	Now int `json:"-"` // how many people are invited at once
	Per int `json:"-"` // how many follow in each window
	// Window is the length of the longest limit's window; zero where nothing is limited.
	Window time.Duration `json:"-"`
}

// Spent is what still weighs on the limits: for each request, how long it will
// go on doing so. The zero Spent is an empty ledger.
type Spent struct {
	Create []time.Duration
	Bulk   []time.Duration
}

// slot is a place under a limit and the moment from which it is free.
type slot struct {
	free   time.Duration // from now
	bucket *planBucket
}

type planBucket struct {
	size   int // people a request takes
	weight time.Duration
	count  int
	first  int // requests that leave at once
}

// slots is a heap of places, the earliest first, bulk calls before single ones.
type slots []slot

func (s slots) Len() int      { return len(s) }
func (s slots) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s slots) Less(i, j int) bool {
	if s[i].free != s[j].free {
		return s[i].free < s[j].free
	}
	return s[i].bucket.size > s[j].bucket.size
}
func (s *slots) Push(x any) { *s = append(*s, x.(slot)) }
func (s *slots) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}

// MakePlan works out what inviting people takes under the limits on single and
// bulk creates, given what weighs on them already. It counts the budget alone:
// a request takes no time, and none is refused. A place under a limit is free
// again one window and its margin after it was used. With both limits off,
// which no command allows, it plans nothing.
func MakePlan(people int, create, bulk ratelimit.Limit, spent Spent) Plan {
	p := Plan{ToSend: people, Window: longest(create, bulk)}
	if people <= 0 || (create.Off && bulk.Off) {
		return p
	}
	single, tens := &planBucket{size: 1}, &planBucket{size: bulkSize}
	var places slots
	places.open(tens, bulk, people, spent.Bulk)
	places.open(single, create, people, spent.Create)
	heap.Init(&places)
	var last time.Duration
	for left := people; left > 0; {
		s := &places[0]
		last = s.free
		s.bucket.count++
		if last == 0 {
			s.bucket.first++
		}
		left -= s.bucket.size
		if s.bucket.weight == 0 {
			continue // no limit: the place stays free
		}
		s.free += s.bucket.weight
		heap.Fix(&places, 0)
	}
	p.Bulk, p.Create, p.Seconds = tens.count, single.count, last.Seconds()
	p.Now = min(people, tens.first*bulkSize+single.first)
	p.windows(create, bulk, last)
	return p
}

// windows counts the windows up to the last request, and how many people fit
// into each but the first.
func (p *Plan) windows(create, bulk ratelimit.Limit, last time.Duration) {
	p.Windows = 1
	if p.Window == 0 {
		return
	}
	p.Windows += int(last / ratelimit.Limit{Window: p.Window}.Weight())
	for _, l := range []struct {
		limit ratelimit.Limit
		size  int
	}{{create, 1}, {bulk, bulkSize}} {
		if !l.limit.None && !l.limit.Off {
			p.Per += int(float64(l.limit.N*l.size) * float64(p.Window) / float64(l.limit.Window))
		}
	}
}

// open adds a limit's places: none for one that is off, one that stays free for
// no limit, else as many as the limit has and people can fill.
func (s *slots) open(b *planBucket, limit ratelimit.Limit, people int, busy []time.Duration) {
	switch {
	case limit.Off:
		return
	case limit.None:
		*s = append(*s, slot{bucket: b})
		return
	}
	b.weight = limit.Weight()
	busy = slices.Sorted(slices.Values(busy))
	if over := len(busy) - limit.N; over > 0 {
		busy = busy[over:] // a limit set lower than what was spent: the earliest make no place
	}
	for _, d := range busy {
		*s = append(*s, slot{free: max(0, d), bucket: b})
	}
	for range min(limit.N-len(busy), people) {
		*s = append(*s, slot{bucket: b})
	}
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
