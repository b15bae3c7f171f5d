package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/app"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// batchFlags are what the commands that change a batch have in common.
type batchFlags struct {
	Batch int64 `arg:"" help:"The batch's number; bulkinvite batches lists them."`
	Actor actor `placeholder:"NAME" help:"Who does it, for the record. Default: the login name."`
}

// changeStatus ends the help of each command that changes a batch.
const changeStatus = `
Exit status: 0; 4 if the batch's state does not allow it; 2 if there is no such batch. Needs no key. --json prints what bulkinvite status BATCH does.`

type pauseCmd struct{ batchFlags }

// Help is shown before the flags.
func (pauseCmd) Help() string {
	return `Examples:

    bulkinvite pause 12
    bulkinvite pause 12 --actor maria

Stops a running batch until it is resumed. What is under way at Clerk comes to its end and is recorded.` + changeStatus
}

// Run pauses a batch.
func (c *pauseCmd) Run(ctx context.Context, p *program) error {
	return p.changeBatch(ctx, c.batchFlags, (*app.App).Pause)
}

type resumeCmd struct{ batchFlags }

// Help is shown before the flags.
func (resumeCmd) Help() string {
	return `Examples:

    bulkinvite status 12
    bulkinvite resume 12
    bulkinvite resume 12 --actor maria

Lets a paused batch go on, no matter who or what paused it. Workers (bulkinvite work), or the same send, resume it.` + changeStatus
}

// Run lets a paused batch run again.
func (c *resumeCmd) Run(ctx context.Context, p *program) error {
	return p.changeBatch(ctx, c.batchFlags, (*app.App).Resume)
}

type cancelCmd struct{ batchFlags }

// Help is shown before the flags.
func (cancelCmd) Help() string {
	return `Examples:

    bulkinvite cancel 12
    bulkinvite cancel 12 --yes --actor maria

Stops a batch for good: its undecided rows end as cancelled, those that are under way at Clerk as soon as it is known what became of them. Who was invited stays invited. Asks before; off a terminal it needs --yes.` + changeStatus
}

// Run cancels a batch.
func (c *cancelCmd) Run(ctx context.Context, p *program) error {
	cancel := func(a *app.App, ctx context.Context, id int64, actor string) error {
		if err := p.confirmCancel(ctx, a.Pool, id); err != nil {
			return err
		}
		return a.Cancel(ctx, id, actor)
	}
	return p.changeBatch(ctx, c.batchFlags, cancel)
}

// confirmCancel has a person confirm that the rest of a batch is given up.
func (p *program) confirmCancel(ctx context.Context, pool *pgxpool.Pool, id int64) error {
	b, err := batch.Batch(ctx, pool, id)
	if err != nil {
		return err
	}
	if err := batch.Allow(id, b.State, "cancel"); err != nil {
		return err
	}
	report, err := report.ReadReport(ctx, pool, id)
	if err != nil {
		return err
	}
	refused := fail(exitHeld, "not_confirmed", "--yes confirms it",
		"batch %d: nobody confirmed that it is cancelled; %s", id, decidedOf(report))
	question := fmt.Sprintf("Cancel batch %d for good? %s. [y/N] ", id,
		counted(report.Undecided, "person is then not invited", "people are then not invited"))
	return p.confirmed(ctx, refused, question, yes...)
}

type retryCmd struct {
	batchFlags
	Rejected bool `help:"Take up rejected rows too, where an allow list or a plan at Clerk has changed since. Default: off."`
}

// Help is shown before the flags.
func (retryCmd) Help() string {
	return `Examples:

    bulkinvite results 12 --outcome failed
    bulkinvite retry 12
    bulkinvite retry 12 --rejected

Takes up the rows that ended as failed; with --rejected also those that Clerk rejected. What a row had until then stays on record. Workers (bulkinvite work) send them.` + changeStatus
}

// Run takes up the failed rows of a batch, and the rejected ones.
func (c *retryCmd) Run(ctx context.Context, p *program) error {
	retry := func(a *app.App, ctx context.Context, id int64, actor string) error {
		rows, err := a.Retry(ctx, id, c.Rejected, actor)
		if err != nil {
			return err
		}
		p.note("batch %d: %s taken up again", id, counted(rows, "row is", "rows are"))
		return nil
	}
	return p.changeBatch(ctx, c.batchFlags, retry)
}

// useCase is a method of App that changes a batch.
type useCase func(a *app.App, ctx context.Context, id int64, actor string) error

// changeBatch changes a batch and says where it stands then.
func (p *program) changeBatch(ctx context.Context, c batchFlags, do useCase) error {
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	if err := do(&app.App{Pool: pool}, ctx, c.Batch, c.Actor.name()); err != nil {
		return wrongState(noBatch(err))
	}
	return p.printStatus(ctx, pool, c.Batch)
}

// wrongState says what to do about a batch whose state does not allow what was
// asked.
func wrongState(err error) error {
	var now *batch.StateError
	if !errors.As(err, &now) {
		return err
	}
	remedy := map[invitation.State]string{
		invitation.Draft:          "bulkinvite start %d lets it run",
		invitation.Running:        "it is being worked on; bulkinvite pause %d stops it",
		invitation.Paused:         "bulkinvite resume %d lets it go on",
		invitation.StateCancelled: "it is over for good; bulkinvite results %d --outcome cancelled has who was left, for a new file",
		invitation.Done:           "all its rows are decided; bulkinvite status %d shows it",
	}[now.State]
	return &failure{exit: exitHeld, code: "state", err: err, remedy: fmt.Sprintf(remedy, now.Batch)}
}
