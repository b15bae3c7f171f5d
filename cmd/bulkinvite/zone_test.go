package main

import (
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/postgres/postgrestest"
)

// TestUnknownZone: a batch whose time zone PostgreSQL does not know, as after an
// upgrade of it, is paused with the reason. All other batches go on, and every
// command that shows them works.
func TestUnknownZone(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_zones")
	pool := open(t, b.url)
	for _, name := range []string{"lost", "fine", "unstarted"} {
		file := b.file(name+".csv", strings.ReplaceAll(people(3), "person", name))
		args := []string{"import", "--yes", "--hours", "0-23", "--tz", "Europe/Berlin", file}
		if name == "lost" {
			args = append(args, "--priority", "1")
		} else if name == "unstarted" {
			args = append(args, "--draft")
		}
		b.run(args...).want(t, exitOK)
	}
	postgrestest.Plant(t, pool, `update batches set tz = 'Mars/Phobos' where id in (1, 3)`)
	postgrestest.Plant(t, pool, `update batches set hours = '{[0,24)}'`)
	refused := b.run("import", "--yes", "--hours", "8-18", "--tz", "Mars/Phobos", b.file("more.csv", people(1)))
	if refused.want(t, exitUsage); !strings.Contains(refused.err, "Mars/Phobos") {
		t.Errorf("an import says %s", refused.err)
	}
	check := []string{"check", b.file("check.csv", people(2))}
	for _, command := range [][]string{{"status", "1"}, {"status", "2"}, {"batches"}, check} {
		b.run(command...).want(t, exitOK)
	}
	w := b.start("work", "--until-idle")
	awaitCount(t, pool, 3, `select count(*) from results where batch_id = 2 and outcome = 'invited'`)
	w.endsWith(t, exitOK)
	d := b.status("1")
	if d.State != "paused" || d.PausedBy != "zone" || d.Undecided != 3 {
		t.Errorf("%+v", d)
	}
	expect.Text(t, b.run("status", "1").want(t, exitOK).out, "Mars/Phobos")
	ill := decode[diagnosis](t, b.run("doctor", "--json").want(t, exitFailed))
	ill.has(t, "time zones", verdictWrong, "batch 1 (Mars/Phobos)")
	ill.has(t, "time zones", verdictWrong, "batch 3 (Mars/Phobos)")
	refuses(t, b.run("start", "3", "--yes", "--json").want(t, exitHeld), "zone", "Mars/Phobos")

	// Once PostgreSQL knows it, the batch goes on.
	postgrestest.Plant(t, pool, `update batches set tz = 'Indian/Maldives' where id in (1, 3)`)
	b.run("resume", "1").want(t, exitOK)
	b.run("start", "3").want(t, exitOK)
	b.run("work", "--until-idle").want(t, exitOK)
	s.mailed(t, 9)
}

// TestZoneOfPostgreSQLAlone: a time zone that PostgreSQL knows and this program does
// not, since another machine with a newer list has sent the file, keeps nobody from
// being invited and no command from showing it.
func TestZoneOfPostgreSQLAlone(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_alone")
	pool := open(t, b.url)
	b.run("import", "--yes", "--hours", "0-23", "--tz", "Europe/Berlin", b.file("hires.csv", people(3))).want(t, exitOK)
	postgrestest.Plant(t, pool, `update batches set tz = 'NEW-5', hours = '{[0,24)}'`) // POSIX's form, which Go has not
	for _, command := range [][]string{{"status", "1"}, {"batches"}, {"work", "--until-idle"}, {"status", "1"}} {
		b.run(command...).want(t, exitOK)
	}
	s.mailed(t, 3)
}
