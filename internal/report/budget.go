package report

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
	"bulkinvite/ratelimit"
)

// Budget is the state of an instance's limits.
type Budget struct {
	invitation.Spent
	Limits  invitation.Limits // the strictest of each kind, of the caller's limits and those that live workers state
	Workers []WorkerLimits    // processes with a heartbeat in the last minute, by id
	Frozen  []Freeze          // buckets that are frozen now
	Now     time.Time         // the database's clock when the budget was read
}

// WorkerLimits are the limits that a worker was given, in the form of [ratelimit.Limit.String].
// They are nil if the worker's version does not state them.
type WorkerLimits struct {
	Worker  string  `json:"worker"`
	Host    string  `json:"host"`
	PID     int     `json:"pid"`
	Create  *string `json:"create"`
	Bulk    *string `json:"bulk"`
	General *string `json:"general"`
}

// States reports whether the worker's version states its limits.
func (w WorkerLimits) States() bool { return w.Create != nil && w.Bulk != nil && w.General != nil }

// String returns the worker and its limits as text.
func (w WorkerLimits) String() string {
	who := fmt.Sprintf("%s (%s, pid %d)", w.Worker, w.Host, w.PID)
	if !w.States() {
		return who + " states no limits"
	}
	return fmt.Sprintf("%s: create %s, bulk %s, general %s", who, *w.Create, *w.Bulk, *w.General)
}

// Differing returns all live workers if they have stated different limits. Otherwise it returns an
// empty slice, never nil.
func (b Budget) Differing() []WorkerLimits {
	var first *WorkerLimits
	for i, w := range b.Workers {
		switch {
		case !w.States():
		case first == nil:
			first = &b.Workers[i]
		case *first.Create != *w.Create || *first.Bulk != *w.Bulk || *first.General != *w.General:
			return b.Workers
		}
	}
	return []WorkerLimits{}
}

// Freeze is a bucket that is frozen for the fleet after a 429.
type Freeze struct {
	Bucket string    `json:"bucket"` // create, bulk or general
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Ceiling is what earlier versions reported about a limit that another program used too. This
// version never makes one, but programs that read the JSON rely on the key.
type Ceiling struct {
	Bucket  string          `json:"bucket"`
	Ceiling int             `json:"ceiling"` // requests in a window
	Limit   ratelimit.Limit `json:"limit"`   // the configured limit
}

// ReadBudget returns the current state of an instance's limits. limits are the caller's own limits.
func ReadBudget(ctx context.Context, pool *pgxpool.Pool, instance int64, limits invitation.Limits) (Budget, error) {
	b := Budget{Limits: limits, Frozen: []Freeze{}}
	for _, one := range []struct {
		name  string
		limit *ratelimit.Limit
		use   *invitation.Use
	}{
		{ratelimit.Create, &b.Limits.Create, &b.Create},
		{ratelimit.Bulk, &b.Limits.Bulk, &b.Bulk},
		{ratelimit.GeneralCall, &b.Limits.General, &invitation.Use{}},
	} {
		if one.limit.Off {
			continue
		}
		bucket, err := ratelimit.Count(ctx, pool, instance, one.name, *one.limit)
		if err != nil {
			return b, err
		}
		*one.limit = ratelimit.Strictest(bucket.Obeyed)
		b.Now = bucket.Now
		if wait := bucket.Frozen.Sub(bucket.Now); wait > 0 {
			one.use.Frozen = wait
			b.Frozen = append(b.Frozen, Freeze{one.name, bucket.Frozen, bucket.Reason})
		}
		if one.limit.None || one.name == ratelimit.GeneralCall {
			continue
		}
		if one.use.Busy, err = ratelimit.Busy(ctx, pool, instance, one.name, *one.limit); err != nil {
			return b, err
		}
	}
	rows, _ := pool.Query(ctx, `
		select id, host, pid, limit_create, limit_bulk, limit_general from workers
		where instance_id = $1 and heartbeat_at > clock_timestamp() - interval '1 minute' order by id`, instance)
	var err error
	if b.Workers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[WorkerLimits]); err != nil {
		return b, fmt.Errorf("read the limits of the workers of instance %d: %w", instance, err)
	}
	return b, nil
}

// Loads returns the waiting people of an instance's running batches. It leaves out people in a
// request whose answer is not known, because they do not wait for budget.
func Loads(ctx context.Context, pool *pgxpool.Pool, instance int64) ([]invitation.Load, error) {
	return loads(ctx, pool, `b.instance_id = $1 and b.state = 'running'`, instance)
}

// Load returns the waiting people of a batch, whatever its state. It fails with [invitation.ErrNoBatch] if the
// batch does not exist.
func Load(ctx context.Context, pool *pgxpool.Pool, batch int64) (invitation.Load, error) {
	loads, err := loads(ctx, pool, `b.id = $1`, batch)
	if err == nil && len(loads) == 0 {
		err = fmt.Errorf("batch %d: %w", batch, invitation.ErrNoBatch)
	}
	if err != nil {
		return invitation.Load{}, err
	}
	return loads[0], nil
}

func loads(ctx context.Context, pool *pgxpool.Pool, where string, arg int64) ([]invitation.Load, error) {
	rows, _ := pool.Query(ctx, `
		select b.id, b.priority, b.start_at, `+batch.HoursColumns+`,
		       w.waiting - o.open, b.canary_row is not null, w.canary - o.canary,
		       (select max(r.not_before) from results r where r.batch_id = b.id and r.outcome is null and r.not_before is not null)
		from batches b
		cross join lateral (
			select count(*) as waiting, count(*) filter (where r.row_number <= b.canary_row) as canary
			from results r where r.batch_id = b.id and r.outcome is null) w
		cross join lateral (
			select count(*) as open, count(*) filter (where p.row_number <= b.canary_row) as canary
			from attempt_people p join results r on (r.batch_id, r.row_number) = (p.batch_id, p.row_number)
			where p.instance_id = b.instance_id and p.open and p.batch_id = b.id and r.outcome is null) o
		where `+where+` order by b.priority, b.id`, arg)
	var l invitation.Load
	var start, wait *time.Time
	var from, to *int
	loads := []invitation.Load{}
	_, err := pgx.ForEachRow(rows, []any{&l.Batch, &l.Priority, &start, &from, &to, &l.Hours.TZ, &l.People, &l.Held, &l.Canary, &wait}, func() error {
		l.StartAt, l.NotBefore = db.Time(start), db.Time(wait)
		if from != nil && to != nil {
			l.Hours.From, l.Hours.To = *from, *to
		} else {
			l.Hours = invitation.Hours{}
		}
		loads = append(loads, l)
		return nil
	})
	for i := range loads {
		if err == nil && !loads[i].Hours.IsZero() {
			loads[i].Zone, err = batch.Zone(ctx, pool, loads[i].Hours.TZ)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("count who waits: %w", err)
	}
	return loads, nil
}
