package contract_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"bulkinvite/internal/postgres/postgrestest"
)

// Shapes of the documents of the section JSON, with all their keys.
var (
	outcomeKeys = fields{"invited": integer, "already_invited": integer, "already_registered": integer,
		"invalid":  integer,
		"rejected": integer, "duplicate_row": integer, "failed": integer, "cancelled": integer}

	planKeys = fields{"to_send": integer, "bulk": integer, "create": integer, "windows": integer, "seconds": number}

	certificateKeys = fields{"batch": integer, "number": integer, "made_at": timestamp, "rows": integer,
		"outcomes": keyed(outcomeKeys), "attempts": integer, "head": head, "format": integer, "reads": integer,
		"sightings": integer}

	differingLimits = list(keyed(fields{"worker": text, "host": text, "pid": integer,
		"create": orNull(limit), "bulk": orNull(limit), "general": orNull(limit)}))

	batchKeys = fields{
		"batch": integer, "state": oneOf("draft running paused cancelled done"), "rows": integer,
		"outcomes": keyed(outcomeKeys), "undecided": integer,
		"requests":     keyed(fields{"create": integer, "bulk": integer, "read": integer, "revoke": integer}),
		"rate_limited": integer, "started_at": orNull(timestamp), "finished_at": orNull(timestamp), "seconds": number,
		"eta": orNull(timestamp), "state_reason": orNull(text), "paused_by": orNull(pauser), "file_name": text,
		"environment": environment,
		"unknown": orNull(keyed(fields{"rows": integer, "since": timestamp, "workers": integer,
			"last_read": orNull(keyed(fields{"at": timestamp, "http_status": orNull(integer),
				"error_code": text}))})),
		"certificate": orNull(keyed(certificateKeys)), "plan": orNull(keyed(planKeys)),
		"frozen":           list(keyed(fields{"bucket": bucket, "until": timestamp, "reason": text})),
		"ceilings":         exactly("[]"),
		"differing_limits": differingLimits,
	}

	batchDocument = both(keyed(batchKeys), addsUp)

	limitsDocument = list(keyed(fields{"instance": text, "environment": environment, "at": timestamp,
		"workers": integer,
		"limits": list(keyed(fields{"bucket": bucket, "limit": limit, "free": orNull(integer),
			"opens_at":     orNull(timestamp),
			"frozen_until": orNull(timestamp), "frozen_reason": orNull(text),
			"one_at_a_time_until": orNull(timestamp), "ceiling": exactly("null")})),
		"differing_limits": differingLimits}))

	thawDocument = list(keyed(fields{"instance": text, "bucket": bucket, "frozen_until": timestamp}))

	problemKeys = fields{"row": integer, "line": integer, "column": text, "code": matching(`[a-z0-9_]+`),
		"message": text}

	checkKeys = fields{"rows": integer, "blank": integer, "valid": integer, "invalid": integer,
		"duplicate_row": integer,
		"problems":      list(keyed(problemKeys)), "warnings": list(keyed(problemKeys)), "more_problems?": integer,
		"more_warnings?":    integer,
		"columns":           keyed(fields{"found": list(text), "mapped": texts, "ignored": list(text), "numbers": counts}),
		"encoding_guesses?": list(keyed(fields{"encoding": text, "sample": list(text)})),
		"header_line":       integer, "encoding": text, "delimiter": text, "sheet?": text, "already_invited": integer,
		"already_registered": integer, "plan": keyed(planKeys)}

	resendNobody = keyed(fields{"people": exactly("0"), "expired": integer, "younger": integer, "cooling": integer,
		"accepted": integer, "revoked": integer, "erased": integer})

	sweepKeys = fields{"sweep": integer, "apply": boolean, "scanned": integer, "stale": integer, "revoked": integer,
		"skipped": counts, "failed": integer, "held": boolean, "kind": oneOf("sweep rescind undo correct"),
		"state": oneOf("dry_run held running done"), "batch": orNull(integer), "started_by": text,
		"older_than": orNull(number), "scope": oneOf("ours all"), "undecided": integer, "threshold": integer,
		"allowed_by": orNull(text), "night": orNull(timestamp), "started_at": timestamp,
		"allowed_at":  orNull(timestamp),
		"finished_at": orNull(timestamp)}

	sweepDocument = both(keyed(sweepKeys), sweptAddsUp)

	rescindDocument = keyed(fields{"sweep": integer, "apply": boolean, "people": integer, "pending": integer,
		"waiting": integer, "joined": list(text), "unknown": integer, "revoked": integer, "cancelled": integer,
		"skipped": counts, "failed": integer, "held": boolean})

	driftCounts = fields{"unexplained": integer, "gone": integer, "pending_again": integer}

	reconcileKeys = fields{"reconcile": integer, "complete": boolean, "requests": integer, "scanned": integer,
		"accepted": integer, "expired": integer, "revoked": integer, "deleted": integer, "drift": keyed(driftCounts)}

	eraseDocument = keyed(fields{"erasure": integer, "rows": integer, "cancelled": integer, "batches": list(integer),
		"pending": integer, "revoked": integer})

	purgeDocument = keyed(fields{"erasure": integer, "batches": list(integer), "rows": integer})

	verifyDocument = keyed(fields{"batch": integer, "holds": boolean, "certificate": keyed(certificateKeys),
		"given": orNull(head), "differences": list(keyed(fields{
			"what": oneOf("head batch rows attempts reads sightings added"), "from?": integer, "to?": integer}))})

	driftDocument = list(keyed(fields{"kind": oneOf("unexplained gone pending_again"), "clerk_invitation_id": text,
		"email": text, "status": status, "created_at": mayBeNull(timestamp), "batch_id": orNull(integer),
		"row_number": orNull(integer), "first_seen": timestamp, "last_seen": timestamp, "environment": environment}))

	batchesDocument = list(both(keyed(fields{"batch": integer, "file_name": text, "actor": text,
		"environment": environment,
		"state":       batchKeys["state"], "state_reason": orNull(text), "rows": integer, "undecided": integer,
		"outcomes": keyed(outcomeKeys), "accepted": integer, "created_at": timestamp, "started_at": orNull(timestamp),
		"finished_at": orNull(timestamp)}), addsUp))

	resultKeys = fields{"bulkinvite_outcome": orNull(outcomes), "bulkinvite_reason": orNull(text),
		"bulkinvite_email": orNull(text), "bulkinvite_status": orNull(status),
		"bulkinvite_clerk_invitation_id": orNull(text),
		"bulkinvite_decided_at":          orNull(timestamp), "bulkinvite_row": integer, "bulkinvite_line": integer,
		"bulkinvite_duplicate_of": orNull(integer)}

	auditKeys = fields{"batch_id": integer, "row_number": integer, "line": integer, "email": orNull(text),
		"outcome": orNull(outcomes), "reason": orNull(text), "duplicate_of": orNull(integer),
		"status":    orNull(status),
		"status_at": orNull(timestamp), "status_read_id": orNull(integer), "clerk_invitation_id": orNull(text),
		"clerk_user_id": orNull(text), "decided_at": orNull(timestamp), "invited_at": orNull(timestamp),
		"expires_at": orNull(timestamp), "attempt_id": orNull(integer), "read_id": orNull(integer),
		"redirect_url": orNull(text), "expires_in_days": orNull(integer), "public_metadata": orNull(anything),
		"notes": orNull(list(text)), "actor": text, "file_name": text, "environment": environment}

	whyDocument = keyed(fields{
		"key": text, "keys": list(text),
		"rows": list(keyed(auditKeys.with(fields{"imported_at": timestamp, "resend_of": orNull(integer),
			"corrects": orNull(integer), "corrects_row": orNull(integer), "revoke_sent": mayBeNull(timestamp)}))),
		"attempts": list(keyed(fields{"attempt_id": integer, "instance_id": integer, "environment": environment,
			"batch_id": orNull(integer), "row_number": orNull(integer), "call": oneOf("create bulk revoke"),
			"others":    integer,
			"worker_id": text, "sweep_id": orNull(integer), "asked_by": orNull(text), "under": orNull(integer),
			"started_at": timestamp, "deadline": timestamp, "answered_at": orNull(timestamp),
			"http_status": orNull(integer),
			"error_code":  orNull(text), "trace_id": orNull(text), "open": boolean, "answer": orNull(text),
			"clerk_invitation_id": orNull(text), "closed_at": orNull(timestamp), "resolution": orNull(text),
			"settled_by": orNull(integer)})),
		"late_answers": list(keyed(fields{"attempt_id": integer, "received_at": timestamp,
			"http_status": mayBeNull(integer),
			"error_code":  mayBeNull(text), "trace_id": mayBeNull(text), "clerk_invitation_ids": list(text)})),
		"reads": list(keyed(fields{"read_id": integer, "call": text, "begun_at": timestamp, "ended_at": timestamp,
			"http_status": mayBeNull(integer), "error_code": mayBeNull(text), "trace_id": mayBeNull(text),
			"items":    integer,
			"complete": boolean})),
		"sightings": list(keyed(fields{"instance_id": integer, "environment": environment, "clerk_id": text,
			"kind": oneOf("invitation user"), "status": mayBeNull(status), "created_at": mayBeNull(timestamp),
			"expires_at": mayBeNull(timestamp), "first_seen": timestamp, "first_read": integer,
			"last_seen": timestamp,
			"last_read": integer})),
		"events": list(keyed(fields{"at": timestamp, "batch_id": integer, "actor": text, "action": text,
			"details": anything})),
		"summary": list(keyed(fields{"instance_id": integer, "environment": environment, "sent": list(text),
			"open": integer,
			"late": integer, "attempt_ids": list(integer)})),
	})

	migrateDocument = list(keyed(fields{"version": integer, "name": text, "applied": boolean,
		"applied_at": orNull(timestamp)}))

	versionDocument = keyed(fields{"version": text, "commit": text, "go": text, "postgresql": orNull(text)})
)

