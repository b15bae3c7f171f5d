package contract_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// upload makes an unconfirmed draft, as the page does.
func (s *server) upload(text string) {
	s.Helper()
	header := http.Header{"Authorization": {"Bearer " + s.token}, "Content-Type": {"text/csv"}}
	if status, answer := request(s.check, http.MethodPost, s.base+"/api/v1/batches?file_name=draft.csv", header, text); status != http.StatusCreated {
		s.Fatalf("upload: %d %s", status, answer)
	}
}

// in fails the test unless a batch has a state, and returns its document.
func (b *bench) in(batch int, state string) object {
	b.Helper()
	o := b.run("status", fmt.Sprint(batch), "--json").want(exitOK).object()
	if o["state"] != state {
		b.Errorf("batch %d is %v, want %s", batch, o["state"], state)
	}
	return o
}

var _ = promised("start: what nobody has confirmed is shown and asked for", []string{
	"| `start BATCH` | lets a draft run. One that nobody has confirmed since it was uploaded or changed shows its plan and asks, of a production instance for the number of people; off a terminal that needs `--yes`, else 4. What `import --draft` has asked for is not asked again. `--allow-undelivered` |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	s := b.serve()
	s.upload("email\na@example.com\nb@example.com\n")
	s.upload("email\nc@example.com\n")
	b.run("start", "1", "--json").refused(exitHeld, "not_confirmed")
	const question = "Type the number of people to invite them: "
	for _, answer := range []string{"y", "3", ""} {
		b.sit(answers(question, answer), "start", "1").want(exitHeld).says("2  to invite")
	}
	b.in(1, "draft")
	b.sit(answers(question, "2"), "start", "1").want(exitOK).says("2  to invite")
	b.in(1, "running")
	b.run("start", "2", "--yes").want(exitOK)
	b.run("import", "--draft", "--yes", b.people("d@example.com")).want(exitOK)
	b.run("start", "3").want(exitOK)
	// A draft that was changed after its confirmation must be confirmed again.
	b.run("import", "--draft", "--yes", b.people("e@example.com")).want(exitOK)
	header := http.Header{"Authorization": {"Bearer " + s.token}, "Content-Type": {"application/json"}}
	if status, text := request(c, http.MethodPatch, s.base+"/api/v1/batches/4/options", header, `{"priority":1}`); status != http.StatusOK {
		c.Fatalf("%d %s", status, text)
	}
	b.run("start", "4", "--json").refused(exitHeld, "not_confirmed")
	b.run("start", "1", "--json", "--yes").refused(exitHeld, "state")
	b.run("start", "99", "--json", "--yes").refused(exitUsage, "no_batch")

	// For a development instance it asks yes or no, and refuses more mails than that delivers.
	d := c.bench(k.env("sk_test_x")...)
	t := d.serve()
	t.upload("email\nf@example.com\n")
	d.sit(answers("[y/N]", "n"), "start", "1").want(exitHeld)
	d.sit(answers("[y/N]", "y"), "start", "1").want(exitOK)
	t.upload("email\n" + strings.Join(some("many", 101), "\n"))
	d.run("start", "2", "--yes", "--json").refused(exitHeld, "undelivered")
	d.run("start", "2", "--yes", "--allow-undelivered").want(exitOK)
	c.saw("4")
})

