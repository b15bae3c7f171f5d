package ratelimit

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The names of the buckets. A transaction that locks create and bulk locks create first.
const (
	Create      = "create"  // POST /invitations
	Bulk        = "bulk"    // POST /invitations/bulk
	GeneralCall = "general" // every other request
)

// Bucket is the state of one limit at the moment it was counted.
type Bucket struct {
	Name    string
	Free    int       // how many requests may start now
	Weighs  int       // requests that count against Limit
	Pending int       // the part of Weighs that Clerk may still be working on
	Opens   time.Time // if Free is 0: the earliest start, by PostgreSQL's clock; pending answers can delay it
	Probe   bool      // the bucket thaws: the one free request is a probe
	Frozen  time.Time // if frozen: the end of the freeze
	Reason  string    // if frozen: the reason
	Careful time.Time // until then requests go one at a time, because of a 429; zero: no such restriction
	Now     time.Time // PostgreSQL's time when the bucket was counted
	Limit   Limit     // the limit that leaves the least: the caller's own, or one that a live worker states
	Obeyed  []Limit   // all limits that are kept, the caller's own first
	capped  time.Time // if frozen_until is later than a freeze may last: its new value
}

// unlimited is the value of Free if nothing is counted.
const unlimited = 1 << 20

// querier is the part of a connection, a pool or a transaction that counting uses.
type querier interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Lock locks buckets of an instance until the transaction ends, create before bulk. While a
// transaction holds both, no claim is under way.
func Lock(ctx context.Context, tx pgx.Tx, instance int64, names ...string) error {
	_, err := tx.Exec(ctx, lock, instance, names)
	if err != nil {
		return fmt.Errorf("lock the buckets of instance %d: %w", instance, err)
	}
	return nil
}

// Reserve locks a bucket until the transaction ends and counts what it has left. The caller spends
// the budget by inserting attempts before it commits. A caller that needs both creates reserves
// create before bulk. If the stored freeze is longer than a freeze may last, Reserve shortens it.
func Reserve(ctx context.Context, tx pgx.Tx, instance int64, name string, limit Limit) (Bucket, error) {
	var batch pgx.Batch // separate statements in one round trip
	batch.Queue(lock, instance, []string{name})
	b, err := count(ctx, tx, &batch, instance, name, limit)
	if err != nil || b.capped.IsZero() {
		return b, err
	}
	_, err = tx.Exec(ctx, `update buckets set frozen_until = $3
		where instance_id = $1 and name = $2`, instance, name, b.capped)
	if err != nil {
		return b, fmt.Errorf("shorten the freeze of bucket %s of instance %d: %w", name, instance, err)
	}
	return b, nil
}

// Count returns what a bucket has left. It takes no lock, so the result may be out of date at once:
// use it for display, and [Reserve] for claims.
func Count(ctx context.Context, q querier, instance int64, name string, limit Limit) (Bucket, error) {
	return count(ctx, q, &pgx.Batch{}, instance, name, limit)
}

const (
	lock = `select from buckets where instance_id = $1 and name = any($2) order by name desc for update`

	readBucket = `
		select clock_timestamp(), b.frozen_until, b.frozen_at, coalesce(b.frozen_reason, ''),
		       exists (select from attempts a where a.id = b.probe_attempt
		               and a.http_status is null and a.resolved_at is null and a.deadline > clock_timestamp()),
		       ` + statedLimits + `
		from buckets b where b.instance_id = $1 and b.name = $2`

	// counted has the requests that count against a limit, and when each was over. A request
	// without an HTTP status may have reached Clerk up to its deadline, also if its loss was recorded
	// before. Each part of the union has an index. The time stands in a subquery because no index is
	// searched for a function that changes from row to row.
	counted = `
		since as materialized (select clock_timestamp() - $3::interval as at),
		counted as (
			select case when http_status is null then greatest(deadline, answered_at) else answered_at end as ended,
			       http_status is null and resolved_at is null and deadline > clock_timestamp() as pending
			from attempts
			where instance_id = $1 and bucket = $2 and resolution is distinct from 'not_sent'
			  and coalesce(answered_at, deadline) > (select at from since)
			union all
			select deadline, resolved_at is null and deadline > clock_timestamp()
			from attempts
			where instance_id = $1 and bucket = $2 and resolution is distinct from 'not_sent'
			  and answered_at <= (select at from since) and http_status is null
			  and deadline > (select at from since))`

	weighing = `with ` + counted + `
		select coalesce(array_agg(ended), '{}'), clock_timestamp(), count(*) filter (where pending) from counted`
)

// Busy lists for how much longer each request of a bucket counts against a limit. A request that is
// under way, or whose loss is known before its deadline, is treated as answered now.
func Busy(ctx context.Context, pool *pgxpool.Pool, instance int64, name string, limit Limit) ([]time.Duration, error) {
	rows, _ := pool.Query(ctx, `with `+counted+`
		select least(ended, clock_timestamp()) + $3::interval - clock_timestamp() from counted`,
		instance, name, limit.Weight())
	busy, err := pgx.CollectRows(rows, pgx.RowTo[time.Duration])
	if err != nil {
		return nil, fmt.Errorf("read the budget of bucket %s of instance %d: %w", name, instance, err)
	}
	return busy, nil
}

