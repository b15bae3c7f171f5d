package ratelimit

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"bulkinvite/postgres/postgrestest"
)

const hour = time.Hour

// leasers is a database with an instance, and as many processes as are asked for.
type leasers struct {
	*testing.T
	pool     *pgxpool.Pool
	instance int64
}

func setup(t *testing.T) *leasers {
	t.Helper()
	l := &leasers{T: t, pool: postgrestest.New(t)}
	l.instance = l.newInstance("ins_one")
	return l
}

func (l *leasers) newInstance(name string) (id int64) {
	l.Helper()
	err := pgx.BeginFunc(l.Context(), l.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(l.Context(), `insert into instances (clerk_id, environment) values ($1, 'sandbox') returning id`, name).Scan(&id); err != nil {
			return err
		}
		_, err := tx.Exec(l.Context(), `insert into buckets (instance_id, name) values ($1, 'create'), ($1, 'bulk'), ($1, 'general')`, id)
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
	return id
}

func (l *leasers) process(name string, limit Limit) *General {
	return NewGeneral(l.pool, l.instance, name, limit, 20*time.Second, slog.New(slog.NewTextHandler(l.Output(), nil)))
}

func (l *leasers) exec(sql string, args ...any) {
	l.Helper()
	if _, err := l.pool.Exec(l.Context(), sql, args...); err != nil {
		l.Fatal(err)
	}
}

func (l *leasers) number(sql string, args ...any) (n int) {
	l.Helper()
	if err := l.pool.QueryRow(l.Context(), sql, args...).Scan(&n); err != nil {
		l.Fatal(err)
	}
	return n
}

// acquire takes a request that must be granted.
func (l *leasers) acquire(g *General) func(*Throttled) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	release, err := g.Acquire(ctx)
	if err != nil {
		l.Fatal(err)
	}
	return release
}

// refuse asks for a request that must not be granted. That it takes some time
// only makes sure that there was time to grant it.
func (l *leasers) refuse(g *General) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := g.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		l.Errorf("a request was granted, or failed otherwise: %v", err)
	}
}

