package ratelimit

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// bundle is a database with an instance and its buckets.
type bundle struct {
	testing.TB
	pool     *pgxpool.Pool
	instance int64
}

func setup(t testing.TB) *bundle {
	t.Helper()
	b := &bundle{TB: t, pool: postgrestest.New(t)}
	b.instance = b.newInstance("ins_one")
	return b
}

func (b *bundle) newInstance(name string) (id int64) {
	b.Helper()
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `insert into instances (clerk_id, environment) values ($1, 'sandbox') returning id`, name).Scan(&id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into buckets (instance_id, name) values ($1, 'create'), ($1, 'bulk'), ($1, 'general')`, id)
		return err
	})
	return id
}

func (b *bundle) tx(f func(context.Context, pgx.Tx) error) {
	b.Helper()
	ctx := b.Context()
	must.OK(b, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return f(ctx, tx) }))
}

func (b *bundle) exec(sql string, args ...any) {
	b.Helper()
	postgrestest.Plant(b, b.pool, sql, args...)
}

func (b *bundle) count(name string, limit Limit) Bucket {
	b.Helper()
	got, err := Count(b.Context(), b.pool, b.instance, name, limit)
	must.OK(b, err)
	return got
}

// attempt is a request in the ledger, its times relative to now.
type attempt struct {
	bucket     string // default create
	started    string // intervals; default 0
	deadline   string // default 20 s
	answered   string // default: no answer
	lost       bool   // what was recorded is that no answer came
	resolution string // default: open
	other      bool   // of another instance
}

func (b *bundle) insert(a attempt) (id int64) {
	b.Helper()
	instance := b.instance
	if a.other {
		instance++
	}
	err := b.pool.QueryRow(b.Context(), `
		insert into attempts (instance_id, worker_id, call, bucket, started_at, deadline, answered_at, resolution, resolved_at, http_status)
		select $1, 'w', case bucket when 'general' then 'revoke' else bucket end, bucket,
		       clock_timestamp() + coalesce(nullif($3, ''), '0 s')::interval, clock_timestamp() + coalesce(nullif($4, ''), '20 s')::interval,
		       clock_timestamp() + nullif($5, '')::interval, nullif($6, ''), case when $6 <> '' then clock_timestamp() end, case when $5 <> '' and not $7 then 200 end
		from (select coalesce(nullif($2, ''), 'create') as bucket) b returning id`,
		instance, a.bucket, a.started, a.deadline, a.answered, a.resolution, a.lost).Scan(&id)
	must.OK(b, err)
	return id
}

func (b *bundle) insertAll(all ...attempt) {
	b.Helper()
	for _, a := range all {
		b.insert(a)
	}
}

func times(n int, a attempt) []attempt { return slices.Repeat([]attempt{a}, n) }

// What of the ledger weighs on a limit of 10 an hour; the margin is 3.6 s.
func TestCountWeighs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newInstance("ins_two")
	limit := Limit{N: 10, Window: time.Hour}
	for _, tt := range []struct {
		name            string
		attempt         attempt
		weighs, pending int
	}{
		{"under way", attempt{}, 1, 1},
		{"just answered", attempt{started: "-1 s", answered: "0"}, 1, 0},
		{"started long ago, answered within the window", attempt{started: "-3 hours", answered: "-59 min"}, 1, 0},
		{"answered an hour ago, within the margin", attempt{started: "-1 hour", answered: "-3601 s"}, 1, 0},
		{"answered more than an hour and the margin ago", attempt{started: "-2 hours", answered: "-3604 s"}, 0, 0},
		{"answered long before its deadline", attempt{started: "-2 hours", answered: "-2 hours", deadline: "1 min"}, 0, 0},
		{"lost: its deadline has passed", attempt{started: "-30 s", deadline: "-10 s"}, 1, 0},
		{"lost: started before the window, its deadline is within", attempt{started: "-2 hours", deadline: "-50 min"}, 1, 0},
		{"lost long ago, and still not resolved", attempt{started: "-2 hours", deadline: "-3604 s"}, 0, 0},
		{"lost, found by reading", attempt{started: "-30 s", deadline: "-10 s", resolution: "read"}, 1, 0},
		{"found to be lost before the window, its deadline is within", attempt{started: "-2 hours", answered: "-61 min", lost: true, deadline: "-50 min"}, 1, 0},
		{"found to be lost within the window, its deadline is before", attempt{started: "-2 hours", answered: "-10 min", lost: true, deadline: "-3604 s"}, 1, 0},
		{"found to be lost before its deadline", attempt{started: "-10 s", answered: "-5 s", lost: true}, 1, 1},
		{"found to be lost, and settled before its deadline", attempt{started: "-10 s", answered: "-5 s", lost: true, resolution: "read"}, 1, 0},
		{"refused with 429", attempt{answered: "0", resolution: "refused"}, 1, 0},
		{"never written", attempt{answered: "0", resolution: "not_sent"}, 0, 0},
		{"never written, and not answered", attempt{resolution: "not_sent"}, 0, 0},
		{"another bucket's", attempt{bucket: "bulk"}, 0, 0},
		{"a revoke", attempt{bucket: "general"}, 0, 0},
		{"another instance's", attempt{other: true}, 0, 0},
	} {
		b.exec(`delete from attempts`)
		b.insert(tt.attempt)
		got := b.count(Create, limit)
		if got.Weighs != tt.weighs || got.Pending != tt.pending || got.Free != limit.N-tt.weighs || !got.Opens.IsZero() {
			t.Errorf("%s: %+v; want %d to weigh, %d pending", tt.name, got, tt.weighs, tt.pending)
		}
		if busy, err := Busy(t.Context(), b.pool, b.instance, Create, limit); err != nil || len(busy) != tt.weighs {
			t.Errorf("%s: busy for %v, %v; want %d", tt.name, busy, err, tt.weighs)
		}
	}
}

// In a window that is shorter than the time of a request, a lost one may be under way after the window.
func TestCountLostOfAShortWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.insert(attempt{started: "-6 s", answered: "-5 s", lost: true, deadline: "15 s"})
	if got := b.count(Create, Limit{N: 10, Window: time.Second}); got.Weighs != 1 || got.Pending != 1 {
		t.Errorf("%+v; want one to weigh, and to be under way", got)
	}
}

func TestCountOpens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limit := Limit{N: 2, Window: time.Hour}
	b.insertAll(attempt{answered: "-10 min"}, attempt{answered: "-20 min"})
	got := b.count(Create, limit)
	want := must.Read[time.Time](t, b.pool, `select min(answered_at) + interval '3603.6 s' from attempts`)
	if got.Free != 0 || !got.Opens.Equal(want) {
		t.Errorf("%d free, opens at %v; want 0, at %v, when the older one stops weighing", got.Free, got.Opens, want)
	}
	if lower := b.count(Create, Limit{N: 1, Window: time.Hour}); !lower.Opens.After(want) || lower.Weighs != 2 {
		t.Errorf("under a limit of 1: %+v; want it to open when the younger one stops weighing", lower)
	}
}

// awaitBlocked waits until a session of the test's database waits for a lock.
func (b *bundle) awaitBlocked() {
	b.Helper()
	for began := time.Now(); must.Read[int](b, b.pool, `select count(*) from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock'`) == 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			b.Fatal("nobody waits for a lock")
		}
	}
}

