package jobs

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/proof"
	"bulkinvite/ratelimit"
)

// change runs a transaction that changes which rows may be claimed. It holds the instance's create
// and bulk buckets. Claims read states after they hold the buckets, so no claim slips in between.
// (Without the buckets, a cancel that waits for a row's lock would continue with its old snapshot
// and write "cancelled" over a mail that goes out.)
func change(ctx context.Context, pool *pgxpool.Pool, instance int64, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := ratelimit.Lock(ctx, tx, instance, ratelimit.Create, ratelimit.Bulk); err != nil {
			return err
		}
		return do(tx)
	})
}

// forget deletes those jobs of batches that no process has fetched. A paused batch keeps only the
// jobs of rows that are owed an invitation.
func forget(ctx context.Context, tx pgx.Tx, instance int64, batches ...int64) error {
	queues := []string{inviteQueue(instance)}
	for _, b := range batches {
		queues = append(queues, linksQueue(b))
	}
	_, err := tx.Exec(ctx, `delete from river_job where queue = any($1) and kind = 'invite' and state in ('available', 'scheduled', 'retryable', 'pending')
		and (args->>'batch')::bigint = any($2) and not exists (
			select from results r where r.batch_id = (args->>'batch')::bigint and r.row_number = (args->>'row')::int and r.revoke_sent is not null and r.outcome is null)`, queues, batches)
	if err != nil {
		return fmt.Errorf("delete the jobs of batches %d: %w", batches, err)
	}
	return nil
}

// Pause pauses a running batch because a person asked for it. Requests that were claimed before are
// sent. It fails with a [batch.StateError] if the batch is not running.
func Pause(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) error {
	return change(ctx, pool, b.InstanceID, func(tx pgx.Tx) error {
		if err := batch.PauseBatch(ctx, tx, b, actor, ""); err != nil {
			return err
		}
		return forget(ctx, tx, b.InstanceID, b.ID)
	})
}

// Cancel stops a batch for good. Rows without an open attempt end as cancelled now, except owed
// rows; the others end when their attempt is resolved. It fails with a [batch.StateError] if
// the batch is over.
func Cancel(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) error {
	return stop(ctx, pool, b, actor, batch.CancelBatch)
}

// Discard stops a draft for good. It fails with a [batch.StateError] if the draft was started
// meanwhile.
func Discard(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) error {
	return stop(ctx, pool, b, actor, batch.DiscardDraft)
}

func stop(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string, do func(context.Context, pgx.Tx, *invitation.Batch, string) error) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Lock a draft first. Its start locks the buckets last, and claims wait for the transaction
		// that holds the buckets.
		_, err := tx.Exec(ctx, `select from batches where id = $1 and state = 'draft' for update`, b.ID)
		if err != nil {
			return fmt.Errorf("lock batch %d: %w", b.ID, err)
		}
		if err := ratelimit.Lock(ctx, tx, b.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
			return err
		}
		if err := do(ctx, tx, b, actor); err != nil {
			return err
		}
		return forget(ctx, tx, b.InstanceID, b.ID)
	})
	if err != nil {
		return err
	}
	if _, err = ledger.CancelRows(ctx, pool, b.InstanceID); err != nil {
		return err
	}
	_, err = proof.CertifyBatch(ctx, pool, b.ID)
	return err
}

// Resume lets a paused batch run again. It fails with a [batch.StateError] if the batch is not
// paused.
func Resume(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) error {
	return release(ctx, pool, b, actor, batch.ResumeBatch)
}

// Retry opens the failed rows of a batch again, and those with the outcomes in also, which may have
// Rejected: that helps after an allow list or a plan at Clerk has changed. It returns how many rows
// it opened. It fails with a [batch.StateError] if the batch is neither running nor done.
func Retry(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string, also ...invitation.Outcome) (int, error) {
	var opened int
	err := release(ctx, pool, b, actor, func(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string) ([]int, error) {
		rows, err := batch.RetryBatch(ctx, tx, b, actor, also...)
		opened = len(rows)
		return rows, err
	})
	return opened, err
}

