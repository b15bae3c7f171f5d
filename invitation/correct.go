package invitation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrUnderWay says that a request for a row's person is at Clerk, or that its
// answer is not known yet: what it did must be known first.
var ErrUnderWay = errors.New("a request for the person is under way")

// CorrectableRow is a row as it stands, and what has set it right already.
type CorrectableRow struct {
	Key         string
	Outcome     Outcome // empty: undecided
	Status      Status
	CorrectedBy int64  // the batch that sets it right; 0: none
	CorrectedTo string // the key of the right address
	Sweep       int64  // the sweep that takes its invitation back; 0: none
}

// Correctable looks up a row that is to be set right.
func (r *Reader) Correctable(ctx context.Context, batch int64, row int) (*CorrectableRow, error) {
	var c CorrectableRow
	err := r.pool.QueryRow(ctx, `
		select coalesce(r.key, ''), coalesce(r.outcome, ''), coalesce(r.status, ''), coalesce(b.id, 0), coalesce(n.key, ''),
		       coalesce((select max(v.sweep_id) from revocations v join sweeps s on s.id = v.sweep_id and s.kind = 'correct'
		                 where v.batch_id = r.batch_id and v.row_number = r.row_number), 0)
		from results r
		left join batches b on b.corrects = r.batch_id and b.corrects_row = r.row_number and b.state <> 'cancelled'
		left join results n on n.batch_id = b.id
		where r.batch_id = $1 and r.row_number = $2 order by b.id desc limit 1`, batch, row).
		Scan(&c.Key, &c.Outcome, &c.Status, &c.CorrectedBy, &c.CorrectedTo, &c.Sweep)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("batch %d has no row %d", batch, row)
	}
	if err != nil {
		return nil, fmt.Errorf("look up row %d of batch %d: %w", row, batch, err)
	}
	return &c, nil
}

// CreateCorrection makes the batch of one row that sets a row of another right,
// gives that up if it is undecided, and returns the batch and, where the row's
// invitation is to be revoked, that. The caller has called [ShareErasures] and then
// locked the instance's create and bulk buckets, so that no claim of the row slips between. With an open request
// for the row it is [ErrUnderWay].
func (s *Store) CreateCorrection(ctx context.Context, tx pgx.Tx, of *Batch, row int, email, key, actor string) (int64, []Target, error) {
	fault := func(err error) (int64, []Target, error) {
		return 0, nil, fmt.Errorf("correct row %d of batch %d: %w", row, of.ID, err)
	}
	erased, err := LoadErased(ctx, tx)
	if err != nil {
		return fault(err)
	}
	if erased.Row(key, nil) != nil {
		return fault(ErrErased)
	}
	var open, gone bool
	err = tx.QueryRow(ctx, `
		select r.erased_by is not null, r.outcome is null and (r.revoke_sent is not null
		       or exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open))
		from results r where r.batch_id = $1 and r.row_number = $2 for update`, of.ID, row).Scan(&gone, &open)
	if err != nil {
		return fault(err)
	}
	if gone {
		return fault(ErrErased)
	}
	if open {
		return fault(ErrUnderWay)
	}
	// In a new statement: who held the row before may have set it right.
	var before int64
	err = tx.QueryRow(ctx, `select coalesce(max(id), 0) from batches where corrects = $1 and corrects_row = $2 and state <> 'cancelled'`, of.ID, row).Scan(&before)
	if err == nil && before != 0 {
		err = fmt.Errorf("batch %d sets it right already", before)
	}
	if err != nil {
		return fault(err)
	}
	_, err = tx.Exec(ctx, `update results set outcome = 'cancelled', reason = 'corrected', decided_at = clock_timestamp(), not_before = null
		where batch_id = $1 and row_number = $2 and outcome is null`, of.ID, row)
	if err != nil {
		return fault(err)
	}
	b := Batch{InstanceID: of.InstanceID, FileName: of.FileName, Encoding: of.Encoding, Delimiter: of.Delimiter, Columns: of.Columns, Actor: actor,
		Options: of.Options, Priority: of.Priority, Preflight: true, RevokeAfter: of.RevokeAfter, Corrects: RowID{Batch: of.ID, Row: row}}
	id, err := s.CreateBatch(ctx, tx, b)
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
	targets, err := s.Sent(ctx, tx, of.ID, row)
	if err != nil {
		return fault(err)
	}
	return id, targets, event(ctx, tx, of.InstanceID, of.ID, actor, "corrected", map[string]any{"row": row, "by_batch": id})
}
