package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"bulkinvite/invitation"
)

// InviteArgs is a wake-up for a row. It carries numbers only.
type InviteArgs struct {
	Batch int64 `json:"batch"`
	Row   int   `json:"row"`
}

// Kind is River's name of the job.
func (InviteArgs) Kind() string { return "invite" }

// inserter inserts jobs and works none. River allows a client without a pool
// for this, since each insert comes with its transaction.
var inserter = func() *river.Client[pgx.Tx] {
	// Its errors are returned too, and the callers log them.
	c, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err) // a constant configuration
	}
	return c
}()

// insertJobs inserts jobs and returns their ids. Those without a time of their own are due at once by the clock of
// the database, which fetches go by: River takes the time of the process, and a clock that is ahead would make
// everybody wait for it.
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

// InsertInvites inserts a job for each of the rows of a batch, in the
// transaction that inserts the rows. River inserts the first; the database makes the others after it,
// which takes a third less of its time than River's COPY of each, and next to
// none of ours.
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

// free inserts a job for each row that waits again, at the time from which it does.
func free(ctx context.Context, tx pgx.Tx, instance int64, freed []invitation.Freed) error {
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

// kick inserts a few jobs for the rows that are last in line: each of them works
// until its own row no longer waits, and so until all before it are done.
func (w *Worker) kick(ctx context.Context) error {
	rows, err := w.store.LastWaiting(ctx, w.cfg.Instance.ID, 3*inFlight)
	if err != nil || len(rows) == 0 {
		return err
	}
	freed := make([]invitation.Freed, len(rows))
	for i, id := range rows {
		freed[i] = invitation.Freed{RowID: id, Priority: 1, Links: w.cfg.Links != nil}
	}
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error { return free(ctx, tx, w.cfg.Instance.ID, freed) })
}

// fetchLimit is more than River gives a fetch of jobs, which is 10 s.
const fetchLimit = 15 * time.Second

// reclaim puts jobs back into the queue that nobody works on: those that a dead
// process took with it, and those of a fetch of ours whose answer was lost, both
// of which River would find after twice the time-out of a job; and those that
// are due while River elects the process that wakes them, which takes it a
// quarter of a minute. A process that was declared dead and lives finds its jobs
// done by others, which is harmless.
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
		[]string{w.queue(), revokeQueue(w.cfg.Instance.ID)}, w.id, ours, w.cfg.paced(fetchLimit))
	if err != nil {
		return fmt.Errorf("take back jobs that nobody works on: %w", err)
	}
	return nil
}

// soon is more than a job can take to be woken that snoozes for a moment.
const soon = 5 * time.Second

// repair inserts jobs for all waiting rows if there is budget and the queue has
// none that could wake anybody soon: somebody deleted or cancelled them, they
// died with their process, or one whose clock is ahead put them off. With the gate
// closed nobody is to be woken; as it opens, it wakes by itself.
func (w *Worker) repair(ctx context.Context) error {
	if _, closed := w.gate.closed(); closed {
		return nil
	}
	var lost bool
	queue := w.queue()
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
	rows, err := w.store.LastWaiting(ctx, w.cfg.Instance.ID, 100_000)
	if err != nil || len(rows) == 0 {
		return err
	}
	byBatch, priority := map[int64][]int{}, map[int64]int{}
	for _, id := range rows {
		if byBatch[id.Batch] = append(byBatch[id.Batch], id.Row); len(byBatch[id.Batch]) > 1 {
			continue
		}
		b, err := w.store.Batch(ctx, id.Batch)
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
