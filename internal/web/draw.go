package web

import (
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
	"bulkinvite/ratelimit"
)

// bar is the bar by outcome: its parts from left to right, of a thousand.
type bar []barPart

type barPart struct {
	Name  string // the outcome's, also the class that colours it
	Word  string
	Count int
	X, W  int
}

// barOf draws how rows stand. A part that is there is seen, however small.
func barOf(outcomes invitation.Counts, undecided int) bar {
	total := outcomes.Sum() + undecided
	if total == 0 {
		return nil
	}
	var b bar
	for _, o := range words.Order {
		if n := outcomes[o]; n > 0 {
			b = append(b, barPart{Name: string(o), Word: words.Outcomes[o], Count: n, W: max(6, 1000*n/total)})
		}
	}
	if undecided > 0 {
		b = append(b, barPart{Name: "undecided", Word: "undecided", Count: undecided, W: max(6, 1000*undecided/total)})
	}
	// What the small parts were given more, and what rounding lost, is the largest's.
	sum, largest := 0, 0
	for i := range b {
		sum += b[i].W
		if b[i].W > b[largest].W {
			largest = i
		}
	}
	b[largest].W += 1000 - sum
	x := 0
	for i := range b {
		b[i].X = x
		x += b[i].W
	}
	return b
}

// usage is a limit with what is left of it, and each request that weighs on it.
type usage struct {
	Name, Word string
	Limit      ratelimit.Limit
	Weighing   []ratelimit.Lease
	Free       int
	Next       time.Time // when the first request returns; zero: none weighs
	Full       time.Time // when all have
	Frozen     time.Time // nothing before; zero: not frozen
	Why        string
}

func usageOf(b report.Budget, name, word string, limit ratelimit.Limit, weighing []ratelimit.Lease) usage {
	u := usage{Name: name, Word: word, Limit: limit, Weighing: weighing, Free: limit.N}
	for i, w := range weighing {
		at := b.Now.Add(w.Weighs)
		if i == 0 || at.Before(u.Next) {
			u.Next = at
		}
		if at.After(u.Full) {
			u.Full = at
		}
		u.Free = max(0, u.Free-w.Tokens)
	}
	for _, f := range b.Frozen {
		if f.Bucket == name {
			u.Frozen, u.Why, u.Free = f.Until, f.Reason, 0
		}
	}
	return u
}

// X is how much of a gauge a hundred wide is left.
func (u usage) X() int { return 100 * u.Free / max(1, u.Limit.N) }

// usages are those of the limits on what invites.
func usages(b report.Budget) []usage {
	var all []usage
	for _, u := range []usage{
		usageOf(b, ratelimit.Bulk, "Bulk requests, of ten people", b.Limits.Bulk, singles(b.Bulk.Busy)),
		usageOf(b, ratelimit.Create, "Single requests", b.Limits.Create, singles(b.Create.Busy)),
	} {
		if !u.Limit.Off && !u.Limit.None {
			all = append(all, u)
		}
	}
	return all
}

func singles(busy []time.Duration) []ratelimit.Lease {
	var all []ratelimit.Lease
	for _, d := range busy {
		all = append(all, ratelimit.Lease{Tokens: 1, Weighs: d})
	}
	return all
}
