package invitation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Preview is what was found of the people of a draft when they were looked up.
type Preview struct {
	Known
	AskedClerk bool       `json:"asked_clerk"` // else only our own rows were looked through
	Problem    string     `json:"problem"`     // why Clerk did not tell, where it should have
	BegunAt    time.Time  `json:"begun_at"`    // when they were last begun to be looked up
	LookedAt   *time.Time `json:"looked_at"`   // when the counts were found; nil: they are all zero yet
}

// Looking reports whether somebody looks people up now.
func (p *Preview) Looking() bool { return p.LookedAt == nil || p.LookedAt.Before(p.BegunAt) }

// ToInvite is how many people of a draft are invited, of so many that wait.
func (p *Preview) ToInvite(waiting int, on OnDuplicate) int {
	if p == nil {
		return waiting
	}
	return max(0, waiting-p.Skipped(on))
}

// Preview returns what was found of a draft's people; nil: nobody has begun to
// look them up since its file was read.
func (r *Reader) Preview(ctx context.Context, batch int64) (*Preview, error) {
	return preview(ctx, r.pool, batch)
}

func preview(ctx context.Context, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, batch int64) (*Preview, error) {
	var p Preview
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

// How long a preview counts as new, and how long after it was begun it is taken
// for lost with its process.
const (
	previewFresh = 10 * time.Minute
	previewLost  = 5 * time.Minute
)

// BeginPreview records that a draft's people are looked up now, and returns when
// that was; false: it is no draft, somebody else looks them up, or somebody has
// done so lately.
func (s *Store) BeginPreview(ctx context.Context, batch int64) (begun time.Time, ok bool, err error) {
	err = s.pool.QueryRow(ctx, `
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

// EndPreview records what was found since begun. Where the draft's file was read
// in another way meanwhile, that is forgotten.
func (s *Store) EndPreview(ctx context.Context, batch int64, begun time.Time, p Preview) error {
	_, err := s.pool.Exec(ctx, `
		update previews set registered = $3, invited = $4, pending = $5, lapsed = $6, asked_clerk = $7, problem = nullif($8, ''), looked_at = clock_timestamp()
		where batch_id = $1 and begun_at = $2`, batch, begun, p.Registered, p.Invited, p.Pending, p.Lapsed, p.AskedClerk, p.Problem)
	if err != nil {
		return fmt.Errorf("record who is known of batch %d: %w", batch, err)
	}
	return nil
}

// DropPreview records that people are not looked up any more, so that somebody
// else may begin at once.
func (s *Store) DropPreview(ctx context.Context, batch int64, begun time.Time) error {
	if _, err := s.pool.Exec(ctx, `delete from previews where batch_id = $1 and begun_at = $2`, batch, begun); err != nil {
		return fmt.Errorf("give up looking up the people of batch %d: %w", batch, err)
	}
	return nil
}

// Addressees returns undecided rows of a batch, those after a row, in the file's
// order.
func (r *Reader) Addressees(ctx context.Context, batch int64, after, limit int) ([]Addressee, error) {
	rows, _ := r.pool.Query(ctx, `select row_number, email, key from results where batch_id = $1 and outcome is null and row_number > $2 order by row_number limit $3`, batch, after, limit)
	people, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Addressee])
	if err != nil {
		return nil, fmt.Errorf("list the people of batch %d: %w", batch, err)
	}
	return people, nil
}
