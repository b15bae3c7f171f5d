package invitation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Sent lists the invitations that a batch, or one row of it, sent and that may
// still be pending. Row 0 is all of them.
func (s *Store) Sent(ctx context.Context, tx pgx.Tx, batch int64, row int) ([]Target, error) {
	rows, _ := tx.Query(ctx, `select batch_id, row_number, key, clerk_invitation_id, coalesce(invited_at, decided_at), expires_at from results
		where batch_id = $1 and outcome = 'invited' and coalesce(status, 'pending') = 'pending' and clerk_invitation_id is not null and $2 in (0, row_number) order by row_number`, batch, row)
	targets, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Target, err error) {
		var invited, expires *time.Time
		err = row.Scan(&t.Batch, &t.Row, &t.Key, &t.InvitationID, &invited, &expires)
		t.InvitedAt, t.ExpiresAt = deref(invited), deref(expires)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("list what batch %d sent: %w", batch, err)
	}
	return targets, nil
}

// CountSent counts the invitations that a batch sent by where they stand.
func (r *Reader) CountSent(ctx context.Context, batch int64) (map[Status]int, error) {
	rows, _ := r.pool.Query(ctx, `select coalesce(status, 'pending'), count(*) from results where batch_id = $1 and outcome = 'invited' group by 1`, batch)
	counts := map[Status]int{}
	var status Status
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error { counts[status] = n; return nil }); err != nil {
		return nil, fmt.Errorf("count what batch %d sent: %w", batch, err)
	}
	return counts, nil
}

// Undecided counts the undecided rows of a batch, and those of them that are
// halfway.
func (s *Store) Undecided(ctx context.Context, batch int64) (n, halfway int, err error) {
	err = s.pool.QueryRow(ctx, `select count(*), count(revoke_sent) from results where batch_id = $1 and outcome is null`, batch).Scan(&n, &halfway)
	if err != nil {
		return 0, 0, fmt.Errorf("count the undecided rows of batch %d: %w", batch, err)
	}
	return n, halfway, nil
}
