package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"

	"bulkinvite/invitation"
	"bulkinvite/words"
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
func (c *resultsCmd) Run(ctx context.Context, p *program) error {
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	reader := invitation.NewReader(pool)
	columns, err := reader.Columns(ctx, c.Batch)
	if err != nil {
		return noBatch(err)
	}
	each := func(yield func(*invitation.Result) error) error {
		return reader.Results(ctx, c.Batch, invitation.Outcome(c.Outcome), yield)
	}
	return p.stream(func(w io.Writer) error {
		switch c.format(p) {
		case "csv":
			return invitation.ResultsCSV(w, columns, each)
		case "json":
			return invitation.ResultsJSON(w, columns, each)
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

func resultsTable(w io.Writer, s display, each func(func(*invitation.Result) error) error) error {
	t := streamTable{w: w, display: s, table: table{
		head:  []string{"Row", "Line", "E-mail", "Outcome", "Reason", "Status", "Invitation", "Decided"},
		right: []bool{true, true},
		keep:  []int{2: 12, 3: 10, 4: 10},
	}}
	err := each(func(r *invitation.Result) error {
		return t.add(strconv.Itoa(r.RowNumber), strconv.Itoa(r.Line), or(r.Email), outcomeText(r), reasonText(r),
			standsText(r.Status), or(r.ClerkInvitationID), decidedText(r))
	})
	if err != nil {
		return err
	}
	return t.flush()
}

func outcomeText(r *invitation.Result) string {
	if r.Outcome == nil {
		return "undecided"
	}
	return string(*r.Outcome)
}

func reasonText(r *invitation.Result) string {
	if r.DuplicateOf != nil {
		return "row " + strconv.Itoa(*r.DuplicateOf)
	}
	return or(r.Reason)
}

func decidedText(r *invitation.Result) string {
	if r.DecidedAt == nil {
		return ""
	}
	return momentSeconds(*r.DecidedAt)
}

// standsText says where an invitation stands, as a table has it.
func standsText(s *invitation.Status) string {
	if s == nil {
		return ""
	}
	return words.Status(*s)
}
