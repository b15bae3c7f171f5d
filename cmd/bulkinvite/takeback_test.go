package main

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/proof"
)

// An undo takes back only what its batch made. Here somebody invites the person in
// Clerk's dashboard while the batch's own request is on its way: Clerk refuses that
// one, and the invitation that it met belongs to somebody else.
func TestUndoLeavesInvitationOfSomebodyElse(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	pool := open(t, b.url)
	slow := []string{"--settle", "300ms", "--request-timeout", "30s", "--recover-after", "2s",
		"--limit-create", "1000/1s", "--limit-bulk", "off"}
	b.swift("import", "--yes", b.file("people.csv", "email\nkim@example.com\nlee@example.com\n")).want(t, exitOK)
	s.Tell("faults", `[{"call":"create","address":"lee@example.com","kind":"slow","delay":"3s"}]`)
	w := b.start(append([]string{"work", "--until-idle"}, slow...)...)
	awaitCount(t, pool, 1, `select count(*) from attempts where call = 'create' and resolved_at is null`)
	awaitCount(t, pool, 1, `select count(*) from results where outcome = 'invited'`)
	s.Tell("invitations", `["lee@example.com"]`)
	undone := decode[sweepDocument](t, b.run(append([]string{"undo", "1", "--yes", "--json"}, slow...)...).want(t, exitOK))
	w.endsWith(t, exitOK)
	if undone.Revoked != 1 || undone.Stale != 1 {
		t.Errorf("%+v, want the one invitation of the batch", undone)
	}
	s.wantOpen(t, "lee@example.com")
	d := b.status("1")
	if d.Outcomes["already_invited"] != 1 || d.Outcomes["invited"] != 1 || d.Undecided != 0 {
		t.Errorf("%+v", d)
	}

	// A rescind names the person: it takes back whatever is pending for them.
	s.Tell("faults", `[]`)
	b.swift("rescind", "--email", "lee@example.com", "--apply").want(t, exitOK)
	s.wantOpen(t)
}

// sweepDocument is what sweep, undo --json print, as far as these tests look at it.
type sweepDocument struct {
	Kind, State            string
	Stale, Revoked, Failed int
	Skipped                map[string]int
}

