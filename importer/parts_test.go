package importer

import (
	"fmt"
	"strings"
	"testing"

	"bulkinvite/internal/must"
)

// replaced are the parts of a workbook, some of them under other names or with another
// content, and more of them behind.
func replaced(all [][2]string, change map[string]string, more ...[2]string) [][2]string {
	var out [][2]string
	for _, part := range all {
		if text, ok := change[part[0]]; ok {
			part[1] = text
		}
		out = append(out, part)
	}
	return append(out, more...)
}

// related is the list of what a workbook's list of sheets stands with: the sheet, and
// parts by their kind and target.
func related(more ...[2]string) string {
	const relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
	text := `<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="` + relations + `worksheet" Target="worksheets/sheet1.xml"/>`
	for i, m := range more {
		text += fmt.Sprintf(`<Relationship Id="rId%d" Type="%s%s" Target="%s"/>`, i+2, relations, m[0], m[1])
	}
	return text + `</Relationships>`
}

// Parts are where the workbook's relationships say, under whatever name.
func TestReadWorkbookParts(t *testing.T) {
	t.Parallel()
	const rels = "xl/_rels/workbook.xml.rels"
	const texts = `<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>email</t></si><si><t>a@x.com</t></si></sst>`
	const others = `<sst><si><t>email</t></si><si><t>wrong@x.com</t></si></sst>`
	sheet := rawSheet(`<row><c t="s"><v>0</v></c></row><row><c t="s"><v>1</v></c></row>`)
	for _, target := range [][2]string{
		{"sharedStrings.xml", "xl/sharedStrings.xml"}, {"strings.xml", "xl/strings.xml"},
		{"texts/all.xml", "xl/texts/all.xml"}, {"/texts.xml", "texts.xml"},
		{"../texts.xml", "texts.xml"}, {"/xl/SharedStrings2.xml", "xl/sharedstrings2.xml"}, {"./a.xml", "xl/a.xml"},
	} {
		all := replaced(parts(sheet), map[string]string{rels: related([2]string{"sharedStrings", target[0]})},
			[2]string{target[1], texts})
		if target[1] != sharedStringsPart {
			all = append(all, [2]string{sharedStringsPart, others})
		}
		rows, _, err := read(t, pack(t, all), Options{})
		if err != nil || brief(rows) != "1@2 a@x.com\n" {
			t.Errorf("texts in %s: %s %v", target[0], brief(rows), err)
		}
	}
	// Without a relationship the usual name counts, as it does for the library.
	rows, _, err := read(t, pack(t, replaced(parts(sheet), nil, [2]string{sharedStringsPart, texts})), Options{})
	if err != nil || brief(rows) != "1@2 a@x.com\n" {
		t.Errorf("texts without a relationship: %s %v", brief(rows), err)
	}
	gone := replaced(parts(sheet), map[string]string{rels: related([2]string{"sharedStrings", "gone.xml"})})
	_ = refuse(t, pack(t, gone), Options{}, "lacks its part xl/gone.xml", "")
	// Number formats make a date of a number.
	dated := rawSheet(rawRow(1, "email",
		"Start") + `<row r="2"><c r="A2" t="inlineStr"><is><t>a@x.com</t></is></c><c r="B2" s="1"><v>46357</v></c></row>`)
	styles := `<styleSheet><cellXfs><xf/><xf numFmtId="14"/></cellXfs></styleSheet>`
	for _, target := range [][2]string{{"styles.xml", "xl/styles.xml"}, {"formats/own.xml", "xl/formats/own.xml"},
		{"/own.xml", "own.xml"}} {
		rows, _,
			err := read(t,
			pack(t,
				replaced(parts(dated), map[string]string{rels: related([2]string{"styles", target[0]})},
					[2]string{target[1], styles})), Options{})
		if err != nil || rows[0].Cells[1] != "2026-12-01" {
			t.Errorf("formats in %s: %+v %v", target[0], rows, err)
		}
	}
}

