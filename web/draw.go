package web

import (
	"slices"
	"time"

	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
	"bulkinvite/words"
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

// gauge is what a limit has left.
type gauge struct {
	Name, Word string
	Free, Of   int
	Next       time.Time // when the first request returns; zero: none weighs
	Full       time.Time // when all have
	Frozen     time.Time // nothing before; zero: not frozen
	Why        string
}

// X is how much of a gauge a hundred wide is left.
func (g gauge) X() int {
	if g.Of == 0 {
		return 0
	}
	return 100 * g.Free / g.Of
}

// freeze empties a gauge whose bucket is frozen.
func (g *gauge) freeze(frozen []invitation.Freeze) {
	for _, f := range frozen {
		if f.Bucket == g.Name {
			g.Frozen, g.Why, g.Free = f.Until, f.Reason, 0
		}
	}
}

// gauges shows the limits on what invites.
func gauges(b invitation.Budget) []gauge {
	var all []gauge
	for _, one := range []struct {
		name, word string
		limit      ratelimit.Limit
		use        invitation.Use
	}{
		{ratelimit.Bulk, "Bulk requests, of ten people", b.Limits.Bulk, b.Bulk},
		{ratelimit.Create, "Single requests", b.Limits.Create, b.Create},
	} {
		if one.limit.Off || one.limit.None {
			continue
		}
		g := gauge{Name: one.name, Word: one.word, Of: one.limit.N}
		g.Free = max(0, one.limit.N-len(one.use.Busy))
		if len(one.use.Busy) > 0 {
			g.Next, g.Full = b.Now.Add(slices.Min(one.use.Busy)), b.Now.Add(slices.Max(one.use.Busy))
		}
		g.freeze(b.Frozen)
		all = append(all, g)
	}
	return all
}
