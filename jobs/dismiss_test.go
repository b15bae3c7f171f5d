package jobs

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/invitation"
)

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
