package importer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/must"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The files in testdata are of the shapes that people send; beside each stands
// what is made of it.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*_*")
	must.OK(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, ".golden") {
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			got := digest(t, name)
			golden := name + ".golden"
			if *update {
				must.OK(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			must.OK(t, err)
			if got != string(want) {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
			if good := strings.HasPrefix(filepath.Base(name), "good_"); good == strings.Contains(got, "!") {
				t.Errorf("a file called good has problems, or one called bad has none:\n%s", got)
			}
		})
	}
}

// digest writes down all that is made of a file.
func digest(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	must.OK(t, err)
	defer func() { _ = f.Close() }() // it was only read
	var out strings.Builder
	var rows []*Row
	s, err := Read(context.Background(), f, Options{}, func(row *Row) error {
		rows = append(rows, kept(row))
		return nil
	})
	var fault *FileError
	if errors.As(err, &fault) {
		return fmt.Sprintf("! %v\n  %s\n", fault, fault.Remedy())
	}
	must.OK(t, err)
	account(t, rows, s)
	fmt.Fprintf(&out, "%s, %q, %d rows (%d valid, %d invalid, %d duplicate), %d blank, header on line %d\n", s.Encoding, s.Delimiter, s.Rows, s.Valid, s.Invalid, s.DuplicateRow, s.Blank, s.HeaderLine)
	for _, ours := range slices.Sorted(maps.Keys(s.Columns.Mapped)) {
		fmt.Fprintf(&out, "%s is %q\n", ours, s.Columns.Mapped[ours])
	}
	fmt.Fprintf(&out, "ignored %q\n", s.Columns.Ignored)
	for _, row := range rows {
		if p := row.Problem; p != nil {
			fmt.Fprintf(&out, "! row %d, line %d, %q: %s: %s\n", p.Row, p.Line, p.Column, p.Code, p.Message)
		} else if strings.HasSuffix(name, "bad_hundred.csv") {
			continue
		}
		fmt.Fprintf(&out, "row %d, line %d: %s %q", row.Number, row.Line, row.Email, row.Cells)
		if row.DuplicateOf > 0 {
			fmt.Fprintf(&out, " the same as row %d", row.DuplicateOf)
		}
		if len(row.Notes) > 0 {
			fmt.Fprintf(&out, " (%s)", strings.Join(row.Notes, ", "))
		}
		out.WriteString("\n")
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(&out, "? row %d, line %d, %q: %s: %s\n", w.Row, w.Line, w.Column, w.Code, w.Message)
	}
	return out.String()
}

// A hundred rows with twenty faults: these twenty are named, and nothing else.
func TestReadHundredRows(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/bad_hundred.csv")
	must.OK(t, err)
	_, s, err := read(t, string(text), Options{})
	must.OK(t, err)
	want := map[int]string{
		3: MissingEmail, 7: NoAt, 12: BadLocal, 15: BadLocal, 21: BadDomain, 26: BadDomain, 30: NoDotDomain, 33: TooLong, 38: TooLong,
		41: SeveralAddresses, 48: BadLocal, 52: BadDomain, 56: BadRedirectURL, 61: BadEncoding,
		64: BadExpiresInDays, 70: BadExpiresInDays, 77: RaggedRow, 83: BadQuotes, 90: BadEncoding, 100: NoAt,
	}
	columns := map[string]string{BadRedirectURL: "redirect_url", BadExpiresInDays: "expires_in_days", RaggedRow: "", BadQuotes: ""}
	if len(s.Problems) != len(want) || s.Rows != 100 || s.Valid != 80 || len(s.Warnings) != 0 {
		t.Errorf("%d problems, %d rows, %d valid, warnings %v", len(s.Problems), s.Rows, s.Valid, s.Warnings)
	}
	for _, p := range s.Problems {
		line := p.Row + 1
		if p.Row > 10 {
			line += 2 // row 10 has a name of three lines
		}
		column, other := columns[p.Code]
		if !other {
			column = "email"
		}
		if p.Code != want[p.Row] || p.Line != line || p.Column != column {
			t.Errorf("row %d: %+v, want %s on line %d in column %q", p.Row, p, want[p.Row], line, column)
		}
	}
}

// What the documents say of the examples.
func TestExamples(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"hires.csv":              "UTF-8: 19 valid, 0 invalid, 1 duplicate",
		"messy.csv":              "UTF-8: 17 valid, 2 invalid, 1 duplicate",
		"hires.xlsx":             "Excel workbook: 3 valid, 0 invalid, 0 duplicate",
		"hires-excel-german.csv": "Windows-1252: 3 valid, 0 invalid, 0 duplicate",
		"options.csv":            "UTF-8: 3 valid, 0 invalid, 0 duplicate",
		"mend-me.csv":            "UTF-8: 2 valid, 4 invalid, 0 duplicate",
	} {
		text, err := os.ReadFile(filepath.Join("../examples", name))
		must.OK(t, err)
		_, s, err := read(t, string(text), Options{})
		must.OK(t, err)
		if got := fmt.Sprintf("%s: %d valid, %d invalid, %d duplicate", s.Encoding, s.Valid, s.Invalid, s.DuplicateRow); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
