package contract_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"bulkinvite/internal/postgres/postgrestest"
)

var _ = promised("sweep: revokes what is stale", []string{
	"| `sweep` | revokes what is stale: pending invitations older than `--older-than` (`14d`), or as their batch says; `--scope ours\\|all`; only shows unless `--apply`, which asks on a terminal (of a production instance for the number); `--allow` passes the threshold; `--tz ZONE`; `--actor` |",
	"| `sweep NUMBER` | shows that sweep; `--allow` lets a held one go on, `--apply` goes on with one that was left, `--stop` ends it; `sweep --list` lists them |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", b.people(some("a", 30)...)).want(exitOK)
	b.run("send", "--yes", "--revoke-after", "1ms", b.people("short@example.com")).want(exitOK)
	k.ask(http.MethodPost, "/sandbox/invitations", `["stray@example.com"]`)
	first := b.run("sweep", "--json").want(exitOK).object()
	if first.int(c, "older_than") != 14*24*3600 || first["scope"] != "ours" || first["apply"] != false ||
		first.int(c, "stale") != 1 ||
		first.int(c, "revoked") != 0 {
		c.Errorf("by default: %v", first)
	}
	c.saw("14d")
	all := b.run("sweep", "--scope", "all", "--older-than", "1ms", "--json").want(exitOK).object()
	ours := b.run("sweep", "--scope", "ours", "--older-than", "1ms", "--json").want(exitOK).object()
	if all.int(c, "stale") != 32 || ours.int(c, "stale") != 31 {
		c.Errorf("all: %v, ours: %v", all["stale"], ours["stale"])
	}
	c.saw("--scope ours\\|all")
	// On a terminal it asks for the number. More than the threshold is held.
	const question = "Type the number of invitations to revoke them: "
	b.sit(answers(question, "y"), "sweep", "--apply").want(exitHeld)
	if n := k.standing()["pending short@example.com"]; n != 1 {
		c.Errorf("revoked without a confirmation")
	}
	b.sit(answers(question, "1"), "sweep", "--apply", "--tz", "Europe/Berlin").want(exitOK)
	if n := k.standing()["revoked short@example.com"]; n != 1 {
		c.Errorf("not revoked: %v", k.standing())
	}
	held := b.run("sweep", "--apply", "--older-than", "1ms", "--json", "--actor", "olga").want(exitHeld).object()
	if held["held"] != true || held["state"] != "held" || held["started_by"] != "olga" ||
		held.int(c, "revoked") != 0 {
		c.Errorf("more than the threshold: %v", held)
	}
	number := func(o object) string { return fmt.Sprint(o.int(c, "sweep")) }
	if shown := b.run("sweep", number(held), "--json").want(exitOK).
		object(); shown["state"] != "held" || number(shown) != number(held) {
		c.Errorf("%v", shown)
	}
	if stopped := b.run("sweep", number(held), "--stop", "--json").want(exitOK).
		object(); stopped["state"] != "done" || stopped.int(c, "revoked") != 0 {
		c.Errorf("--stop: %v", stopped)
	}
	held = b.run("sweep", "--apply", "--older-than", "1ms", "--json").want(exitHeld).object()
	k.ask(http.MethodPost, "/sandbox/faults", `[{"call":"revoke","kind":"slow","delay":"300ms"}]`)
	p := b.start("sweep", number(held), "--allow", "--actor", "tom")
	b.awaits(
		1,
		`select least(1, count(*))::int from revocations where outcome = 'revoked' and sweep_id = $1::bigint`,
		held.int(c, "sweep"),
	)
	p.end(syscall.SIGINT).want(exitInterrupted)
	k.ask(http.MethodDelete, "/sandbox/faults", "")
	if left := b.run("sweep", number(held), "--json").want(exitOK).
		object(); left["state"] != "running" || left["allowed_by"] != "tom" {
		c.Errorf("a sweep that was left: %v", left)
	}
	if done := b.run("sweep", number(held), "--apply", "--json").want(exitOK).
		object(); done["state"] != "done" || done.int(c, "revoked") != 30 {
		c.Errorf("--apply of one that was left: %v", done)
	}
	k.pending("stray@example.com")
	b.run("send", "--yes", b.people(some("b", 30)...)).want(exitOK)
	if done := b.run("sweep", "--apply", "--allow", "--older-than", "1ms", "--json").want(exitOK).
		object(); done.int(c, "revoked") != 30 {
		c.Errorf("--allow: %v", done)
	}
	list := b.run("sweep", "--list", "--json").want(exitOK).objects()
	if len(list) < 6 || list[0].int(c, "sweep") < list[1].int(c, "sweep") {
		c.Errorf("--list: %v", list)
	}
	b.run("sweep", "999", "--json").want(exitUsage)
	d := c.bench(k.env("sk_test_x")...)
	d.run("send", "--yes", "--revoke-after", "1ms", d.people("dev@example.com")).want(exitOK)
	d.sit(answers("Revoke 1 invitation? [y/N]", "n"), "sweep", "--apply").want(exitHeld)
	d.sit(answers("Revoke 1 invitation? [y/N]", "y"), "sweep", "--apply").want(exitOK)
})