// release changes a batch so that some of its rows wait, and inserts a job for each of them.
func release(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string,
	do func(context.Context, pgx.Tx, *invitation.Batch, string) ([]int, error)) error {
	return change(ctx, pool, b.InstanceID, func(tx pgx.Tx) error {
		rows, err := do(ctx, tx, b, actor)
		if err != nil {
			return err
		}
		return InsertInvites(ctx, tx, b.InstanceID, b.Priority, b.ID, rows)
	})
}

// pauseFor pauses all running batches of the worker's instance, or only those given, because of an
// answer from Clerk. The reason has the code and says what to do.
func (w *Worker) pauseFor(ctx context.Context, what string, a clerk.Answer, only ...int64) {
	reason := fmt.Sprintf("%s: %s (HTTP %d). %s, then resume", what, a.Code, a.Status, clerk.Remedy(a.Code))
	w.persist(ctx, func(ctx context.Context) error { return w.pause(ctx, reason, only...) })
}

// pauseUnexplained pauses the batches of a request's people whose refusal has a code without a
// definite meaning. It pauses nothing if Clerk refused a person alone with the same code before the
// batch was resumed: then the refusal is about that person, and the batch continues.
func (w *Worker) pauseUnexplained(ctx context.Context, t *ticket, a clerk.Answer) {
	if c := t.cases[t.People[0].Key]; len(t.People) == 1 && invitation.RefusedBefore(c.Row, c.Evidence, a.Code) {
		return
	}
	var batches []int64
	for _, p := range t.People {
		batches = append(batches, p.Batch)
	}
	w.pauseFor(ctx, "Clerk refused an invitation for a reason that its code does not tell", a, batches...)
}

// pause pauses all running batches of the worker's instance, or only those given, with a reason.
func (w *Worker) pause(ctx context.Context, reason string, only ...int64) error {
	var ids []int64
	err := change(ctx, w.pool, w.cfg.Instance.ID, func(tx pgx.Tx) (err error) {
		if ids, err = batch.PauseInstance(ctx, tx, w.cfg.Instance.ID, reason, only...); err != nil {
			return err
		}
		return forget(ctx, tx, w.cfg.Instance.ID, ids...)
	})
	if err != nil {
		return fmt.Errorf("pause instance %d: %w", w.cfg.Instance.ID, err)
	}
	for _, id := range ids {
		w.log.Error("batch paused", "batch", id, "reason", reason)
	}
	return nil
}

// judge pauses batches whose trial is decided, or in which too many people were rejected or failed.
func (w *Worker) judge(ctx context.Context) error {
	var doubt bool
	err := w.pauseThose(ctx, "that have shown enough", func(ctx context.Context, tx pgx.Tx, instance int64) (paused []*invitation.Batch, err error) {
		paused, doubt, err = batch.Judge(ctx, tx, instance)
		return paused, err
	})
	if err == nil && doubt {
		w.suspect.Store(true) // the next decided rows will show
	}
	return err
}

// pauseThose lets do pause batches of the worker's instance and deletes their jobs. which describes
// the batches in errors.
func (w *Worker) pauseThose(ctx context.Context, which string, do func(context.Context, pgx.Tx, int64) ([]*invitation.Batch, error)) error {
	var paused []*invitation.Batch
	err := change(ctx, w.pool, w.cfg.Instance.ID, func(tx pgx.Tx) (err error) {
		if paused, err = do(ctx, tx, w.cfg.Instance.ID); err != nil {
			return err
		}
		for _, b := range paused {
			if err := forget(ctx, tx, w.cfg.Instance.ID, b.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pause the batches of instance %d %s: %w", w.cfg.Instance.ID, which, err)
	}
	for _, b := range paused {
		level := slog.LevelError               // it stays paused until a person acts
		if b.PausedBy == invitation.ByCanary { // the options ask for this pause
			level = slog.LevelInfo
		}
		w.log.Log(ctx, level, "batch paused", "batch", b.ID, "by", b.PausedBy, "reason", b.Reason)
	}
	return nil
}
