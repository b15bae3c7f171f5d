package jobs

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
)

// The jobs of claimed rows are deleted, and those of others stay. One that is being fetched is left to who fetches it.
func TestDismiss(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(3, person)
	fetch, err := b.pool.Begin(t.Context())
	must.OK(t, err)
	defer fetch.Rollback(context.Background()) // it is committed
	_, err = fetch.Exec(t.Context(),
		`update river_job set state = 'running', attempted_at = now() where (args->>'row')::int = 1`)
	must.OK(t, err)
	claimed := ledger.Request{People: []ledger.Person{
		{RowID: invitation.RowID{Batch: batch, Row: 1}}, {RowID: invitation.RowID{Batch: batch, Row: 2}}}}
	dismissed := make(chan error, 1)
	go func() {
		ctx := context.WithoutCancel(t.Context())
		dismissed <- pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
			return b.worker(Config{}).claimer.dismiss(ctx, tx, []*ticket{{Claimed: ledger.Claimed{Request: claimed}}})
		})
	}()
	b.await("the deletion waits for the fetch", func() bool {
		return b.count(`select count(*) from pg_stat_activity
			where wait_event_type = 'Lock' and datname = current_database()`) > 0
	})
	must.OK(t, fetch.Commit(t.Context()))
	must.OK(t, <-dismissed)
	left := must.Read[string](t, b.pool,
		`select string_agg((args->>'row') || ' ' || state, ', ' order by id) from river_job`)
	expect.Equal(t, "the jobs that are left", left, "1 running, 3 available")
}

// A claim deletes the jobs of its rows, and an answer that decides nothing inserts them again.
func TestClaimDismissesJobs(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(12, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	w := b.worker(quick)
	ticket := b.claim(w, 1)[0]
	if n := b.jobs(batch); n != 12-len(ticket.People) {
		t.Errorf("%d jobs are left of 12, when %d rows are claimed", n, len(ticket.People))
	}
	a := answered{ticket: ticket, said: ledger.Reply{NotSent: true, People: map[string]ledger.Said{}}}
	for _, p := range ticket.People {
		a.said.People[p.Key] = ledger.Said{Answer: invitation.AnswerRefused}
	}
	w.answers.add(t.Context(), a)
	b.wantJobs(batch, 12)
}
