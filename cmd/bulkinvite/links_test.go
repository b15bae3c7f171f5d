package main

import (
	"bytes"
	"encoding/csv"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// links reads a file of links: the last link of each address.
func links(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	must.OK(t, err)
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	last := map[string]string{}
	for i, row := range rows {
		if i > 0 || row[0] != "row" {
			last[row[1]] = row[2] + " " + row[3]
		}
	}
	return last
}

// everyLink checks that each address has one pending invitation, whose link is in
// the file, and that nobody got a mail, but for who is called mailed.
func (s *stand) everyLink(t *testing.T, path string, n int) {
	t.Helper()
	found := links(t, path)
	expect.Equal(t, "people in the file", len(found), n)
	for address, d := range s.doors(t) {
		if strings.HasPrefix(address, "mailed") {
			continue
		}
		if d["pending"] != 1 {
			t.Errorf("%s has %v at Clerk", address, d)
		}
		id, link, _ := strings.Cut(found[address], " ")
		if id != s.pending(t)[address] || !strings.HasPrefix(link, "http") {
			t.Errorf("%s: the file has %q, which is not the pending invitation %s", address, found[address], s.pending(t)[address])
		}
	}
	for address, n := range s.mailbox(t).Addresses {
		if n > 0 && !strings.HasPrefix(address, "mailed") {
			t.Errorf("%s got %d mails", address, n)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	file, out := b.file("people.csv", people(25)), filepath.Join(t.TempDir(), "links.csv")
	b.swift("send", "--yes", "--no-notify", file).want(t, exitUsage)
	b.swift("send", "--yes", "--links", out, file).want(t, exitUsage)
	done := b.swift("send", "--yes", "--json", "--log-level", "debug", "--no-notify", "--links", out, file).want(t, exitOK)
	if d := decode[document](t, done); d.Outcomes["invited"] != 25 || d.Requests["bulk"] == 0 {
		t.Errorf("%+v", d)
	}
	s.everyLink(t, out, 25)
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of links: %v, %v", info.Mode(), err)
	}
	// A link goes nowhere else: not to the log, not to the report, not into the database.
	var dump strings.Builder
	dump.WriteString(done.out + done.err)
	b.dump(&dump)
	for _, link := range links(t, out) {
		_, link, _ = strings.Cut(link, " ")
		ticket := link[strings.LastIndexAny(link, "/=")+1:]
		if len(ticket) < 8 || strings.Contains(dump.String(), ticket) {
			t.Fatalf("a link is somewhere else than in its file, or has no ticket: %q", ticket)
		}
	}
	b.swift("resend", "1", "--pending-for", "1ms", "--yes").want(t, exitHeld)
	b.swift("correct", "1", "1", "--email", "x@example.com", "--yes").want(t, exitHeld)
	b.swift("undo", "1", "--yes").want(t, exitOK)
	for address, d := range s.doors(t) {
		if d["pending"] != 0 {
			t.Errorf("after undo %s has %v", address, d)
		}
	}
}

// Killed at any point, and with answers lost, every link ends in the file; other
// workers leave the batch alone, and it goes on with the same file only.
func TestLinksAreNotLost(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	file, out := b.file("people.csv", people(80)), filepath.Join(t.TempDir(), "links.csv")
	args := append([]string{"send", "--yes", "--json", "--no-notify", "--links", out, file}, swift...)
	// Both calls have as many requests under way as a process sends at a time; the others wait.
	s.Tell("faults", `[{"call":"bulk","kind":"slow","after":true,"delay":"30s"},{"call":"create","kind":"slow","after":true,"delay":"30s"}]`)
	c := b.start(args...)
	eventually(t, "somebody is invited", func() bool { return len(s.doors(t)) > 0 })
	b.run(args...).want(t, exitHeld) // somebody has the file
	c.kill(t)
	s.Tell("faults", `[{"call":"bulk","kind":"cut_after","first":1},{"call":"create","kind":"cut_after","every":3,"first":9}]`)
	before := len(links(t, out))
	b.swift("import", "--yes", "--priority", "4", b.file("mailed.csv", "email\nmailed1@example.com\nmailed2@example.com\n")).want(t, exitOK)
	b.swift("work", "--until-idle").want(t, exitOK)
	if after := len(links(t, out)); after != before {
		t.Errorf("another worker wrote %d links", after-before)
	}
	if left := b.status("1"); left.Undecided == 0 || left.State != "running" {
		t.Errorf("another worker worked on it: %+v", left)
	}
	b.swift("send", "--yes", file).want(t, exitUsage)
	b.swift("send", "--yes", "--no-notify", "--links", out+"2", file).want(t, exitUsage)
	if done := decode[document](t, b.run(args...).want(t, exitOK)); done.Outcomes["invited"] != 80 {
		t.Errorf("%+v", done)
	}
	s.everyLink(t, out, 80)
}

// Where Clerk's answers have no link, the rows end and say so, instead of being made
// again for ever.
func TestAnswersWithoutLinks(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{Limits: noLimits})
	target, err := url.Parse(strings.TrimSuffix(s.url, "/v1"))
	must.OK(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = bytes.ReplaceAll(body, []byte(`"url":`), []byte(`"lru":`))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	b := newBench(t, "CLERK_SECRET_KEY=sk_live_swift", "CLERK_API_URL="+server.URL+"/v1")
	file, out := b.file("people.csv", people(12)), filepath.Join(t.TempDir(), "links.csv")
	done := decode[document](t, b.swift("send", "--yes", "--json", "--no-notify", "--links", out, file).want(t, exitOK))
	if done.Outcomes["invited"] != 12 {
		t.Errorf("%+v", done)
	}
	expect.Equal(t, "rows that had no link",
		strings.Count(b.run("results", "1", "--format", "csv").want(t, exitOK).out, ",no_link,"), 12)
	if found := links(t, out); len(found) != 0 {
		t.Errorf("the file has lines for %d people", len(found))
	}
	for address, d := range s.doors(t) {
		if d["pending"] != 1 || d["revoked"] != 0 {
			t.Errorf("%s has %v at Clerk", address, d)
		}
	}
}
