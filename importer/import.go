package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rows are written by chunks. Inserting a job for each is fastest by about
// five thousand; long rows make a chunk smaller, to bound its memory.
const (
	chunkRows  = 5000
	chunkBytes = 4 << 20
)

// ErrChanged tells that a file is not the one that was checked before. What was
// shown to a person, and agreed to, was another.
var ErrChanged = errors.New("the file has changed since it was checked")

// Target is where rows go.
type Target struct {
	BatchID    int64 // the row in batches is there already
	InstanceID int64
	// SHA256 is the hash of the file that was checked; where it is not zero and
	// the file now has another, Import fails with [ErrChanged].
	SHA256 [32]byte
}

// Import reads a file as [Read] does and writes each row into results: an
// invalid one with the outcome invalid and its problem's code as the reason, a
// duplicate with duplicate_row and the row that stands, a valid one undecided.
// After each chunk of rows it calls insert with the numbers of the valid rows in
// it, of which there may be none. Everything happens in tx, which the caller
// commits; after an error it has to be rolled back. Reading and writing go on at
// the same time, and what is held of the file doesn't grow with it but for the
// 24 bytes a row that Read needs.
func Import(ctx context.Context, tx pgx.Tx, r io.Reader, o Options, batch Target, insert func(ctx context.Context, tx pgx.Tx, rows []int) error) (*Summary, error) {
	var now time.Time
	if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return nil, fmt.Errorf("import batch %d: %w", batch.BatchID, err)
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	chunks := make(chan []*Row, 1)
	var summary *Summary
	var unread error
	go func() {
		defer close(chunks)
		summary, unread = readChunks(reading, r, o, chunks)
	}()
	var unwritten error
	w := &copier{batch: batch, now: now}
	for chunk := range chunks {
		if unwritten != nil {
			continue // what was under way when it failed
		}
		if unwritten = w.write(ctx, tx, chunk, insert); unwritten != nil {
			stop()
		}
	}
	var fault *FileError
	switch {
	case unwritten != nil:
		return nil, fmt.Errorf("import batch %d: %w", batch.BatchID, unwritten)
	case errors.As(unread, &fault):
		return nil, unread
	case unread != nil:
		return nil, fmt.Errorf("import batch %d: %w", batch.BatchID, unread)
	case batch.SHA256 != [32]byte{} && batch.SHA256 != summary.SHA256:
		return nil, fmt.Errorf("import batch %d: %w", batch.BatchID, ErrChanged)
	}
	return summary, nil
}

// readChunks reads a file's rows and sends them on in chunks.
func readChunks(ctx context.Context, r io.Reader, o Options, chunks chan<- []*Row) (*Summary, error) {
	var chunk []*Row
	size := 0
	send := func() error {
		select {
		case chunks <- chunk:
			chunk, size = make([]*Row, 0, len(chunk)), 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	summary, err := Read(ctx, r, o, func(row *Row) error {
		chunk = append(chunk, row)
		for _, cell := range row.Cells {
			size += len(cell)
		}
		if len(chunk) == chunkRows || size >= chunkBytes {
			return send()
		}
		return nil
	})
	if err == nil && len(chunk) > 0 {
		err = send()
	}
	return summary, err
}

// copier writes chunks of rows into results.
type copier struct {
	batch  Target
	now    time.Time // when rows that are decided by the file alone were
	rows   []*Row    // the chunk that is being copied
	values [16]any
	valid  []int
}

func (c *copier) write(ctx context.Context, tx pgx.Tx, chunk []*Row, insert func(ctx context.Context, tx pgx.Tx, rows []int) error) error {
	c.valid = c.valid[:0]
	for _, row := range chunk {
		if row.Problem == nil && row.DuplicateOf == 0 {
			c.valid = append(c.valid, row.Number)
		}
	}
	from, to := chunk[0].Number, chunk[len(chunk)-1].Number
	c.rows = chunk
	// The values are in this order in Values.
	copied, err := tx.CopyFrom(ctx, pgx.Identifier{"results"}, []string{"batch_id", "instance_id", "row_number", "line", "original", "email", "key",
		"redirect_url", "expires_in_days", "public_metadata", "notes", "outcome", "reason", "duplicate_of", "decided_at", "revoke_on"}, c)
	if err != nil {
		return fmt.Errorf("write rows %d to %d: %w", from, to, err)
	}
	if copied != int64(len(chunk)) {
		return fmt.Errorf("write rows %d to %d: the database took %d of %d", from, to, copied, len(chunk))
	}
	if err := insert(ctx, tx, c.valid); err != nil {
		return fmt.Errorf("insert jobs of rows %d to %d: %w", from, to, err)
	}
	return nil
}

// Next, Values and Err are pgx.CopyFromSource; pgx is done with the values of a
// row when it asks for the next.
func (c *copier) Next() bool { return len(c.rows) > 0 }

// Values gives the values of the next row.
func (c *copier) Values() ([]any, error) {
	row := c.rows[0]
	c.rows = c.rows[1:]
	var metadata, notes, outcome, reason, duplicate, decided, revoke any
	if row.PublicMetadata != nil {
		metadata = []byte(row.PublicMetadata)
	}
	if row.Notes != nil {
		notes = row.Notes
	}
	if !row.RevokeOn.IsZero() {
		revoke = row.RevokeOn
	}
	switch {
	case row.Problem != nil:
		outcome, reason, decided = "invalid", row.Problem.Code, c.now
	case row.DuplicateOf > 0:
		outcome, duplicate, decided = "duplicate_row", row.DuplicateOf, c.now
	}
	c.values = [...]any{c.batch.BatchID, c.batch.InstanceID, row.Number, row.Line, row.Cells, optional(row.Email), optional(row.Key),
		optional(row.RedirectURL), optional(row.ExpiresInDays), metadata, notes, outcome, reason, duplicate, decided, revoke}
	return c.values[:], nil
}

// Err is nil: the rows are all there.
func (c *copier) Err() error { return nil }

// optional is NULL for a zero value.
func optional[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
