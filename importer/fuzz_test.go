package importer

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
)

// small limits, so that a fuzzer's inputs reach them.
var fuzzLimits = Limits{Rows: 500, Columns: 50, CellBytes: 2000, LineBytes: 5000, FileBytes: 1 << 20}

func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"email,name\na@x.com,A\nb@x.com,B\n", "sep=;\r\nName;E-Mail\r\n\"A\r\nB\";a@x.com\r\n", "email\rA@x.com\r\ra@x.com",
		"email,name\na@x.com,\"A\nb@x.com,\"B, C\"\nc@x.com,C\n", "\xff\xfee\x00m\x00a\x00i\x00l\x00\n\x00a\x00", "\ufeffTitle\n\nname|email\n|\n",
		"email,name\na@x.com,Zo\xeb\nb@x.com,\x00\n", "work email,email\n,a@x.com\n", "version:v1.0\nBy,h@x.com\n\nRoom,Email\nO,h@x.com\n\nEmail,Name\na@x.com,A\n", "email,expires_in_days,public_metadata.a\na@x.com,7,b\na@x.com,8,\n",
		"email\n\"a\"\"b\"@x.com\n\"\"\"\n\"\n", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\xcd\x4d\xcc\xcc\xe1\x02\x00", "名前,メール\n\"山\"\"田\",a@x.com\n",
		"email\nJANE@X.com\nJane <jane@x.COM>\njane@BÜCHER.example\nJ@xn--bcher-kva.example\n",
		"email,name\na@x.com,b\r\r\n\r\r\n,\r\r\nc@x.com,d\n", "email,\"name\"x\r\n\"a@x.com\"\r,\r\n",
	} {
		f.Add([]byte(text))
	}
	for _, text := range samples(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var rows []*Row
		s, err := Read(context.Background(), strings.NewReader(string(text)), Options{Limits: fuzzLimits}, func(row *Row) error {
			rows = append(rows, kept(row))
			return nil
		})
		if err != nil {
			var fault *FileError
			if !errors.As(err, &fault) || strings.Contains(fault.Error(), "\n") {
				t.Fatalf("not a one-line FileError: %v", err)
			}
			return
		}
		account(t, rows, s)
		sameRecords(t, text, rows, s)
		seen := map[string]int{}
		for _, row := range rows {
			for _, cell := range row.Cells {
				if !utf8.ValidString(cell) || strings.IndexByte(cell, 0) >= 0 {
					t.Fatalf("row %d has a cell %q", row.Number, cell)
				}
			}
			if p := row.Problem; p != nil && remedies[p.Code] == "" && p.Code != RaggedRow {
				t.Fatalf("row %d has the unknown problem %q", row.Number, p.Code)
			}
			if key, err := invitation.Key(row.Email); row.Problem == nil && (err != nil || key != row.Key) {
				t.Fatalf("row %d has the key %q, its address has %q, %v", row.Number, row.Key, key, err)
			}
			if row.Problem == nil && row.DuplicateOf != seen[row.Key] {
				t.Fatalf("row %d is a duplicate of %d, want %d", row.Number, row.DuplicateOf, seen[row.Key])
			}
			if row.Problem == nil && seen[row.Key] == 0 {
				seen[row.Key] = row.Number
			}
		}
	})
}

// samples are the files in testdata.
func samples(f *testing.F) [][]byte {
	f.Helper()
	names, err := filepath.Glob("testdata/*_*")
	must.OK(f, err)
	var texts [][]byte
	for _, name := range names {
		if strings.HasSuffix(name, ".golden") {
			continue
		}
		text, err := os.ReadFile(name)
		must.OK(f, err)
		texts = append(texts, text)
	}
	return texts
}

// sameRecords checks that the rows that came are the records that are in the
// file, no more and no fewer: as the splitter cuts them, of which FuzzSplit
// shows that it loses nothing, and where encoding/csv has nothing to object to
// the text, cell for cell as that reads them.
func sameRecords(t *testing.T, file []byte, rows []*Row, s *Summary) {
	t.Helper()
	if s.Sheet != "" {
		return
	}
	in, _, err := unpack(bytes.NewReader(file), fuzzLimits.FileBytes)
	must.OK(t, err)
	o := Options{Limits: fuzzLimits}
	l, err := openText(in, o)
	must.OK(t, err)
	behind, blanks := 0, 0
	for {
		text, line, broken, err := l.split.next()
		if err == io.EOF {
			break
		}
		must.OK(t, err)
		if len(text) == 0 {
			blanks++
			continue
		}
		rec, err := l.record(text, line, broken)
		must.OK(t, err)
		if !rec.broken && !rec.lost && blank(rec.cells) {
			blanks++
		} else if line > s.HeaderLine {
			behind++
		}
	}
	if behind != s.Rows || blanks != s.Blank {
		t.Fatalf("%d records and %d blank ones in the file, %d rows and %d blank came", behind, blanks, s.Rows, s.Blank)
	}
	sameCells(t, file, rows, s)
}