var _ = promised("pause, resume, cancel", []string{
	"| `pause BATCH`, `resume BATCH` | stops a running batch, lets a paused one go on, whoever or whatever paused it |",
	"| `cancel BATCH` | stops a batch for good, after a confirmation; who was invited stays invited. It is not resumed |",
	"`start`, `pause`, `resume`, `cancel`, `retry` take `--actor`, need no key, and print what `status` does.",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", "--json", "--canary", "1", b.people(some("a", 3)...)).want(exitOK)
	b.run("import", "--yes", "--draft", b.people(some("b", 3)...)).want(exitOK)
	keyless := b.with("CLERK_SECRET_KEY", "CLERK_API_URL")
	same := func(batch string, args ...string) object {
		c.Helper()
		o := keyless.run(append(args, batch, "--json", "--actor", "olga")...).want(exitOK).object()
		now := keyless.run("status", batch, "--json").want(exitOK).object()
		for key := range now {
			if _, there := o[key]; !there || len(o) != len(now) {
				c.Errorf("%v prints %v, and status %v", args, o, now)
				break
			}
		}
		return o
	}
	state := func(o object, want string) {
		c.Helper()
		if o["state"] != want {
			c.Errorf("%v, want %s", o["state"], want)
		}
	}
	state(same("2", "start"), "running")
	state(same("2", "pause"), "paused")
	b.run("work", "--until-idle").want(exitOK)
	k.pending(some("a", 3)...)
	state(same("2", "resume"), "running")
	// resume also works for each other reason of a pause.
	for _, by := range []string{"canary", "breaker", "clerk", "zone"} {
		b.exec(`update batches set state = 'paused', paused_by = $1 where id = 2`, by)
		state(same("2", "resume"), "running")
	}
	b.exec(
		`update results set outcome = 'failed', attempt_id = null, clerk_invitation_id = null, status = null where batch_id = 1 and row_number = 1`,
	)
	state(same("1", "retry"), "running")
	keyless.run("cancel", "2", "--json").refused(exitHeld, "not_confirmed")
	keyless.sit(answers("[y/N]", "n"), "cancel", "2").want(exitHeld)
	o := same("2", "cancel", "--yes")
	if state(o, "cancelled"); o.object(c, "outcomes").int(c, "cancelled") != 3 {
		c.Errorf("%v", o)
	}
	keyless.run("resume", "2", "--json").refused(exitHeld, "state")
	keyless.run("cancel", "1", "--yes").want(exitOK)
	k.pending(some("a", 3)...)
	if n := b.count(`select count(*) from events where actor = 'olga'`); n != 9 {
		c.Errorf("%d events of olga, want 9", n)
	}
})

var _ = promised("retry: rows that failed, and with --rejected those that were rejected", []string{
	"| `retry BATCH` | takes up the rows that ended `failed`, and says how many on standard error; `--rejected` takes up those that ended `rejected` too; rows that `correct` set right stay as they are |",
}, func(c *check) {
	k, b := c.stage("sk_live_x", "--block", "no@example.com", "--block", "wrong@example.com")
	o := b.run("send", "--yes", "--json", b.people("a@example.com", "no@example.com", "wrong@example.com")).
		want(exitRows).
		object()
	if o.object(c, "outcomes").int(c, "rejected") != 2 {
		c.Fatalf("%v", o)
	}
	b.exec(
		`update results set outcome = 'failed', attempt_id = null, clerk_invitation_id = null, status = null where row_number = 1`,
	)
	b.run("correct", "1", "3", "--yes", "--email", "right@example.com").want(exitOK)
	r := b.run("retry", "1", "--json").want(exitOK)
	if !strings.Contains(r.err, "1 row is taken up again") || r.object().int(c, "undecided") != 1 {
		c.Errorf("%+v", r)
	}
	b.exec(`update batches set state = 'done', finished_at = clock_timestamp() where id = 1`)
	b.exec(
		`update results set outcome = 'failed', decided_at = clock_timestamp() where row_number = 1 and batch_id = 1`,
	)
	r = b.run("retry", "1", "--rejected", "--json").want(exitOK)
	if o := r.object(); !strings.Contains(r.err, "2 rows are taken up again") || o.int(c, "undecided") != 2 ||
		o.object(c, "outcomes").int(c, "rejected") != 1 {
		c.Errorf("%+v", r)
	}
	k.pending("a@example.com", "right@example.com")
})

