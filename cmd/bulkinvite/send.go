package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
)

type sendCmd struct {
	uploadFlags
}

// Help is shown before the flags.
func (sendCmd) Help() string {
	return `Examples:

    bulkinvite send --sandbox --yes examples/hires.csv     rehearse: nothing leaves this machine
    bulkinvite send hires.csv --redirect-url https://app.example.com/welcome
    bulkinvite send people.csv --map email="Work Address" --expires-in-days 14
    bulkinvite send hires.csv --canary 5 --start-at "2026-11-24 08:00" --hours 8-18 --tz Europe/Berlin
    export-hires | bulkinvite send - --yes --json

Given again after Ctrl-C or a crash, the same command goes on with the same batch.
Exit status: 0 all decided; 3 some rows failed, rejected or invalid; 4 not confirmed, sent before, or paused by a person, a canary or too many refusals; 1, 2 and 130 as always.`
}

// Run sends the file and reports what became of each row.
func (c *sendCmd) Run(ctx context.Context, p *program) error {
	u, earlier, err := openUpload(ctx, p, &c.uploadFlags)
	if err != nil {
		return err
	}
	if u.plan.summary.Rows == 0 {
		return u.printEmpty()
	}
	if earlier != nil {
		err = u.goOn(ctx, earlier)
	} else {
		err = u.begin(ctx)
	}
	if err != nil {
		return err
	}
	for canary := true; canary; {
		if err = u.work(ctx); err == nil {
			canary, err = u.afterCanary(ctx)
		}
		if err != nil {
			return err
		}
	}
	if err := u.finishRoster(ctx); err != nil {
		return err
	}
	return u.finish(ctx)
}

// begin makes a new batch, of which nothing is written before it is confirmed.
func (u *upload) begin(ctx context.Context) error {
	if err := u.makePlan(ctx); err != nil {
		return err
	}
	if err := u.consent(ctx); err != nil {
		return err
	}
	return u.importFile(ctx)
}

// goOn takes up a batch that was left. Whoever left it confirmed it; one that
// the program has paused is confirmed once more.
func (u *upload) goOn(ctx context.Context, b *invitation.Batch) error {
	if b.State != invitation.Running && b.State != invitation.Paused {
		return u.sentAlready(b)
	}
	if err := u.sameLinks(b); err != nil {
		return err
	}
	if err := u.goOnRoster(ctx, b.ID); err != nil {
		return err
	}
	ignored := ""
	if o := u.flags.batch().Options; o != (invitation.Options{}) && o != b.Options {
		ignored = " It keeps the options that it was begun with; those given now are ignored."
	}
	return u.takeUp(ctx, b, ignored)
}

// takeUp goes on with a batch that was left.
func (u *upload) takeUp(ctx context.Context, b *invitation.Batch, more string) error {
	u.batch = b.ID
	message := fmt.Sprintf("Going on with batch %d, begun %s.%s", b.ID, moment(b.CreatedAt), more)
	u.tell(message, message, "batch", b.ID)
	if b.State != invitation.Paused {
		return nil
	}
	report, err := report.ReadReport(ctx, u.pool, b.ID)
	if err != nil {
		return err
	}
	return u.resume(ctx, b, report)
}

// afterCanary looks whether the batch waits for a word on its canary, and goes
// on if it is given.
func (u *upload) afterCanary(ctx context.Context) (bool, error) {
	if ctx.Err() != nil {
		return false, nil
	}
	report, err := report.ReadReport(ctx, u.pool, u.batch)
	if err != nil {
		return false, err
	}
	if report.State != invitation.Paused || by(report) != invitation.ByCanary {
		return false, nil
	}
	b, err := batch.Batch(ctx, u.pool, u.batch)
	if err != nil {
		return false, err
	}
	return true, u.resume(ctx, b, report)
}

// by is who or what paused a batch.
func by(r *report.Report) invitation.Pauser {
	if r.PausedBy == nil {
		return invitation.ByPerson
	}
	return *r.PausedBy
}

// resume has a person confirm that a paused batch goes on, and lets it. Only the command resume
// overrules a person, and a canary that met trouble is not waved through.
func (u *upload) resume(ctx context.Context, b *invitation.Batch, r *report.Report) error {
	held := u.paused(r, exitHeld)
	canary := by(r) == invitation.ByCanary
	switch {
	case by(r) == invitation.ByPerson:
		return held
	case u.settings.Yes && canary && r.Outcomes[invitation.Failed]+r.Outcomes[invitation.Rejected] > 0:
		return held
	case !u.settings.Yes && u.canAsk():
		u.note("%s", reportText(r, u.errDisplay()))
	}
	question := fmt.Sprintf("Go on with the other %s? [y/N] ", counted(r.Undecided, "person", "people"))
	if err := u.confirmed(ctx, held, question, yes...); err != nil {
		return err
	}
	return u.app().Resume(ctx, b.ID, u.actor)
}