var _ = promised("rescind: takes the people listed back", []string{
	"| `rescind FILE` | revokes the pending invitations of the people listed and stops those still waiting; `--email ADDRESS`, `--not-in FILE --batch BATCH`; only shows unless `--apply`, which asks on a terminal as `sweep` does; `--allow` passes the threshold; `--actor` |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", b.people(some("a", 30)...)).want(exitOK)
	b.run("import", "--yes", "--draft", b.people("waits@example.com")).want(exitOK)
	file := b.people("a000@example.com", "waits@example.com")
	shown := b.run("rescind", file, "--json").want(exitOK).object()
	if shown.int(c, "pending") != 1 || shown.int(c, "waiting") != 1 || shown.int(c, "revoked") != 0 {
		c.Errorf("%v", shown)
	}
	const question = "Type the number of invitations to revoke them: "
	b.sit(answers(question, "y"), "rescind", "--email", "a000@example.com", "--apply").want(exitHeld)
	if k.standing()["pending a000@example.com"] != 1 {
		c.Error("revoked without a confirmation")
	}
	done := b.run("rescind", file, "--apply", "--json", "--actor", "olga").want(exitOK).object()
	if done.int(c, "revoked") != 1 || done.int(c, "cancelled") != 1 ||
		b.count(`select count(*) from sweeps where started_by = 'olga'`) != 1 {
		c.Errorf("%v", done)
	}
	b.sit(answers(question, "1"), "rescind", "--email", "a001@example.com", "--apply").want(exitOK)
	if k.standing()["revoked a001@example.com"] != 1 {
		c.Error("--email revoked nothing")
	}
	few := b.people(some("a", 4)...)
	if o := b.run("rescind", "--not-in", few, "--batch", "1", "--apply", "--json").want(exitHeld); o.object()["held"] != true {
		c.Errorf("more than the threshold: %s", o.out)
	}
	if n := len(k.standing()); n != 30 {
		c.Errorf("%v", k.standing())
	}
	if o := b.run("rescind", "--not-in", few, "--batch", "1", "--apply", "--allow", "--json").want(exitOK).
		object(); o.int(c, "revoked") != 26 {
		c.Errorf("--allow: %v", o)
	}
	k.pending("a002@example.com", "a003@example.com")
	c.saw("sweep")
})

