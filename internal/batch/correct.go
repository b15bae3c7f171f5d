package batch

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/erased"
	"bulkinvite/internal/event"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// ErrUnderWay says that a request for a person is at Clerk or that its answer is not known. The
// program must first know what the request did.
var ErrUnderWay = errors.New("a request for the person is under way")

// rowLine lists row $2 of batch $1 and the rows that belong to it: rows of the same person in
// resends of its batch, in the batch that its batch resends, and in any batch that revoked an
// invitation of one of them to make its own.
const rowLine = `
	with recursive line (batch_id, row_number, resend_of, clerk_invitation_id, key, instance_id) as (
		select r.batch_id, r.row_number, b.resend_of, r.clerk_invitation_id, r.key, r.instance_id
		from results r join batches b on b.id = r.batch_id where r.batch_id = $1 and r.row_number = $2
		union
		select n.batch_id, n.row_number, b.resend_of, n.clerk_invitation_id, n.key, n.instance_id
		from line cross join lateral (
			select r.* from results r where r.key = line.key and r.instance_id = line.instance_id offset 0) n
		join batches b on b.id = n.batch_id
		where b.resend_of = line.batch_id or b.id = line.resend_of or exists (
			select from attempt_people p join attempts a on a.id = p.attempt_id and ` + ledger.OwnRevoke + `
			where p.batch_id = n.batch_id and p.row_number = n.row_number
			  and p.clerk_invitation_id = line.clerk_invitation_id and not ` + ledger.Undone + `))`

// CorrectableRow is the state of a row, and how it was corrected before.
type CorrectableRow struct {
	Key         string
	Outcome     invitation.Outcome // empty: undecided
	Pending     []int64            // the batches that made its pending invitations: its own, or one that invited the person again
	Accepted    bool               // one of its invitations was accepted
	Elsewhere   bool               // its address has a pending invitation that was not made for it
	CorrectedBy int64              // the batch that corrects it; 0: none
	CorrectedTo string             // the key of the right address
	Sweep       int64              // the sweep that revokes its invitation; 0: none
	Erased      bool               // its address and cells were erased or purged
}

// Correctable looks up the state of a row before a correction. It fails if the row does not exist.
func Correctable(ctx context.Context, pool *pgxpool.Pool, batch int64, row int) (*CorrectableRow, error) {
	var c CorrectableRow
	err := pool.QueryRow(ctx, rowLine+`,
		made as (select r.* from line join results r using (batch_id, row_number) where r.outcome = 'invited')
		select coalesce(r.key, ''), coalesce(r.outcome, ''),
		       coalesce((select array_agg(m.batch_id order by m.batch_id) from made m
		                 where coalesce(m.status, 'pending') = 'pending' and m.clerk_invitation_id is not null), '{}'),
		       exists (select from made m where m.status = 'accepted'),
		       exists (select from results o where o.key = r.key and o.instance_id = r.instance_id
		               and o.outcome in ('invited', 'already_invited') and o.status = 'pending'
		               and not exists (select from made m where m.clerk_invitation_id = o.clerk_invitation_id)),
		       coalesce(b.id, 0), coalesce(n.key, ''),
		       coalesce((select max(v.sweep_id) from revocations v
		                 join sweeps s on s.id = v.sweep_id and s.kind = 'correct' and s.batch_id = r.batch_id
		                 where v.key = r.key and v.instance_id = r.instance_id), 0),
		       r.erased_by is not null
		from results r
		left join batches b on b.corrects = r.batch_id and b.corrects_row = r.row_number and b.state <> 'cancelled'
		left join results n on n.batch_id = b.id
		where r.batch_id = $1 and r.row_number = $2 order by b.id desc limit 1`, batch, row).
		Scan(&c.Key, &c.Outcome, &c.Pending, &c.Accepted, &c.Elsewhere,
			&c.CorrectedBy, &c.CorrectedTo, &c.Sweep, &c.Erased)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("batch %d has no row %d", batch, row)
	}
	if err != nil {
		return nil, fmt.Errorf("look up row %d of batch %d: %w", row, batch, err)
	}
	return &c, nil
}

