package invitation

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// EmptyDraft deletes the rows of a draft, whose file is about to be read again
// in another way. It locks the batch until the transaction ends, so that nobody
// starts it meanwhile, and returns a [StateError] for one that is no draft.
func (s *Store) EmptyDraft(ctx context.Context, tx pgx.Tx, id int64) error {
	if err := lockDraft(ctx, tx, id, "read again"); err != nil {
		return err
	}
	for _, table := range []string{"previews", "results"} {
		if _, err := tx.Exec(ctx, `delete from `+table+` where batch_id = $1`, id); err != nil {
			return fmt.Errorf("empty draft %d: %w", id, err)
		}
	}
	return nil
}

// DescribeDraft records how the file of a draft was read, and how many rows and
// blank records were in it. It belongs to the transaction that imports them.
func (s *Store) DescribeDraft(ctx context.Context, tx pgx.Tx, b *Batch) error {
	_, err := tx.Exec(ctx, `
		update batches set file_sha256 = $2, file_bytes = $3, encoding = $4, delimiter = $5, columns = $6, rows = $7, blank = $8
		where id = $1 and state = 'draft'`, b.ID, b.FileSHA256[:], b.FileBytes, b.Encoding, b.Delimiter, b.Columns, b.Rows, b.Blank)
	if err != nil {
		return fmt.Errorf("describe draft %d: %w", b.ID, err)
	}
	return nil
}

// SetOptions gives a draft the options that b has, in the place of those it was
// imported with: Options, Priority, Canary, Duplicates, StartAt, Hours and
// RevokeAfter. It returns a [StateError] for a batch that is no draft.
func (s *Store) SetOptions(ctx context.Context, b *Batch, actor string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockDraft(ctx, tx, b.ID, "set"); err != nil {
			return err
		}
		before, err := scanBatch(tx.QueryRow(ctx, `select `+batchColumns+` from batches where id = $1`, b.ID))
		if err != nil {
			return fmt.Errorf("set the options of batch %d: %w", b.ID, err)
		}
		if b.sameOptions(before) {
			return nil
		}
		_, err = tx.Exec(ctx, `
			update batches set options = $2, priority = $3, canary = nullif($4, 0), on_duplicate = $5, start_at = $6, hours = $7, tz = nullif($8, ''), revoke_after = nullif($9, interval '0')
			where id = $1`, b.ID, b.Options, b.Priority, b.Canary, cmp.Or(b.Duplicates, Skip), nullTime(b.StartAt), b.Hours.multirange(), b.Hours.TZ, b.RevokeAfter)
		if err != nil {
			return fmt.Errorf("set the options of batch %d: %w", b.ID, err)
		}
		return event(ctx, tx, before.InstanceID, b.ID, actor, "set", map[string]any{
			"options": b.Options, "priority": b.Priority, "canary": b.Canary, "on_duplicate": cmp.Or(b.Duplicates, Skip), "start_at": nullTime(b.StartAt), "hours": b.Hours.String(), "tz": b.Hours.TZ, "revoke_after": b.RevokeAfter.String(),
		})
	})
}

// sameOptions reports whether two batches have the same options.
func (b *Batch) sameOptions(o *Batch) bool {
	return b.Options == o.Options && b.Priority == o.Priority && b.Canary == o.Canary && cmp.Or(b.Duplicates, Skip) == cmp.Or(o.Duplicates, Skip) &&
		b.StartAt.Equal(o.StartAt) && b.Hours == o.Hours && b.RevokeAfter == o.RevokeAfter
}

// lockDraft locks a batch that must be a draft until the transaction ends.
func lockDraft(ctx context.Context, tx pgx.Tx, id int64, action string) error {
	var state State
	err := tx.QueryRow(ctx, `select state from batches where id = $1 for update`, id).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("batch %d: %w", id, ErrNoBatch)
	}
	if err != nil {
		return fmt.Errorf("lock batch %d: %w", id, err)
	}
	if state != Draft {
		return &StateError{Batch: id, State: state, Action: action}
	}
	return nil
}
