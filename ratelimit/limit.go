package ratelimit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limit is how many requests of a kind may arrive at Clerk in a window.
// The zero Limit is not valid; see [Parse].
type Limit struct {
	N      int           // requests, at least 1
	Window time.Duration // the window's length, above zero
	None   bool          // no limit: nothing is counted
	Off    bool          // the call is not used at all
}

// Clerk's limits per instance, as its documentation publishes them
// (https://clerk.com/docs/guides/how-clerk-works/system-limits).
var (
	DefaultCreate      = Limit{N: 100, Window: time.Hour}         // POST /invitations
	DefaultBulk        = Limit{N: 25, Window: time.Hour}          // POST /invitations/bulk
	DefaultProduction  = Limit{N: 1000, Window: 10 * time.Second} // everything else, production instances
	DefaultDevelopment = Limit{N: 100, Window: 10 * time.Second}  // everything else, development instances
)

// Parse reads "N/DURATION" (100/1h, 25/3.6s), "none" or "off".
func Parse(s string) (Limit, error) {
	switch s {
	case "none":
		return Limit{None: true}, nil
	case "off":
		return Limit{Off: true}, nil
	}
	bad := fmt.Errorf("%q is no limit: write N/DURATION such as 100/1h, or none, or off", s)
	count, window, ok := strings.Cut(s, "/")
	if !ok {
		return Limit{}, bad
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 {
		return Limit{}, bad
	}
	w, err := time.ParseDuration(window)
	if err != nil || w <= 0 {
		return Limit{}, bad
	}
	return Limit{N: n, Window: w}, nil
}

// String gives the form that [Parse] reads.
func (l Limit) String() string {
	switch {
	case l.None:
		return "none"
	case l.Off:
		return "off"
	}
	return strconv.Itoa(l.N) + "/" + Interval(l.Window)
}

// Interval writes a duration without the units that are zero: 30s, 15m, 1h30m.
// [time.ParseDuration] reads it.
func Interval(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") { // not the 0s of 30s
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// UnmarshalText makes Limit usable as a flag.
func (l *Limit) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	*l = parsed
	return err
}

// MarshalText is the inverse of [Limit.UnmarshalText].
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Weight is how long a request weighs on its limit after it ended: one window,
// and a margin for what differs between two clocks' ticks, a thousandth of the
// window and at least 5 ms.
func (l Limit) Weight() time.Duration {
	return l.Window + max(l.Window/1000, 5*time.Millisecond)
}

// weighing counts the requests that weigh on the limit: see [Limit.Room].
func (l Limit) weighing(now time.Time, ends []time.Time) (n int) {
	for _, end := range ends {
		if end.Add(l.Weight()).After(now) {
			n++
		}
	}
	return n
}

// Room applies the sliding log: it tells how many requests may start now and,
// where none may, the earliest moment at which one can. ends has, for each
// request that could have reached Clerk, when its answer came, or its deadline
// where none did; a deadline may lie ahead. A request without an answer can have
// it at any moment, so that the opening takes it as answered now; it comes later
// if the answer does.
func (l Limit) Room(now time.Time, ends []time.Time) (free int, opens time.Time) {
	var weighing []time.Time
	for _, end := range ends {
		if until := end.Add(l.Weight()); until.After(now) {
			if end.After(now) {
				until = now.Add(l.Weight())
			}
			weighing = append(weighing, until)
		}
	}
	if free = l.N - len(weighing); free > 0 {
		return free, time.Time{}
	}
	slices.SortFunc(weighing, time.Time.Compare)
	return 0, weighing[len(weighing)-l.N]
}
