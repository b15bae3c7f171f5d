package clerk_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"bulkinvite/clerk"
	"bulkinvite/clerk/sandbox"
	"bulkinvite/clerk/sandbox/sandboxtest"
)

func newStandIn(t *testing.T, config sandbox.Config) *clerk.Client {
	t.Helper()
	return newClient(t, clerk.Config{URL: sandboxtest.New(t, config).URL})
}

// TestStandIn follows one person through all calls, with the client on one side and the sandbox on
// the other.
func TestStandIn(t *testing.T) {
	t.Parallel()
	c := newStandIn(t, sandbox.Config{Users: []string{"ann@example.com"}, Blocked: []string{"eve@example.com"}})
	ctx := within(t, 20*time.Second)
	expect := func(what string, a clerk.Answer, class clerk.Class) clerk.Answer {
		t.Helper()
		if a.Class != class || !a.Sent || a.TraceID == "" || (a.Err == nil) != (class == clerk.Success) {
			t.Errorf("%s: %s %s %d, trace %q: %v", what, a.Class, a.Code, a.Status, a.TraceID, a.Err)
		}
		return a
	}
	created := expect("create", c.Create(ctx, clerk.Invite{Email: "bob@example.com", ExpiresInDays: 7}), clerk.Success)
	if len(created.Invitations) != 1 {
		t.Fatalf("%d invitations were made", len(created.Invitations))
	}
	bob := created.Invitations[0]
	if bob.Status != "pending" || bob.ExpiresAt.Sub(bob.CreatedAt) != 7*24*time.Hour {
		t.Errorf("made %+v", bob)
	}
	exists := expect("again", c.Create(ctx, clerk.Invite{Email: "bob@example.com"}), clerk.Exists)
	if !slices.Equal(exists.Offenders, []string{"bob@example.com"}) {
		t.Errorf("offenders %v", exists.Offenders)
	}
	expect("a user", c.Create(ctx, clerk.Invite{Email: "ann@example.com"}), clerk.UserExists)
	expect("blocked", c.Create(ctx, clerk.Invite{Email: "eve@example.com"}), clerk.Rejected)
	expect("no address", c.Create(ctx, clerk.Invite{Email: "eve"}), clerk.Rejected)
	expect("metadata", c.Create(ctx, clerk.Invite{Email: "x@example.com", PublicMetadata: []byte(`[]`)}), clerk.Rejected)
	expect("bulk of eleven", c.Bulk(ctx, make([]clerk.Invite, 11)), clerk.BadCall)
	if bulk := expect("bulk", c.Bulk(ctx, []clerk.Invite{{Email: "c@example.com"}, {Email: "d@example.com"}}), clerk.Success); len(bulk.Invitations) != 2 {
		t.Errorf("bulk made %d", len(bulk.Invitations))
	}
	page := c.Invitations(ctx, clerk.ListQuery{Limit: 2})
	expect("list", page.Answer, clerk.Success)
	if page.Total != 3 || len(page.Invitations) != 2 || page.Invitations[0].CreatedAt.Before(page.Invitations[1].CreatedAt) {
		t.Errorf("list: %d in all, %+v", page.Total, page.Invitations)
	}
	users := c.Users(ctx, []string{"ann@example.com", "bob@example.com"})
	expect("users", users.Answer, clerk.Success)
	if len(users.Users) != 1 || !slices.Equal(users.Users[0].Emails, []string{"ann@example.com"}) {
		t.Errorf("users: %+v", users.Users)
	}
	instance := c.Instance(ctx)
	expect("instance", instance.Answer, clerk.Success)
	if instance.ID != "ins_sandbox" || instance.Environment != "development" {
		t.Errorf("instance: %q %q", instance.ID, instance.Environment)
	}
	if revoked := expect("revoke", c.Revoke(ctx, bob.ID), clerk.Success); revoked.Invitations[0].Status != "revoked" || !revoked.Invitations[0].Revoked {
		t.Errorf("revoked: %+v", revoked.Invitations)
	}
	expect("revoke again", c.Revoke(ctx, bob.ID), clerk.AlreadyRevoked)
	expect("revoke none", c.Revoke(ctx, "inv_none"), clerk.Gone)
	if list := c.Invitations(ctx, clerk.ListQuery{Status: "revoked"}); len(list.Invitations) != 1 || list.Invitations[0].ID != bob.ID {
		t.Errorf("revoked ones: %+v", list.Invitations)
	}
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
