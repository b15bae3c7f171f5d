package importer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	utf16 "golang.org/x/text/encoding/unicode"

	"bulkinvite/internal/must"
)

// read reads a text, and gives its rows as well.
func read(t *testing.T, text string, o Options) ([]*Row, *Summary, error) {
	t.Helper()
	var rows []*Row
	s, err := Read(context.Background(), strings.NewReader(text), o, func(row *Row) error {
		rows = append(rows, kept(row))
		return nil
	})
	if err == nil {
		account(t, rows, s)
	}
	return rows, s, err
}

// kept is a copy of a row, which is another one later.
func kept(row *Row) *Row {
	row = new(*row)
	row.Cells = slices.Clone(row.Cells)
	return row
}

// account checks what holds of every file: each row is there once, and is one
// of valid, invalid and duplicate.
func account(t *testing.T, rows []*Row, s *Summary) {
	t.Helper()
	if s.Rows != len(rows) || s.Rows != s.Valid+s.Invalid+s.DuplicateRow {
		t.Errorf("%d rows came; summary says rows %d = valid %d + invalid %d + duplicate %d", len(rows), s.Rows, s.Valid, s.Invalid, s.DuplicateRow)
	}
	if len(s.Problems)+s.MoreProblems != s.Invalid {
		t.Errorf("%d + %d problems for %d invalid rows", len(s.Problems), s.MoreProblems, s.Invalid)
	}
	line := 0
	for i, row := range rows {
		if row.Number != i+1 {
			t.Errorf("row %d has number %d", i+1, row.Number)
		}
		if row.Line <= line {
			t.Errorf("row %d begins on line %d, the one before on %d", row.Number, row.Line, line)
		}
		line = row.Line
		if row.Problem == nil && (row.Email == "" || row.Key == "") {
			t.Errorf("row %d is valid without an address", row.Number)
		}
		if row.DuplicateOf >= row.Number {
			t.Errorf("row %d is a duplicate of %d", row.Number, row.DuplicateOf)
		}
	}
}

// refuse reads a file that has to be refused, with an error and a remedy of one line that
// have these texts in them.
func refuse(t *testing.T, text string, o Options, what, fix string) *FileError {
	t.Helper()
	_, s, err := read(t, text, o)
	var fault *FileError
	if !errors.As(err, &fault) {
		t.Fatalf("%.60q: got %+v, %v, want a FileError", text, s, err)
	}
	if remedy := fault.Remedy(); !strings.Contains(err.Error(), what) || !strings.Contains(remedy, fix) || strings.Contains(err.Error()+remedy, "\n") {
		t.Errorf("%.60q: error %q, remedy %q, want %q and %q", text, err, remedy, what, fix)
	}
	return fault
}

// brief writes rows as one line each: number, line, and address or code.
func brief(rows []*Row) string {
	var out strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&out, "%d@%d ", row.Number, row.Line)
		switch {
		case row.Problem != nil:
			fmt.Fprintf(&out, "!%s", row.Problem.Code)
		case row.DuplicateOf > 0:
			fmt.Fprintf(&out, "=%d", row.DuplicateOf)
		default:
			out.WriteString(row.Email)
		}
		out.WriteString("\n")
	}
	return out.String()
}

