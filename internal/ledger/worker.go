package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/ratelimit"
)

// WorkerInfo describes a process in the workers table.
type WorkerInfo struct {
	ID         string // also River's client id
	InstanceID int64
	Host       string
	PID        int
	Version    string
	Lives      time.Duration     // how long it counts as alive after a heartbeat: --recover-after
	Limits     invitation.Limits // the limits that it was given; other workers must keep them too
}

// Beat records a heartbeat of a process and returns when it registered. It registers the process if
// it is not registered, or not any more.
func Beat(ctx context.Context, pool *pgxpool.Pool, w WorkerInfo) (since time.Time, err error) {
	err = pool.QueryRow(ctx, `
		insert into workers as w
			(id, instance_id, host, pid, version, started_at, heartbeat_at, lives_until, limit_create, limit_bulk, limit_general)
		select $1, $2, $3, $4, $5, now, now, now + $6::interval, $7, $8, $9 from clock_timestamp() now
		on conflict (id) do update set heartbeat_at = excluded.heartbeat_at, lives_until = excluded.lives_until
		returning w.started_at`,
		w.ID, w.InstanceID, w.Host, w.PID, w.Version, w.Lives,
		stated(w.Limits.Create), stated(w.Limits.Bulk), stated(w.Limits.General)).Scan(&since)
	if err != nil {
		return since, fmt.Errorf("heartbeat of worker %s: %w", w.ID, err)
	}
	return since, nil
}

// stated returns a limit as a worker states it, or nil for the zero Limit.
func stated(l ratelimit.Limit) *string {
	if l == (ratelimit.Limit{}) {
		return nil
	}
	s := l.String()
	return &s
}

// Leave removes a process that ends from the list.
func Leave(ctx context.Context, pool *pgxpool.Pool, id string) error {
	if _, err := pool.Exec(ctx, `delete from workers where id = $1`, id); err != nil {
		return fmt.Errorf("sign off worker %s: %w", id, err)
	}
	return nil
}

// Reap declares dead the processes of an instance whose last heartbeat is too old, by PostgreSQL's
// clock. It returns how many. It skips processes that are in the middle of a claim. after is the
// limit for processes of an earlier version, which do not write how long they live.
func Reap(ctx context.Context, pool *pgxpool.Pool, instance int64, after time.Duration) (int, error) {
	tag, err := pool.Exec(ctx, `
		with late as materialized (
			select id from workers
			where instance_id = $1 and coalesce(lives_until, heartbeat_at + $2::interval) < clock_timestamp() for update skip locked)
		delete from workers w using late where w.id = late.id`, instance, after)
	if err != nil {
		return 0, fmt.Errorf("look for dead workers of instance %d: %w", instance, err)
	}
	return int(tag.RowsAffected()), nil
}
