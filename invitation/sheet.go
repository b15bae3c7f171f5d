package invitation

import (
	"encoding/csv"
	"fmt"
	"io"
	"time"
)

// ResultField is a column of ours in the results of a batch.
type ResultField struct {
	Name  string
	Value func(*Result) any // nil, or what JSON takes
}

// ResultFields follow the file's own columns.
var ResultFields = []ResultField{
	{"bulkinvite_outcome", func(r *Result) any { return nilOr(r.Outcome) }},
	{"bulkinvite_reason", func(r *Result) any { return nilOr(r.Reason) }},
	{"bulkinvite_email", func(r *Result) any { return nilOr(r.Email) }},
	{"bulkinvite_status", func(r *Result) any { return nilOr(r.Status) }},
	{"bulkinvite_clerk_invitation_id", func(r *Result) any { return nilOr(r.ClerkInvitationID) }},
	{"bulkinvite_decided_at", func(r *Result) any { return nilOr(r.DecidedAt) }},
	{"bulkinvite_row", func(r *Result) any { return r.RowNumber }},
	{"bulkinvite_line", func(r *Result) any { return r.Line }},
	{"bulkinvite_duplicate_of", func(r *Result) any { return nilOr(r.DuplicateOf) }},
}

// nilOr keeps a nil pointer from becoming an interface that is not nil.
func nilOr[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// ResultsCSV writes rows of a batch as RFC 4180 has it, the file's own columns
// first. A cell that a spreadsheet would take for a formula has an apostrophe in
// front.
func ResultsCSV(out io.Writer, columns []string, each func(func(*Result) error) error) error {
	w := csv.NewWriter(out)
	w.UseCRLF = true // RFC 4180
	record := make([]string, 0, len(columns)+len(ResultFields))
	for _, name := range columns {
		record = append(record, SpreadsheetSafe(name))
	}
	for _, f := range ResultFields {
		record = append(record, f.Name)
	}
	if err := w.Write(record); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	err := each(func(r *Result) error {
		record = record[:0]
		for i := range columns {
			cell := ""
			if i < len(r.Original) {
				cell = r.Original[i]
			}
			record = append(record, SpreadsheetSafe(cell))
		}
		for _, f := range ResultFields {
			record = append(record, SpreadsheetSafe(CellText(f.Value(r))))
		}
		return w.Write(record)
	})
	w.Flush()
	if err == nil {
		err = w.Error()
	}
	return err
}

// CellText writes a value for a table or CSV; nil is an empty cell.
func CellText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	default:
		return fmt.Sprint(v)
	}
}

// SpreadsheetSafe keeps a spreadsheet from taking a cell for a formula: what
// begins like one gets an apostrophe in front (OWASP, "CSV Injection").
func SpreadsheetSafe(cell string) string {
	if cell == "" {
		return cell
	}
	switch cell[0] {
	case '=', '+', '-', '@', '\t', '\r':
		return "'" + cell
	}
	return cell
}