var (
	head        = matching(`[0-9a-f]{64}`)
	limit       = matching(`\d+/[0-9a-z.]+|none|off`)
	bucket      = oneOf("create bulk general")
	pauser      = oneOf("person canary breaker clerk zone")
	environment = oneOf("production development sandbox")
	status      = oneOf("pending accepted revoked expired gone")
	outcomes    = oneOf("invited already_invited already_registered invalid rejected duplicate_row failed cancelled")
)

// addsUp checks that outcomes and undecided add up to rows.
func addsUp(r *reading, path string, doc any) {
	sum := amount(doc, "undecided")
	for name := range outcomeKeys {
		sum += amount(doc, "outcomes."+name)
	}
	if rows := amount(doc, "rows"); rows != sum {
		r.fail(path, "%d outcomes and undecided of %d rows", sum, rows)
	}
}

// sweptAddsUp checks that each stale invitation of a sweep that is done has a result.
func sweptAddsUp(r *reading, path string, doc any) {
	if at(doc, "state") != "done" {
		return
	}
	sum := amount(doc, "revoked") + amount(doc, "failed")
	skipped, _ := at(doc, "skipped").(object)
	for reason := range skipped {
		sum += amount(doc, "skipped."+reason)
	}
	if stale := amount(doc, "stale"); stale != sum {
		r.fail(path, "%d of %d stale ones came to an end", sum, stale)
	}
}

// amount returns the integer at a path, or 0 if there is none.
func amount(doc any, path string) int64 {
	n, _ := at(doc, path).(json.Number)
	i, _ := n.Int64() // the shape reports a number that is no integer
	return i
}