// reserve takes one request of a bucket if there is one.
func reserve(ctx context.Context, tx pgx.Tx, instance int64, limit Limit) (id int64, b Bucket, err error) {
	if b, err = Reserve(ctx, tx, instance, Create, limit); err != nil || b.Free == 0 {
		return 0, b, err
	}
	err = tx.QueryRow(ctx, `insert into attempts (instance_id, worker_id, call, bucket, deadline)
		values ($1, 'w', 'create', 'create', clock_timestamp() + interval '20 s') returning id`, instance).Scan(&id)
	return id, b, err
}

// inLine runs first in a transaction, and second in another, which has to wait for it. It runs
// meanwhile before the first commits.
func (b *bundle) inLine(first, second, meanwhile func(context.Context, pgx.Tx) error) {
	b.Helper()
	done := make(chan error, 1)
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := first(ctx, tx); err != nil {
			return err
		}
		go func() { done <- pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return second(ctx, tx) }) }()
		b.awaitBlocked()
		return meanwhile(ctx, tx)
	})
	must.OK(b, <-done)
}

// TestReserveWaits checks that a reservation waits for the one before it and then sees what that
// took, and the limits of a worker that registered meanwhile. It waits without a limit too, because
// code that takes rows away relies on the lock.
func TestReserveWaits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit  Limit
		strict string // the limit of a worker that registers meanwhile
		free   int
	}{
		{Limit{N: 1, Window: time.Hour}, "", 0},
		{tenAnHour, "", 9},
		{tenAnHour, "3/1h", 2},
		{Limit{None: true}, "", unlimited},
	} {
		t.Run(tt.limit.String()+" "+tt.strict, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.inLine(func(ctx context.Context, tx pgx.Tx) error {
				id, _, err := reserve(ctx, tx, b.instance, tt.limit)
				if err == nil && id == 0 {
					err = errors.New("the first found nothing free")
				}
				return err
			}, func(ctx context.Context, tx pgx.Tx) error {
				second, err := Reserve(ctx, tx, b.instance, Create, tt.limit)
				if err == nil && second.Free != tt.free {
					t.Errorf("the second found %d free, %d weighing; want %d free", second.Free, second.Weighs, tt.free)
				}
				return err
			}, func(context.Context, pgx.Tx) error {
				if tt.strict != "" {
					b.worker("strict", tt.strict)
				}
				return nil
			})
		})
	}
}

