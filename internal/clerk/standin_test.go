package clerk_test

import (
	"context"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
)

func newStandIn(t *testing.T, config sandbox.Config) *clerk.Client {
	t.Helper()
	return newClient(t, clerk.Config{URL: sandboxtest.New(t, config).URL})
}

func TestStandInFaults(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault sandbox.Fault
		class clerk.Class
		code  string
		made  int // how many invitations the lost call made at Clerk
	}{
		"refuse":     {sandbox.Fault{Kind: sandbox.FaultRefuse}, clerk.Lost, "connection_closed", 0},
		"cut before": {sandbox.Fault{Kind: sandbox.FaultCutBefore}, clerk.Lost, "connection_closed", 0},
		"cut after":  {sandbox.Fault{Kind: sandbox.FaultCutAfter}, clerk.Lost, "connection_closed", 1},
		"garbage":    {sandbox.Fault{Kind: sandbox.FaultGarbage}, clerk.Lost, "not_json", 1},
		"page":       {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 502, HTML: true}, clerk.Lost, "not_json", 0},
		"page after": {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 504, HTML: true, After: true}, clerk.Lost, "not_json", 1},
		"own fault":  {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 500, After: true}, clerk.Transient, "internal_clerk_error", 1},
		"locked":     {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 409}, clerk.Transient, "resource_locked", 0},
		"key":        {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 401}, clerk.Unauthorized, "clerk_key_invalid", 0},
		"limit":      {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 429, RetryAfter: "7"}, clerk.Throttled, "too_many_requests", 0},
		"slow":       {sandbox.Fault{Kind: sandbox.FaultSlow, Delay: sandbox.Duration(time.Hour), After: true}, clerk.Lost, "timeout", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.fault.Call = "create"
			c := newStandIn(t, sandbox.Config{Faults: []sandbox.Fault{tt.fault}})
			// net/http may repeat a call on a connection that has served one before.
			if a := c.Instance(within(t, 10*time.Second)); a.Class != clerk.Success {
				t.Fatal(a.Err)
			}
			wait := 10 * time.Second
			if tt.code == "timeout" {
				wait = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			a := c.Create(ctx, clerk.Invite{Email: "bob@example.com"})
			if a.Class != tt.class || a.Code != tt.code || !a.Sent || a.HasRetryAfter != (tt.fault.RetryAfter != "") {
				t.Errorf("%s %s %d sent %t: %v", a.Class, a.Code, a.Status, a.Sent, a.Err)
			}
			list := c.Invitations(within(t, 10*time.Second), clerk.ListQuery{})
			if list.Class != clerk.Success || len(list.Invitations) != tt.made {
				t.Errorf("%s: %d invitations at Clerk, want %d", list.Class, len(list.Invitations), tt.made)
			}
		})
	}
}
