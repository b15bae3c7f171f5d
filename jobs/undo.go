package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// Undo takes a batch back, with its resends and the corrections of its rows: it
// cancels what is left of them, and begins a sweep that revokes each invitation that
// they sent and nobody has accepted. If a request has gone out and its answer is not
// known, that is resolved first, and what it made is revoked. What other batches
// made for the same people stays. Undo returns the sweep, which ends when all of that is done, by whichever
// process; see [Worker.Finish]. A batch that is being undone gives the sweep that
// there is.
func Undo(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) (*invitation.Sweep, error) {
	store := invitation.NewStore(pool)
	var sw *invitation.Sweep
	begin := func(tx pgx.Tx) (err error) {
		if err := invitation.LockSweeps(ctx, tx, b.InstanceID); err != nil {
			return err
		}
		if err := ratelimit.Lock(ctx, tx, b.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
			return err
		}
		if sw, err = store.Undoing(ctx, tx, b.ID); err != nil || sw != nil {
			return err
		}
		batches, err := store.FollowUps(ctx, tx, b.ID)
		if err != nil {
			return err
		}
		batches = append(batches, b.ID)
		for _, id := range batches {
			err := store.CancelBatch(ctx, tx, &invitation.Batch{ID: id, InstanceID: b.InstanceID}, actor)
			var state *invitation.StateError
			over := errors.As(err, &state) && state.State.Over()
			if err != nil && !over {
				return err
			}
		}
		if err := forget(ctx, tx, b.InstanceID, batches...); err != nil {
			return err
		}
		waiting, err := store.LockUndecided(ctx, tx, batches)
		if err != nil {
			return err
		}
		// In a new statement, which sees what those that it waited for have recorded.
		targets, err := store.Sent(ctx, tx, batches)
		if err != nil {
			return err
		}
		sw = &invitation.Sweep{InstanceID: b.InstanceID, Kind: invitation.KindUndo, Batch: b.ID, StartedBy: actor, Apply: true, Allow: true, Scanned: len(targets)}
		if err := BeginSweep(ctx, tx, store, sw, targets); err != nil {
			return err
		}
		return store.TakeAway(ctx, tx, sw.ID, waiting)
	}
	if err := retryDeadlock(ctx, pool, begin); err != nil {
		return nil, fmt.Errorf("undo batch %d (nothing was done): %w", b.ID, err)
	}
	failpoint("before_follow")
	if err := follow(ctx, pool, b.InstanceID); err != nil {
		return nil, err
	}
	_, err := store.CancelRows(ctx, b.InstanceID)
	return sw, err
}
