package jobs

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Depth is the number of an instance's unfinished jobs of one kind (invite, revoke, notice) in one
// of River's states (available, scheduled, retryable, running).
type Depth struct {
	Kind  string
	State string
	Jobs  int
}

// Depths counts the unfinished jobs of an instance by kind and state, also those of batches whose
// links go to a file, which have queues of their own.
func Depths(ctx context.Context, pool *pgxpool.Pool, instance int64) ([]Depth, error) {
	rows, _ := pool.Query(ctx, `
		select kind, state::text, count(*) from river_job
		where queue = any($1::text[] || array(
		      select 'links_' || id from batches where instance_id = $2 and links_file is not null))
		  and state in ('available', 'scheduled', 'retryable', 'running') group by 1, 2 order by 1, 2`,
		[]string{inviteQueue(instance), revokeQueue(instance), noticeQueue(instance)}, instance)
	depths, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Depth])
	if err != nil {
		return nil, fmt.Errorf("count the jobs of instance %d: %w", instance, err)
	}
	return depths, nil
}
