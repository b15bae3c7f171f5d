package importer

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/must"
)

// What a process of its own does: read a file, or write all crafted ones to a directory.
const (
	craftedFile = "TEST_CRAFTED_FILE"
	craftedDir  = "TEST_CRAFTED_DIR"
)

// craftedOne is a crafted workbook in such a directory, and what has to come of it.
type craftedOne struct{ Name, Path, Want string }

// craftedList names the list of them there.
const craftedList = "list.json"

// TestCraftedFile is that process. Of a file it says what came of it.
func TestCraftedFile(t *testing.T) {
	if dir := os.Getenv(craftedDir); dir != "" {
		var list []craftedOne
		for i, c := range crafted(t) {
			path := filepath.Join(dir, fmt.Sprintf("%d.xlsx", i))
			must.OK(t, os.WriteFile(path, []byte(c.text), 0o600))
			list = append(list, craftedOne{c.name, path, c.want})
		}
		text, err := json.Marshal(list)
		must.OK(t, errors.Join(err, os.WriteFile(filepath.Join(dir, craftedList), text, 0o600)))
		return
	}
	path := os.Getenv(craftedFile)
	if path == "" {
		return // the test below starts it
	}
	file, err := os.Open(path)
	must.OK(t, err)
	defer func() { _ = file.Close() }() // it was only read
	defer func() {
		status, err := os.ReadFile("/proc/self/status") // proc(5): the most memory that it had
		must.OK(t, err)
		_, most, _ := strings.Cut(string(status), "VmHWM:")
		fmt.Printf("memory: %s KiB\n", strings.Fields(most)[0])
	}()
	s, err := Read(t.Context(), file, Options{}, func(*Row) error { return nil })
	var fault *FileError
	switch {
	case errors.As(err, &fault):
		fmt.Printf("refused: %v\n", err)
	case err != nil:
		t.Fatal(err)
	default:
		fmt.Printf("read: %d rows\n", s.Rows)
	}
}

// craft returns the parts of a workbook, some of them replaced or added.
func craft(sheet string, more ...[2]string) [][2]string {
	all := parts(sheet)
	for _, m := range more {
		found := false
		for i := range all {
			if all[i][0] == m[0] {
				all[i], found = m, true
			}
		}
		if !found {
			all = append(all, m)
		}
	}
	return all
}

const (
	namespace     = ` xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"`
	worksheetType = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"
)

// filling repeats a text until it is about so many bytes.
func filling(text string, bytes int) string { return strings.Repeat(text, bytes/len(text)) }

// listOfSheets is a workbook's list of n sheets, each with the id that is given.
func listOfSheets(n int, id func(i int) string) string {
	var b strings.Builder
	b.WriteString(`<workbook` + namespace + `><sheets>`)
	for i := range n {
		fmt.Fprintf(&b, `<sheet name="S%d" sheetId="%d" r:id="%s"/>`, i, i+1, id(i))
	}
	return b.String() + `</sheets></workbook>`
}

func listOfRelationships(n int, one func(i int) (id, target string)) string {
	var b strings.Builder
	b.WriteString(`<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">`)
	for i := range n {
		id, target := one(i)
		fmt.Fprintf(&b, `<Relationship Id="%s" Type="%s" Target="%s"/>`, id, worksheetType, target)
	}
	return b.String() + `</Relationships>`
}

func stylesheet(inside string) [2]string {
	return [2]string{"xl/styles.xml", `<styleSheet` + namespace + `>` + inside + `</styleSheet>`}
}

