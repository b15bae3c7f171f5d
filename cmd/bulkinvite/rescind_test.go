package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
)

// listOf is a file of the people with these numbers.
func listOf(from, to int) string {
	var b strings.Builder
	b.WriteString("email\n")
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "p%03d@example.com\n", i)
	}
	return b.String()
}

// TestRescindCommand: of a list, and of an address however it is spelt, it says who can't be taken back, and who not found.
func TestRescindCommand(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_rescind", "BULKINVITE_SETTLE=1ms")
	b.run("send", "--yes", b.file("all.csv", listOf(0, 12))).want(t, exitOK)
	b.run("import", "--yes", "--draft", b.file("later.csv", listOf(10, 14))).want(t, exitOK)
	s.Tell("accept", `{"addresses":["p002@example.com"]}`)
	s.Tell("invitations", `["p099@example.com"]`)
	list := b.file("withdrawn.csv", "email\np001@example.com\np002@example.com\np013@example.com\nP099@Example.com\nnobody@example.com\n")
	done := decode[rescindDocument](t, b.run("rescind", list, "--apply", "--json", "--actor", "maria").want(t, exitOK))
	want := rescindDocument{Sweep: 1, Apply: true, People: 5, Pending: 2, Waiting: 1, Joined: []string{"p002@example.com"}, Unknown: 1,
		Revoked: 2, Stopped: 1, Skipped: map[string]int{}}
	expect.Equal(t, "rescinded", fmt.Sprint(done), fmt.Sprint(want))
	if open := s.openTo(t); len(open) != 10 || slices.Contains(open, "p001@example.com") || slices.Contains(open, "p099@example.com") {
		t.Errorf("open: %v", open)
	}
	expect.Text(t, b.run("rescind", "--email", " P003@example.com", "--apply").want(t, exitOK).out, "1  revoked")
	expect.Text(t, b.run("why", "p003@example.com").want(t, exitOK).out, "revoked invitation inv_")
	for _, bad := range [][]string{{"rescind"}, {"rescind", list, "--email", "a@example.com"}, {"rescind", "--not-in", list}, {"rescind", list, "--batch", "1"},
		{"rescind", "--email", "nobody"}, {"rescind", "--not-in", list, "--batch", "77"}} {
		b.run(bad...).want(t, exitUsage)
	}
	odd := b.file("odd.csv", listOf(0, 11)+"not readable\n")
	refuses(t, b.run("rescind", "--not-in", odd, "--batch", "1", "--json").want(t, exitHeld), "unreadable_rows")
}

// TestRoster sends a new version of a roster: who is new is invited, who is gone
// is taken back, and nothing else happens.
func TestRoster(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"send", "import"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			b, s := newPair(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}}}, "CLERK_SECRET_KEY=sk_live_roster", "BULKINVITE_SETTLE=1ms", "BULKINVITE_LIMIT_CREATE=none", "BULKINVITE_LIMIT_BULK=none")
			b.run("send", "--yes", b.file("one.csv", listOf(0, 80))).want(t, exitOK)
			// Half of it went missing.
			half := decode[errorDocument](t, b.run(command, "--yes", "--json", "--roster", "1", b.file("half.csv", listOf(0, 40))).want(t, exitHeld))
			if half.Error.Code != "threshold" || len(s.openTo(t)) != 80 {
				t.Errorf("%+v, %d open", half, len(s.openTo(t)))
			}
			two := b.file("two.csv", listOf(20, 95))
			b.run(command, "--roster", "1", two).want(t, exitHeld) // nobody confirmed it
			if n := len(s.openTo(t)); n != 80 {
				t.Fatalf("%d are open before anybody confirmed", n)
			}
			o := b.run(command, "--yes", "--json", "--roster", "1", two).want(t, exitOK)
			if command == "import" {
				b.run("work", "--until-idle").want(t, exitOK)
			}
			if open := s.openTo(t); len(open) != 75 || open[0] != "p020@example.com" || open[74] != "p094@example.com" {
				t.Errorf("%d open: %v\n%s", len(open), open, o.err)
			}
			s.mailed(t, 95)
			d := b.status("2")
			if d.addsUp(t); d.Outcomes["invited"] != 15 || d.Outcomes["already_invited"] != 60 {
				t.Errorf("%+v", d)
			}
			if command == "send" { // given again, it has nothing left to do
				b.run(command, "--yes", "--roster", "1", two).want(t, exitHeld)
			}
			b.run(command, "--yes", "--roster", "1", "--allow", b.file("third.csv", listOf(60, 95))).want(t, exitOK)
			b.run("work", "--until-idle").want(t, exitOK)
			// Against the first version: 20 to 59 are gone, and nobody is new.
			if open := s.openTo(t); len(open) != 35 || open[0] != "p060@example.com" {
				t.Errorf("%d open: %v", len(open), open)
			}
		})
	}
	b := newBench(t)
	b.run("import", "--draft", "--roster", "1", b.file("x.csv", listOf(0, 1))).want(t, exitUsage)
}
