package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/must"
)

// goesOnWithin is how long a fleet may stand still behind a process that is
// stopped: a lease of 5 s runs out, the server ends what stands still within a
// transaction after 5 s, and others look again each 5 s.
const goesOnWithin = 20 * time.Second

// happens waits until a query says true.
func happens(t *testing.T, pool *pgxpool.Pool, limit time.Duration, what, sql string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		var done bool
		err := pool.QueryRow(t.Context(), sql).Scan(&done)
		if err == nil && done {
			t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("%s: not after %s: %v", what, limit, err)
		}
	}
}

// TestStoppedProcessHoldsNobodyUp stops a process (SIGSTOP, as a paused container
// is) while it does each of the tasks that one process does for the fleet. Another
// process takes the task over.
func TestStoppedProcessHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	reads := func(call string) string {
		return `select exists (select from reads where call = '` + call + `' and ended_at is null)`
	}
	const slow = `{"call":"list","kind":"slow","delay":"15s"}`
	for _, c := range []struct {
		task   string
		fault  string   // of Clerk, as long as the process is to be stopped
		file   []string // flags of the batch that waits; nil: there is none
		args   []string // of both processes
		at     string   // when the process is stopped
		goesOn string   // what the other one has done then
	}{
		{"preflight", slow, []string{}, nil, reads("invitations_pending"),
			`select count(*) = 3 from results where outcome = 'invited'`},
		{"settle", slow + `,{"call":"create","kind":"cut_after","first":1}`,
			[]string{"--no-preflight"}, nil, reads("invitations"),
			`select count(*) = 3 from results where outcome = 'invited'`},
		{"reconcile", slow, nil, []string{"--reconcile-every", "1s"}, reads("reconcile"),
			`select exists (select from reconciles where complete)`},
		{"night", slow, nil, []string{"--sweep-at", "* * * * *", "--sweep-scope", "all"},
			reads("invitations_pending"),
			`select exists (select from sweeps where night is not null)`},
	} {
		t.Run(c.task, func(t *testing.T) {
			t.Parallel()
			b, s := newPair(t, sandbox.Config{Limits: noLimits}, "CLERK_SECRET_KEY=sk_live_stopped")
			args := slices.Concat([]string{"work", "--settle", "300ms", "--request-timeout", "5s", "--recover-after", "2s",
				"--limit-bulk", "off", "--limit-create", "1000/1s"}, c.args)
			b.run(append(args, "--until-idle")...).want(t, exitOK) // sets the schedule
			pool := open(t, b.url)
			must.Exec(t, pool, `update schedules set since = since - interval '1 day'`)
			if c.file != nil {
				file := b.file("people.csv", people(3))
				b.run(slices.Concat([]string{"import", "--yes"}, c.file, []string{file})...).want(t, exitOK)
			}
			s.Tell("faults", `[`+c.fault+`]`)
			first := b.start(args...)
			happens(t, pool, time.Minute, "the first process is at "+c.task, c.at)
			first.signal(t, syscall.SIGSTOP)
			defer func() { _ = first.Process.Kill() }() // it has ended, mostly
			s.Tell("faults", `[]`)
			second := b.start(args...)
			happens(t, pool, goesOnWithin, "the second process has gone on with "+c.task, c.goesOn)
			first.signal(t, syscall.SIGCONT)
			if c.task == "reconcile" { // what it read for is over: it must not say that it read everything
				happens(t, pool, goesOnWithin, "the first reconciling ended",
					`select finished_at is not null and not complete from reconciles order by id limit 1`)
			}
			for _, p := range []*started{first, second} {
				p.signal(t, syscall.SIGTERM)
				p.endsWith(t, exitOK)
			}
			if m := s.mailbox(t); c.file != nil && (m.Mails != 3 || len(m.Doubled) > 0) {
				t.Errorf("%d mails, %d doubled", m.Mails, len(m.Doubled))
			}
		})
	}
}

// TestStoppedPurgeHoldsNobodyUp stops a process in the middle of a purge's transaction.
func TestStoppedPurgeHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	b, _ := newSwift(t)
	b.swift("send", "--yes", b.file("people.csv", people(3))).want(t, exitOK)
	pool := open(t, b.url)
	must.Exec(t, pool, `update batches set finished_at = finished_at - interval '10 days'`)
	args := append([]string{"work", "--purge-older-than", "1d"}, swift...)
	var first *started
	must.OK(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `select from results for update`); err != nil {
			return err
		}
		first = b.start(args...)
		happens(t, pool, time.Minute, "the first process is at the purge",
			`select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`)
		first.signal(t, syscall.SIGSTOP)
		return nil
	}))
	defer func() { _ = first.Process.Kill() }() // it has ended, mostly
	second := b.start(args...)
	happens(t, pool, goesOnWithin, "the second process has purged", `select purged_by is not null from batches`)
	first.signal(t, syscall.SIGCONT)
	for _, p := range []*started{first, second} {
		p.signal(t, syscall.SIGTERM)
		p.endsWith(t, exitOK)
	}
	happens(t, pool, time.Second, "it was purged once", `select count(*) = 1 from events where action = 'purged'`)
}

// TestStoppedSendOfLinks stops a process that writes a file of links while Clerk
// makes an invitation for it. Another process goes on with the batch; the link that
// the first one gets when it wakes up is in no file, since it was revoked meanwhile.
func TestStoppedSendOfLinks(t *testing.T) {
	t.Parallel()
	b, s := newSwift(t)
	file, out := b.file("people.csv", people(3)), filepath.Join(t.TempDir(), "links.csv")
	args := append([]string{"send", "--yes", "--json", "--no-notify", "--links", out, file}, swift...)
	s.Tell("faults", `[{"call":"create","kind":"slow","after":true,"delay":"700ms","first":3},`+
		`{"call":"bulk","kind":"slow","after":true,"delay":"700ms","first":1}]`)
	first := b.start(args...)
	eventually(t, "somebody is invited", func() bool { return len(s.doors(t)) > 0 })
	first.signal(t, syscall.SIGSTOP)
	defer func() { _ = first.Process.Kill() }() // it has ended, mostly
	ctx, cancel := context.WithTimeout(t.Context(), 2*goesOnWithin)
	defer cancel()
	second := make(chan outcome, 1)
	go func() { second <- b.run(args...) }()
	select {
	case o := <-second:
		o.want(t, exitOK)
	case <-ctx.Done():
		t.Fatal("the second process does not end")
	}
	s.everyLink(t, out, 3)
	before, err := os.ReadFile(out)
	must.OK(t, err)
	first.signal(t, syscall.SIGCONT)
	// It finds the batch done, or that it is another's.
	exit := first.ends()
	if told := strings.Contains(first.out.String(), "links_held"); exit != exitOK && (exit != exitHeld || !told) {
		t.Errorf("the first process ended with %d: %s%s", exit, &first.out, &first.errs)
	}
	if after, err := os.ReadFile(out); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the first process wrote links: %q, %v", after[len(before):], err)
	}
}
