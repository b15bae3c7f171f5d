package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"

	"bulkinvite/importer"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// checked is what these tests look at of check --json.
type checked struct {
	Rows, Valid, Invalid int
	Problems             []importer.Problem
	Warnings             []importer.Problem
	Encoding, Delimiter  string
	Sheet                string
	Columns              importer.Columns
}

// TestCheckNamesEveryFault: of a hundred rows with twenty planted faults all
// twenty are named, with line, column and code, and nothing else.
func TestCheckNamesEveryFault(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := decode[checked](t, b.run("check", "--json", "../../importer/testdata/bad_hundred.csv").want(t, exitRows))
	want := []string{
		"4 email missing_email", "8 email no_at", "15 email bad_local", "18 email bad_local", "24 email bad_domain",
		"29 email bad_domain", "33 email no_dot_domain", "36 email too_long", "41 email too_long", "44 email several_addresses",
		"51 email bad_local", "55 email bad_domain", "59 redirect_url bad_redirect_url", "64 email bad_encoding", "67 expires_in_days bad_expires_in_days",
		"73 expires_in_days bad_expires_in_days", "80  ragged_row", "86  bad_quotes", "93 email bad_encoding", "103 email no_at",
	}
	var got []string
	for _, p := range d.Problems {
		got = append(got, fmt.Sprintf("%d %s %s", p.Line, p.Column, p.Code))
	}
	if !slices.Equal(got, want) || d.Rows != 100 || d.Valid != 80 || d.Invalid != 20 || len(d.Warnings) > 0 {
		t.Errorf("rows %d, valid %d, warnings %v, problems:\n%s", d.Rows, d.Valid, d.Warnings, strings.Join(got, "\n"))
	}
}

// TestProblemsComeBack: the file of bad rows has them all, and only them, in the
// shape of the file; sent as it is, each row has its problem still, and what is
// mended is sent. So has the file of bad rows of that file.
func TestProblemsComeBack(t *testing.T) {
	t.Parallel()
	german, err := charmap.Windows1252.NewEncoder().String("Name;E-Mail;Notiz\r\nJürgen;juergen;=1+1\r\nZoë;zoe@example.com;\r\n\"Ann;ann@example.com;x\r\nBob;\"bob\";\"a\r\nb;c\"\r\n\"Eve\" E;eve@example.com;\"y\"\r\nMax;max@example.com\r\n")
	must.OK(t, err)
	for _, test := range []struct{ name, text, delimiter string }{
		{"hundred.csv", readFile(t, "../../importer/testdata/bad_hundred.csv"), ","},
		{"german.csv", german, ";"},
		{"tabs.tsv", "name\temail\nA \"x\"\tnobody\n\"B\tb@x.com\nC\tc@x.com\n", "\t"},
		{"one.txt", "email\nnobody\n\"open@x.com\n\"\"\"\na@x.com\n", ","},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			file := b.file(test.name, test.text)
			first := filepath.Join(b.dir, "bad1.csv")
			before := decode[checked](t, b.run("check", "--json", file, "--problems", first).want(t, exitRows))
			second := filepath.Join(b.dir, "bad2.csv")
			after := decode[checked](t, b.run("check", "--json", first, "--problems", second).want(t, exitRows))
			again := decode[checked](t, b.run("check", "--json", second).want(t, exitRows))
			if before.Invalid == 0 || after.Rows != before.Invalid || after.Invalid != before.Invalid || after.Delimiter != test.delimiter || after.Encoding != "UTF-8" {
				t.Errorf("%d bad rows; in their file %d, of them %d bad; delimiter %q, %s", before.Invalid, after.Rows, after.Invalid, after.Delimiter, after.Encoding)
			}
			if want := append([]string{importer.ProblemColumn}, before.Columns.Found...); !slices.Equal(after.Columns.Found, want) || !slices.Equal(again.Columns.Found, want) {
				t.Errorf("columns %q, then %q, want %q", after.Columns.Found, again.Columns.Found, want)
			}
			if codes(before) != codes(after) || codes(after) != codes(again) {
				t.Errorf("problems %s, then %s, then %s", codes(before), codes(after), codes(again))
			}
		})
	}
}

func codes(d checked) string {
	var all []string
	for _, p := range d.Problems {
		all = append(all, p.Code)
	}
	return strings.Join(all, " ")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must.OK(t, err)
	return string(text)
}

// TestProblemsSuggest: an address with characters that only look right is no other
// person's. What was probably meant is said where the cells are shown, and nowhere else.
func TestProblemsSuggest(t *testing.T) {
	t.Parallel()
	b := newBench(t, "CLERK_API_URL="+newStand(t, sandbox.Config{}).url, "CLERK_SECRET_KEY=sk_test_x")
	file := b.file("odd.csv", "email,name,note\nann@acme–tools.example,Ann,x\nben@acme.example™,Ben,x\n"+
		"cid@½.example,Cid,x\n'dora@acme.example,Dora,x\neve@acme.local,Eve,x\n"+
		"fay_acme.example#EXT#@other.example,Fay,x\ngus@acme.example,Gus\n")
	bad := filepath.Join(b.dir, "bad.csv")
	o := b.run("check", "--json", file, "--problems", bad).want(t, exitRows)
	d := decode[checked](t, o)
	var got []string
	for _, p := range append(d.Problems, d.Warnings...) {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Code))
	}
	want := []string{"2 bad_domain", "3 bad_domain", "4 bad_domain", "6 internal_domain", "7 guest_account",
		"8 short_row"}
	if !slices.Equal(got, want) || d.Valid != 4 {
		t.Fatalf("%d valid, %q, want %q", d.Valid, got, want)
	}
	for i, meant := range []string{"; did you mean ann@acme-tools.example?", "; did you mean ben@acme.example?", ""} {
		message := d.Problems[i].Message
		if strings.Contains(message, "did you mean") != (meant != "") || !strings.HasSuffix(message, meant) {
			t.Errorf("row %d: %s", i+1, message)
		}
	}
	expect.Text(t, readFile(t, bad), "did you mean ann@acme-tools.example? (bad_domain)")
	plan := b.run("check", file).want(t, exitRows)
	imported := b.run("import", "--yes", "--draft", file).want(t, exitRows)
	for _, err := range []string{o.err, plan.err, imported.err} {
		expect.NoText(t, err, "acme")
	}
}

func TestProblemsKeepTheFile(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := b.file("hires.csv", oddFile)
	b.run("check", file, "--problems", file).want(t, exitUsage)
	expect.Equal(t, "the file that was checked", readFile(t, file), oddFile)
}

// TestMetadataColumns: they become public_metadata, and those that are not named
// do not.
func TestMetadataColumns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := b.file("m.csv", "email,Team,Pay\na@x.com,Sales,9\n")
	d := decode[checked](t, b.run("check", "--json", file, "--metadata", "team").want(t, exitOK))
	if d.Columns.Mapped["public_metadata.Team"] != "Team" || len(d.Columns.Mapped) != 2 || !slices.Equal(d.Columns.Ignored, []string{"Pay"}) {
		t.Errorf("%+v", d.Columns)
	}
	expect.Text(t, b.run("check", file, "--metadata", "Tem").want(t, exitUsage).err, `--metadata "Team"`)
}