func TestReadShapes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, want string
		blank            int
		delimiter        string
	}{
		{name: "comma", text: "email,name\na@x.com,A\nb@x.com,B\n", want: "1@2 a@x.com\n2@3 b@x.com\n"},
		{name: "no line end at the end", text: "email\na@x.com", want: "1@2 a@x.com\n"},
		{name: "header alone", text: "email,name\n", want: ""},
		{name: "semicolon", text: "Name;E-Mail\nDoe, Jane;a@x.com\n", want: "1@2 a@x.com\n", delimiter: ";"},
		{name: "tab", text: "Name\tE-Mail\nDoe, Jane\ta@x.com\n", want: "1@2 a@x.com\n", delimiter: "\t"},
		{name: "pipe", text: "Name|E-Mail\nDoe, Jane|a@x.com\n", want: "1@2 a@x.com\n", delimiter: "|"},
		{name: "sep line", text: "sep=;\nName;email\nA;a@x.com\n", want: "1@3 a@x.com\n", delimiter: ";"},
		{name: "quoted sep line", text: "\"sep=|\"\r\nName|email\r\nA|a@x.com\r\n", want: "1@3 a@x.com\n", delimiter: "|"},
		{name: "sep of its own", text: "sep=!\nName!email\nA!a@x.com\n", want: "1@3 a@x.com\n", delimiter: "!"},
		{name: "mark", text: "\ufeffemail\na@x.com\n", want: "1@2 a@x.com\n"},
		{name: "mark and quotes", text: "\ufeff\"email\",\"name\"\n\"a@x.com\",\"A\"\n", want: "1@2 a@x.com\n"},
		{name: "CRLF", text: "email,name\r\na@x.com,A\r\n\r\nb@x.com,B\r\n", want: "1@2 a@x.com\n2@4 b@x.com\n", blank: 1},
		{name: "CR", text: "email,name\ra@x.com,A\rb@x.com,B\r", want: "1@2 a@x.com\n2@3 b@x.com\n"},
		{name: "quoted line breaks", text: "email,note\na@x.com,\"one\ntwo\r\nthree\"\nb@x.com,\"\"\n", want: "1@2 a@x.com\n2@5 b@x.com\n"},
		{name: "blank records", text: "\nemail,name\n\n,\na@x.com,A\n  ,\u00a0\n\n", want: "1@5 a@x.com\n", blank: 5},
		{name: "ragged", text: "email,name,team\na@x.com,A\nb@x.com,B,T,more\nc@x.com,C,T\n", want: "1@2 a@x.com\n2@3 !ragged_row\n3@4 c@x.com\n"},
		{name: "empty cells behind", text: "email,name\na@x.com,A,,\nb@x.com,B\n", want: "1@2 a@x.com\n2@3 b@x.com\n"},
		{name: "nameless columns behind", text: "email,name,,\na@x.com,A\nb@x.com\nc@x.com,C,,\n", want: "1@2 a@x.com\n2@3 b@x.com\n3@4 c@x.com\n"},
		{name: "never closed", text: "email,name\n\"a@x.com,A\nb@x.com,B\nc@x.com,C\n", want: "1@2 !bad_quotes\n2@3 b@x.com\n3@4 c@x.com\n"},
		{name: "closed by a later row's", text: "email,name\na@x.com,\"A\nb@x.com,\"B, C\"\nc@x.com,C\n", want: "1@2 !bad_quotes\n2@3 b@x.com\n3@4 c@x.com\n"},
		{name: "text behind a closing quote", text: "email,name\na@x.com,\"A\" B\nb@x.com,B\n", want: "1@2 !bad_quotes\n2@3 b@x.com\n"},
		{name: "quotes inside a plain cell", text: "name,email\nJane \"JJ\" Doe,a@x.com\n", want: "1@2 a@x.com\n"},
		{name: "spaces before quotes", text: "\"name\", \"email\"\n\"A\", \"a@x.com\"\n", want: "1@2 a@x.com\n"},
		{name: "title lines", text: "New hires 2026,,\nfor the people team,,\n\nname,email,team\nA,a@x.com,T\n", want: "1@5 a@x.com\n", blank: 1},
		{name: "the word email in a row", text: "name,e-mail\nemail,a@x.com\nB,b@x.com\n", want: "1@2 a@x.com\n2@3 b@x.com\n"},
		{name: "totals", text: "email,name\na@x.com,A\nTotal,1\n", want: "1@2 a@x.com\n2@3 !no_at\n"},
		{name: "NUL in a small file", text: "email\n\x00\x00\n", want: "1@2 !bad_encoding\n"},
		{name: "the mark of DOS at the end", text: "email\na@x.com\n\x1a", want: "1@2 a@x.com\n", blank: 1},
		{name: "NUL", text: "email,name\na@x.com,A\x00\nb@x.com,B\n", want: "1@2 a@x.com\n2@3 b@x.com\n"},
		{name: "a byte that is no UTF-8", text: "email,name\na@x.com,Jürgen, \nb@x.com,Zo\xeb\nc@x.com,Zoë\nd@x.com,Jörg\ne@x.com,Çelik Øre\n", want: "1@2 a@x.com\n2@3 b@x.com\n3@4 c@x.com\n4@5 d@x.com\n5@6 e@x.com\n"},
		{name: "duplicates", text: "email\nnobody\nA@x.com\na@X.com\na@x.com\nnobody\n", want: "1@2 !no_at\n2@3 A@x.com\n3@4 =2\n4@5 =2\n5@6 !no_at\n"},
		{name: "an invalid row is no first", text: "email,expires_in_days\na@x.com,never\na@x.com,7\na@x.com,7\n", want: "1@2 !bad_expires_in_days\n2@3 a@x.com\n3@4 =2\n"},
		{name: "two candidates, one filled", text: "work email,email\n,a@x.com\n,b@x.com\n", want: "1@2 a@x.com\n2@3 b@x.com\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rows, s, err := read(t, test.text, Options{})
			must.OK(t, err)
			if got := brief(rows); got != test.want {
				t.Errorf("got:\n%swant:\n%s", got, test.want)
			}
			if s.Blank != test.blank {
				t.Errorf("%d blank records, want %d", s.Blank, test.blank)
			}
			if want := test.delimiter; want != "" && s.Delimiter != want {
				t.Errorf("delimiter %q, want %q", s.Delimiter, want)
			}
			if s.SHA256 != sha256.Sum256([]byte(test.text)) || s.Bytes != int64(len(test.text)) {
				t.Errorf("hash or length are not those of the file")
			}
		})
	}
}

