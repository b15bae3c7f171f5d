package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// CancelRows decides the rows of an instance's cancelled batches, except those with an open attempt
// and those that are owed an invitation. It returns how many rows it cancelled. A row with an open
// attempt is decided when the attempt is resolved, and an owed row when it has its invitation.
func CancelRows(ctx context.Context, pool *pgxpool.Pool, instance int64) (int64, error) {
	var n int64
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// An invitation whose link was lost exists all the same.
		_, err := tx.Exec(ctx, `
			update results r set outcome = 'invited', reason = 'link_lost', clerk_invitation_id = p.clerk_invitation_id, status = 'pending', status_at = clock_timestamp(),
			       attempt_id = p.attempt_id, decided_at = clock_timestamp(), not_before = null
			from batches b, attempt_people p
			where b.instance_id = $1 and b.state = 'cancelled' and b.finished_at is null and b.links_file is not null and r.batch_id = b.id and r.outcome is null and r.revoke_sent is null
			  and (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.resolution = 'ours'
			  and p.attempt_id = (
			      select max(o.attempt_id) from attempt_people o join attempts a on a.id = o.attempt_id and a.call <> 'revoke'
			                    where (o.batch_id, o.row_number) = (r.batch_id, r.row_number))`, instance)
		if err != nil {
			return err
		}
		// Lock rows in their order, as other statements that lock several rows do.
		tag, err := tx.Exec(ctx, `
			with waiting as (
				select r.batch_id, r.row_number from results r join batches b on b.id = r.batch_id
				where b.instance_id = $1 and b.state = 'cancelled' and b.finished_at is null and r.outcome is null and r.revoke_sent is null
				  and not exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)
				order by r.batch_id, r.row_number for no key update of r)
			update results r set outcome = 'cancelled', decided_at = clock_timestamp(), not_before = null
			from waiting w where r.batch_id = w.batch_id and r.row_number = w.row_number`, instance)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
		_, err = tx.Exec(ctx, `
			update batches b set finished_at = clock_timestamp()
			where instance_id = $1 and state = 'cancelled' and finished_at is null
			  and not exists (select from results r where r.batch_id = b.id and r.outcome is null)`, instance)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cancel rows of instance %d: %w", instance, err)
	}
	return n, nil
}
