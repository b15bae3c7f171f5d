package ratelimit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limit says how many requests of one kind may arrive at Clerk in a window. The zero Limit is not
// valid. See [Parse].
type Limit struct {
	N      int           // requests, at least 1
	Window time.Duration // length of the window, above zero
	None   bool          // no limit: nothing is counted
	Off    bool          // the call is never used
}

// Clerk's limits for each instance, from its documentation:
// https://clerk.com/docs/guides/how-clerk-works/system-limits.
var (
	DefaultCreate      = Limit{N: 100, Window: time.Hour}         // POST /invitations
	DefaultBulk        = Limit{N: 25, Window: time.Hour}          // POST /invitations/bulk
	DefaultProduction  = Limit{N: 1000, Window: 10 * time.Second} // every other request, production instances
	DefaultDevelopment = Limit{N: 100, Window: 10 * time.Second}  // every other request, development instances
)

// Parse reads "N/DURATION" such as 100/1h or 25/3.6s, "none", or "off". N must be at least 1 and
// DURATION must be positive.
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

// String returns the form that [Parse] reads.
func (l Limit) String() string {
	switch {
	case l.None:
		return "none"
	case l.Off:
		return "off"
	}
	return strconv.Itoa(l.N) + "/" + Interval(l.Window)
}

// Interval formats a duration without units that are zero: 30s, 15m, 1h30m. [time.ParseDuration]
// reads the result.
func Interval(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") { // does not match the 0s of 30s
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// UnmarshalText calls [Parse], so that a Limit can be a flag.
func (l *Limit) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	*l = parsed
	return err
}

// MarshalText is the inverse of [Limit.UnmarshalText].
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Weight returns how long a request counts against its limit after it ended: one window and a
// margin for the difference between two clocks. The margin is a thousandth of the window, but at
// least 5 ms.
func (l Limit) Weight() time.Duration {
	return l.Window + max(l.Window/1000, 5*time.Millisecond)
}

// weighing returns how many requests count against the limit. See [Limit.Room].
func (l Limit) weighing(now time.Time, ends []time.Time) (n int) {
	for _, end := range ends {
		if end.Add(l.Weight()).After(now) {
			n++
		}
	}
	return n
}

// Room applies the sliding log. It returns how many requests may start now. If none may, it also
// returns the earliest time at which one can. ends has one time for each request that could have
// reached Clerk: when its answer came, or its deadline if no answer came. A deadline may be in the
// future. A request without an answer can be answered at any moment, so Room computes the opening
// as if the answer came now; the opening is later if the answer is.
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
