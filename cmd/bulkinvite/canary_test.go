//go:build linux

package main

import (
	"testing"

	"bulkinvite/internal/clerk/sandbox"
)

// TestCanary sends a few first. Off a terminal it then waits for a word, unless
// --yes was given and none of them met trouble.
func TestCanary(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_canary")
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
