package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// has fails the test unless a diagnosis has a finding with this verdict, whose
// message or remedy says a word.
func (d diagnosis) has(t *testing.T, check, verdict, word string) {
	t.Helper()
	for _, f := range d.Findings {
		if f.Check == check && f.Verdict == verdict && strings.Contains(f.Message+f.Remedy, word) {
			return
		}
	}
	t.Errorf("no %s of %s says %q: %+v", verdict, check, word, d.Findings)
}

// TestDoctor: where all is well nothing is wrong, and each thing that can be
// wrong is found, with what to do.
func TestDoctor(t *testing.T) {
	t.Parallel()
	b, stand := newPair(t, sandbox.Config{}, keyVariable+"=sk_test_planted")
	fresh := newBench(t, keyVariable+"=sk_test_planted", "CLERK_API_URL="+stand.url)
	fresh.private()
	decode[diagnosis](t, fresh.run("doctor", "--json").want(t, exitOK)).has(t, "schema", verdictWarning, "new and empty")
	fresh.run("send", "--sandbox", "--yes", fresh.file("people.csv", "email\na@example.com\n")).want(t, exitOK)
	decode[diagnosis](t, fresh.run("doctor", "--sandbox", "--after-restore", "--json").want(t, exitOK)).has(t, "restore", verdictWarning, "lacks 3") // which the stand-in has from the start
	well := decode[diagnosis](t, b.run("doctor", "--json").want(t, exitOK))
	well.has(t, "database", verdictOK, "PostgreSQL")
	well.has(t, "schema", verdictOK, ".sql")
	well.has(t, "clock of PostgreSQL", verdictOK, "agrees")
	well.has(t, "clock of Clerk", verdictOK, "agrees")
	well.has(t, "key", verdictOK, "instance")
	b.run("import", "--yes", b.file("people.csv", "email\na@example.com\nb@example.com\n")).want(t, exitOK)
	ill := decode[diagnosis](t, b.run("doctor", "--json").want(t, exitFailed))
	ill.has(t, "workers", verdictWrong, "bulkinvite work")
	if ill.OK {
		t.Error("all is said to be well while rows wait and nobody works")
	}
	pool := open(t, b.url)
	plant := func(sql string) { t.Helper(); postgrestest.Plant(t, pool, sql) }
	plant(`insert into workers (id, instance_id, host, pid, version, lock_key) select 'w', id, 'h', 1, 'v', 1 from instances`)
	plant(`insert into attempts (instance_id, bucket, call, worker_id, started_at, deadline) select id, 'create', 'create', 'w', now() - interval '1 hour', now() - interval '1 hour' from instances`)
	plant(`update buckets set frozen_until = now() + interval '1 hour', frozen_reason = 'Clerk answered 429', frozen_at = now() where name = 'bulk'`)
	plant(`insert into sweeps (instance_id, kind, started_by, apply, held) select id, 'sweep', 'maria', true, true from instances`)
	plant(`insert into reads (instance_id, worker_id, call, pass_begun_at, ended_at, http_status, complete)
		select id, 'w', call, now() - interval '20 minutes', now() - interval '16 minutes', 200, true
		from instances, unnest(array['invitations_pending', 'invitations']) c (call)`)
	plant(`update batches set state = 'paused', paused_by = 'clerk'`)
	o := b.run("doctor", "--json").want(t, exitFailed)
	ill = decode[diagnosis](t, o)
	ill.has(t, "workers", verdictOK, "1 process")
	ill.has(t, "answers", verdictWrong, "1 request")
	ill.has(t, "limits", verdictWarning, "bulk is closed")
	ill.has(t, "batches", verdictWarning, "resume")
	ill.has(t, "sweeps", verdictWarning, "--allow")
	ill.has(t, "reads", verdictWarning, "took 8")
	expect.NoText(t, o.out+o.err, "planted", "example.com")
	plant(`insert into goose_db_version (version_id, is_applied) values (9999, true)`)
	decode[diagnosis](t, b.run("doctor", "--json").want(t, exitFailed)).has(t, "schema", verdictWrong, "9999")
	b.env = append(b.env, "CLERK_API_URL=http://127.0.0.1:1/v1", "DATABASE_URL=postgres://127.0.0.1:1/none")
	text := b.run("doctor", "--after-restore").want(t, exitFailed).out
	expect.Text(t, text, "wrong", "database", "key", "restore", "→ ")
}

