package jobs

import (
	"context"
	"testing"

	"bulkinvite/clerk/sandbox"
)

// TestJobsOfTheDeadAreTakenBack: a killed process leaves jobs behind that seem
// to run, and jobs that nobody wakes. Those of a process that lives stay with
// it, and those that are not due stay where they are.
func TestJobsOfTheDeadAreTakenBack(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	b.batch(9, person)
	w := b.worker(quick)
	if err := w.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := b.pool.Exec(t.Context(), `
		update river_job set state = 'scheduled', scheduled_at = now() + case when (args->>'row')::int = 9 then interval '1 hour' else interval '-1 second' end
		where (args->>'row')::int > 6`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.pool.Exec(t.Context(), `
		update river_job set state = 'running', attempted_at = now(), attempt = 1,
		       attempted_by = array['before', case when (args->>'row')::int <= 4 then 'dead' else $1 end]
		where (args->>'row')::int <= 6`, w.id)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.housekeep(t.Context()); err != nil {
		t.Fatal(err)
	}
	count := func(ctx context.Context, state string) (n int) {
		if err := b.pool.QueryRow(ctx, `select count(*) from river_job where state = $1::river_job_state`, state).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if waiting, running := count(t.Context(), "available"), count(t.Context(), "running"); waiting != 6 || running != 2 {
		t.Errorf("%d jobs wait and %d run, want 6 and 2", waiting, running)
	}
}
