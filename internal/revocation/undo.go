package revocation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// followUps lists batch $1 and its follow-ups: its resends, the batches that correct one of its
// rows, and their follow-ups in turn.
const followUps = `
	with recursive line (id) as (
		select $1::bigint
		union
		select b.id from line cross join lateral (
			select id from batches where resend_of = line.id union all select id from batches where corrects = line.id) b)
	select id from line order by id`

// FollowUps lists the follow-ups of a batch, without the batch: its resends, the batches that
// correct one of its rows, and their follow-ups in turn.
func FollowUps(ctx context.Context, q db.Queryer, batch int64) ([]int64, error) {
	rows, _ := q.Query(ctx, followUps, batch)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list the resends and corrections of batch %d: %w", batch, err)
	}
	return slices.DeleteFunc(ids, func(id int64) bool { return id == batch }), nil
}

// Sent lists the invitations of batches that may still be pending.
func Sent(ctx context.Context, tx pgx.Tx, batches []int64) ([]ledger.Target, error) {
	rows, _ := tx.Query(ctx, `select `+ledger.TargetColumns+` from results r
		where r.batch_id = any($1) and `+ledger.SentPending+` order by r.batch_id, r.row_number`, batches)
	targets, err := pgx.CollectRows(rows, ledger.ScanTarget)
	if err != nil {
		return nil, fmt.Errorf("list what batches %d sent: %w", batches, err)
	}
	return targets, nil
}

// CountSent counts the invitations that batches sent, by status.
func CountSent(ctx context.Context, pool *pgxpool.Pool, batches ...int64) (map[invitation.Status]int, error) {
	rows, _ := pool.Query(ctx, `
		select coalesce(status, 'pending'), count(*) from results
		where batch_id = any($1) and outcome = 'invited' group by 1`, batches)
	counts := map[invitation.Status]int{}
	var status invitation.Status
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error { counts[status] = n; return nil }); err != nil {
		return nil, fmt.Errorf("count what batches %d sent: %w", batches, err)
	}
	return counts, nil
}

// UndoPlan says what undoing a batch would do.
type UndoPlan struct {
	FollowUps []int64 // see [FollowUps]; their invitations are revoked too
	Revoke    int     // pending invitations of the batch and its follow-ups
	Cancel    int     // undecided rows of the batch and its follow-ups
	Accepted  int     // people who accepted their last invitation of these batches: it stays
	Revoked   int     // people whose last invitation of these batches is revoked already
	Expired   int     // people whose last invitation of these batches has expired
	Deleted   int     // people whose last invitation of these batches was deleted at Clerk
	Kept      int     // of Revoked, Expired and Deleted: people with a pending invitation of another batch, which stays
}

// PlanUndo returns what undoing a batch would do.
func PlanUndo(ctx context.Context, pool *pgxpool.Pool, batch int64) (*UndoPlan, error) {
	var p UndoPlan
	err := db.Snapshot(ctx, pool, func(tx pgx.Tx) (err error) {
		if p.FollowUps, err = FollowUps(ctx, tx, batch); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			with sent as materialized (
				select r.key, r.instance_id, coalesce(r.status, 'pending') as status, r.decided_at from results r
				where r.batch_id = any($1) and r.outcome = 'invited'),
			last as (select distinct on (key) * from sent order by key, decided_at desc)
			select (select count(*) from sent where status = 'pending'),
			       (select count(*) from results r where r.batch_id = any($1) and r.outcome is null),
			       count(*) filter (where status = 'accepted'), count(*) filter (where status = 'revoked'), count(*) filter (where status = 'expired'),
			       count(*) filter (where status = 'gone'),
			       count(*) filter (where status in ('revoked', 'expired', 'gone') and exists (
			           select from results r where r.key = last.key and r.instance_id = last.instance_id and r.batch_id <> all($1) and `+ledger.SentPending+`))
			from last`, append(p.FollowUps, batch)).Scan(&p.Revoke, &p.Cancel, &p.Accepted, &p.Revoked, &p.Expired, &p.Deleted, &p.Kept)
	})
	if err != nil {
		return nil, fmt.Errorf("look what undoing batch %d would do: %w", batch, err)
	}
	return &p, nil
}

// Undecided counts the undecided rows of batches. owed counts those for which an invitation was or
// is being revoked.
func Undecided(ctx context.Context, pool *pgxpool.Pool, batches ...int64) (n, owed int, err error) {
	err = pool.QueryRow(ctx, `
		select count(*), count(revoke_sent) from results
		where batch_id = any($1) and outcome is null`, batches).Scan(&n, &owed)
	if err != nil {
		return 0, 0, fmt.Errorf("count the undecided rows of batches %d: %w", batches, err)
	}
	return n, owed, nil
}

// LockUndecided locks the undecided rows of batches until the transaction ends and returns them. It
// waits for answers that are being recorded for them.
func LockUndecided(ctx context.Context, tx pgx.Tx, batches []int64) ([]invitation.RowID, error) {
	rows, _ := tx.Query(ctx, `select batch_id, row_number from results
		where batch_id = any($1) and outcome is null order by batch_id, row_number for update`, batches)
	ids, err := pgx.CollectRows(rows, pgx.RowToStructByPos[invitation.RowID])
	if err != nil {
		return nil, fmt.Errorf("lock the undecided rows of batches %d: %w", batches, err)
	}
	return ids, nil
}

// Undoing returns the unfinished sweep that undoes a batch, or nil if there is none. The caller
// must call [LockSweeps] first.
func Undoing(ctx context.Context, pool *pgxpool.Pool, tx pgx.Tx, batch int64) (*Sweep, error) {
	var id int64
	err := tx.QueryRow(ctx, `select id from sweeps where batch_id = $1 and kind = $2 and apply and finished_at is null order by id limit 1`, batch, KindUndo).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for who undoes batch %d: %w", batch, err)
	}
	return ReadSweep(ctx, pool, id)
}

// LastUndo returns the number of the newest sweep that undid or undoes a batch, or 0 if there is
// none.
func LastUndo(ctx context.Context, pool *pgxpool.Pool, batch int64) (id int64, err error) {
	err = pool.QueryRow(ctx, `select coalesce(max(id), 0) from sweeps where batch_id = $1 and kind = $2 and apply`, batch, KindUndo).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("look for who undid batch %d: %w", batch, err)
	}
	return id, nil
}
