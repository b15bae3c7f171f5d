package report

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/revocation"
)

// Chores says which housekeeping an instance needs.
type Chores struct {
	Canary  bool // a running batch sends its trial
	Zone    bool // a running batch has a time zone that PostgreSQL does not know
	Finish  bool // a batch has no undecided row left
	Cancel  bool // a cancelled batch is not finished
	Sweep   bool // a sweep has no undecided revocation left
	Follow  bool // rows that a sweep took away must be decided, or their invitations revoked
	Certify bool // a batch has ended and has no certificate
}

// ReadChores returns the housekeeping that an instance needs. It uses one statement, because each
// process calls it every few seconds, even when nothing happens for an hour.
func ReadChores(ctx context.Context, pool *pgxpool.Pool, instance int64) (Chores, error) {
	var c Chores
	var b pgx.Batch
	b.Queue(`
		select coalesce(bool_or(state = 'running' and canary_row is not null), false),
		       coalesce(bool_or(state = 'running' and `+batch.HasUnknownZone+`), false),
		       coalesce(bool_or(state in ('running', 'paused') and not exists (select from results r where r.batch_id = b.id and r.outcome is null)), false),
		       coalesce(bool_or(state = 'cancelled'), false),
		       exists (select from sweeps s where s.instance_id = $1 and s.apply and s.finished_at is null and not s.held
		               and not exists (select from revocations v where v.sweep_id = s.id and v.outcome is null)),
		       exists (select from sweeps s cross join lateral `+revocation.Taken+` r
		               where s.instance_id = $1 and s.apply and s.finished_at is null and `+revocation.Unfollowed+`),
		       exists (select from batches where instance_id = $1 and finished_at is not null and certificate is null)
		from batches b where instance_id = $1 and (state in ('running', 'paused') or state = 'cancelled' and finished_at is null)`, instance).
		QueryRow(func(row pgx.Row) error {
			return row.Scan(&c.Canary, &c.Zone, &c.Finish, &c.Cancel, &c.Sweep, &c.Follow, &c.Certify)
		})
	if err := pool.SendBatch(ctx, &b).Close(); err != nil {
		return c, fmt.Errorf("look for what there is to do at instance %d: %w", instance, err)
	}
	return c, nil
}