// sameCells compares with encoding/csv.
func sameCells(t *testing.T, file []byte, rows []*Row, s *Summary) {
	t.Helper()
	if s.Encoding != "UTF-8" || !utf8.Valid(file) || bytes.IndexByte(file, 0) >= 0 || bytes.IndexByte(file, '\n') < 0 || len(s.Delimiter) != 1 || s.Delimiter[0] < ' ' && s.Delimiter != "\t" {
		return
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\ufeff"))))
	r.Comma, r.FieldsPerRecord = rune(s.Delimiter[0]), -1
	records, err := r.ReadAll()
	if err != nil {
		return
	}
	records = slices.DeleteFunc(records, blank)
	if len(records) < len(rows) {
		t.Fatalf("encoding/csv has %d records, %d rows came", len(records), len(rows))
	}
	for i, record := range records[len(records)-len(rows):] {
		if strings.ContainsRune(strings.Join(rows[i].Cells, ""), utf8.RuneError) {
			continue // U+FFFD may stand for itself or for what was lost
		}
		if !slices.Equal(record, rows[i].Cells) {
			t.Fatalf("row %d has the cells %q, encoding/csv has %q", i+1, rows[i].Cells, record)
		}
	}
}

// FuzzWorkbook plays with the XML of a sheet: what the reader takes for whole
// gives as many rows as the sheet has with a value behind the header.
func FuzzWorkbook(f *testing.F) {
	for _, rows := range []string{
		rawRow(1, "email", "name") + rawRow(2, "a@x.com", "A") + rawRow(5, "b@x.com"),
		rawRow(0, "email") + rawRow(0, "a@x.com"),
		`<row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="2" hidden="1"><c r="A2" t="str"><f>1</f><v>a@x.com</v></c><c r="C2" s="3"><v>44000</v></c></row>`,
		rawRow(1, "email") + `</sheetData><mergeCells><mergeCell ref="A1:B2"/></mergeCells><sheetData>`,
		`<row><c t="inlineStr"><is><r><t>em</t></r><r><t>ail</t></r></is></c></row><row><c t="b"><v>1</v></c><c t="e"><v>#N/A</v></c><c t="d"><v>2026-12-01</v></c></row>`,
	} {
		f.Add(rows)
	}
	f.Fuzz(func(t *testing.T, data string) {
		var rows []*Row
		s, err := Read(context.Background(), strings.NewReader(pack(t, parts(rawSheet(data)))), Options{Limits: fuzzLimits}, func(row *Row) error {
			rows = append(rows, kept(row))
			return nil
		})
		if err != nil {
			var fault *FileError
			if !errors.As(err, &fault) {
				t.Fatalf("not a FileError: %v", err)
			}
			return
		}
		account(t, rows, s)
		for _, row := range rows {
			if len(row.Cells) != len(s.Columns.Found) {
				t.Fatalf("row %d has %d cells, the header %d", row.Number, len(row.Cells), len(s.Columns.Found))
			}
		}
	})
}

// FuzzSplit checks that the records of a text are the text: nothing lost,
// nothing twice, and each line in one record.
func FuzzSplit(f *testing.F) {
	for _, text := range []string{"a,b\nc\n", "\"a\nb\",c\r\n\"d", "a\r\n\r\nb", "\"a\"\"\n\"b\",\"\n\"\"c\n\"", "\"\"\"\n\n\"\"\n,\"x\"y\n", "a\rb\"\r"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newSplitter(strings.NewReader(text), ',', fuzzLimits)
		var got []string
		for line := 1; ; {
			record, at, broken, err := s.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if at != line {
				t.Fatalf("the record %q is on line %d, want %d", record, at, line)
			}
			if broken && strings.Contains(string(record), "\n") {
				t.Fatalf("the broken record %q is more than a line", record)
			}
			line += strings.Count(string(record), "\n") + 1
			lines := strings.Split(string(record), "\n")
			for i := range len(lines) - 1 {
				lines[i] = strings.TrimSuffix(lines[i], "\r") // the last has lost its own
			}
			got = append(got, lines...)
		}
		var want []string
		for line := range strings.Lines(text) {
			want = append(want, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("the records of %q have the lines %q", text, got)
		}
	})
}

func FuzzHeader(f *testing.F) {
	for _, header := range []string{"email", "E-Mail-Adresse", "メール", "Redirect URL,email", "public_metadata.a,email", "Work  Email , ", "Courriel électronique", "é-mail", "ｅｍａｉｌ",
		"Employee ID,Legal Name,Work Email,Manager Email", "Vorname,Nachname,E-Mail-Adresse,Abteilung", "姓名,邮箱", "Имя,Почта", "email,email", "E-Mail (dienstlich),E-Mail (privat)",
		"Email Address [Required],Manager Email", "会社メール,個人メール", "userPrincipalName,PRIMARYSMTPADDRESS", "Email Email", "#1,Email,#7",
		"expires-in-days,REDIRECT URL,e mail", "Correo electrónico,,", "İ-mail,EMAİL,e\u0301mail", "public_metadata.,email,public_metadata.x,PUBLIC_METADATA.x", "\u06c0 \u05c2"} {
		f.Add(header, "email")
	}
	f.Fuzz(func(t *testing.T, header, want string) {
		if n := normal(header); normal(n) != n {
			t.Fatalf("normal(%q) = %q, of which it is %q", header, n, normal(n))
		}
		cells := strings.Split(header, ",")
		tbl := &table{from: newLines(strings.NewReader(""), &decoder{}, ',', fuzzLimits), limits: fuzzLimits}
		for _, o := range []Options{{}, {Map: map[string]string{emailColumn: want}}} {
			tbl.ahead = []record{{cells: cells, line: 1}}
			c, err := readHeader(tbl, o)
			if err != nil {
				continue
			}
			if len(c.names) != len(cells) || c.email < 0 || c.email >= len(cells) {
				t.Fatalf("header %q: column %d of %d", header, c.email, len(c.names))
			}
			if o.Map == nil && readHeaderCell(c.names[c.email]).avoided() {
				t.Fatalf("header %q: column %d is private or somebody else's", header, c.email)
			}
			if c.taken(c.email) && o.Map == nil {
				t.Fatalf("header %q: column %d is two things", header, c.email)
			}
		}
	})
}
