package invitation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Result is a row of a file and how it ended. Nil is a value that the row does
// not have, or not yet.
type Result struct {
	BatchID           int64           `json:"batch_id"`
	RowNumber         int             `json:"row_number"` // its place among the file's rows, from 1
	Line              int             `json:"line"`       // of the file, from 1
	Original          []string        `json:"-"`          // the row's cells, as the file has them
	Email             *string         `json:"email"`
	Outcome           *Outcome        `json:"outcome"`
	Reason            *string         `json:"reason"`
	DuplicateOf       *int            `json:"duplicate_of"` // for duplicate_row: the row that stands
	Status            *Status         `json:"status"`
	StatusAt          *time.Time      `json:"status_at"`
	StatusReadID      *int64          `json:"status_read_id"` // the read that showed the status; nil: an answer did
	ClerkInvitationID *string         `json:"clerk_invitation_id"`
	ClerkUserID       *string         `json:"clerk_user_id"`
	DecidedAt         *time.Time      `json:"decided_at"`
	InvitedAt         *time.Time      `json:"invited_at"` // by Clerk's clock
	ExpiresAt         *time.Time      `json:"expires_at"`
	AttemptID         *int64          `json:"attempt_id"` // the attempt that proves the outcome
	ReadID            *int64          `json:"read_id"`    // the read that proves it
	RedirectURL       *string         `json:"redirect_url"`
	ExpiresInDays     *int            `json:"expires_in_days"`
	PublicMetadata    json.RawMessage `json:"public_metadata"`
	Notes             []string        `json:"notes"` // what was mended in the address
}

const resultColumns = `r.batch_id, r.row_number, r.line, r.original, r.email, r.outcome, r.reason, r.duplicate_of, r.status, r.status_at, r.status_read_id,
	r.clerk_invitation_id, r.clerk_user_id, r.decided_at, r.invited_at, r.expires_at, r.attempt_id, r.read_id,
	r.redirect_url, r.expires_in_days, r.public_metadata, r.notes`

// fields are the places that resultColumns are scanned into.
func (r *Result) fields() []any {
	return []any{&r.BatchID, &r.RowNumber, &r.Line, &r.Original, &r.Email, &r.Outcome, &r.Reason, &r.DuplicateOf, &r.Status, &r.StatusAt, &r.StatusReadID,
		&r.ClerkInvitationID, &r.ClerkUserID, &r.DecidedAt, &r.InvitedAt, &r.ExpiresAt, &r.AttemptID, &r.ReadID,
		&r.RedirectURL, &r.ExpiresInDays, &r.PublicMetadata, &r.Notes}
}

// Columns returns the names of a batch's file's columns, in the file's order,
// or [ErrNoBatch]. Where a row has more cells than the header, the columns that
// it takes have empty names.
func (r *Reader) Columns(ctx context.Context, batch int64) ([]string, error) {
	var columns []string
	var widest int
	err := r.pool.QueryRow(ctx, `
		select columns, (select coalesce(max(cardinality(original)), 0) from results where batch_id = $1)
		from batches where id = $1`, batch).Scan(&columns, &widest)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("results of batch %d: %w", batch, ErrNoBatch)
	}
	if err != nil {
		return nil, fmt.Errorf("results of batch %d: %w", batch, err)
	}
	for len(columns) < widest {
		columns = append(columns, "")
	}
	return columns, nil
}

// ErrDraftChanged means that a draft was changed or started while its rows were
// read: its file may have been read again, so that they are other rows now.
var ErrDraftChanged = errors.New("the draft was changed or started while its rows were read")

// Results calls yield with each row of a batch once, in the file's order; with an
// outcome, only with those that ended so. It reads the cells and what
// [ResultFields] have, and no more. The Result is reused: yield must not keep it.
//
// The rows are read in pages: memory does not grow with the batch, and no
// connection is held while yield works. So each row is as it was when its page was
// read. The rows of a batch that was started don't change in number or order; of a
// draft that changes meanwhile the rest is not read: see [ErrDraftChanged]. An
// error of yield ends the reading and is returned as it is.
func (r *Reader) Results(ctx context.Context, batch int64, only Outcome, yield func(*Result) error) error {
	draft, err := r.draftVersion(ctx, batch)
	if err != nil {
		return fmt.Errorf("results of batch %d: %w", batch, err)
	}
	page := resultPage{limit: firstPage}
	for more := true; more; {
		if more, err = page.read(ctx, r.pool, batch, only); err != nil {
			return fmt.Errorf("results of batch %d: %w", batch, err)
		}
		if draft != "" {
			now, err := r.draftVersion(ctx, batch)
			if err == nil && now != draft {
				err = ErrDraftChanged
			}
			if err != nil {
				return fmt.Errorf("results of batch %d: %w", batch, err)
			}
		}
		for i := range page.rows {
			row := &page.rows[i]
			row.fill(&row.Result)
			if err := yield(&row.Result); err != nil {
				return err
			}
		}
	}
	return nil
}