// A row that fills the other e-mail column further down than was looked is not
// sent anywhere.
func TestReadSecondColumnLater(t *testing.T) {
	t.Parallel()
	text := "email,work email\n" + strings.Repeat("a@x.com,\n", lookahead+10) + "a@x.com,b@x.com\n"
	rows, _, err := read(t, text, Options{})
	must.OK(t, err)
	if last := rows[len(rows)-1]; last.Problem == nil || last.Problem.Code != SeveralAddresses || last.Problem.Column != "work email" {
		t.Errorf("the last row: %+v", last.Problem)
	}
}

func TestReadEncodings(t *testing.T) {
	t.Parallel()
	le, be := utf16.UTF16(utf16.LittleEndian, utf16.UseBOM), utf16.UTF16(utf16.BigEndian, utf16.UseBOM)
	bareLE, bareBE := utf16.UTF16(utf16.LittleEndian, utf16.IgnoreBOM), utf16.UTF16(utf16.BigEndian, utf16.IgnoreBOM)
	w1252, w1251, sjis, gb := charmap.Windows1252, charmap.Windows1251, japanese.ShiftJIS, simplifiedchinese.GB18030
	for _, test := range []struct {
		want  string
		codec encoding.Encoding
		text  string
	}{
		{"UTF-8", encoding.Nop, "Name,Email\nJane,a@x.com\n"},
		{"UTF-8", encoding.Nop, "Name,Email\nZoë,a@x.com\n"},
		{"UTF-8", encoding.Nop, "姓名,邮箱\n张三,a@x.com\n"},
		{"UTF-16LE", le, "Name\tEmail\r\nZoë\ta@x.com\r\n"},
		{"UTF-16BE", be, "Name\tEmail\r\nZoë\ta@x.com\r\n"},
		{"UTF-16LE", bareLE, "名前,メール\n山田太郎,a@x.com\n"},
		{"UTF-16BE", bareBE, "Name,Email\nZoë,a@x.com\n"},
		{"Windows-1252", w1252, "Name;E-Mail\nMüller;a@x.com\nJörg;b@x.com\n"},
		{"Windows-1252", w1252, "Name;E-Mail\nJosé Núñez;a@x.com\n"},
		{"Windows-1252", w1252, "nom,courriel,prénom\nLefèvre,a@x.com,Zoë\n"},
		{"Windows-1252", w1252, "Name,Email\nJörg,b@x.com\n"},
		{"Windows-1252", w1252, "Name,Email\nGroß,b@x.com\nÅse Bjørn,c@x.com\nØyvind,d@x.com"},
		{"Windows-1252", w1252, "Name,Email\nO’Brien,b@x.com\n"},
		{"Windows-1252", w1252, "Name,Email\nMÜLLER,b@x.com\nSÖREN ÖZIL,c@x.com"},
		{"Windows-1252", w1252, "nome,email\nJoão Gonçalves,b@x.com\nConceição,c@x.com"},
		{"Windows-1251", w1251, "Имя;Email\nИван Петров;a@x.com\n"},
		{"Windows-1251", w1251, "Name;Email\nИван;a@x.com\nОльга;b@x.com\n"},
		{"Windows-1251", w1251, "имя,почта\nАлексей Смирнов,a@x.com\nМария,b@x.com\n"},
		{"Windows-1251", w1251, "ФИО;Почта\nИВАНОВ И.И.;a@x.com\n"},
		{"Windows-1251", w1251, "Name;Email\nИван;a@x.com\n"},
		{"Windows-1251", w1251, "Name;Email\nЮлия Щукина-Цой;a@x.com\n"},
		{"Shift-JIS", sjis, "名前,メール\n山田太郎,a@x.com\n"},
		{"Shift-JIS", sjis, "氏名,メールアドレス\n鈴木一郎,a@x.com\n佐藤花子,b@x.com\n"},
		{"Shift-JIS", sjis, "Name,Email\n山田,a@x.com\n"},
		{"Shift-JIS", sjis, "name,email\nﾔﾏﾀﾞ ﾀﾛｳ,a@x.com\nﾀﾅｶ ﾊﾅｺ,b@x.com\n"},
		{"Shift-JIS", sjis, "name,email\n渡辺 直美,a@x.com\n高橋ソニー,b@x.com\n"},
		{"GB18030", gb, "姓名,邮箱\n张三,a@x.com\n"},
		{"GB18030", gb, "姓名,电子邮件\n王小明,a@x.com\n李娜,b@x.com\n"},
		{"GB18030", gb, "Name,Email\n张伟,a@x.com\n"},
		{"GB18030", gb, "姓名,部门,邮箱地址\n刘洋,技术部,a@x.com\n陈静,人力资源部,b@x.com\n"},
	} {
		t.Run(test.want+" "+test.text, func(t *testing.T) {
			t.Parallel()
			b, err := test.codec.NewEncoder().String(test.text)
			must.OK(t, err)
			for _, o := range []Options{{}, {Encoding: strings.ToLower(test.want)}} {
				rows, s, err := read(t, b, o)
				must.OK(t, err)
				if s.Encoding != test.want {
					t.Errorf("read as %s", s.Encoding)
				}
				var cells []string
				for _, row := range rows {
					cells = append(cells, strings.Join(row.Cells, s.Delimiter))
				}
				if _, body, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(test.text, "\r", "")), "\n"); strings.Join(cells, "\n") != body {
					t.Errorf("cells %q, want %q", cells, body)
				}
				if s.Invalid > 0 || len(s.Warnings) > 0 {
					t.Errorf("problems %+v, warnings %+v", s.Problems, s.Warnings)
				}
			}
		})
	}
}

