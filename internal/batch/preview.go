package batch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// Preview returns the preview of a draft. It returns nil if no look-up has begun since the draft's
// file was read.
func Preview(ctx context.Context, pool *pgxpool.Pool, batch int64) (*invitation.Preview, error) {
	return preview(ctx, pool, batch)
}

func preview(ctx context.Context, q db.Queryer, batch int64) (*invitation.Preview, error) {
	var p invitation.Preview
	err := q.QueryRow(ctx, `select registered, invited, pending, lapsed, asked_clerk, coalesce(problem, ''), begun_at, looked_at from previews where batch_id = $1`, batch).
		Scan(&p.Registered, &p.Invited, &p.Pending, &p.Lapsed, &p.AskedClerk, &p.Problem, &p.BegunAt, &p.LookedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read who is known of batch %d: %w", batch, err)
	}
	return &p, nil
}

// previewFresh is how long a preview counts as new. previewLost is how long after its begin a
// look-up is considered lost with its process.
const (
	previewFresh = 10 * time.Minute
	previewLost  = 5 * time.Minute
)

// BeginPreview records that a look-up of a draft's people begins, and returns when. It returns
// false if the batch is not a draft, another look-up is under way, or the preview is new.
func BeginPreview(ctx context.Context, pool *pgxpool.Pool, batch int64) (begun time.Time, ok bool, err error) {
	err = pool.QueryRow(ctx, `
		insert into previews as p (batch_id, begun_at) select id, clock_timestamp() from batches where id = $1 and state = 'draft'
		on conflict (batch_id) do update set begun_at = clock_timestamp()
		where case when p.looked_at >= p.begun_at then p.looked_at < clock_timestamp() - $2::interval else p.begun_at < clock_timestamp() - $3::interval end
		returning begun_at`, batch, previewFresh, previewLost).Scan(&begun)
	if errors.Is(err, pgx.ErrNoRows) {
		return begun, false, nil
	}
	if err != nil {
		return begun, false, fmt.Errorf("begin to look up the people of batch %d: %w", batch, err)
	}
	return begun, true, nil
}

// EndPreview records the result of the look-up that began at begun. It changes nothing if the
// draft's file was read again meanwhile.
func EndPreview(ctx context.Context, pool *pgxpool.Pool, batch int64, begun time.Time, p invitation.Preview) error {
	_, err := pool.Exec(ctx, `
		update previews set registered = $3, invited = $4, pending = $5, lapsed = $6, asked_clerk = $7, problem = nullif($8, ''), looked_at = clock_timestamp()
		where batch_id = $1 and begun_at = $2`, batch, begun, p.Registered, p.Invited, p.Pending, p.Lapsed, p.AskedClerk, p.Problem)
	if err != nil {
		return fmt.Errorf("record who is known of batch %d: %w", batch, err)
	}
	return nil
}

// DropPreview gives up the look-up that began at begun, so that another may begin at once.
func DropPreview(ctx context.Context, pool *pgxpool.Pool, batch int64, begun time.Time) error {
	if _, err := pool.Exec(ctx, `delete from previews where batch_id = $1 and begun_at = $2`, batch, begun); err != nil {
		return fmt.Errorf("give up looking up the people of batch %d: %w", batch, err)
	}
	return nil
}

// Addressees returns up to limit undecided rows of a batch after a row number, in file order.
func Addressees(ctx context.Context, pool *pgxpool.Pool, batch int64, after, limit int) ([]invitation.Addressee, error) {
	rows, _ := pool.Query(ctx, `select row_number, email, key from results where batch_id = $1 and outcome is null and row_number > $2 order by row_number limit $3`, batch, after, limit)
	people, err := pgx.CollectRows(rows, pgx.RowToStructByPos[invitation.Addressee])
	if err != nil {
		return nil, fmt.Errorf("list the people of batch %d: %w", batch, err)
	}
	return people, nil
}
