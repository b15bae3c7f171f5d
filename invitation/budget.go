package invitation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/ratelimit"
)

// Limits are the limits that a fleet keeps.
type Limits struct {
	Create, Bulk, General ratelimit.Limit
}

// Budget is where the limits of an instance stand.
type Budget struct {
	Spent
	Limits  Limits         // of those that were given here and to live workers, the strictest of each kind
	Workers []WorkerLimits // the processes heard of within a minute, by their ids
	Frozen  []Freeze       // the buckets that are closed now
	Now     time.Time      // the database's clock when it was asked
}

// WorkerLimits are the limits that a worker was given, as [ratelimit.Limit.String] has them; nil
// where its version does not state them.
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

// String is the worker and its limits in words.
func (w WorkerLimits) String() string {
	who := fmt.Sprintf("%s (%s, pid %d)", w.Worker, w.Host, w.PID)
	if !w.States() {
		return who + " states no limits"
	}
	return fmt.Sprintf("%s: create %s, bulk %s, general %s", who, *w.Create, *w.Bulk, *w.General)
}

// Differing returns the live workers if not all have stated the same limits, and otherwise none.
// It is never nil.
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

// Freeze is a bucket that a 429 closed for the fleet.
type Freeze struct {
	Bucket string    `json:"bucket"` // create, bulk or general
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Ceiling is what earlier versions told of a limit that something else used too. No
// version makes one any more; programs that read the JSON rely on the key.
type Ceiling struct {
	Bucket  string          `json:"bucket"`
	Ceiling int             `json:"ceiling"` // requests in a window
	Limit   ratelimit.Limit `json:"limit"`   // what was set
}

// Budget returns where the limits of an instance stand now; limits are those that were given here.
func (r *Reader) Budget(ctx context.Context, instance int64, limits Limits) (Budget, error) {
	b := Budget{Limits: limits, Frozen: []Freeze{}}
	for _, one := range []struct {
		name  string
		limit *ratelimit.Limit
		use   *Use
	}{
		{ratelimit.Create, &b.Limits.Create, &b.Create},
		{ratelimit.Bulk, &b.Limits.Bulk, &b.Bulk},
		{ratelimit.GeneralCall, &b.Limits.General, &Use{}},
	} {
		if one.limit.Off {
			continue
		}
		bucket, err := ratelimit.Count(ctx, r.pool, instance, one.name, *one.limit)
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
		if one.use.Busy, err = r.busy(ctx, instance, one.name, *one.limit); err != nil {
			return b, err
		}
	}
	rows, _ := r.pool.Query(ctx, `
		select id, host, pid, limit_create, limit_bulk, limit_general from workers
		where instance_id = $1 and heartbeat_at > clock_timestamp() - interval '1 minute' order by id`, instance)
	var err error
	if b.Workers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[WorkerLimits]); err != nil {
		return b, fmt.Errorf("read the limits of the workers of instance %d: %w", instance, err)
	}
	return b, nil
}

// busy lists for how long each request will go on weighing on a limit. One
// without an answer can have it at any moment: it is taken as answered now.
func (r *Reader) busy(ctx context.Context, instance int64, bucket string, limit ratelimit.Limit) ([]time.Duration, error) {
	rows, _ := r.pool.Query(ctx, `
		select least(coalesce(answered_at, deadline), clock_timestamp()) + $3::interval - clock_timestamp() from attempts
		where instance_id = $1 and bucket = $2 and resolution is distinct from 'not_sent'
		  and coalesce(answered_at, deadline) > clock_timestamp() - $3::interval`, instance, bucket, limit.Weight())
	busy, err := pgx.CollectRows(rows, pgx.RowTo[time.Duration])
	if err != nil {
		return nil, fmt.Errorf("read the budget of instance %d: %w", instance, err)
	}
	return busy, nil
}

// Loads returns the people of an instance who wait in running batches. Whoever
// is in a request whose answer is not known waits for that, not for budget.
func (r *Reader) Loads(ctx context.Context, instance int64) ([]Load, error) {
	return r.loads(ctx, `b.instance_id = $1 and b.state = 'running'`, instance)
}

// Load returns the people of a batch who wait, whatever its state.
func (r *Reader) Load(ctx context.Context, batch int64) (Load, error) {
	loads, err := r.loads(ctx, `b.id = $1`, batch)
	if err == nil && len(loads) == 0 {
		err = fmt.Errorf("batch %d: %w", batch, ErrNoBatch)
	}
	if err != nil {
		return Load{}, err
	}
	return loads[0], nil
}

func (r *Reader) loads(ctx context.Context, where string, arg int64) ([]Load, error) {
	rows, _ := r.pool.Query(ctx, `
		select b.id, b.priority, b.start_at, `+hoursColumns+`,
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
	var l Load
	var start, wait *time.Time
	var from, to *int
	loads := []Load{}
	_, err := pgx.ForEachRow(rows, []any{&l.Batch, &l.Priority, &start, &from, &to, &l.Hours.TZ, &l.People, &l.Held, &l.Canary, &wait}, func() error {
		l.StartAt, l.NotBefore = deref(start), deref(wait)
		if from != nil && to != nil {
			l.Hours.From, l.Hours.To = *from, *to
		} else {
			l.Hours = Hours{}
		}
		loads = append(loads, l)
		return nil
	})
	for i := range loads {
		if err == nil && !loads[i].Hours.IsZero() {
			loads[i].Zone, err = r.Zone(ctx, loads[i].Hours.TZ)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("count who waits: %w", err)
	}
	return loads, nil
}