var _ = promised("resend: invites again who has not accepted", []string{
	"| `resend BATCH` | invites again who has not accepted, as a batch of its own, and reports as `send` does: `--pending-for` (`7d`), `--cooldown` (`3d`), `--allow-undelivered`, `--actor`. Given again while that batch is not over, it goes on with it |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", b.people("a@example.com", "b@example.com", "c@example.com", "d@example.com")).want(exitOK)
	k.ask(http.MethodPost, "/sandbox/accept", `{"addresses":["d@example.com"]}`)
	b.run("reconcile").want(exitOK)
	// By default a resend leaves out people who were invited less than seven days ago.
	young := b.run("resend", "1", "--yes", "--json").want(exitOK).object()
	if young.int(c, "people") != 0 || young.int(c, "younger") != 3 || young.int(c, "accepted") != 1 {
		c.Errorf("%v", young)
	}
	b.exec(`update results set decided_at = decided_at - interval '6 days 23 hours' where row_number <> 1`)
	b.exec(`update results set decided_at = decided_at - interval '7 days 1 minute' where row_number = 1`)
	b.run("resend", "1", "--json").refused(exitHeld, "not_confirmed")
	o := b.run("resend", "1", "--yes", "--json", "--actor", "olga").want(exitOK).object()
	if o.int(c, "batch") != 2 || o.int(c, "rows") != 1 || o.object(c, "outcomes").int(c, "invited") != 1 {
		c.Errorf("the resend of what is seven days old: %v", o)
	}
	sent := b.run("status", "1", "--json").want(exitOK).object()
	for key := range sent {
		if _, there := o[key]; !there {
			c.Errorf("resend reports without %q, which send has", key)
		}
	}
	if k.mails()["a@example.com"] != 2 || k.mails()["b@example.com"] != 1 || k.mails()["d@example.com"] != 1 {
		c.Errorf("mails: %v", k.mails())
	}
	// By default a resend leaves out people who were resent less than three days ago.
	cool := b.run("resend", "1", "--yes", "--json", "--pending-for", "1ms", "--cooldown", "3d").want(exitOK).object()
	if cool.int(c, "batch") != 3 || cool.int(c, "rows") != 2 {
		c.Errorf("%v", cool)
	}
	b.exec(`update results set revoke_sent = revoke_sent - interval '2 days 23 hours' where batch_id = 2`)
	if o := b.run("resend", "1", "--yes", "--json", "--pending-for", "1ms").want(exitOK).
		object(); o.int(c, "cooling") != 3 {
		c.Errorf("within three days: %v", o)
	}
	b.exec(`update results set revoke_sent = revoke_sent - interval '2 hours' where batch_id = 2`)
	c.saw("7d", "3d")
	// The same resend again resumes the batch that has not ended.
	p := b.start("resend", "1", "--yes", "--json", "--pending-for", "1ms", "--limit-create", "1/1h")
	b.awaits(4, `select count(*) from batches`)
	p.end(syscall.SIGINT)
	if o := b.run("resend", "1", "--yes", "--json", "--pending-for", "1ms").want(exitOK).
		object(); o.int(c, "rows") != 1 {
		c.Errorf("given again: %v", o)
	}
	if n := b.count(`select count(*) from batches`); n != 4 {
		c.Errorf("%d batches: another was made for the same resend", n)
	}
	if n := b.count(`select count(*) from batches where actor = 'olga'`); n != 1 {
		c.Errorf("%d batches of olga", n)
	}
	d := c.bench(k.env("sk_test_x")...)
	d.run("send", "--yes", "--allow-undelivered", d.people(some("m", 101)...)).want(exitOK)
	d.run("resend", "1", "--yes", "--json", "--pending-for", "1ms").refused(exitHeld, "undelivered")
	d.run("resend", "1", "--json", "--pending-for", "1ms", "--allow-undelivered").refused(exitHeld, "not_confirmed")
})

var _ = promised("undo: takes back what a batch sent", []string{
	"| `undo BATCH` | cancels what is left of a batch, waits for what is under way, and revokes what it sent and is pending; asks; prints what `sweep` does; `--actor`. Resends of the batch and corrections of its rows are undone with it; invitations of other files stay |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", b.people("a@example.com", "b@example.com", "c@example.com", "d@example.com")).want(exitOK)
	b.run("send", "--yes", b.people("other@example.com")).want(exitOK)
	b.run("resend", "1", "--yes", "--pending-for", "1ms").want(exitOK)
	b.run("correct", "1", "2", "--yes", "--email", "right@example.com").want(exitOK)
	k.ask(http.MethodPost, "/sandbox/accept", `{"addresses":["d@example.com"]}`)
	b.run("undo", "1", "--json").refused(exitHeld, "not_confirmed")
	b.sit(answers("Type the number", "9"), "undo", "1").want(exitHeld)
	k.pending("a@example.com", "c@example.com", "other@example.com", "right@example.com")
	o := b.run("undo", "1", "--yes", "--json", "--actor", "olga").want(exitOK).object()
	if o["kind"] != "undo" || o["started_by"] != "olga" || o.int(c, "revoked") != 3 {
		c.Errorf("%v", o)
	}
	k.pending("other@example.com")
	swept := b.run("sweep", fmt.Sprint(o.int(c, "sweep")), "--json").want(exitOK).object()
	for key := range swept {
		if _, there := o[key]; !there || len(o) != len(swept) {
			c.Errorf("undo prints %v, and sweep %v", o, swept)
			break
		}
	}
	// undo cancels the waiting rows and waits for the open request.
	k.ask(http.MethodPost, "/sandbox/faults", `[{"call":"create","kind":"slow","delay":"4s"}]`)
	last := b.run("import", "--yes", "--json", b.people("x@example.com", "y@example.com")).
		want(exitOK).
		object().
		int(c, "batch")
	w := b.start("work", "--limit-bulk", "off", "--until-idle")
	b.awaits(1, `select least(1, count(*))::int from attempts where resolved_at is null and call = 'create'`)
	b.run("undo", fmt.Sprint(last), "--yes", "--json").want(exitOK)
	w.wait()
	k.pending("other@example.com")
	if o := b.in(last, "cancelled"); o.int(c, "undecided") != 0 {
		c.Errorf("%v", o)
	}
	c.saw("undo BATCH")
})

