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
	Frozen   []Freeze  // the buckets that are closed now
	Ceilings []Ceiling // those of which Clerk seems to allow less than was set
	Now      time.Time // the database's clock when it was asked
}

// Freeze is a bucket that a 429 closed for the fleet.
type Freeze struct {
	Bucket string    `json:"bucket"` // create, bulk or general
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Ceiling is what Clerk seems to allow of a bucket: it answered 429 while the
// ledger showed budget left, since something else uses the limit too.
type Ceiling struct {
	Bucket  string          `json:"bucket"`
	Ceiling int             `json:"ceiling"` // requests in a window
	Limit   ratelimit.Limit `json:"limit"`   // what was set
}

// Budget returns where the limits of an instance stand now.
func (r *Reader) Budget(ctx context.Context, instance int64, limits Limits) (Budget, error) {
	b := Budget{Frozen: []Freeze{}, Ceilings: []Ceiling{}}
	for _, one := range []struct {
		name  string
		limit ratelimit.Limit
		use   *Use
	}{
		{ratelimit.Create, limits.Create, &b.Create},
		{ratelimit.Bulk, limits.Bulk, &b.Bulk},
		{ratelimit.GeneralCall, limits.General, &Use{}},
	} {
		if one.limit.Off {
			continue
		}
		bucket, err := ratelimit.Count(ctx, r.pool, instance, one.name, one.limit)
		if err != nil {
			return b, err
		}
		b.Now = bucket.Now
		if wait := bucket.Frozen.Sub(bucket.Now); wait > 0 {
			one.use.Frozen = wait
			b.Frozen = append(b.Frozen, Freeze{one.name, bucket.Frozen, bucket.Reason})
		}
		if bucket.Ceiling > 0 {
			one.use.Ceiling = bucket.Ceiling
			b.Ceilings = append(b.Ceilings, Ceiling{one.name, bucket.Ceiling, one.limit})
		}
		if one.limit.None || one.name == ratelimit.GeneralCall {
			continue
		}
		if one.use.Busy, err = r.busy(ctx, instance, one.name, one.limit); err != nil {
			return b, err
		}
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
