package jobs

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// dismiss deletes the jobs of claimed rows in the transaction of the claim. The rows do not need
// these jobs: their attempt is open, and the transaction that closes it inserts jobs for rows that
// stay undecided. dismiss searches the jobs that are first in line. A job that it does not find is
// fetched and ends at once. A job that is being fetched stays.
//
// dismiss only saves time. A job that nobody fetches, checks and completes saves a third of
// PostgreSQL's work. 20,000 people in bulk calls reach 0.30 of the rate of a River worker that does
// nothing, and 0.19 without dismiss. The minimum is 0.25. Measure with go run ./cmd/bench invite.
func (c *claimer) dismiss(ctx context.Context, tx pgx.Tx, tickets []*ticket) error {
	var batches []int64
	var numbers []int32
	for _, t := range tickets {
		for _, p := range t.People {
			batches, numbers = append(batches, p.Batch), append(numbers, int32(p.Row))
		}
	}
	_, err := tx.Exec(ctx, `
		with first as materialized (
			select id, args from river_job where state = 'available' and queue = $1
			order by priority, scheduled_at, id limit 2 * cardinality($2::bigint[]))
		delete from river_job j using first f, unnest($2::bigint[], $3::int[]) r (batch, number)
		where (f.args->>'batch')::bigint = r.batch and (f.args->>'row')::int = r.number
		and j.id = f.id and j.state = 'available'`, c.cfg.queue(), batches, numbers)
	if err != nil {
		return fmt.Errorf("delete the jobs of %d rows: %w", len(batches), err)
	}
	return nil
}
