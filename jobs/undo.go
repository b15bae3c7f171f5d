package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// Undo undoes a batch, with its resends and the corrections of its rows. It cancels their undecided
// rows and begins a sweep that revokes each pending invitation that they sent. If a request was
// sent and its answer is not known, that is resolved first, and the invitation it made is revoked.
// Invitations that other batches made for the same people stay. Undo returns the sweep, which ends
// when all of this is done, by any process; see [Worker.Finish]. If the batch is being undone
// already, Undo returns that sweep.
func Undo(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) (*revocation.Sweep, error) {
	var sw *revocation.Sweep
	begin := func(tx pgx.Tx) (err error) {
		if err := revocation.LockSweeps(ctx, tx, b.InstanceID); err != nil {
			return err
		}
		if err := ratelimit.Lock(ctx, tx, b.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
			return err
		}
		if sw, err = revocation.Undoing(ctx, pool, tx, b.ID); err != nil || sw != nil {
			return err
		}
		batches, err := revocation.FollowUps(ctx, tx, b.ID)
		if err != nil {
			return err
		}
		batches = append(batches, b.ID)
		for _, id := range batches {
			err := batch.CancelBatch(ctx, tx, &invitation.Batch{ID: id, InstanceID: b.InstanceID}, actor)
			var state *batch.StateError
			over := errors.As(err, &state) && state.State.Over()
			if err != nil && !over {
				return err
			}
		}
		if err := forget(ctx, tx, b.InstanceID, batches...); err != nil {
			return err
		}
		waiting, err := revocation.LockUndecided(ctx, tx, batches)
		if err != nil {
			return err
		}
		// This is a new statement: it sees what the transactions that it waited for have recorded.
		targets, err := revocation.Sent(ctx, tx, batches)
		if err != nil {
			return err
		}
		sw = &revocation.Sweep{InstanceID: b.InstanceID, Kind: revocation.KindUndo, Batch: b.ID, StartedBy: actor, Apply: true, Allow: true, Scanned: len(targets)}
		if err := BeginSweep(ctx, tx, sw, targets); err != nil {
			return err
		}
		return revocation.TakeAway(ctx, tx, sw.ID, waiting)
	}
	if err := retryDeadlock(ctx, pool, begin); err != nil {
		return nil, fmt.Errorf("undo batch %d (nothing was done): %w", b.ID, err)
	}
	failpoint("before_follow")
	if err := follow(ctx, pool, b.InstanceID); err != nil {
		return nil, err
	}
	_, err := ledger.CancelRows(ctx, pool, b.InstanceID)
	return sw, err
}