// TestRestoredBackup takes a backup in the middle of a run, with requests under
// way that Clerk has taken and not answered, lets the run come to its end, and
// goes on from the backup: doctor tells what it lacks, and nobody gets a second
// mail, nor do those whose invitations were revoked meanwhile.
func TestRestoredBackup(t *testing.T) {
	t.Parallel()
	const people = 300
	stand := newStand(t, sandbox.Config{Limits: noLimits,
		Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultSlow, After: true,
			Delay: sandbox.Duration(2 * time.Second), Every: 4}}})
	b := newBench(t, keyVariable+"=sk_live_secret", "CLERK_API_URL="+stand.url, "BULKINVITE_SETTLE=100ms", "BULKINVITE_RECOVER_AFTER=500ms", "BULKINVITE_REQUEST_TIMEOUT=3s",
		"BULKINVITE_LIMIT_CREATE=off", "BULKINVITE_LIMIT_BULK=none")
	b.run("import", "--yes", b.file("people.csv", listOf(0, people))).want(t, exitOK)
	pool := open(t, b.url)
	// Twelve bulk calls an hour, of which every fourth is slow: the first are answered, one is not.
	c := b.start("work", "--limit-bulk", "12/1h")
	awaitCount(t, pool, 12, `select count(*) from attempts`)
	awaitCount(t, pool, 60, `select count(*) from results where outcome = 'invited'`)
	// One that is killed before it came to Clerk would be made by somebody else later.
	awaitMails(t, stand, 120)
	c.kill(t)
	pool.Close()
	backup := copyDatabase(t, b.url)
	b.run("work", "--until-idle").want(t, exitOK)
	if m := stand.mailbox(t); m.Mails != people {
		t.Fatalf("%d mails went out before the restore, want %d", m.Mails, people)
	}
	// Some are taken back: Clerk would mail them again, where it refuses the others.
	b.run("rescind", b.file("gone.csv", listOf(people-20, people)), "--apply", "--yes").want(t, exitOK)
	var invited, already, asked int
	count := func() {
		t.Helper()
		must.OK(t, open(t, backup).QueryRow(t.Context(), `
			select count(*) filter (where outcome = 'invited'), count(*) filter (where outcome = 'already_invited'),
			       (select count(*) from attempt_people where open) from results`).Scan(&invited, &already, &asked))
	}
	if count(); asked == 0 || invited < 60 || invited > 120 {
		t.Fatalf("the backup has %d invited, and %d people of open requests", invited, asked)
	}
	inFlight := asked
	restored := b.with("DATABASE_URL=" + backup)
	found := decode[diagnosis](t, restored.run("doctor", "--after-restore", "--json"))
	found.has(t, "restore", verdictWarning, fmt.Sprintf("lacks %d", people-invited-asked))
	restored.run("work", "--until-idle").want(t, exitOK)
	m := stand.mailbox(t)
	if m.Mails != people || len(m.Doubled) > 0 || len(m.Addresses) != people {
		t.Errorf("after the restore: %d mails, %d people, doubled %v", m.Mails, len(m.Addresses), m.Doubled)
	}
	before := invited
	// What the open requests made is found to be theirs; what came after the backup is somebody's.
	if count(); invited != before+inFlight || already != people-before-inFlight || asked != 0 {
		t.Errorf("%d invited, %d already; there were %d, and %d of open requests", invited, already, before, inFlight)
	}
}

// copyDatabase copies a database that nobody uses, as a backup and its restore
// would, and returns its URL.
func copyDatabase(t *testing.T, from string) string {
	t.Helper()
	u, err := url.Parse(from)
	must.OK(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	admin := open(t, u.String())
	var made error
	for range 100 { // the sessions of a process that was killed end a moment later
		if _, made = admin.Exec(t.Context(), fmt.Sprintf(`create database %q template %q`, name+"_backup", name)); made == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if made != nil {
		t.Fatal(made)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), fmt.Sprintf(`drop database %q with (force)`, name+"_backup")); err != nil {
			t.Error(err)
		}
	})
	u.Path = "/" + name + "_backup"
	return u.String()
}
