package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/loopback"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
	"bulkinvite/migrations"
)

type doctorCmd struct {
	AfterRestore bool `help:"Read everything at Clerk too, and say what it has that this database lacks, as after a backup was restored. Default: off."`
}

// Help is shown before the flags.
func (doctorCmd) Help() string {
	return `Examples:

    bulkinvite doctor
    bulkinvite doctor --json
    bulkinvite doctor --after-restore

Looks at the database and its version, at clocks, at the key and whose it is, at limits, workers, rows that are stuck, and what waits for a person; says what is wrong and what to do. Sends nothing but reads, and changes nothing; --after-restore records what it reads, as reconcile does. Exit status: 0, also with warnings; 1 if anything is wrong.`
}

// The verdicts of a check.
const (
	verdictOK      = "ok"
	verdictWarning = "warning" // works, but a person should know
	verdictWrong   = "wrong"
)

var verdictColours = map[string]colour{verdictOK: green, verdictWarning: yellow, verdictWrong: red}

// finding is what one check came to.
type finding struct {
	Check   string `json:"check"` // in a word
	Verdict string `json:"verdict"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"` // empty where nothing is to be done
}

// diagnosis is what doctor prints.
type diagnosis struct {
	OK       bool      `json:"ok"` // nothing is wrong; there may be warnings
	Findings []finding `json:"findings"`
}

func (d *diagnosis) add(check, verdict, remedy, format string, args ...any) {
	d.Findings = append(d.Findings, finding{check, verdict, fmt.Sprintf(format, args...), remedy})
	d.OK = d.OK && verdict != verdictWrong
}

// failed adds what an error says of a check, and reports whether it is one.
func (d *diagnosis) failed(ctx context.Context, check string, err error) bool {
	if err != nil {
		f := classify(ctx, err)
		d.add(check, verdictWrong, f.remedy, "%s", hideAddresses(f.Error()))
	}
	return err != nil
}