// until waits until a query returns the number want.
func (b *bench) until(want int, sql string, args ...any) {
	b.Helper()
	pool := b.sql()
	for late := time.Now().Add(patience); ; {
		var n int
		if err := pool.QueryRow(b.Context(), sql, args...).Scan(&n); err != nil {
			b.Fatal(err)
		}
		if n == want {
			return
		}
		if time.Now().After(late) {
			b.Fatalf("%d, want %d: %s", n, want, sql)
		}
		select {
		case <-b.Context().Done():
			b.Fatal(context.Cause(b.Context()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// faults replaces the faults of the sandbox.
func (k *clerk) faults(list string) { k.Helper(); k.ask("POST", "/sandbox/faults", list) }

// hires is a file whose rows end with six of the eight outcomes at the sandbox of [check.hired].
const hires = "Name,email,Department\n" +
	"Ann,ann@example.com,Sales\nBob, bob@example.com ,IT\nCid,cid@example.com,IT\n" +
	"User,user@example.com,IT\nPending,pending@example.com,IT\nAnn again,ANN@example.com,Sales\n" +
	"Nobody,nobody,IT\n\nBlocked,x@blocked.example,IT\n"

// hired starts a sandbox that knows some people, and returns it with a bench that uses it as a
// production instance.
func (c *check) hired(env ...string) (*clerk, *bench) {
	c.Helper()
	k := c.clerk("--user", "user@example.com", "--pending", "pending@example.com", "--block", "*@blocked.example")
	// The zone differs from UTC, in which documents must have their times.
	return k, c.bench(append(append(k.env("sk_live_contract"), "TZ=Asia/Tokyo"), env...)...)
}

var _ = promised("the document of a batch",
	[]string{
		"`send`, `import`, `resend`, `status`, `start`, `pause`, `resume`, `cancel`, `retry`: " +
			`{"batch":1,"state":"done","rows":7, ` +
			`"outcomes":{"invited":3,"already_invited":1,"already_registered":1,"invalid":1,` +
			`"rejected":0,"duplicate_row":1,"failed":0,"cancelled":0}, ` +
			`"undecided":0, "requests":{"create":1,"bulk":1,"read":4,"revoke":0}, ` +
			`"rate_limited":0,"started_at":"…","finished_at":"…","seconds":1.9,"eta":null, ` +
			`"state_reason":null,"paused_by":null,"file_name":"hires.csv","environment":"production", ` +
			`"unknown":null,"certificate":null,"plan":null,"frozen":[],"ceilings":[],"differing_limits":[]}`,
		"`outcomes` always has all eight keys; their sum and `undecided` are `rows`.",
		"`requests` counts requests that were sent: creates, bulk calls and revokes that carried people of the " +
			"batch, and the reads of its instance while it ran, but for reconciling.",
		"`rate_limited` counts 429 answers.",
		"`state` is `draft`, `running`, `paused`, `cancelled` or `done`; `paused_by` is `person`, `canary`, " +
			"`breaker`, `clerk` or `zone` (PostgreSQL does not know the time zone of `--hours`) while it is paused.",
		"`unknown` has the undecided rows whose answer was lost, null where there are none: `rows`, `since`, " +
			"`workers` (that live and could read), and `last_read` (`at`, `http_status`, `error_code`) where " +
			"reading Clerk fails.",
		"`certificate` is that of the batch's end, null before (and for a moment after): `batch`, `number`, " +
			"`made_at`, `rows`, `outcomes`, `attempts`, `head` (64 hexadecimal digits), `format`, `reads`, " +
			"`sightings`.",
		"`plan` is what is left to do (as `check` has it), `eta` when the last request leaves; both are null " +
			"unless the batch runs and has undecided rows.",
		"`frozen` has the limits that a 429 closed: `bucket` (`create`, `bulk`, `general`), `until`, `reason`.",
		"`ceilings` is always empty (earlier versions listed limits of which Clerk seemed to allow less than was " +
			"set: `bucket`, `ceiling`, `limit`).",
		"`differing_limits` lists the live workers if they were given different limits, and is empty otherwise: " +
			"`worker`, `host`, `pid`, and the limits `create`, `bulk`, `general` (null where an earlier version " +
			"does not state them). All of them keep the strictest.",
	},
	func(c *check) {
		d := c.documents()
		c.aWholeWay(d)
		c.pauses(d)
		c.slowedDown(d)
		c.lostAnswers(d)
		d.bothWays()
		// The plan is described under check. Earlier versions had the keys ceiling and limit.
		c.saw("check", "ceiling", "limit")
	})

// aWholeWay reads the batch document from each command and in each state.
func (c *check) aWholeWay(d *documents) {
	c.Helper()
	k, b := c.hired()
	file := b.file("hires.csv", hires)
	doc := d.read("batch", batchDocument, b.run("send", "--yes", "--json", file).want(exitRows))
	const over = "eta state_reason paused_by unknown plan"
	c.holds(doc, "batch 1, state done, rows 8, undecided 0, file_name hires.csv, environment production, "+
		"rate_limited 0")
	c.holds(doc, "outcomes.invited 3, outcomes.already_invited 1, outcomes.already_registered 1, outcomes.invalid "+
		"1, outcomes.rejected 1, outcomes.duplicate_row 1")
	c.holds(doc, "requests.create 4, requests.bulk 0, requests.revoke 0, frozen [], ceilings [], differing_limits []")
	c.null(doc, over)
	c.set(doc, "started_at finished_at")
	if amount(doc, "requests.read") == 0 {
		c.Error("reads count as none")
	}
	b.until(1, `select count(*) from batches where certificate is not null`)
	doc = d.read("batch", batchDocument, b.run("status", "1", "--json").want(exitOK))
	c.holds(doc, "state done, certificate.batch 1, certificate.number 1, certificate.rows 8, "+
		"certificate.outcomes.invited 3, certificate.attempts 4")

	doc = d.read("batch", batchDocument, b.run("import", "--draft", "--yes", "--json", "--again",
		file).want(exitRows))
	c.holds(doc, "batch 2, state draft, undecided 6, seconds 0")
	c.null(doc, over+" started_at finished_at certificate")
	doc = d.read("batch", batchDocument, b.run("start", "2", "--json").want(exitOK))
	c.holds(doc, "state running, undecided 6, plan.to_send 6, plan.windows 1")
	c.set(doc, "plan eta started_at")
	c.null(doc, "finished_at certificate paused_by")
	doc = d.read("batch", batchDocument, b.run("pause", "2", "--json").want(exitOK))
	c.holds(doc, "state paused, paused_by person")
	c.null(doc, "eta plan")
	doc = d.read("batch", batchDocument, b.run("resume", "2", "--json").want(exitOK))
	c.holds(doc, "state running")
	c.set(doc, "eta plan")
	doc = d.read("batch", batchDocument, b.run("cancel", "2", "--yes", "--json").want(exitOK))
	c.holds(doc, "state cancelled, undecided 0, outcomes.cancelled 6")
	c.null(doc, over)
	c.set(doc, "finished_at")

	doc = d.read("batch", batchDocument, b.run("resend", "1", "--pending-for", "1ms", "--yes", "--json").want(exitOK))
	c.holds(doc, "batch 3, state done, outcomes.invited 3, requests.create 3, requests.revoke 3")
	doc = d.read("batch", batchDocument, b.run("retry", "1", "--rejected", "--json").want(exitOK))
	c.holds(doc, "batch 1, state running, undecided 1")
	c.null(doc, "finished_at certificate")

	doc = d.read("batch", batchDocument, b.run("send", "--yes", "--json", b.people(some("bulk",
		120)...)).want(exitOK))
	c.holds(doc, "state done, outcomes.invited 120")
	if amount(doc, "requests.bulk") == 0 {
		c.Error("bulk calls count as none")
	}
	if n := len(k.mails()); n != 123 {
		c.Errorf("%d people got a mail", n)
	}
}

// pauses reads the batch document of batches that are paused for each reason except by a person.
func (c *check) pauses(d *documents) {
	c.Helper()
	k, b := c.hired("BULKINVITE_LIMIT_BULK=off", "BULKINVITE_LIMIT_CREATE=25/1h")
	b.run("import", "--yes", "--canary", "1", b.people(some("canary", 3)...)).want(exitOK)
	b.run("work", "--until-idle").want(exitOK)
	doc := d.read("batch", batchDocument, b.run("status", "1", "--json").want(exitOK))
	c.holds(doc, "state paused, paused_by canary, outcomes.invited 1, undecided 2")
	c.set(doc, "state_reason")
	c.null(doc, "plan eta")

	k.ask("POST", "/sandbox/config", `{"switches":{"quota":"user_quota_exceeded"}}`)
	b.run("resume", "1").want(exitOK)
	b.run("work", "--until-idle")
	doc = d.read("batch", batchDocument, b.run("status", "1", "--json").want(exitOK))
	c.holds(doc, "state paused, paused_by clerk")
	c.set(doc, "state_reason")
	k.ask("POST", "/sandbox/config", `{"switches":{"quota":""}}`)

	blocked := strings.ReplaceAll(strings.Join(some("blocked", 40), "\n"), "example.com", "blocked.example")
	b.run("import", "--yes", "--priority", "1", b.file("blocked.csv", "email\n"+blocked+"\n")).want(exitOK)
	b.run("work", "--until-idle")
	doc = d.read("batch", batchDocument, b.run("status", "2", "--json").want(exitOK))
	c.holds(doc, "state paused, paused_by breaker")
	c.set(doc, "state_reason")

	b.run("import", "--yes", "--hours", "0-23", "--tz", "Europe/Berlin", b.people(some("zone", 1)...)).want(exitOK)
	b.exec(`update batches set tz = 'Mars/Phobos' where id = 3`)
	b.run("work", "--until-idle")
	doc = d.read("batch", batchDocument, b.run("status", "3", "--json").want(exitOK))
	c.holds(doc, "state paused, paused_by zone, undecided 1")
	c.set(doc, "state_reason")
}

// slowedDown reads the batch document while Clerk answers 429 and workers have different limits.
// Another promise checks the documents of the limits.
func (c *check) slowedDown(d *documents) {
	c.Helper()
	k, b := c.hired()
	k.faults(`[{"call":"create","kind":"status","status":429,"retry_after":"3600"},` +
		`{"call":"bulk","kind":"status","status":429,"retry_after":"3600"}]`)
	b.run("import", "--yes", b.people(some("slow", 30)...)).want(exitOK)
	b.start("work")
	b.start("work", "--limit-create", "50/1h")
	b.until(2, `select count(*) from buckets where frozen_until is not null`)
	b.until(2, `select count(*) from workers`)
	doc := d.read("batch", batchDocument, b.run("status", "1", "--json").want(exitOK))
	c.holds(doc, "state running, undecided 30, frozen[0].bucket create, ceilings []")
	if n := amount(doc, "rate_limited"); n < 2 {
		c.Errorf("%d answers of 429, of 2 limits that are frozen", n)
	}
	c.set(doc, "frozen[1].bucket differing_limits[1].worker eta plan")
	b.olderWorker()
	d.read("batch", batchDocument, b.run("status", "1", "--json").want(exitOK))
}

// olderWorker inserts a live worker that states no limits, like a worker of an earlier version.
func (b *bench) olderWorker() {
	b.Helper()
	b.exec(`insert into workers (id, instance_id, host, pid, version, started_at, heartbeat_at, lives_until)
		values ('older_1_1', 1, 'older', 1, 'v0', now(), now(), now() + interval '1 hour')`)
}

// lostAnswers reads the batch document while the answer to a create is lost, and the reads that
// could settle it do not happen or fail.
func (c *check) lostAnswers(d *documents) {
	c.Helper()
	for reads, last := range map[string]string{
		"": "<nil>",
		`,{"call":"list","kind":"status","status":503}`: "503",
		`,{"call":"list","kind":"cut_before"}`:          "<nil>",
	} {
		k, b := c.hired()
		if reads == "" {
			b = b.with("BULKINVITE_SETTLE=1h") // so that no read happens during the test
		}
		b.run("import", "--yes", "--no-preflight", b.people(some("lost", 1)...)).want(exitOK)
		k.faults(`[{"call":"create","kind":"cut_after"}` + reads + `]`)
		b.start("work")
		b.until(1, `select count(*) from attempts where answered_at is not null and resolved_at is null`)
		if reads != "" {
			b.until(1, `select least(count(*), 1) from reads where error_code is not null and begun_at > (select `+
				`max(answered_at) from attempts)`)
		}
		doc := d.read("batch", batchDocument, b.run("status", "1", "--json").want(exitOK))
		c.holds(doc, "state running, undecided 1, unknown.rows 1, unknown.workers 1, "+
			"unknown.last_read.http_status "+last)
		c.set(doc, "unknown.since")
		if reads == "" {
			c.null(doc, "unknown.last_read")
		} else {
			c.set(doc, "unknown.last_read.at unknown.last_read.error_code")
		}
	}
}

var _ = promised("a file without rows makes no batch",
	[]string{"A file without rows makes no batch: `send` and `import` end with 0, and `batch` is 0. With " +
		"`--roster`, and as `rescind --not-in`, it is refused (2, `no_rows`), since everybody would be taken back."},
	func(c *check) {
		_, b := c.hired()
		empty := b.file("empty.csv", "email\n")
		d := c.documents()
		for _, command := range []string{"send", "import"} {
			c.holds(d.read("batch", batchDocument, b.run(command, "--yes", "--json", empty).want(exitOK)),
				"batch 0, rows 0")
		}
		b.run("send", "--yes", b.people("ann@example.com")).want(exitOK)
		b.run("send", "--yes", "--json", "--roster", "1", empty).refused(exitUsage, "no_rows")
		b.run("rescind", "--not-in", empty, "--batch", "1", "--json").refused(exitUsage, "no_rows")
		if n := len(b.run("batches", "--json").want(exitOK).objects()); n != 1 {
			c.Errorf("%d batches, want 1", n)
		}
	})

var _ = promised("the documents of limits and limits thaw",
	[]string{
		"`limits`: an array of `instance`, `environment`, `at`, `workers`, `limits` (`bucket`: `create`, `bulk`, " +
			"`general`; `limit`: the strictest of the one given and those of live workers; `free`: requests that " +
			"may start now, null for any number or none at all; `opens_at`, `frozen_until`, `frozen_reason`, " +
			"`one_at_a_time_until` (for 24 windows after a 429), null where it has none; `ceiling`, always null), `differing_limits`.",
		"`limits thaw`: an array of the freezes that it ended: `instance`, `bucket`, `frozen_until` (when it " +
			"would have ended).",
	},
	func(c *check) {
		d := c.documents()
		k, b := c.hired("BULKINVITE_LIMIT_BULK=off")
		k.faults(`[{"call":"create","kind":"status","status":429,"retry_after":"3600"}]`)
		b.run("import", "--yes", b.people(some("slow", 3)...)).want(exitOK)
		b.start("work", "--limit-create", "50/1h")
		b.start("work")
		b.until(1, `select count(*) from buckets where frozen_until is not null`)
		b.until(2, `select count(*) from workers`)
		doc := d.read("limits", limitsDocument, b.run("limits", "--json").want(exitOK))
		c.holds(doc, "[0].instance ins_sandbox, [0].environment production, [0].workers 2, [0].limits[0].bucket "+
			"create, [0].limits[0].limit 50/1h, [0].limits[0].free 0, [0].limits[1].bucket bulk, "+
			"[0].limits[1].limit off, [0].limits[2].bucket general")
		c.set(doc, "[0].limits[0].opens_at [0].limits[0].frozen_until [0].limits[0].frozen_reason [0].limits[0].one_at_a_time_until "+
			"[0].differing_limits[1].create")
		c.null(doc, "[0].limits[1].free [0].limits[1].opens_at [0].limits[1].frozen_until [0].limits[1].one_at_a_time_until")
		b.olderWorker()
		d.read("limits", limitsDocument, b.run("limits", "--json").want(exitOK))
		d.bothWays()

		doc = d.read("limits", limitsDocument, b.run("limits", "--json", "--limit-general", "none").want(exitOK))
		c.set(doc, "[0].limits[2].free") // the workers have a limit, which is stricter
		frozen := at(doc, "[0].limits[0].frozen_until")
		doc = d.read("limits thaw", thawDocument, b.run("limits", "thaw", "--json").want(exitOK))
		c.holds(doc, fmt.Sprintf("[0].instance ins_sandbox, [0].bucket create, [0].frozen_until %v", frozen))
	})

var _ = promised("the document of check",
	[]string{"`check`: `rows`, `blank`, `valid`, `invalid`, `duplicate_row`, `problems` and `warnings` (`row`, " +
		"`line`, `column`, `code`, `message`; a thousand of each, then `more_problems`, `more_warnings`; " +
		"the message of an address with odd characters may end in the one that was probably meant), " +
		"`columns` (`found`, `mapped`, `ignored`, and `numbers`: our name to the column's number, from 1), " +
		"`header_line`, `encoding`, `encoding_guesses` (only where the encoding is uncertain: `encoding` and " +
		"`sample`, the likeliest first; the page and the API leave `sample` empty), `delimiter` (of a workbook " +
		"`Excel workbook`, an empty one, and `sheet`), `already_invited`, `already_registered`, `plan` (`to_send`, " +
		"`bulk`, `create`, `windows` in which its requests leave, `seconds` from now until the last one does)."},
	func(c *check) {
		d := c.documents()
		check := keyed(checkKeys)
		_, b := c.hired()
		doc := d.read("check", check, b.run("check", "--preflight", "--json", b.file("hires.csv",
			hires)).want(exitRows))
		c.holds(doc, "rows 8, blank 1, valid 6, invalid 1, duplicate_row 1, problems[0].row 7, problems[0].line "+
			"8, problems[0].column email, problems[0].code no_at")
		c.holds(doc, "columns.found [Name email Department], columns.mapped map[email:email], columns.ignored "+
			"[Name Department], columns.numbers map[email:2], header_line 1, encoding UTF-8")
		if at(doc, "delimiter") != "," {
			c.Errorf("delimiter %q", at(doc, "delimiter"))
		}
		c.holds(doc, "already_invited 1, already_registered 1, plan.to_send 4, plan.bulk 0, plan.create 4, "+
			"plan.windows 1")
		if at(doc, "more_problems") != nil || at(doc, "more_warnings") != nil || at(doc, "sheet") != nil {
			c.Errorf("%v", doc)
		}
		bad := b.file("bad.csv", "email\n"+strings.Repeat("nobody\n",
			1002)+strings.ReplaceAll(strings.Join(some("p", 1003), "\n"), "example.com", "gmial.com")+"\n")
		doc = d.read("check", check, b.run("check", "--json", bad).want(exitRows))
		c.holds(doc, "rows 2005, invalid 1002, more_problems 2, more_warnings 3")
		for _, name := range []string{"problems", "warnings"} {
			if all, _ := at(doc, name).([]any); len(all) != 1000 {
				c.Errorf("%d %s, want a thousand", len(all), name)
			}
		}
		book, err := filepath.Abs("../../examples/hires.xlsx")
		if err != nil {
			c.Fatal(err)
		}
		doc = d.read("check", check, b.run("check", "--json", book))
		c.set(doc, "sheet")
		c.holds(doc, "encoding Excel workbook, delimiter ")
		// These bytes are text in Cyrillic and in Greek encodings.
		doc = d.read("check", check, b.run("check", "--json",
			b.file("unsure.csv", "Name,Email\n\xd0\xe5\xf2\xf0,a@example.com\n")))
		if guesses, _ := at(doc, "encoding_guesses").([]any); len(guesses) < 2 ||
			at(doc, "encoding_guesses[0].encoding") != at(doc, "encoding") ||
			at(doc, "encoding_guesses[0].sample[0]") == "" {
			c.Errorf("%v", doc)
		}
		doc = d.read("check", check, b.run("check", "--json", b.people(some("p", 1200)...)).want(exitOK))
		if amount(doc, "plan.windows") < 2 || amount(doc, "plan.bulk") == 0 {
			c.Errorf("%v", doc)
		}
	})

var _ = promised("the document of resend where nobody is invited again",
	[]string{"`resend` of a batch of which nobody is to be invited again: `people` (0), `expired`, `younger`, " +
		"`cooling`, `accepted`, `revoked`, `erased` (their address was erased or purged), how many are left out " +
		"and why."},
	func(c *check) {
		d := c.documents()
		k, b := c.hired()
		addresses := []string{"younger@example.com", "accepted@example.com", "revoked@example.com",
			"erased@example.com", "cooling@example.com"}
		b.run("send", "--yes", b.people(addresses...)).want(exitOK)
		k.ask("POST", "/sandbox/accept", `{"addresses":["accepted@example.com"]}`)
		b.run("rescind", "--email", "revoked@example.com", "--apply", "--yes").want(exitOK)
		b.run("erase", "erased@example.com", "--yes").want(exitOK)
		b.run("reconcile").want(exitOK)
		doc := d.read("resend", resendNobody, b.run("resend", "1", "--yes", "--json").want(exitOK))
		c.holds(doc, "people 0, expired 0, younger 2, cooling 0, accepted 1, revoked 1, erased 1")
		b.run("resend", "1", "--pending-for", "1ms", "--yes").want(exitOK)
		doc = d.read("resend", resendNobody, b.run("resend", "1", "--pending-for", "1ms", "--yes",
			"--json").want(exitOK))
		c.holds(doc, "people 0, younger 0, cooling 2")
	})

var _ = promised("the document of sweep",
	[]string{
		"`sweep`: `sweep`, `apply`, `scanned`, `stale`, `revoked`, `skipped` by reason, `failed`, `held`; and " +
			"`kind` (`sweep`, `rescind`, `undo`, `correct`), `state` (`dry_run`, `held`, `running`, `done`), " +
			"`batch`, `started_by`, `older_than` (seconds), `scope`, `undecided`, `threshold`, `allowed_by`, " +
			"`night`, `started_at`, `allowed_at`, `finished_at`.",
		"Once `state` is `done`, `stale` is `revoked` + `failed` + the sum of `skipped`. `sweep --list`: an array " +
			"of these, the newest first.",
	},
	func(c *check) {
		d := c.documents()
		k, b := c.hired()
		b.run("send", "--yes", b.people(some("p", 40)...)).want(exitOK)
		b.run("send", "--yes", "--expires-in-days", "3", b.people("own@example.com")).want(exitOK)
		sweep := func(exit int, args ...string) any {
			c.Helper()
			return d.read("sweep", sweepDocument, b.run(append([]string{"sweep", "--json"}, args...)...).want(exit))
		}
		c.holds(sweep(exitOK, "--actor", "maria"), "sweep 1, kind sweep, state dry_run, apply false, scanned 41, "+
			"stale 0, older_than 1209600, scope ours, started_by maria, held false")
		doc := sweep(exitOK, "--older-than", "1ms", "--scope", "all")
		c.holds(doc, "sweep 2, state dry_run, scanned 42, stale 42, revoked 0, undecided 0, scope all")
		c.set(doc, "finished_at")
		if again := sweep(exitOK, "2"); fmt.Sprint(again) != fmt.Sprint(doc) {
			c.Errorf("a dry run is %v, and once more %v", doc, again)
		}

		c.holds(sweep(exitHeld, "--older-than", "1ms", "--apply", "--yes"),
			"sweep 3, state held, held true, apply true, threshold 20, undecided 40, skipped.own_expiry 1")
		doc = sweep(exitOK, "3", "--allow", "--yes", "--actor", "olga")
		c.holds(doc, "sweep 3, state done, held false, stale 41, revoked 40, undecided 0, allowed_by olga, "+
			"skipped.own_expiry 1")
		c.set(doc, "allowed_at finished_at")

		// Show a sweep that runs while Clerk is slow.
		b.run("send", "--yes", b.people(some("q", 3)...)).want(exitOK)
		k.faults(`[{"call":"revoke","kind":"slow","delay":"2s"}]`)
		p := b.start("sweep", "--older-than", "1ms", "--apply", "--yes")
		b.until(1, `select least(count(*), 1) from attempts where sweep_id = 4`)
		c.holds(sweep(exitOK, "4"), "state running, apply true, stale 4, undecided 3")
		p.wait().want(exitOK)
		k.ask("DELETE", "/sandbox/faults", "")
		c.holds(sweep(exitOK, "4"), "state done, revoked 3, undecided 0, skipped.own_expiry 1")

		b.run("send", "--yes", b.people("wrong@example.com", "r001@example.com", "r002@example.com",
			"r003@example.com")).want(exitOK)
		b.run("correct", "4", "1", "--email", "right@example.com", "--yes").want(exitOK)
		doc = d.read("sweep", sweepDocument, b.run("undo", "4", "--yes", "--json").want(exitOK))
		c.holds(doc, "kind undo, batch 4, state done, revoked 4")
		c.null(doc, "older_than")
		b.run("rescind", "--email", "own@example.com", "--apply", "--yes").want(exitOK)
		b.exec(`insert into sweeps (instance_id, started_by, kind, scope, apply, started_at, finished_at, ` +
			`older_than, night) values (1, 'nightly sweep', 'sweep', 'ours', true, now(), now(), interval '14 ` +
			`days', now())`)

		kinds, last := map[string]bool{}, int64(math.MaxInt64)
		for _, one := range asObjects(c, b.run("sweep", "--list", "--json").want(exitOK).doc()) {
			if n := amount(one, "sweep"); n >= last {
				c.Errorf("sweep %d stands behind %d", n, last)
			}
			last = amount(one, "sweep")
			d.hold("an item of sweep --list", "sweep", sweepDocument, one)
			kinds[fmt.Sprint(at(one, "kind"))] = true
		}
		if len(kinds) != 4 {
			c.Errorf("kinds %v", kinds)
		}
		d.bothWays()
	})

var _ = promised("the document of rescind",
	[]string{"`rescind`: `sweep` (its number; 0: refused), `apply`, `people`, `pending` (invitations to revoke), " +
		"`waiting` (rows to cancel), `joined` (the people who have accepted or are users), `unknown` (people of " +
		"whom there is nothing to take back), `revoked`, `cancelled`, `skipped` by reason, `failed`, `held`."},
	func(c *check) {
		d := c.documents()
		k, b := c.hired()
		b.run("send", "--yes", b.people("a@example.com", "joined@example.com", "b@example.com")).want(exitOK)
		k.ask("POST", "/sandbox/accept", `{"addresses":["joined@example.com"]}`)
		b.run("reconcile").want(exitOK)
		b.run("import", "--yes", b.people("waits@example.com")).want(exitOK)
		leavers := b.people("a@example.com", "joined@example.com", "waits@example.com", "stranger@example.com")
		doc := d.read("rescind", rescindDocument, b.run("rescind", leavers, "--json").want(exitOK))
		c.holds(doc, "apply false, people 4, pending 1, waiting 1, joined [joined@example.com], unknown 1, "+
			"revoked 0, cancelled 0, held false")
		doc = d.read("rescind", rescindDocument, b.run("rescind", leavers, "--apply", "--yes", "--json").want(exitOK))
		c.holds(doc, "apply true, people 4, revoked 1, cancelled 1, failed 0")
		if amount(doc, "sweep") == 0 {
			c.Error("it has no number")
		}
	})

var _ = promised("the documents of reconcile and drift",
	[]string{
		"`reconcile`: `reconcile` (its number), `complete`, `requests`, `scanned` (invitations at Clerk), " +
			"`accepted`, `expired`, `revoked`, `deleted` (rows that turned out to be so), `drift` (`unexplained`, " +
			"`gone`, `pending_again`: how many stand).",
		"`drift`: an array of `kind`, `clerk_invitation_id`, `email`, `status`, `created_at`, `batch_id`, " +
			"`row_number`, `first_seen`, `last_seen`, `environment`.",
	},
	func(c *check) {
		d := c.documents()
		k, b := c.hired()
		b.run("send", "--yes", b.people(some("p", 4)...)).want(exitOK)
		k.ask("POST", "/sandbox/accept", `{"addresses":["p000@example.com"]}`)
		b.exec(`update results set status = 'expired' where row_number = 3`)
		var id string
		if err := b.sql().QueryRow(b.Context(), `select clerk_invitation_id from results where row_number = `+
			`2`).Scan(&id); err != nil {
			c.Fatal(err)
		}
		key := map[string][]string{"Authorization": {"Bearer sk_live_contract"}}
		if status, text := request(c, "DELETE", k.url+"/invitations/"+id, key, ""); status != 200 {
			c.Fatalf("%d %s", status, text)
		}
		k.ask("POST", "/sandbox/invitations", `["stranger@example.com"]`)
		doc := d.read("reconcile", keyed(reconcileKeys), b.run("reconcile", "--json").want(exitOK))
		c.holds(doc, "reconcile 1, complete true, scanned 5, accepted 1, expired 0, revoked 0, deleted 1, "+
			"drift.unexplained 2, drift.gone 1, drift.pending_again 1")
		doc = d.read("drift", driftDocument, b.run("drift", "--json").want(exitOK))
		kinds := map[string]int{}
		all, _ := doc.([]any)
		for _, one := range all {
			kinds[fmt.Sprint(at(one, "kind"))]++
			if unexplained := at(one, "kind") == "unexplained"; unexplained != (at(one, "batch_id") == nil) ||
				unexplained != (at(one, "row_number") == nil) {
				c.Errorf("%v", one)
			}
		}
		if fmt.Sprint(kinds) != "map[gone:1 pending_again:1 unexplained:2]" {
			c.Errorf("drift %v", kinds)
		}
		d.bothWays()
	})

var _ = promised("the documents of erase and purge",
	[]string{"`erase`: `erasure` (its number), `rows`, `cancelled` (of them), `batches`, `pending` (invitations " +
		"that are left pending at Clerk), `revoked`. `purge`: `erasure` (0: there was nothing to remove), " +
		"`batches`, `rows`."},
	func(c *check) {
		d := c.documents()
		_, b := c.hired()
		b.run("send", "--yes", b.people("a@example.com", "b@example.com", "c@example.com")).want(exitOK)
		b.run("import", "--yes", b.people("waits@example.com")).want(exitOK)
		for address, want := range map[string]string{
			"a@example.com":     "rows 1, cancelled 0, batches [1], pending 1, revoked 0",
			"waits@example.com": "rows 1, cancelled 1, batches [2], pending 0, revoked 0",
			"b@example.com":     "rows 1, cancelled 0, batches [1], pending 0, revoked 1",
		} {
			args := []string{"erase", address, "--yes", "--json"}
			if strings.HasSuffix(want, "revoked 1") {
				args = append(args, "--revoke")
			}
			doc := d.read("erase", eraseDocument, b.run(args...).want(exitOK))
			c.holds(doc, want)
			if amount(doc, "erasure") == 0 {
				c.Errorf("%v", doc)
			}
		}
		c.holds(d.read("purge", purgeDocument, b.run("purge", "--older-than", "1d", "--yes",
			"--json").want(exitOK)), "erasure 0, batches [], rows 0")
		b.exec(`update batches set finished_at = now() - interval '2 days'`)
		c.holds(d.read("purge", purgeDocument, b.run("purge", "--older-than", "1d", "--yes",
			"--json").want(exitOK)), "erasure 4, batches [1 2], rows 1")
	})

var _ = promised("the document of verify",
	[]string{"`verify`: `batch`, `holds`, `certificate` (the one that it was held against), `given` (the head " +
		"that was given, or null), `differences` (`what`: `head`, `batch`, `rows`, `attempts`, `reads`, " +
		"`sightings`, `added`; `from`, `to`: rows or attempts)."},
	func(c *check) {
		d := c.documents()
		_, b := c.hired()
		b.run("send", "--yes", b.file("hires.csv", hires)).want(exitRows)
		b.until(1, `select count(*) from batches where certificate is not null`)
		doc := d.read("verify", verifyDocument, b.run("verify", "1", "--json").want(exitOK))
		c.holds(doc, "batch 1, holds true, certificate.number 1, certificate.rows 8, differences []")
		c.null(doc, "given")
		good := fmt.Sprint(at(doc, "certificate.head"))
		c.holds(d.read("verify", verifyDocument, b.run("verify", "1", "--json", "--head", good).want(exitOK)),
			"holds true, given "+good)
		bad := strings.Repeat("0", 64)
		c.holds(d.read("verify", verifyDocument, b.run("verify", "1", "--json", "--head", bad).want(exitRows)),
			"holds false, differences[0].what head")
		for _, planted := range []struct{ sql, undo, what string }{
			{`update results set line = line + 100 where row_number = 2`,
				`update results set line = line - 100 where row_number = 2`, "rows"},
			{`update attempts set trace_id = 'x' || trace_id where id = 1`,
				`update attempts set trace_id = substr(trace_id, 2) where id = 1`, "attempts"},
			{`update batches set actor = 'x' || actor`, `update batches set actor = substr(actor, 2)`, "batch"},
			{`update reads set worker_id = 'x' || worker_id where id in (select read_id from results)`,
				`update reads set worker_id = substr(worker_id, 2) where id in (select read_id from results)`,
				"reads"},
			{`update certified_sightings set clerk_id = 'x' || clerk_id`,
				`update certified_sightings set clerk_id = substr(clerk_id, 2)`, "sightings"},
			{`with a as (insert into attempts (instance_id, bucket, call, worker_id, started_at, deadline) values ` +
				`(1, 'create', 'create', 'w', now(), now()) returning id) insert into attempt_people (attempt_id, ` +
				`instance_id, key, batch_id, row_number, open) select id, 1, 'added@example.com', 1, 5, false ` +
				`from a`, `with a as (delete from attempt_people where key = 'added@example.com' returning ` +
				`attempt_id) delete from attempts where id in (select attempt_id from a)`, "added"},
		} {
			b.exec(planted.sql)
			doc := d.read("verify", verifyDocument, b.run("verify", "1", "--json").want(exitRows))
			c.holds(doc, "holds false")
			var what []string
			all, _ := at(doc, "differences").([]any)
			for _, one := range all {
				what = append(what, fmt.Sprint(at(one, "what")))
				if planted.what == "rows" {
					c.set(one, "from to")
				}
			}
			if !strings.Contains(strings.Join(what, " "), planted.what) {
				c.Errorf("%s: %q differ", planted.sql, what)
			}
			b.exec(planted.undo)
		}
		b.run("verify", "1").want(exitOK)
		d.bothWays()
	})

var _ = promised("the document of batches",
	[]string{"`batches`: an array of `batch`, `file_name`, `actor`, `environment`, `state`, `state_reason`, " +
		"`rows`, `undecided`, `outcomes`, `accepted`, `created_at`, `started_at`, `finished_at`."},
	func(c *check) {
		d := c.documents()
		k, b := c.hired()
		b.run("send", "--yes", "--actor", "maria", b.file("hires.csv", hires)).want(exitRows)
		k.ask("POST", "/sandbox/accept", `{"addresses":["ann@example.com"]}`)
		b.run("reconcile").want(exitOK)
		b.run("import", "--yes", "--canary", "1", b.people(some("p", 2)...)).want(exitOK)
		b.run("work", "--until-idle").want(exitOK)
		b.run("import", "--draft", "--yes", b.people(some("q", 2)...)).want(exitOK)
		doc := d.read("batches", batchesDocument, b.run("batches", "--json").want(exitOK))
		c.holds(doc, "[0].batch 3, [0].state draft, [1].batch 2, [1].state paused, [1].undecided 1, [2].batch 1, "+
			"[2].state done, [2].file_name hires.csv, [2].actor maria, [2].rows 8, [2].outcomes.invited 3, "+
			"[2].accepted 1")
		d.bothWays()
	})

var _ = promised("the documents of results, audit and why",
	[]string{
		"`results`: an array of objects with the file's own columns and then `bulkinvite_outcome`, `_reason`, " +
			"`_email`, `_status` (`pending`, `accepted`, `revoked`, `expired`, `gone`: deleted at Clerk), " +
			"`_clerk_invitation_id`, `_decided_at`, `_row`, `_line`, `_duplicate_of`.",
	},
	func(c *check) {
		d := c.documents()
		k, b := c.hired()
		b.run("send", "--yes", "--json", b.file("hires.csv", hires)).want(exitRows)
		k.ask("POST", "/sandbox/accept", `{"addresses":["ann@example.com"]}`)
		b.run("reconcile").want(exitOK)
		b.run("import", "--yes", b.people("waits@example.com")).want(exitOK)
		own := fields{"Name": text, "email": text, "Department": text}
		doc := d.read("results", list(keyed(resultKeys.with(own))), b.run("results", "1", "--json").want(exitOK))
		c.holds(doc, "[0].Name Ann, [0].Department Sales, [0].bulkinvite_outcome invited, [0].bulkinvite_status "+
			"accepted, [1].bulkinvite_status pending, [1].bulkinvite_email bob@example.com, "+
			"[5].bulkinvite_duplicate_of 1, [7].bulkinvite_row 8, [7].bulkinvite_line 10")
		d.read("results", list(keyed(resultKeys.with(fields{"email": text}))), b.run("results", "2",
			"--json").want(exitOK))
		d.bothWays()
		for _, s := range []string{"revoked", "expired", "gone"} {
			b.exec(`update results set status = $1 where row_number = 1`, s)
			doc := d.read("results", list(keyed(resultKeys.with(own))), b.run("results", "1", "--format", "json",
				"--outcome", "invited").want(exitOK))
			c.holds(doc, "[0].bulkinvite_status "+s)
		}
		c.saw("_reason", "_email", "_status", "_clerk_invitation_id", "_decided_at", "_row", "_line", "_duplicate_of")
	})

var _ = promised("the CSV of results",
	[]string{"CSV has the same columns, is RFC 4180 in UTF-8, and a cell that a spreadsheet would take for a " +
		"formula has an apostrophe in front. That is one that begins with `=`, `+`, `-` or `@`, also in full " +
		"width, or with a control character."},
	func(c *check) {
		_, b := c.hired()
		cells := []string{"=1+1", "+1", "-1", "@x", "＝1", "＋1", "－1", "＠x", "\tx", "\x01x", "plain", "a, \"b\"",
			"two\nlines", "née"}
		var file strings.Builder
		w := csv.NewWriter(&file)
		records := [][]string{{"email", "Note"}}
		for i, cell := range cells {
			records = append(records, []string{fmt.Sprintf("p%d@example.com", i), cell})
		}
		if err := w.WriteAll(records); err != nil {
			c.Fatal(err)
		}
		b.run("import", "--draft", "--yes", b.file("odd.csv", file.String())).want(exitOK)
		out := b.run("results", "1", "--format", "csv").want(exitOK).out
		if !utf8.ValidString(out) || strings.Count(out, "\n") != strings.Count(out, "\r\n") {
			c.Errorf("lines do not end as RFC 4180 says: %q", out)
		}
		got, err := csv.NewReader(strings.NewReader(out)).ReadAll()
		if err != nil {
			c.Fatal(err)
		}
		if want := "email,Note,bulkinvite_outcome,bulkinvite_reason,bulkinvite_email,bulkinvite_status," +
			"bulkinvite_clerk_invitation_id,bulkinvite_decided_at,bulkinvite_row,bulkinvite_line," +
			"bulkinvite_duplicate_of"; strings.Join(got[0], ",") != want {
			c.Errorf("columns %q", got[0])
		}
		c.saw("-")
		for i, cell := range cells {
			want := cell
			if i < 10 {
				want = "'" + cell
			}
			if got[i+1][1] != want {
				c.Errorf("%q became %q, want %q", cell, got[i+1][1], want)
			}
		}
	})

var _ = promised("the documents of audit and why",
	[]string{"`audit`: an array of the columns of `results` ([audit.md](audit.md)) that say what happened, with " +
		"`actor`, `file_name`, `environment`. `why`: `key`, `keys` (with those of corrections, and what stands " +
		"for the person in rows that a purge emptied), `rows`, `attempts`, `late_answers`, `reads`, `sightings`, " +
		"`events`, `summary`.",
		"The objects in these two have the following keys. Each stands for the column of that name in " +
			"[audit.md](audit.md), unless the table says otherwise.",
		"| `audit` | `batch_id`, `row_number`, `line`, `email`, `outcome`, `reason`, `duplicate_of`, `status`, " +
			"`status_at`, `status_read_id`, `clerk_invitation_id`, `clerk_user_id`, `decided_at`, `invited_at`, " +
			"`expires_at`, `attempt_id`, `read_id`, `redirect_url`, `expires_in_days`, `public_metadata`, " +
			"`notes`, `actor`, `file_name`, `environment` |",
		"| `rows` of `why` | the keys of `audit`; `imported_at`; `resend_of`, `corrects` and `corrects_row` of " +
			"the batch; `revoke_sent` |",
		"| `attempts` | `attempt_id`, `instance_id`, `environment`, `batch_id`, `row_number`, `call`, `others` " +
			"(how many other people the request carried), `worker_id`, `sweep_id`, `asked_by` (who started the " +
			"sweep), `under`, `started_at`, `deadline`, `answered_at`, `http_status`, `error_code`, `trace_id`, " +
			"`open`, `answer`, `clerk_invitation_id`, `closed_at`, `resolution`, `settled_by` (the read that " +
			"showed that the request made nothing) |",
		"| `late_answers` | `attempt_id`, `received_at`, `http_status`, `error_code`, `trace_id`, " +
			"`clerk_invitation_ids` |",
		"| `reads` | `read_id`, `call`, `begun_at`, `ended_at`, `http_status`, `error_code`, `trace_id`, `items`, " +
			"`complete` |",
		"| `sightings` | `instance_id`, `environment`, `clerk_id`, `kind`, `status`, `created_at`, `expires_at`, " +
			"`first_seen`, `first_read`, `last_seen`, `last_read` |",
		"| `events` | `at`, `batch_id`, `actor`, `action`, `details` |",
		"| `summary` | one for each instance: `instance_id`, `environment`, `sent` (ids of the invitations that " +
			"requests are proven to have made), `open` (requests whose answer is not known yet), `late` (late " +
			"answers of 200), `attempt_ids` |"},
	func(c *check) {
		d := c.documents()
		k, b := c.hired()
		b.run("send", "--yes", "--actor", "maria", "--metadata", "Department", b.file("hires.csv",
			hires)).want(exitRows)
		b.run("send", "--yes", b.file("own.csv",
			"email,redirect_url,expires_in_days\nown@example.com,https://app.example.com/in,7\n")).want(exitOK)
		k.ask("POST", "/sandbox/accept", `{"addresses":["ann@example.com"]}`)
		b.run("reconcile").want(exitOK)
		b.run("resend", "1", "--pending-for", "1ms", "--yes").want(exitOK)
		b.run("correct", "1", "3", "--email", "sid@example.com", "--yes").want(exitOK)
		b.run("import", "--yes", "--no-preflight", b.people("waits@example.com")).want(exitOK)
		rows := list(keyed(auditKeys))
		doc := d.read("audit", rows, b.run("audit", "--json").want(exitOK))
		all, _ := doc.([]any)
		if len(all) != 8+1+2+1+1 {
			c.Errorf("%d rows", len(all))
		}
		d.bothWays()
		c.holds(d.read("audit", rows, b.run("audit", "--email", "ann@example.com", "--json").want(exitOK)),
			"[0].actor maria, [0].file_name hires.csv, [0].environment production, [0].outcome invited, "+
				"[0].status accepted, [1].outcome duplicate_row, [1].duplicate_of 1")

		b.exec(`insert into late_answers (attempt_id, received_at, http_status, trace_id, clerk_invitation_ids) ` +
			`select attempt_id, now(), 200, 'trace_1', '{inv_1}' from results where key = 'cid@example.com' and ` +
			`attempt_id is not null`)
		doc = d.read("why", whyDocument, b.run("why", "cid@example.com", "--json").want(exitOK))
		c.holds(doc, "key cid@example.com, rows[0].outcome invited, attempts[0].call create, attempts[0].answer "+
			"created, summary[0].open 0")
		if keys := fmt.Sprint(at(doc, "keys")); !strings.Contains(keys, "cid@example.com") ||
			!strings.Contains(keys, "sid@example.com") {
			c.Errorf("keys %v", keys)
		}
		c.set(doc, "events[0].action late_answers[0].received_at sightings[0].clerk_id")
		doc = d.read("why", whyDocument, b.run("why", "pending@example.com", "--json").want(exitOK))
		c.set(doc, "reads[0].call")
		b.exec(`update batches set finished_at = now() - interval '2 days'`)
		b.run("purge", "--older-than", "1d", "--yes").want(exitOK)
		doc = d.read("why", whyDocument, b.run("why", "bob@example.com", "--json").want(exitOK))
		c.null(doc, "rows[0].email")
		if keys := fmt.Sprint(at(doc, "keys")); !strings.Contains(keys, "erased:") {
			c.Errorf("keys %v", keys)
		}
	})

var _ = promised("the documents of migrate, version and sandbox",
	[]string{"`migrate`: an array of `version`, `name`, `applied`, `applied_at`. `version`: `version`, `commit`, " +
		"`go`, `postgresql`. `sandbox`: `url`."},
	func(c *check) {
		d := c.documents()
		b := c.bench("TZ=Asia/Tokyo")
		fresh := b.with("DATABASE_URL=" + postgrestest.Empty(c).Config().ConnString())
		doc := d.read("migrate", migrateDocument, fresh.run("migrate", "--status", "--json").want(exitOK))
		c.holds(doc, "[0].version 1, [0].applied false")
		doc = d.read("migrate", migrateDocument, fresh.run("migrate", "--json").want(exitOK))
		c.holds(doc, "[0].version 1, [0].applied true")
		c.set(doc, "[0].applied_at")
		d.read("version", versionDocument, b.run("version", "--json").want(exitOK))
		d.read("version", versionDocument, b.with("DATABASE_URL").run("version", "--json").want(exitOK))
		d.bothWays()
		s := b.start("sandbox", "--listen", "127.0.0.1:0", "--json")
		s.await("}\n")
		out, _ := s.wrote()
		d.hold("sandbox", "sandbox", keyed(fields{"url": matching(`http://127\.0\.0\.1:\d+/v1`)}), decode(c, out))
	})

var _ = promised("times are RFC 3339 in UTC",
	[]string{"Times are RFC 3339 in UTC."},
	func(c *check) {
		_, b := c.hired("PGTZ=Asia/Tokyo")
		d := c.documents()
		b.run("import", "--yes", "--start-at", "2036-01-01T08:00:00+01:00", b.people("a@example.com")).want(exitOK)
		d.read("batch", batchDocument, b.run("status", "1", "--json", "--tz", "Asia/Tokyo").want(exitOK))
		d.read("batches", batchesDocument, b.run("batches", "--json").want(exitOK))
		d.read("limits", limitsDocument, b.run("limits", "--json").want(exitOK))
		d.read("audit", list(keyed(auditKeys)), b.run("audit", "--json", "--tz", "Asia/Tokyo").want(exitOK))
		d.read("token", keyed(fields{"token_text": text, "name": text, "role": text, "expires_at": timestamp}),
			b.run("token", "create", "other", "--json").want(exitOK))
		b.serve().signIn()
		d.read("tokens", list(keyed(fields{"token": integer, "name": text, "role": oneOf("auditor operator"),
			"created_by": text, "created_at": timestamp,
			"expires_at": timestamp, "used_at": mayBeNull(timestamp), "revoked_at": mayBeNull(timestamp)})),
			b.run("token", "list", "--json").want(exitOK))
		d.read("sessions", list(keyed(fields{"session": integer, "user": text, "role": oneOf("auditor operator"),
			"via":        exactly(`"link"`),
			"created_at": timestamp, "used_at": timestamp, "ends_at": timestamp})), b.run("sessions", "list",
			"--json").want(exitOK))
		d.read("dump", keyed(fields{"file": text, "at": timestamp, "schema": integer, "postgresql": text,
			"tables": integer, "rows": integer}),
			b.run("dump", filepath.Join(c.TempDir(), "all.dump"), "--json").want(exitOK))
	})