// paused says why a batch stands still, and how to go on.
func (u *upload) paused(r *report.Report, exit int) error {
	remedy := fmt.Sprintf("bulkinvite results %d shows the rows; run bulkinvite resume %d, then the same command, to go on", r.Batch, r.Batch)
	switch by(r) {
	case invitation.ByClerk:
		remedy = "once that is fixed, the same command goes on (it asks before, unless --yes)"
	case invitation.ByZone:
		remedy = fmt.Sprintf("bring PostgreSQL's time zones up to date, then run bulkinvite resume %d; or cancel it and send the rest with another --tz", r.Batch)
	}
	unknown := ""
	if r.Unknown != nil {
		unknown = fmt.Sprintf(", %d not known until Clerk can be read", r.Unknown.Rows)
	}
	return fail(exit, "paused", remedy, "batch %d is paused, %s%s: %s", r.Batch, decidedOf(r), unknown, pauseReason(r))
}

func decidedOf(r *report.Report) string {
	return fmt.Sprintf("%s of %s rows decided", thousands(r.Outcomes.Sum()), thousands(r.Rows))
}

// workerConfig is how a worker of this program works.
func (p *program) workerConfig(instance invitation.Instance) jobs.Config {
	limits := p.limits(instance.Environment)
	return jobs.Config{
		Instance: instance, Create: limits.Create, Bulk: limits.Bulk, General: limits.General,
		Settle: p.settings.Settle, RequestTimeout: p.settings.RequestTimeout, RecoverAfter: p.settings.RecoverAfter,
		Log: p.log, Version: built().Version,
	}
}

// work works until every row of the batch is decided, the batch is taken from
// us, the database is gone, or ctx ends.
func (u *upload) work(ctx context.Context) error {
	progress, err := u.newProgress(ctx)
	if err != nil {
		return err
	}
	defer progress.stop()
	vigil := u.vigil()
	config := u.workerConfig(u.instance)
	config.Log = vigil.listen()
	if config.Links, err = u.openLinks(ctx); err != nil {
		return err
	}
	worker, err := jobs.New(u.pool, u.target.api, config)
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	gone, ran := make(chan error, 1), make(chan error, 1)
	go func() { gone <- vigil.watch(watching) }()
	go func() { ran <- worker.Run(watching, progress.update) }()
	select {
	case err = <-ran:
		stop()
		// Both may have failed at once. The database's failure is then the cause, and has the remedy.
		if lost := <-gone; err != nil && lost != nil {
			return lost
		}
	case err = <-gone:
		if err != nil { // nothing that the worker could still record would get anywhere
			return err
		}
		err = <-ran
	}
	switch {
	case errors.Is(err, jobs.ErrUnauthorized):
		return u.badKey(err)
	case errors.Is(err, jobs.ErrLinksHeld):
		return u.linksHeld()
	case err != nil:
		return fmt.Errorf("batch %d: %w", u.batch, err)
	}
	return nil
}

func (u *upload) badKey(err error) error {
	remedy := "nothing is lost: with a good key in " + keyVariable + ", the same command goes on"
	return keyRefused(err, remedy, fmt.Sprintf("batch %d: ", u.batch))
}

// reportWithin is how long the last look at the database may take once the
// program was told to end.
const reportWithin = 10 * time.Second

// finish reports, and finds the exit status. An interrupted batch has no report
// of its own: it is not over.
func (u *upload) finish(ctx context.Context) error {
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportWithin)
	defer cancel()
	report, err := report.ReadReport(ctx, u.pool, u.batch)
	if err != nil {
		return err
	}
	if err := u.unfinished(report, interrupted); err != nil {
		return err
	}
	return troubled(u.printStatus(ctx, u.pool, u.batch), report.Outcomes.Trouble() > 0)
}

// unfinished says why a batch still has undecided rows.
func (u *upload) unfinished(r *report.Report, interrupted bool) error {
	if r.Undecided == 0 {
		return nil
	}
	switch {
	case r.State == invitation.Paused && by(r) == invitation.ByClerk:
		return u.paused(r, exitFailed)
	case r.State == invitation.Paused:
		return u.paused(r, exitHeld)
	case interrupted:
		return fail(exitInterrupted, "interrupted", "nothing is lost: the same command goes on with it", "interrupted: batch %d, %s", r.Batch, decidedOf(r))
	}
	return fail(exitFailed, "failed", "the same command goes on with it", "batch %d is %s, %s", r.Batch, r.State, decidedOf(r))
}