var _ = promised("reconcile and drift", []string{
	"| `reconcile` | reads every invitation at Clerk, brings `status` up to date, and counts drift; `--actor` |",
	"| `drift` | where Clerk and our rows tell different stories, as the last `reconcile` found it |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", b.people("a@example.com", "b@example.com")).want(exitOK)
	k.ask(http.MethodPost, "/sandbox/accept", `{"addresses":["a@example.com"]}`)
	k.ask(http.MethodPost, "/sandbox/invitations", `["stray@example.com"]`)
	if n := len(b.run("drift", "--json").want(exitOK).objects()); n != 0 {
		c.Errorf("%d before anything was reconciled", n)
	}
	o := b.run("reconcile", "--json", "--actor", "olga").want(exitOK).object()
	if o.int(c, "scanned") != 3 || o.int(c, "accepted") != 1 || o.object(c, "drift").int(c, "unexplained") != 1 {
		c.Errorf("%v", o)
	}
	if n := b.count(`select count(*) from results where email = 'a@example.com' and status = 'accepted'`); n != 1 {
		c.Error("the status was not brought up to date")
	}
	if n := b.count(`select count(*) from reconciles where started_by = 'olga'`); n != 1 {
		c.Errorf("%d of olga", n)
	}
	if list := b.run("drift", "--json").want(exitOK).
		objects(); len(list) != 1 || list[0]["email"] != "stray@example.com" || list[0]["kind"] != "unexplained" {
		c.Errorf("%v", list)
	}
	c.saw("reconcile")
})

