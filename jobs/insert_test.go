package jobs

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// TestEachRowGetsItsJob: the jobs that the database makes after the first are
// what River makes of the same arguments.
func TestEachRowGetsItsJob(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.exec(`insert into batches (id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state) overriding system value
		values (7, $1, 'people.csv', '', 0, '', '', '{}', 'test', 'draft')`, b.instance.ID)
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		for _, rows := range [][]int{nil, {3}, {4, 5, 1_000_000}} {
			if err := InsertInvites(t.Context(), tx, b.instance.ID, 3, 7, rows); err != nil {
				return err
			}
		}
		_, err := inserter.InsertManyFastTx(t.Context(), tx, []river.InsertManyParams{{Args: InviteArgs{7, 6}, InsertOpts: &river.InsertOpts{Queue: inviteQueue(b.instance.ID), Priority: 3}}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	var kinds, due int
	err = b.pool.QueryRow(t.Context(), `
		select array_agg(args::text order by args), count(distinct to_jsonb(j) - '{id,args,created_at,scheduled_at}'::text[]), count(*) filter (where scheduled_at <= clock_timestamp())
		from river_job j`).Scan(&args, &kinds, &due)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`{"row": 3, "batch": 7}`, `{"row": 4, "batch": 7}`, `{"row": 5, "batch": 7}`, `{"row": 6, "batch": 7}`, `{"row": 1000000, "batch": 7}`}
	if !slices.Equal(args, want) || kinds != 1 || due != len(want) {
		t.Errorf("%d jobs are due, of %d sorts: %v", due, kinds, args)
	}
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
	if err := w.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := b.pool.Exec(t.Context(), `
		update river_job set state = 'scheduled', scheduled_at = now() + case when (args->>'row')::int = 9 then interval '1 hour' else interval '-1 second' end
		where (args->>'row')::int between 7 and 9`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.pool.Exec(t.Context(), `
		update river_job set state = 'running', attempted_at = now() - case when (args->>'row')::int > 9 then interval '1 minute' else interval '0' end, attempt = 1,
		       attempted_by = array['before', case when (args->>'row')::int <= 4 then 'dead' else $1 end]
		where (args->>'row')::int not between 7 and 9`, w.id)
	if err != nil {
		t.Fatal(err)
	}
	var atWork int64
	if err := b.pool.QueryRow(t.Context(), `select id from river_job where (args->>'row')::int = 11`).Scan(&atWork); err != nil {
		t.Fatal(err)
	}
	w.working.Store(atWork, invitation.RowID{})
	if err := w.housekeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	count := func(ctx context.Context, state string) (n int) {
		if err := b.pool.QueryRow(ctx, `select count(*) from river_job where state = $1::river_job_state`, state).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if waiting, running := count(t.Context(), "available"), count(t.Context(), "running"); waiting != 7 || running != 3 {
		t.Errorf("%d jobs wait and %d run, want 7 and 3", waiting, running)
	}
}

// Whom a request is for needs no job from the claim on, but where one is at work;
// a claim that comes to nothing leaves the jobs, and an answer that decides nobody
// gives them back.
func TestClaimedRowsNeedNoJobs(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultStatus, Status: 429}}})
	batch := b.batch(30, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	w := b.worker(Config{Create: ratelimit.Limit{Off: true}, Bulk: ratelimit.Limit{None: true}})
	if err := w.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.working.Store(int64(1), invitation.RowID{Batch: batch, Row: 3})
	waiting := func() (rows []int) {
		err := b.pool.QueryRow(t.Context(), `select array_agg(distinct (args->>'row')::int order by (args->>'row')::int) from river_job where state = 'available'`).Scan(&rows)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	all := waiting()
	undone := errors.New("undone")
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := w.claimer.claimIn(t.Context(), tx, 1); err != nil {
			return err
		}
		return undone
	})
	if got := waiting(); !errors.Is(err, undone) || len(all) != 30 || !slices.Equal(got, all) {
		t.Fatalf("after a claim that was undone (%v) the rows with jobs are %v, want those from 1 to 30", err, got)
	}
	r, err := w.claimer.round(t.Context(), 1)
	if err != nil || len(r.tickets) != 1 || len(r.tickets[0].People) != 10 {
		t.Fatalf("claimed %+v, %v, want ten people in one request", r, err)
	}
	if got, want := waiting(), append([]int{3}, all[10:]...); !slices.Equal(got, want) {
		t.Errorf("while ten are asked for the rows with jobs are %v, want %v", got, want)
	}
	b.send(w, r.tickets[0])
	if got := waiting(); b.outcomes(batch)[""] != 30 || !slices.Equal(got, all) {
		t.Errorf("after a refusal the rows with jobs are %v, want those from 1 to 30", got)
	}
}
