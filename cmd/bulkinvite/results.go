package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
)

// outFlags say how rows are printed.
type outFlags struct {
	Outcome string `enum:"invited,already_invited,already_registered,invalid,rejected,duplicate_row,failed,cancelled," default:"" placeholder:"OUTCOME" help:"Only rows that ended so: invited, already_invited, already_registered, invalid, rejected, duplicate_row, failed, cancelled. Default: all."`
	Format  string `enum:"table,csv,json" default:"table" placeholder:"table|csv|json" help:"How they are printed. Default: table; json with --json."`
}

func (f *outFlags) format(p *program) string {
	if p.json {
		return "json"
	}
	return f.Format
}

type resultsCmd struct {
	Batch int64 `arg:"" help:"The batch's number; bulkinvite batches lists them."`
	outFlags
}

// Help is shown before the flags.
func (resultsCmd) Help() string {
	return `Examples:

    bulkinvite results 12
    bulkinvite results 12 --outcome rejected
    bulkinvite results 12 --format csv > hires-results.csv

Rows come in the file's order. CSV and JSON have the file's own columns and then ours, named bulkinvite_outcome and so on. A CSV cell that a spreadsheet would take for a formula has an apostrophe in front.`
}

// Run prints the rows of a batch.
func (c *resultsCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	columns, err := report.Columns(ctx, pool, c.Batch)
	if err != nil {
		return noBatch(err)
	}
	each := func(yield func(*report.Result) error) error {
		return report.Results(ctx, pool, c.Batch, invitation.Outcome(c.Outcome), yield)
	}
	return p.stream(func(w io.Writer) error {
		switch c.format(p) {
		case "csv":
			return report.ResultsCSV(w, columns, each)
		case "json":
			return report.ResultsJSON(w, columns, each)
		}
		return resultsTable(w, p.outDisplay(), each)
	})
}

// stream writes a result of any length to standard output.
func (p *program) stream(write func(io.Writer) error) error {
	p.wrote = true
	w := bufio.NewWriterSize(p.out, 64<<10)
	err := write(w)
	if flushing := w.Flush(); err == nil && flushing != nil {
		err = fmt.Errorf("write to standard output: %w", flushing)
	}
	return err
}

// tableRows is how many rows are laid out at a time: a table of a million rows
// must not be held in memory to find its columns' widths.
const tableRows = 1000

// streamTable lays out rows as they come.
type streamTable struct {
	w       io.Writer
	display display
	table   table
}

func (s *streamTable) add(cells ...string) error {
	s.table.add(cells...)
	if len(s.table.rows) < tableRows {
		return nil
	}
	return s.flush()
}

func (s *streamTable) flush() error {
	if len(s.table.rows) == 0 {
		return nil
	}
	if _, err := io.WriteString(s.w, s.table.on(s.display)); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	s.table.least = s.table.widths()
	s.table.headed, s.table.rows = true, nil
	return nil
}

// newStreamTable has two columns of numbers before those of resultCells, and perhaps more after them.
func newStreamTable(w io.Writer, s display, first, second string, more ...string) *streamTable {
	head := []string{first, second, "E-mail", "Outcome", "Reason", "Status", "Invitation", "Decided"}
	return &streamTable{w: w, display: s, table: table{
		head: append(head, more...), right: []bool{true, true}, keep: []int{2: 12, 3: 10, 4: 10},
	}}
}

// resultCells say whose a row is and what became of it.
func resultCells(r *report.Result) []string {
	outcome, reason, stands, decided := "undecided", or(r.Reason), "", ""
	if r.Outcome != nil {
		outcome = string(*r.Outcome)
	}
	if r.DuplicateOf != nil {
		reason = "row " + strconv.Itoa(*r.DuplicateOf)
	}
	if r.Status != nil {
		stands = words.Status(*r.Status)
	}
	if r.DecidedAt != nil {
		decided = momentSeconds(*r.DecidedAt)
	}
	return []string{or(r.Email), outcome, reason, stands, or(r.ClerkInvitationID), decided}
}

func resultsTable(w io.Writer, s display, each func(func(*report.Result) error) error) error {
	t := newStreamTable(w, s, "Row", "Line")
	err := each(func(r *report.Result) error {
		return t.add(slices.Concat([]string{strconv.Itoa(r.RowNumber), strconv.Itoa(r.Line)}, resultCells(r))...)
	})
	if err != nil {
		return err
	}
	return t.flush()
}