// A person's invitation is followed through every batch that made one for the row:
// by resends, by corrections, and by a file that invites the person again.
func TestTakingBackFollowsRow(t *testing.T) {
	t.Parallel()
	resend := func(batch string) []string {
		return []string{"resend", batch, "--yes", "--pending-for", "1ms", "--cooldown", "1ms"}
	}
	correct := func(batch, row, email string) []string {
		return []string{"correct", batch, row, "--yes", "--email", email}
	}
	leave := func(people ...string) []string {
		return []string{"rescind", "--batch", "1", "--apply", "--not-in", "FILE:email\n" + strings.Join(people, "\n")}
	}
	undo := func(batch string) []string { return []string{"undo", batch, "--yes"} }
	file := "email\nwrong@example.com\nkim@example.com\n"
	for _, tt := range []struct {
		name  string
		steps [][]string
		open  []string // at Clerk in the end
	}{
		{"correct after a resend", [][]string{resend("1"), correct("1", "1", "right@example.com")},
			[]string{"kim@example.com", "right@example.com"}},
		{"correct after two resends", [][]string{resend("1"), resend("1"), correct("1", "1", "right@example.com")},
			[]string{"kim@example.com", "right@example.com"}},
		{"correct after a resend of a resend", [][]string{resend("1"), resend("2"), correct("1", "1", "right@example.com")},
			[]string{"kim@example.com", "right@example.com"}},
		{"correct of the resend's row after another resend",
			[][]string{resend("1"), resend("1"), correct("2", "1", "right@example.com")},
			[]string{"kim@example.com", "right@example.com"}},
		{"correct of a correction after its resend",
			[][]string{correct("1", "1", "second@example.com"), resend("2"), correct("2", "1", "right@example.com")},
			[]string{"kim@example.com", "right@example.com"}},
		{"correct after another file replaced the invitation",
			[][]string{{"send", "--yes", "--on-duplicate", "resend", "FILE:email\nother@example.com\nwrong@example.com\n"},
				correct("1", "1", "right@example.com")},
			[]string{"kim@example.com", "other@example.com", "right@example.com"}},
		{"correct leaves what another file made on its own",
			[][]string{{"rescind", "--email", "wrong@example.com", "--apply"},
				{"send", "--yes", "FILE:email\nwrong@example.com\n"},
				correct("1", "1", "right@example.com")},
			[]string{"kim@example.com", "right@example.com", "wrong@example.com"}},
		{"undo after a resend", [][]string{resend("1"), undo("1")}, []string{}},
		{"undo after two resends", [][]string{resend("1"), resend("2"), undo("1")}, []string{}},
		{"undo after a correction", [][]string{correct("1", "1", "right@example.com"), undo("1")}, []string{}},
		{"undo of the resend",
			[][]string{{"send", "--yes", "FILE:email\nother@example.com\n"}, resend("1"), undo("3")},
			[]string{"other@example.com"}},
		{"undo after another file replaced an invitation",
			[][]string{{"send", "--yes", "--on-duplicate", "resend", "FILE:email\nwrong@example.com\n"}, undo("1")},
			[]string{"wrong@example.com"}},
		{"rescind after a resend",
			[][]string{resend("1"), {"rescind", "--email", "wrong@example.com", "--apply"}},
			[]string{"kim@example.com"}},
		{"rescind of who is not in a new roster, after a correction",
			[][]string{correct("1", "1", "right@example.com"), leave("kim@example.com")},
			[]string{"kim@example.com"}},
		{"a new roster that has the right address keeps it",
			[][]string{correct("1", "1", "right@example.com"), leave("kim@example.com", "right@example.com")},
			[]string{"kim@example.com", "right@example.com"}},
		{"a new roster that has the wrong address still keeps the right one",
			[][]string{correct("1", "1", "right@example.com"), leave("kim@example.com", "wrong@example.com")},
			[]string{"kim@example.com", "right@example.com"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, s := newSwift(t)
			b.swift("send", "--yes", b.file("people.csv", file)).want(t, exitOK)
			for _, step := range tt.steps {
				for i, arg := range step {
					if text, ok := strings.CutPrefix(arg, "FILE:"); ok {
						step[i] = b.file("other.csv", text)
					}
				}
				b.swift(step...).want(t, exitOK)
			}
			s.wantOpen(t, tt.open...)
			again := slices.ContainsFunc(tt.steps, func(step []string) bool {
				return slices.Contains(step, "resend") || step[0] == "rescind"
			})
			if doubled := s.mailbox(t).Doubled; !again && len(doubled) > 0 {
				t.Errorf("doubled: %v", doubled)
			}
			pool := open(t, b.url)
			for batch := range must.Read[int64](t, pool, `select count(*) from batches`) {
				if v, err := proof.Verify(t.Context(), pool, batch+1, nil); err != nil || !v.Holds {
					t.Errorf("batch %d does not hold: %+v, %v", batch+1, v, err)
				}
			}
		})
	}
}

// An undo shows what it takes back: also what later batches made for the rows of
// this one, and what other files made, which stays.
func TestUndoShowsWhatOtherBatchesMade(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", b.file("people.csv", people(5))).want(t, exitOK)
	other := b.file("other.csv", "email\nperson4@example.com\n")
	b.swift("send", "--yes", "--on-duplicate", "resend", other).want(t, exitOK)
	b.swift("resend", "1", "--yes", "--pending-for", "1ms").want(t, exitOK) // but for person4, who is in their cooldown
	b.swift("correct", "1", "3", "--yes", "--email", "right@example.com").want(t, exitOK)
	held := b.swift("undo", "1").want(t, exitHeld)
	expect.Text(t, held.err, `"revoke":4`, `"later_batches":"3, 4"`, `"kept":1`)
	serve := b.serve()
	defer serve.stop()
	if status, text := serve.ask(http.MethodGet, "/api/v1/batches/1/undo", "", ""); status != http.StatusOK ||
		!strings.Contains(text, `"invitations":4`) || !strings.Contains(text, `"follow_ups":[3,4]`) {
		t.Errorf("the API says of the undo: %d %s", status, text)
	}
	page := serve.get("/batches/1")
	for _, part := range []string{`are undone with it: <a href="/batches/3">3</a>, <a href="/batches/4">4</a>`,
		"Type the number of invitations to revoke: 4"} {
		expect.Text(t, page, part)
	}
	expect.Text(t, serve.get("/batches/3"), "Invitations that this batch replaced stay revoked")
	status, text := serve.ask(http.MethodPost, "/api/v1/batches/1/undo", "application/json", `{"invitations":1}`)
	if status != http.StatusConflict {
		t.Errorf("an undo of another number of invitations: %d %s", status, text)
	}
	expect.Equal(t, "invitations open after an undo that nobody confirmed", len(s.openTo(t)), 5)
	undone := decode[sweepDocument](t, b.swift("undo", "1", "--yes", "--json").want(t, exitOK))
	if open := s.openTo(t); undone.Revoked != 4 || !slices.Equal(open, []string{"person4@example.com"}) {
		t.Errorf("%+v, open: %v", undone, open)
	}
}