var _ = promised("erase and purge", []string{
	"| `erase EMAIL` | removes a person's address, name and original rows for good, in every batch, and keeps counts and a keyed hash; rows that wait end as `cancelled`, and later files don't invite them. Asks; off a terminal it needs `--yes`, else 4. `--revoke` revokes pending invitations first; `--wait` (`2m`) for a request that is under way; `--actor` ([audit.md](audit.md#erasing)) |",
	"| `purge --older-than AGE` | removes the same of all batches that ended longer ago; asks; `--actor`. `work --purge-older-than AGE` (`BULKINVITE_PURGE_OLDER_THAN`) does so by itself |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	whole := func() string {
		c.Helper()
		var all strings.Builder
		for _, table := range []string{"results", "events", "batches", "attempt_people", "sightings", "drafts"} {
			var text *string
			if err := b.sql().QueryRow(c.Context(), `select case when to_regclass($1) is null then '' else
				(select query_to_xml('select * from ' || $1, true, false, '')::text) end`, table).Scan(&text); err != nil {
				c.Fatal(err)
			}
			all.WriteString(*text)
		}
		return all.String()
	}
	file := func(addresses ...string) string {
		text := "email,Name\n"
		for _, a := range addresses {
			text += a + ",Zaphod-" + a[:1] + "\n"
		}
		return b.file("names.csv", text)
	}
	b.run("send", "--yes", file("anna@example.com", "bert@example.com", "carl@example.com")).want(exitOK)
	b.run("import", "--yes", "--start-at", "2099-01-01T00:00:00Z", file("anna@example.com", "dora@example.com")).
		want(exitOK)
	b.run("erase", "anna@example.com", "--json").refused(exitHeld, "not_confirmed")
	b.sit(answers("Revoke it first? [y/N] ", "n", "for good? [y/N] ", "n"), "erase", "anna@example.com").
		want(exitHeld)
	if !strings.Contains(whole(), "anna@") {
		c.Error("erased without a confirmation")
	}
	o := b.run("erase", "anna@example.com", "--yes", "--json", "--actor", "olga").want(exitOK).object()
	if o.int(c, "rows") != 2 || o.int(c, "cancelled") != 1 || o.int(c, "pending") != 1 || o.int(c, "revoked") != 0 {
		c.Errorf("%v", o)
	}
	if all := whole(); strings.Contains(all, "anna@") || strings.Contains(all, "Zaphod-a") ||
		!strings.Contains(all, "Zaphod-b") {
		c.Errorf("after erase: %s", all)
	}
	if d := b.in(1, "done"); d.int(c, "rows") != 3 || d.object(c, "outcomes").int(c, "invited") != 3 {
		c.Errorf("counts: %v", d)
	}
	if n := b.count(`select count(*) from erasures where actor = 'olga'`); n != 1 {
		c.Errorf("%d erasures of olga", n)
	}
	if n := b.count(`select count(*) from results where outcome = 'cancelled' and reason = 'erased' and batch_id = 2`); n != 1 {
		c.Errorf("%d rows that waited are cancelled", n)
	}
	if n := b.count(`select count(distinct key) from results where erased_by is not null`); n != 1 {
		c.Errorf("%d hashes of one person", n)
	}
	later := b.run("send", "--yes", "--json", file("anna@example.com", "emil@example.com")).want(exitOK).object()
	if later.object(c, "outcomes").int(c, "cancelled") != 1 || k.mails()["anna@example.com"] != 1 {
		c.Errorf("a later file: %v", later)
	}
	if o := b.run("erase", "bert@example.com", "--revoke", "--yes", "--json").want(exitOK).
		object(); o.int(c, "revoked") != 1 || o.int(c, "pending") != 0 {
		c.Errorf("--revoke: %v", o)
	}
	if k.standing()["revoked bert@example.com"] != 1 {
		c.Error("--revoke revoked nothing")
	}
	// erase waits up to --wait for an open request.
	b.exec(`update attempt_people set open = true, closed_at = null where key = 'carl@example.com'`)
	b.run("erase", "carl@example.com", "--yes", "--json", "--wait", "1ms").want(exitHeld)
	b.exec(`update attempt_people set open = false, closed_at = clock_timestamp() where key = 'carl@example.com'`)
	b.run("erase", "nobody@example.com", "--yes", "--json").want(exitUsage)

	b.run("purge", "--older-than", "1ms", "--json").refused(exitHeld, "not_confirmed")
	b.sit(answers("[y/N]", "n"), "purge", "--older-than", "1ms").want(exitHeld)
	if o := b.run("purge", "--older-than", "1d", "--json", "--yes").want(exitOK).object(); o.int(c, "rows") != 0 {
		c.Errorf("of batches that ended today: %v", o)
	}
	if o := b.run("purge", "--older-than", "1ms", "--yes", "--json", "--actor", "olga").want(exitOK).
		object(); o.int(c, "rows") == 0 {
		c.Errorf("%v", o)
	}
	if all := whole(); strings.Contains(all, "carl@") || strings.Contains(all, "Zaphod-c") ||
		!strings.Contains(all, "dora@") {
		c.Errorf("after purge, of which the batch that runs is not a part: %s", all)
	}
	b.run("cancel", "2", "--yes").want(exitOK)
	w := b.with("BULKINVITE_PURGE_OLDER_THAN=1ms").start("work")
	b.awaits(0, `select count(*) from results where email = 'dora@example.com'`)
	w.end(syscall.SIGTERM).want(exitOK)
	b.run("work", "--json", "--purge-older-than", "soon").refused(exitUsage, "usage")
	c.saw("4", "2m") // TestContract's promise about --help compares the default
})

var _ = promised("sandbox: the stand-in as a server", []string{
	"| `sandbox` | the stand-in as a server; see below |",
}, func(c *check) {
	k := c.clerk()
	if status, text := request(c, http.MethodGet, strings.TrimSuffix(k.url, "/v1")+"/sandbox/mailbox", nil, ""); status != http.StatusOK {
		c.Errorf("%d %s", status, text)
	}
	k.end(syscall.SIGTERM).want(exitOK)
})