var _ = promised("correct: takes a mistyped invitation back", []string{
	"| `correct BATCH ROW --email NEW` | takes a mistyped invitation back, or gives up the row that waits, and invites the right address, as a batch of one row that points to it; revokes also what a resend, or another file's `--on-duplicate resend`, made in place of that invitation; refuses a draft (4); asks, and says so where the first was accepted; reports as `send` does, and 3 too where the first could not be revoked |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", b.people(some("w", 6)...)).want(exitOK)
	fix := func(row int, args ...string) outcome {
		c.Helper()
		return b.run(
			append(
				[]string{
					"correct",
					"1",
					fmt.Sprint(row),
					"--email",
					fmt.Sprintf("right%d@example.com", row),
					"--json",
				},
				args...)...)
	}
	fix(1).refused(exitHeld, "not_confirmed")
	b.sit(answers("Invite the other address? [y/N]", "n"), "correct", "1", "1", "--email", "right1@example.com").
		want(exitHeld)
	o := fix(1, "--yes").want(exitOK).object()
	sent := b.in(1, "done")
	for key := range sent {
		if _, there := o[key]; !there {
			c.Errorf("correct reports without %q, which send has", key)
		}
	}
	if o.int(c, "batch") != 2 || o.int(c, "rows") != 1 ||
		b.count(`select corrects_row from batches where id = 2 and corrects = 1`) != 1 {
		c.Errorf("%v", o)
	}
	// Correct an invitation that a resend made, and one that another file's resend made.
	b.run("resend", "1", "--yes", "--pending-for", "1ms").want(exitOK)
	fix(2, "--yes").want(exitOK)
	b.run("send", "--yes", "--on-duplicate", "resend", b.people("w002@example.com", "z@example.com")).want(exitOK)
	fix(3, "--yes").want(exitOK)
	k.ask(http.MethodPost, "/sandbox/accept", `{"addresses":["w003@example.com"]}`)
	b.run("reconcile").want(exitOK)
	b.sit(answers("Invite the other address? [y/N]", "n"), "correct", "1", "4", "--email", "right4@example.com").
		want(exitHeld).
		says("ACCEPTED")
	k.ask(
		http.MethodPost,
		"/sandbox/faults",
		`[{"call":"revoke","kind":"status","status":403,"code":"action_blocked"}]`,
	)
	fix(5, "--yes").want(exitRows)
	k.ask(http.MethodDelete, "/sandbox/faults", "")
	k.pending(
		"right1@example.com",
		"right2@example.com",
		"right3@example.com",
		"right5@example.com",
		"w004@example.com",
		"w005@example.com",
		"z@example.com",
	)
	// correct cancels a waiting row, and refuses a draft.
	b.run("import", "--yes", "--start-at", "2099-01-01T00:00:00Z", b.people("late@example.com")).want(exitOK)
	waits := b.run("batches", "--json").want(exitOK).objects()[0].int(c, "batch")
	b.run("correct", fmt.Sprint(waits), "1", "--yes", "--email", "soon@example.com").want(exitOK)
	if o := b.in(waits, "done"); o.int(c, "undecided") != 0 || k.mails()["late@example.com"] != 0 {
		c.Errorf("a row that waits: %v", o)
	}
	b.run("import", "--yes", "--draft", b.people("draft@example.com")).want(exitOK)
	draft := b.run("batches", "--json").want(exitOK).objects()[0].int(c, "batch")
	b.run("correct", fmt.Sprint(draft), "1", "--yes", "--json", "--email", "x@example.com").refused(exitHeld, "draft")
	c.saw("4")
})

