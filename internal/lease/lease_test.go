package lease_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/lease"
	"bulkinvite/internal/postgres"
	"bulkinvite/internal/postgres/postgrestest"
)

// holdIn makes the test binary take a lease in the database of this URL, say so, and hold it.
const holdIn = "TEST_HOLD_LEASE_IN"

func TestMain(m *testing.M) {
	if url := os.Getenv(holdIn); url != "" {
		if err := hold(context.Background(), url); err != nil {
			println(err.Error())
		}
		os.Exit(1)
	}
	postgrestest.Main(m)
}

func hold(ctx context.Context, url string) error {
	pool, err := postgres.Open(ctx, url)
	if err != nil {
		return err
	}
	if _, err := lease.Take(ctx, pool, 1, "settle", "killed"); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("held\n"); err != nil {
		return err
	}
	select {}
}

// take takes a lease, which must be free.
func take(t *testing.T, pool *pgxpool.Pool, holder string) *lease.Lease {
	t.Helper()
	l, err := lease.Take(t.Context(), pool, 1, "settle", holder)
	if err != nil || l == nil {
		t.Fatalf("%s gets %v: %v", holder, l, err)
	}
	return l
}

// none tries to take a lease that somebody has.
func none(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if l, err := lease.Take(t.Context(), pool, 1, "settle", "nobody"); err != nil || l != nil {
		t.Fatalf("a lease that is held was given to a second: %v", err)
	}
}

func exec1(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if tag, err := pool.Exec(t.Context(), sql); err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("%s: %s, %v", sql, tag, err)
	}
}

// expire has a lease run out, as that of a process that is stopped.
func expire(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	exec1(t, pool, `update task_leases set until = clock_timestamp() - interval '1 ms'`)
}

// guarded runs a transaction of a holder.
func guarded(t *testing.T, pool *pgxpool.Pool, l *lease.Lease) error {
	t.Helper()
	return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return l.Guard(t.Context(), tx) })
}

func TestOneHolder(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	l := take(t, pool, "a")
	none(t, pool)
	if other, err := lease.Take(t.Context(), pool, 2, "settle", "b"); err != nil || other == nil {
		t.Errorf("another instance: %v", err)
	} else {
		other.Release()
	}
	if err := guarded(t, pool, l); err != nil {
		t.Errorf("the holder may not write: %v", err)
	}
	l.Release()
	take(t, pool, "b").Release()
}

