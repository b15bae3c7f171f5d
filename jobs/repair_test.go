package jobs

import (
	"context"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
)

// Rows whose jobs were deleted, cancelled or discarded, as River's page lets
// anybody do, get new ones, though a job that will wake somebody in an hour is left.
// So do those whose jobs a process with a clock that is an hour ahead put off.
func TestRowsThatLostTheirJobs(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]string{
		"deleted":   `delete from river_job where (args->>'row')::int > 1`,
		"cancelled": `update river_job set state = 'cancelled', finalized_at = now() where (args->>'row')::int > 1`,
		"discarded": `update river_job set state = 'discarded', finalized_at = now() where (args->>'row')::int > 1`,
		"put off":   `update river_job set state = 'available', scheduled_at = now() + interval '1 hour' where (args->>'row')::int > 1`,
		"retryable": `update river_job set state = 'retryable', scheduled_at = now() + interval '1 hour' where (args->>'row')::int > 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{})
			batch := b.batch(8, person)
			b.exec(`update results set not_before = now() + interval '1 hour'`)
			b.exec(`update river_job set state = 'scheduled', scheduled_at = now() + interval '1 hour'`)
			w := b.worker(quick)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx, nil) }()
			// It wakes whoever waits as it goes on the queue: nobody does.
			b.await("the worker is on its queue", func() bool {
				return b.count(`select count(*) from river_queue where name = $1`, inviteQueue(b.instance.ID)) == 1
			})
			b.exec(lose)
			b.exec(`update results set not_before = null where row_number > 1`)
			b.await("all rows but the one that backs off are decided", func() bool { return b.outcomes(batch)[""] == 1 })
			stop()
			expect.OK(t, <-ended)
		})
	}
}
