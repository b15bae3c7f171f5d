package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"

	"bulkinvite/invitation"
	"bulkinvite/jobs"
)

type undoCmd struct{ batchFlags }

// Help is shown before the flags.
func (undoCmd) Help() string {
	return `Examples:

    bulkinvite undo 12
    bulkinvite undo 12 --yes --actor maria

Cancels what is left of a batch, waits for what is under way at Clerk, and revokes each invitation that the batch sent and nobody has accepted. Nobody is told: who was mailed finds that the link no longer works. Asks before. Given again after Ctrl-C or a crash, the same command goes on. --json prints what sweep does. Exit status 0; 3 if a revocation failed; 4 not confirmed; 1, 2 and 130 as always.`
}

// Run takes a batch back.
func (c *undoCmd) Run(ctx context.Context, p *program) error {
	if c.Actor == "" {
		c.Actor = loginName()
	}
	t, err := p.openTakingBack(ctx)
	if err != nil {
		return err
	}
	b, err := t.store.Batch(ctx, c.Batch)
	if err != nil {
		return noBatch(err)
	}
	if b.InstanceID != t.instance.ID {
		return otherInstance(b)
	}
	if err := c.confirm(ctx, t, b); err != nil {
		return err
	}
	err = jobs.Cancel(ctx, t.pool, b, c.Actor)
	var state *invitation.StateError
	if err != nil && (!errors.As(err, &state) || state.State != invitation.Done && state.State != invitation.StateCancelled) {
		return err
	}
	sw, err := c.takeBack(ctx, t, b)
	if err != nil {
		return sweepFailure(err)
	}
	return p.printSweep(sw)
}

// takeBack waits until every row of a cancelled batch is decided, since what is
// under way may yet make an invitation, and then revokes what it sent.
func (c *undoCmd) takeBack(ctx context.Context, t *takingBack, b *invitation.Batch) (*invitation.Sweep, error) {
	var sw *invitation.Sweep
	err := t.worker.Run(ctx, func(ctx context.Context) (bool, error) {
		if sw != nil {
			now, err := t.store.Sweep(ctx, sw.ID)
			return err == nil && now.State() == invitation.SweepDone, err
		}
		left, halfway, err := t.store.Undecided(ctx, b.ID)
		if err != nil || left > halfway {
			return false, err
		}
		if halfway > 0 {
			t.p.log.Warn("people who have lost an invitation to make room for this batch's are invited first; undo it once more when a worker has done so", "batch", b.ID, "people", halfway)
		}
		sw, err = c.begin(ctx, t, b)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	if sw == nil {
		return nil, fail(exitInterrupted, "interrupted", "the same command goes on with it", "interrupted: batch %d is cancelled, and nothing is revoked yet", b.ID)
	}
	return t.store.Sweep(context.WithoutCancel(ctx), sw.ID)
}

// begin records what is taken back.
func (c *undoCmd) begin(ctx context.Context, t *takingBack, b *invitation.Batch) (*invitation.Sweep, error) {
	sw := &invitation.Sweep{InstanceID: b.InstanceID, Kind: invitation.KindUndo, Batch: b.ID, StartedBy: c.Actor, Apply: true, Allow: true}
	err := pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		if err := invitation.LockSweeps(ctx, tx, b.InstanceID); err != nil {
			return err
		}
		targets, err := t.store.Sent(ctx, tx, b.ID, 0)
		if err != nil {
			return err
		}
		sw.Scanned = len(targets)
		return jobs.BeginSweep(ctx, tx, t.store, sw, targets)
	})
	if err != nil {
		return nil, err
	}
	return sw, nil
}

func otherInstance(b *invitation.Batch) error {
	return fail(exitUsage, "other_instance", "use the key that it was sent with, or --sandbox for a rehearsal", "batch %d belongs to another instance of Clerk than the key", b.ID)
}

// confirm shows what is taken back and has a person confirm it.
func (c *undoCmd) confirm(ctx context.Context, t *takingBack, b *invitation.Batch) error {
	reader := invitation.NewReader(t.pool)
	report, err := reader.Report(ctx, b.ID)
	if err != nil {
		return err
	}
	standing, err := reader.CountSent(ctx, b.ID)
	if err != nil {
		return err
	}
	lines := table{right: []bool{true}}
	lines.add("  "+thousands(standing[invitation.Pending]), "invitations to revoke")
	for _, s := range []struct {
		status invitation.Status
		what   string
	}{{invitation.Accepted, "accepted: they stay"}, {invitation.Revoked, "revoked already"}, {invitation.Expired, "have expired"}} {
		if n := standing[s.status]; n > 0 {
			lines.add("  "+thousands(n), s.what)
		}
	}
	if report.Undecided > 0 {
		lines.add("  "+thousands(report.Undecided), "people not decided yet: cancelled")
	}
	p := t.p
	if p.errTTY {
		p.note("Undo of batch %d, %s\n\n%s", b.ID, plain(b.FileName), lines.String())
	} else {
		p.log.Info("undo", "batch", b.ID, "revoke", standing[invitation.Pending], "accepted", standing[invitation.Accepted], "cancel", report.Undecided)
	}
	n := standing[invitation.Pending]
	if p.settings.Yes || n+report.Undecided == 0 {
		return nil
	}
	refused := fail(exitHeld, "not_confirmed", "--yes confirms it", "batch %d: nobody confirmed that it is undone; nothing was revoked", b.ID)
	if !p.inTTY || !p.errTTY {
		return refused
	}
	ok, err := p.confirm(ctx, "Type the number of invitations to revoke them: ", strconv.Itoa(n), thousands(n))
	if err == nil && !ok {
		err = refused
	}
	return err
}
