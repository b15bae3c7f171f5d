package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// The examples: all rows of hires end well, messy has three that do not.
const (
	hires = "../../examples/hires.csv"
	messy = "../../examples/messy.csv"
)

func TestSendTwice(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	first := decode[document](t, b.run("send", "--sandbox", "--yes", "--json", messy).want(t, exitRows))
	first.addsUp(t)
	if first.State != "done" || first.Rows != 20 || first.Undecided != 0 || first.ETA != nil {
		t.Errorf("first: %+v", first)
	}
	for _, o := range []string{"invited", "already_invited", "already_registered", "invalid", "rejected", "duplicate_row"} {
		if first.Outcomes[o] == 0 {
			t.Errorf("messy.csv has no %s", o)
		}
	}
	mails := b.mailbox()
	if mails.Mails != first.Outcomes["invited"] || len(mails.Doubled) > 0 {
		t.Errorf("%d mails for %d invited, doubled %d", mails.Mails, first.Outcomes["invited"], len(mails.Doubled))
	}
	again := b.run("send", "--sandbox", "--yes", messy).want(t, exitHeld)
	if !strings.Contains(again.err, "batch 1 already") || again.out != "" {
		t.Errorf("second: %+v", again)
	}
	once := decode[document](t, b.run("send", "--sandbox", "--yes", "--json", "--again", messy).want(t, exitRows))
	once.addsUp(t)
	if once.Batch == first.Batch || once.Outcomes["invited"] != 0 {
		t.Errorf("--again: %+v", once)
	}
	if after := b.mailbox(); after.Mails != mails.Mails || len(after.Doubled) > 0 {
		t.Errorf("%d mails after --again, %d before", after.Mails, mails.Mails)
	}
}

// TestRehearsal checks that a file sent in the sandbox can still be sent for
// real from the same database.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_test_rehearsal")
	file := b.file("two.csv", people(2))
	b.run("send", "--sandbox", "--yes", file).want(t, exitOK)
	if n := s.mailbox(t).Mails; n != 0 {
		t.Fatalf("the rehearsal sent %d mails", n)
	}
	b.run("send", "--yes", file).want(t, exitOK)
	s.mailed(t, 2)
}

func TestStandardInput(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := decode[document](t, b.runWith(people(3), "send", "--sandbox", "--yes", "--json", "-").want(t, exitOK))
	if d.Outcomes["invited"] != 3 {
		t.Errorf("%+v", d)
	}
	left, err := os.ReadDir(strings.TrimPrefix(b.env[3], "TMPDIR="))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestInterrupt stops a run with a signal and goes on with the same command.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	limits := sandbox.Limits{Create: sandbox.Limit{N: 5, Window: time.Second}}
	b, s := newPair(t, sandbox.Config{Limits: limits}, "CLERK_SECRET_KEY=sk_test_interrupt")
	b.detectRaces()
	args := []string{"send", "--yes", "--json", "--limit-create", "5/1s", "--limit-bulk", "off", b.file("slow.csv", people(20))}
	c := b.command(args...)
	out, err := c.StdoutPipe()
	must.OK(t, err)
	must.OK(t, c.Start())
	awaitMails(t, s, 5)
	must.OK(t, c.Process.Signal(os.Interrupt))
	said, err := io.ReadAll(out)
	must.OK(t, err)
	_ = c.Wait() // the exit status is looked at
	if c.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(string(said), `"interrupted"`) {
		t.Fatalf("exit status %d: %s", c.ProcessState.ExitCode(), said)
	}
	d := decode[document](t, b.run(args...).want(t, exitOK))
	d.once(t, s, 20)
}

// TestKill kills a run half way with SIGKILL; the same command goes on, and
// nobody is mailed twice.
func TestKill(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: 1000, Window: time.Second}}},
		"CLERK_SECRET_KEY=sk_test_kill")
	args := []string{"send", "--yes", "--json", "--allow-undelivered", "--limit-create", "1000/1s", "--limit-bulk", "off",
		"--settle", "2s", "--request-timeout", "5s", "--recover-after", "5s", b.file("many.csv", people(300))}
	c := b.start(args...)
	awaitMails(t, s, 50)
	c.kill(t)
	d := decode[document](t, b.run(args...).want(t, exitOK))
	d.addsUp(t)
	d.once(t, s, 300)
}

// TestQuota pauses a batch with the reason; once that is mended, the same
// command goes on.
func TestQuota(t *testing.T) {
	t.Parallel()
	full := newStand(t, sandbox.Config{InstanceID: "ins_quota", Switches: sandbox.Switches{Quota: "user_quota_exceeded"}})
	room := newStand(t, sandbox.Config{InstanceID: "ins_quota"})
	b := newBench(t, "CLERK_SECRET_KEY=sk_live_quota")
	file := b.file("quota.csv", people(5))
	o := b.run("send", "--yes", "--clerk-url", full.url, file).want(t, exitFailed)
	expect.Text(t, o.err, "user_quota_exceeded")
	if d := b.status("1"); d.PausedBy != "clerk" {
		t.Errorf("paused by %q", d.PausedBy)
	}
	refuses(t, b.run("send", "--json", "--clerk-url", room.url, file).want(t, exitHeld), "paused", "user_quota_exceeded")
	d := decode[document](t, b.run("send", "--yes", "--json", "--clerk-url", room.url, file).want(t, exitOK))
	if d.Batch != 1 || d.Outcomes["invited"] != 5 || d.PausedBy != "" {
		t.Errorf("%+v", d)
	}
}

