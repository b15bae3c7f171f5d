package jobs

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
)

// TestEachRowGetsItsJob: the jobs that the database makes after the first are
// what River makes of the same arguments.
func TestEachRowGetsItsJob(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.exec(`insert into batches (id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state) overriding system value
		values (7, $1, 'people.csv', '', 0, '', '', '{}', 'test', 'draft')`, b.instance.ID)
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		for _, rows := range [][]int{nil, {3}, {4, 5, 1_000_000}} {
			if err := InsertInvites(t.Context(), tx, b.instance.ID, 3, 7, rows); err != nil {
				return err
			}
		}
		dueByDatabase(t, tx, 4)
		_, err := inserter.InsertManyFastTx(t.Context(), tx, []river.InsertManyParams{{Args: InviteArgs{7, 6}, InsertOpts: &river.InsertOpts{Queue: inviteQueue(b.instance.ID), Priority: 3}}})
		return err
	}))
	var args []string
	var kinds, due int
	err := b.pool.QueryRow(t.Context(), `
		select array_agg(args::text order by args), count(distinct to_jsonb(j) - '{id,args,created_at,scheduled_at}'::text[]), count(*) filter (where scheduled_at <= clock_timestamp())
		from river_job j`).Scan(&args, &kinds, &due)
	must.OK(t, err)
	want := []string{`{"row": 3, "batch": 7}`, `{"row": 4, "batch": 7}`, `{"row": 5, "batch": 7}`, `{"row": 6, "batch": 7}`, `{"row": 1000000, "batch": 7}`}
	if !slices.Equal(args, want) || kinds != 1 || due != len(want) {
		t.Errorf("%d jobs are due, of %d sorts: %v", due, kinds, args)
	}
}

// TestDepthsOfLinks: the jobs of a batch whose links go to a file are counted for its instance,
// although they have a queue of their own.
func TestDepthsOfLinks(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	other := must.Read[int64](t, b.pool,
		`insert into instances (clerk_id, environment) values ('ins_other', 'development') returning id`)
	for id, instance := range map[int64]int64{7: b.instance.ID, 8: b.instance.ID, 9: other} {
		b.exec(`
			insert into batches (id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns,
			                     actor, state, links_file) overriding system value
			values ($1::bigint, $2, 'people.csv', '', 0, '', '', '{}',
			        'test', 'draft', case when $1 <> 8 then '/links.csv' end)`, id, instance)
		must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			return InsertInvites(t.Context(), tx, instance, 3, id, []int{1, 2})
		}))
	}
	depths, err := Depths(t.Context(), b.pool, b.instance.ID)
	must.OK(t, err)
	if want := []Depth{{"invite", "available", 4}}; !slices.Equal(depths, want) {
		t.Errorf("got %v, want %v", depths, want)
	}
}

// dueByDatabase fails the test unless so many jobs are due since the transaction began, by the database's clock.
func dueByDatabase(t *testing.T, tx pgx.Tx, want int) {
	t.Helper()
	n := must.Read[int](t, tx, `
		select count(*) from river_job where created_at = now() and scheduled_at = now() and state = 'available'`)
	expect.Equal(t, "jobs due by the database's clock", n, want)
}

// TestJobsAreDueByTheDatabasesClock: a process whose clock is ahead inserts jobs that are due at once.
func TestJobsAreDueByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	at := time.Now().Add(time.Hour)
	freed := []ledger.Freed{
		{RowID: invitation.RowID{Batch: 7, Row: 1}, Priority: 1},
		{RowID: invitation.RowID{Batch: 7, Row: 2}, Priority: 1, At: &at},
	}
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if err := free(t.Context(), tx, b.instance.ID, freed); err != nil {
			return err
		}
		dueByDatabase(t, tx, 1)
		revoked := []revocation.RevocationID{{Sweep: 1, Invitation: "inv_1"}, {Sweep: 1, Invitation: "inv_2"}}
		if err := InsertRevokes(t.Context(), tx, b.instance.ID, revoked); err != nil {
			return err
		}
		dueByDatabase(t, tx, 3)
		return nil
	}))
	b.counts(1, "jobs wait for their row's time",
		`select count(*) from river_job where state = 'scheduled' and scheduled_at > now() + interval '50 minutes'`)
}

// TestJobsThatNobodyWorksOnAreTakenBack: a killed process leaves jobs behind that
// seem to run, and jobs that nobody wakes; a process that stood still during a
// fetch never hears of what it fetched. Jobs that are at work, or just fetched,
// stay, and so do those that are not due.
func TestJobsThatNobodyWorksOnAreTakenBack(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.batch(11, person)
	w := b.worker(quick)
	must.OK(t, w.presence.register(t.Context()))
	_, err := b.pool.Exec(t.Context(), `
		update river_job set state = 'scheduled', scheduled_at = now() + case when (args->>'row')::int = 9 then interval '1 hour' else interval '-1 second' end
		where (args->>'row')::int between 7 and 9`)
	must.OK(t, err)
	_, err = b.pool.Exec(t.Context(), `
		update river_job set state = 'running', attempted_at = now() - case when (args->>'row')::int > 9 then interval '1 minute' else interval '0' end, attempt = 1,
		       attempted_by = array['before', case when (args->>'row')::int <= 4 then 'dead' else $1 end]
		where (args->>'row')::int not between 7 and 9`, w.id)
	must.OK(t, err)
	atWork := must.Read[int64](t, b.pool, `select id from river_job where (args->>'row')::int = 11`)
	w.working.Store(atWork, nil)
	must.OK(t, w.keeper.housekeep(t.Context()))
	count := func(ctx context.Context, state string) (n int) {
		must.OK(t, b.pool.QueryRow(ctx, `select count(*) from river_job where state = $1::river_job_state`, state).Scan(&n))
		return n
	}
	if waiting, running := count(t.Context(), "available"), count(t.Context(), "running"); waiting != 7 || running != 3 {
		t.Errorf("%d jobs wait and %d run, want 7 and 3", waiting, running)
	}
}
