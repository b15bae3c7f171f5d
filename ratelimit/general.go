package ratelimit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"
)

// General hands out the general limit's requests to one process: it leases them
// in small blocks from Postgres and paces them. One per process; safe for use
// by many goroutines.
type General struct {
	pool     *pgxpool.Pool
	instance int64
	worker   string
	limit    Limit
	timeout  time.Duration // a request's: a lease that is never settled weighs this much longer
	pace     *rate.Limiter
	log      *slog.Logger

	mu    sync.Mutex
	lease *lease
}

// lease is one block. Its fields are guarded by General.mu.
type lease struct {
	id    int64
	left  int
	out   int       // requests under way
	used  int       // requests begun
	probe bool      // the limit thaws, and this is the one request that may try
	useBy time.Time // on this process' clock, taken before the lease began
}

// NewGeneral returns the leaser of a process. timeout is the longest that a
// request can take.
func NewGeneral(pool *pgxpool.Pool, instance int64, worker string, limit Limit, timeout time.Duration, log *slog.Logger) *General {
	g := &General{pool: pool, instance: instance, worker: worker, limit: limit, timeout: timeout, log: log, pace: rate.NewLimiter(rate.Inf, 1)}
	if !limit.None && !limit.Off {
		g.pace = rate.NewLimiter(rate.Limit(float64(limit.N)/limit.Window.Seconds()), max(1, limit.N/10))
	}
	return g
}

// Throttled says that Clerk answered 429.
type Throttled struct {
	Wait time.Duration // Retry-After
	Told bool          // whether the answer had one
}

// Acquire waits for the right to send one request and returns what must be
// called when its answer is there, or is given up: with nil, or with what a 429
// said, which freezes the general limit for the fleet.
func (g *General) Acquire(ctx context.Context) (release func(*Throttled), err error) {
	if g.limit.None {
		return func(*Throttled) {}, nil
	}
	if err := g.pace.Wait(ctx); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock() // held while leasing: one leaser a process
	for g.lease == nil || g.lease.left == 0 || !time.Now().Before(g.lease.useBy) {
		wait, err := g.renew(ctx)
		if err != nil {
			return nil, err
		}
		if wait == 0 {
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
	l := g.lease
	l.left--
	l.used++
	l.out++
	return func(t *Throttled) { g.done(l, t) }, nil
}

// renew settles the lease at hand and takes a new one, or says how long to wait.
func (g *General) renew(ctx context.Context) (time.Duration, error) {
	if old := g.lease; old != nil {
		g.lease = nil
		if old.out == 0 {
			g.settle(old)
		}
	}
	life := min(max(g.limit.Window/50, 20*time.Millisecond), 500*time.Millisecond)
	began := time.Now()
	var wait time.Duration
	err := pgx.BeginFunc(ctx, g.pool, func(tx pgx.Tx) error {
		b, err := Reserve(ctx, tx, g.instance, GeneralCall, g.limit)
		if err != nil {
			return err
		}
		if !b.Frozen.IsZero() {
			wait = min(max(b.Opens.Sub(b.Now), 10*time.Millisecond), time.Second)
			return nil
		}
		var weighs int
		var next *time.Duration
		// Leases that were never settled weigh until a request begun at the last moment would have ended.
		err = tx.QueryRow(ctx, `
			select coalesce(sum(tokens), 0), min(coalesce(settled_at, use_by + $3::interval)) + $2::interval - clock_timestamp()
			from leases where instance_id = $1 and coalesce(settled_at, use_by + $3::interval) > clock_timestamp() - $2::interval`,
			g.instance, g.limit.Weight(), g.timeout).Scan(&weighs, &next)
		if err != nil {
			return err
		}
		free := min(g.limit.N-weighs, max(1, g.limit.N/20))
		if b.Probe {
			free = min(free, 1)
		}
		if free <= 0 {
			wait = min(max(*next, 2*time.Millisecond), 250*time.Millisecond)
			return nil
		}
		l := &lease{left: free, useBy: began.Add(life), probe: b.Probe}
		err = tx.QueryRow(ctx, `insert into leases (instance_id, worker_id, tokens, use_by) values ($1, $2, $3, clock_timestamp() + $4::interval) returning id`,
			g.instance, g.worker, free, life).Scan(&l.id)
		g.lease = l
		return err
	})
	if err != nil {
		g.lease = nil
		return 0, fmt.Errorf("lease from the general limit of instance %d: %w", g.instance, err)
	}
	return wait, nil
}

// done notes that a request of a lease was answered.
func (g *General) done(l *lease, t *Throttled) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	if t != nil {
		_, err = Freeze(ctx, g.pool, g.instance, GeneralCall, g.limit, 0, t.Wait, t.Told)
	} else if l.probe {
		err = Thaw(ctx, g.pool, g.instance, GeneralCall, 0)
	}
	if err != nil {
		g.log.Warn("record an answer to the general limit", "error", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t != nil {
		l.left = 0
	}
	l.out--
	if l.out == 0 && (l != g.lease || l.left == 0) {
		if l == g.lease {
			g.lease = nil
		}
		g.settle(l)
	}
}

// settle gives back what a lease did not use and lets it weigh from now on like
// a request that was answered now. If that fails the lease weighs longer, which
// costs budget and breaks nothing.
func (g *General) settle(l *lease) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := g.pool.Exec(ctx, `update leases set tokens = $2, settled_at = clock_timestamp() where id = $1`, l.id, l.used)
	if err != nil {
		g.log.Warn("settle a lease of the general limit", "lease", l.id, "error", err)
	}
}

// Prune deletes leases that stopped weighing long ago.
func (g *General) Prune(ctx context.Context) error {
	_, err := g.pool.Exec(ctx, `delete from leases where instance_id = $1 and use_by < clock_timestamp() - 2 * ($2::interval + $3::interval)`,
		g.instance, g.limit.Weight(), g.timeout)
	if err != nil {
		return fmt.Errorf("prune the leases of instance %d: %w", g.instance, err)
	}
	return nil
}
