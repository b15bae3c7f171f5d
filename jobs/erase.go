package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/lease"
	"bulkinvite/internal/proof"
	"bulkinvite/ratelimit"
)

// Erase removes what is known of a person; see [proof.Erase]. keys are the person's
// keys. It fails with [batch.ErrUnderWay] while a request for the person is open; a worker
// resolves that.
func Erase(ctx context.Context, pool *pgxpool.Pool, keys []string, actor string) (*proof.Erasure, error) {
	var e *proof.Erasure
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Take this lock first, so that no claim waits for the buckets while this waits for an
		// import.
		if err := erased.LockErasures(ctx, tx); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, `select distinct instance_id from results where key = any($1) order by 1`, keys)
		instances, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return fmt.Errorf("list the instances of a person: %w", err)
		}
		for _, in := range instances { // claims read after they hold the buckets
			if err := ratelimit.Lock(ctx, tx, in, ratelimit.Create, ratelimit.Bulk); err != nil {
				return err
			}
		}
		e, err = proof.Erase(ctx, tx, keys, actor)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range e.Batches { // the erased row may have been the last undecided row of the batch
		b, err := batch.Batch(ctx, pool, id)
		if err != nil {
			return e, err
		}
		if _, err := batch.Finish(ctx, pool, b.InstanceID); err != nil {
			return e, err
		}
		if _, err := proof.CertifyBatch(ctx, pool, b.ID); err != nil {
			return e, err
		}
	}
	return e, nil
}

// purgeEvery is how often a worker checks whether batches are old enough for a purge.
const purgeEvery = time.Hour

// purgeLoop purges by the worker's retention until ctx is done. One process at a time does it.
func (w *Worker) purgeLoop(ctx context.Context) {
	if w.cfg.PurgeOlderThan <= 0 {
		return
	}
	for ctx.Err() == nil {
		wait := purgeEvery
		ours, err := w.purge(ctx)
		switch {
		case err == nil && !ours: // another process purges; if it dies, this one takes over soon
			wait = w.cfg.paced(lease.TTL)
		case err != nil && ctx.Err() == nil:
			w.log.Warn("old batches can't be purged", "error", err, "again_in", wait)
		}
		_ = sleep(ctx, wait)
	}
}

// purge purges unless another process does. It reports whether it held the lease.
func (w *Worker) purge(ctx context.Context) (ours bool, err error) {
	held, err := w.take(ctx, "purge")
	if err != nil || held == nil {
		return false, err
	}
	defer func() { err = held.Explain(err); held.Release() }()
	e, err := proof.Purge(held.Context(), w.pool, w.cfg.PurgeOlderThan, "bulkinvite", held.Guard)
	if err == nil && e.ID != 0 {
		w.log.Info("old batches were purged", "erasure", e.ID, "batches", len(e.Batches), "rows", e.Rows)
	}
	return true, err
}
