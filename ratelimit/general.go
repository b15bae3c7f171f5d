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

// General gives one process its share of the general limit: it leases requests in small blocks from
// PostgreSQL and paces them. A process has one General. It is safe for concurrent use.
type General struct {
	pool     *pgxpool.Pool
	instance int64
	worker   string
	limit    Limit
	timeout  time.Duration // of a request: a lease that is never settled counts this much longer
	pace     *rate.Limiter
	log      *slog.Logger

	leaser chan struct{} // held by the goroutine that leases for all others

	mu    sync.Mutex
	lease *lease
}

// blockUnlimited is the number of requests in a block if there is no limit. Blocks are leased even
// then, because a 429 from Clerk must stop the fleet.
const blockUnlimited = 1000

// spare is the part of the limit that is leased to nobody: a hundredth, rounded down. A process
// that starts asks Clerk which instance it is, and nobody can know before that whose limit the
// request uses.
const spare = 100

// lease is one block. Its fields are guarded by General.mu.
type lease struct {
	id    int64
	left  int
	out   int       // requests under way
	used  int       // requests started
	probe bool      // the limit thaws, and this block is the one request that may try
	useBy time.Time // by this process's clock, taken before the lease began
}

// NewGeneral returns the General of a process. worker is the id of the process, and timeout is the
// longest that a request can take.
func NewGeneral(pool *pgxpool.Pool, instance int64, worker string, limit Limit, timeout time.Duration, log *slog.Logger) *General {
	g := &General{pool: pool, instance: instance, worker: worker, limit: limit, timeout: timeout, log: log,
		pace: rate.NewLimiter(rate.Inf, 1), leaser: make(chan struct{}, 1)}
	if !limit.None && !limit.Off {
		g.pace = rate.NewLimiter(rate.Limit(float64(limit.N)/limit.Window.Seconds()), max(1, limit.N/10))
	}
	return g
}

// Throttled describes a 429 from Clerk.
type Throttled struct {
	Wait time.Duration // from Retry-After
	Told bool          // whether the answer had a Retry-After
}

