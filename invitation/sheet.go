package invitation

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// raggedRow is the reason of a row with more or fewer cells than the header:
// RaggedRow of the package importer, which imports this one.
const raggedRow = "ragged_row"

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
	return resultsCSV(out, columns, false, each)
}

// ProblemsCSV is [ResultsCSV] for the rows that can't be sent, to be corrected and
// uploaded again. columns are the header's alone. A row that has more or fewer cells
// has so many here too, and is ragged again: filled up, it would read as a complete
// row, with another person's address in its e-mail column perhaps.
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

// ResultsJSON writes rows of a batch as one JSON array of objects, the file's own
// columns first. A row without a cell of a column has null there.
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

// uniqueNames makes keys of a file's column names: none is empty, none comes
// twice, and none is one of ours.
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

// ordered is a JSON object whose keys keep their order.
type ordered []field

type field struct {
	name  string
	value any
}

// MarshalJSON writes the object.
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

// JSONArray writes one JSON array, an element a line, as its elements come.
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

// CellText writes a value for a table or CSV; nil is an empty cell.
func CellText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case Outcome:
		return string(v)
	case Status:
		return string(v)
	case int:
		return strconv.Itoa(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	default:
		return fmt.Sprint(v)
	}
}

// SpreadsheetSafe keeps a spreadsheet from taking a cell for a formula: a cell that
// begins like one gets an apostrophe in front (OWASP, "CSV Injection"). So does one
// that begins with a control character, or with a full-width sign, which Excel reads
// as its ASCII form in some locales. Characters without a width don't hide a sign.
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
