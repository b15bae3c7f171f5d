package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

type undoCmd struct{ batchFlags }

// Help is shown before the flags.
func (undoCmd) Help() string {
	return `Examples:

    bulkinvite undo 12
    bulkinvite undo 12 --yes --actor maria

Cancels what is left of a batch, waits for what is under way at Clerk, and revokes each invitation that the batch sent and nobody has accepted. Resends of the batch and corrections of its rows are undone with it; invitations that other files or programs made for the same people stay. An undo of a resend does not bring back the invitations that the resend replaced. Nobody is told: who was mailed finds that the link no longer works. Asks before. Given again after Ctrl-C or a crash, the same command goes on. --json prints what sweep does. Exit status 0; 3 if a revocation failed; 4 not confirmed; 1, 2 and 130 as always.`
}

// Run takes a batch back.
func (c *undoCmd) Run(ctx context.Context, p *program, t *takingBack) error {
	b, err := t.batchOf(ctx, c.Batch)
	if err != nil {
		return err
	}
	if err := c.confirm(ctx, t, b); err != nil {
		return err
	}
	sw, err := jobs.Undo(ctx, t.pool, b, c.Actor.name())
	if err != nil {
		return err
	}
	if sw, err = t.finish(ctx, sw.ID); err != nil {
		return sweepFailure(err)
	}
	return p.printSweep(sw)
}

// numbers are batches as a sentence lists them: "2, 3".
func numbers(batches []int64) string {
	texts := make([]string, len(batches))
	for i, b := range batches {
		texts[i] = strconv.FormatInt(b, 10)
	}
	return strings.Join(texts, ", ")
}

// confirm shows what is taken back and has a person confirm it.
func (c *undoCmd) confirm(ctx context.Context, t *takingBack, b *invitation.Batch) error {
	plan, err := revocation.PlanUndo(ctx, t.pool, b.ID)
	if err != nil {
		return err
	}
	later := numbers(plan.FollowUps)
	lines := table{right: []bool{true}}
	lines.add("  "+thousands(plan.Revoke), "invitations to revoke")
	lines.count(plan.Accepted, "accepted: they stay")
	lines.count(plan.Revoked, "revoked already")
	lines.count(plan.Expired, "have expired")
	lines.count(plan.Deleted, "deleted at Clerk")
	lines.count(plan.Kept, "of these have a pending invitation of another batch: it stays")
	lines.count(plan.Cancel, "people not decided yet: cancelled")
	text := lines.String()
	if later != "" {
		text += fmt.Sprintf("\nBatches that resend this one or correct its rows are undone with it: %s\n", later)
	}
	if b.Duplicates == invitation.Resend {
		text += "\nInvitations that this batch replaced stay revoked.\n"
	}
	t.tell(fmt.Sprintf("Undo of batch %d, %s\n\n%s", b.ID, plain(b.FileName), text),
		"undo", "batch", b.ID, "later_batches", later, "revoke", plan.Revoke,
		"accepted", plan.Accepted, "kept", plan.Kept, "cancel", plan.Cancel)
	if plan.Revoke+plan.Cancel == 0 {
		return nil
	}
	refused := fail(exitHeld, "not_confirmed", "--yes confirms it", "batch %d: nobody confirmed that it is undone; nothing was revoked", b.ID)
	return t.confirmed(ctx, refused, "Type the number of invitations to revoke them: ", number(plan.Revoke)...)
}
