package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Freeze stops a bucket for the fleet after Clerk answered 429, and returns when the freeze ends.
// told says whether the answer had a Retry-After. If it had, the freeze lasts for wait. If not, it
// lasts for one second, doubled with each 429 in a row. Both are cut to one window of the limit: by
// then Clerk must allow requests again, and a Retry-After of centuries must not stop the fleet for
// good. attempt is the refused request, or 0 for one that is not in the ledger. Freeze runs in its
// own transaction, so the transaction that records the answer never waits for the bucket.
func Freeze(ctx context.Context, pool *pgxpool.Pool, instance int64, name string, limit Limit, attempt int64, wait time.Duration, told bool) (time.Time, error) {
	var until time.Time
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		b, err := Reserve(ctx, tx, instance, name, limit)
		if err != nil {
			return err
		}
		if !told {
			limit := b.Limit // the strictest: it may be another worker's
			var freezes int
			err := tx.QueryRow(ctx, `select freezes from buckets where instance_id = $1 and name = $2`, instance, name).Scan(&freezes)
			if err != nil {
				return err
			}
			wait = min(time.Second<<min(freezes, 20), max(limit.Window, time.Second))
		}
		wait = min(wait, longestFreeze(name, b.Obeyed))
		return tx.QueryRow(ctx, `
			update buckets set frozen_at = clock_timestamp(),
			       frozen_until = greatest(frozen_until, clock_timestamp() + $3::interval),
			       frozen_reason = 'Clerk answered 429', freezes = freezes + 1,
			       probe_attempt = nullif(probe_attempt, $4)
			where instance_id = $1 and name = $2 returning frozen_until`,
			instance, name, wait, attempt).Scan(&until)
	})
	if err != nil {
		return until, fmt.Errorf("freeze bucket %s of instance %d: %w", name, instance, err)
	}
	return until, nil
}

// Probing records which attempt probes a bucket that thaws. Call it in the transaction that called
// [Reserve].
func Probing(ctx context.Context, tx pgx.Tx, instance int64, name string, attempt int64) error {
	_, err := tx.Exec(ctx, `update buckets set probe_attempt = $3 where instance_id = $1 and name = $2`, instance, name, attempt)
	if err != nil {
		return fmt.Errorf("probe bucket %s of instance %d: %w", name, instance, err)
	}
	return nil
}

// Thaw ends a freeze after its probe got any answer except 429. attempt is the probe, or 0 for one
// that is not in the ledger. Thaw keeps frozen_at, the time of Clerk's last 429: requests go one at
// a time for a while after it.
func Thaw(ctx context.Context, pool *pgxpool.Pool, instance int64, name string, attempt int64) error {
	_, err := pool.Exec(ctx, `update buckets set frozen_until = null, frozen_reason = null, freezes = 0, probe_attempt = null
		where instance_id = $1 and name = $2 and coalesce(probe_attempt, 0) = $3 and frozen_until <= clock_timestamp()`, instance, name, attempt)
	if err != nil {
		return fmt.Errorf("thaw bucket %s of instance %d: %w", name, instance, err)
	}
	return nil
}

// EndFreeze ends the freeze of a bucket because a person asked for it. The next request probes.
// EndFreeze returns when the freeze would have ended, and false if the bucket was not frozen.
func EndFreeze(ctx context.Context, tx pgx.Tx, instance int64, name string) (until time.Time, frozen bool, err error) {
	if err := Lock(ctx, tx, instance, name); err != nil {
		return until, false, err
	}
	err = tx.QueryRow(ctx, `select frozen_until from buckets
		where instance_id = $1 and name = $2 and frozen_until > clock_timestamp()`, instance, name).Scan(&until)
	if errors.Is(err, pgx.ErrNoRows) {
		return until, false, nil
	}
	if err == nil {
		_, err = tx.Exec(ctx, `update buckets set frozen_until = clock_timestamp()
			where instance_id = $1 and name = $2`, instance, name)
	}
	if err != nil {
		return until, false, fmt.Errorf("end the freeze of bucket %s of instance %d: %w", name, instance, err)
	}
	return until, true, nil
}
