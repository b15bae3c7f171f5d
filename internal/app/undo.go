package app

import (
	"context"
	"fmt"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

// UndoPlan says what undoing a batch would do.
type UndoPlan struct {
	revocation.UndoPlan
	Batch *invitation.Batch
}

// PlanUndo returns what undoing a batch would do. It fails with [invitation.ErrNoBatch] or an
// [OtherInstanceError].
func (a *App) PlanUndo(ctx context.Context, id int64) (*UndoPlan, error) {
	b, err := a.Batch(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := revocation.PlanUndo(ctx, a.Pool, id)
	if err != nil {
		return nil, err
	}
	return &UndoPlan{UndoPlan: *p, Batch: b}, nil
}

// Undo cancels what is left of a batch and begins to revoke what it sent, with its resends and the
// corrections of its rows; see [jobs.Undo]. A person confirms the plan by the number of invitations
// to revoke, or by --yes. If the plan has nothing to do, a yes is enough. Undo fails with an
// [UndoConsentError] otherwise.
func (a *App) Undo(ctx context.Context, p *UndoPlan, c invitation.Consent, actor string) (*revocation.Sweep, error) {
	typed := c.Number != nil && *c.Number == p.Revoke
	if !typed && !c.All && (!c.Yes || p.Revoke+p.Cancel > 0) {
		return nil, &UndoConsentError{Batch: p.Batch.ID, Revoke: p.Revoke}
	}
	return jobs.Undo(ctx, a.Pool, p.Batch, actor)
}

// UndoConsentError says that nobody confirmed an undo, or that a person typed another number of
// invitations.
type UndoConsentError struct {
	Batch  int64
	Revoke int // invitations that the undo would revoke
}

// Error names the batch.
func (e *UndoConsentError) Error() string {
	return fmt.Sprintf("batch %d: nobody confirmed that it is undone; nothing was revoked", e.Batch)
}