// Some processes read whenever they may; no window, wherever it begins, sees
// more than the limit.
func TestGeneralKeepsEveryWindow(t *testing.T) {
	t.Parallel()
	l := setup(t)
	limit := Limit{N: 20, Window: 500 * time.Millisecond}
	const most = 100
	var mu sync.Mutex
	var arrivals []time.Time
	sent := func() int { mu.Lock(); defer mu.Unlock(); return len(arrivals) }
	group, ctx := errgroup.WithContext(t.Context())
	for _, name := range []string{"one", "two", "three"} {
		g := l.process(name, limit)
		for range 4 {
			group.Go(func() error {
				for sent() < most {
					release, err := g.Acquire(ctx)
					if err != nil {
						return err
					}
					time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
					mu.Lock()
					arrivals = append(arrivals, time.Now())
					mu.Unlock()
					time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
					release(nil)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(arrivals, time.Time.Compare)
	for i := limit.N; i < len(arrivals); i++ {
		if d := arrivals[i].Sub(arrivals[i-limit.N]); d < limit.Window {
			t.Errorf("%d requests arrived within %v, where %s is allowed", limit.N+1, d, limit)
		}
	}
}

// What can be leased under a limit of 100 an hour, blocks being 5, where a
// request takes at most 20 s and the margin is 3.6 s.
func TestRoomOfLeases(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.newInstance("ins_two")
	g := l.process("one", Limit{N: 100, Window: hour})
	for _, tt := range []struct {
		name, leased, useBy, settled string
		tokens, room                 int
	}{
		{"nothing leased", "-2 hours", "-2 hours", "-2 hours", 100, 5},
		{"almost all", "-1 min", "-1 min", "-30 s", 97, 2},
		{"all but what is kept for those who start", "-1 min", "-1 min", "-30 s", 99, 0},
		{"all", "-1 min", "-1 min", "-30 s", 100, 0},
		{"all, in use", "0", "1 s", "", 100, 0},
		{"all, settled an hour ago, within the margin", "-2 hours", "-2 hours", "-3602 s", 100, 0},
		{"all, settled long enough ago", "-2 hours", "-2 hours", "-3604 s", 100, 5},
		{"all, never settled: a request may have begun at the last moment", "-2 hours", "-3610 s", "", 100, 0},
		{"all, never settled, long ago", "-2 hours", "-3624 s", "", 100, 5},
	} {
		l.exec(`delete from leases`)
		l.exec(`insert into leases (instance_id, worker_id, tokens, leased_at, use_by, settled_at) select i.id, 'w', case i.id when $1 then $2 else 100 end,
			clock_timestamp() + $3::interval, clock_timestamp() + $4::interval, clock_timestamp() + nullif($5, '')::interval from instances i
			where i.id = $1 or $2 = 97`, l.instance, tt.tokens, tt.leased, tt.useBy, tt.settled)
		err := pgx.BeginFunc(t.Context(), l.pool, func(tx pgx.Tx) error {
			got, next, err := g.room(t.Context(), tx, Bucket{Obeyed: []Limit{g.limit}})
			if got = max(got, 0); err == nil && (got != tt.room || got == 0 && next <= 0) {
				t.Errorf("%s: %d may be leased, the next in %v; want %d", tt.name, got, next, tt.room)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A block's unused requests are given back, and what it used weighs from then on.
func TestGeneralSettles(t *testing.T) {
	t.Parallel()
	l := setup(t)
	g := l.process("one", Limit{N: 100, Window: hour})
	first := l.acquire(g)
	second := l.acquire(g)
	if n := l.number(`select sum(tokens) from leases where settled_at is null`); n != 5 {
		t.Errorf("a block of %d was leased, want 5", n)
	}
	g.lease.useBy = time.Now() // nobody else is at it
	third := l.acquire(g)      // of a new block
	first(nil)
	if n := l.number(`select count(*) from leases where settled_at is not null`); n != 0 {
		t.Errorf("%d blocks were settled while a request was under way", n)
	}
	second(nil)
	if n := l.number(`select tokens from leases where settled_at is not null`); n != 2 {
		t.Errorf("a block that ended weighs %d, want the 2 that were used", n)
	}
	g.lease.left = 0
	third(nil) // the last one of its block
	if n := l.number(`select sum(tokens) from leases where settled_at is not null`); n != 3 {
		t.Errorf("%d weigh after three requests", n)
	}
}

// An answer is noted while somebody waits for budget: it may be what opens it.
func TestReleaseWhileAnotherWaits(t *testing.T) {
	t.Parallel()
	l := setup(t)
	g := l.process("one", Limit{N: 1, Window: 100 * time.Millisecond})
	release := l.acquire(g)
	granted := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // before the lease would end by itself
		defer cancel()
		_, err := g.Acquire(ctx)
		granted <- err
	}()
	for leasing := false; !leasing; time.Sleep(time.Millisecond) {
		g.mu.Lock()
		leasing = g.lease == nil // the block at hand is used up, and was given away for a new one
		g.mu.Unlock()
	}
	release(nil)
	if err := <-granted; err != nil {
		t.Error(err)
	}
}

func TestAcquireGivesUp(t *testing.T) {
	t.Parallel()
	l := setup(t)
	g := l.process("one", Limit{N: 1, Window: hour})
	l.acquire(g)
	other := l.process("two", Limit{N: 1, Window: hour})
	l.refuse(other)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := other.Acquire(ctx); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A 429 stops the whole fleet, at once in its own process, until Retry-After has
// passed; then one request of all processes tries, and its answer says for all.
func TestThrottled(t *testing.T) {
	t.Parallel()
	for _, limit := range []Limit{{N: 1000, Window: hour}, {None: true}} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			l := setup(t)
			one, two := l.process("one", limit), l.process("two", limit)
			refused, fine := l.acquire(one), l.acquire(one)
			refused(&Throttled{Wait: hour, Told: true})
			fine(nil)
			l.refuse(one)
			l.refuse(two)
			if n := l.number(`select count(*) from buckets where frozen_until is not null`); n != 1 {
				t.Errorf("%d buckets are frozen, want the general one", n)
			}

			l.exec(`update buckets set frozen_until = clock_timestamp() where name = 'general'`)
			probe := l.acquire(one)
			l.refuse(one)
			l.refuse(two)
			probe(&Throttled{})
			if n := l.number(`select freezes from buckets where name = 'general'`); n != 2 {
				t.Errorf("%d freezes in a row, want 2", n)
			}
			l.refuse(two)

			l.exec(`update buckets set frozen_until = clock_timestamp() where name = 'general'`)
			probe = l.acquire(two)
			l.refuse(one)
			probe(nil)
			l.acquire(one)
			l.acquire(two)
			if n := l.number(`select count(*) from buckets where name = 'general' and frozen_until is null and freezes = 0`); n != 1 {
				t.Error("the limit is still frozen after its probe was answered")
			}
		})
	}
}

// A process that dies with the probe does not hold the limit for ever.
func TestProbeOfADeadProcess(t *testing.T) {
	t.Parallel()
	l := setup(t)
	one, two := l.process("one", Limit{N: 1000, Window: hour}), l.process("two", Limit{N: 1000, Window: hour})
	l.acquire(one)(&Throttled{Told: true})
	l.acquire(one)
	l.refuse(two)
	l.exec(`update leases set use_by = clock_timestamp() - interval '21 s' where settled_at is null`)
	l.acquire(two)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.newInstance("ins_two")
	l.exec(`insert into leases (instance_id, worker_id, tokens, use_by, settled_at)
		select i.id, 'w', 1, at, settled from instances i, (values
			(clock_timestamp(), null),
			(clock_timestamp() - interval '1 hour', clock_timestamp() - interval '59 min'),
			(clock_timestamp() - interval '1 hour 1 min', null),
			(clock_timestamp() - interval '3 hours', clock_timestamp() - interval '3 hours'),
			(clock_timestamp() - interval '3 hours', null)) as l (at, settled)`)
	g := l.process("one", Limit{N: 1, Window: hour})
	if err := g.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := l.number(`select count(*) from leases where instance_id = $1`, l.instance); n != 3 {
		t.Errorf("%d leases are left, want the 3 that may weigh", n)
	}
	if n := l.number(`select count(*) from leases where instance_id <> $1`, l.instance); n != 5 {
		t.Errorf("another instance has %d leases left of 5", n)
	}
}
