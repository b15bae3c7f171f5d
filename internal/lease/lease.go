// Package lease lets one process of the fleet at a time do a task.
//
// A lease is a row of task_leases. Its holder renews it, and any process may take it once it has
// expired, by PostgreSQL's clock. A held lease needs no connection. A process that is stopped or
// cut off loses it.
//
// Each takeover increments the term. A holder that was stopped does not know that it lost the
// lease. So a transaction whose writes only the holder may make calls [Lease.Guard]. The guard
// fails if the term has changed, and keeps the term from changing until the transaction ends.
//
// It imports nothing of the program. Start reading at [Lease].
package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// TTL is how long a lease lasts after it was taken or renewed. If the holder is killed, its
	// task waits that long. The server ends a guarded transaction that stands still for that long.
	TTL = 5 * time.Second

	renewals    = 4 // how many times a lease is renewed during its life
	unconfirmed = 2 // for how many lives renewing may fail before the holder gives up
)

// ErrLost is the cause of [Lease.Context] when another process has taken the lease.
var ErrLost = errors.New("another process has taken it over")

// Lease is the right of this process to do a task until [Lease.Release].
type Lease struct {
	pool     *pgxpool.Pool
	instance int64
	name     string
	holder   string
	term     int64
	ttl      time.Duration

	ctx    context.Context
	cancel context.CancelCauseFunc
	taken  chan struct{} // closed once another process is known to have the lease
	once   sync.Once     // closes taken
	stop   chan struct{}
	done   sync.WaitGroup
}

// Take takes the lease of a task of an instance. It returns nil and no error if another holder has
// it. holder must be unique to the process. The lease is renewed in the background until it is
// released.
func Take(ctx context.Context, pool *pgxpool.Pool, instance int64, name, holder string) (*Lease, error) {
	return TakeFor(ctx, TTL, pool, instance, name, holder)
}

// TakeFor is [Take] with a lease that lasts ttl instead of [TTL].
func TakeFor(ctx context.Context, ttl time.Duration, pool *pgxpool.Pool, instance int64, name, holder string) (*Lease, error) {
	l := &Lease{
		pool: pool, instance: instance, name: name, holder: holder, ttl: ttl,
		taken: make(chan struct{}), stop: make(chan struct{}),
	}
	began := time.Now()
	// A lease that another holder has is only read: a write would wait for that holder's guarded
	// transactions.
	err := pool.QueryRow(ctx, `
		insert into task_leases as t (instance_id, name, holder, term, until)
		select $1, $2, $3, 1, clock_timestamp() + $4::interval
		where not exists (select from task_leases where instance_id = $1 and name = $2 and until >= clock_timestamp())
		on conflict (instance_id, name) do update set holder = $3, term = t.term + 1, until = clock_timestamp() + $4::interval
		where t.until < clock_timestamp()
		returning term`, instance, name, holder, ttl).Scan(&l.term)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take the lease %s of instance %d: %w", name, instance, err)
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.done.Go(func() { l.keep(began) })
	return l, nil
}

// Until returns when a lease expires, by PostgreSQL's clock. It returns the zero time if the lease
// was never taken.
func Until(ctx context.Context, pool *pgxpool.Pool, instance int64, name string) (until time.Time, err error) {
	err = pool.QueryRow(ctx, `select greatest(until, 'epoch') from task_leases where instance_id = $1 and name = $2`,
		instance, name).Scan(&until)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return until, fmt.Errorf("look up the lease %s of instance %d: %w", name, instance, err)
	}
	return until, nil
}

// Context returns a context derived from the one that the lease was taken in. It ends when the
// lease is released or lost. If the lease is lost, the cause is [ErrLost] or says why renewing
// failed.
func (l *Lease) Context() context.Context { return l.ctx }

// Taken returns a channel that is closed once another process has taken the lease. Unlike
// [Lease.Context] it stays open while PostgreSQL is out of reach, so that work can wait for it.
func (l *Lease) Taken() <-chan struct{} { return l.taken }