// Run looks at everything that it can get at.
func (c *doctorCmd) Run(ctx context.Context, p *program) error {
	p.quiet()
	d := diagnosis{OK: true, Findings: []finding{}}
	pool := p.examineDatabase(ctx, &d)
	t := p.examineClerk(ctx, &d)
	reached := pool != nil && t != nil
	if reached {
		d.failed(ctx, "instance", p.examineInstance(ctx, &d, pool, t))
	}
	switch {
	case c.AfterRestore && reached:
		d.failed(ctx, "restore", p.examineRestored(ctx, &d, pool, t))
	case c.AfterRestore:
		d.add("restore", verdictWrong, "fix what is wrong above, and give the same command again",
			"whether Clerk has what this database lacks is not known")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := p.printDiagnosis(d); err != nil || d.OK {
		return err
	}
	return status(exitFailed)
}

func (p *program) printDiagnosis(d diagnosis) error {
	for i := range d.Findings {
		d.Findings[i].Remedy = p.complete(d.Findings[i].Remedy)
	}
	if p.json {
		return p.printJSON(d)
	}
	var t table
	for _, f := range d.Findings {
		t.paint(verdictColours[f.Verdict], f.Verdict, f.Check, f.Message)
		if f.Remedy != "" {
			t.add("", "", signs.arrow+" "+f.Remedy)
		}
	}
	return p.print(t.on(p.outDisplay()))
}

// clockSlack is how far clocks may differ before a person should know. The
// program allows for any difference; people who read times do not.
const clockSlack = 5 * time.Second

// examineDatabase returns nil where there is no database that the program can
// work with as it is.
func (p *program) examineDatabase(ctx context.Context, d *diagnosis) *pgxpool.Pool {
	pool, err := p.databaseAsItIs(ctx)
	if d.failed(ctx, "database", err) {
		return nil
	}
	var version string
	var number int
	var theirs time.Time
	began := time.Now()
	err = pool.QueryRow(ctx, `select current_setting('server_version'), current_setting('server_version_num')::int, clock_timestamp()`).Scan(&version, &number, &theirs)
	if d.failed(ctx, "database", err) {
		return nil
	}
	if number < 150000 {
		d.add("database", verdictWrong, "use PostgreSQL 15 or newer", "PostgreSQL %s is too old", version)
		return nil
	}
	d.add("database", verdictOK, "", "PostgreSQL %s answers", version)
	if host := unverifiedHost(pool.Config().ConnConfig); host != "" {
		d.add("encryption", verdictWarning,
			"add sslmode=verify-full to the database's URL, and sslrootcert=FILE if its certificate is of an authority of your own",
			"the connection to %s may be read or redirected by others on the network: the URL names no safe sslmode", host)
	}
	d.clock("clock of PostgreSQL", theirs, began, time.Now())
	return examineSchema(ctx, d, pool)
}

// unverifiedHost returns a host elsewhere to which the program would connect in
// plain text too: without sslmode, or with prefer or allow. An sslmode that
// was chosen, also disable, is somebody's decision.
func unverifiedHost(config *pgx.ConnConfig) string {
	first := &pgconn.FallbackConfig{Host: config.Host, TLSConfig: config.TLSConfig}
	encrypted := map[string]bool{}
	for _, way := range append([]*pgconn.FallbackConfig{first}, config.Fallbacks...) {
		if strings.HasPrefix(way.Host, "/") || loopback.Host(way.Host) {
			continue
		}
		tls := way.TLSConfig != nil
		if before, met := encrypted[way.Host]; met && before != tls {
			return way.Host
		}
		encrypted[way.Host] = tls
	}
	return ""
}

func examineSchema(ctx context.Context, d *diagnosis, pool *pgxpool.Pool) *pgxpool.Pool {
	all, err := migrations.Status(ctx, pool)
	if d.failed(ctx, "schema", err) {
		return nil
	}
	waiting, last := 0, all[len(all)-1]
	for _, m := range all {
		if !m.Applied {
			waiting++
		}
	}
	switch err := migrations.Current(ctx, pool); {
	case errors.Is(err, migrations.ErrNewer):
		d.failed(ctx, "schema", err)
		return nil
	case waiting == len(all):
		d.add("schema", verdictWarning, "nothing is to be done: the first command that works makes the tables", "the database is new and empty")
		return nil
	case waiting > 0:
		d.add("schema", verdictWarning, "bulkinvite migrate applies them; so does every command that works in the database",
			"%s not applied", counted(waiting, "migration is", "migrations are"))
		return nil
	}
	d.add("schema", verdictOK, "", "as this program has it, up to %s", last.Name)
	return pool
}

// clock compares a clock that was read between two moments of ours.
func (d *diagnosis) clock(check string, theirs, before, after time.Time) {
	switch {
	case theirs.Before(before.Add(-clockSlack)):
		d.add(check, verdictWarning, "let NTP set both clocks", "%s behind this machine's", span(before.Sub(theirs)))
	case theirs.After(after.Add(clockSlack)):
		d.add(check, verdictWarning, "let NTP set both clocks", "%s ahead of this machine's", span(theirs.Sub(after)))
	default:
		d.add(check, verdictOK, "", "agrees with this machine's within %s", clockSlack)
	}
}

// examineClerk returns nil where Clerk does not say who it is.
func (p *program) examineClerk(ctx context.Context, d *diagnosis) *target {
	t, err := p.connect(ctx)
	if d.failed(ctx, "key", err) {
		return nil
	}
	d.add("key", verdictOK, "", "%s", t)
	began := time.Now()
	answer := p.askInstance(ctx, t.api)
	switch {
	case !answer.Date.IsZero(): // whole seconds, rounded down
		d.clock("clock of Clerk", answer.Date, began.Add(-time.Second), time.Now())
	case answer.Class != clerk.Success:
		d.add("clock of Clerk", verdictWarning, "try again", "it is not known: Clerk answered %d %s", answer.Status, answer.Code)
	}
	return t
}

// examineInstance looks at what the database says of the instance of the key.
func (p *program) examineInstance(ctx context.Context, d *diagnosis, pool *pgxpool.Pool, t *target) error {
	instance, former, err := t.find(ctx, pool)
	switch {
	case err != nil:
		return err
	case former:
		d.add("instance", verdictWarning,
			"nothing to do: the next command that works renames it to "+t.clerkID+", with all that it holds",
			"an earlier version knew this instance by the key's fingerprint")
	case instance == 0:
		d.add("instance", verdictOK, "", "this database has not met it: nothing was imported for it yet")
		return nil
	}
	h, err := report.ReadHealth(ctx, pool, instance)
	if err != nil {
		return err
	}
	budget, err := report.ReadBudget(ctx, pool, instance, p.limits(t.environment))
	if err != nil {
		return err
	}
	d.workers(h)
	d.answers(h)
	d.limits(budget)
	d.limitsOfWorkers(budget)
	d.lists(h)
	d.waitForPeople(h)
	zoneless, err := batch.ReadZoneless(ctx, pool, instance)
	if err != nil {
		return err
	}
	d.zones(zoneless)
	if t.environment != "development" {
		return nil
	}
	mailed, err := report.MailedThisMonth(ctx, pool, instance)
	if err != nil {
		return err
	}
	if mailed >= invitation.UndeliveredAfter*8/10 {
		d.add("mails", verdictWarning, "use a production instance; what is over is made, and not mailed", "%s of the %d that a development instance delivers in a month", counted(mailed, "mail", "mails"), invitation.UndeliveredAfter)
	} else {
		d.add("mails", verdictOK, "", "%d of the %d that a development instance delivers in a month", mailed, invitation.UndeliveredAfter)
	}
	return nil
}

func (d *diagnosis) workers(h report.Health) {
	switch {
	case h.Waiting == 0:
		d.add("workers", verdictOK, "", "%s; no row waits", counted(h.Workers, "process works", "processes work"))
	case h.Workers == 0:
		d.add("workers", verdictWrong, "start one: bulkinvite work", "%s, the oldest for %s, and no process works", counted(h.Waiting, "row waits", "rows wait"), span(h.Oldest))
	default:
		d.add("workers", verdictOK, "", "%s on %s", counted(h.Workers, "process works", "processes work"), counted(h.Waiting, "row", "rows"))
	}
}

// unknownFor is how long an answer may be unknown before that is wrong: at the
// defaults it is settled within a minute.
const unknownFor = 10 * time.Minute

func (d *diagnosis) answers(h report.Health) {
	switch {
	case h.Unknown == 0:
		d.add("answers", verdictOK, "", "of every request it is known what it did at Clerk")
	case h.Lost > unknownFor:
		d.add("answers", verdictWrong, "bulkinvite status BATCH says why Clerk can't be read; a worker must run: bulkinvite work",
			"of %s it is not known what became of it at Clerk, for %s", counted(h.Unknown, "request", "requests"), span(h.Lost))
	default:
		d.add("answers", verdictWarning, "wait a minute: workers read what became of it", "the answer to %s was lost", counted(h.Unknown, "request", "requests"))
	}
}

func (d *diagnosis) limits(b report.Budget) {
	for _, f := range b.Frozen {
		remedy := fmt.Sprintf("another program may use the same instance: leave room for it with --limit-%s. "+
			"bulkinvite limits thaw %[1]s tries one request now", f.Bucket)
		d.add("limits", verdictWarning, remedy, "%s is closed until %s: %s", f.Bucket, moment(f.Until), f.Reason)
	}
	if len(b.Frozen) == 0 {
		d.add("limits", verdictOK, "", "Clerk has refused none that was kept (it tells no limit, only that one was met)")
	}
}

// zones names the batches that can't be sent, since PostgreSQL does not know in
// which hours.
func (d *diagnosis) zones(zoneless []batch.Zoneless) {
	if len(zoneless) == 0 {
		d.add("time zones", verdictOK, "", "PostgreSQL knows those of all batches")
		return
	}
	named := make([]string, len(zoneless))
	for i, z := range zoneless {
		named[i] = fmt.Sprintf("batch %d (%s)", z.Batch, plain(z.TZ))
	}
	d.add("time zones", verdictWrong, "bring PostgreSQL's time zones up to date and resume these batches, or cancel them and send the rest with another --tz",
		"PostgreSQL does not know the time zone of %s: nothing of that is sent", strings.Join(named, ", "))
}

// limitsOfWorkers names the workers that were given different limits, and those that don't state
// theirs.
func (d *diagnosis) limitsOfWorkers(b report.Budget) {
	const check = "limits of workers"
	differing := b.Differing()
	for _, w := range differing {
		if w.States() {
			d.add(check, verdictWarning, "give all workers the same; until then they keep the strictest", "%s", w)
		}
	}
	unknown := 0
	for _, w := range b.Workers {
		if !w.States() {
			unknown++
			d.add(check, verdictWarning, "replace it by this version; it keeps only the limits that it was given",
				"%s: it is of an earlier version", w)
		}
	}
	if len(differing)+unknown == 0 {
		d.add(check, verdictOK, "", "no two workers have different ones")
	}
}

// lists warns where reading Clerk's lists takes so long that it holds up invitations.
func (d *diagnosis) lists(h report.Health) {
	if h.Lists > jobs.SlowLists {
		d.add("reads", verdictWarning, "revoke pending invitations that nobody needs any more: bulkinvite sweep --scope all shows them; "+
			"--no-preflight sends without reading",
			"reading the invitations at Clerk took %s the last time, and nobody is invited meanwhile", span(h.Lists))
	}
}

// waitForPeople names what goes on only when a person says so.
func (d *diagnosis) waitForPeople(h report.Health) {
	if n := h.Batches[invitation.Paused]; n > 0 {
		d.add("batches", verdictWarning,
			"bulkinvite batches lists them, bulkinvite status BATCH says why, and bulkinvite resume BATCH goes on", "%s paused", counted(n, "batch is", "batches are"))
	}
	if h.Held > 0 {
		d.add("sweeps", verdictWarning, "bulkinvite sweep --list lists them; bulkinvite sweep NUMBER --allow lets one go on, "+
			"bulkinvite sweep NUMBER --stop ends it", "%s held", counted(h.Held, "sweep is", "sweeps are"))
	}
	if n := h.Drift.Sum(); n > 0 {
		d.add("drift", verdictWarning, "bulkinvite drift lists it", "%s by which Clerk and our rows tell different stories", counted(n, "invitation", "invitations"))
	}
	if d.OK && h.Batches[invitation.Paused]+h.Held+h.Drift.Sum() == 0 {
		d.add("people", verdictOK, "", "nothing waits for a person")
	}
}

// examineRestored reads everything at Clerk and says what this database lacks.
func (p *program) examineRestored(ctx context.Context, d *diagnosis, pool *pgxpool.Pool, t *target) error {
	instance, err := t.ensure(ctx, pool)
	if err != nil {
		return err
	}
	worker, err := jobs.New(pool, t.api, p.workerConfig(instance))
	if err != nil {
		return err
	}
	r, err := worker.Reconcile(ctx, loginName())
	if err != nil {
		return err
	}
	if r.Drift.Unexplained == 0 {
		d.add("restore", verdictOK, "", "this database has all of the %s at Clerk", counted(r.Scanned, "invitation", "invitations"))
		return nil
	}
	d.add("restore", verdictWarning, "bulkinvite drift lists them. Start workers: who of them still waits here ends as already_invited, and gets no second mail",
		"of %s at Clerk this database lacks %s, made after the backup or by somebody else", counted(r.Scanned, "invitation", "invitations"), thousands(r.Drift.Unexplained))
	return nil
}