// CreateCorrection makes the batch of one row that corrects a row of another batch. If the
// corrected row is undecided, it ends as cancelled. CreateCorrection returns the new batch and the
// pending invitations that any batch made for the row; the caller must have them revoked.
//
// The caller must call [erased.ShareErasures] and then lock the instance's create and bulk buckets, so
// that no claim of the row slips in between. CreateCorrection fails with [ErrUnderWay] if a request
// for the row is open, or for a row that invites the person again for it. It fails with [erased.ErrErased]
// if the row or the new address is of an erased person, and with a [StateError] if the batch is a
// draft.
func CreateCorrection(ctx context.Context, tx pgx.Tx, of *invitation.Batch, row int, email, key, actor string) (int64, []ledger.Target, error) {
	fault := func(err error) (int64, []ledger.Target, error) {
		return 0, nil, fmt.Errorf("correct row %d of batch %d: %w", row, of.ID, err)
	}
	removed, err := erased.LoadErased(ctx, tx)
	if err != nil {
		return fault(err)
	}
	if removed.Row(key, nil) != nil {
		return fault(erased.ErrErased)
	}
	// This is a separate statement. It waits for answers that are being recorded for the person,
	// and the next statement sees them.
	if _, err := tx.Exec(ctx, `
		select from results r where (r.batch_id, r.row_number) in (
			select $1::bigint, $2::int union all select p.batch_id, p.row_number
			from results o join results p on p.key = o.key and p.instance_id = o.instance_id
			where o.batch_id = $1 and o.row_number = $2)
		order by r.batch_id, r.row_number for update`, of.ID, row); err != nil {
		return fault(err)
	}
	var state invitation.State
	if err := tx.QueryRow(ctx, `select state from batches where id = $1`, of.ID).Scan(&state); err != nil {
		return fault(err)
	}
	if state == invitation.Draft { // nothing of a draft is sent before a person confirms it
		return fault(&StateError{Batch: of.ID, State: state, Action: "correct"})
	}
	var open, gone bool
	err = tx.QueryRow(ctx, rowLine+`
		select (select erased_by is not null from results where batch_id = $1 and row_number = $2),
		       coalesce(bool_or(r.outcome is null and (r.revoke_sent is not null or exists (
		           select from attempt_people p
		           where p.batch_id = r.batch_id and p.row_number = r.row_number and p.open))), false)
		from line join results r using (batch_id, row_number)`, of.ID, row).Scan(&gone, &open)
	if err != nil {
		return fault(err)
	}
	if gone {
		return fault(erased.ErrErased)
	}
	if open {
		return fault(ErrUnderWay)
	}
	// This is a new statement: the transaction that held the row before may have corrected it.
	var before int64
	err = tx.QueryRow(ctx, `select coalesce(max(id), 0) from batches where corrects = $1 and corrects_row = $2 and state <> 'cancelled'`, of.ID, row).Scan(&before)
	if err == nil && before != 0 {
		err = fmt.Errorf("batch %d sets it right already", before)
	}
	if err != nil {
		return fault(err)
	}
	listed, _ := tx.Query(ctx, rowLine+`
		select r.batch_id, r.row_number from line join results r using (batch_id, row_number)
		where r.outcome is null order by r.batch_id, r.row_number`, of.ID, row)
	waiting, err := pgx.CollectRows(listed, pgx.RowToStructByPos[invitation.RowID])
	if err != nil {
		return fault(err)
	}
	if _, err := ledger.CancelListed(ctx, tx, waiting, "corrected"); err != nil {
		return fault(err)
	}
	b := invitation.Batch{InstanceID: of.InstanceID, FileName: of.FileName, Encoding: of.Encoding, Delimiter: of.Delimiter, Columns: of.Columns, Actor: actor,
		Options: of.Options, Priority: of.Priority, Preflight: true, RevokeAfter: of.RevokeAfter, Corrects: invitation.RowID{Batch: of.ID, Row: row}}
	id, err := CreateBatch(ctx, tx, b)
	if err != nil {
		return fault(err)
	}
	_, err = tx.Exec(ctx, `
		insert into results (batch_id, row_number, instance_id, line, original, email, key, redirect_url, expires_in_days, public_metadata, revoke_on)
		select $3, 1, instance_id, line, original, $4, $5, redirect_url, expires_in_days, public_metadata, revoke_on
		from results where batch_id = $1 and row_number = $2`, of.ID, row, id, email, key)
	if err != nil {
		return fault(err)
	}
	rows, _ := tx.Query(ctx, rowLine+` select `+ledger.TargetColumns+` from line join results r using (batch_id, row_number)
		where `+ledger.SentPending+` order by r.batch_id, r.row_number`, of.ID, row)
	targets, err := pgx.CollectRows(rows, ledger.ScanTarget)
	if err != nil {
		return fault(err)
	}
	return id, targets, event.Record(ctx, tx, of.InstanceID, of.ID, actor, "corrected", map[string]any{"row": row, "by_batch": id})
}
