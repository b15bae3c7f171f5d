package invitation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/ratelimit"
)

// Store contains the SQL of the domain. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// Queryer is a pool or a transaction. Code in a transaction must use the transaction for every
// query: if the pool is small, a second connection may never be free.
type Queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// NewStore returns a Store of a migrated database.
func NewStore(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// Instance is a Clerk instance that this database has talked to.
type Instance struct {
	ID          int64
	ClerkID     string // ins_… or "sandbox"
	Environment string // production, development or sandbox
}

// TwoInstancesError says that the database has two instances for one key: the one that Clerk names,
// and one that an earlier version made under the key's fingerprint. Neither has the files, people
// and budgets of the other.
type TwoInstancesError struct {
	ClerkID  string // ins_…
	Former   string // "key:" and the fingerprint of the key
	FormerID int64  // number of the former instance
}

// Error names both instances.
func (e *TwoInstancesError) Error() string {
	return fmt.Sprintf("this database has the key's instance twice, as %s and as %s (number %d), "+
		"each with files, people and budgets that the other does not know", e.ClerkID, e.Former, e.FormerID)
}

// EnsureInstance returns the instance with this Clerk id. The first time it creates the instance
// and its buckets.
func (s *Store) EnsureInstance(ctx context.Context, clerkID, environment string) (Instance, error) {
	in := Instance{ClerkID: clerkID, Environment: environment}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			insert into instances (clerk_id, environment) values ($1, $2)
			on conflict (clerk_id) do update set environment = excluded.environment returning id`, clerkID, environment).Scan(&in.ID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into buckets (instance_id, name)
			select $1, name from unnest(array['create', 'bulk', 'general']) name on conflict do nothing`, in.ID)
		return err
	})
	if err != nil {
		return in, fmt.Errorf("register instance %s: %w", clerkID, err)
	}
	return in, nil
}

// AdoptInstance gives an instance that an earlier version made under a former id its Clerk id, so
// that its files, people and budgets are kept. It does nothing if there is no such instance. It
// fails with [*TwoInstancesError] as [Reader.FormerInstance] does.
func (s *Store) AdoptInstance(ctx context.Context, clerkID, former string) error {
	_, err := s.pool.Exec(ctx, `update instances set clerk_id = $1
		where clerk_id = $2 and not exists (select from instances where clerk_id = $1)`, clerkID, former)
	if err != nil {
		return fmt.Errorf("rename instance %s to %s: %w", former, clerkID, err)
	}
	_, err = NewReader(s.pool).FormerInstance(ctx, clerkID, former)
	return err
}

// WorkerInfo describes a process in the workers table.
type WorkerInfo struct {
	ID         string // also River's client id
	InstanceID int64
	Host       string
	PID        int
	Version    string
	Lives      time.Duration // how long it counts as alive after a heartbeat: --recover-after
	Limits     Limits        // the limits that it was given; other workers must keep them too
}

// Beat records a heartbeat of a process and returns when it registered. It registers the process if
// it is not registered, or not any more.
func (s *Store) Beat(ctx context.Context, w WorkerInfo) (since time.Time, err error) {
	err = s.pool.QueryRow(ctx, `
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
func (s *Store) Leave(ctx context.Context, id string) error {
	if _, err := s.pool.Exec(ctx, `delete from workers where id = $1`, id); err != nil {
		return fmt.Errorf("sign off worker %s: %w", id, err)
	}
	return nil
}

// Reap declares dead the processes of an instance whose last heartbeat is too old, by PostgreSQL's
// clock. It returns how many. It skips processes that are in the middle of a claim. after is the
// limit for processes of an earlier version, which do not write how long they live.
func (s *Store) Reap(ctx context.Context, instance int64, after time.Duration) (int, error) {
	tag, err := s.pool.Exec(ctx, `
		with late as materialized (
			select id from workers
			where instance_id = $1 and coalesce(lives_until, heartbeat_at + $2::interval) < clock_timestamp() for update skip locked)
		delete from workers w using late where w.id = late.id`, instance, after)
	if err != nil {
		return 0, fmt.Errorf("look for dead workers of instance %d: %w", instance, err)
	}
	return int(tag.RowsAffected()), nil
}

// ErrNoBatch says that no batch has this number.
var ErrNoBatch = errors.New("no such batch")

// event adds an event to the log of who did what.
func event(ctx context.Context, tx pgx.Tx, instance, batch int64, actor, action string, details map[string]any) error {
	if details == nil {
		details = map[string]any{}
	}
	_, err := tx.Exec(ctx, `insert into events (instance_id, batch_id, actor, action, details) values (nullif($1, 0), nullif($2, 0), $3, $4, $5)`,
		instance, batch, actor, action, details)
	if err != nil {
		return fmt.Errorf("record event %s: %w", action, err)
	}
	return nil
}

// Record adds an event that concerns no batch and no instance. details may contain only ids and
// numbers.
func Record(ctx context.Context, tx pgx.Tx, actor, action string, details map[string]any) error {
	return event(ctx, tx, 0, 0, actor, action, details)
}
