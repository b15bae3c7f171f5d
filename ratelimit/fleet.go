package ratelimit

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// statedLimits lists the limits that the live workers of a bucket's instance state for it. It
// belongs in a query from buckets b. A worker of a version that states no limits has NULL there.
const statedLimits = `array(
	select distinct stated from workers w
	cross join lateral (
		select case b.name when 'create' then w.limit_create when 'bulk' then w.limit_bulk
		       else w.limit_general end as stated) s
	where w.instance_id = b.instance_id and stated is not null)`

// Obeyed returns the limits that a process must keep at the same time: its own first, then those
// that other live workers of the instance state, in the form of [Limit.String]. "none" and "off" of
// other workers do not bind this process: the first is no limit, and the second only says that
// those workers do not use the call. A process whose own limit is off keeps no other limit, since
// it sends nothing. Obeyed fails if a stated limit cannot be parsed.
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

// Strictest returns the limit with the lowest rate. obeyed must not be empty. Plans and displays
// use it; claims keep every limit.
func Strictest(obeyed []Limit) Limit {
	return slices.MinFunc(obeyed, func(a, b Limit) int { return cmp.Or(cmp.Compare(a.rate(), b.rate()), a.N-b.N) })
}

// rate returns the requests a second that a limit allows. No limit returns a value above any real
// one, and off returns -1.
func (l Limit) rate() float64 {
	switch {
	case l.Off:
		return -1
	case l.None:
		return unlimited
	}
	return float64(l.N) / l.Window.Seconds()
}

// longestWeight returns how far back the counting must look so that every limit can be applied.
func longestWeight(limits []Limit) (longest time.Duration) {
	for _, l := range limits {
		if !l.None && !l.Off {
			longest = max(longest, l.Weight())
		}
	}
	return longest
}