// Bytes that the encoding doesn't have reject a row only where they stand in a cell
// that is sent. In others they read as U+FFFD, with a warning.
func TestReadUndecodable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, encoding, text string }{
		{"Windows-1252 has no 81", "windows-1252", "email,name\na@x.com,A\x81\nb@x.com,\xfc\n"},
		{"Shift-JIS pair cut by a line", "shift-jis", "email,name\na@x.com,\x8e\nb@x.com,\x8eR\n"},
		{"GB18030 lead without trail", "gb18030", "email,name\na@x.com,\xd5\nb@x.com,\xd5\xc5\n"},
		{"UTF-8", "utf-8", "email,name\na@x.com,\xc3\nb@x.com,\xc3\xbc\n"},
		{"lone surrogate", "utf-16be", "\x00e\x00m\x00a\x00i\x00l\x00,\x00n\x00a\x00m\x00e\x00\n\x00a\x00@\x00x\x00.\x00y\x00y\x00,\xd8\x00\x00\n\x00b\x00@\x00x\x00.\x00y\x00y\x00,\x00B\x00\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, metadata := range [][]string{nil, {"name"}} {
				rows, _, err := read(t, test.text, Options{Encoding: test.encoding, Metadata: metadata})
				must.OK(t, err)
				if len(rows) != 2 || rows[1].Problem != nil || len(rows[1].Warnings) > 0 {
					t.Fatalf("got:\n%s", brief(rows))
				}
				bad := rows[0]
				if metadata == nil && (bad.Problem != nil || len(bad.Warnings) != 1 || bad.Warnings[0].Code != LostCharacter) {
					t.Errorf("problem %v, warnings %v of a row with lost characters in a cell that isn't sent", bad.Problem, bad.Warnings)
				}
				if metadata != nil && (bad.Problem == nil || bad.Problem.Code != BadEncoding || bad.Problem.Column != "name" || bad.Problem.Line != 2) {
					t.Errorf("problem %v of a row with lost characters in its metadata", bad.Problem)
				}
				if !slices.ContainsFunc(bad.Cells, func(c string) bool { return strings.Contains(c, "\ufffd") }) {
					t.Errorf("cells %q don't show the lost character", bad.Cells)
				}
			}
		})
	}
}

