package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limit allows N requests in any Window. The zero Limit means Clerk's own limit. As text it is "100/1h" or "none".
type Limit struct {
	N      int           // negative: no limit
	Window time.Duration // longer than zero, unless there is no limit
}

// Clerk's limits for an instance, from the documentation of its Backend API. Reads and revokes
// share the general limit.
var (
	clerkCreate             = Limit{100, time.Hour}
	clerkBulk               = Limit{25, time.Hour}
	clerkGeneral            = Limit{1000, 10 * time.Second}
	clerkGeneralDevelopment = Limit{100, 10 * time.Second}
)

// Limits are the limits by kind of call. A zero General is 1000/10s, or 100/10s if the environment
// is development.
type Limits struct {
	Create  Limit `json:"create"`  // POST /invitations
	Bulk    Limit `json:"bulk"`    // POST /invitations/bulk
	General Limit `json:"general"` // all other calls
}

// UnmarshalText parses "100/1h", "100/3.6s" or "none". An empty text means Clerk's own limit.
func (l *Limit) UnmarshalText(text []byte) error {
	switch string(text) {
	case "":
		*l = Limit{}
		return nil
	case "none":
		*l = Limit{N: -1}
		return nil
	}
	count, window, ok := strings.Cut(string(text), "/")
	n, err := strconv.Atoi(count)
	if !ok || err != nil {
		return fmt.Errorf("limit %q: want N/DURATION or none", text)
	}
	d, err := time.ParseDuration(window)
	if err != nil {
		return fmt.Errorf("limit %q: want N/DURATION or none", text)
	}
	*l = Limit{n, d}
	return l.check()
}

// MarshalText returns the text that UnmarshalText parses.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// String returns the limit as text, empty for the zero Limit.
func (l Limit) String() string {
	switch {
	case l == Limit{}:
		return ""
	case l.N < 0:
		return "none"
	}
	return strconv.Itoa(l.N) + "/" + brief(l.Window)
}

// brief formats d without zero units at the end: 1h instead of 1h0m0s.
func brief(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (l Limit) check() error {
	if l == (Limit{}) || l.N < 0 {
		return nil
	}
	if l.N == 0 || l.Window <= 0 {
		return fmt.Errorf("limit %s: want at least one request in a positive time", l)
	}
	return nil
}

func (l Limits) check() error {
	return errors.Join(l.Create.check(), l.Bulk.check(), l.General.check())
}

// bucket names the limit that a request counts against. Empty means none.
type bucket string

const (
	bucketCreate  bucket = "create"
	bucketBulk    bucket = "bulk"
	bucketGeneral bucket = "general"
)

var buckets = []bucket{bucketCreate, bucketBulk, bucketGeneral}

// of returns the limit of a bucket that is in force.
func (l Limits) of(b bucket, environment string) Limit {
	switch b {
	case bucketCreate:
		return cmp.Or(l.Create, clerkCreate)
	case bucketBulk:
		return cmp.Or(l.Bulk, clerkBulk)
	}
	if environment == "development" {
		return cmp.Or(l.General, clerkGeneralDevelopment)
	}
	return cmp.Or(l.General, clerkGeneral)
}

// window counts the requests of a bucket in one of the ways that Clerk may use. Times are Unix
// nanoseconds and never decrease.
type window struct {
	length int64 // 0: nothing is counted
	fixed  bool
	epoch  bool // a fixed window begins at a multiple of its length, not at a request

	times []int64 // sliding: the requests that count, oldest first

	begin int64 // fixed: the start of the current window
	count int
}

// wait returns how long a request at the time at must wait until fewer than n count. Zero means
// that it may pass.
func (w *window) wait(at int64, n int) time.Duration {
	if w.length == 0 {
		return 0
	}
	if w.fixed {
		if w.count < n || at >= w.begin+w.length {
			return 0
		}
		return time.Duration(w.begin + w.length - at)
	}
	w.prune(at)
	if len(w.times) < n {
		return 0
	}
	return time.Duration(w.times[len(w.times)-n] + w.length - at)
}

func (w *window) add(at int64) {
	switch {
	case w.length == 0:
	case w.fixed:
		if w.count == 0 && w.begin == 0 || at >= w.begin+w.length {
			w.begin, w.count = at, 0
			if w.epoch {
				w.begin -= at % w.length
			}
		}
		w.count++
	default:
		w.prune(at)
		w.times = append(w.times, at)
	}
}

// drop removes one request that was added at the time at.
func (w *window) drop(at int64) {
	if w.fixed {
		if at >= w.begin && w.count > 0 {
			w.count--
		}
		return
	}
	if i, ok := slices.BinarySearch(w.times, at); ok {
		w.times = slices.Delete(w.times, i, i+1)
	}
}

// prune removes requests that no longer count. A request counts for less than a whole window, so
// another one exactly one window later may pass.
func (w *window) prune(at int64) {
	i := 0
	for i < len(w.times) && w.times[i] <= at-w.length {
		i++
	}
	w.times = w.times[i:]
}

// meter finds the highest number of requests that arrived in any window of its length, whatever
// their answers were. It proves that a budget was kept.
type meter struct {
	window
	most int
}

func (m *meter) add(at int64) {
	m.window.add(at)
	m.most = max(m.most, len(m.times))
}