// crafted are workbooks of a few kilobytes, but for some, that would take minutes or
// gigabytes to read, each in another way.
func crafted(t *testing.T) []struct{ name, text, want string } {
	t.Helper()
	good := rawSheet(rawRow(1, "email") + rawRow(2, "a@x.com"))
	people := func(rows string) string { return rawSheet(rawRow(1, "email", "note") + rows) }
	after := func(more string) string { return strings.Replace(good, `</sheetData>`, `</sheetData>`+more, 1) }
	const list, rels = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
	// A part of fill bytes is a third of what a small file may unpack to.
	const many, fill = 1 << 20, 5 << 20
	same := func(int) string { return "rId1" }
	own := func(i int) string { return fmt.Sprintf("rId%d", i) }
	bottom := rawSheet(`<row r="1048576"><c r="A1048576"><v>1</v></c></row>`)
	sheets := func(n int, text string) [][2]string {
		all := craft(good, [2]string{list, listOfSheets(n, own)}, [2]string{rels, listOfRelationships(n, func(i int) (string, string) {
			return own(i), fmt.Sprintf("worksheets/sheet%d.xml", i)
		})})
		for i := range n {
			all = append(all[:len(all):len(all)], [2]string{fmt.Sprintf("xl/worksheets/sheet%d.xml", i), text})
		}
		return append(all[:4:4], all[5:]...) // without the first sheet, whose name is taken
	}
	nested := func(tag string) string { return filling("<"+tag+">", 10*many) }
	formatted := func(code, value string, cells int) string {
		return pack(t, craft(rawSheet(rawRow(1, "email")+`<row r="2"><c r="A2" t="inlineStr"><is><t>a@x.com</t></is></c></row>`+
			strings.Repeat(`<row><c t="inlineStr"><is><t>b@x.com</t></is></c><c s="1"><v>`+value+`</v></c></row>`, cells)),
			stylesheet(`<numFmts><numFmt numFmtId="200" formatCode="`+code+`"/></numFmts><cellXfs><xf/><xf numFmtId="200"/></cellXfs>`)))
	}
	// A part that does not shrink lets the file unpack to more.
	noise := make([]byte, 150_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // it never fails
	padding := [2]string{"xl/media/a.png", string(noise)}
	stored := zipped(t, zip.Store, craft(good, [2]string{"xl/media/a.png", strings.Repeat("\x00", 40*many)}))
	parted := make([][2]string, 100_000)
	for i := range parted {
		parted[i][0] = fmt.Sprintf("xl/media/%d", i)
	}
	var packed, lying bytes.Buffer
	deflate, err := flate.NewWriter(&packed, flate.BestCompression)
	must.OK(t, err)
	_, err = deflate.Write(make([]byte, 14*many))
	must.OK(t, errors.Join(err, deflate.Close()))
	z := zip.NewWriter(&lying)
	for _, part := range craft(good) {
		w, err := z.Create(part[0])
		must.OK(t, err)
		_, err = io.WriteString(w, part[1])
		must.OK(t, err)
	}
	w, err := z.CreateRaw(&zip.FileHeader{Name: "xl/media/a.png", Method: zip.Deflate, CompressedSize64: uint64(packed.Len()), UncompressedSize64: 10})
	must.OK(t, err)
	_, err = w.Write(packed.Bytes())
	must.OK(t, errors.Join(err, z.Close()))
	return []struct{ name, text, want string }{
		{"sheets by relationships", pack(t, craft(good, [2]string{list, listOfSheets(50_000, same)}, [2]string{rels, listOfRelationships(50_000, func(int) (string, string) { return "rId1", "worksheets/sheet1.xml" })})), "more than 1000 sheets"},
		{"relationships", pack(t, craft(good, [2]string{rels, listOfRelationships(100_000, func(i int) (string, string) { return own(i), "worksheets/sheet1.xml" })})), "more than 10000 relationships"},
		{"relationships of the archive", pack(t, craft(good, [2]string{"_rels/.rels", listOfRelationships(100_000, func(i int) (string, string) { return own(i), "x" })})), "more than 10000 relationships"},
		{"sheets of one part", pack(t, craft(people(strings.Repeat(`<row><c><v>1</v></c></row>`, 150_000)), [2]string{list, listOfSheets(900, own)}, [2]string{rels, listOfRelationships(900, func(i int) (string, string) { return own(i), "worksheets/sheet1.xml" })})), "two of its sheets are one part"},
		{"sheets with a cell at the bottom", pack(t, sheets(900, bottom)), "far more rows"},
		{"styles", pack(t, craft(good, stylesheet(`<fonts>`+filling(`<font><b/><i/></font>`, fill)+`</fonts>`))), "read: 1 rows"},
		{"borders", pack(t, craft(good, stylesheet(`<borders>`+filling(`<border><left/><right/></border>`, fill)+`</borders>`))), "read: 1 rows"},
		{"formats of cells", pack(t, craft(good, stylesheet(`<cellXfs>`+filling(`<xf/>`, fill)+`</cellXfs>`))), "more than 65536 formats of cells"},
		{"number formats", pack(t, craft(good, stylesheet(`<numFmts>`+filling(`<numFmt numFmtId="1" formatCode="0"/>`, fill)+`</numFmts>`))), "more than 1000 number formats"},
		{"a long number format", formatted(strings.Repeat("0", 2000), "1", 1), "number format of more than 1000 bytes"},
		{"a number format for many cells", formatted(strings.Repeat("yyyy-mm-dd ", 90), "45000", 20_000), "far more formatted cells"},
		{"a short number format for many cells", formatted("0", "45000", 170_000), "far more formatted cells"},
		{"a fraction of no number", formatted("# ?/?", "NaN", 3), "read: 4 rows"},
		{"a fraction of infinity", formatted("?/"+strings.Repeat("?", 18), "-Inf", 3), "read: 4 rows"},
		{"a fraction of Excel's own", pack(t, craft(rawSheet(rawRow(1, "email")+`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c s="1"><v>NaN</v></c></row>`), stylesheet(`<cellXfs><xf/><xf numFmtId="13"/></cellXfs>`))), "read: 1 rows"},
		{"texts", pack(t, craft(good, [2]string{sharedStringsPart, `<sst` + namespace + `>` + filling(`<si/>`, fill) + `</sst>`})), "far more texts"},
		{"a text of many runs", pack(t, craft(good, [2]string{sharedStringsPart, `<sst` + namespace + `><si>` + filling(`<r/>`, fill) + `</si></sst>`})), "longer than 4194304 bytes"},
		{"a text of many runs that many cells share", pack(t, craft(people(strings.Repeat(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`, 50_000)),
			[2]string{sharedStringsPart, `<sst` + namespace + `><si>` + filling(`<r><t/></r>`, 3*many) + `</si></sst>`})), "read: 50000 rows"},
		{"a long text that many cells share", pack(t, craft(people(strings.Repeat(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`, 20_000)),
			[2]string{sharedStringsPart, `<sst` + namespace + `><si><t>` + strings.Repeat("x", 100_000) + `</t></si></sst>`})), "far more cells"},
		{"escapes in a text that cells share", pack(t, craft(people(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`),
			[2]string{sharedStringsPart, `<sst` + namespace + `><si><t>` + filling("_x0041_", 3*many) + `</t></si></sst>`})), "far more escaped characters"},
		{"escapes in the runs of a text", pack(t, craft(people(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`),
			[2]string{sharedStringsPart, `<sst` + namespace + `><si>` + filling("<r><t>_</t></r><r><t>x0041_</t></r>", 3*many) + `</si></sst>`})), "far more escaped characters"},
		{"escapes after a long text", pack(t, append(craft(people(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`),
			[2]string{sharedStringsPart, `<sst` + namespace + `><si><t>` + filling("y", 900_000) + filling("_x0041_", 400_000) + `</t></si></sst>`}), padding)), "far more escaped characters"},
		{"escapes in a cell", pack(t, craft(people(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="inlineStr"><is><t>`+
			filling("_&#x78;0041_", 3*many)+`</t></is></c></row>`))), "more escaped characters"},
		{"texts deep inside", pack(t, craft(people(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`),
			[2]string{sharedStringsPart, `<sst` + namespace + `><a>` + filling(`<si/>`, 10*many) + `</a></sst>`})), "far more texts"},
		{"a large number with a format for many cells", formatted("#,##0.00", "1E308", 30_000), "far more formatted cells"},
		{"a small number with a format for many cells", formatted("0.0", strings.Repeat("0", 200)+".1e-305", 30_000), "far more formatted cells"},
		{"a large number in pieces", formatted("#,##0.00", "1E<a>1</a>3<!-- -->08</v><a><v>1</v></a><v/><v>1E308", 30_000), "far more formatted cells"},
		{"columns", pack(t, craft(rawSheet(`<row>`+filling(`<c><v>1</v></c>`, 3*many)+`</row>`))), "refused"},
		{"columns by rows", pack(t, craft(rawSheet(rawRow(1, "email")+`<row r="2"><c r="ALL2"><v>1</v></c></row>`+filling(`<row><c><v>1</v></c></row>`, fill)))), "far more cells"},
		{"a cell in the last column", pack(t, craft(rawSheet(rawRow(1, "email")+`<row r="2"><c r="XFD2"><v>1</v></c></row>`+filling(`<row><c><v>1</v></c></row>`, fill)))), "refused"},
		{"rows", pack(t, craft(rawSheet(rawRow(1, "email")+filling(`<row><c t="str"><v>a@x.com</v></c></row>`, fill)))), "read: "},
		{"rows without cells", pack(t, craft(rawSheet(rawRow(1, "email")+filling(`<row/>`, 2*many)+`<row r="1048570"><c r="A1048570"><v>1</v></c></row>`))), "read: 1 rows"},
		{"defined names", pack(t, craft(good, [2]string{list, strings.Replace(parts(good)[2][1], `</workbook>`, `<definedNames>`+filling(`<definedName name="a">S!$A$1</definedName>`, fill)+`</definedNames></workbook>`, 1)})), "read: 1 rows"},
		{"merged cells", pack(t, craft(after(`<mergeCells>`+filling(`<mergeCell ref="A5:B6"/>`, fill)+`</mergeCells>`))), "read: 1 rows"},
		{"merged cells by rows without an address", pack(t, craft(strings.Replace(people(filling(`<row><c/><c><v>1</v></c></row>`, fill)), `</sheetData>`, `</sheetData><mergeCells>`+strings.Repeat(`<mergeCell ref="A5:B6"/>`, 1000)+`</mergeCells>`, 1))), "read: "},
		{"conditional formats", pack(t, craft(after(filling(`<conditionalFormatting sqref="A1"><cfRule type="expression"><formula>1</formula></cfRule></conditionalFormatting>`, fill)))), "read: 1 rows"},
		{"validations", pack(t, craft(after(`<dataValidations>`+filling(`<dataValidation sqref="A1"/>`, fill)+`</dataValidations>`))), "read: 1 rows"},
		{"formulas", pack(t, craft(people(filling(`<row><c><f t="shared" ref="A1:XFD1048576" si="0">A1+1</f></c></row>`, fill)))), "read: 0 rows"},
		{"a large dimension", pack(t, craft(strings.Replace(good, `<sheetData>`, `<dimension ref="A1:XFD1048576"/><cols>`+filling(`<col min="1" max="16384"/>`, fill)+`</cols><sheetData>`, 1))), "read: 1 rows"},
		{"elements in elements of a sheet", pack(t, craft(after(nested("a")))), "inside one another"},
		{"elements in elements of a row", pack(t, craft(rawSheet(`<row>`+filling(`<a>`, 3*many)))), "inside one another"},
		{"elements in elements of the list", pack(t, craft(good, [2]string{list, nested("workbook")})), "inside one another"},
		{"elements in elements of the styles", pack(t, craft(good, [2]string{stylesPart, nested("dxf")})), "inside one another"},
		{"elements in elements of the texts", pack(t, craft(good, [2]string{sharedStringsPart, nested("si")})), "refused"},
		{"attributes", pack(t, craft(rawSheet(rawRow(1, "email")+`<row`+filling(` a="b"`, 3*many)+`/>`))), "read: 0 rows"},
		{"spaces to be kept", pack(t, craft(rawSheet(rawRow(1, "email")+filling(`<row xml:space="preserve"><c xml:space="preserve" t="str"><v xml:space="preserve">a@x.com</v></c></row>`, fill)))), "read: "},
		{"namespaces", pack(t, craft(rawSheet(rawRow(1, "email")+filling(`<row xmlns:a="b" xmlns:c="d" xmlns:e="f"/>`, fill)))), "read: 0 rows"},
		{"namespaces on elements inside one another", pack(t, append(craft(good, [2]string{rels, strings.Replace(parts(good)[3][1], `</Relationships>`,
			strings.Repeat(`<a`+filling(` xmlns:a=""`, 4_000_000)+`>`, 8)+strings.Repeat(`</a>`, 8)+`</Relationships>`, 1)}), padding)), "more than 1000 namespaces"},
		{"namespaces on elements of a sheet", pack(t, append(craft(strings.Replace(good, `<sheetData>`,
			strings.Repeat(`<a`+filling(` xmlns:a=""`, 3_900_000)+`>`, 8)+strings.Repeat(`</a>`, 8)+`<sheetData>`, 1)), padding)), "more than 1000 namespaces"},
		{"formats of runs in titles", pack(t, append(craft(rawSheet(strings.Repeat(`<row><c t="inlineStr"><is><r><rPr>`+filling(`<b/>`, 3_900_000)+
			`</rPr><t>title</t></r></is></c></row>`, 8)+`<row><c t="inlineStr"><is><t>email</t></is></c></row><row><c t="inlineStr"><is><t>a@x.com</t></is></c></row>`)), padding)), "far more elements"},
		{"runs in titles", pack(t, append(craft(rawSheet(strings.Repeat(`<row><c t="inlineStr"><is>`+filling(`<r/>`, 3_900_000)+
			`<r><t>title</t></r></is></c></row>`, 8)+`<row><c t="inlineStr"><is><t>email</t></is></c></row><row><c t="inlineStr"><is><t>a@x.com</t></is></c></row>`)), padding)), "far more elements"},
		{"a comment", pack(t, craft(good, [2]string{list, `<!--` + filling("x", fill) + `-->`})), "longer than"},
		{"an attribute", pack(t, craft(good, [2]string{list, `<workbook a="` + filling("x", fill) + `"/>`})), "longer than"},
		{"a name of a sheet", pack(t, craft(good, [2]string{list, strings.Replace(parts(good)[2][1], `"S"`, `"`+filling("S", 3*many)+`"`, 1)})), "a name that is too long"},
		{"entities", pack(t, craft(good, [2]string{list, `<!DOCTYPE a [<!ENTITY b "` + filling("x", many) + `">]><workbook>` + filling("&b;", many) + `</workbook>`})), "damaged"},
		{"a document type", pack(t, craft(good, [2]string{list, `<!DOCTYPE a [` + filling(`<!ENTITY b "c">`, fill) + `]><workbook/>`})), "longer than"},
		{"an external entity", pack(t, craft(rawSheet(rawRow(1, "email")+`<row><c t="str"><v>&b;</v></c></row>`))), "damaged"},
		{"numbers", pack(t, craft(people(strings.Repeat(`<row><c t="str"><v>a@x.com</v></c><c><v>`+filling("9", 900_000)+`</v></c></row>`, 16)))), "read: 16 rows"},
		{"drawings and links", pack(t, append(craft(good), [2]string{"xl/drawings/drawing1.xml", nested("a")}, [2]string{"xl/externalLinks/externalLink1.xml", `<a>`})), "read: 1 rows"},
		{"drawings and links together", pack(t, append(craft(good), [2]string{"xl/drawings/drawing1.xml", nested("a")}, [2]string{"xl/externalLinks/externalLink1.xml", nested("a")})), "unpacks to more than"},
		{"a part of a gigabyte", pack(t, append(craft(good), [2]string{"xl/calcChain.xml", strings.Repeat("\x00", 200*many)})), "unpacks to more than"},
		{"zip in gzip", gzipped(t, stored), "unpacks to more than"},
		{"parts", zipped(t, zip.Store, parted), "too many parts"},
		{"a part twice", pack(t, append(craft(good), [2]string{"xl/workbook.xml", "x"})), "two parts of one name"},
		{"a part twice, by case", pack(t, append(craft(good), [2]string{"XL/Workbook.xml", "x"})), "two parts of one name"},
		{"a part of a wrong size", lying.String(), "damaged"},
		// Just below what is refused.
		{"a number format for fewer cells", formatted(strings.Repeat("yyyy-mm-dd ", 90), "45000", 110), "read: 111 rows"},
		{"a date in many cells", formatted("yyyy-mm-dd", "45000", 32_000), "read: 32001 rows"},
		{"a large number with a format for fewer cells", formatted("#,##0.00", "1E308", 1_300), "read: 1301 rows"},
		{"fewer escapes", pack(t, craft(people(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`),
			[2]string{sharedStringsPart, `<sst` + namespace + `><si><t>` + filling("_x0041_", 50_000) + `</t></si></sst>`})), "read: 1 rows"},
		{"many texts", pack(t, craft(people(strings.Repeat(`<row><c t="s"><v>1</v></c><c t="s"><v>499999</v></c></row>`, 100_000)), [2]string{sharedStringsPart, `<sst` + namespace + `>` + strings.Repeat(`<si/>`, 500_000) + `</sst>`})), "read: 0 rows"},
		{"fewer sheets with a cell at the bottom", pack(t, sheets(8, bottom)), "refused: no e-mail column"},
		{"rows of many columns", pack(t, craft(rawSheet(rawRow(1, "email")+`<row r="2"><c r="ALL2"><v>1</v></c></row>`+strings.Repeat(`<row><c><v>1</v></c></row>`, 4_000)))), "read: 4001 rows"},
		{"a text that fewer cells share", pack(t, craft(people(strings.Repeat(`<row><c t="inlineStr"><is><t>a@x.com</t></is></c><c t="s"><v>0</v></c></row>`, 160)),
			[2]string{sharedStringsPart, `<sst` + namespace + `><si><t>` + strings.Repeat("x", 100_000) + `</t></si></sst>`})), "read: 160 rows"},
	}
}

// ordinary returns a program with these tests as they run for people. The race detector
// takes ten times the time and memory, so that no figure of it says anything, and the
// crafted workbooks took it minutes.
func ordinary(t *testing.T) string {
	t.Helper()
	if !raceDetector {
		return os.Args[0]
	}
	path := filepath.Join(t.TempDir(), "importer.test")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-race=false", "-o", path, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestCraftedWorkbooks reads each crafted workbook in a process of its own: it is
// refused or read within 5 s of a processor and 256 MiB.
func TestCraftedWorkbooks(t *testing.T) {
	t.Parallel()
	const most, memory = 5 * time.Second, 256 << 10 // KiB
	program, dir := ordinary(t), t.TempDir()
	run := func(env string) (*exec.Cmd, string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // other tests may have the processors
		defer cancel()
		c := exec.CommandContext(ctx, program, "-test.run=^TestCraftedFile$", "-test.count=1")
		c.Env = append(os.Environ(), env, "TMPDIR="+t.TempDir())
		out, err := c.CombinedOutput()
		return c, string(out), err
	}
	if _, out, err := run(craftedDir + "=" + dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, craftedList))
	must.OK(t, err)
	var list []craftedOne
	must.OK(t, json.Unmarshal(text, &list))
	if len(list) < 60 {
		t.Fatalf("only %d workbooks", len(list))
	}
	for _, test := range list {
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			c, out, err := run(craftedFile + "=" + test.Path)
			said, rest, _ := strings.Cut(out, "\n")
			cpu := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
			rss := 0
			if _, scanning := fmt.Sscanf(rest, "memory: %d KiB", &rss); scanning != nil {
				err = errors.Join(err, scanning)
			}
			t.Logf("%.1f s, %d MiB, %.150s", cpu.Seconds(), rss>>10, said)
			if err != nil || !strings.Contains(said, test.Want) || cpu > most || rss > memory {
				t.Errorf("error %v, want %q", err, test.Want)
			}
		})
	}
}
