package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/event"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// ErrCorrectedDraft says that a draft's file cannot be read again, because other batches correct
// rows of it.
var ErrCorrectedDraft = errors.New("a row of it was corrected")

// EmptyDraft deletes the rows of a draft whose file is about to be read again with other options.
// It keeps which people were rescinded from the draft. It locks the batch until the transaction
// ends, so that nobody starts it meanwhile. It fails with a [StateError] if the batch is not a
// draft, and with [ErrCorrectedDraft] if another batch corrects one of its rows.
func EmptyDraft(ctx context.Context, tx pgx.Tx, id int64) error {
	if _, err := lockDraft(ctx, tx, id, "read again"); err != nil {
		return err
	}
	var corrected bool
	err := tx.QueryRow(ctx, `select exists (select from batches where corrects = $1)`, id).Scan(&corrected)
	if err != nil {
		return fmt.Errorf("empty draft %d: %w", id, err)
	}
	if corrected {
		return fmt.Errorf("empty draft %d: %w", id, ErrCorrectedDraft)
	}
	for _, sql := range []string{
		`insert into draft_withdrawals (batch_id, key, sweep_id)
		select distinct on (key) batch_id, key, withdrawn_by from results where batch_id = $1 and withdrawn_by is not null
		order by key, row_number on conflict do nothing`,
		`delete from previews where batch_id = $1`,
		`delete from results where batch_id = $1`,
	} {
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return fmt.Errorf("empty draft %d: %w", id, err)
		}
	}
	if _, err := tx.Exec(ctx, `update batches set confirmed_at = null where id = $1 and confirmed_at is not null`, id); err != nil {
		return fmt.Errorf("empty draft %d: %w", id, err)
	}
	return nil
}

// DescribeDraft records how a draft's file was read and how many rows and blank records it has. It
// cancels the rows of people who were rescinded from the draft before the file was read again. Call
// it in the transaction that imports the rows, after them.
func DescribeDraft(ctx context.Context, tx pgx.Tx, b *invitation.Batch) error {
	_, err := tx.Exec(ctx, `
		update batches set file_sha256 = $2, file_bytes = $3, encoding = $4, delimiter = $5, columns = $6, rows = $7, blank = $8
		where id = $1 and state = 'draft'`, b.ID, b.FileSHA256[:], b.FileBytes, b.Encoding, b.Delimiter, b.Columns, b.Rows, b.Blank)
	if err != nil {
		return fmt.Errorf("describe draft %d: %w", b.ID, err)
	}
	return ledger.CancelRescinded(ctx, tx, b.ID)
}

// AwaitDrafts waits until no draft of an instance is being started and no file of a draft is being
// read again. Both then wait until the transaction ends. So later statements see the rows that were
// made. Call it before the transaction locks the buckets, because a start locks its draft before
// the buckets.
func AwaitDrafts(ctx context.Context, tx pgx.Tx, instance int64) error {
	_, err := tx.Exec(ctx, `
		select from batches where instance_id = $1 and state = 'draft' order by id for share`, instance)
	if err != nil {
		return fmt.Errorf("wait for the drafts of instance %d: %w", instance, err)
	}
	return nil
}

// SetOptions changes options of a draft: Options, Priority, Canary, Duplicates, StartAt, Hours and
// RevokeAfter. It calls change with the draft under its lock, so that concurrent changes are not
// lost. If change returns an error, nothing changes. SetOptions returns the draft. It fails with a
// [StateError] if the batch is not a draft.
func SetOptions(ctx context.Context, pool *pgxpool.Pool, id int64, actor string, change func(*invitation.Batch) error) (b *invitation.Batch, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if b, err = lockDraft(ctx, tx, id, "set"); err != nil {
			return err
		}
		before := *b
		if err := change(b); err != nil {
			return err
		}
		return setOptions(ctx, tx, b, &before, actor)
	})
	return b, err
}

// setOptions records a draft's options if they differ from before. It also clears the confirmation,
// because nobody confirmed the new options.
func setOptions(ctx context.Context, tx pgx.Tx, b, before *invitation.Batch, actor string) error {
	if b.SameOptions(before) {
		return nil
	}
	_, err := tx.Exec(ctx, `
		update batches set confirmed_at = null, options = $2, priority = $3, canary = nullif($4, 0), on_duplicate = $5, start_at = $6, hours = $7, tz = nullif($8, ''), revoke_after = nullif($9, interval '0')
		where id = $1`, b.ID, b.Options, b.Priority, b.Canary, cmp.Or(b.Duplicates, invitation.Skip), db.NullTime(b.StartAt), b.Hours.Multirange(), b.Hours.TZ, b.RevokeAfter)
	if err != nil {
		return fmt.Errorf("set the options of batch %d: %w", b.ID, err)
	}
	b.Confirmed = false
	return event.Record(ctx, tx, b.InstanceID, b.ID, actor, "set", map[string]any{
		"options": b.Options, "priority": b.Priority, "canary": b.Canary, "on_duplicate": cmp.Or(b.Duplicates, invitation.Skip), "start_at": db.NullTime(b.StartAt), "hours": b.Hours.String(), "tz": b.Hours.TZ, "revoke_after": b.RevokeAfter.String(),
	})
}

// lockDraft locks a draft until the transaction ends and returns it. It fails with a [StateError]
// if the batch is not a draft.
func lockDraft(ctx context.Context, tx pgx.Tx, id int64, action string) (*invitation.Batch, error) {
	b, err := scanBatch(tx.QueryRow(ctx, `select `+batchColumns+` from batches where id = $1 for update`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("batch %d: %w", id, invitation.ErrNoBatch)
	}
	if err != nil {
		return nil, fmt.Errorf("lock batch %d: %w", id, err)
	}
	if err := Allow(id, b.State, action); err != nil {
		return nil, err
	}
	return b, nil
}
