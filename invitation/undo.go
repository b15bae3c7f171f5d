package invitation

import (
	"context"
	"errors"
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

// LockUndecided locks the undecided rows of a batch until the transaction ends,
// and returns them: it waits for answers that are being recorded for them.
func (s *Store) LockUndecided(ctx context.Context, tx pgx.Tx, batch int64) ([]RowID, error) {
	rows, _ := tx.Query(ctx, `select batch_id, row_number from results where batch_id = $1 and outcome is null order by row_number for update`, batch)
	ids, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RowID])
	if err != nil {
		return nil, fmt.Errorf("lock the undecided rows of batch %d: %w", batch, err)
	}
	return ids, nil
}

// Undoing returns the sweep that undoes a batch now; nil: there is none. The
// caller has [LockSweeps].
func (s *Store) Undoing(ctx context.Context, tx pgx.Tx, batch int64) (*Sweep, error) {
	var id int64
	err := tx.QueryRow(ctx, `select id from sweeps where batch_id = $1 and kind = $2 and apply and finished_at is null order by id limit 1`, batch, KindUndo).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for who undoes batch %d: %w", batch, err)
	}
	return s.Sweep(ctx, id)
}

// LastUndo returns the newest sweep that undid, or undoes, a batch; 0: there is
// none.
func (r *Reader) LastUndo(ctx context.Context, batch int64) (id int64, err error) {
	err = r.pool.QueryRow(ctx, `select coalesce(max(id), 0) from sweeps where batch_id = $1 and kind = $2 and apply`, batch, KindUndo).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("look for who undid batch %d: %w", batch, err)
	}
	return id, nil
}
