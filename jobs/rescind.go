package jobs

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// Rescind withdraws people. It revokes their pending invitations and cancels their undecided rows,
// in all batches. If a request for a person was sent and its answer is not known, that is resolved
// first, and the invitation it made is revoked. The sweep ends when all of this is done, by any
// process; see [Worker.Finish]. sw says the kind of the sweep and who asks for it.
//
// A dry run is recorded and changes nothing. If the withdrawal exceeds its threshold and sw.Allow
// is false, nothing is written: sw.Held is true and sw.ID is 0.
func Rescind(ctx context.Context, pool *pgxpool.Pool, sw *revocation.Sweep, keys []string) (*revocation.Withdrawal, error) {
	var w *revocation.Withdrawal
	asked := *sw
	begin := func(tx pgx.Tx) (err error) {
		*sw = asked
		if sw.Apply { // may take minutes, and claims must not wait for it
			if err := batch.AwaitDrafts(ctx, tx, sw.InstanceID); err != nil {
				return err
			}
		}
		if err := revocation.LockSweeps(ctx, tx, sw.InstanceID); err != nil {
			return err
		}
		if sw.Apply { // claims read which rows are withdrawn after they hold the buckets
			if err := ratelimit.Lock(ctx, tx, sw.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
				return err
			}
			if err := batch.AwaitDrafts(ctx, tx, sw.InstanceID); err != nil { // drafts that were made meanwhile
				return err
			}
		}
		if w, err = revocation.Withdrawing(ctx, tx, sw.InstanceID, keys, sw.Apply); err != nil {
			return err
		}
		sw.Scanned = w.Open
		if sw.Apply && w.Over() {
			if !sw.Allow {
				sw.Held, sw.Threshold, sw.Stale = true, revocation.Threshold(w.Open), len(w.Targets)
				return nil
			}
			sw.AllowedBy = sw.StartedBy
		}
		if err := BeginSweep(ctx, tx, sw, w.Targets); err != nil || !sw.Apply {
			return err
		}
		return revocation.TakeAway(ctx, tx, sw.ID, w.Waiting)
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

// follow completes the work on rows that sweeps have taken away.
func follow(ctx context.Context, pool *pgxpool.Pool, instance int64) error {
	return retryDeadlock(ctx, pool, func(tx pgx.Tx) error {
		ids, err := revocation.FollowWithdrawn(ctx, tx, instance)
		if err != nil {
			return err
		}
		return InsertRevokes(ctx, tx, instance, ids)
	})
}
