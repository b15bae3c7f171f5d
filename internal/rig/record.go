package rig

import (
	"context"
	"slices"
	"time"
)

// Record is what the sandbox recorded of a run.
type Record struct {
	Requests    []Request    // in order of arrival
	Invitations []Invitation // in order of creation
	Mailbox     struct {
		Mails     int
		Doubled   []string
		Addresses map[string]int
	}
}

// Request is a request that arrived at the sandbox.
type Request struct {
	At     time.Time
	Call   string
	Status int    // 0 if there was no answer
	Trace  string `json:"trace_id"`
}

// Invitation is an invitation that exists at the sandbox.
type Invitation struct {
	ID        string
	Email     string
	Status    string
	CreatedAt time.Time         `json:"created_at"` // in whole milliseconds
	Metadata  map[string]string `json:"public_metadata"`
}

// Record reads everything that the sandbox recorded.
func (s *Sandbox) Record(ctx context.Context) (*Record, error) {
	r := &Record{}
	for path, into := range map[string]any{
		"/sandbox/requests": &r.Requests, "/sandbox/invitations": &r.Invitations, "/sandbox/mailbox": &r.Mailbox,
	} {
		if err := s.Get(ctx, path, into); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Sent returns the requests of the given calls, in order of arrival.
func (r *Record) Sent(calls ...string) []Request {
	return slices.DeleteFunc(slices.Clone(r.Requests), func(q Request) bool { return !slices.Contains(calls, q.Call) })
}

// Begin returns when the first create arrived, which is when the first window begins. It returns
// the zero time if no create arrived.
func (r *Record) Begin() time.Time {
	if creates := r.Sent(Creates...); len(creates) > 0 {
		return creates[0].At
	}
	return time.Time{}
}

// Invited returns how many invitations were created less than within after [Record.Begin].
func (r *Record) Invited(within time.Duration) int {
	end := r.Begin().Add(within)
	n := 0
	for _, in := range r.Invitations {
		if in.CreatedAt.Before(end) {
			n++
		}
	}
	return n
}

// Answered returns how many requests got an answer with the status.
func (r *Record) Answered(status int) int {
	n := 0
	for _, q := range r.Requests {
		if q.Status == status {
			n++
		}
	}
	return n
}
