package main

import (
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/report"
)

func TestReconcileAndDrift(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_reconcile", "BULKINVITE_SETTLE=1ms")
	b.run("send", "--yes", b.file("three.csv", people(3))).want(t, exitOK)
	if o := b.run("drift").want(t, exitOK); !strings.HasPrefix(o.out, "The rows have not been compared") {
		t.Errorf("before: %s", o.out)
	}
	expect.Text(t, b.run("reconcile").want(t, exitOK).out, "3  invitations at Clerk, read with 2 requests", "No drift")
	s.Tell("accept", `{"addresses":["person1@example.com"]}`)
	s.Tell("invitations", `["stray@example.org"]`)
	r := decode[ledger.Reconcile](t, b.run("reconcile", "--json", "--actor", "maria").want(t, exitOK))
	if !r.Complete || r.Scanned != 4 || r.Accepted != 1 || r.Drift != (ledger.DriftCounts{Unexplained: 1}) {
		t.Errorf("%+v", r)
	}
	if all := decode[[]report.Drift](t, b.run("drift", "--json").want(t, exitOK)); len(all) != 1 || all[0].Email != "stray@example.org" || all[0].Kind != ledger.Unexplained {
		t.Errorf("%+v", all)
	}
	expect.Text(t, b.run("drift").want(t, exitOK).out, "unexplained  stray@example.org  inv_")
	expect.Text(t, b.run("why", "person1@example.com").want(t, exitOK).out, "accepted (read by reconciling)")
	b.env = append(b.env, "CLERK_API_URL=http://127.0.0.1:1/v1")
	b.run("reconcile").want(t, exitFailed)
	b.run("work", "--reconcile-every", "-1s").want(t, exitUsage)
}