// One that is renewed does not run out.
func TestRenewed(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	l := take(t, pool, "a")
	defer l.Release()
	var first, now time.Time
	for first.IsZero() || !now.After(first) {
		until, err := lease.Until(t.Context(), pool, 1, "settle")
		if err != nil {
			t.Fatal(err)
		}
		if first.IsZero() {
			first = until
		}
		now = until
		select {
		case <-t.Context().Done():
			t.Fatal("it is not renewed")
		case <-l.Context().Done():
			t.Fatal(context.Cause(l.Context()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	none(t, pool)
}

// After a takeover the old holder learns it, and nothing that it does touches the
// lease of the new one.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	old := take(t, pool, "a")
	expire(t, pool)
	l := take(t, pool, "b")
	defer l.Release()
	if err := guarded(t, pool, old); !errors.Is(err, lease.ErrLost) {
		t.Errorf("the old holder writes: %v", err)
	}
	<-old.Taken()
	<-old.Context().Done()
	if cause := context.Cause(old.Context()); !errors.Is(cause, lease.ErrLost) {
		t.Errorf("the cause is %v", cause)
	}
	if err := old.Explain(old.Context().Err()); !errors.Is(err, lease.ErrLost) || !errors.Is(err, context.Canceled) {
		t.Errorf("what failed says %v", err)
	}
	old.Release()
	none(t, pool)
	if err := guarded(t, pool, l); err != nil {
		t.Errorf("the new holder may not write: %v", err)
	}
}

// The holder learns of a takeover by renewing, too.
func TestRenewingTellsOfATakeover(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	old := take(t, pool, "a")
	defer old.Release()
	exec1(t, pool, `update task_leases set term = term + 1, holder = 'b', until = clock_timestamp() + interval '1 min'`)
	<-old.Taken()
	none(t, pool)
}

// A lease that ran out and that nobody wanted is still the holder's: the database
// was away, or the process was stopped for a moment.
func TestRunOutAndNotWanted(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	l := take(t, pool, "a")
	defer l.Release()
	expire(t, pool)
	if err := guarded(t, pool, l); err != nil {
		t.Error(err)
	}
}

// A term that a server gave twice, since it lost the last commits, is told apart.
func TestTermGivenTwice(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	l := take(t, pool, "a")
	defer l.Release()
	exec1(t, pool, `update task_leases set holder = 'b'`)
	if err := guarded(t, pool, l); !errors.Is(err, lease.ErrLost) {
		t.Errorf("two have the same term: %v", err)
	}
}

// While the holder writes, nobody takes the lease, even if it has run out; a
// takeover waits for the transaction, and the next one of the old holder fails.
func TestGuardKeepsTheLease(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	old := take(t, pool, "a")
	defer old.Release()
	got := make(chan *lease.Lease, 1)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if err := old.Guard(t.Context(), tx); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `update task_leases set until = clock_timestamp() - interval '1 ms'`); err != nil {
			return err
		}
		go func() {
			// Its first look may come before the commit: then it is held.
			for l := (*lease.Lease)(nil); ; {
				var err error
				if l, err = lease.Take(t.Context(), pool, 1, "settle", "b"); err != nil || l != nil {
					got <- l
					return
				}
			}
		}()
		select {
		case <-got:
			t.Error("it was taken from under a transaction of the holder")
		case <-time.After(300 * time.Millisecond): // nothing is to happen
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l := <-got
	if l == nil {
		t.Fatal("it was not taken after the transaction")
	}
	defer l.Release()
	if err := guarded(t, pool, old); !errors.Is(err, lease.ErrLost) {
		t.Errorf("the old holder writes: %v", err)
	}
}

// A holder that stands still in the middle of a transaction does not keep the lease.
func TestStandsStillWhileItWrites(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	old := take(t, pool, "a")
	defer old.Release()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) // the server has ended it
	if err := old.Guard(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	exec := `update task_leases set until = clock_timestamp() - interval '1 ms', term = term + 1, holder = 'b'`
	began := time.Now()
	exec1(t, pool, exec) // waits
	if waited := time.Since(began); waited > 3*lease.TTL {
		t.Errorf("the lease was kept for %s", waited)
	}
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("it could write after that")
	}
}

// The lease of a process that was killed is free a TTL later.
func TestKilled(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	pool, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Env = append(os.Environ(), holdIn+"="+url)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	none(t, pool)
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // killed
	killed := time.Now()
	for {
		l, err := lease.Take(t.Context(), pool, 1, "settle", "b")
		if err != nil {
			t.Fatal(err)
		}
		if l != nil {
			l.Release()
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("it is kept")
		case <-time.After(20 * time.Millisecond):
		}
	}
	if free := time.Since(killed); free > lease.TTL+time.Second {
		t.Errorf("it was free after %s", free)
	}
}

// Transactions that exclude each other do so until they end, and leave nothing.
func TestExclude(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	done := make(chan error, 1)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if err := lease.Exclude(t.Context(), tx, 1, "sweeps"); err != nil {
			return err
		}
		if err := lease.Exclude(t.Context(), tx, 1, "sweeps"); err != nil { // once more
			return err
		}
		go func() {
			done <- pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				return lease.Exclude(t.Context(), tx, 1, "sweeps")
			})
		}()
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			return errors.Join(lease.Exclude(t.Context(), tx, 2, "sweeps"), lease.Exclude(t.Context(), tx, 1, "others"))
		})
		select {
		case early := <-done:
			t.Errorf("the second did not wait: %v", early)
			done <- early // the end of the test receives it
		case <-time.After(300 * time.Millisecond): // nothing is to happen
		}
		return err
	})
	if err = errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := pool.QueryRow(t.Context(), `select count(*) from task_leases`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows are left: %v", left, err)
	}
}
