package ratelimit

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

const hour = time.Hour

func (b *bundle) process(name string, limit Limit) *General {
	return NewGeneral(b.pool, b.instance, name, limit, 20*time.Second, slog.New(slog.NewTextHandler(b.Output(), nil)))
}

// acquire takes a request that must be granted.
func (b *bundle) acquire(g *General) func(*Throttled) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	release, err := g.Acquire(ctx)
	must.OK(b, err)
	return release
}

// refuse asks for a request that must not be granted. That it takes some time
// only makes sure that there was time to grant it.
func (b *bundle) refuse(g *General) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := g.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		b.Errorf("a request was granted, or failed otherwise: %v", err)
	}
}

// Some processes read whenever they may; no window, wherever it begins, sees
// more than the limit.
func TestGeneralKeepsEveryWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limit := Limit{N: 20, Window: 500 * time.Millisecond}
	const most = 100
	var mu sync.Mutex
	var arrivals []time.Time
	sent := func() int { mu.Lock(); defer mu.Unlock(); return len(arrivals) }
	group, ctx := errgroup.WithContext(t.Context())
	for _, name := range []string{"one", "two", "three"} {
		g := b.process(name, limit)
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
	must.OK(t, group.Wait())
	checkWindows(t, arrivals, limit)
}

// What can be leased under a limit of 100 an hour, blocks being 5, where a
// request takes at most 20 s and the margin is 3.6 s.
func TestRoomOfLeases(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newInstance("ins_two")
	g := b.process("one", Limit{N: 100, Window: hour})
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
		must.Exec(t, b.pool, `delete from leases`)
		must.Exec(t, b.pool, `insert into leases (instance_id, worker_id, tokens, leased_at, use_by, settled_at)
			select i.id, 'w', case i.id when $1 then $2 else 100 end,
			clock_timestamp() + $3::interval, clock_timestamp() + $4::interval, clock_timestamp() + nullif($5, '')::interval from instances i
			where i.id = $1 or $2 = 97`, b.instance, tt.tokens, tt.leased, tt.useBy, tt.settled)
		err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			got, next, err := g.room(t.Context(), tx, Bucket{Obeyed: []Limit{g.limit}})
			if got = max(got, 0); err == nil && (got != tt.room || got == 0 && next <= 0) {
				t.Errorf("%s: %d may be leased, the next in %v; want %d", tt.name, got, next, tt.room)
			}
			return err
		})
		must.OK(t, err)
	}
}

// A block's unused requests are given back, and what it used weighs from then on.
func TestGeneralSettles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.process("one", Limit{N: 100, Window: hour})
	first := b.acquire(g)
	second := b.acquire(g)
	if n := must.Read[int](t, b.pool, `select sum(tokens) from leases where settled_at is null`); n != 5 {
		t.Errorf("a block of %d was leased, want 5", n)
	}
	g.lease.useBy = time.Now() // nobody else is at it
	third := b.acquire(g)      // of a new block
	first(nil)
	if n := must.Read[int](t, b.pool, `select count(*) from leases where settled_at is not null`); n != 0 {
		t.Errorf("%d blocks were settled while a request was under way", n)
	}
	second(nil)
	if n := must.Read[int](t, b.pool, `select tokens from leases where settled_at is not null`); n != 2 {
		t.Errorf("a block that ended weighs %d, want the 2 that were used", n)
	}
	g.lease.left = 0
	third(nil) // the last one of its block
	if n := must.Read[int](t, b.pool, `select sum(tokens) from leases where settled_at is not null`); n != 3 {
		t.Errorf("%d weigh after three requests", n)
	}
}

// An answer is noted while somebody waits for budget: it may be what opens it.
func TestReleaseWhileAnotherWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.process("one", Limit{N: 1, Window: 100 * time.Millisecond})
	release := b.acquire(g)
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
	expect.OK(t, <-granted)
}

func TestAcquireGivesUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.process("one", Limit{N: 1, Window: hour})
	b.acquire(g)
	other := b.process("two", Limit{N: 1, Window: hour})
	b.refuse(other)
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
			b := setup(t)
			one, two := b.process("one", limit), b.process("two", limit)
			refused, fine := b.acquire(one), b.acquire(one)
			refused(&Throttled{Wait: hour, Told: true})
			fine(nil)
			b.refuse(one)
			b.refuse(two)
			if n := must.Read[int](t, b.pool, `select count(*) from buckets where frozen_until is not null`); n != 1 {
				t.Errorf("%d buckets are frozen, want the general one", n)
			}

			must.Exec(t, b.pool, `update buckets set frozen_until = clock_timestamp() where name = 'general'`)
			probe := b.acquire(one)
			b.refuse(one)
			b.refuse(two)
			probe(&Throttled{})
			if n := must.Read[int](t, b.pool, `select freezes from buckets where name = 'general'`); n != 2 {
				t.Errorf("%d freezes in a row, want 2", n)
			}
			b.refuse(two)

			must.Exec(t, b.pool, `update buckets set frozen_until = clock_timestamp() where name = 'general'`)
			probe = b.acquire(two)
			b.refuse(one)
			probe(nil)
			b.acquire(one)
			b.acquire(two)
			if n := must.Read[int](t, b.pool, `select count(*) from buckets
				where name = 'general' and frozen_until is null and freezes = 0`); n != 1 {
				t.Error("the limit is still frozen after its probe was answered")
			}
		})
	}
}

// A process that dies with the probe does not hold the limit for ever.
func TestProbeOfADeadProcess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.process("one", Limit{N: 1000, Window: hour}), b.process("two", Limit{N: 1000, Window: hour})
	b.acquire(one)(&Throttled{Told: true})
	b.acquire(one)
	b.refuse(two)
	must.Exec(t, b.pool, `update leases set use_by = clock_timestamp() - interval '21 s' where settled_at is null`)
	b.acquire(two)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newInstance("ins_two")
	must.Exec(t, b.pool, `insert into leases (instance_id, worker_id, tokens, use_by, settled_at)
		select i.id, 'w', 1, at, settled from instances i, (values
			(clock_timestamp(), null),
			(clock_timestamp() - interval '1 hour', clock_timestamp() - interval '59 min'),
			(clock_timestamp() - interval '1 hour 1 min', null),
			(clock_timestamp() - interval '3 hours', clock_timestamp() - interval '3 hours'),
			(clock_timestamp() - interval '3 hours', null)) as l (at, settled)`)
	g := b.process("one", Limit{N: 1, Window: hour})
	must.OK(t, g.Prune(t.Context()))
	if n := must.Read[int](t, b.pool, `select count(*) from leases where instance_id = $1`, b.instance); n != 3 {
		t.Errorf("%d leases are left, want the 3 that may weigh", n)
	}
	if n := must.Read[int](t, b.pool, `select count(*) from leases where instance_id <> $1`, b.instance); n != 5 {
		t.Errorf("another instance has %d leases left of 5", n)
	}
}
