// Package batch stores batches, and what people do with them: drafts, starting, pausing, trials,
// corrections and resends. It also stores the instances that batches belong to.
package batch

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/event"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/lease"
)

const batchColumns = `id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, options,
	priority, preflight, on_duplicate, cooldown, coalesce(resend_of, 0), coalesce(corrects, 0), coalesce(corrects_row, 0), coalesce(links_file, ''), state, coalesce(state_reason, ''), coalesce(paused_by, ''), start_at, ` + HoursColumns + `, coalesce(revoke_after, '0'), coalesce(canary, 0), rows, blank, confirmed_at is not null, created_at, started_at, finished_at`

// HoursColumns are the From and To of a batch's hours, null for all hours, and the time zone.
const HoursColumns = `(select lower(h) from unnest(hours) h order by h desc limit 1), (select upper(h) from unnest(hours) h order by h limit 1), coalesce(tz, '')`

func scanBatch(row pgx.Row) (*invitation.Batch, error) {
	var b invitation.Batch
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
		b.Hours = invitation.Hours{From: *from, To: *to, TZ: tz}
	}
	b.StartedAt, b.FinishedAt, b.StartAt = db.Time(started), db.Time(finished), db.Time(startAt)
	return &b, nil
}

// Batch returns a batch. It fails with [invitation.ErrNoBatch] if the batch does not exist.
func Batch(ctx context.Context, pool *pgxpool.Pool, id int64) (*invitation.Batch, error) {
	b, err := scanBatch(pool.QueryRow(ctx, `select `+batchColumns+` from batches where id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("batch %d: %w", id, invitation.ErrNoBatch)
	}
	if err != nil {
		return nil, fmt.Errorf("read batch %d: %w", id, err)
	}
	return b, nil
}

// SameFileError says that a file was imported before, as Batch.
type SameFileError struct{ Batch *invitation.Batch }

// Error names the earlier batch and its state.
func (e *SameFileError) Error() string {
	return fmt.Sprintf("this file is batch %d already (%s)", e.Batch.ID, e.Batch.State)
}

// BatchByFile returns the batch of an instance that stands in the way of the same file, by its
// SHA-256, or nil: the newest that runs or is paused, else the newest draft, else, without again,
// the newest that is over. It ignores a draft that was cancelled, because nothing was sent for it.
// except is a batch to leave out, or 0.
func BatchByFile(ctx context.Context, q db.Queryer, instance int64, sha [32]byte, except int64,
	again bool) (*invitation.Batch, error) {
	b, err := scanBatch(q.QueryRow(ctx, `select `+batchColumns+` from batches
		where instance_id = $1 and file_sha256 = $2 and id <> $3
		  and not (state = 'cancelled' and started_at is null)
		order by state in ('running', 'paused') desc, state = 'draft' desc, id desc limit 1`,
		instance, sha[:], except))
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

// LockFile makes imports of one file at one instance wait for each other until the transaction
// ends. So two uploads at the same moment see each other.
func LockFile(ctx context.Context, tx pgx.Tx, instance int64, sha [32]byte) error {
	return lease.Exclude(ctx, tx, instance, "file "+hex.EncodeToString(sha[:]))
}

// CreateBatch inserts a batch as a draft and returns its number. Call it in the transaction that
// imports the file's rows.
func CreateBatch(ctx context.Context, tx pgx.Tx, b invitation.Batch) (int64, error) {
	var id int64
	err := tx.QueryRow(ctx, `
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, options, priority, preflight, start_at, hours, tz, canary, revoke_after,
		                     on_duplicate, cooldown, resend_of, corrects, corrects_row, links_file, confirmed_at, state)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, nullif($14, ''), nullif($15, 0), nullif($16, interval '0'),
		        $17, $18, nullif($19, 0), nullif($20, 0), nullif($21, 0), nullif($22, ''), case when $23 then clock_timestamp() end, 'draft') returning id`,
		b.InstanceID, b.FileName, b.FileSHA256[:], b.FileBytes, b.Encoding, b.Delimiter, b.Columns, b.Actor, b.Options, cmp.Or(b.Priority, invitation.DefaultPriority), b.Preflight,
		db.NullTime(b.StartAt), b.Hours.Multirange(), b.Hours.TZ, b.Canary, b.RevokeAfter,
		cmp.Or(b.Duplicates, invitation.Skip), cmp.Or(b.Cooldown, invitation.DefaultCooldown), b.ResendOf, b.Corrects.Batch, b.Corrects.Row, b.LinksFile, b.Confirmed).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("create a batch: %w", err)
	}
	return id, event.Record(ctx, tx, b.InstanceID, id, b.Actor, "imported", nil)
}

// StartBatch changes a draft to running and records how many rows and blank records the import
// found. A batch with nothing to send is done at once.
func StartBatch(ctx context.Context, tx pgx.Tx, id int64, actor string, rows, blank int) error {
	var instance int64
	err := tx.QueryRow(ctx, `
		update batches set state = 'running', confirmed_at = coalesce(confirmed_at, clock_timestamp()), started_at = clock_timestamp(), judged_from = clock_timestamp(), rows = $2, blank = $3,
		       canary_row = (select r.row_number from results r where r.batch_id = $1 and r.outcome is null order by r.row_number offset canary - 1 limit case when canary is null then 0 else 1 end)
		where id = $1 and state = 'draft' returning instance_id`, id, rows, blank).Scan(&instance)
	if err != nil {
		return fmt.Errorf("start batch %d: %w", id, err)
	}
	if err := event.Record(ctx, tx, instance, id, actor, "started", nil); err != nil {
		return err
	}
	_, err = finish(ctx, tx, instance)
	return err
}

// Finish marks the batches of an instance as done if all their rows are decided, including batches
// that were paused while their last answers were under way. It returns how many it marked.
func Finish(ctx context.Context, pool *pgxpool.Pool, instance int64) (int, error) {
	var n int
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) (err error) {
		n, err = finish(ctx, tx, instance)
		return err
	})
	return n, err
}

// finish checks the rows again in a new statement, after it has locked the batch. It may have
// waited for a retry, and an older snapshot shows the rows that the retry opened as decided.
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
		if err := event.Record(ctx, tx, instance, id, "bulkinvite", "done", nil); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// PauseInstance pauses running batches of an instance because Clerk refuses their invitations.
// reason says why. If only is empty it pauses all of them. It returns the batches that it paused.
// The caller must hold the instance's create and bulk buckets, so that no claim runs while the
// state changes.
func PauseInstance(ctx context.Context, tx pgx.Tx, instance int64, reason string, only ...int64) ([]int64, error) {
	rows, _ := tx.Query(ctx, `update batches set state = 'paused', state_reason = $2, paused_by = $3
		where instance_id = $1 and state = 'running' and ($4::bigint[] is null or id = any($4)) returning id`, instance, reason, invitation.ByClerk, only)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("pause the batches of instance %d: %w", instance, err)
	}
	for _, id := range ids {
		if err := event.Record(ctx, tx, instance, id, "bulkinvite", "paused", map[string]any{"by": invitation.ByClerk, "reason": reason}); err != nil {
			return nil, err
		}
	}
	return ids, nil
}
