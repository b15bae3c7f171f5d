package invitation

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/lease"
)

const batchColumns = `id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, options,
	priority, preflight, on_duplicate, cooldown, coalesce(resend_of, 0), coalesce(corrects, 0), coalesce(corrects_row, 0), coalesce(links_file, ''), state, coalesce(state_reason, ''), coalesce(paused_by, ''), start_at, ` + hoursColumns + `, coalesce(revoke_after, '0'), coalesce(canary, 0), rows, blank, confirmed_at is not null, created_at, started_at, finished_at`

// hoursColumns are the hours of batches, from and up to; null where they are all.
const hoursColumns = `(select lower(h) from unnest(hours) h order by h desc limit 1), (select upper(h) from unnest(hours) h order by h limit 1), coalesce(tz, '')`

func scanBatch(row pgx.Row) (*Batch, error) {
	var b Batch
	var sha []byte
	var started, finished, startAt *time.Time
	var from, to *int
	var tz string
	err := row.Scan(&b.ID, &b.InstanceID, &b.FileName, &sha, &b.FileBytes, &b.Encoding, &b.Delimiter, &b.Columns, &b.Actor, &b.Options,
		&b.Priority, &b.Preflight, &b.Duplicates, &b.Cooldown, &b.ResendOf, &b.Corrects.Batch, &b.Corrects.Row, &b.LinksFile, &b.State, &b.Reason, &b.PausedBy, &startAt, &from, &to, &tz, &b.RevokeAfter, &b.Canary, &b.Rows, &b.Blank, &b.Confirmed, &b.CreatedAt, &started, &finished)
	if err != nil {
		return nil, err
	}
	copy(b.FileSHA256[:], sha)
	if from != nil && to != nil {
		b.Hours = Hours{From: *from, To: *to, TZ: tz}
	}
	b.StartedAt, b.FinishedAt, b.StartAt = deref(started), deref(finished), deref(startAt)
	return &b, nil
}

