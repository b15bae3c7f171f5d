package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/app"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/report"
)

// TestControl takes a batch through its states with the commands, and asks in
// each for what it does not allow.
func TestControl(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_control")
	file := b.file("some.csv", people(12))
	is := func(o outcome, state string, undecided int) document {
		t.Helper()
		d := decode[document](t, o.want(t, exitOK))
		d.addsUp(t)
		if d.Batch != 1 || d.State != state || d.Undecided != undecided {
			t.Fatalf("%+v, want %s with %d undecided", d, state, undecided)
		}
		return d
	}
	refusesAll := func(commands ...string) {
		t.Helper()
		for _, command := range commands {
			e := decode[errorDocument](t, b.run(command, "1", "--json", "--yes").want(t, exitHeld))
			if e.Error.Code != "state" || e.Error.Remedy == "" || !strings.Contains(e.Error.Message, "batch 1 is ") {
				t.Errorf("%s: %+v", command, e)
			}
		}
	}
	is(b.run("import", "--draft", "--yes", "--json", file), "draft", 12)
	refusesAll("pause", "resume", "retry")
	is(b.run("start", "1", "--json", "--actor", "maria"), "running", 12)
	refusesAll("start", "resume")
	if d := is(b.run("pause", "1", "--json", "--actor", "tom"), "paused", 12); d.PausedBy != "person" || d.ETA != nil {
		t.Errorf("%+v", d)
	}
	refusesAll("start", "pause", "retry")
	refuses(t, b.run("send", "--yes", "--json", file).want(t, exitHeld), "paused", "bulkinvite resume 1")
	b.run("work", "--until-idle").want(t, exitOK)
	s.mailed(t, 0)
	if d := is(b.run("resume", "1", "--json"), "running", 12); d.PausedBy != "" || d.ETA == nil {
		t.Errorf("%+v", d)
	}
	b.run("work", "--until-idle").want(t, exitOK)
	refusesAll("start", "pause", "resume", "cancel")
	if o := b.run("retry", "1", "--json"); is(o, "done", 0).Outcomes["invited"] != 12 || !strings.Contains(o.err, "0 rows") {
		t.Errorf("nothing to retry: %+v", o)
	}

	pool := open(t, b.url)
	postgrestest.Plant(t, pool, `update results set outcome = 'failed', attempt_id = null, clerk_invitation_id = null, status = null where row_number <= 3`)
	if o := b.run("retry", "1", "--json", "--actor", "ann"); !strings.Contains(o.err, "3 rows are taken up again") {
		t.Errorf("retry: %s", o.err)
	} else {
		is(o, "running", 3)
	}
	b.run("cancel", "1", "--json").want(t, exitHeld)
	if d := is(b.run("cancel", "1", "--json", "--yes", "--actor", "eve"), "cancelled", 0); d.Outcomes["cancelled"] != 3 || d.Outcomes["invited"] != 9 {
		t.Errorf("%+v", d)
	}
	refusesAll("start", "pause", "resume", "cancel", "retry")
	refuses(t, b.run("send", "--yes", "--json", file).want(t, exitHeld), "same_file")
	var story string
	err := pool.QueryRow(t.Context(), `select string_agg(action || ' ' || actor, ', ' order by id) filter (where actor in ('maria', 'tom', 'ann', 'eve', 'bulkinvite')) from events`).Scan(&story)
	if want := "started maria, paused tom, done bulkinvite, certified bulkinvite, retried ann, cancelled eve, certified bulkinvite"; err != nil || story != want {
		t.Errorf("events: %q, %v; want %q", story, err, want)
	}
}

