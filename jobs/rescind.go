package jobs

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// Rescind withdraws people: their pending invitations are revoked, and their
// undecided rows end as cancelled, in whichever batches. Where a request for
// one has gone out whose answer is not known, that is resolved first, and what
// it made is revoked: the sweep, of which sw says the kind and who asks, ends
// when all of that is done, by whichever process; see [Worker.Finish].
//
// A dry run is recorded and does nothing. More than the threshold is not begun
// unless sw.Allow says so: then sw.Held is true, its ID 0, and nothing was
// written.
func Rescind(ctx context.Context, pool *pgxpool.Pool, sw *invitation.Sweep, keys []string) (*invitation.Withdrawal, error) {
	store := invitation.NewStore(pool)
	var w *invitation.Withdrawal
	asked := *sw
	begin := func(tx pgx.Tx) (err error) {
		*sw = asked
		if sw.Apply { // reading a file again and starting a draft may take minutes: nobody's claim waits for that
			if err := store.AwaitDrafts(ctx, tx, sw.InstanceID); err != nil {
				return err
			}
		}
		if err := invitation.LockSweeps(ctx, tx, sw.InstanceID); err != nil {
			return err
		}
		if sw.Apply { // claims read after they hold the buckets which rows are withdrawn
			if err := ratelimit.Lock(ctx, tx, sw.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
				return err
			}
			if err := store.AwaitDrafts(ctx, tx, sw.InstanceID); err != nil { // those that were made meanwhile
				return err
			}
		}
		if w, err = store.Withdrawing(ctx, tx, sw.InstanceID, keys, sw.Apply); err != nil {
			return err
		}
		sw.Scanned = w.Open
		if sw.Apply && w.Over() {
			if !sw.Allow {
				sw.Held, sw.Threshold, sw.Stale = true, invitation.Threshold(w.Open), len(w.Targets)
				return nil
			}
			sw.AllowedBy = sw.StartedBy
		}
		if err := BeginSweep(ctx, tx, store, sw, w.Targets); err != nil || !sw.Apply {
			return err
		}
		return store.TakeAway(ctx, tx, sw.ID, w.Waiting)
	}
	if err := retryDeadlock(ctx, pool, begin); err != nil {
		return nil, fmt.Errorf("withdraw %d people (nothing was done): %w", len(keys), err)
	}
	if !sw.Apply || sw.Held {
		return w, nil
	}
	failpoint("before_follow")
	return w, follow(ctx, pool, sw.InstanceID)
}

// follow does what is left to do about rows that sweeps have taken away.
func follow(ctx context.Context, pool *pgxpool.Pool, instance int64) error {
	return retryDeadlock(ctx, pool, func(tx pgx.Tx) error {
		ids, err := invitation.NewStore(pool).FollowWithdrawn(ctx, tx, instance)
		if err != nil {
			return err
		}
		return InsertRevokes(ctx, tx, instance, ids)
	})
}
