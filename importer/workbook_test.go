package importer

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"bulkinvite/internal/must"
)

// book makes a workbook. A sheet's rows begin at A1.
func book(t *testing.T, more func(*excelize.File), sheets ...sheetOf) string {
	t.Helper()
	f := excelize.NewFile()
	for i, s := range sheets {
		if i == 0 {
			must.OK(t, f.SetSheetName("Sheet1", s.name))
		} else if _, err := f.NewSheet(s.name); err != nil {
			t.Fatal(err)
		}
		for row, cells := range s.rows {
			must.OK(t, f.SetSheetRow(s.name, fmt.Sprintf("A%d", row+1), &cells))
		}
	}
	if more != nil {
		more(f)
	}
	b, err := f.WriteToBuffer()
	must.OK(t, err)
	return b.String()
}

type sheetOf struct {
	name string
	rows [][]any
}

// parts are those of the smallest workbook around a worksheet's XML.
func parts(sheet string) [][2]string {
	const relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
	return [][2]string{
		{"[Content_Types].xml", `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>`},
		{"_rels/.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="` + relations + `/officeDocument" Target="xl/workbook.xml"/></Relationships>`},
		{"xl/workbook.xml", `<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="` + relations + `"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>`},
		{"xl/_rels/workbook.xml.rels", `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="` + relations + `/worksheet" Target="worksheets/sheet1.xml"/></Relationships>`},
		{"xl/worksheets/sheet1.xml", sheet},
	}
}

func pack(t testing.TB, parts [][2]string) string {
	t.Helper()
	return zipped(t, zip.Deflate, parts)
}

func zipped(t testing.TB, method uint16, parts [][2]string) string {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, part := range parts {
		w, err := z.CreateHeader(&zip.FileHeader{Name: part[0], Method: method})
		must.OK(t, err)
		_, err = io.WriteString(w, part[1])
		must.OK(t, err)
	}
	must.OK(t, z.Close())
	return out.String()
}

// rawSheet is a worksheet whose rows are given as XML.
func rawSheet(rows string) string {
	return `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>` + rows + `</sheetData></worksheet>`
}

// rawRow is a row of inline strings; number 0: it isn't written.
func rawRow(number int, cells ...string) string {
	row := "<row>"
	if number > 0 {
		row = fmt.Sprintf(`<row r="%d">`, number)
	}
	for i, cell := range cells {
		name := ""
		if number > 0 {
			name, _ = excelize.CoordinatesToCellName(i+1, number)
			name = ` r="` + name + `"`
		}
		row += `<c t="inlineStr"` + name + `><is><t>` + cell + `</t></is></c>`
	}
	return row + "</row>"
}

func TestReadWorkbook(t *testing.T) {
	t.Parallel()
	hideOld := func(f *excelize.File) { must.OK(t, f.SetSheetVisible("Old", false)) }
	people := sheetOf{"People", [][]any{{"Name", "E-Mail", "Note"}, {"Jane", "a@x.com", "x"}, {"Joe", "b@x.com"}}}
	for _, test := range []struct {
		name, text, want, sheet string
		blank                   int
		warnings                []string
	}{
		{name: "plain", text: book(t, nil, people), want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People"},
		{name: "the second sheet", text: book(t, nil, sheetOf{"Read me", [][]any{{"Hires of 2026"}}}, people), want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People"},
		{name: "two sheets", text: book(t, nil, people, sheetOf{"Leavers", [][]any{{"email"}, {"c@x.com"}}}), want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People", warnings: []string{"0@0 " + OtherSheets}},
		{name: "addresses on a sheet without an e-mail column",
			text: book(t, nil, sheetOf{"Hires", [][]any{{"Name", "Candidate Email"}, {"Jo", "c@x.com"}}}, people),
			want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People", warnings: []string{"0@0 " + OtherSheets}},
		{name: "addresses under a title on a later sheet",
			text: book(t, nil, people, sheetOf{"Private", [][]any{{"2026"}, {}, {"Personal Email"}, {"c@x.com"}}}),
			want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People", warnings: []string{"0@0 " + OtherSheets}},
		{name: "a hidden sheet before", text: book(t, hideOld, people, sheetOf{"Old", [][]any{{"email"}, {"c@x.com"}}}),
			want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People"},
		{name: "title and blank rows", text: book(t, nil, sheetOf{"S", [][]any{{"New hires"}, {}, {"Name", "E-Mail"}, {"Jane", "a@x.com"}, {}, {}, {"Joe", "b@x.com"}, {"", " "}}}),
			want: "1@4 a@x.com\n2@7 b@x.com\n", sheet: "S", blank: 4},
		{name: "hidden rows",
			text: book(t, func(f *excelize.File) { must.OK(t, f.SetRowVisible("People", 3, false)) }, people),
			want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People", warnings: []string{"2@3 " + HiddenRow}},
		{name: "merged", text: book(t, func(f *excelize.File) { must.OK(t, f.MergeCell("People", "B2", "B3")) }, people),
			want: "1@2 a@x.com\n2@3 !merged_cell\n", sheet: "People"},
		{name: "formulas", text: pack(t, parts(rawSheet(rawRow(1, "name", "email")+
			`<row r="2"><c r="A2"><f>1+1</f></c><c r="B2" t="str"><f>LOWER("A@x.com")</f><v>a@x.com</v></c></row><row r="3"><c r="B3" t="e"><f>NA()</f><v>#N/A</v></c></row>`))),
			want: "1@2 a@x.com\n2@3 !no_at\n", sheet: "S", warnings: []string{"0@2 " + UncomputedFormula}},
		{name: "places left out", text: pack(t, parts(rawSheet(rawRow(0, "name", "email")+rawRow(0, "Jane", "a@x.com")))), want: "1@2 a@x.com\n", sheet: "S"},
		{name: "rows with gaps", text: pack(t, parts(rawSheet(rawRow(3, "name", "email")+rawRow(7, "Jane", "a@x.com")+rawRow(1000000)))), want: "1@7 a@x.com\n", sheet: "S", blank: 5},
		{name: "NUL", text: pack(t, parts(rawSheet(rawRow(1, "name", "email")+rawRow(2, "J", "a@x_x0000_.com")))), want: "1@2 !bad_encoding\n", sheet: "S"},
		{name: "a value beside the table", text: book(t, nil, sheetOf{"S", [][]any{{"email"}, {"a@x.com"}, {"b@x.com", nil, "ask Tom"}}}), want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "S"},
		{name: "in gzip", text: gzipped(t, book(t, nil, people)), want: "1@2 a@x.com\n2@3 b@x.com\n", sheet: "People"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rows, s, err := read(t, test.text, Options{})
			must.OK(t, err)
			if got := brief(rows); got != test.want {
				t.Errorf("got:\n%swant:\n%s", got, test.want)
			}
			var warnings []string
			for _, w := range s.Warnings {
				warnings = append(warnings, fmt.Sprintf("%d@%d %s", w.Row, w.Line, w.Code))
			}
			if s.Sheet != test.sheet || s.Blank != test.blank || s.Encoding != EncodingWorkbook || !slices.Equal(warnings, test.warnings) {
				t.Errorf("summary %+v, warnings %q", s, warnings)
			}
			for _, row := range rows {
				if len(row.Cells) != len(s.Columns.Found) {
					t.Errorf("row %d has %d cells, the header %d", row.Number, len(row.Cells), len(s.Columns.Found))
				}
			}
		})
	}
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, text)
	must.OK(t, errors.Join(err, w.Close()))
	return packed.String()
}

// Cells are read as the sheet shows them; what Excel leaves to the computer's
// region, a short date, is in ISO 8601.
func TestReadWorkbookCells(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	text := book(t, func(f *excelize.File) {
		german, short := "dd.mm.yyyy", 14
		for cell, style := range map[string]*excelize.Style{"C2": {CustomNumFmt: &german}, "D2": {NumFmt: short}, "E2": {NumFmt: 9}, "F2": {NumFmt: 2}} {
			id, err := f.NewStyle(style)
			must.OK(t, errors.Join(err, f.SetCellStyle("S", cell, cell, id)))
		}
		bold := excelize.RichTextRun{Text: "Doe", Font: &excelize.Font{Bold: true}}
		must.OK(t, f.SetCellRichText("S", "G2", []excelize.RichTextRun{{Text: "Jane "}, bold}))
	}, sheetOf{"S", [][]any{
		{"email", "expires_in_days", "Start", "Born", "Share", "Pay", "Name", "OK", "Code"},
		{"a@x.com", 14, day, day, 0.25, 1234.5, "", true, "0042"},
	}})
	rows, _, err := read(t, text, Options{})
	must.OK(t, err)
	want := []string{"a@x.com", "14", "01.12.2026", "2026-12-01", "25%", "1234.50", "Jane Doe", "TRUE", "0042"}
	if row := rows[0]; !slices.Equal(row.Cells, want) || row.ExpiresInDays != 14 {
		t.Errorf("cells %q, want %q", row.Cells, want)
	}
}

func TestReadWorkbookErrors(t *testing.T) {
	t.Parallel()
	hideOld := func(f *excelize.File) { must.OK(t, f.SetSheetVisible("Old", false)) }
	good := rawSheet(rawRow(1, "email") + rawRow(2, "a@x.com"))
	whole, stored := pack(t, parts(good)), zipped(t, zip.Store, parts(good))
	var locked bytes.Buffer
	f := excelize.NewFile()
	must.OK(t, f.Write(&locked, excelize.Options{Password: "secret"}))
	for _, test := range []struct {
		name, text, what, fix string
		o                     Options
	}{
		{name: "no archive", text: "PK\x03\x04aaaaaaaaa", what: "workbook is damaged"},
		{name: "cut off", text: whole[:len(whole)-30], what: "workbook is damaged"},
		{name: "a flipped byte", text: strings.Replace(stored, "a@x.com", "b@x.com", 1), what: "checksum"},
		{name: "a flipped byte in the list of sheets", text: strings.Replace(stored, `name="S"`, `name="T"`, 1), what: "checksum"},
		{name: "sheet breaks off", text: pack(t, parts(good[:len(good)-30])), what: "workbook is damaged", fix: "save it again"},
		{name: "rows out of order", text: pack(t, parts(rawSheet(rawRow(2, "email")+rawRow(1, "a@x.com")))), what: "out of order"},
		{name: "a row twice", text: pack(t, parts(rawSheet(rawRow(1, "email")+rawRow(2, "a@x.com")+rawRow(2, "b@x.com")))), what: "out of order"},
		{name: "cells out of order", text: pack(t, parts(rawSheet(rawRow(1, "name", "email")+`<row r="2"><c r="B2"><v>1</v></c><c r="A2"><v>2</v></c></row>`))), what: "out of order"},
		{name: "a cell of another row", text: pack(t, parts(rawSheet(rawRow(1, "name", "email")+`<row r="2"><c r="A3"><v>1</v></c></row>`))), what: "out of order"},
		{name: "a part twice", text: pack(t, append(parts(good), [2]string{"xl/worksheets/sheet1.xml", good})), what: "two parts of one name"},
		{name: "no sheet", text: pack(t, parts(good)[:4]), what: "lacks its part"},
		{name: "another archive", text: pack(t, [][2]string{{"a.csv", "email"}}), what: "a zip archive, not", fix: "save it as .xlsx"},
		{name: "OpenDocument", text: pack(t, [][2]string{{"mimetype", "x"}, {"content.xml", "x"}}), what: "an OpenDocument file"},
		{name: "binary", text: pack(t, replaced(parts(good), map[string]string{"_rels/.rels": `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="a/officeDocument" Target="xl/workbook.bin"/></Relationships>`})), what: "binary workbook"},
		{name: "old", text: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("W", 300_000), what: "an old Excel workbook", fix: ".xlsx"},
		{name: "password", text: locked.String(), what: "protected by a password", fix: "take the password off"},
		{name: "empty", text: book(t, nil), what: "the file is empty"},
		{name: "no column", text: book(t, nil, sheetOf{"S", [][]any{{"Name", "Zugang"}, {"Jane", "a@x.com"}}}), what: "no e-mail column. Found: Name, Zugang", fix: `--map email="Zugang"`},
		{name: "hidden alone",
			text: book(t, hideOld, sheetOf{"S", [][]any{{"Name"}}}, sheetOf{"Old", [][]any{{"email"}, {"c@x.com"}}}),
			what: `only the hidden sheet "Old"`},
		{name: "an encoding", text: whole, o: Options{Encoding: "utf-8"}, what: "no encoding"},
		{name: "wide", text: book(t, nil, sheetOf{"S", [][]any{{"email", 1, 2, 3, 4}}}), o: Options{Limits: Limits{Columns: 4}}, what: "more than 4 cells"},
		{name: "a long row", text: pack(t, parts(rawSheet(rawRow(1, "email")+rawRow(2, strings.Repeat("x", 3000))))), o: Options{Limits: Limits{LineBytes: 2000}}, what: "row is longer than 2000"},
		{name: "a row of much markup", text: pack(t, parts(rawSheet(rawRow(1, "email")+`<row r="2"><!--`+strings.Repeat("x", 3000)+`--></row>`))), o: Options{Limits: Limits{LineBytes: 2000}}, what: "row is longer than 2000"},
		{name: "a long cell", text: pack(t, parts(rawSheet(rawRow(1, "email")+rawRow(2, strings.Repeat("x", 3000))))), o: Options{Limits: Limits{CellBytes: 2000}}, what: "cell is longer than 2000"},
		{name: "a bomb", text: pack(t, append(parts(good), [2]string{"xl/media/a.png", strings.Repeat("\x00", 20<<20)})), what: "unpacks to more than"},
		{name: "many rows", text: book(t, nil, sheetOf{"S", [][]any{{"email"}, {"a"}, {"b"}}}), o: Options{Limits: Limits{Rows: 1}}, what: "more than 1 rows"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_ = refuse(t, test.text, test.o, test.what, test.fix)
		})
	}
}

// A sheet and texts too large for memory go by way of a file, and nothing of the
// workbook is left on disk, however the reading ends.
func TestReadLargeWorkbook(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	f := excelize.NewFile()
	for i := range 12_000 {
		row := []any{fmt.Sprintf("p%d@x.com", i), strings.Repeat("n", 120) + fmt.Sprint(i)}
		if i == 0 {
			row = []any{"email", "note"}
		}
		must.OK(t, f.SetSheetRow("Sheet1", fmt.Sprintf("A%d", i+1), &row))
	}
	b, err := f.WriteToBuffer()
	must.OK(t, err)
	text := b.String()
	rows, s, err := read(t, text, Options{})
	must.OK(t, err)
	if s.Valid != 11_999 || rows[11_998].Email != "p11999@x.com" || rows[11_998].Line != 12_000 {
		t.Errorf("summary %+v, last row %+v", s, rows[len(rows)-1])
	}
	enough := errors.New("enough")
	if _, err := Read(context.Background(), strings.NewReader(text), Options{}, func(*Row) error { return enough }); err != enough {
		t.Errorf("err %v", err)
	}
	if _, _, err := read(t, text[:len(text)/2], Options{}); err == nil {
		t.Error("half a workbook is read")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A reading that is called off ends at once, wherever it is, says that it was called
// off and not that the file is bad, and leaves nothing behind.
func TestReadWorkbookCalledOff(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var texts, rows strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&texts, `<si><t>p%d@x.com</t></si>`, i)
		fmt.Fprintf(&rows, `<row><c t="s"><v>%d</v></c></row>`, i)
	}
	all := append(parts(rawSheet(rawRow(1, "email")+rows.String())), [2]string{sharedStringsPart, `<sst>` + texts.String() + `</sst>`})
	text := pack(t, all)
	whole := time.Now()
	if _, _, err := read(t, text, Options{}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(whole)
	for part := range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(took*time.Duration(part)/4, cancel)
		_, err := Read(ctx, strings.NewReader(text), Options{}, func(*Row) error { return nil })
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("called off after %d quarters: %v", part, err)
		}
		cancel()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}
