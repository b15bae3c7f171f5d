package ratelimit

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The names of the buckets. Where two are locked, create comes before bulk.
const (
	Create      = "create"  // POST /invitations
	Bulk        = "bulk"    // POST /invitations/bulk
	GeneralCall = "general" // every other call
)

// Bucket is what one limit has left, at the moment that it was counted.
type Bucket struct {
	Name    string
	Free    int       // how many requests may start now
	Weighs  int       // how many weigh on Limit
	Pending int       // how many of those have no answer yet
	Opens   time.Time // if none is free: the earliest moment at which one can be, by Postgres' clock; answers that are still out can make it later
	Probe   bool      // the bucket thaws: the one request that is free is a probe
	Frozen  time.Time // if frozen: until when
	Reason  string    // if frozen: why
	Careful time.Time // until when requests go one at a time after a 429; zero: as many as are free
	Now     time.Time // Postgres' clock when it was counted
	Limit   Limit     // the limit that leaves the least: the caller's own, or one that a live worker has stated
	Obeyed  []Limit   // all limits that were kept, the caller's own first
	capped  time.Time // where frozen_until is later than a freeze may last: what it becomes
}

// unlimited is what is free where nothing is counted.
const unlimited = 1 << 20

// querier is what counting needs of a connection, a pool or a transaction.
type querier interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Lock locks buckets of an instance until the transaction ends, create before
// bulk. Whoever holds them knows that no claim is under way.
func Lock(ctx context.Context, tx pgx.Tx, instance int64, names ...string) error {
	_, err := tx.Exec(ctx, lock, instance, names)
	if err != nil {
		return fmt.Errorf("lock the buckets of instance %d: %w", instance, err)
	}
	return nil
}

// Reserve locks a bucket until the transaction ends and counts what it has
// left. The caller takes of it by inserting attempts before it commits. Where
// both creates are needed, create is reserved before bulk.
func Reserve(ctx context.Context, tx pgx.Tx, instance int64, name string, limit Limit) (Bucket, error) {
	var batch pgx.Batch // statements of their own, in one round trip
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

// Count tells what a bucket has left. Without the bucket's lock it is a view
// that may be old by the time it is read: good for showing, not for reserving.
func Count(ctx context.Context, q querier, instance int64, name string, limit Limit) (Bucket, error) {
	return count(ctx, q, &pgx.Batch{}, instance, name, limit)
}

const (
	lock = `select from buckets where instance_id = $1 and name = any($2) order by name desc for update`

	readBucket = `
		select clock_timestamp(), b.frozen_until, b.frozen_at, coalesce(b.frozen_reason, ''),
		       exists (select from attempts a where a.id = b.probe_attempt
		               and a.answered_at is null and a.resolved_at is null and a.deadline > clock_timestamp()),
		       ` + statedLimits + `
		from buckets b where b.instance_id = $1 and b.name = $2`

	weighing = `
		select coalesce(array_agg(coalesce(answered_at, deadline)), '{}'), clock_timestamp(),
		       count(*) filter (where answered_at is null and deadline > clock_timestamp())
		from attempts
		where instance_id = $1 and bucket = $2 and resolution is distinct from 'not_sent'
		  and coalesce(answered_at, deadline) > clock_timestamp() - $3::interval`
)

// count runs the statements that were queued, and then counts. It keeps the caller's limit and
// those that live workers of the instance have stated, which it reads after the lock: a worker
// that registers earlier is seen. How many may start is the least that any of them leaves.
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
	var ends []time.Time // of the requests that weigh, at most as many as the limit, unless that was lowered
	now := &b.Now
	weigh := func(batch *pgx.Batch, weight time.Duration) {
		batch.Queue(weighing, instance, name, weight).QueryRow(func(row pgx.Row) error {
			now = new(time.Time)
			return row.Scan(&ends, now, &b.Pending)
		})
	}
	ledger := name != GeneralCall // which is counted over leases
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

// obey finds what is free under all limits, and the one that leaves the least; of those that leave
// nothing, the one that opens last.
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

// carefulWindows is for how many windows after a 429 requests go one at a time: a day
// for Clerk's hourly limits. Sooner, a client that uses the limit too would have
// several requests refused at once, again and again.
const carefulWindows = 24

// oneAtATime lets one request be under way in the whole fleet after a 429. Another
// client may be using the limit too: what it leaves is used all the same, and when
// it leaves nothing Clerk refuses one request only.
func (b *Bucket) oneAtATime() {
	if b.Pending > 0 && b.Free > 0 {
		b.Free, b.Opens = 0, b.Now.Add(50*time.Millisecond)
	}
	b.Free = min(b.Free, 1)
}

// capFreeze is when a freeze ends that began at a time: after one window at most. Earlier versions
// believed any Retry-After, and may have frozen a bucket for centuries.
func (b *Bucket) capFreeze(until, began time.Time) time.Time {
	if latest := began.Add(longestFreeze(b.Name, b.Obeyed)); until.After(latest) {
		b.capped = latest
		return latest
	}
	return until
}

// longestFreeze is how long a freeze of a bucket lasts at most, whatever Retry-After says: the
// longest window of the limits in force, and a second at least; where there is no limit, the window
// of Clerk's own.
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

// thaw applies a freeze: nothing until it ends, then one request that probes, if
// room is left under the limit. It need not wait for requests that are under way.
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