func TestReadFileErrors(t *testing.T) {
	t.Parallel()
	limits := Limits{Rows: 3, Columns: 4, CellBytes: 100, LineBytes: 300, FileBytes: 2000}
	for _, test := range []struct {
		name, text, what, fix string
		o                     Options
		line                  int
	}{
		{name: "empty", what: "empty"},
		{name: "a mark alone", text: "\ufeff", what: "empty"},
		{name: "blank lines alone", text: "\n\n,,\n", what: "empty"},
		{name: "workbook", text: "PK\x03\x04aaaaaaaaa", what: "workbook is damaged", fix: "save it as CSV"},
		{name: "binary", text: "\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\x03", what: "binary"},
		{name: "damaged gzip", text: "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00garbage", what: "damaged"},
		{name: "no header", text: "a@x.com,Jane\nb@x.com,Joe\n", what: "no header", fix: "one of them email", line: 1},
		{name: "no header, a bad address", text: "Jane,jane@@example.com\nJoe,joe\n", what: "no header", line: 1},
		{name: "no column", text: "Name,Abteilung,Startdatum\nJane,IT,1.1.\n", what: "no e-mail column. Found: Name, Abteilung, Startdatum", fix: "--map email="},
		{name: "no column, addresses in one", text: "Name,Abteilung,Zugang\nJane,IT,a@x.com\n", what: "no e-mail column", fix: `--map email="Zugang"`},
		{name: "no column, a name near", text: "Name,Manager E-Mial\nJane,\n", what: "no e-mail column", fix: `--map email=COLUMN`},
		{name: "two columns", text: "E-Mail,Zugang\na@x.com,b@x.com\n", what: "more than one column may hold the addresses to invite: E-Mail (#1), Zugang (#2)", fix: `--map email="E-Mail"`},
		{name: "two columns of a name", text: "Email,Email\na@x.com,b@x.com\n", what: "more than one column may hold", fix: "--map email=#1"},
		{name: "unknown in map", text: "email\n", o: Options{Map: map[string]string{"mail": "email"}}, what: `knows no "mail"`},
		{name: "mapped column not there", text: "Name,Adresse\nJane,a@x.com\n", o: Options{Map: map[string]string{"email": "Adressen"}}, what: `no column "Adressen" for email. Found: Name, Adresse`, fix: `--map email="Adresse"`},
		{name: "other mapped column not there", text: "email,exp\na@x.com,1\n", o: Options{Map: map[string]string{"expires_in_days": "expiry"}}, what: `no column "expiry"`, fix: `--map expires_in_days="exp"`},
		{name: "two for an option", text: "email,redirect_url,Redirect URL\n", what: "two columns could be redirect_url"},
		{name: "unknown encoding", text: "email\n", o: Options{Encoding: "klingon"}, what: "no encoding"},
		{name: "bad delimiter", text: "email\n", o: Options{Delimiter: "ab"}, what: "can't be a delimiter"},
		{name: "long line", text: "email\n" + strings.Repeat("x", 400) + "\n", o: Options{Limits: limits}, what: "longer than 300", line: 2},
		{name: "long cell", text: "email\n" + strings.Repeat("x", 200) + "\n", o: Options{Limits: limits}, what: "longer than 100", line: 2},
		{name: "many columns", text: "email\n,,,,,\na,b,c,d,e\n", o: Options{Limits: limits}, what: "more than 4 cells", line: 2},
		{name: "many rows", text: "email\na\nb\nc\nd\n", o: Options{Limits: limits}, what: "more than 3 rows", line: 5},
		{name: "large file", text: strings.Repeat("email\n", 1000), o: Options{Limits: limits}, what: "larger than 2000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if fault := refuse(t, test.text, test.o, test.what, test.fix); fault.Line != test.line {
				t.Errorf("line %d, want %d", fault.Line, test.line)
			}
		})
	}
}

