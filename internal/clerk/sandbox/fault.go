package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Fault breaks some requests. Among the requests that match its Call and Address, it takes those
// that meet all of First, Every and Probability that are set. If several faults take a request, the
// first one in the list breaks it. Requests that are refused for their key or a limit are not
// considered.
type Fault struct {
	// Call is "create", "bulk", "list", "revoke", "delete", "users" or "instance". Empty means any.
	Call string `json:"call,omitempty"`
	// Address matches requests about this address, in any case: requests that invite it, revoke its
	// invitation, or look for it.
	Address string `json:"address,omitempty"`
	// First takes only the first N requests. Zero means no condition, as for Every and Probability.
	First int `json:"first,omitempty"`
	// Every takes only each Nth request.
	Every int `json:"every,omitempty"`
	// Probability takes only a share of the requests, 0 to 1.
	Probability float64 `json:"probability,omitempty"`
	// Seed decides which requests Probability takes.
	Seed uint64 `json:"seed,omitempty"`

	// Kind is what happens to the requests: one of the Fault constants.
	Kind string `json:"kind"`
	// Status is the HTTP status of FaultStatus, 300 to 599.
	Status int `json:"status,omitempty"`
	// Code is the error code of FaultStatus. Empty means Clerk's own code for the status.
	Code string `json:"code,omitempty"`
	// HTML makes the answer of FaultStatus a proxy's page without Clerk's headers.
	HTML bool `json:"html,omitempty"`
	// RetryAfter is the text of that header of FaultStatus. Empty means no header.
	RetryAfter string `json:"retry_after,omitempty"`
	// After makes FaultStatus answer, or FaultSlow wait, after the request was executed. Otherwise
	// FaultStatus does nothing else, and FaultSlow executes the request after the delay, even if
	// the client has closed the connection.
	After bool `json:"after,omitempty"`
	// Delay is how long FaultSlow waits. It must be positive.
	Delay Duration `json:"delay,omitempty"`
}

// The kinds of faults.
const (
	FaultRefuse      = "refuse"       // the connection is reset; nothing is done or counted
	FaultStatus      = "status"       // the answer has the status Status
	FaultCutBefore   = "cut_before"   // the connection is closed; nothing is done
	FaultCutAfter    = "cut_after"    // the request is executed, then the connection is closed
	FaultSlow        = "slow"         // the answer takes Delay
	FaultGarbage     = "garbage"      // the request is executed, and the 200 contains half a JSON document
	FaultPartialBulk = "partial_bulk" // a bulk call is executed completely, and its 200 lacks one item
)

func (f Fault) check() error {
	var errs []error
	kinds := []string{FaultRefuse, FaultStatus, FaultCutBefore, FaultCutAfter, FaultSlow, FaultGarbage, FaultPartialBulk}
	if !slices.Contains(kinds, f.Kind) {
		errs = append(errs, fmt.Errorf("kind %q: want one of %s", f.Kind, strings.Join(kinds, ", ")))
	}
	names := []string{"", "create", "bulk", "list", "revoke", "delete", "users", "instance"}
	if !slices.Contains(names, f.Call) {
		errs = append(errs, fmt.Errorf("call %q: want one of %s", f.Call, strings.Join(names[1:], ", ")))
	}
	if f.Kind == FaultStatus && (f.Status < 300 || f.Status > 599) {
		errs = append(errs, fmt.Errorf("status %d: want 300 to 599", f.Status))
	}
	if f.Kind == FaultSlow && f.Delay <= 0 {
		errs = append(errs, errors.New("slow: want a delay"))
	}
	if f.After && f.Kind != FaultStatus && f.Kind != FaultSlow {
		errs = append(errs, fmt.Errorf("after: a %s fault has its own time", f.Kind))
	}
	if f.First < 0 || f.Every < 0 || f.Probability < 0 || f.Probability > 1 {
		errs = append(errs, errors.New("first, every: want no negative number; probability: 0 to 1"))
	}
	return errors.Join(errs...)
}

// rule is a fault in force.
type rule struct {
	Fault
	seen int
	dice *rand.Rand
}

func newRules(faults []Fault) ([]*rule, error) {
	rules := make([]*rule, len(faults))
	for i, f := range faults {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("fault %d: %w", i+1, err)
		}
		f.Address = strings.ToLower(f.Address)
		rules[i] = &rule{Fault: f, dice: rand.New(rand.NewPCG(f.Seed, 0))}
	}
	return rules, nil
}

// takes reports whether the rule breaks the next request that matches it.
func (r *rule) takes() bool {
	r.seen++
	return (r.First == 0 || r.seen <= r.First) &&
		(r.Every == 0 || r.seen%r.Every == 0) &&
		(r.Probability == 0 || r.dice.Float64() < r.Probability)
}

// fault returns the fault that breaks a request, or nil. Every rule that matches counts the
// request, even if another rule breaks it.
func (s *Server) fault(req *request) *Fault {
	var taken *Fault
	for _, r := range s.faults {
		if r.Call != "" && r.Call != req.call.name {
			continue
		}
		if r.Address != "" && !slices.Contains(s.speaksOf(req), r.Address) {
			continue
		}
		if r.takes() && taken == nil {
			taken = &r.Fault
		}
	}
	return taken
}

// speaksOf returns the addresses that a request is about, in lower case.
func (s *Server) speaksOf(req *request) []string {
	var keys []string
	for _, in := range req.invites {
		keys = append(keys, strings.ToLower(in.email))
	}
	for _, address := range req.query["email_address"] {
		keys = append(keys, strings.ToLower(address))
	}
	if q := req.query.Get("query"); q != "" {
		keys = append(keys, strings.ToLower(q))
	}
	if in := s.state.byID[req.id]; in != nil {
		keys = append(keys, strings.ToLower(in.Email))
	}
	return keys
}
