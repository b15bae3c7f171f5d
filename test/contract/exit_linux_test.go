package contract_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

var _ = promised("exit status 0", []string{
	"| 0 | all rows decided, none `failed`, `rejected` or `invalid`; `check` and `import`: no row is invalid; `work` also after SIGTERM or SIGINT; `start`, `pause`, `resume`, `cancel`, `retry`: it is done |",
}, func(c *check) {
	_, b := c.stage("sk_live_x", "--pending", "pending@example.com", "--user", "user@example.com")
	file := b.people("pending@example.com", "user@example.com", "a@example.com", "a@example.com")
	b.run("check", file).want(exitOK)
	b.run("import", "--yes", "--draft", b.people("draft@example.com")).want(exitOK)
	o := b.run("send", "--yes", "--json", file).want(exitOK).object()
	for _, name := range []string{"failed", "rejected", "invalid"} {
		if o.object(c, "outcomes").int(c, name) != 0 || o.int(c, "undecided") != 0 {
			c.Errorf("%v", o)
		}
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		w := b.start("work")
		w.await(`"working"`)
		w.end(signal).want(exitOK)
	}
	for _, command := range []string{"start", "pause", "resume", "cancel", "retry"} {
		batch := "1"
		if command == "retry" {
			batch = "2"
		}
		b.run(command, batch, "--yes").want(exitOK)
	}
})

var _ = promised("exit status 1", []string{
	"| 1 | the program failed: database, Clerk out of reach, bad key, a quota that paused the batch |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	file := b.people("a@example.com")
	send := []string{"send", "--yes", "--json", file}
	b.with("DATABASE_URL=postgres://127.0.0.1:1/x").run(send...).refused(exitFailed, "database")
	b.with("CLERK_API_URL=http://127.0.0.1:1/v1").run(send...).refused(exitFailed, "clerk_unreachable")
	k.ask(http.MethodPost, "/sandbox/faults", `[{"call":"instance","kind":"status","status":401}]`)
	b.run(send...).refused(exitFailed, "clerk_key")
	k.ask(
		http.MethodPost,
		"/sandbox/faults",
		`[{"call":"create","kind":"status","status":402,"code":"user_quota_exceeded"}]`,
	)
	if o := b.run(send...).want(exitFailed); o.object()["error"] == nil {
		c.Errorf("%s", o.out)
	}
	if o := b.in(1, "paused"); o["paused_by"] != "clerk" {
		c.Errorf("%v", o)
	}
	c.saw("1")
})

var _ = promised("exit status 2", []string{
	"| 2 | wrong usage, an unreadable file, no such batch or person |",
}, func(c *check) {
	b := c.bench("CLERK_SECRET_KEY=sk_live_x")
	excel := b.file("odd.xlsx", "PK\x03\x04 broken")
	for _, args := range [][]string{
		{"nothing"}, {"send"}, {"status", "one"}, {"batches", "--no-such-flag"}, {"check", "--max", "rows=none", excel},
		{"check", "/does/not/exist"}, {"check", excel}, {"check", b.TempDir()}, {"check", b.file("no.csv", "First,Last\na,b\n")},
		{"send", "--sandbox", "--yes", "/does/not/exist"}, {"import", "--sandbox", "--yes", "/does/not/exist"},
		{"status", "9"}, {"results", "9"}, {"verify", "9"}, {"start", "9"}, {"pause", "9"}, {"resume", "9"}, {"cancel", "9", "--yes"},
		{"retry", "9"}, {"resend", "9", "--sandbox", "--yes"}, {"undo", "9", "--sandbox", "--yes"},
		{"correct", "9", "1", "--email", "a@example.com", "--sandbox", "--yes"},
		{"why", "nobody@example.com"}, {"erase", "nobody@example.com", "--yes"},
	} {
		if o := b.run(append(args, "--json")...); o.exit != exitUsage {
			c.Errorf("bulkinvite %v: exit status %d, want 2\n%s%s", args, o.exit, o.out, o.err)
		}
	}
})

var _ = promised("exit status 3", []string{
	"| 3 | all decided, some rows `failed`, `rejected` or `invalid`; `check` and `import`: some rows are invalid; `sweep`, `rescind`: a revocation failed; `verify`: something differs |",
}, func(c *check) {
	k, b := c.stage("sk_live_x", "--block", "no@example.com")
	outcome := func(name string, addresses ...string) {
		c.Helper()
		o := b.run("send", "--yes", "--json", b.people(addresses...)).want(exitRows).object()
		if o.object(c, "outcomes").int(c, name) != 1 || o.int(c, "undecided") != 0 {
			c.Errorf("%s: %v", name, o)
		}
	}
	outcome("rejected", "no@example.com", "a@example.com")
	outcome("invalid", "no address", "b@example.com")
	// A row fails if Clerk fails over it for longer than the program tries. That takes too long
	// here, so set it.
	slow := b.people("f@example.com", "g@example.com")
	b.run("import", "--yes", "--no-preflight", slow).want(exitOK)
	b.exec(
		`update results set outcome = 'failed', reason = 'gave_up', decided_at = clock_timestamp() where email = 'f@example.com'`,
	)
	o := b.run("send", "--yes", "--json", slow).want(exitRows).object()
	if o.object(c, "outcomes").int(c, "failed") != 1 {
		c.Errorf("failed: %v", o)
	}
	bad := b.people("no address", "c@example.com")
	b.run("check", bad).want(exitRows)
	b.run("import", "--yes", bad).want(exitRows)
	k.ask(
		http.MethodPost,
		"/sandbox/faults",
		`[{"call":"revoke","kind":"status","status":403,"code":"action_blocked"}]`,
	)
	b.run("sweep", "--older-than", "1ms", "--apply").want(exitRows)
	b.run("rescind", "--email", "a@example.com", "--apply").want(exitRows)
	b.run("verify", "1").want(exitOK)
	b.exec(`update results set outcome = 'failed' where batch_id = 1 and row_number = 1`)
	b.run("verify", "1").want(exitRows)
	c.saw("3")
})