func TestReadDirectory(t *testing.T) {
	t.Parallel()
	dir, err := os.Open(t.TempDir())
	must.OK(t, err)
	defer func() { _ = dir.Close() }() // it was only read
	_, err = Read(context.Background(), dir, Options{}, func(*Row) error { return nil })
	var fault *FileError
	if !errors.As(err, &fault) || !strings.Contains(fault.Error(), "directory") || strings.Contains(fault.Error(), dir.Name()) {
		t.Errorf("got %v", err)
	}
}

// A line that never ends is not read into memory.
func TestReadEndlessLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		start string
		line  int
	}{{"email\n", 2}, {"email\n\"", 2}, {"email,name\n\"a\nb\",", 3}, {"", 1}} {
		taken := &counter{r: io.MultiReader(strings.NewReader(test.start), endless('x'))}
		_, err := Read(context.Background(), taken, Options{}, func(*Row) error { return nil })
		var fault *FileError
		if !errors.As(err, &fault) || fault.Line != test.line {
			t.Errorf("after %q: %v", test.start, err)
		}
		if taken.n > 3*DefaultLineBytes {
			t.Errorf("after %q: %d bytes were read", test.start, taken.n)
		}
	}
}

// An open quote before a large rest costs one row.
func TestReadOpenQuoteInLargeFile(t *testing.T) {
	t.Parallel()
	const rows = 200_000
	text := "email,name\nbad@x.com,\"A\n" + strings.Repeat("a@example.com,Jane Doe of Somewhere\n", rows)
	_, s, err := read(t, text, Options{})
	must.OK(t, err)
	if s.Rows != rows+1 || s.Invalid != 1 || s.DuplicateRow != rows-1 {
		t.Errorf("rows %d, invalid %d, duplicates %d", s.Rows, s.Invalid, s.DuplicateRow)
	}
}

// Long rows wait for each other, and neither block nor outlive a stop.
func TestReadLongRows(t *testing.T) {
	t.Parallel()
	const rows = 1200
	text := "email,note\n" + strings.Repeat("a@x.com,"+strings.Repeat("x", sliceBytes/8)+"\n", rows)
	_, s, err := read(t, text, Options{})
	if err != nil || s.Rows != rows {
		t.Errorf("summary %+v, err %v", s, err)
	}
	enough := errors.New("enough")
	if _, err := Read(context.Background(), strings.NewReader(text), Options{}, func(*Row) error { return enough }); err != enough {
		t.Errorf("err %v", err)
	}
}

// Who keeps the address of a long row doesn't keep the row.
func TestReadAddressOfLongRow(t *testing.T) {
	t.Parallel()
	rows, _, err := read(t, "email,note\na@x.com,short\nb@x.com,"+strings.Repeat("x", 2*longRow)+"\n", Options{})
	if err != nil || len(rows) != 2 {
		t.Fatal(len(rows), err)
	}
	for i, part := range []bool{true, false} {
		for _, text := range []string{rows[i].Email, rows[i].Key} {
			if got := unsafe.StringData(text) == unsafe.StringData(rows[i].Cells[0]); got != part {
				t.Errorf("%s is a part of its row: %t", text, got)
			}
		}
	}
}

