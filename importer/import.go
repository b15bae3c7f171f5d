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

	"bulkinvite/invitation"
)

// Rows are written by chunks. Inserting a job for each is fastest by about
// five thousand; long rows make a chunk smaller, to bound its memory.
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

// Target is where rows go.
type Target struct {
	BatchID    int64 // the row in batches is there already
	InstanceID int64
	// SHA256 is the hash of the file that was checked; where it is not zero and
	// the file now has another, Import fails with [ErrChanged].
	SHA256 [32]byte
	// IncludeErased invites also people who were erased. Otherwise their rows end
	// as cancelled, and nothing is kept of what the file says of them.
	IncludeErased bool
}

// Import reads a file as [Read] does and writes each row into results: an
// invalid one with the outcome invalid and its problem's code as the reason, a
// duplicate with duplicate_row and the row that stands, a valid one undecided.
// After each chunk of rows it calls insert with the numbers of the valid rows in
// it, of which there may be none. Everything happens in tx, which the caller
// commits; after an error it has to be rolled back. Reading and writing go on at
// the same time, and what is held of the file doesn't grow with it but for the
// 20 bytes a row that Read needs.
func Import(ctx context.Context, tx pgx.Tx, r io.Reader, o Options, batch Target, insert func(ctx context.Context, tx pgx.Tx, rows []int) error) (s *Summary, err error) {
	ctx, span := tracer.Start(ctx, "import", trace.WithAttributes(otelattr.Int64("bulkinvite.batch.id", batch.BatchID)))
	defer func() {
		if err != nil { // what it says is for the log, which keeps addresses out of it
			span.SetStatus(codes.Error, "")
		} else {
			span.SetAttributes(otelattr.Int("bulkinvite.rows", s.Rows))
		}
		span.End()
	}()
	var now time.Time
	if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return nil, fmt.Errorf("import batch %d: %w", batch.BatchID, err)
	}
	erased, err := invitation.LoadErased(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("import batch %d: %w", batch.BatchID, err)
	}
	var included []string
	reading, stop := context.WithCancel(ctx)
	defer stop()
	chunks, written := make(chan *chunk, 1), make(chan *chunk, 3)
	for range cap(written) { // one is filled, one waits, one is written
		written <- &chunk{}
	}
	var summary *Summary
	var unread error
	go func() {
		defer close(chunks)
		summary, unread = readChunks(reading, r, o, batch, now, erased, &included, chunks, written)
	}()
	var unwritten error
	for c := range chunks {
		if unwritten == nil { // else: what was under way when it failed
			if unwritten = c.write(ctx, tx, insert); unwritten != nil {
				stop()
			}
		}
		written <- c
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
	if len(included) > 0 {
		if err := erased.Lift(ctx, tx, batch.BatchID, included); err != nil {
			return nil, fmt.Errorf("import batch %d: %w", batch.BatchID, err)
		}
	}
	return summary, nil
}

// chunk is a run of rows on its way to the database, as COPY wants them.
type chunk struct {
	rows     copyRows
	valid    []int // the numbers of those that get a job
	from, to int   // the numbers of the first and the last
}

func (c *chunk) reset() { c.rows.reset(); c.valid = c.valid[:0]; c.from = 0 }

// readChunks reads a file's rows and sends them on in chunks. Those that were
// written come back to be filled again. included takes the people who were
// erased and are invited all the same.
func readChunks(ctx context.Context, r io.Reader, o Options, batch Target, now time.Time, erased *invitation.Erased, included *[]string, chunks chan<- *chunk, written <-chan *chunk) (*Summary, error) {
	c := <-written
	send := func() error {
		select {
		case chunks <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case c = <-written:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.reset()
		return nil
	}
	summary, err := Read(ctx, r, o, func(row *Row) error {
		if c.from == 0 {
			c.from = row.Number
		}
		c.to = row.Number
		gone := erased.Row(row.Key, row.Cells)
		if gone != nil && batch.IncludeErased {
			*included = append(*included, gone.Key)
			gone = nil
		}
		if row.Problem == nil && row.DuplicateOf == 0 && gone == nil {
			c.valid = append(c.valid, row.Number)
		}
		c.rows.add(batch, now, row, gone)
		if c.rows.n == chunkRows || len(c.rows.text) >= chunkBytes {
			return send()
		}
		return nil
	})
	if err == nil && c.rows.n > 0 {
		err = send()
	}
	return summary, err
}

// write writes a chunk's rows into results, and has insert insert their jobs.
func (c *chunk) write(ctx context.Context, tx pgx.Tx, insert func(ctx context.Context, tx pgx.Tx, rows []int) error) error {
	copied, err := tx.Conn().PgConn().CopyFrom(ctx, c.rows.reader(), copyCommand)
	if err != nil {
		return fmt.Errorf("write rows %d to %d: %w", c.from, c.to, err)
	}
	if n := copied.RowsAffected(); n != int64(c.rows.n) {
		return fmt.Errorf("write rows %d to %d: the database took %d of %d", c.from, c.to, n, c.rows.n)
	}
	if err := insert(ctx, tx, c.valid); err != nil {
		return fmt.Errorf("insert jobs of rows %d to %d: %w", c.from, c.to, err)
	}
	return nil
}
