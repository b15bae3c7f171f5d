package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkinvite/invitation"
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
    export-hires | bulkinvite send - --yes --json

Given again after Ctrl-C or a crash, the same command goes on with the same batch.
Exit status: 0 all decided; 3 some rows failed, rejected or invalid; 4 not confirmed, or sent before; 1, 2 and 130 as always.`
}

// Run sends the file and reports what became of each row.
func (c *sendCmd) Run(ctx context.Context, p *program) error {
	u, err := openUpload(ctx, p, &c.uploadFlags)
	if err != nil {
		return err
	}
	earlier, err := u.earlier(ctx)
	if err != nil {
		return err
	}
	if earlier != nil {
		err = u.goOn(ctx, earlier)
	} else {
		err = u.begin(ctx)
	}
	if err != nil {
		return err
	}
	if err := u.work(ctx); err != nil {
		return err
	}
	return u.finish(ctx)
}

// begin makes a new batch.
func (u *upload) begin(ctx context.Context) error {
	if err := u.makePlan(ctx); err != nil {
		return err
	}
	if err := u.consent(ctx); err != nil {
		return err
	}
	return u.importFile(ctx)
}

// goOn takes up a batch that was left. Whoever left it confirmed it.
func (u *upload) goOn(ctx context.Context, b *invitation.Batch) error {
	if b.State != invitation.Running && b.State != invitation.Paused {
		return u.sentAlready(b)
	}
	if b.State == invitation.Paused && b.Reason == "" {
		return fail(exitHeld, "paused", "", "%s: batch %d of this file was paused by a person", plain(u.plan.input.name), b.ID)
	}
	u.batch = b.ID
	message := fmt.Sprintf("Going on with batch %d of the same file, begun %s.", b.ID, moment(b.CreatedAt))
	if o := u.flags.batchOptions(); o != (invitation.Options{}) && o != b.Options {
		message += " It keeps the options that it was begun with; those given now are ignored."
	}
	if u.errTTY {
		u.note("%s", message)
	} else {
		u.log.Info(message, "batch", b.ID)
	}
	if b.State == invitation.Paused {
		return jobs.Resume(ctx, u.pool, b, u.actor)
	}
	return nil
}

// workerConfig is how a worker of this program works.
func (p *program) workerConfig(instance invitation.Instance) jobs.Config {
	return jobs.Config{
		Instance: instance,
		Create:   p.settings.LimitCreate, Bulk: p.settings.LimitBulk, General: p.settings.generalLimit(instance.Environment),
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
	worker, err := jobs.New(u.pool, u.target.api, u.workerConfig(u.instance))
	if err != nil {
		return err
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go u.watchDatabase(ctx, giveUp)
	err = worker.Run(ctx, progress.update)
	if errors.Is(err, jobs.ErrUnauthorized) {
		return u.badKey(err)
	}
	if gone := context.Cause(ctx); gone != nil && !errors.Is(gone, errInterrupted) {
		err = gone // whatever the worker said as it ended came of that
	}
	if err != nil {
		return fmt.Errorf("batch %d: %w", u.batch, err)
	}
	return nil
}

// watchDatabase gives up once the database has not answered for as long as it
// takes other processes to declare this one dead: waiting on is then of no use.
func (u *upload) watchDatabase(ctx context.Context, giveUp context.CancelCauseFunc) {
	patience := u.settings.RecoverAfter
	tick := time.NewTicker(min(5*time.Second, patience/4))
	defer tick.Stop()
	answered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, patience)
		err := u.pool.Ping(asking)
		cancel()
		switch {
		case err == nil:
			answered = time.Now()
		case time.Since(answered) > patience:
			giveUp(fail(exitFailed, "database", "nothing is lost: see that it runs, then give the same command again",
				"the database has not answered for %s", span(time.Since(answered))))
			return
		}
	}
}

func (u *upload) badKey(err error) error {
	return fail(exitFailed, "clerk_key", "nothing is lost: with a good key in "+keyVariable+", the same command goes on", "batch %d: %w", u.batch, err)
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
	report, err := u.reader.Report(ctx, u.batch)
	if err != nil {
		return err
	}
	if err := u.unfinished(report, interrupted); err != nil {
		return err
	}
	if u.json {
		err = u.printJSON(report)
	} else {
		err = u.print(reportText(report))
	}
	if err == nil && report.Outcomes.Trouble() > 0 {
		err = status(exitRows)
	}
	return err
}

// unfinished says why a batch still has undecided rows.
func (u *upload) unfinished(r *invitation.Report, interrupted bool) error {
	if r.Undecided == 0 {
		return nil
	}
	decided := fmt.Sprintf("%s of %s rows decided", thousands(r.Outcomes.Sum()), thousands(r.Rows))
	switch {
	case r.State == invitation.Paused && r.StateReason != nil:
		return fail(exitFailed, "paused", "once that is mended, the same command goes on", "batch %d is paused, %s: %s", r.Batch, decided, *r.StateReason)
	case r.State == invitation.Paused:
		return fail(exitHeld, "paused", "", "batch %d was paused by a person, %s", r.Batch, decided)
	case interrupted:
		return fail(exitInterrupted, "interrupted", "nothing is lost: the same command goes on with it", "interrupted: batch %d, %s", r.Batch, decided)
	}
	return fail(exitFailed, "failed", "the same command goes on with it", "batch %d is %s, %s", r.Batch, r.State, decided)
}
