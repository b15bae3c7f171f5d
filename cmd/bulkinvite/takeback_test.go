package main

import (
	"slices"
	"testing"
)

// An undo takes back only what its batch made. Here somebody invites the person in
// Clerk's dashboard while the batch's own request is on its way: Clerk refuses that
// one, and the invitation that it met belongs to somebody else.
func TestUndoLeavesInvitationOfSomebodyElse(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	pool := open(t, b.url)
	slow := []string{"--settle", "300ms", "--request-timeout", "30s", "--recover-after", "2s", "--limit-create", "1000/1s", "--limit-bulk", "off"}
	b.swift("import", "--yes", b.file("people.csv", "email\nkim@example.com\nlee@example.com\n")).want(t, exitOK)
	s.tell(t, "/sandbox/faults", `[{"call":"create","address":"lee@example.com","kind":"slow","delay":"3s"}]`)
	w := b.start(append([]string{"work", "--until-idle"}, slow...)...)
	awaitCount(t, pool, 1, `select count(*) from attempts where call = 'create' and resolved_at is null`)
	awaitCount(t, pool, 1, `select count(*) from results where outcome = 'invited'`)
	s.tell(t, "/sandbox/invitations", `["lee@example.com"]`)
	undone := decode[sweepDocument](t, b.run(append([]string{"undo", "1", "--yes", "--json"}, slow...)...).want(t, exitOK))
	if exit := w.ends(); exit != exitOK {
		t.Errorf("the worker ended with %d: %s", exit, &w.errs)
	}
	if undone.Revoked != 1 || undone.Stale != 1 {
		t.Errorf("%+v, want the one invitation of the batch", undone)
	}
	if open := s.openTo(t); !slices.Equal(open, []string{"lee@example.com"}) {
		t.Errorf("open at Clerk: %v, want the invitation that the dashboard made", open)
	}
	if d := decode[document](t, b.run("status", "1", "--json").want(t, exitOK)); d.Outcomes["already_invited"] != 1 || d.Outcomes["invited"] != 1 || d.Undecided != 0 {
		t.Errorf("%+v", d)
	}

	// A rescind names the person: it takes back whatever is pending for them.
	s.tell(t, "/sandbox/faults", `[]`)
	b.swift("rescind", "--email", "lee@example.com", "--apply").want(t, exitOK)
	if open := s.openTo(t); len(open) > 0 {
		t.Errorf("open at Clerk after the rescind: %v", open)
	}
}

// sweepDocument is what sweep, undo --json print, as far as these tests look at it.
type sweepDocument struct {
	Kind, State            string
	Stale, Revoked, Failed int
	Skipped                map[string]int
}
