//go:build linux

package main

import (
	"strings"
	"testing"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/internal/expect"
)

// TestCanary sends a few first. Off a terminal it then waits for a word, unless
// --yes was given and none of them met trouble.
func TestCanary(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_canary")
	d := decode[document](t, b.run("send", "--yes", "--json", "--canary", "3", b.file("yes.csv", people(40))).want(t, exitOK))
	if d.addsUp(t); d.Outcomes["invited"] != 40 {
		t.Errorf("%+v", d)
	}
	var story string
	err := open(t, b.url).QueryRow(t.Context(), `select string_agg(action || coalesce(' by ' || (details->>'by'), ''), ', ' order by id) from events`).Scan(&story)
	if want := "imported, started, paused by canary, resumed, done, certified"; err != nil || story != want {
		t.Errorf("events: %q, %v; want %q", story, err, want)
	}
	// More than there are: no question is left.
	b.run("send", "--yes", "--json", "--canary", "5", b.file("few.csv", "email\nlonely@example.com\n")).want(t, exitOK)
}

// TestCanaryDies: one of the first was rejected, so that --yes is no yes to it.
func TestCanaryDies(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{Blocked: []string{"person1@example.com"}})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_dies")
	file := b.file("dies.csv", people(30))
	for range 2 {
		e := decode[errorDocument](t, b.run("send", "--yes", "--json", "--canary", "4", file).want(t, exitHeld))
		if e.Error.Code != "paused" || !strings.Contains(e.Error.Message, "the first 4 people were asked for") || !strings.Contains(e.Error.Remedy, "bulkinvite resume 1") {
			t.Errorf("%+v", e)
		}
	}
	expect.Equal(t, "mails of the canary", s.mailbox(t).Mails, 3)
	if d := decode[document](t, b.run("status", "1", "--json").want(t, exitOK)); d.PausedBy != "canary" || d.Undecided != 26 || d.ETA != nil {
		t.Errorf("%+v", d)
	}
	b.run("resume", "1").want(t, exitOK)
	d := decode[document](t, b.run("send", "--yes", "--json", file).want(t, exitRows))
	if d.Outcomes["invited"] != 29 || d.Outcomes["rejected"] != 1 {
		t.Errorf("%+v", d)
	}
}

// TestCanaryAsks sits at a terminal: says no, then yes.
func TestCanaryAsks(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{Blocked: []string{"person1@example.com"}})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_asks")
	file := b.file("asks.csv", people(30))
	exit, text := b.sit(func(term *terminal) {
		term.answer("Type the number of people to invite them:", "30")
		term.answer("Go on with the other 26 people? [y/N]", "n")
	}, "send", "--canary", "4", file)
	if exit != exitHeld || !strings.Contains(text, "the first 4 alone, then it asks before the others") || !strings.Contains(text, "invited              3") || strings.Contains(text, "WARN") {
		t.Errorf("exit status %d:\n%s", exit, text)
	}
	expect.Equal(t, "mails of the canary", s.mailbox(t).Mails, 3)
	exit, text = b.sit(func(term *terminal) { term.answer("Go on with the other 26 people? [y/N]", "y") }, "send", file)
	if m := s.mailbox(t); exit != exitRows || m.Mails != 29 || !strings.Contains(text, "Batch 1 is done") {
		t.Errorf("exit status %d, %d mails:\n%s", exit, m.Mails, text)
	}
}

// TestCancelAsks sits at a terminal: says no, then yes.
func TestCancelAsks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("import", "--sandbox", "--yes", b.file("some.csv", people(3))).want(t, exitOK)
	exit, text := b.sit(func(term *terminal) { term.answer("3 people are then not invited. [y/N]", "") }, "cancel", "1")
	if exit != exitHeld || !strings.Contains(text, "nobody confirmed") {
		t.Errorf("exit status %d:\n%s", exit, text)
	}
	exit, text = b.sit(func(term *terminal) { term.answer("3 people are then not invited. [y/N]", "yes") }, "cancel", "1")
	if exit != exitOK || !strings.Contains(text, "Batch 1 was cancelled") {
		t.Errorf("exit status %d:\n%s", exit, text)
	}
}
