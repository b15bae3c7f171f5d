package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
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
	return p.changeBatch(ctx, c.batchFlags, jobs.Pause)
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
	return p.changeBatch(ctx, c.batchFlags, jobs.Resume)
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
	return p.changeBatch(ctx, c.batchFlags, func(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) error {
		if err := p.confirmCancel(ctx, pool, b); err != nil {
			return err
		}
		return jobs.Cancel(ctx, pool, b, actor)
	})
}

// confirmCancel has a person confirm that the rest of a batch is given up.
func (p *program) confirmCancel(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch) error {
	report, err := report.ReadReport(ctx, pool, b.ID)
	if err != nil {
		return err
	}
	if !slices.Contains([]invitation.State{invitation.Draft, invitation.Running, invitation.Paused}, report.State) {
		return &batch.StateError{Batch: b.ID, State: report.State, Action: "cancel"}
	}
	refused := fail(exitHeld, "not_confirmed", "--yes confirms it", "batch %d: nobody confirmed that it is cancelled; %s", b.ID, decidedOf(report))
	question := fmt.Sprintf("Cancel batch %d for good? %s. [y/N] ", b.ID, counted(report.Undecided, "person is then not invited", "people are then not invited"))
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
	return p.changeBatch(ctx, c.batchFlags, func(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) error {
		ended := func(r *report.Report) int { return r.Outcomes[invitation.Failed] + r.Outcomes[invitation.Rejected] }
		before, err := report.ReadReport(ctx, pool, b.ID)
		if err != nil {
			return err
		}
		retry := jobs.Retry
		if c.Rejected {
			retry = jobs.RetryRejected
		}
		if err := retry(ctx, pool, b, actor); err != nil {
			return err
		}
		after, err := report.ReadReport(ctx, pool, b.ID)
		if err != nil {
			return err
		}
		p.note("batch %d: %s taken up again", b.ID, counted(max(0, ended(before)-ended(after)), "row is", "rows are"))
		return nil
	})
}

// changeBatch changes a batch and says where it stands then.
func (p *program) changeBatch(ctx context.Context, c batchFlags, do func(context.Context, *pgxpool.Pool, *invitation.Batch, string) error) error {
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	b, err := batch.Batch(ctx, pool, c.Batch)
	if err != nil {
		return noBatch(err)
	}
	if err := do(ctx, pool, b, c.Actor.name()); err != nil {
		return wrongState(err)
	}
	return p.printStatus(ctx, pool, b.ID)
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
