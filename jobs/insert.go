package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/ledger"
)

// InviteArgs wakes a worker for a row. It carries numbers only.
type InviteArgs struct {
	Batch int64 `json:"batch"`
	Row   int   `json:"row"`
}

// Kind returns River's name of the job, "invite".
func (InviteArgs) Kind() string { return "invite" }

// inserter inserts jobs and works none. River allows a client without a pool for this, because each
// insert uses the caller's transaction.
var inserter = func() *river.Client[pgx.Tx] {
	// Inserts return their errors too, and the callers log them.
	c, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err) // the configuration is constant
	}
	return c
}()

// insertJobs inserts jobs and returns their ids. Jobs without a time of their own are due at once
// by the database's clock, which fetches use. River would set the process's time, and a clock that
// is ahead would delay everybody.
func insertJobs(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) ([]int64, error) {
	inserted, err := inserter.InsertManyTx(ctx, tx, params)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(inserted))
	for i, result := range inserted {
		ids[i] = result.Job.ID
	}
	_, err = tx.Exec(ctx, `
		update river_job set created_at = now(), scheduled_at = now() where id = any($1) and state = 'available'`, ids)
	return ids, err
}

// InsertInvites inserts a job for each of the given rows of a batch, in the transaction that makes
// the rows wait. River inserts the first job, and the database copies it for the other rows. That
// takes a third less of the database's time than River's COPY of all jobs, and almost none of the
// process's.
func InsertInvites(ctx context.Context, tx pgx.Tx, instance int64, priority int, batch int64, rows []int) error {
	if len(rows) == 0 {
		return nil
	}
	var links bool
	if err := tx.QueryRow(ctx, `select links_file is not null from batches where id = $1`, batch).Scan(&links); err != nil {
		return fmt.Errorf("insert the jobs of batch %d: %w", batch, err)
	}
	opts := &river.InsertOpts{Queue: queueOf(instance, batch, links), Priority: priority}
	first, err := insertJobs(ctx, tx, []river.InsertManyParams{{Args: InviteArgs{batch, rows[0]}, InsertOpts: opts}})
	if err != nil {
		return fmt.Errorf("insert the jobs of batch %d: %w", batch, err)
	}
	made, err := tx.Exec(ctx, `
		insert into river_job (args, kind, max_attempts, metadata, priority, queue, state, tags, created_at, scheduled_at)
		select j.args || jsonb_build_object('row', n), j.kind, j.max_attempts, j.metadata, j.priority, j.queue, j.state, j.tags, j.created_at, j.scheduled_at
		from river_job j, unnest($2::int[]) n where j.id = $1`, first[0], rows[1:])
	if err != nil {
		return fmt.Errorf("insert the jobs of batch %d: %w", batch, err)
	}
	if n := int(made.RowsAffected()); n != len(rows)-1 {
		return fmt.Errorf("insert the jobs of batch %d: %d were made of %d", batch, n+1, len(rows))
	}
	return nil
}

// free inserts a job for each row that can be claimed again, scheduled for the time from which it
// can.
func free(ctx context.Context, tx pgx.Tx, instance int64, freed []ledger.Freed) error {
	if len(freed) == 0 {
		return nil
	}
	params := make([]river.InsertManyParams, len(freed))
	for i, f := range freed {
		opts := &river.InsertOpts{Queue: queueOf(instance, f.Batch, f.Links), Priority: f.Priority}
		if f.At != nil {
			opts.ScheduledAt = *f.At
		}
		params[i] = river.InsertManyParams{Args: InviteArgs{f.Batch, f.Row}, InsertOpts: opts}
	}
	if _, err := insertJobs(ctx, tx, params); err != nil {
		return fmt.Errorf("insert %d jobs: %w", len(freed), err)
	}
	return nil
}

// fetchLimit is longer than River allows for a fetch of jobs, which is 10 s.
const fetchLimit = 15 * time.Second

// reclaim returns jobs to the queue that no process works on. These are jobs of a dead process, and
// jobs of a fetch by this process whose result was lost; River would find both only after twice the
// timeout of a job. They are also jobs that are due while River elects the process that wakes them,
// which takes about 15 s. If a process was declared dead but lives, other processes do its jobs
// too, which is harmless.
func (w *Worker) reclaim(ctx context.Context) error {
	ours := []int64{}
	w.working.Range(func(id, _ any) bool {
		ours = append(ours, id.(int64))
		return true
	})
	_, err := w.pool.Exec(ctx, `
		update river_job j set state = 'available', scheduled_at = clock_timestamp()
		where j.queue = any($1) and j.kind in ('invite', 'revoke') and j.state in ('running', 'scheduled') and (
			j.state = 'running' and not exists (select from workers w where w.id = j.attempted_by[array_upper(j.attempted_by, 1)])
			or j.state = 'running' and j.attempted_by[array_upper(j.attempted_by, 1)] = $2 and j.id <> all($3) and j.attempted_at < clock_timestamp() - $4::interval
			or j.state = 'scheduled' and j.scheduled_at < clock_timestamp())`,
		[]string{w.cfg.queue(), revokeQueue(w.cfg.Instance.ID)}, w.id, ours, w.cfg.paced(fetchLimit))
	if err != nil {
		return fmt.Errorf("take back jobs that nobody works on: %w", err)
	}
	return nil
}

// soon is longer than River takes to wake a job that snoozed for a moment.
const soon = 5 * time.Second

// repair inserts jobs for all waiting rows if there is budget and the queue has no job that could
// wake a worker soon. Somebody may have deleted or cancelled the jobs, they may have died with
// their process, or a process whose clock is ahead may have postponed them. While the gate is
// closed repair does nothing; when it opens, it inserts jobs itself.
func (w *Worker) repair(ctx context.Context) error {
	if _, closed := w.gate.closed(); closed {
		return nil
	}
	var lost bool
	queue := w.cfg.queue()
	err := w.pool.QueryRow(ctx, `
		select (exists (select from batches b where b.instance_id = $2 and b.state = 'running'
		                and exists (select from results r where r.batch_id = b.id and r.outcome is null))
		        or exists (select from results r where r.instance_id = $2 and r.revoke_sent is not null and r.outcome is null))
		   and not exists (select from river_job where queue = $1 and state in ('available', 'scheduled', 'retryable')
		                   and scheduled_at < clock_timestamp() + $3::interval)
		   and not exists (select from river_job j join workers w on w.id = j.attempted_by[array_upper(j.attempted_by, 1)]
		                   where j.queue = $1 and j.state = 'running')`, queue, w.cfg.Instance.ID, w.cfg.paced(soon)).Scan(&lost)
	if err != nil || !lost {
		return err
	}
	rows, err := w.picker.LastWaiting(ctx, w.cfg.Instance.ID, 100_000)
	if err != nil || len(rows) == 0 {
		return err
	}
	byBatch, priority := map[int64][]int{}, map[int64]int{}
	for _, id := range rows {
		if byBatch[id.Batch] = append(byBatch[id.Batch], id.Row); len(byBatch[id.Batch]) > 1 {
			continue
		}
		b, err := batch.Batch(ctx, w.pool, id.Batch)
		if err != nil {
			return err
		}
		priority[id.Batch] = b.Priority
	}
	w.log.Warn("rows waited without jobs", "rows", len(rows), "batches", len(byBatch))
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		for id, numbers := range byBatch {
			if err := InsertInvites(ctx, tx, w.cfg.Instance.ID, priority[id], id, numbers); err != nil {
				return err
			}
		}
		return nil
	})
}
