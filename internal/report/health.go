package report

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// Health is what an operator monitors of an instance. It is read from small tables and partial
// indexes, so it can be read every few seconds, however many rows there are.
type Health struct {
	Batches  map[invitation.State]int // number of running and of paused batches
	Waiting  int                      // undecided rows of running batches
	Oldest   time.Duration            // time since the start of the oldest batch that has such a row and may send now; 0: none
	Unknown  int                      // requests past their deadline, or past an answer that did not decide
	Lost     time.Duration            // time since the oldest of them started; 0: none
	Workers  int                      // processes with a heartbeat in the last minute
	Held     int                      // sweeps that wait for a person
	Sweeping int                      // sweeps that are running
	Swept    time.Time                // when the last sweep of stale invitations ended; zero: never
	Taken    map[string]int           // invitations that sweeps were to revoke: revoked, failed, skipped
	Read     time.Time                // when the last complete reconcile began; zero: never
	Unread   time.Duration            // time since then, or since the instance was first met
	Drift    ledger.DriftCounts
	Lists    time.Duration // time of the last passes over the lists that guard claims; 0: none in the last hour
	Now      time.Time     // the database's clock
}

// ReadHealth reads the health of an instance.
func ReadHealth(ctx context.Context, pool *pgxpool.Pool, instance int64) (Health, error) {
	h := Health{Batches: map[invitation.State]int{invitation.Running: 0, invitation.Paused: 0}, Taken: map[string]int{}}
	err := db.Snapshot(ctx, pool, func(tx pgx.Tx) error {
		for _, read := range []func(context.Context, pgx.Tx, int64) error{
			h.readRows, h.readSweeps, h.readDrift, h.readLists,
		} {
			if err := read(ctx, tx, instance); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return h, fmt.Errorf("look how instance %d is: %w", instance, err)
	}
	return h, nil
}

func (h *Health) readRows(ctx context.Context, tx pgx.Tx, instance int64) error {
	var running, paused int
	err := tx.QueryRow(ctx, `
		select clock_timestamp(), count(*) filter (where b.state = 'running'), count(*) filter (where b.state = 'paused'),
		       coalesce(sum(w.n) filter (where b.state = 'running'), 0),
		       coalesce(clock_timestamp() - min(greatest(b.started_at, b.start_at)) filter (where `+ledger.IsOpen+` and w.n > 0), interval '0'),
		       (select count(*) from workers where instance_id = $1 and heartbeat_at > clock_timestamp() - interval '1 minute')
		from batches b cross join lateral (select count(*) as n from results r where r.batch_id = b.id and r.outcome is null) w
		where b.instance_id = $1 and b.state in ('running', 'paused')`, instance).
		Scan(&h.Now, &running, &paused, &h.Waiting, &h.Oldest, &h.Workers)
	if err != nil {
		return err
	}
	h.Batches[invitation.Running], h.Batches[invitation.Paused] = running, paused
	return tx.QueryRow(ctx, `
		select count(*), coalesce(clock_timestamp() - min(started_at), interval '0') from attempts
		where instance_id = $1 and resolved_at is null and (answered_at is not null or deadline < clock_timestamp())`, instance).Scan(&h.Unknown, &h.Lost)
}

func (h *Health) readSweeps(ctx context.Context, tx pgx.Tx, instance int64) error {
	var swept *time.Time
	var revoked, failed, skipped int
	err := tx.QueryRow(ctx, `
		select count(*) filter (where held and finished_at is null), count(*) filter (where not held and finished_at is null),
		       max(finished_at) filter (where kind = 'sweep'), coalesce(sum(revoked), 0), coalesce(sum(failed), 0),
		       coalesce(sum((select sum(n::bigint) from jsonb_each_text(skipped) s(why, n))), 0)
		from sweeps where instance_id = $1 and apply`, instance).Scan(&h.Held, &h.Sweeping, &swept, &revoked, &failed, &skipped)
	h.Swept = db.Time(swept)
	h.Taken["revoked"], h.Taken["failed"], h.Taken["skipped"] = revoked, failed, skipped
	return err
}

func (h *Health) readDrift(ctx context.Context, tx pgx.Tx, instance int64) error {
	var read *time.Time
	err := tx.QueryRow(ctx, `
		with last as (select max(started_at) as at from reconciles where instance_id = $1 and finished_at is not null and complete)
		select (select at from last), clock_timestamp() - coalesce((select at from last), (select created_at from instances where id = $1)),
		       count(*) filter (where kind = 'unexplained'), count(*) filter (where kind = 'gone'), count(*) filter (where kind = 'pending_again')
		from drift where instance_id = $1 and ended_at is null`, instance).
		Scan(&read, &h.Unread, &h.Drift.Unexplained, &h.Drift.Gone, &h.Drift.PendingAgain)
	h.Read = db.Time(read)
	return err
}

// readLists adds up how long the last pass over each list took.
func (h *Health) readLists(ctx context.Context, tx pgx.Tx, instance int64) error {
	return tx.QueryRow(ctx, `
		select coalesce(sum(p.took), interval '0')
		from unnest($2::text[]) c (call) cross join lateral (
			select r.ended_at - r.pass_begun_at as took from reads r
			where r.instance_id = $1 and r.call = c.call and r.complete and r.ended_at > clock_timestamp() - interval '1 hour'
			order by r.pass_begun_at desc limit 1) p`, instance, []string{ledger.ReadPending, ledger.ReadAll, ledger.ReadRevoked}).Scan(&h.Lists)
}

// BatchEnd says whether and when a batch ended.
type BatchEnd struct {
	ID         int64
	FinishedAt *time.Time // nil: it has not ended
}

// Ends lists the batches of an instance, oldest first.
func Ends(ctx context.Context, pool *pgxpool.Pool, instance int64) ([]BatchEnd, error) {
	rows, _ := pool.Query(ctx, `select id, finished_at from batches where instance_id = $1 order by id`, instance)
	ends, err := pgx.CollectRows(rows, pgx.RowToStructByPos[BatchEnd])
	if err != nil {
		return nil, fmt.Errorf("list the batches of instance %d: %w", instance, err)
	}
	return ends, nil
}
