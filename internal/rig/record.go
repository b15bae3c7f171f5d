package rig

import (
	"context"
	"slices"
	"time"
)

// Record is what the sandbox saw of a run.
type Record struct {
	Requests    []Request    // in the order of arrival
	Invitations []Invitation // in the order of creation
	Mailbox     struct {
		Mails     int
		Doubled   []string
		Addresses map[string]int
	}
}

// Request is one that arrived.
type Request struct {
	At     time.Time
	Call   string
	Status int    // 0: no answer
	Trace  string `json:"trace_id"`
}

// Invitation is one that exists at the sandbox.
type Invitation struct {
	ID        string
	Email     string
	Status    string
	CreatedAt time.Time         `json:"created_at"` // in whole milliseconds
	Metadata  map[string]string `json:"public_metadata"`
}

// Record reads all that has happened.
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

// Sent are the requests of some calls.
func (r *Record) Sent(calls ...string) []Request {
	return slices.DeleteFunc(slices.Clone(r.Requests), func(q Request) bool { return !slices.Contains(calls, q.Call) })
}

// Begin is when the first create arrived: the first window begins then.
func (r *Record) Begin() time.Time {
	if creates := r.Sent(Creates...); len(creates) > 0 {
		return creates[0].At
	}
	return time.Time{}
}

// Invited is how many people were invited within so long of the beginning.
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

// Answered counts the answers with a status.
func (r *Record) Answered(status int) int {
	n := 0
	for _, q := range r.Requests {
		if q.Status == status {
			n++
		}
	}
	return n
}