// Explain adds the cause to an error of work that ended because the lease was lost. It returns
// other errors unchanged.
func (l *Lease) Explain(err error) error {
	cause := context.Cause(l.ctx)
	if err == nil || l.ctx.Err() == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// Guard is [Lease.Guard] of a lease. A nil Guard means that any process may write.
type Guard func(context.Context, pgx.Tx) error

// Begin runs f in a transaction that begins with the guard.
func (g Guard) Begin(ctx context.Context, pool *pgxpool.Pool, f func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if g != nil {
			if err := g(ctx, tx); err != nil {
				return err
			}
		}
		return f(tx)
	})
}

// Guard protects a transaction whose writes only the holder may make. It fails with [ErrLost] if
// another process has taken the lease, and no process can take it until the transaction ends. Call
// it first, unless the transaction itself chooses what it writes. Keep the transaction short,
// because renewing the lease waits for it too. If the process stands still in the transaction, the
// server ends the transaction after the life of the lease.
func (l *Lease) Guard(ctx context.Context, tx pgx.Tx) error {
	var set string
	err := tx.QueryRow(ctx, `select set_config('idle_in_transaction_session_timeout', $5, true) from task_leases
		where instance_id = $1 and name = $2 and term = $3 and holder = $4 for share`,
		l.instance, l.name, l.term, l.holder, fmt.Sprint(l.ttl.Milliseconds())).Scan(&set)
	if errors.Is(err, pgx.ErrNoRows) {
		l.lose()
		return l.lost()
	}
	if err != nil {
		return fmt.Errorf("look up the lease %s of instance %d: %w", l.name, l.instance, err)
	}
	return nil
}

// Release ends the lease at once. It does nothing to a lease that another process has taken.
func (l *Lease) Release() {
	close(l.stop)
	l.cancel(context.Canceled)
	l.done.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), l.ttl)
	defer cancel()
	// An error does not matter: the lease expires.
	_, _ = l.pool.Exec(ctx, `update task_leases set until = '-infinity'
		where instance_id = $1 and name = $2 and term = $3 and holder = $4`, l.instance, l.name, l.term, l.holder)
}

// keep renews the lease until it is released or another process takes it.
func (l *Lease) keep(confirmed time.Time) {
	tick := time.NewTicker(l.ttl / renewals)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		began := time.Now()
		held, err := l.renew()
		switch {
		case err == nil && held:
			confirmed = began
		case err == nil:
			l.lose()
			return
		case time.Since(confirmed) > unconfirmed*l.ttl:
			l.cancel(fmt.Errorf("the lease %s of instance %d could not be renewed for %s: %w",
				l.name, l.instance, unconfirmed*l.ttl, err))
		}
	}
}

// renew checks only term and holder, not the time: if the lease has expired and no process took it,
// it still belongs to the holder. It compares the holder too, because a server that was promoted
// without the last commits may assign a term twice.
func (l *Lease) renew() (held bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), l.ttl)
	defer cancel()
	go func() {
		select {
		case <-l.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	tag, err := l.pool.Exec(ctx, `update task_leases set until = clock_timestamp() + $5::interval
		where instance_id = $1 and name = $2 and term = $3 and holder = $4`, l.instance, l.name, l.term, l.holder, l.ttl)
	return tag.RowsAffected() == 1, err
}

func (l *Lease) lost() error {
	return fmt.Errorf("the lease %s of instance %d: %w", l.name, l.instance, ErrLost)
}

// lose records that another process has the lease.
func (l *Lease) lose() {
	l.once.Do(func() {
		l.cancel(l.lost())
		close(l.taken)
	})
}

// Exclude makes transactions that pass the same name and instance wait for each other. Each waits
// until the other ends. A login without the right to write task_leases cannot block them.
func Exclude(ctx context.Context, tx pgx.Tx, instance int64, name string) error {
	// No transaction ever sees the row. The insert of another transaction waits until it is known
	// whether this one's row stays.
	var b pgx.Batch
	b.Queue(`insert into task_leases (instance_id, name, holder, term, until) values ($1, $2, '', 0, '-infinity')`,
		instance, name)
	b.Queue(`delete from task_leases where instance_id = $1 and name = $2`, instance, name)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("wait for others at %s of instance %d: %w", name, instance, err)
	}
	return nil
}