// TestPauseWhileSending pauses, resumes and cancels a batch from elsewhere while
// send works on it.
func TestPauseWhileSending(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: 3, Window: time.Second}}},
		"CLERK_SECRET_KEY=sk_live_meanwhile")
	args := []string{"send", "--yes", "--json", "--limit-create", "3/1s", "--limit-bulk", "off", b.file("slow.csv", people(60))}
	meanwhile := func(mails int, command ...string) outcome {
		t.Helper()
		c := b.command(args...)
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		must.OK(t, c.Start())
		awaitMails(t, s, mails)
		b.run(command...).want(t, exitOK)
		_ = c.Wait() // the exit status is looked at
		return outcome{c.ProcessState.ExitCode(), out.String(), errs.String()}
	}
	refuses(t, meanwhile(3, "pause", "1").want(t, exitHeld), "paused", "a person paused it", "bulkinvite resume 1")
	b.run("resume", "1").want(t, exitOK)
	d := decode[document](t, meanwhile(7, "cancel", "1", "--yes").want(t, exitOK))
	d.addsUp(t)
	if m := s.mailbox(t); d.State != "cancelled" || d.Undecided != 0 || d.Outcomes["cancelled"] == 0 || d.Outcomes["invited"] != m.Mails || len(m.Doubled) > 0 {
		t.Errorf("%+v, %d mails", d, m.Mails)
	}
}

// TestPauseAwaitsAnswers: send does not end with a pause before it is known what
// became of the requests under way. Where Clerk can't be read it ends all the same,
// and status says what is not known.
func TestPauseAwaitsAnswers(t *testing.T) {
	t.Parallel()
	for name, readable := range map[string]bool{"read": true, "unreadable": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := []sandbox.Fault{{Call: "create", Kind: sandbox.FaultCutAfter, First: 1}}
			if !readable {
				faults = append(faults, sandbox.Fault{Call: "list", Kind: sandbox.FaultStatus, Status: 503})
			}
			b, s := newPair(t, sandbox.Config{Faults: faults}, "CLERK_SECRET_KEY=sk_live_awaits")
			c := b.command("send", "--yes", "--json", "--no-preflight", "--limit-create", "1/1h", "--limit-bulk", "off",
				"--settle", "3s", "--request-timeout", "1s", b.file("lost.csv", people(2)))
			var out, errs bytes.Buffer
			c.Stdout, c.Stderr = &out, &errs
			must.OK(t, c.Start())
			// Paused from here: a program would take seconds to start on a busy machine, and the answer be known by then.
			pool := open(t, b.url)
			awaitMails(t, s, 1)
			one, err := batch.Batch(t.Context(), pool, 1)
			if err == nil {
				err = (&app.App{Pool: pool}).Pause(t.Context(), one.ID, "maria")
			}
			must.OK(t, err)
			_ = c.Wait() // the exit status is looked at
			held := decode[errorDocument](t, outcome{c.ProcessState.ExitCode(), out.String(), errs.String()}.want(t, exitHeld))
			expect.Text(t, errs.String(), "waiting for what became of 1 person under way")
			// A read that a process broke off as it stopped says nothing of Clerk.
			must.Exec(t, pool, `insert into reads (instance_id, worker_id, call, pass_begun_at, ended_at, error_code)
				values (1, 'w', 'users', clock_timestamp(), clock_timestamp(), 'canceled')`)
			o := b.run("status", "1", "--json").want(t, exitOK)
			d := decode[document](t, o)
			unknown := decode[struct{ Unknown *report.Unknown }](t, o).Unknown
			if readable {
				if d.Outcomes["invited"] != 1 || unknown != nil || strings.Contains(held.Error.Message, "not known") {
					t.Errorf("%+v, not known: %+v; %s", d, unknown, held.Error.Message)
				}
				return
			}
			if d.Undecided != 2 || unknown == nil || unknown.Rows != 1 || unknown.LastRead == nil || unknown.LastRead.HTTPStatus == nil || *unknown.LastRead.HTTPStatus != 503 || unknown.Workers != 0 {
				t.Errorf("%+v, not known: %+v", d, unknown)
			}
			expect.Text(t, held.Error.Message, "1 not known until Clerk can be read")
			expect.Text(t, b.run("status", "1").want(t, exitOK).out, "is lost", "Reading Clerk fails", "503")
		})
	}
}
