package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/report"
)

// People whose addresses a purge removed are found by what stands for them: an
// address that somebody types is never kept.
func TestPurgedPeople(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", b.file("people.csv", people(8))).want(t, exitOK)
	s.Tell("accept", `{"addresses":["person1@example.com"]}`)
	b.swift("reconcile").want(t, exitOK)
	b.run("purge", "--older-than", "1ms", "--yes").want(t, exitOK)
	clean := func() {
		t.Helper()
		var all strings.Builder
		b.dump(&all)
		expect.Equal(t, "people in the database again", regexp.MustCompile(`person[0-7]@`).FindString(all.String()), "")
	}
	clean()

	shown := decode[rescindDocument](t, b.swift("rescind", "--email", "person0@example.com", "--json").want(t, exitOK))
	if shown.Pending != 1 || shown.Unknown != 0 {
		t.Errorf("%+v", shown)
	}

	// What is still known of them.
	story := decode[report.Story](t, b.run("why", "Person0@example.com", "--json").want(t, exitOK))
	if len(story.Rows) != 1 || story.Rows[0].Email != nil || len(story.Attempts) != 1 ||
		len(story.Summary) != 1 || len(story.Summary[0].Sent) != 1 {
		t.Errorf("%+v", story)
	}
	o := b.run("why", "person0@example.com").want(t, exitOK)
	expect.Text(t, o.out, "row 1 of people.csv (batch 1)", "A purge removed")
	rows := decode[[]map[string]any](t, b.run("audit", "--email", "person0@example.com", "--json").want(t, exitOK))
	if len(rows) != 1 || rows[0]["outcome"] != "invited" || rows[0]["email"] != nil {
		t.Errorf("%v", rows)
	}
	b.run("why", "stranger@example.com").want(t, exitUsage)
	serve := b.serve()
	defer serve.stop()
	expect.Text(t, serve.get("/api/v1/people/person0@example.com"), `"outcome":"invited"`)
	for format, want := range map[string]string{"--json": `"erased":7`, "--yes": "7  have no address any more"} {
		o := b.swift("resend", "1", "--pending-for", "1ms", format).want(t, exitOK)
		expect.Text(t, o.out, want)
	}
	o = b.swift("correct", "1", "1", "--email", "right@example.com", "--yes", "--json").want(t, exitHeld)
	if refused := decode[errorDocument](t, o); refused.Error.Code != "purged" ||
		!strings.Contains(refused.Error.Remedy, "rescind") {
		t.Errorf("%+v", refused)
	}

	// Taken back: by name, by a list, and as those who are not in a new version of the roster.
	s.Tell("faults", `[{"call":"revoke","kind":"cut_after","first":1}]`)
	s.Tell("invitations", `["person9@example.com"]`)
	o = b.swift("rescind", "--email", "person0@example.com", "--apply", "--json").want(t, exitOK)
	if one := decode[rescindDocument](t, o); one.Pending != 1 || one.Revoked != 1 || one.Unknown != 0 {
		t.Errorf("%+v", one)
	}
	list := b.file("list.csv", "email\nperson1@example.com\nperson2@example.com\nstranger@example.com\n")
	some := decode[rescindDocument](t, b.swift("rescind", list, "--apply", "--json").want(t, exitOK))
	if some.Pending != 1 || some.Revoked != 1 || some.Unknown != 1 ||
		!slices.Equal(some.Joined, []string{"person1@example.com"}) {
		t.Errorf("%+v", some)
	}
	left := []string{"person4@example.com", "person5@example.com", "person6@example.com", "person7@example.com"}
	roster := b.file("new.csv", "email\n"+strings.Join(left, "\n"))
	o = b.swift("rescind", "--batch", "1", "--apply", "--json", "--not-in", roster).want(t, exitOK)
	if gone := decode[rescindDocument](t, o); gone.Revoked != 1 {
		t.Errorf("%+v", gone)
	}
	left = append(left, "person9@example.com") // another program invited them
	if open := s.openTo(t); !slices.Equal(open, left) {
		t.Errorf("open at Clerk: %v, want %v", open, left)
	}
	expect.Text(t, b.run("why", "person0@example.com").want(t, exitOK).out, "revoked invitation inv_")
	// Somebody else invited a purged person again: reconciling finds it.
	s.Tell("invitations", `["person2@example.com"]`)
	b.swift("rescind", "--email", "person2@example.com", "--apply").want(t, exitOK)
	if open := s.openTo(t); !slices.Equal(open, left) {
		t.Errorf("open at Clerk: %v, want %v", open, left)
	}
	clean()
	b.run("verify", "1").want(t, exitOK)
	b.swift("rescind", "--email", "person9@example.com", "--apply").want(t, exitOK) // in no file: found at Clerk
}

// A purged person can be erased: from then on nothing is told of them, and no later
// file invites them; what is pending can still be taken back.
func TestEraseAfterPurge(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", b.file("people.csv", people(4))).want(t, exitOK)
	b.run("purge", "--older-than", "1ms", "--yes").want(t, exitOK)
	erased := decode[erasureDocument](t, b.run("erase", "person0@example.com", "--yes", "--json").want(t, exitOK))
	if erased.Rows != 0 || erased.Pending != 1 {
		t.Errorf("%+v", erased)
	}
	b.run("erase", "person0@example.com").want(t, exitUsage)
	b.run("erase", "person2@example.com", "--revoke", "--yes").want(t, exitOK)
	for _, address := range []string{"person0@example.com", "person2@example.com"} {
		b.run("why", address).want(t, exitUsage)
		o := b.run("audit", "--email", address, "--json").want(t, exitOK)
		if rows := decode[[]map[string]any](t, o); len(rows) > 0 {
			t.Errorf("audit tells of %s: %v", address, rows)
		}
	}
	b.run("why", "person1@example.com").want(t, exitOK)
	later := b.file("again.csv", "email\nPerson0@example.com\nnew@example.com\n")
	o := b.swift("send", "--yes", "--json", later).want(t, exitOK)
	if again := decode[document](t, o); again.Outcomes["cancelled"] != 1 || again.Outcomes["invited"] != 1 {
		t.Errorf("%+v", again)
	}
	b.swift("rescind", "--email", "person0@example.com", "--apply").want(t, exitOK)
	left := []string{"new@example.com", "person1@example.com", "person3@example.com"}
	if open := s.openTo(t); !slices.Equal(open, left) {
		t.Errorf("open at Clerk: %v", open)
	}
	var all strings.Builder
	b.dump(&all)
	expect.NoText(t, strings.ToLower(all.String()), "person0@")
	b.run("verify", "1").want(t, exitOK)
	b.run("verify", "2").want(t, exitOK)
}