// Batch returns a batch, or [ErrNoBatch].
func (s *Store) Batch(ctx context.Context, id int64) (*Batch, error) {
	b, err := scanBatch(s.pool.QueryRow(ctx, `select `+batchColumns+` from batches where id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("batch %d: %w", id, ErrNoBatch)
	}
	if err != nil {
		return nil, fmt.Errorf("read batch %d: %w", id, err)
	}
	return b, nil
}

// SameFileError says that a file is a batch already.
type SameFileError struct{ Batch *Batch }

func (e *SameFileError) Error() string {
	return fmt.Sprintf("this file is batch %d already (%s)", e.Batch.ID, e.Batch.State)
}

// BatchByFile returns the newest batch of an instance that was made from a file
// with this SHA-256, or nil. A draft that was cancelled does not count: nothing
// came of it. With again, one that is over does not count either. except is a batch
// that is left out; 0: none.
func BatchByFile(ctx context.Context, db Queryer, instance int64, sha [32]byte, except int64,
	again bool) (*Batch, error) {
	b, err := scanBatch(db.QueryRow(ctx, `select `+batchColumns+` from batches
		where instance_id = $1 and file_sha256 = $2 and id <> $3
		  and not (state = 'cancelled' and started_at is null) order by id desc limit 1`, instance, sha[:], except))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a batch of the same file: %w", err)
	}
	if again && b.State.Over() {
		return nil, nil
	}
	return b, nil
}

// LockFile makes imports of one file at one instance wait for each other until
// the transaction ends, so that two uploads at the same moment see one another.
func LockFile(ctx context.Context, tx pgx.Tx, instance int64, sha [32]byte) error {
	return lease.Exclude(ctx, tx, instance, "file "+hex.EncodeToString(sha[:]))
}

// CreateBatch inserts a batch as a draft and returns its number. It belongs to
// the transaction that imports the file's rows.
func (s *Store) CreateBatch(ctx context.Context, tx pgx.Tx, b Batch) (int64, error) {
	var id int64
	err := tx.QueryRow(ctx, `
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, options, priority, preflight, start_at, hours, tz, canary, revoke_after,
		                     on_duplicate, cooldown, resend_of, corrects, corrects_row, links_file, confirmed_at, state)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, nullif($14, ''), nullif($15, 0), nullif($16, interval '0'),
		        $17, $18, nullif($19, 0), nullif($20, 0), nullif($21, 0), nullif($22, ''), case when $23 then clock_timestamp() end, 'draft') returning id`,
		b.InstanceID, b.FileName, b.FileSHA256[:], b.FileBytes, b.Encoding, b.Delimiter, b.Columns, b.Actor, b.Options, cmp.Or(b.Priority, DefaultPriority), b.Preflight,
		nullTime(b.StartAt), b.Hours.multirange(), b.Hours.TZ, b.Canary, b.RevokeAfter,
		cmp.Or(b.Duplicates, Skip), cmp.Or(b.Cooldown, DefaultCooldown), b.ResendOf, b.Corrects.Batch, b.Corrects.Row, b.LinksFile, b.Confirmed).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("create a batch: %w", err)
	}
	return id, event(ctx, tx, b.InstanceID, id, b.Actor, "imported", nil)
}

// StartBatch lets a draft run, with the number of its rows and of blank records
// as the import found them. A batch that has nothing to send is done at once.
func (s *Store) StartBatch(ctx context.Context, tx pgx.Tx, id int64, actor string, rows, blank int) error {
	var instance int64
	err := tx.QueryRow(ctx, `
		update batches set state = 'running', confirmed_at = coalesce(confirmed_at, clock_timestamp()), started_at = clock_timestamp(), judged_from = clock_timestamp(), rows = $2, blank = $3,
		       canary_row = (select r.row_number from results r where r.batch_id = $1 and r.outcome is null order by r.row_number offset canary - 1 limit case when canary is null then 0 else 1 end)
		where id = $1 and state = 'draft' returning instance_id`, id, rows, blank).Scan(&instance)
	if err != nil {
		return fmt.Errorf("start batch %d: %w", id, err)
	}
	if err := event(ctx, tx, instance, id, actor, "started", nil); err != nil {
		return err
	}
	_, err = finish(ctx, tx, instance)
	return err
}

// Finish marks as done the batches of an instance whose rows are all decided,
// also one that was paused while its last answers were under way, and reports how many there were.
func (s *Store) Finish(ctx context.Context, instance int64) (int, error) {
	var n int
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		n, err = finish(ctx, tx, instance)
		return err
	})
	return n, err
}

// finish looks at the rows in a statement of its own, after it holds the batch:
// a retry that it waited for has opened rows that an older snapshot shows decided.
func finish(ctx context.Context, tx pgx.Tx, instance int64) (int, error) {
	const decided = `not exists (select from results r where r.batch_id = b.id and r.outcome is null)`
	_, err := tx.Exec(ctx, `select from batches b where instance_id = $1 and state in ('running', 'paused') and `+decided+` order by id for update`, instance)
	if err != nil {
		return 0, fmt.Errorf("finish batches of instance %d: %w", instance, err)
	}
	rows, _ := tx.Query(ctx, `
		update batches b set state = 'done', finished_at = clock_timestamp(), state_reason = null, paused_by = null
		where instance_id = $1 and state in ('running', 'paused') and `+decided+`
		returning id`, instance)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return 0, fmt.Errorf("finish batches of instance %d: %w", instance, err)
	}
	for _, id := range ids {
		if err := event(ctx, tx, instance, id, "bulkinvite", "done", nil); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// PauseInstance pauses the running batches of an instance, all of them or only
// those given, with the reason for which Clerk refuses their invitations. The
// caller holds the instance's create and bulk buckets, so that no claim slips
// through while the state changes.
func (s *Store) PauseInstance(ctx context.Context, tx pgx.Tx, instance int64, reason string, only ...int64) ([]int64, error) {
	rows, _ := tx.Query(ctx, `update batches set state = 'paused', state_reason = $2, paused_by = $3
		where instance_id = $1 and state = 'running' and ($4::bigint[] is null or id = any($4)) returning id`, instance, reason, ByClerk, only)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("pause the batches of instance %d: %w", instance, err)
	}
	for _, id := range ids {
		if err := event(ctx, tx, instance, id, "bulkinvite", "paused", map[string]any{"by": ByClerk, "reason": reason}); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
