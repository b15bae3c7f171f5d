package jobs

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/invitation"
)

// What changed once leaves room for what changes next, but for what is longer now.
func TestVacuumMakesRoom(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.batch(2000, person)
	size := func() (bytes int64) {
		if err := b.pool.QueryRow(t.Context(), `select pg_relation_size('results')`).Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	change := func() { b.exec(`update results set withdrawn_by = coalesce(withdrawn_by, 0) + 1`) }
	change()
	before := size()
	v := newVacuumer(b.worker(Config{}))
	if err := v.vacuum(t.Context()); err != nil {
		t.Fatal(err)
	}
	change()
	if after := size(); after > before+before/10 { // by half, were there no room
		t.Errorf("the table grew from %d to %d bytes", before, after)
	}
}

// A vacuum comes after so many rows were recorded, and later where there are more.
func TestVacuumWhenItIsTime(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	w := b.worker(Config{})
	b.run(w, b.batch(30, person))
	if n := w.vacuumer.wrote.Load(); n != 30 {
		t.Errorf("%d rows were counted, want 30", n)
	}
	const many = 11 * leastVacuum
	b.batch(many, person)
	v := newVacuumer(w)
	v.note(leastVacuum - 1)
	if len(v.time) > 0 {
		t.Error("it is time too early")
	}
	v.note(1)
	go v.run(t.Context())
	for v.many.Load() == leastVacuum {
		time.Sleep(10 * time.Millisecond)
	}
	if next := v.many.Load(); next < many/10 || next > many/9 {
		t.Errorf("the next one comes after %d rows, in a table of %d", next, many)
	}
}

// A worker that ends takes the jobs along that it has finished.
func TestFinishedJobsGo(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(30, person)
	b.exec(`update river_job set state = 'completed', finalized_at = now(), attempted_by = '{other}' where (args->>'row')::int = 30`)
	b.run(b.worker(Config{}), batch)
	var done []string
	if err := b.pool.QueryRow(t.Context(), `select array_agg(attempted_by[1]) from river_job where state = 'completed'`).Scan(&done); err != nil {
		t.Fatal(err)
	}
	if len(done) != 1 || done[0] != "other" {
		t.Errorf("finished jobs are left by %q", done)
	}
}

// A job that is being fetched is left to who fetches it.
func TestDismissLeavesWhatIsFetched(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(3, person)
	fetch, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer fetch.Rollback(context.Background()) //nolint:errcheck // it is committed
	if _, err := fetch.Exec(t.Context(), `update river_job set state = 'running', attempted_at = now() where (args->>'row')::int = 1`); err != nil {
		t.Fatal(err)
	}
	dismissed := make(chan error, 1)
	go func() {
		dismissed <- pgx.BeginFunc(context.Background(), b.pool, func(tx pgx.Tx) error {
			people := []invitation.Person{{RowID: invitation.RowID{Batch: batch, Row: 1}}, {RowID: invitation.RowID{Batch: batch, Row: 2}}}
			return b.worker(Config{}).dismiss(context.Background(), tx, []*ticket{{Claimed: invitation.Claimed{Request: invitation.Request{People: people}}}})
		})
	}()
	for waits := false; !waits; {
		if err := b.pool.QueryRow(t.Context(), `select exists (select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database())`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if err := fetch.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-dismissed; err != nil {
		t.Fatal(err)
	}
	var left string
	if err := b.pool.QueryRow(t.Context(), `select string_agg((args->>'row') || ' ' || state, ', ' order by id) from river_job`).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left != "1 running, 3 available" {
		t.Errorf("the jobs %s are left", left)
	}
}