// TestBreaker pauses a batch of which too many people are refused; with --yes
// the same command goes on.
func TestBreaker(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{Blocked: []string{"*@bad.example"}, Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}}}, "CLERK_SECRET_KEY=sk_live_breaker")
	text := people(100)
	for i := range 10 { // a quarter of those whom the first hour's budget is for
		text = strings.Replace(text, fmt.Sprintf("person%d@example.com", i), fmt.Sprintf("person%d@bad.example", i), 1)
	}
	args := []string{"send", "--yes", "--json", "--limit-bulk", "off", b.file("breaker.csv", text)}
	refuses(t, b.run(append(args, "--limit-create", "40/1h")...).want(t, exitHeld),
		"paused", "were rejected or failed", "bulkinvite resume 1")
	if d := b.status("1"); d.State != "paused" || d.PausedBy != "breaker" {
		t.Errorf("%+v", d)
	}
	d := decode[document](t, b.run(append(args, "--limit-create", "1000/1s")...).want(t, exitRows))
	if d.addsUp(t); d.Outcomes["invited"] != 90 || d.Outcomes["rejected"] != 10 {
		t.Errorf("%+v", d)
	}
}

// TestSentByTwo lets two programs send the same file at the same moment: one
// batch comes of it.
func TestSentByTwo(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_two")
	b.detectRaces()
	file := b.file("both.csv", people(30))
	exits := make(chan int, 2)
	for range 2 {
		go func() {
			c := b.command("send", "--yes", file)
			_ = c.Run() // the exit status is looked at
			exits <- c.ProcessState.ExitCode()
		}()
	}
	for range 2 {
		if exit := <-exits; exit != exitOK && exit != exitHeld {
			t.Errorf("exit status %d", exit)
		}
	}
	pool := open(t, b.url)
	batches := must.Read[int](t, pool, "select count(*) from batches")
	if m := s.mailbox(t); batches != 1 || len(m.Doubled) > 0 {
		t.Errorf("%d batches, %d doubled", batches, len(m.Doubled))
	}
}

// TestDatabaseComesBack stops the database in the middle of a run. The run waits,
// says so now and then, and goes on.
func TestDatabaseComesBack(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_away")
	server := newServer(t)
	c := b.command("send", "--yes", "--json", "--limit-bulk", "off", "--limit-create", "2/4s", "--recover-after", "1s",
		"--settle", "1s", "--request-timeout", "2s", "--database-url", server.url(), b.file("away.csv", people(6)))
	var out bytes.Buffer
	c.Stdout = &out
	errs, err := c.StderrPipe()
	must.OK(t, err)
	must.OK(t, c.Start())
	awaitMails(t, s, 2)
	server.stop()
	said, complaints, again := bufio.NewScanner(errs), map[string]int{}, false
	for said.Scan() {
		t.Log(said.Text())
		var line struct{ Level, Msg string }
		expect.OK(t, json.Unmarshal(said.Bytes(), &line))
		if line.Level == "WARN" || line.Level == "ERROR" {
			complaints[line.Msg]++
		}
		if away := strings.Contains(said.Text(), "does not answer"); away && !again {
			again = true
			server.start()
		}
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	d := decode[document](t, outcome{out: out.String()})
	d.once(t, s, 6)
	for msg, times := range complaints {
		if times > 2 {
			t.Errorf("%q is said %d times in a few seconds", msg, times)
		}
	}
}

// TestDatabaseDies kills the private server in the middle of a run: nobody would
// start it anew, so that the run ends and says so; the same command starts it
// and goes on.
func TestDatabaseDies(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_dies")
	b.private()
	args := []string{"send", "--yes", "--json", "--limit-bulk", "off", "--recover-after", "1s", "--settle", "1s", "--request-timeout", "1s"}
	file := b.file("dies.csv", people(3))
	c := b.command(append(args, "--limit-create", "1/1h", file)...)
	out, err := c.StdoutPipe()
	must.OK(t, err)
	must.OK(t, c.Start())
	awaitMails(t, s, 1)
	signalServer(t, filepath.Join(b.dir, "postgres"), syscall.SIGKILL)
	said, err := io.ReadAll(out)
	must.OK(t, err)
	_ = c.Wait() // the exit status is looked at
	if c.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(said), `"database"`) {
		t.Fatalf("exit status %d: %s", c.ProcessState.ExitCode(), said)
	}
	d := decode[document](t, b.run(append(args, file)...).want(t, exitOK))
	d.once(t, s, 3)
}
