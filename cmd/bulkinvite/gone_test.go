package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/report"
)

// TestDeletedAtClerk deletes an invitation at Clerk. Rows, stories and the page say
// so, and a later file invites the person again, once.
func TestDeletedAtClerk(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_gone", "BULKINVITE_SETTLE=100ms")
	b.run("send", "--yes", b.file("three.csv", people(3))).want(t, exitOK)
	status := func(person string) map[string]any {
		t.Helper()
		rows := decode[[]map[string]any](t, b.run("audit", "--email", person, "--batch", "1", "--json").want(t, exitOK))
		if len(rows) != 1 {
			t.Fatalf("%s: %v", person, rows)
		}
		return rows[0]
	}
	id := status("person1@example.com")["clerk_invitation_id"].(string)
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/v1/invitations/"+id, nil)
	r.Header.Set("Authorization", "Bearer sk_live_gone")
	if s.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Fatalf("delete: %d %s", w.Code, w.Body)
	}
	again := decode[ledger.Reconcile](t, b.run("reconcile", "--json").want(t, exitOK))
	if again.Deleted != 1 || again.Drift.Gone != 1 || again.Requests != 4 {
		t.Errorf("%+v", again)
	}
	expect.Equal(t, "the row's status", status("person1@example.com")["status"], "gone")
	expect.Equal(t, "another row's status", status("person2@example.com")["status"], "pending")
	expect.Text(t, b.run("reconcile").want(t, exitOK).out, "0  deleted at Clerk")
	for _, args := range [][]string{{"results", "1"}, {"why", "person1@example.com"}, {"audit", "--status", "gone"}} {
		if o := b.run(args...).want(t, exitOK); strings.Count(strings.ToLower(o.out), "deleted at clerk") != 1 {
			t.Errorf("%v: %s", args, o.out)
		}
	}
	if o := b.run("results", "1", "--format", "csv").want(t, exitOK); strings.Count(o.out, ",gone,") != 1 {
		t.Error(o.out)
	}
	serve := b.serve()
	for _, path := range []string{"/batches/1", "/batches/1/rows?status=gone", "/batches/1/rows/2", "/people?q=person1"} {
		code, text := serve.ask(http.MethodGet, path, "", "")
		if code != http.StatusOK || !strings.Contains(text, "deleted at Clerk") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}

	later := decode[report.Report](t, b.run("send", "--yes", "--json", b.file("later.csv", people(4))).want(t, exitOK))
	if later.Outcomes["invited"] != 2 || later.Outcomes["already_invited"] != 2 {
		t.Errorf("a later file: %+v", later.Outcomes)
	}
	o := b.run("send", "--yes", "--json", "--again", b.file("later.csv", people(4))).want(t, exitOK)
	last := decode[report.Report](t, o)
	if last.Outcomes["already_invited"] != 4 {
		t.Errorf("once more: %+v", last.Outcomes)
	}
	mails := s.mailbox(t)
	if mails.Addresses["person1@example.com"] != 2 || mails.Mails != 5 {
		t.Errorf("mails: %+v", mails)
	}
}
