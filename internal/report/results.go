package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// Result is a row of a file and its result. A nil field means that the row does not have the value,
// or not yet.
type Result struct {
	BatchID           int64               `json:"batch_id"`
	RowNumber         int                 `json:"row_number"` // number among the file's rows, from 1
	Line              int                 `json:"line"`       // line of the file, from 1
	Original          []string            `json:"-"`          // cells as in the file
	Email             *string             `json:"email"`
	Outcome           *invitation.Outcome `json:"outcome"`
	Reason            *string             `json:"reason"`
	DuplicateOf       *int                `json:"duplicate_of"` // for duplicate_row: the row that stands
	Status            *invitation.Status  `json:"status"`
	StatusAt          *time.Time          `json:"status_at"`
	StatusReadID      *int64              `json:"status_read_id"` // the read that showed the status; nil: an answer did
	ClerkInvitationID *string             `json:"clerk_invitation_id"`
	ClerkUserID       *string             `json:"clerk_user_id"`
	DecidedAt         *time.Time          `json:"decided_at"`
	InvitedAt         *time.Time          `json:"invited_at"` // by Clerk's clock
	ExpiresAt         *time.Time          `json:"expires_at"`
	AttemptID         *int64              `json:"attempt_id"` // the attempt that proves the outcome
	ReadID            *int64              `json:"read_id"`    // the read that proves the outcome
	RedirectURL       *string             `json:"redirect_url"`
	ExpiresInDays     *int                `json:"expires_in_days"`
	PublicMetadata    json.RawMessage     `json:"public_metadata"`
	Notes             []string            `json:"notes"` // what was fixed in the address
}

const resultColumns = `r.batch_id, r.row_number, r.line, r.original, r.email, r.outcome, r.reason, r.duplicate_of, r.status, r.status_at, r.status_read_id,
	r.clerk_invitation_id, r.clerk_user_id, r.decided_at, r.invited_at, r.expires_at, r.attempt_id, r.read_id,
	r.redirect_url, r.expires_in_days, r.public_metadata, r.notes`

// fields returns the scan targets for resultColumns.
func (r *Result) fields() []any {
	return []any{&r.BatchID, &r.RowNumber, &r.Line, &r.Original, &r.Email, &r.Outcome, &r.Reason, &r.DuplicateOf, &r.Status, &r.StatusAt, &r.StatusReadID,
		&r.ClerkInvitationID, &r.ClerkUserID, &r.DecidedAt, &r.InvitedAt, &r.ExpiresAt, &r.AttemptID, &r.ReadID,
		&r.RedirectURL, &r.ExpiresInDays, &r.PublicMetadata, &r.Notes}
}

// Columns returns the column names of a batch's file, in file order. If a row has more cells than
// the header, the extra columns have empty names. Columns fails with [invitation.ErrNoBatch] if the batch does
// not exist.
func Columns(ctx context.Context, pool *pgxpool.Pool, batch int64) ([]string, error) {
	var columns []string
	var widest int
	err := pool.QueryRow(ctx, `
		select columns, (select coalesce(max(cardinality(original)), 0) from results where batch_id = $1)
		from batches where id = $1`, batch).Scan(&columns, &widest)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("results of batch %d: %w", batch, invitation.ErrNoBatch)
	}
	if err != nil {
		return nil, fmt.Errorf("results of batch %d: %w", batch, err)
	}
	for len(columns) < widest {
		columns = append(columns, "")
	}
	return columns, nil
}

// ErrDraftChanged says that a draft was changed or started while its rows were read. Its file may
// have been read again, so the rows may be different now.
var ErrDraftChanged = errors.New("the draft was changed or started while its rows were read")