// count runs the queued statements and then counts. It keeps the caller's limit and those that live
// workers of the instance state. It reads these after the lock, so it sees every worker that
// registered before. Free is the lowest that any of them leaves.
func count(ctx context.Context, q querier, batch *pgx.Batch, instance int64, name string, limit Limit) (Bucket, error) {
	b := Bucket{Name: name, Limit: limit, Obeyed: []Limit{limit}}
	if limit.Off {
		if err := q.SendBatch(ctx, batch).Close(); err != nil {
			return b, fmt.Errorf("lock bucket %s of instance %d: %w", name, instance, err)
		}
		return b, nil
	}
	var frozenUntil, frozenAt *time.Time
	var probing bool
	var stated []string
	batch.Queue(readBucket, instance, name).QueryRow(func(row pgx.Row) error {
		return row.Scan(&b.Now, &frozenUntil, &frozenAt, &b.Reason, &probing, &stated)
	})
	var ends []time.Time // of the requests that count; at most as many as the limit, unless the limit was lowered
	now := &b.Now
	weigh := func(batch *pgx.Batch, weight time.Duration) {
		batch.Queue(weighing, instance, name, weight).QueryRow(func(row pgx.Row) error {
			now = new(time.Time)
			return row.Scan(&ends, now, &b.Pending)
		})
	}
	ledger := name != GeneralCall // the general bucket is counted over leases instead
	if ledger && !limit.None {
		weigh(batch, limit.Weight())
	}
	if err := q.SendBatch(ctx, batch).Close(); err != nil {
		return b, fmt.Errorf("count bucket %s of instance %d: %w", name, instance, err)
	}
	var err error
	if b.Obeyed, err = Obeyed(limit, stated); err != nil {
		return b, fmt.Errorf("count bucket %s of instance %d: %w", name, instance, err)
	}
	if longest := longestWeight(b.Obeyed); ledger && longest > longestWeight(b.Obeyed[:1]) {
		further := &pgx.Batch{}
		weigh(further, longest)
		if err := q.SendBatch(ctx, further).Close(); err != nil {
			return b, fmt.Errorf("count bucket %s of instance %d: %w", name, instance, err)
		}
	}
	b.obey(*now, ends)
	room := b.Free
	if ledger && frozenAt != nil && !b.Limit.None {
		if until := frozenAt.Add(carefulWindows * b.Limit.Window); b.Now.Before(until) {
			b.Careful = until
			b.oneAtATime()
		}
	}
	if frozenUntil != nil {
		b.thaw(b.capFreeze(*frozenUntil, *cmp.Or(frozenAt, &b.Now)), probing, room)
	}
	return b, nil
}

// obey sets Free to what is free under all limits, and Limit to the one that leaves the least. If
// several leave nothing, Limit is the one that opens last.
func (b *Bucket) obey(now time.Time, ends []time.Time) {
	b.Free = unlimited
	for _, l := range b.Obeyed {
		if l.None {
			continue
		}
		free, opens := l.Room(now, ends)
		if free < b.Free || free == b.Free && opens.After(b.Opens) {
			b.Free, b.Opens, b.Limit = free, opens, l
			b.Weighs = l.weighing(now, ends)
		}
	}
}

// carefulWindows is the number of windows after a 429 in which requests go one at a time: a day for
// Clerk's hourly limits. If it were shorter and another client used the limit too, Clerk would
// refuse several requests at once again and again.
const carefulWindows = 24

// oneAtATime allows one request under way in the whole fleet after a 429. Another client may be
// using the limit too. The fleet still uses what that client leaves, and when it leaves nothing,
// Clerk refuses only one request.
func (b *Bucket) oneAtATime() {
	if b.Pending > 0 && b.Free > 0 {
		b.Free, b.Opens = 0, b.Now.Add(50*time.Millisecond)
	}
	b.Free = min(b.Free, 1)
}

// capFreeze returns when a freeze that began at a given time ends: at most [longestFreeze] later.
// Earlier versions believed any Retry-After and may have frozen a bucket for centuries.
func (b *Bucket) capFreeze(until, began time.Time) time.Time {
	if latest := began.Add(longestFreeze(b.Name, b.Obeyed)); until.After(latest) {
		b.capped = latest
		return latest
	}
	return until
}

// longestFreeze returns how long a freeze of a bucket lasts at most, whatever Retry-After says: the
// longest window of the limits in force, but at least one second. If no limit is in force, it is
// the window of Clerk's own limit.
func longestFreeze(name string, obeyed []Limit) (longest time.Duration) {
	for _, l := range obeyed {
		if !l.None && !l.Off {
			longest = max(longest, l.Window)
		}
	}
	switch {
	case longest > 0:
		return max(longest, time.Second)
	case name == Create:
		return DefaultCreate.Window
	case name == Bulk:
		return DefaultBulk.Window
	}
	return DefaultProduction.Window
}

// thaw applies a freeze. Nothing is free until the freeze ends. Then one request probes if there is
// room under the limit. The probe does not wait for requests that are under way.
func (b *Bucket) thaw(until time.Time, probing bool, room int) {
	switch {
	case b.Now.Before(until):
		b.Free, b.Frozen = 0, until
		if b.Opens.Before(until) {
			b.Opens = until
		}
	case probing:
		b.Free, b.Frozen, b.Opens = 0, until, b.Now.Add(100*time.Millisecond)
	case room > 0:
		b.Free, b.Probe, b.Opens = 1, true, time.Time{}
	}
}