// Dates count from 1904 where the workbook says so, as those of old Macs do.
func TestReadWorkbook1904(t *testing.T) {
	t.Parallel()
	const styles = `<styleSheet><numFmts><numFmt numFmtId="200" formatCode="dd/mm/yyyy hh:mm"/><numFmt numFmtId="201" formatCode="hh:mm"/></numFmts><cellXfs><xf/><xf numFmtId="14"/><xf numFmtId="200"/><xf numFmtId="22"/><xf numFmtId="201"/></cellXfs></styleSheet>`
	sheet := rawSheet(rawRow(1, "email", "last day", "start",
		"at") + `<row r="2"><c r="A2" t="inlineStr"><is><t>a@x.com</t></is></c>` +
		`<c r="B2" s="1"><v>44895</v></c><c r="C2" s="2"><v>44895.5</v></c><c r="D2" s="3"><v>44895.25</v></c></row>` +
		`<row r="3"><c r="A3" t="inlineStr"><is><t>b@x.com</t></is></c><c r="B3" s="4"><v>0.5</v></c><c r="C3" s="1"><v>62</v></c><c r="D3" s="1"><v>1096</v></c></row>` +
		`<row r="4"><c r="A4" t="inlineStr"><is><t>c@x.com</t></is></c><c r="B4" s="4"><v>0.27083333333</v></c><c r="C4" s="1"><v>35000</v></c><c r="D4" s="1"><v>44895.99999999</v></c></row>`)
	for _, test := range []struct{ pr, want string }{
		{`<workbookPr date1904="1"/>`,
			`["a@x.com" "2026-12-01" "01/12/2026 12:00" "2026-12-01 06:00"]["b@x.com" "12:00" "1904-03-03" "1907-01-01"]["c@x.com" "06:30" "1999-10-29" "2026-12-02"]`},
		{`<workbookPr date1904="true"/>`,
			`["a@x.com" "2026-12-01" "01/12/2026 12:00" "2026-12-01 06:00"]["b@x.com" "12:00" "1904-03-03" "1907-01-01"]["c@x.com" "06:30" "1999-10-29" "2026-12-02"]`},
		{`<workbookPr date1904="0"/>`, `["a@x.com" "2022-11-30" "30/11/2022 12:00" "2022-11-30 06:00"]`},
		{`<workbookPr/>`, `["a@x.com" "2022-11-30" "30/11/2022 12:00" "2022-11-30 06:00"]`},
	} {
		all := parts(sheet)
		all[2][1] = strings.Replace(all[2][1], "<sheets>", test.pr+"<sheets>", 1)
		rows, _, err := read(t, pack(t, append(all, [2]string{stylesPart, styles})), Options{})
		must.OK(t, err)
		got := ""
		for _, row := range rows {
			got += fmt.Sprintf("%q", row.Cells)
		}
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s, want %s", test.pr, got, test.want)
		}
	}
}

// What many systems save as .xls is named, in whatever encoding, with what to do.
func TestReadMarkup(t *testing.T) {
	t.Parallel()
	const table = "<table><tr><th>Name</th><th>email</th></tr><tr><td>Ann</td><td>a@x.com</td></tr></table>"
	const sheet = `<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet><Table><Row><Cell><Data>email</Data></Cell></Row></Table></Worksheet></Workbook>`
	wide := func(text string) string {
		out := "\xff\xfe"
		for i := range len(text) {
			out += text[i:i+1] + "\x00"
		}
		return out
	}
	for _, test := range []struct{ text, what string }{
		{table, "HTML"}, {"\ufeff\r\n  " + strings.ToUpper(table), "HTML"},
		{"<html xmlns:x=\"urn:schemas-microsoft-com:office:excel\"><head></head>" + table, "HTML"},
		{"<!DOCTYPE html>\n<html>" + table, "HTML"}, {"<meta charset=utf-8>" + table, "HTML"},
		{"<style>td{}</style>" + table, "HTML"}, {"<?xml version=\"1.0\"?><html>" + table, "HTML"},
		{wide("<html>\r\n" + table), "HTML"}, {gzipped(t, table), "HTML"}, {"<html><body>J\xfcrgen" + table, "HTML"},
		{"<?xml version=\"1.0\"?>\r\n<?mso-application progid=\"Excel.Sheet\"?>\r\n" + sheet, "in XML (Excel 2003)"},
		{sheet, "in XML (Excel 2003)"}, {wide("<?xml version=\"1.0\"?>" + sheet), "in XML (Excel 2003)"},
		{"MIME-Version: 1.0\r\nContent-Type: multipart/related\r\n\r\n" + table, "MHTML"},
		{"<?xml version=\"1.0\"?><people><email>a@x.com</email></people>", "an XML document"},
	} {
		_ = refuse(t, test.text, Options{}, test.what, "Open it in Excel and save it as")
	}
	if rows, _,
		err := read(t, "<email>,name\na@x.com,<b>\n", Options{}); err != nil || brief(rows) != "1@2 a@x.com\n" {
		t.Errorf("a header in brackets: %v", err)
	}
}