// An undo of a batch whose process was killed, or of one whose resend was under way, waits for what is at Clerk:
// nobody is left with an invitation, and nobody is invited afterwards.
func TestUndoUnderWay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before []string // what is done with the file
		killed []string // what is under way
		batch  string   // that it works on
	}{
		"a batch":    {[]string{"import"}, []string{"work", "--limit-bulk", "off"}, "1"},
		"its resend": {[]string{"send"}, []string{"resend", "1", "--yes", "--pending-for", "1ms"}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, s := newSwift(t)
			b.swift(append(c.before, "--yes", b.file("people.csv", people(12)))...).want(t, exitOK)
			s.Tell("faults", `[{"call":"create","kind":"slow","after":true,"delay":"30s"}]`)
			w := b.start(append(c.killed, swift[:len(swift)-4]...)...)
			awaitCount(t, open(t, b.url), 1, `select count(*) from attempt_people p join attempts a on a.id = p.attempt_id
				where p.batch_id = `+c.batch+` and a.call = 'create' and a.resolved_at is null`)
			w.kill(t)
			s.Tell("faults", `[]`)
			b.swift("undo", "1", "--yes").want(t, exitOK)
			s.wantOpen(t)
			b.swift("work", "--until-idle").want(t, exitOK)
			s.wantOpen(t)
			if d := b.status(c.batch); d.Undecided != 0 || d.Outcomes["cancelled"] == 0 || d.State != "cancelled" {
				t.Errorf("%+v", d)
			}
		})
	}
}

// A batch of links is undone like any other, and a resend by a file that replaced
// one of its invitations is left alone.
func TestUndoOfLinks(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	out := filepath.Join(t.TempDir(), "links.csv")
	b.swift("send", "--yes", "--no-notify", "--links", out, b.file("people.csv", people(4))).want(t, exitOK)
	other := b.file("other.csv", "email\nperson1@example.com\n")
	b.swift("send", "--yes", "--on-duplicate", "resend", other).want(t, exitOK)
	o := b.swift("correct", "1", "1", "--yes", "--json", "--email", "right@example.com").want(t, exitHeld)
	if refused := decode[errorDocument](t, o); refused.Error.Remedy == "" {
		t.Errorf("%+v", refused)
	}
	undone := decode[sweepDocument](t, b.swift("undo", "1", "--yes", "--json").want(t, exitOK))
	if open := s.openTo(t); undone.Revoked != 3 || !slices.Equal(open, []string{"person1@example.com"}) {
		t.Errorf("%+v, open: %v", undone, open)
	}
	b.swift("rescind", "--email", "person1@example.com", "--apply").want(t, exitOK)
	s.wantOpen(t)
}

// A correction says before it is confirmed which invitations it takes back.
func TestCorrectSaysWhatIsRevoked(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	b.swift("send", "--yes", b.file("people.csv", "email\nwrong@example.com\nkim@example.com\n")).want(t, exitOK)
	says := func(batch, row, text string) {
		t.Helper()
		o := b.swift("correct", batch, row, "--email", "right@example.com").want(t, exitHeld)
		expect.Text(t, o.err, text)
	}
	b.swift("resend", "1", "--yes", "--pending-for", "1ms").want(t, exitOK)
	says("1", "1", "the invitation that batch 2 made for it is revoked.")
	says("2", "1", "its invitation is revoked.")
	b.swift("send", "--yes", b.file("again.csv", "email\nWRONG@example.com\n")).want(t, exitOK) // invited already
	says("3", "1", "no invitation that was made for it is pending, so that none is revoked; "+
		"its address has another pending invitation")
	// Once the first row is corrected, an expired invitation of it is not sent again.
	b.swift("correct", "1", "1", "--yes", "--email", "right@example.com").want(t, exitOK)
	postgrestest.Plant(t, open(t, b.url), `update results set status = 'expired' where key = 'wrong@example.com'`)
	b.swift("resend", "1", "--yes", "--pending-for", "1ms", "--cooldown", "1ms").want(t, exitOK)
	s.wantOpen(t, "kim@example.com", "right@example.com")
}
