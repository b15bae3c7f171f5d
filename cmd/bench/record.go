package main

import (
	"math"
	"slices"
	"time"
)

// record is what the sandbox saw of a run.
type record struct {
	requests    []request    // in the order of arrival
	invitations []invitation // in the order of creation
	mailbox     struct {
		Mails     int
		Doubled   []string
		Addresses map[string]int
	}
}

// request is one that arrived.
type request struct {
	At     time.Time
	Call   string
	Status int    // 0: no answer
	Trace  string `json:"trace_id"`
}

func (r request) creates() bool { return r.Call == "create" || r.Call == "bulk" }

type invitation struct {
	ID        string
	Email     string
	Status    string
	CreatedAt time.Time `json:"created_at"` // in whole milliseconds
}

// creates are the requests that ask for invitations.
func (r *record) creates() []request {
	return slices.DeleteFunc(slices.Clone(r.requests), func(q request) bool { return !q.creates() })
}

// begin is when the first of them arrived: the first window begins then.
func (r *record) begin() time.Time {
	if creates := r.creates(); len(creates) > 0 {
		return creates[0].At
	}
	return time.Time{}
}

// invited is how many people were invited within so long of the beginning.
func (r *record) invited(within time.Duration) int {
	end := r.begin().Add(within)
	n := 0
	for _, in := range r.invitations {
		if in.CreatedAt.Before(end) {
			n++
		}
	}
	return n
}

// took is the time from the first create to the last invitation.
func (r *record) took() time.Duration {
	if len(r.invitations) == 0 {
		return 0
	}
	return max(0, r.invitations[len(r.invitations)-1].CreatedAt.Sub(r.begin()))
}

// answered counts the answers of a status.
func (r *record) answered(status int) int {
	n := 0
	for _, q := range r.requests {
		if q.Status == status {
			n++
		}
	}
	return n
}

// sent counts the requests of the calls.
func (r *record) sent(calls ...string) int {
	n := 0
	for _, q := range r.requests {
		if slices.Contains(calls, q.Call) {
			n++
		}
	}
	return n
}

// late is the longest time from the moment at which a window's first request
// could leave, which is the weight of a request after the last window's first,
// to its arrival.
func (r *record) late(weight time.Duration) time.Duration {
	const requests = singles + bulks
	creates := r.creates()
	var late time.Duration
	for i := requests; i < len(creates); i += requests {
		late = max(late, creates[i].At.Sub(creates[i-requests].At)-weight)
	}
	return late
}

// throttle is how a bucket of the sandbox turns clients away.
type throttle struct {
	mode   string
	window time.Duration
	limit  int
}

// episodes counts the 429 answers of one call to the requests that are ours. A
// new episode begins with the first 429 after every Retry-After of those before
// has passed.
func (t throttle) episodes(requests []request, ours map[string]bool) []int {
	var counted []time.Time
	var until time.Time
	var episodes []int
	for _, q := range requests {
		if q.Status != 429 {
			counted = append(counted, q.At)
			continue
		}
		if !ours[q.Trace] {
			continue
		}
		if !q.At.Before(until) {
			episodes = append(episodes, 0)
		}
		episodes[len(episodes)-1]++
		if again := q.At.Add(t.retryAfter(counted, q.At)); again.After(until) {
			until = again
		}
	}
	return episodes
}

// spared is how many 429 answers a client could have spared itself: in the
// first episode those beyond what may have been in flight, in any other all but
// the probe.
func spared(episodes []int, inFlight int) int {
	n := 0
	for i, together := range episodes {
		if i == 0 {
			n += max(0, together-inFlight)
		} else {
			n += together - 1
		}
	}
	return n
}

// retryAfter is what the sandbox answers to a request that came when those
// counted had come before: the wait in whole seconds, rounded up.
func (t throttle) retryAfter(counted []time.Time, at time.Time) time.Duration {
	wait := t.window - time.Duration(at.UnixNano()%int64(t.window))
	if t.mode == "sliding" && len(counted) >= t.limit {
		wait = counted[len(counted)-t.limit].Add(t.window).Sub(at)
	}
	return time.Duration(math.Ceil(wait.Seconds())) * time.Second
}