var _ = promised("batches, status, results, verify", []string{
	"| `batches` | what there is |",
	"| `status BATCH` | where a batch stands, what is left to do and until when, and which limits are frozen; `--tz ZONE` |",
	"| `results BATCH` | every row in the file's order: the file's own columns, then ours; `--outcome`, `--format table\\|csv\\|json` |",
	"| `verify BATCH` | holds a batch against the certificate of its end: was a row, an attempt, or a read that proves an outcome changed, added or removed since? `--head HASH`, as the report gave it; without it the database vouches for itself ([audit.md](audit.md#proof)) |",
}, func(c *check) {
	_, b := c.stage("sk_live_x")
	file := b.file("all.csv", "Team,email\nred,z@example.com\nblue,no address\ngreen,a@example.com\n")
	report := b.run("send", "--yes", "--json", file).want(exitRows).object()
	head := fmt.Sprint(report.object(c, "certificate")["head"])
	b.run("import", "--yes", b.people(some("w", 3)...)).want(exitOK)
	if list := b.run("batches", "--json").want(exitOK).
		objects(); len(list) != 2 || list[1]["file_name"] != "all.csv" {
		c.Errorf("%v", list)
	}
	b.run("batches").want(exitOK).says("all.csv")
	b.exec(
		`update buckets set frozen_at = clock_timestamp(), frozen_until = clock_timestamp() + interval '30 minutes', frozen_reason = 'a 429' where name = 'create'`,
	)
	o := b.in(2, "running")
	if o["eta"] == nil || o["plan"] == nil || o.int(c, "undecided") != 3 || len(o["frozen"].([]any)) != 1 {
		c.Errorf("%v", o)
	}
	at := func(zone string) string { return b.run("status", "2", "--tz", zone).want(exitOK).says("3").out }
	if at("UTC") == at("Asia/Kathmandu") {
		c.Errorf("--tz changes nothing: %s", at("UTC"))
	}
	b.run("status", "99", "--json").refused(exitUsage, "no_batch")

	var teams []string
	for _, row := range b.run("results", "1", "--json").want(exitOK).objects() {
		teams = append(teams, fmt.Sprint(row["Team"], " ", row["bulkinvite_outcome"]))
	}
	if got := strings.Join(teams, ", "); got != "red invited, blue invalid, green invited" {
		c.Errorf("results: %s", got)
	}
	if first, _, _ := strings.Cut(b.run("results", "1", "--format", "csv").want(exitOK).out, "\n"); !strings.HasPrefix(
		strings.TrimPrefix(first, "\ufeff"),
		"Team,email,bulkinvite_outcome,",
	) {
		c.Errorf("--format csv: %s", first)
	}
	b.run("results", "1", "--format", "table").want(exitOK).says("z@example.com")
	if rows := b.run("results", "1", "--outcome", "invalid", "--format", "json").want(exitOK).
		objects(); len(rows) != 1 || rows[0]["Team"] != "blue" {
		c.Errorf("--outcome: %v", rows)
	}

	differs := func(args ...string) string {
		c.Helper()
		var what []string
		o := b.run(append([]string{"verify", "1", "--json"}, args...)...)
		for _, one := range asObjects(c, o.object()["differences"]) {
			what = append(what, fmt.Sprint(one["what"]))
		}
		if holds := o.object()["holds"] == true; holds != (o.exit == exitOK) || holds != (len(what) == 0) {
			c.Errorf("exit status %d: %s", o.exit, o.out)
		}
		return strings.Join(what, " ")
	}
	if got := differs("--head", head) + differs(); got != "" {
		c.Errorf("before anything is changed: %s", got)
	}
	if got := differs("--head", strings.Repeat("0", 64)); got != "head" {
		c.Errorf("another head: %s", got)
	}
	for _, one := range []struct{ do, undo, want string }{
		{`update results set outcome = 'failed' where batch_id = 1 and row_number = 2`, `update results set outcome = 'invalid' where batch_id = 1 and row_number = 2`, "rows"},
		{`update attempts set http_status = 500 where id = (select min(id) from attempts)`, `update attempts set http_status = 200 where id = (select min(id) from attempts)`, "attempts"},
	} {
		b.exec(one.do)
		if got := differs("--head", head); got != one.want {
			c.Errorf("%s: %q, want %q", one.do, got, one.want)
		}
		if got := differs(); got != one.want {
			c.Errorf("the database vouches for itself after %s: %q, want %q", one.do, got, one.want)
		}
		b.exec(one.undo)
	}
	b.exec(`delete from results where batch_id = 1 and row_number = 3`)
	if got := differs("--head", head); got == "" {
		c.Error("a row that is gone is not found")
	}
	b.run("verify", "2", "--json").want(exitHeld)
})