var _ = promised("exit status 4", []string{
	"| 4 | refused or held: not confirmed, the same file again, undelivered mail, paused by a person, a canary, the breaker or its time zone, a state that does not allow what was asked |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	file := b.people("a@example.com", "b@example.com")
	b.run("send", "--json", file).refused(exitHeld, "not_confirmed")
	b.run("import", "--yes", "--start-at", "2099-01-01T00:00:00Z", file).want(exitOK)
	for _, by := range []string{"person", "canary", "breaker", "zone"} {
		b.exec(`update batches set state = 'paused', paused_by = $1 where id = 1`, by)
		b.run("send", "--json", file).refused(exitHeld, "paused")
	}
	b.run("pause", "1", "--json").refused(exitHeld, "state")
	b.run("start", "1", "--json").refused(exitHeld, "state")
	b.run("cancel", "1", "--yes").want(exitOK)
	b.run("resume", "1", "--json").refused(exitHeld, "state")
	b.run("send", "--yes", "--json", file).refused(exitHeld, "same_file")
	if n := len(k.mails()); n != 0 {
		c.Errorf("%d mails", n)
	}
	d := c.bench(k.env("sk_test_x")...)
	d.run("send", "--yes", "--json", d.people(some("m", 101)...)).refused(exitHeld, "undelivered")
})

var _ = promised("exit status 130, and what a signal does", []string{
	"| 130 | interrupted by a signal: what was begun waits to be gone on with |",
	"At the first SIGINT, SIGTERM or SIGHUP (unless it is ignored, as under `nohup`) what is in flight is finished and recorded; a second ends the program at once, which loses nothing either.",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	inFlight := `select count(*) from attempts where call = 'create' and resolved_at is null and deadline > clock_timestamp()`
	slow := func(delay string) {
		c.Helper()
		if delay == "" {
			k.ask(http.MethodDelete, "/sandbox/faults", "")
			return
		}
		k.ask(
			http.MethodPost,
			"/sandbox/faults",
			fmt.Sprintf(`[{"call":"create","kind":"slow","delay":"%s"}]`, delay),
		)
	}
	for i, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		slow("1500ms")
		args := []string{
			"send",
			"--yes",
			"--json",
			"--limit-bulk",
			"off",
			b.people(fmt.Sprintf("a%d@example.com", i), fmt.Sprintf("b%d@example.com", i)),
		}
		p := b.start(append(args, "--limit-create", fmt.Sprintf("%d/1h", 2*i+1))...)
		b.awaits(1, inFlight)
		o := p.end(signal).want(exitInterrupted)
		if o.object().object(c, "error")["code"] != "interrupted" {
			c.Errorf("%s: %s", signal, o.out)
		}
		if n := b.count(`select count(*) from results where batch_id = $1::bigint and outcome = 'invited'`, i+1); n != 1 {
			c.Errorf("%s: %d recorded, want the one that was in flight", signal, n)
		}
		if n := b.count(`select count(*) from attempts where resolved_at is null`); n != 0 {
			c.Errorf("%s: %d attempts without an answer", signal, n)
		}
		slow("")
		if o := b.run(args...).want(exitOK).object(); o.int(c, "batch") != i+1 {
			c.Errorf("it does not go on: %v", o)
		}
	}
	// With nohup, SIGHUP does not end the program.
	file := b.people("hup@example.com")
	slow("2s")
	c.trace.add("nohup")
	nohup := exec.CommandContext(c.Context(), "nohup", binary, "send", "--yes", "--json", file)
	nohup.Env, nohup.Dir = b.env, b.cwd
	out, err := os.Create(filepath.Join(c.TempDir(), "out"))
	if err != nil {
		c.Fatal(err)
	}
	nohup.Stdout, nohup.Stderr = out, out
	if err := nohup.Start(); err != nil {
		c.Fatal(err)
	}
	b.awaits(1, inFlight)
	if err := nohup.Process.Signal(syscall.SIGHUP); err != nil {
		c.Fatal(err)
	}
	if err := nohup.Wait(); err != nil {
		text, _ := os.ReadFile(out.Name())
		c.Errorf("under nohup: %v\n%s", err, text)
	}
	// The second signal ends the program at once, and nothing is lost.
	slow("30s")
	args := []string{"send", "--yes", "--json", "--limit-bulk", "off", b.people("twice@example.com")}
	p := b.start(args...)
	b.awaits(1, inFlight)
	for range 2 {
		if err := p.Process.Signal(syscall.SIGINT); err != nil {
			c.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // two pending signals of the same kind arrive as one
	}
	began := time.Now()
	p.wait().want(exitInterrupted)
	if took := time.Since(began); took > 10*time.Second {
		c.Errorf("it ended %s after the second signal", took)
	}
	slow("")
	b.exec(`update attempts set deadline = clock_timestamp() where resolved_at is null`)
	b.run(append(args, "--recover-after", "1s", "--request-timeout", "3s")...).want(exitOK)
	for address, n := range k.mails() {
		if n != 1 {
			c.Errorf("%s got %d mails", address, n)
		}
	}
	if n := len(k.mails()); n != 8 {
		c.Errorf("%d people were mailed, want 8: %v", n, k.mails())
	}
})