// Rows come in their order, numbered, however slices cut them, and with each
// its own options.
func TestReadAcrossSlices(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("email,expires_in_days,note\n")
	const n = 3*sliceRows + 7
	for i := range n {
		days, note := "", ""
		if i%3 == 0 {
			days = strconv.Itoa(1 + i%365)
		}
		if i%100 == 0 {
			note = strings.Repeat("x", sliceBytes/2)
		}
		fmt.Fprintf(&text, "p%d@x.com,%s,%s\n", i, days, note)
	}
	rows, s, err := read(t, text.String(), Options{})
	if err != nil || s.Valid != n {
		t.Fatal(s, err)
	}
	for i, row := range rows {
		days := 0
		if i%3 == 0 {
			days = 1 + i%365
		}
		if row.Number != i+1 || row.Line != i+2 || row.Email != fmt.Sprintf("p%d@x.com", i) || row.ExpiresInDays != days {
			t.Fatalf("row %d is %d on line %d: %s, %d days; want %d", i+1, row.Number, row.Line, row.Email, row.ExpiresInDays, days)
		}
	}
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// What is cut off, damaged or endless is refused whole; what was packed in
// pieces is one file.
func TestReadGzip(t *testing.T) {
	t.Parallel()
	whole := gzipped(t, "email\n"+strings.Repeat("a@x.com\n", 1000))
	for _, test := range []struct{ name, text, what string }{
		{"cut off", whole[:len(whole)-1], "damaged"},
		{"cut off in the middle", whole[:len(whole)/2], "damaged"},
		{"a wrong checksum", whole[:len(whole)-8] + "\x00" + whole[len(whole)-7:], "damaged"},
		{"something behind it", whole + "email", "damaged"},
		{"a header alone", whole[:10], "damaged"},
		{"nothing in it", gzipped(t, ""), "the file is empty"},
		{"in itself", gzipped(t, whole), "not a CSV file"},
		{"endless", gzipped(t, "email\n"+strings.Repeat("a@x.com\n", 10_000)), "larger than 50000 bytes"},
	} {
		_ = refuse(t, test.text, Options{Limits: Limits{FileBytes: 50_000}}, test.what, "")
	}
	pieces := gzipped(t, "email\na@x.com\n") + gzipped(t, "b@x.com\n")
	rows, s, err := read(t, pieces, Options{})
	must.OK(t, err)
	if brief(rows) != "1@2 a@x.com\n2@3 b@x.com\n" || s.SHA256 != sha256.Sum256([]byte(pieces)) ||
		s.Bytes != int64(len(pieces)) {
		t.Errorf("got %s, %d bytes", brief(rows), s.Bytes)
	}
}

func TestReadOptionsOfRows(t *testing.T) {
	t.Parallel()
	text := "email,Redirect URL,expires_in_days,public_metadata.team,Dept\n" +
		"a@x.com,https://app.example.com/x?y=1,7,A & B,Sales\n" +
		"b@x.com,,,,\n" +
		"c@x.com,ftp://x,,,\n" +
		"d@x.com,//example.com,,,\n" +
		"e@x.com,https://,,,\n" +
		"f@x.com,,0,,\n" +
		"g@x.com,,366,,\n" +
		"h@x.com,,a week,,\n" +
		"i@x.com,,," + strings.Repeat("x", MaxMetadata) + ",\n" +
		"a@x.com,,8,,\n" +
		"b@x.com,,,,\n"
	rows, s, err := read(t, text, Options{Map: map[string]string{"public_metadata.department": "Dept"}})
	must.OK(t, err)
	want := "1@2 a@x.com\n2@3 b@x.com\n3@4 !bad_redirect_url\n4@5 !bad_redirect_url\n5@6 !bad_redirect_url\n6@7 !bad_expires_in_days\n" +
		"7@8 !bad_expires_in_days\n8@9 !bad_expires_in_days\n9@10 !bad_metadata\n10@11 =1\n11@12 =2\n"
	if got := brief(rows); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if r := rows[0]; r.RedirectURL != "https://app.example.com/x?y=1" || r.ExpiresInDays != 7 || string(r.PublicMetadata) != `{"department":"Sales","team":"A & B"}` {
		t.Errorf("row 1: %+v, metadata %s", r, r.PublicMetadata)
	}
	if r := rows[1]; r.RedirectURL != "" || r.ExpiresInDays != 0 || r.PublicMetadata != nil {
		t.Errorf("row 2: %+v", r)
	}
	if len(s.Warnings) != 1 || s.Warnings[0].Code != DifferentOptions || s.Warnings[0].Row != 10 {
		t.Errorf("warnings: %+v", s.Warnings)
	}
	if p := rows[2].Problem; p.Column != "Redirect URL" {
		t.Errorf("column %q", p.Column)
	}
	if want := map[string]string{"email": "email", "redirect_url": "Redirect URL", "expires_in_days": "expires_in_days",
		"public_metadata.team": "public_metadata.team", "public_metadata.department": "Dept"}; fmt.Sprint(s.Columns.Mapped) != fmt.Sprint(want) {
		t.Errorf("mapped %v", s.Columns.Mapped)
	}
	if len(s.Columns.Ignored) != 0 {
		t.Errorf("ignored %v", s.Columns.Ignored)
	}
}

func TestReadWarnings(t *testing.T) {
	t.Parallel()
	_, s, err := read(t, "email\na@gmial.com\nb@corp.con\ninfo@corp.com\nmüller@corp.com\nc@corp.com\n", Options{})
	must.OK(t, err)
	var got []string
	for _, w := range s.Warnings {
		got = append(got, fmt.Sprintf("%d %s %s", w.Row, w.Code, w.Message))
	}
	want := []string{
		"1 likely_slip did you mean gmail.com?", "2 likely_slip did you mean .com?",
		"3 role_address " + remedies[RoleAddress], "4 non_ascii_local " + remedies[NonASCIILocal],
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings %q", got)
	}
}

// More problems than a summary keeps are counted.
func TestReadManyProblems(t *testing.T) {
	t.Parallel()
	_, s, err := read(t, "email\n"+strings.Repeat("nobody\n", 1500), Options{})
	must.OK(t, err)
	if len(s.Problems) != 1000 || s.MoreProblems != 500 || s.Invalid != 1500 {
		t.Errorf("kept %d, more %d, invalid %d", len(s.Problems), s.MoreProblems, s.Invalid)
	}
}

func TestReadStops(t *testing.T) {
	t.Parallel()
	text := "email\n" + strings.Repeat("a@x.com\n", 10_000)
	t.Run("yield", func(t *testing.T) {
		t.Parallel()
		enough := errors.New("enough")
		n := 0
		file := &counter{r: strings.NewReader(strings.Repeat(text, 100))}
		_, err := Read(context.Background(), file, Options{}, func(*Row) error {
			if n++; n == 10 {
				return enough
			}
			return nil
		})
		if err != enough || n != 10 {
			t.Errorf("err %v after %d rows", err, n)
		}
		if file.n > 20*window {
			t.Errorf("%d bytes were read", file.n)
		}
	})
	t.Run("yield at an end of its own", func(t *testing.T) {
		t.Parallel()
		if _, err := Read(context.Background(), strings.NewReader(text), Options{}, func(*Row) error { return io.EOF }); err != io.EOF {
			t.Errorf("err %v, want the one that yield gave", err)
		}
	})
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		_, err := Read(ctx, strings.NewReader(text), Options{}, func(row *Row) error {
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err %v", err)
		}
	})
	t.Run("reader", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("input/output error")
		_, err := Read(context.Background(), io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), Options{}, func(*Row) error { return nil })
		var fault *FileError
		if !errors.Is(err, broken) || !errors.As(err, &fault) {
			t.Errorf("err %v", err)
		}
	})
	t.Run("one byte at a time", func(t *testing.T) {
		t.Parallel()
		s, err := Read(context.Background(), iotest.OneByteReader(strings.NewReader("\ufeffname;email\r\n\"Zoë;\r\nX\";a@x.com\r\n")), Options{}, func(*Row) error { return nil })
		if err != nil || s.Valid != 1 {
			t.Errorf("summary %+v, err %v", s, err)
		}
	})
}