var _ = promised("migrate, dump, load", []string{
	"| `migrate` | the schema up to date; `--status` |",
	"| `dump FILE` | every row of one moment in a new file, mode 0600, whatever PostgreSQL it is; programs may work meanwhile. `--json`: `file`, `at`, `schema`, `postgresql`, `tables`, `rows` |",
	"| `load FILE` | the rows of a dump into an empty database: all of them, or none; 4 where there are rows or tables already, or the dump is of another version of the tables. `--json` as `dump` |",
}, func(c *check) {
	pool := postgrestest.Empty(c)
	_, b := c.stage("sk_live_x")
	empty := b.with("DATABASE_URL=" + pool.Config().ConnString())
	applied := func() (n int) {
		c.Helper()
		for _, one := range empty.run("migrate", "--status", "--json").want(exitOK).objects() {
			if one["applied"] == true {
				n++
			}
		}
		return n
	}
	if n := applied(); n != 0 {
		c.Errorf("--status applied %d", n)
	}
	b.run("send", "--yes", b.people("a@example.com", "b@example.com")).want(exitOK)
	worker := b.start("work")
	worker.await(`"working"`)
	file := filepath.Join(c.TempDir(), "all.dump")
	o := b.run("dump", file, "--json").want(exitOK).object()
	o.has(c, "file string, at time, schema any, postgresql string, tables int, rows int")
	worker.end(syscall.SIGTERM).want(exitOK)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		c.Errorf("%v, %v", info, err)
	}
	c.saw("0600")
	b.run("dump", file, "--json").want(exitUsage)
	b.run("load", file, "--json").want(exitHeld) // the database has rows
	text, err := os.ReadFile(file)
	if err != nil {
		c.Fatal(err)
	}
	broken := b.file("broken.dump", string(text[:len(text)/2]))
	if o := empty.run("load", broken, "--json"); o.exit == exitOK {
		c.Error("half of a dump is loaded")
	}
	if n := applied(); n != 0 {
		c.Errorf("half of a dump left %d migrations", n)
	}
	loaded := empty.run("load", file, "--json").want(exitOK).object()
	if len(loaded) != len(o) || loaded.int(c, "rows") != o.int(c, "rows") ||
		loaded.int(c, "tables") != o.int(c, "tables") ||
		loaded["at"] != o["at"] {
		c.Errorf("loaded %v, dumped %v", loaded, o)
	}
	loaded.has(c, "file string, at time, schema any, postgresql string, tables int, rows int")
	if list := empty.run("results", "1", "--json").want(exitOK).objects(); len(list) != 2 {
		c.Errorf("%v", list)
	}
	empty.run("load", file, "--json").want(exitHeld)
	fresh := b.with("DATABASE_URL=" + postgrestest.Empty(c).Config().ConnString())
	fresh.run("migrate", "--json").want(exitOK)
	for _, one := range fresh.run("migrate", "--status", "--json").want(exitOK).objects() {
		if one["applied"] != true {
			c.Errorf("%v", one)
		}
	}
	c.saw("4", "dump")
})

var _ = testedElsewhere("load: a dump of another version", []string{
	"or the dump is of another version of the tables.",
}, "a dump of another version has to be forged, which the test of the command does", "cmd/bulkinvite/dump_test.go TestLoadRefuses")

