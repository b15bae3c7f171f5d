package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"bulkinvite/internal/app"
	"bulkinvite/internal/invitation"
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
	plan, err := t.app().PlanUndo(ctx, c.Batch)
	if err != nil {
		return otherBatch(noBatch(err))
	}
	consent, err := t.confirmUndo(ctx, plan)
	if err != nil {
		return err
	}
	sw, err := t.app().Undo(ctx, plan, consent, c.Actor.name())
	var unsaid *app.UndoConsentError
	if errors.As(err, &unsaid) {
		return &failure{exit: exitHeld, code: "not_confirmed", err: err, remedy: "--yes confirms it"}
	}
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

// confirmUndo shows what is taken back and asks a person on the terminal for the number of
// invitations.
func (t *takingBack) confirmUndo(ctx context.Context, plan *app.UndoPlan) (invitation.Consent, error) {
	b, later := plan.Batch, numbers(plan.FollowUps)
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
	consent := invitation.Consent{All: t.settings.Yes, Yes: plan.Revoke+plan.Cancel == 0}
	if consent.All || consent.Yes || !t.canAsk() {
		return consent, nil
	}
	typed, err := t.program.confirm(ctx, "Type the number of invitations to revoke them: ", number(plan.Revoke)...)
	if typed {
		consent.Number = &plan.Revoke
	}
	return consent, err
}
