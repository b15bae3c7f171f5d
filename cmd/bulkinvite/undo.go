package main

import (
	"context"
	"strconv"

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
	sw, err := jobs.Undo(ctx, t.pool, b, c.Actor)
	if err != nil {
		return err
	}
	if sw, err = t.finish(ctx, sw.ID); err != nil {
		return sweepFailure(err)
	}
	return p.printSweep(sw)
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
	}{{invitation.Accepted, "accepted: they stay"}, {invitation.Revoked, "revoked already"},
		{invitation.Expired, "have expired"}, {invitation.Deleted, "deleted at Clerk"}} {
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
