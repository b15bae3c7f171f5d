package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// keeper keeps this process registered, declares other processes dead, and repairs what dead
// processes left in the queues.
type keeper struct {
	*process
	general  *ratelimit.General
	presence *presence
	gate     *gate
	working  *sync.Map // see [Worker]
	pruned   time.Time // when it last deleted old leases and notices
}

// run sends heartbeats and does the fleet's housekeeping, until ctx is done.
func (k *keeper) run(ctx context.Context) {
	for sleep(ctx, k.cfg.heartbeat()) == nil {
		if err := k.housekeep(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("housekeeping", "error", err)
		}
	}
}

func (k *keeper) housekeep(ctx context.Context) error {
	if err := k.presence.register(ctx); err != nil {
		return err
	}
	dead, err := ledger.Reap(ctx, k.pool, k.cfg.Instance.ID, k.cfg.RecoverAfter)
	if err != nil {
		return err
	}
	if dead > 0 {
		k.log.Warn("processes died", "number", dead)
		if err := k.gate.kick(ctx); err != nil {
			return err
		}
	}
	if err := k.reclaim(ctx); err != nil {
		return err
	}
	if time.Since(k.pruned) > k.cfg.paced(time.Minute) {
		k.pruned = time.Now()
		if err := k.general.Prune(ctx); err != nil {
			return err
		}
		if err := k.forgetNotices(ctx); err != nil {
			return err
		}
	}
	return errors.Join(k.repair(ctx), k.repairRevokes(ctx))
}

// fetchLimit is longer than River allows for a fetch of jobs, which is 10 s.
const fetchLimit = 15 * time.Second

// reclaim returns jobs to the queue that no process works on. These are jobs of a dead process, and
// jobs of a fetch by this process whose result was lost; River would find both only after twice the
// timeout of a job. They are also jobs that are due while River elects the process that wakes them,
// which takes about 15 s. If a process was declared dead but lives, other processes do its jobs
// too, which is harmless.
func (k *keeper) reclaim(ctx context.Context) error {
	ours := []int64{}
	k.working.Range(func(id, _ any) bool {
		ours = append(ours, id.(int64))
		return true
	})
	_, err := k.pool.Exec(ctx, `
		update river_job j set state = 'available', scheduled_at = clock_timestamp()
		where j.queue = any($1) and j.kind in ('invite', 'revoke') and j.state in ('running', 'scheduled') and (
			j.state = 'running' and not exists (select from workers w where w.id = j.attempted_by[array_upper(j.attempted_by, 1)])
			or j.state = 'running' and j.attempted_by[array_upper(j.attempted_by, 1)] = $2 and j.id <> all($3) and j.attempted_at < clock_timestamp() - $4::interval
			or j.state = 'scheduled' and j.scheduled_at < clock_timestamp())`,
		[]string{k.cfg.queue(), revokeQueue(k.cfg.Instance.ID)}, k.id, ours, k.cfg.paced(fetchLimit))
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
func (k *keeper) repair(ctx context.Context) error {
	if _, closed := k.gate.closed(); closed {
		return nil
	}
	var lost bool
	queue := k.cfg.queue()
	err := k.pool.QueryRow(ctx, `
		select (exists (select from batches b where b.instance_id = $2 and b.state = 'running'
		                and exists (select from results r where r.batch_id = b.id and r.outcome is null))
		        or exists (select from results r where r.instance_id = $2 and r.revoke_sent is not null and r.outcome is null))
		   and not exists (select from river_job where queue = $1 and state in ('available', 'scheduled', 'retryable')
		                   and scheduled_at < clock_timestamp() + $3::interval)
		   and not exists (select from river_job j join workers w on w.id = j.attempted_by[array_upper(j.attempted_by, 1)]
		                   where j.queue = $1 and j.state = 'running')`, queue, k.cfg.Instance.ID, k.cfg.paced(soon)).Scan(&lost)
	if err != nil || !lost {
		return err
	}
	rows, err := k.picker.LastWaiting(ctx, k.cfg.Instance.ID, 100_000)
	if err != nil || len(rows) == 0 {
		return err
	}
	byBatch, priority := map[int64][]int{}, map[int64]int{}
	for _, id := range rows {
		if byBatch[id.Batch] = append(byBatch[id.Batch], id.Row); len(byBatch[id.Batch]) > 1 {
			continue
		}
		b, err := batch.Batch(ctx, k.pool, id.Batch)
		if err != nil {
			return err
		}
		priority[id.Batch] = b.Priority
	}
	k.log.Warn("rows waited without jobs", "rows", len(rows), "batches", len(byBatch))
	return pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		for id, numbers := range byBatch {
			if err := InsertInvites(ctx, tx, k.cfg.Instance.ID, priority[id], id, numbers); err != nil {
				return err
			}
		}
		return nil
	})
}

// repairRevokes inserts jobs for all waiting revocations if the queue has none that could wake a
// worker soon: somebody deleted the jobs, or they died with their process.
func (k *keeper) repairRevokes(ctx context.Context) error {
	var woken bool
	err := k.pool.QueryRow(ctx, `
		select exists (select from river_job where queue = $1 and state in ('available', 'scheduled', 'retryable')
		               and scheduled_at < clock_timestamp() + $2::interval)
		    or exists (select from river_job j join workers w on w.id = j.attempted_by[array_upper(j.attempted_by, 1)]
		               where j.queue = $1 and j.state = 'running')`, revokeQueue(k.cfg.Instance.ID), k.cfg.paced(soon)).Scan(&woken)
	if err != nil {
		return fmt.Errorf("look for revocations that lost their jobs: %w", err)
	}
	if woken {
		return nil
	}
	ids, err := revocation.LostRevocations(ctx, k.pool, k.cfg.Instance.ID, 100_000)
	if err != nil || len(ids) == 0 {
		return err
	}
	k.log.Warn("revocations waited without jobs", "revocations", len(ids))
	return pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error { return InsertRevokes(ctx, tx, k.cfg.Instance.ID, ids) })
}

// forgetNotices deletes notices that no process has tried for [noticesKept]. River discards a
// notice that was tried after its last attempt.
func (k *keeper) forgetNotices(ctx context.Context) error {
	_, err := k.pool.Exec(ctx, `delete from river_job where queue = $1 and state = 'available' and attempt = 0 and created_at < clock_timestamp() - $2::interval`,
		noticeQueue(k.cfg.Instance.ID), noticesKept)
	if err != nil {
		return fmt.Errorf("delete old notices: %w", err)
	}
	return nil
}