// Acquire waits for the right to send one request. The caller must call release when the answer has
// come or the request was given up. It passes nil, or what a 429 said, which freezes the general
// limit for the fleet. Acquire fails if ctx ends or PostgreSQL returns an error.
func (g *General) Acquire(ctx context.Context) (release func(*Throttled), err error) {
	if err := g.pace.Wait(ctx); err != nil {
		return nil, err
	}
	select {
	case g.leaser <- struct{}{}:
		defer func() { <-g.leaser }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		if l := g.take(); l != nil {
			return func(t *Throttled) { g.done(l, t) }, nil
		}
		wait, err := g.renew(ctx)
		if err != nil {
			return nil, err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// take takes one request from the current lease. It returns nil if none is left.
func (g *General) take() *lease {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lease
	if l == nil || l.left == 0 || !time.Now().Before(l.useBy) {
		return nil
	}
	l.left--
	l.used++
	l.out++
	return l
}

// renew settles the current lease and takes a new one. It returns how long to wait if none was
// free. It does not hold g.mu while it uses the database, so answers can be noted meanwhile.
func (g *General) renew(ctx context.Context) (time.Duration, error) {
	g.mu.Lock()
	old := g.lease
	g.lease = nil
	ended := old != nil && old.out == 0
	g.mu.Unlock()
	if ended {
		g.settle(old)
	}
	var l *lease
	var wait time.Duration
	began := time.Now()
	err := pgx.BeginFunc(ctx, g.pool, func(tx pgx.Tx) error {
		l = nil
		b, err := Reserve(ctx, tx, g.instance, GeneralCall, g.limit)
		if err != nil {
			return err
		}
		if !b.Frozen.IsZero() {
			wait = min(max(b.Opens.Sub(b.Now), 10*time.Millisecond), time.Second)
			return nil
		}
		tokens, next, err := g.room(ctx, tx, b)
		if err != nil {
			return err
		}
		if tokens <= 0 {
			wait = min(max(next, 2*time.Millisecond), 250*time.Millisecond)
			return nil
		}
		life := 500 * time.Millisecond
		for _, limit := range b.Obeyed {
			if !limit.None {
				life = min(max(limit.Window/50, 20*time.Millisecond), life)
			}
		}
		l = &lease{left: tokens, useBy: began.Add(life), probe: b.Probe}
		return tx.QueryRow(ctx, `insert into leases (instance_id, worker_id, tokens, use_by) values ($1, $2, $3, clock_timestamp() + $4::interval) returning id`,
			g.instance, g.worker, tokens, life).Scan(&l.id)
	})
	if err != nil {
		return 0, fmt.Errorf("lease from the general limit of instance %d: %w", g.instance, err)
	}
	g.mu.Lock()
	g.lease = l
	g.mu.Unlock()
	return wait, nil
}

// room returns how many requests may be leased now: the lowest number that any of the limits in
// force leaves. If that is 0, next says after how long to look again.
func (g *General) room(ctx context.Context, tx pgx.Tx, b Bucket) (tokens int, next time.Duration, err error) {
	tokens = blockUnlimited
	for _, limit := range b.Obeyed {
		free, wait, probing, err := g.roomUnder(ctx, tx, limit)
		if err != nil {
			return 0, 0, err
		}
		if b.Probe && probing {
			return 0, 10 * time.Millisecond, nil
		}
		tokens = min(tokens, free)
		if free <= 0 {
			next = max(next, wait)
		}
	}
	if b.Probe {
		tokens = min(tokens, 1)
	}
	return tokens, next, nil
}

// roomUnder applies one limit. A lease that was never settled counts until a request that began at
// the last moment would have ended. While the bucket thaws, a lease that was taken since and is not
// settled is the probe, and there is only one probe.
func (g *General) roomUnder(
	ctx context.Context, tx pgx.Tx, limit Limit,
) (free int, next time.Duration, probing bool, err error) {
	var weighs int
	var first *time.Duration
	err = tx.QueryRow(ctx, `
		select coalesce(sum(l.tokens), 0), min(coalesce(l.settled_at, l.use_by + $3::interval)) + $2::interval - clock_timestamp(),
		       coalesce(bool_or(l.settled_at is null and l.leased_at >= b.frozen_until and l.use_by + $3::interval > clock_timestamp()), false)
		from leases l join buckets b on b.instance_id = l.instance_id and b.name = 'general'
		where l.instance_id = $1 and coalesce(l.settled_at, l.use_by + $3::interval) > clock_timestamp() - $2::interval`,
		g.instance, limit.Weight(), g.timeout).Scan(&weighs, &first, &probing)
	if err != nil {
		return 0, 0, false, err
	}
	if first != nil {
		next = *first
	}
	if limit.None {
		return blockUnlimited, next, probing, nil
	}
	return min(limit.N-limit.N/spare-weighs, max(1, limit.N/20)), next, probing, nil
}

// done records that a request of a lease has ended.
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
	if g.back(l, t != nil) {
		g.settle(l)
	}
}

// back returns one request of a lease. If Clerk throttles, it also drops what is left of the
// current lease. It reports whether l must be settled: no request of l is under way, and none will
// start.
func (g *General) back(l *lease, throttled bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.out--
	if throttled && g.lease != nil {
		g.lease.left = 0
	}
	if l.out > 0 || l == g.lease && l.left > 0 {
		return false
	}
	if l == g.lease {
		g.lease = nil
	}
	return true
}

// settle returns the unused requests of a lease. The rest counts from now on like a request that
// was answered now. If settling fails, the lease counts for longer; that costs budget but does no
// harm.
func (g *General) settle(l *lease) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := g.pool.Exec(ctx, `update leases set tokens = $2, settled_at = clock_timestamp() where id = $1`, l.id, l.used)
	if err != nil {
		g.log.Warn("settle a lease of the general limit", "lease", l.id, "error", err)
	}
}

// Prune deletes leases that stopped counting long ago under the limits of all live workers.
func (g *General) Prune(ctx context.Context) error {
	b, err := Count(ctx, g.pool, g.instance, GeneralCall, g.limit)
	if err != nil {
		return err
	}
	_, err = g.pool.Exec(ctx, `delete from leases
		where instance_id = $1 and use_by < clock_timestamp() - 2 * ($2::interval + $3::interval)`,
		g.instance, max(longestWeight(b.Obeyed), g.limit.Weight()), g.timeout)
	if err != nil {
		return fmt.Errorf("prune the leases of instance %d: %w", g.instance, err)
	}
	return nil
}

// Lease is a block of the general limit that counts against it.
type Lease struct {
	Tokens int           // number of requests
	Weighs time.Duration // how much longer it counts; for a lease that is in use: if it were settled now
}

// Leases lists the blocks that count against the general limit of an instance, for display. timeout
// is the longest that a request can take, as in [NewGeneral].
func Leases(ctx context.Context, pool *pgxpool.Pool, instance int64, limit Limit, timeout time.Duration) ([]Lease, error) {
	rows, _ := pool.Query(ctx, `
		select tokens, least(coalesce(settled_at, use_by + $3::interval), clock_timestamp()) + $2::interval - clock_timestamp() from leases
		where instance_id = $1 and coalesce(settled_at, use_by + $3::interval) > clock_timestamp() - $2::interval order by 2`,
		instance, limit.Weight(), timeout)
	leases, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Lease])
	if err != nil {
		return nil, fmt.Errorf("list the leases of instance %d: %w", instance, err)
	}
	return leases, nil
}

// Leased returns the number of requests that count against the general limit now. See [Leases].
func Leased(ctx context.Context, pool *pgxpool.Pool, instance int64, limit Limit, timeout time.Duration) (int, error) {
	leases, err := Leases(ctx, pool, instance, limit, timeout)
	n := 0
	for _, l := range leases {
		n += l.Tokens
	}
	return n, err
}
