package importer

import (
	"archive/zip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/xuri/nfp"
)

// Where excelize looks for these parts. Workbooks may have them elsewhere.
const (
	sharedStringsPart = "xl/sharedStrings.xml"
	stylesPart        = "xl/styles.xml"
)

// builtIn is taken for the length of a number format that the workbook does not
// write, in bytes.
const builtIn = 20

// styles are the formats of cells as far as values are shown by them.
type styles struct {
	formats []numberFormat // the workbook's own
	cells   []int          // the number format of each format of cells
	cost    []int          // what it takes to show a value, for each of these: see effort
}

type numberFormat struct {
	id   int
	code string
}

// formats reads the workbook's styles; part is empty where it has none. Of 92 KB of fonts, borders and the like
// excelize would make 2.8 GB, and none of them changes what a cell says.
func (v *survey) formats(part string) (styles, error) {
	var s styles
	if part == "" {
		return s, nil
	}
	err := v.elements(part, func(in []string, e xml.StartElement) error {
		if len(in) != 2 {
			return nil
		}
		switch {
		case in[1] == "numFmts" && e.Name.Local == "numFmt":
			return s.addFormat(e.Attr)
		case in[1] == "cellXfs" && e.Name.Local == "xf":
			return s.addCell(e.Attr)
		}
		return nil
	})
	if err != nil {
		return s, err
	}
	for i, id := range s.cells {
		at := slices.IndexFunc(s.formats, func(f numberFormat) bool { return f.id == id })
		code, length := "", builtIn
		if at >= 0 {
			code, length = s.formats[at].code, len(s.formats[at].code)
		}
		if fraction(id, code) {
			s.cells[i] = 0
		}
		s.cost = append(s.cost, effort(length))
	}
	return s, nil
}

// effort is what it takes excelize to show a value by a number format of so many
// bytes, which it reads anew for each cell: some 3 µs each, by measurement.
func effort(length int) int { return 8 + length + length*length/256 }

func (s *styles) addFormat(attributes []xml.Attr) error {
	if len(s.formats) == maxFormats {
		return excess(maxFormats, "number formats")
	}
	id, err := strconv.Atoi(attribute(attributes, "numFmtId"))
	if err != nil {
		return errors.New("a number format has no number")
	}
	code := attribute(attributes, "formatCode16") // the newer way to write it
	if code == "" {
		code = attribute(attributes, "formatCode")
	}
	if len(code) > maxFormat {
		what := fmt.Sprintf("the workbook has a number format of more than %d bytes", maxFormat)
		return &FileError{What: what, Fix: saveAsCSV}
	}
	s.formats = append(s.formats, numberFormat{id, code})
	return nil
}

func (s *styles) addCell(attributes []xml.Attr) error {
	if len(s.cells) == maxStyles {
		return excess(maxStyles, "formats of cells")
	}
	id := 0
	if text := attribute(attributes, "numFmtId"); text != "" {
		var err error
		if id, err = strconv.Atoi(text); err != nil {
			return errors.New("a format of cells has no number for its number format")
		}
	}
	s.cells = append(s.cells, id)
	return nil
}

// fraction reports whether values are shown as fractions, which excelize looks for
// without an end where a value is no finite number. They are read as decimals.
func fraction(id int, code string) bool {
	if code == "" {
		return id == 12 || id == 13 // "# ?/?" and "# ??/??" (ECMA-376, part 1, 18.8.30)
	}
	if !strings.Contains(code, "/") {
		return false
	}
	p := nfp.NumberFormatParser()
	for _, section := range p.Parse(code) {
		if slices.ContainsFunc(section.Items, func(t nfp.Token) bool { return t.TType == nfp.TokenTypeFraction }) {
			return true
		}
	}
	return false
}

// write makes a workbook of the sheets that have values, the texts that cells share
// and the number formats. The parts with cells are copied as they are.
func (v *survey) write(path string, sheets []sheet) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := zip.NewWriter(file)
	const (
		office   = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
		packages = "http://schemas.openxmlformats.org/package/2006/"
		main     = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
		toBook   = `<Relationship Id="rId1" Type="` + office + `/officeDocument" Target="xl/workbook.xml"/>`
		book     = `<workbook xmlns="` + main + `" xmlns:r="` + office + `"><workbookPr date1904="%t"/><sheets>%s</sheets></workbook>`
	)
	var list, rels strings.Builder
	for i, s := range sheets {
		if s.last == 0 {
			continue
		}
		fmt.Fprintf(&list, `<sheet name="%s" sheetId="%d" r:id="rId%d"/>`, s.alias, i+1, i+1)
		fmt.Fprintf(&rels, `<Relationship Id="rId%d" Type="%s/worksheet" Target="worksheets/sheet%d.xml"/>`, i+1, office, i+1)
		if err := v.copy(out, s.part, fmt.Sprintf("xl/worksheets/sheet%d.xml", i+1)); err != nil {
			return err
		}
	}
	if v.texts != "" {
		if err := v.copy(out, v.texts, sharedStringsPart); err != nil {
			return err
		}
	}
	for _, part := range [][2]string{
		{"[Content_Types].xml", `<Types xmlns="` + packages + `content-types"/>`},
		{"_rels/.rels", `<Relationships xmlns="` + packages + `relationships">` + toBook + `</Relationships>`},
		{"xl/workbook.xml", fmt.Sprintf(book, v.date, &list)},
		{"xl/_rels/workbook.xml.rels", `<Relationships xmlns="` + packages + `relationships">` + rels.String() + `</Relationships>`},
		{stylesPart, v.styles.text(main)},
	} {
		w, err := out.Create(part[0])
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, xml.Header+part[1]); err != nil {
			return err
		}
	}
	return out.Close()
}

// copy copies a part under another name, without unpacking it.
func (v *survey) copy(out *zip.Writer, part, name string) error {
	f := v.parts[part]
	in, err := f.OpenRaw()
	if err != nil {
		return damagedWorkbook(err)
	}
	header := f.FileHeader
	header.Name, header.Extra = name, nil
	w, err := out.CreateRaw(&header)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, &called{v.ctx, in})
	return err
}

// text writes the styles as a part.
func (s *styles) text(namespace string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<styleSheet xmlns="%s">`, namespace)
	if len(s.formats) > 0 {
		b.WriteString(`<numFmts>`)
		for _, f := range s.formats {
			fmt.Fprintf(&b, `<numFmt numFmtId="%d" formatCode="`, f.id)
			_ = xml.EscapeText(&b, []byte(f.code)) // a Builder takes everything
			b.WriteString(`"/>`)
		}
		b.WriteString(`</numFmts>`)
	}
	b.WriteString(`<cellXfs>`)
	for _, id := range s.cells {
		fmt.Fprintf(&b, `<xf numFmtId="%d"/>`, id)
	}
	b.WriteString(`</cellXfs></styleSheet>`)
	return b.String()
}