func TestReserveConcurrently(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limit := Limit{N: 25, Window: time.Hour}
	var group errgroup.Group
	for range 60 {
		group.Go(func() error {
			return pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
				_, _, err := reserve(t.Context(), tx, b.instance, limit)
				return err
			})
		})
	}
	must.OK(t, group.Wait())
	if got := b.count(Create, limit); got.Weighs != 25 {
		t.Errorf("60 transactions took %d of 25", got.Weighs)
	}
}

// fleet is some processes that send whenever they may, to a server that keeps
// when each request arrived.
type fleet struct {
	*bundle
	limit Limit
	most  int // requests to send

	mu       sync.Mutex
	arrivals []time.Time
}

// send reserves and sends one request, or waits until one may be free. Every request is answered:
// one without an answer counts until its deadline, 20 s later.
func (f *fleet) send(ctx context.Context) error {
	var id int64
	var bucket Bucket
	err := pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) (err error) {
		id, bucket, err = reserve(ctx, tx, f.instance, f.limit)
		return err
	})
	if err != nil {
		return err
	}
	if id == 0 {
		time.Sleep(min(bucket.Opens.Sub(bucket.Now), 20*time.Millisecond))
		return nil
	}
	time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	f.mu.Lock()
	f.arrivals = append(f.arrivals, time.Now())
	f.mu.Unlock()
	time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	_, err = f.pool.Exec(ctx, `update attempts set answered_at = clock_timestamp(), http_status = 200 where id = $1`, id)
	return err
}

func (f *fleet) sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.arrivals)
}

func TestReserveKeepsEveryWindow(t *testing.T) {
	t.Parallel()
	f := &fleet{bundle: setup(t), limit: Limit{N: 10, Window: 500 * time.Millisecond}, most: 40}
	group, ctx := errgroup.WithContext(t.Context())
	for range 6 {
		group.Go(func() error {
			for f.sent() < f.most {
				if err := f.send(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	must.OK(t, group.Wait())
	checkWindows(t, f.arrivals, f.limit)
}

// checkWindows looks for a window, wherever it may begin, in which more arrived
// than the limit allows.
func checkWindows(t *testing.T, arrivals []time.Time, limit Limit) {
	t.Helper()
	slices.SortFunc(arrivals, time.Time.Compare)
	for i := limit.N; i < len(arrivals); i++ {
		if d := arrivals[i].Sub(arrivals[i-limit.N]); d < limit.Window {
			t.Errorf("%d requests arrived within %v, where %s is allowed", limit.N+1, d, limit)
		}
	}
}

// A connection that is cut while it has reserved leaves nothing: neither the
// request nor the lock.
func TestReserveCut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	limit := Limit{N: 1, Window: time.Hour}
	conn, err := pgx.ConnectConfig(t.Context(), b.pool.Config().ConnConfig.Copy())
	must.OK(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it is cut
	tx, err := conn.Begin(t.Context())
	must.OK(t, err)
	if id, _, err := reserve(t.Context(), tx, b.instance, limit); err != nil || id == 0 {
		t.Fatalf("reserved %d: %v", id, err)
	}
	b.exec(`select pg_terminate_backend($1)`, conn.PgConn().PID())
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		id, got, err := reserve(ctx, tx, b.instance, limit)
		if err == nil && (id == 0 || got.Weighs != 0) {
			t.Errorf("after the cut %d are free, %d weigh", got.Free, got.Weighs)
		}
		return err
	})
}

// Create is locked before bulk, whatever the order of the arguments: two who
// take both can't wait for each other.
func TestLockOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`delete from buckets where name = 'create'`)
	b.exec(`insert into buckets (instance_id, name) values ($1, 'create')`, b.instance) // now the last of the table
	b.inLine(func(ctx context.Context, tx pgx.Tx) error {
		return Lock(ctx, tx, b.instance, Create)
	}, func(ctx context.Context, tx pgx.Tx) error {
		return Lock(ctx, tx, b.instance, Bulk, Create)
	}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select from buckets where instance_id = $1 and name = 'bulk' for update nowait`, b.instance)
		return err
	})
}

// BenchmarkCount counts a bucket whose window holds 3,600 of 200,000 attempts.
func BenchmarkCount(b *testing.B) {
	f := setup(b)
	f.exec(`insert into attempts (instance_id, worker_id, call, bucket, started_at, deadline, answered_at, resolution, resolved_at, http_status)
		select 1, 'w', 'create', 'create', at, at + interval '20 s', at + interval '1 s', 'answered', at + interval '1 s', 200
		from (select clock_timestamp() - i * interval '1 s' as at from generate_series(1, 200000) i) a`)
	limit := Limit{N: 100, Window: time.Hour}
	for b.Loop() {
		if got := f.count(Create, limit); got.Weighs < 3500 {
			b.Fatal(got)
		}
	}
}
