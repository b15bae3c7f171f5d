package invitation

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrCorrectedDraft says that a draft's file can't be read again, since batches
// correct rows of it.
var ErrCorrectedDraft = errors.New("a row of it was corrected")

// EmptyDraft deletes the rows of a draft, whose file is about to be read again
// in another way, and remembers who was rescinded from it. It locks the batch until
// the transaction ends, so that nobody starts it meanwhile, and returns a
// [StateError] for one that is no draft, and [ErrCorrectedDraft] for one that has
// corrected rows.
func (s *Store) EmptyDraft(ctx context.Context, tx pgx.Tx, id int64) error {
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

// DescribeDraft records how the file of a draft was read, and how many rows and
// blank records were in it, and cancels the rows of people who were rescinded from
// the draft before it was read again. It belongs to the transaction that imports
// the rows, and comes after them.
func (s *Store) DescribeDraft(ctx context.Context, tx pgx.Tx, b *Batch) error {
	_, err := tx.Exec(ctx, `
		update batches set file_sha256 = $2, file_bytes = $3, encoding = $4, delimiter = $5, columns = $6, rows = $7, blank = $8
		where id = $1 and state = 'draft'`, b.ID, b.FileSHA256[:], b.FileBytes, b.Encoding, b.Delimiter, b.Columns, b.Rows, b.Blank)
	if err != nil {
		return fmt.Errorf("describe draft %d: %w", b.ID, err)
	}
	_, err = tx.Exec(ctx, `
		update results r
		set outcome = 'cancelled', reason = 'withdrawn', withdrawn_by = d.sweep_id, decided_at = clock_timestamp()
		from draft_withdrawals d
		where d.batch_id = $1 and r.batch_id = d.batch_id and r.key = d.key and r.outcome is null`, b.ID)
	if err != nil {
		return fmt.Errorf("keep who was rescinded out of draft %d: %w", b.ID, err)
	}
	return nil
}

// Withheld reports whether one of these people is kept out of a draft. That may be
// all that is left of them, where its file was read again without them.
func (r *Reader) Withheld(ctx context.Context, keys []string) (yes bool, err error) {
	err = r.pool.QueryRow(ctx, `select exists (select from draft_withdrawals where key = any($1))`, keys).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look who is kept out of drafts: %w", err)
	}
	return yes, nil
}

// AwaitDrafts waits until no file of a draft of an instance is being read again and no
// draft is being started, and keeps others from both until the transaction ends: what
// is looked up after it sees the rows that were made. It comes before the buckets, which
// a start takes while it holds its draft.
func (s *Store) AwaitDrafts(ctx context.Context, tx pgx.Tx, instance int64) error {
	_, err := tx.Exec(ctx, `
		select from batches where instance_id = $1 and state = 'draft' order by id for share`, instance)
	if err != nil {
		return fmt.Errorf("wait for the drafts of instance %d: %w", instance, err)
	}
	return nil
}

// SetOptions changes options of a draft: Options, Priority, Canary, Duplicates,
// StartAt, Hours and RevokeAfter. What change is given is the draft as it is under
// its lock, so that nobody's change is lost to another's; what it refuses is not
// done. It returns the draft, or a [StateError] for a batch that is none.
func (s *Store) SetOptions(ctx context.Context, id int64, actor string, change func(*Batch) error) (b *Batch, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
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

// setOptions records the options that a draft has now, where they are others than
// before. Nobody has confirmed these.
func setOptions(ctx context.Context, tx pgx.Tx, b, before *Batch, actor string) error {
	if b.SameOptions(before) {
		return nil
	}
	_, err := tx.Exec(ctx, `
		update batches set confirmed_at = null, options = $2, priority = $3, canary = nullif($4, 0), on_duplicate = $5, start_at = $6, hours = $7, tz = nullif($8, ''), revoke_after = nullif($9, interval '0')
		where id = $1`, b.ID, b.Options, b.Priority, b.Canary, cmp.Or(b.Duplicates, Skip), nullTime(b.StartAt), b.Hours.multirange(), b.Hours.TZ, b.RevokeAfter)
	if err != nil {
		return fmt.Errorf("set the options of batch %d: %w", b.ID, err)
	}
	b.Confirmed = false
	return event(ctx, tx, b.InstanceID, b.ID, actor, "set", map[string]any{
		"options": b.Options, "priority": b.Priority, "canary": b.Canary, "on_duplicate": cmp.Or(b.Duplicates, Skip), "start_at": nullTime(b.StartAt), "hours": b.Hours.String(), "tz": b.Hours.TZ, "revoke_after": b.RevokeAfter.String(),
	})
}

// SameOptions reports whether two batches have the same options.
func (b *Batch) SameOptions(o *Batch) bool {
	return b.Options == o.Options && b.Priority == o.Priority && b.Canary == o.Canary && cmp.Or(b.Duplicates, Skip) == cmp.Or(o.Duplicates, Skip) &&
		b.StartAt.Equal(o.StartAt) && b.Hours == o.Hours && b.RevokeAfter == o.RevokeAfter
}

// lockDraft locks a batch that must be a draft until the transaction ends, and
// returns it as it is then.
func lockDraft(ctx context.Context, tx pgx.Tx, id int64, action string) (*Batch, error) {
	b, err := scanBatch(tx.QueryRow(ctx, `select `+batchColumns+` from batches where id = $1 for update`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("batch %d: %w", id, ErrNoBatch)
	}
	if err != nil {
		return nil, fmt.Errorf("lock batch %d: %w", id, err)
	}
	if b.State != Draft {
		return nil, &StateError{Batch: id, State: b.State, Action: action}
	}
	return b, nil
}
