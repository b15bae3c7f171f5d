package ratelimit

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// statedLimits lists the limits that the live workers of a bucket's instance have stated for it.
// It belongs to a query from buckets b. A worker of a version that states none has NULL there.
const statedLimits = `array(
	select distinct stated from workers w
	cross join lateral (
		select case b.name when 'create' then w.limit_create when 'bulk' then w.limit_bulk
		       else w.limit_general end as stated) s
	where w.instance_id = b.instance_id and stated is not null)`

// Obeyed returns the limits that a process has to keep at a time: its own, first, and those that
// other live workers of the instance have stated (in the form of [Limit.String]). "none" and "off"
// of others bind nobody: the first is no limit, and the second only says that they don't use the
// call. A process whose own limit is off keeps no other, since it sends nothing.
func Obeyed(own Limit, stated []string) ([]Limit, error) {
	all := []Limit{own}
	if own.Off {
		return all, nil
	}
	for _, s := range stated {
		l, err := Parse(s)
		if err != nil {
			return nil, fmt.Errorf("a worker states a limit that this version can't read: %w", err)
		}
		if !l.None && !l.Off && !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all, nil
}

// Strictest returns the one of the limits that a process obeys that allows the lowest rate. Plans
// and displays go by it; claims keep each of them.
func Strictest(obeyed []Limit) Limit {
	return slices.MinFunc(obeyed, func(a, b Limit) int { return cmp.Or(cmp.Compare(a.rate(), b.rate()), a.N-b.N) })
}

// rate is how many requests a second a limit allows; more than any limit where there is none.
func (l Limit) rate() float64 {
	switch {
	case l.Off:
		return -1
	case l.None:
		return unlimited
	}
	return float64(l.N) / l.Window.Seconds()
}

// longestWeight is for how long the requests that count for any of the limits have to be known.
func longestWeight(limits []Limit) (longest time.Duration) {
	for _, l := range limits {
		if !l.None && !l.Off {
			longest = max(longest, l.Weight())
		}
	}
	return longest
}