var _ = testedElsewhere("verify: reads that prove outcomes", []string{
	"or a read that proves an outcome changed, added or removed since?",
}, "the many ways to change a read are one by one in the test of the command", "cmd/bulkinvite/verify_test.go TestVerifyReads")

var _ = promised("audit and why", []string{
	"| `audit` | rows across batches; `--email`, `--batch`, `--outcome`, `--status`, `--actor` (who sent the file), `--since` and `--until` (when rows were decided, or imported where they are not; `2026-03-01`, `2026-03-01 08:00` in `--tz`, RFC 3339), `--trace` (Clerk's trace id of a request), `--format`; [audit.md](audit.md#questions) has the questions of auditors with command and SQL |",
	"| `why EMAIL` | one person's whole story |",
}, func(c *check) {
	k, b := c.stage("sk_live_x", "--block", "no@example.com")
	b.run("send", "--yes", "--actor", "maria", b.people("a@example.com", "no@example.com")).want(exitRows)
	b.run("send", "--yes", "--actor", "tom", b.people("a@example.com", "b@example.com")).want(exitOK)
	b.run("import", "--yes", "--draft", "--actor", "tom", b.people("c@example.com")).want(exitOK)
	k.ask(http.MethodPost, "/sandbox/accept", `{"addresses":["b@example.com"]}`)
	b.run("reconcile").want(exitOK)
	b.exec(`update results set decided_at = '2026-03-01 07:30:00+00' where batch_id = 1`)
	b.exec(`update batches set created_at = '2026-02-01 00:00:00+00' where id <> 2`)
	found := func(args ...string) string {
		c.Helper()
		var rows []string
		for _, row := range b.run(append([]string{"audit", "--json"}, args...)...).want(exitOK).objects() {
			rows = append(rows, fmt.Sprint(row["batch_id"], "/", row["row_number"]))
		}
		return strings.Join(rows, " ")
	}
	var trace string
	if err := b.sql().QueryRow(c.Context(), `select trace_id from attempts where trace_id is not null order by id limit 1`).Scan(&trace); err != nil {
		c.Fatal(err)
	}
	for _, one := range []struct {
		args []string
		want string
	}{
		{nil, "1/1 1/2 2/1 2/2 3/1"},
		{[]string{"--email", "A@Example.com"}, "1/1 2/1"},
		{[]string{"--batch", "2"}, "2/1 2/2"},
		{[]string{"--outcome", "rejected"}, "1/2"},
		{[]string{"--status", "accepted"}, "2/2"},
		{[]string{"--actor", "maria"}, "1/1 1/2"},
		{[]string{"--since", "2026-03-01", "--until", "2026-03-02", "--tz", "UTC"}, "1/1 1/2"},
		{[]string{"--until", "2026-03-01 08:00", "--tz", "UTC"}, "1/1 1/2 3/1"},
		{[]string{"--until", "2026-03-01 08:00", "--tz", "Europe/Berlin"}, "3/1"},
		{[]string{"--since", "2026-03-01T08:30:00+01:00", "--until", "2026-03-01T08:30:01+01:00"}, "1/1 1/2"},
	} {
		if got := found(one.args...); got != one.want {
			c.Errorf("audit %v: %s, want %s", one.args, got, one.want)
		}
	}
	if got := found("--trace", trace); !strings.HasPrefix(got, "1/") {
		c.Errorf("audit --trace: %q", got)
	}
	b.run("audit", "--format", "csv").want(exitOK).says("a@example.com,")
	b.run("audit", "--format", "xml", "--json").refused(exitUsage, "usage")
	story := b.run("why", "a@example.com", "--json").want(exitOK).object()
	if rows := asObjects(c, story["rows"]); len(rows) != 2 {
		c.Errorf("%v", story)
	}
	b.run("why", "a@example.com").want(exitOK).says("batch 2")
	b.run("why", "nobody@example.com", "--json").want(exitUsage)
	text, err := os.ReadFile("../../docs/audit.md")
	if err != nil || !strings.Contains(string(text), "\n## Questions") ||
		!strings.Contains(string(text), "bulkinvite audit") ||
		!strings.Contains(string(text), "select") {
		c.Errorf("audit.md has no questions with command and SQL: %v", err)
	}
})
