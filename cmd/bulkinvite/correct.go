package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bulkinvite/importer"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

type correctCmd struct {
	Batch int64  `arg:"" help:"The batch's number; bulkinvite batches lists them."`
	Row   int    `arg:"" help:"The row's number in it; bulkinvite results BATCH shows it."`
	Email string `required:"" placeholder:"ADDRESS" help:"The right address. Default: none, it must be given."`
	Actor actor  `placeholder:"NAME" help:"Who does it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (correctCmd) Help() string {
	return `Examples:

    bulkinvite correct 12 212 --email jane@gmail.com
    bulkinvite correct 12 212 --email jane@gmail.com --yes --json

Revokes the invitation that went to the mistyped address, also one that a resend made for the row, or gives the row up if it was not sent yet, and invites the right one, with the row's own options, as a batch of one row that points to it. bulkinvite why ADDRESS tells both, with either address. Should somebody have accepted the first one, it stays, and you are asked before the other is sent. Given again after Ctrl-C or a crash, the same command goes on. Exit status: as of send, and 3 too if the first could not be revoked.`
}

// Run sets a row right and reports.
func (c *correctCmd) Run(ctx context.Context, p *program) error {
	email, _, code := importer.Clean(c.Email)
	if code != "" {
		return fail(exitUsage, "email", "write it as name@example.com", "--email: that is no address (%s)", code)
	}
	key, err := invitation.Key(email)
	if err != nil {
		return fail(exitUsage, "email", "write it as name@example.com", "--email: that is no address: %w", err)
	}
	u, of, err := openBatch(ctx, p, c.Batch, c.Actor)
	if err != nil {
		return err
	}
	if of.State == invitation.Draft {
		return fail(exitHeld, "draft", fmt.Sprintf("start it first: bulkinvite start %d; or correct the file, "+
			"import that, and discard this draft: bulkinvite cancel %d", of.ID, of.ID),
			"batch %d is a draft: nothing of it was sent, and a correction would send", of.ID)
	}
	row, err := batch.Correctable(ctx, u.pool, of.ID, c.Row)
	if err != nil {
		return fail(exitUsage, "no_row", fmt.Sprintf("bulkinvite results %d lists its rows", of.ID), "%w", err)
	}
	if row.Erased {
		return fail(exitHeld, "purged",
			"send a file with the right address; bulkinvite rescind --email ADDRESS --apply takes back "+
				"what is pending for the wrong one",
			"row %d of batch %d was erased or purged: nothing is left of it to invite another address with", c.Row, of.ID)
	}
	if row.Key == key {
		remedy := fmt.Sprintf("bulkinvite why ADDRESS shows the row; bulkinvite resend %d invites again", of.ID)
		return fail(exitUsage, "same_address", remedy, "row %d of batch %d is for this address already", c.Row, of.ID)
	}
	made := &jobs.Correction{Batch: row.CorrectedBy, Sweep: row.Sweep}
	switch {
	case made.Batch == 0:
		if err := c.consent(ctx, u, row); err != nil {
			return err
		}
		made, err = jobs.Correct(ctx, u.pool, of, c.Row, email, key, u.actor)
		if errors.Is(err, batch.ErrUnderWay) {
			return fail(exitHeld, "under_way", "try again in a minute", "%w", err)
		}
		if err != nil {
			return err
		}
	case row.CorrectedTo != key:
		return fail(exitHeld, "corrected", fmt.Sprintf("bulkinvite correct %d 1 --email ADDRESS sets that one right", made.Batch), "row %d of batch %d was set right before, by batch %d", c.Row, of.ID, made.Batch)
	}
	return c.work(ctx, u, made)
}

// consent says what is about to happen and has a person confirm it.
func (c *correctCmd) consent(ctx context.Context, u *upload, row *batch.CorrectableRow) error {
	what := "no invitation that was made for it is pending, so that none is revoked"
	switch {
	case row.Accepted:
		what = "its invitation was ACCEPTED, by whoever has that address, and can't be revoked"
	case len(row.Pending) > 0 && !slices.Contains(row.Pending, c.Batch):
		what = "the invitation that batch " + numbers(row.Pending) + " made for it is revoked"
	case len(row.Pending) > 0:
		what = "its invitation is revoked"
	case row.Outcome == "":
		what = "it is not decided yet, and is given up"
	}
	if row.Elsewhere {
		what += "; its address has another pending invitation, which stays unless " +
			"bulkinvite rescind --email ADDRESS --apply takes it back"
	}
	message := fmt.Sprintf("Row %d of batch %d: %s.", c.Row, c.Batch, what)
	u.tell(message, message)
	refused := fail(exitHeld, "not_confirmed", "--yes confirms it", "row %d of batch %d: nobody confirmed that it is set right; nothing was sent", c.Row, c.Batch)
	return u.confirmed(ctx, refused, "Invite the other address? [y/N] ", yes...)
}

// work works until the right address has its outcome and the wrong one's
// invitation is decided, and reports.
func (c *correctCmd) work(ctx context.Context, u *upload, made *jobs.Correction) error {
	u.batch = made.Batch
	worker, err := jobs.New(u.pool, u.target.api, u.workerConfig(u.instance))
	if err != nil {
		return err
	}
	var sw *revocation.Sweep
	err = worker.Run(ctx, func(ctx context.Context) (bool, error) {
		if made.Sweep != 0 {
			var err error
			if sw, err = revocation.ReadSweep(ctx, u.pool, made.Sweep); err != nil || sw.State() != revocation.SweepDone {
				return false, err
			}
		}
		b, err := batch.Batch(ctx, u.pool, made.Batch)
		return err == nil && b.State != invitation.Running, err
	})
	if err != nil {
		return u.badKey(err)
	}
	err = u.finish(ctx)
	if err == nil && sw != nil && sw.Failed > 0 {
		u.log.Error("the invitation of the mistyped address could not be revoked", "sweep", sw.ID)
		err = status(exitRows)
	}
	return err
}