// Results calls yield with each row of a batch once, in file order. If only is not empty, it
// returns only rows with that outcome. It reads the original cells and the values of
// [ResultFields], and nothing else. It reuses the Result, so yield must not keep it.
//
// Results reads in pages: memory does not grow with the batch, and it holds no connection while
// yield runs. Each row is as it was when its page was read. The rows of a started batch do not
// change in number or order. If a draft changes meanwhile, Results stops with [ErrDraftChanged]. If
// yield returns an error, Results stops and returns that error. It fails with [invitation.ErrNoBatch] if the
// batch does not exist.
func Results(ctx context.Context, pool *pgxpool.Pool, batch int64, only invitation.Outcome, yield func(*Result) error) error {
	draft, err := draftVersion(ctx, pool, batch)
	if err != nil {
		return fmt.Errorf("results of batch %d: %w", batch, err)
	}
	page := resultPage{limit: firstPage}
	for more := true; more; {
		if more, err = page.read(ctx, pool, batch, only); err != nil {
			return fmt.Errorf("results of batch %d: %w", batch, err)
		}
		if draft != "" {
			now, err := draftVersion(ctx, pool, batch)
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

// draftVersion returns a version that differs after each change of a draft. It is empty if the
// batch is not a draft. Reading a file again changes its batch in the same transaction.
func draftVersion(ctx context.Context, pool *pgxpool.Pool, batch int64) (version string, err error) {
	err = pool.QueryRow(ctx, `
		select case state when 'draft' then xmin::text else '' end from batches where id = $1`, batch).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", invitation.ErrNoBatch
	}
	return version, err
}

// A page has at most pageRows rows and about pageBytes bytes of cells, estimated from the page
// before. Small pages help slow consumers.
const (
	firstPage = 100
	pageRows  = 5000
	pageBytes = 1 << 20
)

// resultPage is one page of a batch's rows. The next page reuses its memory.
type resultPage struct {
	rows  []resultRow
	after int // the row number before the next page
	limit int // maximum number of rows of the next page
}

type resultRow struct {
	Result
	lacking
}

// read reads the next page. It reports whether there may be another.
func (p *resultPage) read(ctx context.Context, pool *pgxpool.Pool, batch int64, only invitation.Outcome) (more bool, err error) {
	const columns = `
		select row_number, line, original, email, outcome, reason, duplicate_of, status, clerk_invitation_id, decided_at
		from results where batch_id = $1 and row_number > $2 `
	sql, args := columns+`order by row_number limit $3`, []any{batch, p.after, p.limit}
	if only != "" { // a statement of its own, because it uses another index
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

// lacking has the nullable values of a row, as they are scanned. Unlike pointers to pointers this
// allocates no memory for each value.
type lacking struct {
	email, outcome, reason, status, invitation, user, redirectURL pgtype.Text
	duplicateOf, statusReadID, attemptID, readID, expiresInDays   pgtype.Int8
	statusAt, decidedAt, invitedAt, expiresAt                     pgtype.Timestamptz
	duplicate, days                                               int
}

// fill makes a Result point to the scanned values.
func (l *lacking) fill(r *Result) {
	text := func(t *pgtype.Text) *string { return given(&t.String, t.Valid) }
	number := func(n *pgtype.Int8) *int64 { return given(&n.Int64, n.Valid) }
	moment := func(t *pgtype.Timestamptz) *time.Time { return given(&t.Time, t.Valid) }
	l.duplicate, l.days = int(l.duplicateOf.Int64), int(l.expiresInDays.Int64)
	r.Email, r.Outcome, r.Reason = text(&l.email), (*invitation.Outcome)(text(&l.outcome)), text(&l.reason)
	r.DuplicateOf, r.ExpiresInDays = given(&l.duplicate, l.duplicateOf.Valid), given(&l.days, l.expiresInDays.Valid)
	r.Status, r.StatusAt, r.StatusReadID = (*invitation.Status)(text(&l.status)), moment(&l.statusAt), number(&l.statusReadID)
	r.ClerkInvitationID, r.ClerkUserID, r.RedirectURL = text(&l.invitation), text(&l.user), text(&l.redirectURL)
	r.DecidedAt, r.InvitedAt, r.ExpiresAt = moment(&l.decidedAt), moment(&l.invitedAt), moment(&l.expiresAt)
	r.AttemptID, r.ReadID = number(&l.attemptID), number(&l.readID)
}

// given returns v, or nil if there is no value.
func given[T any](v *T, there bool) *T {
	if !there {
		return nil
	}
	return v
}
