package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	otelattr "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"bulkinvite/internal/erased"
)

// Rows are written by chunks of a few thousand; long rows make a chunk smaller, which
// bounds its memory.
const (
	chunkRows  = 5000
	chunkBytes = 2 << 20
)

// ErrChanged tells that a file is not the one that was checked before. What was
// shown to a person, and agreed to, was another.
var ErrChanged = errors.New("the file has changed since it was checked")

// tracer makes a span of each import. It does nothing until the program names a
// provider.
var tracer = otel.Tracer("bulkinvite/importer")

// importFile reads a file as [Read] does and writes each row into results: an
// invalid row with the outcome invalid and its problem's code as the reason, a
// duplicate with duplicate_row and the number of the row that counts, a valid row
// undecided. The batch is in the database already. Everything happens in tx, which
// the caller commits, or rolls back after an error.
func importFile(ctx context.Context, tx pgx.Tx, r io.Reader, d *Draft) (s *Summary, err error) {
	ctx, span := tracer.Start(ctx, "import", trace.WithAttributes(otelattr.Int64("bulkinvite.batch.id", d.ID)))
	defer func() {
		var fault *FileError
		if err == nil {
			span.SetAttributes(otelattr.Int("bulkinvite.rows", s.Rows))
		} else {
			span.SetStatus(codes.Error, "") // what it says is for the log, which keeps addresses out of it
		}
		if err != nil && !errors.As(err, &fault) {
			err = fmt.Errorf("import batch %d: %w", d.ID, err)
		}
		span.End()
	}()
	var now time.Time
	if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return nil, err
	}
	erased, err := erased.LoadErased(ctx, tx)
	if err != nil {
		return nil, err
	}
	var included []string // people who were erased and are invited all the same
	var c chunk
	s, err = Read(ctx, r, d.Read, func(row *Row) error {
		gone := erased.Row(row.Key, row.Cells)
		if gone != nil && d.IncludeErased {
			included = append(included, gone.Key)
			gone = nil
		}
		c.add(d, now, row, gone)
		if len(c.rows) < chunkRows && c.bytes < chunkBytes {
			return nil
		}
		return c.write(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, tx); err != nil {
		return nil, err
	}
	if d.FileSHA256 != [32]byte{} && d.FileSHA256 != s.SHA256 {
		return nil, ErrChanged
	}
	if len(included) > 0 {
		if err := erased.Lift(ctx, tx, d.ID, included); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// chunk is a run of rows on its way to the database. The zero value is empty.
type chunk struct {
	rows     [][]any // the values of resultColumns
	bytes    int     // of the rows' cells
	from, to int     // the numbers of the first and the last row
}

// resultColumns are the columns of results that an import writes.
var resultColumns = []string{
	"batch_id", "instance_id", "row_number", "line", "original", "email", "key", "redirect_url", "expires_in_days",
	"public_metadata", "notes", "outcome", "reason", "duplicate_of", "decided_at", "revoke_on", "erased_by", "private_hash",
}

// add adds a row. now is the time of the decision for rows that the file alone
// decides. erased is what replaces an erased person; nothing of what the file says
// about them is kept.
func (c *chunk) add(d *Draft, now time.Time, row *Row, erased *erased.ErasedRow) {
	if len(c.rows) == 0 {
		c.from = row.Number
	}
	c.to = row.Number
	var outcome, reason, duplicateOf, decidedAt any
	switch {
	case row.Problem != nil:
		outcome, reason, decidedAt = "invalid", row.Problem.Code, now
	case row.DuplicateOf > 0:
		outcome, duplicateOf, decidedAt = "duplicate_row", row.DuplicateOf, now
	case erased != nil:
		outcome, reason, decidedAt = "cancelled", "erased", now
	}
	cells, email, key, redirect, metadata, notes := row.Cells, row.Email, row.Key, row.RedirectURL, row.PublicMetadata, row.Notes
	var erasedBy, privateHash any
	if erased != nil {
		cells, email, key, redirect, metadata, notes = []string{}, "", erased.Key, "", nil, nil
		erasedBy, privateHash = erased.By, erased.Private[:]
	}
	for _, cell := range cells {
		c.bytes += len(cell)
	}
	var metadataValue any // an untyped nil: a nil json.RawMessage would be written as JSON's null
	if metadata != nil {
		metadataValue = metadata
	}
	c.rows = append(c.rows, []any{
		d.ID, d.InstanceID, row.Number, row.Line, cells,
		orNull(email), orNull(key), orNull(redirect), orNull(row.ExpiresInDays), metadataValue,
		notes, outcome, reason, duplicateOf, decidedAt, orNull(row.RevokeOn), erasedBy, privateHash,
	})
}

// orNull is NULL for a zero value.
func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// write writes the chunk's rows into results and empties the chunk.
func (c *chunk) write(ctx context.Context, tx pgx.Tx) error {
	if len(c.rows) == 0 {
		return nil
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"results"}, resultColumns, pgx.CopyFromRows(c.rows)); err != nil {
		return fmt.Errorf("write rows %d to %d: %w", c.from, c.to, err)
	}
	c.rows, c.bytes = c.rows[:0], 0
	return nil
}