// draftVersion is another one after each change of a draft, and empty where the
// batch is no draft. A file that is read again changes its batch in the same
// transaction.
func (r *Reader) draftVersion(ctx context.Context, batch int64) (version string, err error) {
	err = r.pool.QueryRow(ctx, `
		select case state when 'draft' then xmin::text else '' end from batches where id = $1`, batch).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", ErrNoBatch
	}
	return version, err
}

// How much is read at a time, for whoever is slow to take it: up to pageRows rows,
// and about pageBytes bytes of cells, as far as the page before lets expect.
const (
	firstPage = 100
	pageRows  = 5000
	pageBytes = 1 << 20
)

// resultPage is a part of a batch's rows. Its memory is used again for the next.
type resultPage struct {
	rows  []resultRow
	after int // the row after which the next page begins
	limit int // how many rows the next one has at most
}

type resultRow struct {
	Result
	lacking
}

// read reads the next page, and reports whether there may be another.
func (p *resultPage) read(ctx context.Context, pool *pgxpool.Pool, batch int64, only Outcome) (more bool, err error) {
	const columns = `
		select row_number, line, original, email, outcome, reason, duplicate_of, status, clerk_invitation_id, decided_at
		from results where batch_id = $1 and row_number > $2 `
	sql, args := columns+`order by row_number limit $3`, []any{batch, p.after, p.limit}
	if only != "" { // a statement of its own, which has an index of its own
		sql, args = columns+`and outcome = $4 order by row_number limit $3`, append(args, only)
	}
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	p.rows = p.rows[:0]
	size := 0
	for rows.Next() {
		p.rows = append(p.rows, resultRow{Result: Result{BatchID: batch}})
		r := &p.rows[len(p.rows)-1]
		err := rows.Scan(&r.RowNumber, &r.Line, &r.Original, &r.email, &r.outcome, &r.reason,
			&r.duplicateOf, &r.status, &r.invitation, &r.decidedAt)
		if err != nil {
			return false, err
		}
		for _, cell := range r.Original {
			size += len(cell)
		}
		p.after = r.RowNumber
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	more = len(p.rows) == p.limit
	if more {
		p.limit = min(max(1, pageBytes/max(1, size/len(p.rows))), 10*p.limit, pageRows)
	}
	return more, nil
}

// lacking is what a row may lack, as it is scanned: that takes no memory for each
// value, as pointers to pointers would.
type lacking struct {
	email, outcome, reason, status, invitation, user, redirectURL pgtype.Text
	duplicateOf, statusReadID, attemptID, readID, expiresInDays   pgtype.Int8
	statusAt, decidedAt, invitedAt, expiresAt                     pgtype.Timestamptz
	duplicate, days                                               int
}

// fill has a Result point to what was scanned.
func (l *lacking) fill(r *Result) {
	text := func(t *pgtype.Text) *string { return given(&t.String, t.Valid) }
	number := func(n *pgtype.Int8) *int64 { return given(&n.Int64, n.Valid) }
	moment := func(t *pgtype.Timestamptz) *time.Time { return given(&t.Time, t.Valid) }
	l.duplicate, l.days = int(l.duplicateOf.Int64), int(l.expiresInDays.Int64)
	r.Email, r.Outcome, r.Reason = text(&l.email), (*Outcome)(text(&l.outcome)), text(&l.reason)
	r.DuplicateOf, r.ExpiresInDays = given(&l.duplicate, l.duplicateOf.Valid), given(&l.days, l.expiresInDays.Valid)
	r.Status, r.StatusAt, r.StatusReadID = (*Status)(text(&l.status)), moment(&l.statusAt), number(&l.statusReadID)
	r.ClerkInvitationID, r.ClerkUserID, r.RedirectURL = text(&l.invitation), text(&l.user), text(&l.redirectURL)
	r.DecidedAt, r.InvitedAt, r.ExpiresAt = moment(&l.decidedAt), moment(&l.invitedAt), moment(&l.expiresAt)
	r.AttemptID, r.ReadID = number(&l.attemptID), number(&l.readID)
}

// given is a value, or nil where there is none.
func given[T any](v *T, there bool) *T {
	if !there {
		return nil
	}
	return v
}
