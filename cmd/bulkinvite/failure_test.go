package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

const goodKey = "CLERK_SECRET_KEY=sk_test_neverToBeSeen"

// TestBadInput checks of each thing that can be wrong with what the program is
// given: the exit status, that one line says what and another what to do, that
// it is the one JSON document with --json, that nothing is written, and that
// neither a cell nor the key is told.
func TestBadInput(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	pool := open(t, b.url)
	elsewhere := newStand(t, sandbox.Config{Key: "sk_test_another"})
	long := append([]byte("email\n\""), bytes.Repeat([]byte("x"), 6<<20)...)
	good := b.file("good.csv", people(2))
	openKey := b.file("open.key", "sk_test_neverToBeSeen\n")
	must.OK(t, os.Chmod(openKey, 0o644))
	for _, tt := range []struct {
		name string
		env  string
		args []string
		exit int
		code string
		says string // part of the message or remedy
	}{
		{"missing file", "", []string{"send", "--sandbox", "--yes", filepath.Join(b.dir, "none.csv")}, exitUsage, "file", "no such file"},
		{"directory", "", []string{"send", "--sandbox", "--yes", b.dir}, exitUsage, "file", "directory"},
		{"empty file", "", []string{"send", "--sandbox", "--yes", b.file("empty.csv", "")}, exitUsage, "file", "empty"},
		{"binary file", "", []string{"send", "--sandbox", "--yes", b.file("binary.csv", "\x7fELF\x00\x01\x02\x03\xff\xfe\x00\x00\x00")}, exitUsage, "file", "binary.csv"},
		{"no header", "", []string{"send", "--sandbox", "--yes", b.file("bare.csv", "secret.person@example.com,Jane\nother@example.com,Joe\n")}, exitUsage, "file", "bare.csv"},
		{"no e-mail column", "", []string{"send", "--sandbox", "--yes", b.file("hr.csv", "Name,Abteilung\nJane,IT\n")}, exitUsage, "file", "Abteilung"},
		{"a line without end", "", []string{"send", "--sandbox", "--yes", b.file("long.csv", string(long))}, exitUsage, "file", "long.csv"},
		{"the file comes before the key", "", []string{"send", "--yes", b.file("void.csv", "")}, exitUsage, "file", "empty"},
		{"no key", "", []string{"send", "--yes", good}, exitFailed, "clerk_key", "--sandbox"},
		{"malformed key", "CLERK_SECRET_KEY=neverToBeSeen", []string{"send", "--yes", good}, exitFailed, "clerk_key", "sk_test_"},
		{"key file missing", "", []string{"send", "--yes", "--clerk-key-file", filepath.Join(b.dir, "no.key"), good}, exitFailed, "clerk_key", "no.key"},
		{"bad key", goodKey, []string{"send", "--yes", "--clerk-url", elsewhere.url, good}, exitFailed, "clerk_key", "refuses the key"},
		{"bad key from a file", "", []string{"send", "--yes", "--clerk-key-file", openKey, "--clerk-url", elsewhere.url, good}, exitFailed, "clerk_key", "refuses the key"},
		{"nobody at Clerk's address", goodKey, []string{"send", "--yes", "--clerk-url", "http://127.0.0.1:1/v1", good}, exitFailed, "clerk_unreachable", "127.0.0.1:1"},
		{"unencrypted", goodKey, []string{"send", "--yes", "--clerk-url", "http://api.example.com/v1", good}, exitUsage, "clerk_url", "https"},
		{"no URL", goodKey, []string{"send", "--yes", "--clerk-url", "api", good}, exitUsage, "clerk_url", "https"},
		{"database out of reach", "", []string{"send", "--sandbox", "--yes", "--database-url", "postgres://u:neverToBeSeen@127.0.0.1:1/x", good}, exitFailed, "database", "127.0.0.1:1"},
		{"database URL unreadable", "", []string{"send", "--sandbox", "--yes", "--database-url", "postgres://u:neverToBeSeen@%zz/x", good}, exitFailed, "database", "URL"},
		{"not confirmed", "", []string{"send", "--sandbox", good}, exitHeld, "not_confirmed", "--yes"},
		{"import not confirmed", "", []string{"import", "--sandbox", good}, exitHeld, "not_confirmed", "--yes"},
		{"limit of nothing", "", []string{"send", "--sandbox", "--yes", "--limit-create", "0", good}, exitUsage, "usage", "100/1h"},
		{"limit in no time", "", []string{"send", "--sandbox", "--yes", "--limit-bulk", "10/0s", good}, exitUsage, "usage", "100/1h"},
		{"no limit at all", "BULKINVITE_LIMIT_GENERAL=abc", []string{"send", "--sandbox", "--yes", good}, exitUsage, "usage", "100/1h"},
		{"both creates off", "", []string{"send", "--sandbox", "--yes", "--limit-create", "off", "--limit-bulk", "off", good}, exitUsage, "usage", "both off"},
		{"no settle time", "", []string{"send", "--sandbox", "--yes", "--settle", "0s", good}, exitUsage, "usage", "--settle"},
		{"unknown flag", "", []string{"send", "--sandbox", "--yes", "--nosuch", good}, exitUsage, "usage", "--nosuch"},
		{"unknown command", "", []string{"frobnicate"}, exitUsage, "usage", "frobnicate"},
		{"two files", "", []string{"send", "--sandbox", "--yes", good, "jane@example.com"}, exitUsage, "usage", "unexpected"},
		{"expires too late", "", []string{"send", "--sandbox", "--yes", "--expires-in-days", "400", good}, exitUsage, "usage", "365"},
		{"expires at once", "", []string{"send", "--sandbox", "--yes", "--expires-in-days", "0", good}, exitUsage, "usage", "--expires-in-days"},
		{"redirect to nowhere", "", []string{"send", "--sandbox", "--yes", "--redirect-url", "welcome", good}, exitUsage, "usage", "https"},
		{"priority", "", []string{"send", "--sandbox", "--yes", "--priority", "9", good}, exitUsage, "usage", "1 to 4"},
		{"canary of nobody", "", []string{"send", "--sandbox", "--yes", "--canary", "0", good}, exitUsage, "usage", "1 or more"},
		{"no canary", "", []string{"import", "--sandbox", "--yes", "--canary", "some", good}, exitUsage, "usage", "--canary"},
		{"no start", "", []string{"send", "--sandbox", "--yes", "--start-at", "tomorrow", good}, exitUsage, "usage", "2026-11-24 08:00"},
		{"no hours", "", []string{"import", "--sandbox", "--yes", "--hours", "8-8", good}, exitUsage, "usage", "8-18"},
		{"hours in no zone", "TZ=nowhere", []string{"send", "--sandbox", "--yes", "--hours", "8-18", good}, exitUsage, "usage", "--tz Europe/Berlin"},
		{"no zone", "", []string{"check", "--tz", "Local", good}, exitUsage, "usage", "Europe/Berlin"},
		{"no zone of a status", "", []string{"status", "1", "--tz", "Mars/Olympus"}, exitUsage, "usage", "Europe/Berlin"},
		{"check of whom Clerk knows, without a key", "", []string{"check", "--preflight", good}, exitFailed, "clerk_key", "--sandbox"},
		{"no such batch", "", []string{"status", "99"}, exitUsage, "no_batch", "bulkinvite batches"},
		{"no such batch's results", "", []string{"results", "99"}, exitUsage, "no_batch", "bulkinvite batches"},
		{"nobody by that address", "", []string{"why", "stranger@example.com"}, exitUsage, "no_person", "any file"},
		{"no address", "", []string{"why", "stranger"}, exitUsage, "address", "name@example.com"},
		{"no such outcome", "", []string{"audit", "--outcome", "lost"}, exitUsage, "usage", "outcome"},
		{"no cron", "", []string{"work", "--sandbox", "--sweep-at", "nightly"}, exitUsage, "usage", "0 2 * * *"},
		{"a token's name with a space", "", []string{"token", "create", "a b"}, exitUsage, "usage", "letters, digits"},
		{"a token without an end", "", []string{"token", "create", "hr", "--expires", "soon"}, exitUsage, "usage", "soon"},
		{"no age", "", []string{"sweep", "--sandbox", "--older-than", "old"}, exitUsage, "usage", "14d"},
		{"no such switch", "", []string{"sandbox", "--listen", "127.0.0.1:0", "--switch", "nosuch=1"}, exitUsage, "usage", "nosuch"},
		{"config file missing", "BULKINVITE_CONFIG=/nonexistent/config.yaml", []string{"batches"}, exitUsage, "usage", "config.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mine := *b
			mine.t = t
			if tt.env != "" {
				mine.env = append(mine.env[:len(mine.env):len(mine.env)], tt.env)
			}
			o := mine.run(tt.args...).want(t, tt.exit)
			if !strings.Contains(o.err, tt.says) || !strings.Contains(o.err, "bulkinvite: ") || o.out != "" {
				t.Errorf("stdout %q, stderr %q; want %q in the latter alone", o.out, o.err, tt.says)
			}
			j := mine.run(append([]string{"--json"}, tt.args...)...).want(t, tt.exit)
			e := decode[errorDocument](t, j)
			if e.Error.Code != tt.code || !strings.Contains(e.Error.Message+e.Error.Remedy, tt.says) {
				t.Errorf("as JSON: %+v, want code %s", e, tt.code)
			}
			expect.NoText(t, o.err+j.err, "neverToBeSeen", "secret.person", "jane@example.com", "stranger@")
		})
	}
	written := must.Read[int](t, pool,
		"select (select count(*) from batches) + (select count(*) from results) + (select count(*) from attempts)")
	expect.Equal(t, "rows written", written, 0)
}