var _ = promised("limits: shown and thawed", []string{
	"| `limits` | where each limit stands, of every instance in the database: what may start now, freezes, workers with different limits. Needs no key. `limits show` is the same |",
	"| `limits thaw [create\\|bulk\\|general]` | ends a freeze, or all; one request then tries whether Clerk takes requests again. 0, also where nothing was frozen; needs no key and does not ask; `--actor` |",
}, func(c *check) {
	k := c.clerk()
	b := c.bench(k.env("sk_live_x")...)
	b.run("send", "--yes", b.people("a@example.com")).want(exitOK)
	other := b.with("CLERK_API_URL="+c.clerk("--instance-id", "ins_other").url, "CLERK_SECRET_KEY=sk_test_y")
	other.run("send", "--yes", b.people("b@example.com")).want(exitOK)
	keyless := b.with("CLERK_SECRET_KEY", "CLERK_API_URL")
	all := keyless.run("limits", "--json").want(exitOK).objects()
	if len(all) != 2 {
		c.Errorf("of two instances: %v", all)
	}
	if shown := keyless.run("limits", "show", "--json").want(exitOK).
		objects(); len(shown) != len(all) || len(shown[0]) != len(all[0]) {
		c.Errorf("limits show: %v", shown)
	}
	freeze := func() {
		c.Helper()
		b.exec(
			`update buckets set frozen_at = clock_timestamp(), frozen_until = clock_timestamp() + interval '30 minutes', frozen_reason = 'a 429' where instance_id = 1 and name <> 'general'`,
		)
	}
	freeze()
	for _, one := range asObjects(c, keyless.run("limits", "--json").want(exitOK).objects()[0]["limits"]) {
		if frozen := one["bucket"] != "general"; frozen != (one["frozen_until"] != nil) ||
			one["ceiling"] != nil ||
			frozen && one.int(c, "free") != 0 {
			c.Errorf("%v", one)
		}
	}
	thawed := func(args ...string) (buckets string) {
		c.Helper()
		var names []string
		for _, one := range keyless.run(append([]string{"limits", "thaw", "--json", "--actor", "olga"}, args...)...).want(exitOK).objects() {
			names = append(names, fmt.Sprint(one["bucket"]))
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	if got := thawed("create") + ", " + thawed("create") + ", " + thawed("general") + ", " + thawed("bulk"); got != "create, , , bulk" {
		c.Errorf("thawed: %s", got)
	}
	freeze()
	if got := thawed() + ", " + thawed(); got != "bulk create, " {
		c.Errorf("all: %s", got)
	}
	c.saw("limits thaw [create\\|bulk\\|general]", "0")
	if n := b.count(`select count(*) from events where actor = 'olga' and action = 'thawed'`); n == 0 {
		c.Error("no event of olga")
	}
	keyless.run("limits", "thaw", "revoke", "--json").refused(exitUsage, "usage")
})

var _ = testedElsewhere("limits: one request tries after a thaw", []string{
	"one request then tries whether Clerk takes requests again.",
}, "that it is one takes a fleet with people who wait, and a count of requests", "cmd/bulkinvite/limits_test.go TestThawWakesWorkers")

var _ = promised("doctor: what is wrong and what to do", []string{
	"| `doctor` | what is wrong here and what to do: database, schema, clocks, key, limits, workers, lost answers, slow reads, what waits for a person; `--after-restore` reads everything at Clerk too. 0, also with warnings; 1 if anything is wrong. `--json`: `ok`, `findings` (`check`, `verdict`: `ok`, `warning`, `wrong`; `message`, `remedy`) |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", "--canary", "1", b.people("a@example.com")).want(exitOK)
	verdicts := func(exit int, args ...string) map[string]string {
		c.Helper()
		o := b.run(append([]string{"doctor", "--json"}, args...)...).want(exit).object()
		o.has(c, "ok bool, findings array")
		if o["ok"] != (exit == exitOK) {
			c.Errorf("%v", o)
		}
		all := map[string]string{}
		for _, f := range asObjects(c, o["findings"]) {
			f.has(c, "check string, verdict string, message string, remedy string")
			check := fmt.Sprint(f["check"])
			if all[check] == "" || f["verdict"] != "ok" {
				all[check] = fmt.Sprint(f["verdict"])
			}
			if f["verdict"] != "ok" && f["remedy"] == "" {
				c.Errorf("no remedy: %v", f)
			}
		}
		return all
	}
	well := verdicts(exitOK)
	for check, verdict := range well {
		if verdict == "wrong" {
			c.Errorf("%s is wrong", check)
		}
	}
	for _, about := range []string{"database", "schema", "clock", "key", "limits", "workers", "answers", "people"} {
		found := false
		for check := range well {
			found = found || strings.Contains(check, about)
		}
		if !found {
			c.Logf("the checks: %v", well)
			c.Errorf("doctor says nothing of %s", about)
		}
	}
	b.exec(`update reads set pass_begun_at = pass_begun_at - interval '6 minutes' where call <> 'users'`)
	if slow := verdicts(exitOK); slow["reads"] != "warning" {
		c.Errorf("reads that took six minutes: %v", slow)
	}
	b.run("import", "--yes", b.people("p@example.com")).want(exitOK)
	b.run("pause", "2").want(exitOK)
	if waits := verdicts(exitOK); waits["batches"] != "warning" {
		c.Errorf("a batch is paused: %v", waits)
	}
	k.ask(http.MethodPost, "/sandbox/invitations", `["stray@example.com"]`)
	restored := verdicts(exitOK, "--after-restore")
	if restored["restore"] != "warning" {
		c.Errorf("--after-restore: %v", restored)
	}
	b.run("import", "--yes", b.people("w@example.com")).want(exitOK)
	if ill := verdicts(exitFailed); ill["workers"] != "wrong" {
		c.Errorf("people wait and nobody works: %v", ill)
	}
	c.saw("0", "1")
})

var _ = promised("config: the settings in force", []string{
	"| `config` | the settings in force, and where each came from: `flag`, `environment`, `file`, `default`; secrets hidden. `--json`: `name`, `value`, `from`, `where` |",
}, func(c *check) {
	b := c.bare(
		"CLERK_SECRET_KEY=sk_live_planted",
		"BULKINVITE_USERS=maria:operator:planted",
		"BULKINVITE_WEBHOOK_SECRET=whsec_planted",
		"DATABASE_URL=postgres://me:planted@db/x",
		"BULKINVITE_WEBHOOK_URL=https://example.com/planted",
		"BULKINVITE_RECONCILE_EVERY=9m",
	)
	file := b.file("c.yaml", "settle: 4s\nwork:\n  sweep-at: 0 2 * * *\n")
	for _, args := range [][]string{{"config"}, {"config", "--json"}} {
		if o := b.run(args...).want(exitOK); strings.Contains(o.out+o.err, "planted") {
			c.Errorf("a secret is shown: %s%s", o.out, o.err)
		}
	}
	got := b.config("--config", file, "--limit-bulk", "3/1h")
	c.is(got, "limit-bulk", "3/1h", "flag", "")
	c.is(got, "work reconcile-every", "9m", "environment", "BULKINVITE_RECONCILE_EVERY")
	c.is(got, "work sweep-at", "0 2 * * *", "file", file)
	c.is(got, "settle", "4s", "file", file)
	c.is(got, "recover-after", "20s", "default", "")
	c.is(got, "CLERK_SECRET_KEY", "set, and hidden", "environment", "CLERK_SECRET_KEY")
})

var _ = promised("completion, version", []string{
	"| `completion SHELL` | what makes `bash`, `zsh` or `fish` complete command lines |",
	"| `version`, `--version` | version, commit, Go, and PostgreSQL where one runs |",
}, func(c *check) {
	b := c.bench()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		b.run("completion", shell).want(exitOK).says(binary)
	}
	b.run("completion", "tcsh", "--json").refused(exitUsage, "usage")
	script := b.run("completion", "bash").want(exitOK).out
	bash := exec.CommandContext(c.Context(), "bash", "-c", script+"complete -p bulkinvite")
	if out, err := bash.CombinedOutput(); err != nil || !strings.Contains(string(out), "-C") {
		c.Errorf("bash: %s, %v", out, err)
	}
	if o := b.with("COMP_LINE=bulkinvite st").run().want(exitOK); !slices.Equal(
		slices.Sorted(strings.FieldsSeq(o.out)),
		[]string{"start", "status"},
	) {
		c.Errorf("completed with %q", o.out)
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		o := b.run(append(args, "--json")...).want(exitOK).object()
		o.has(c, "version string, commit string, go string, postgresql string|null")
		if o["postgresql"] == nil || !regexp.MustCompile(`^1\.\d+`).MatchString(fmt.Sprint(o["go"])) {
			c.Errorf("%v", o)
		}
		if o := b.with("DATABASE_URL").run(append(args, "--json")...).want(exitOK).object(); o["postgresql"] != nil {
			c.Errorf("no database runs: %v", o)
		}
	}
})
