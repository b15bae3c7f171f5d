package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"bulkinvite/internal/invitation"
)

// raggedRow is the reason of a row with more or fewer cells than the header. It equals RaggedRow of
// package importer, which imports this package.
const raggedRow = "ragged_row"

// ResultField is a column that the program adds to the results of a batch.
type ResultField struct {
	Name  string
	Value func(*Result) any // returns nil or a value for JSON
}

// ResultFields are the added columns. They come after the file's own columns.
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

// nilOr turns a nil pointer into a nil interface.
func nilOr[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// ResultsCSV writes rows of a batch as CSV (RFC 4180), the file's own columns first. Cells that a
// spreadsheet would treat as a formula get an apostrophe in front; see [SpreadsheetSafe].
func ResultsCSV(out io.Writer, columns []string, each func(func(*Result) error) error) error {
	return resultsCSV(out, columns, false, each)
}

// ProblemsCSV is [ResultsCSV] for the rows that cannot be sent, so that people can fix and upload
// them again. columns are only the header's. A row with more or fewer cells than the header keeps
// its number of cells and stays ragged. If it were padded, it would look like a complete row,
// possibly with another person's address in the e-mail column.
func ProblemsCSV(out io.Writer, columns []string, each func(func(*Result) error) error) error {
	return resultsCSV(out, columns, true, each)
}

func resultsCSV(out io.Writer, columns []string, asRead bool, each func(func(*Result) error) error) error {
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
		cells := len(columns)
		if asRead && r.Reason != nil && *r.Reason == raggedRow {
			cells = len(r.Original)
		}
		for i := range cells {
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

// ResultsJSON writes rows of a batch as one JSON array of objects, the file's own columns first. A
// missing cell is null.
func ResultsJSON(out io.Writer, columns []string, each func(func(*Result) error) error) error {
	names := uniqueNames(columns)
	return JSONArray(out, func(add func(any) error) error {
		return each(func(r *Result) error {
			object := make(ordered, 0, len(names)+len(ResultFields))
			for i, name := range names {
				if i < len(r.Original) {
					object = append(object, field{name, r.Original[i]})
				} else {
					object = append(object, field{name, nil})
				}
			}
			for _, f := range ResultFields {
				object = append(object, field{f.Name, f.Value(r)})
			}
			return add(object)
		})
	})
}

// uniqueNames turns column names into JSON keys. No key is empty, appears twice, or equals an added
// column.
func uniqueNames(columns []string) []string {
	taken := map[string]bool{}
	for _, f := range ResultFields {
		taken[f.Name] = true
	}
	names := make([]string, len(columns))
	for i, name := range columns {
		if name == "" {
			name = "column " + strconv.Itoa(i+1)
		}
		unique := name
		for n := 2; taken[unique]; n++ {
			unique = fmt.Sprintf("%s (%d)", name, n)
		}
		taken[unique] = true
		names[i] = unique
	}
	return names
}

// ordered is a JSON object that keeps the order of its keys.
type ordered []field

type field struct {
	name  string
	value any
}

// MarshalJSON writes the keys in order.
func (o ordered) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// JSONArray writes one JSON array with one element on each line, as the elements arrive.
func JSONArray(w io.Writer, each func(add func(any) error) error) error {
	first := true
	err := each(func(v any) error {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("write as JSON: %w", err)
		}
		start := ",\n"
		if first {
			start, first = "[\n", false
		}
		if _, err := fmt.Fprintf(w, "%s%s", start, text); err != nil {
			return fmt.Errorf("write a JSON array: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	end := "\n]\n"
	if first {
		end = "[]\n"
	}
	if _, err := io.WriteString(w, end); err != nil {
		return fmt.Errorf("write a JSON array: %w", err)
	}
	return nil
}

// CellText returns the text of a value for a table or CSV. nil is an empty cell.
func CellText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case invitation.Outcome:
		return string(v)
	case invitation.Status:
		return string(v)
	case int:
		return strconv.Itoa(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	default:
		return fmt.Sprint(v)
	}
}

// SpreadsheetSafe prevents spreadsheets from treating a cell as a formula. It puts an apostrophe in
// front of a cell that begins like a formula (OWASP, "CSV Injection"), with a control character, or
// with a full-width sign, which Excel reads as its ASCII form in some locales. It skips leading
// format characters, which have no width, so they cannot hide a sign.
func SpreadsheetSafe(cell string) string {
	for _, c := range cell {
		switch {
		case strings.ContainsRune("=+-@＝＋－＠", c), unicode.IsControl(c):
			return "'" + cell
		case !unicode.Is(unicode.Cf, c):
			return cell
		}
	}
	return cell
}
