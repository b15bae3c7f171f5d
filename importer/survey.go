package importer

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/xuri/excelize/v2"
)

// mostAreas is how many merged areas are remembered of a sheet.
const mostAreas = 1000

// sheet is what a survey finds in a worksheet.
type sheet struct {
	name          string
	hidden        bool
	last          int    // the number of the last row that has a value; 0: the sheet is empty
	width         int    // the number of the last column that has one
	merged        []area // areas that are one cell to the eye
	uncomputed    int    // formulas without a value
	uncomputedRow int    // the row of the first of those
}

// area is a block of cells, with its bounds in it; columns count from 1.
type area struct{ left, top, right, bottom int }

// swallows tells whether a cell is in a merged area but not its first one, so
// that it has no value of its own.
func (s *sheet) swallows(row, column int) bool {
	return slices.ContainsFunc(s.merged, func(a area) bool {
		return a.top <= row && row <= a.bottom && a.left <= column && column <= a.right && (row != a.top || column != a.left)
	})
}

// surveyWorkbook reads all of a workbook once: that it is whole, and what its
// worksheets have. The library would take a sheet that breaks off for one that
// ends, and cells out of order for cells of other columns.
func surveyWorkbook(ctx context.Context, name string, limits Limits) ([]sheet, error) {
	archive, err := zip.OpenReader(name)
	if err != nil {
		return nil, damagedWorkbook(err)
	}
	defer archive.Close() //nolint:errcheck // it was only read
	v := &survey{ctx: ctx, limits: limits, parts: map[string]*zip.File{}}
	if err := v.index(archive.File); err != nil {
		return nil, err
	}
	return v.worksheets()
}

type survey struct {
	ctx    context.Context
	limits Limits
	parts  map[string]*zip.File
}

// index lists what is in a workbook, and measures it before anything is unpacked.
func (v *survey) index(files []*zip.File) error {
	all, besides := uint64(0), uint64(0)
	for _, f := range files {
		name := strings.ReplaceAll(f.Name, `\`, "/")
		if v.parts[name] != nil {
			return damagedWorkbook(errors.New("it has two parts of one name"))
		}
		v.parts[name] = f
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "xl/worksheets/sheet") && lower != "xl/sharedstrings.xml" {
			besides += f.UncompressedSize64
		}
		// Sizes are checked one by one, so that their sum can't overflow; that
		// they are true, the archive's reader checks.
		if all += f.UncompressedSize64; all > maxUnpacked || f.UncompressedSize64 > maxUnpacked || besides > maxBesides {
			return &FileError{What: fmt.Sprintf("the workbook unpacks to more than %d bytes, or to more than %d besides its sheets", maxUnpacked, maxBesides),
				Fix: "Save the sheet as CSV (UTF-8)."}
		}
	}
	if v.parts["[Content_Types].xml"] == nil || v.parts["_rels/.rels"] == nil {
		return &FileError{What: "this is " + v.kind() + ", not an Excel workbook", Fix: "Open it in its program and save it as .xlsx or CSV (UTF-8)."}
	}
	return nil
}

// kind names the archives that are sent by mistake for workbooks.
func (v *survey) kind() string {
	for _, k := range []struct{ part, name string }{
		{"content.xml", "an OpenDocument file"}, {"Index/Document.iwa", "a Numbers or Pages document"},
	} {
		if v.parts[k.part] != nil {
			return k.name
		}
	}
	return "a zip archive"
}

type relationships struct {
	Relationship []struct {
		ID     string `xml:"Id,attr"`
		Type   string `xml:"Type,attr"`
		Target string `xml:"Target,attr"`
	}
}

// worksheets surveys the sheets that the workbook's list names, and reads
// everything else to see that it is whole.
func (v *survey) worksheets() ([]sheet, error) {
	var root, rels relationships
	if err := v.decode("_rels/.rels", &root); err != nil {
		return nil, err
	}
	book := ""
	for _, r := range root.Relationship {
		if strings.HasSuffix(r.Type, "/officeDocument") {
			book = strings.TrimPrefix(r.Target, "/")
		}
	}
	if !strings.HasSuffix(book, ".xml") || v.parts[book] == nil {
		return nil, &FileError{What: "this is a binary workbook or another document, not an .xlsx workbook", Fix: "Open it in its program and save it as .xlsx or CSV (UTF-8)."}
	}
	var list struct {
		Sheets struct {
			Sheet []struct {
				Name  string `xml:"name,attr"`
				State string `xml:"state,attr"`
				ID    string `xml:"id,attr"`
			} `xml:"sheet"`
		} `xml:"sheets"`
	}
	if err := errors.Join(v.decode(book, &list), v.decode(path.Dir(book)+"/_rels/"+path.Base(book)+".rels", &rels)); err != nil {
		return nil, err
	}
	var sheets []sheet
	seen := map[string]bool{}
	for _, s := range list.Sheets.Sheet {
		for _, r := range rels.Relationship {
			if r.ID != s.ID || !strings.HasSuffix(r.Type, "/worksheet") {
				continue
			}
			part := path.Join(path.Dir(book), r.Target)
			if strings.HasPrefix(r.Target, "/") {
				part = r.Target[1:]
			}
			found, err := v.worksheet(part)
			if err != nil {
				return nil, fmt.Errorf("sheet %q: %w", shortened(s.Name), err)
			}
			found.name, found.hidden = s.Name, s.State != "" && s.State != "visible"
			sheets, seen[part] = append(sheets, *found), true
		}
	}
	return sheets, v.rest(seen)
}

// rest reads the parts that nobody looked into, for their checksums.
func (v *survey) rest(seen map[string]bool) error {
	for name := range v.parts {
		if seen[name] {
			continue
		}
		if err := v.read(name, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// read has use read a part of the workbook. Only at a part's end is its checksum
// compared.
func (v *survey) read(name string, use func(io.Reader) error) error {
	f := v.parts[name]
	if f == nil {
		return damagedWorkbook(fmt.Errorf("it lacks its part %s", shortened(name)))
	}
	r, err := f.Open()
	if err != nil {
		return damagedWorkbook(err)
	}
	defer r.Close() //nolint:errcheck // it was only read
	err = use(r)
	var fault *FileError
	if err == nil || errors.As(err, &fault) || v.ctx.Err() != nil {
		return err
	}
	return damagedWorkbook(err)
}

func (v *survey) decode(name string, into any) error {
	return v.read(name, func(r io.Reader) error { return xml.NewDecoder(r).Decode(into) })
}

// worksheet surveys one sheet.
func (v *survey) worksheet(part string) (*sheet, error) {
	w := &worksheet{}
	err := v.read(part, func(r io.Reader) error {
		w.in = &allowance{Reader: bufio.NewReaderSize(r, window), most: v.limits.LineBytes}
		w.xml = xml.NewDecoder(w.in)
		return w.walk(v.ctx)
	})
	return &w.sheet, err
}

// allowance lets so many bytes pass between one renewal and the next, because
// an XML decoder holds in memory what it has begun.
type allowance struct {
	*bufio.Reader
	used, most int
}

// ReadByte gives the next byte.
func (a *allowance) ReadByte() (byte, error) {
	if a.used++; a.used > a.most {
		return 0, &FileError{What: fmt.Sprintf("a row is longer than %d bytes", a.most), Fix: "Take the long text out."}
	}
	return a.Reader.ReadByte()
}

// worksheet is a sheet on the way through its XML (ECMA-376, part 1, 18.3).
type worksheet struct {
	sheet
	in             *allowance
	xml            *xml.Decoder
	inData, inRow  bool
	ended          bool
	row, column    int // where the walk is
	value, formula bool
}

var errOrder = errors.New("its rows or cells are out of order")

func (w *worksheet) walk(ctx context.Context) error {
	for n := 0; ; n++ {
		if !w.inRow {
			w.in.used = 0
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		token, err := w.xml.Token()
		if err == io.EOF {
			if !w.ended {
				return errors.New("it has no cells")
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch e := token.(type) {
		case xml.StartElement:
			if err := w.start(e); err != nil {
				return err
			}
		case xml.EndElement:
			w.end(e.Name.Local)
		}
	}
}

func (w *worksheet) start(e xml.StartElement) error {
	switch {
	case e.Name.Local == "sheetData":
		if w.ended || w.inData {
			return errOrder
		}
		w.inData = true
	case e.Name.Local == "row" && w.inData:
		return w.startRow(e.Attr)
	case e.Name.Local == "c" && w.inRow:
		return w.startCell(e.Attr)
	case e.Name.Local == "f" && w.inRow:
		w.formula = true
	case (e.Name.Local == "v" || e.Name.Local == "is") && w.inRow:
		w.value = true
	case e.Name.Local == "mergeCell" && w.ended:
		return w.merge(attribute(e.Attr, "ref"))
	}
	return nil
}

func (w *worksheet) end(name string) {
	switch {
	case name == "sheetData":
		w.inData, w.ended = false, true
	case name == "row" && w.inRow:
		w.inRow = false
	case name == "c" && w.inRow:
		if w.value {
			w.last, w.width = w.row, max(w.width, w.column)
		}
		if w.formula && !w.value {
			if w.uncomputed++; w.uncomputed == 1 {
				w.uncomputedRow = w.row
			}
		}
	}
}

// startRow begins a row. Its number may be left out, and is one more then.
func (w *worksheet) startRow(attributes []xml.Attr) error {
	number := w.row + 1
	if text := attribute(attributes, "r"); text != "" {
		var err error
		if number, err = strconv.Atoi(text); err != nil || number <= w.row || number > excelize.TotalRows {
			return errOrder
		}
	}
	if w.inRow {
		return errOrder
	}
	w.inRow, w.row, w.column, w.in.used = true, number, 0, 0
	return nil
}

// startCell begins a cell. Its place may be left out, and is one further then.
func (w *worksheet) startCell(attributes []xml.Attr) error {
	column := w.column + 1
	if place := attribute(attributes, "r"); place != "" {
		var row int
		var err error
		if column, row, err = excelize.CellNameToCoordinates(place); err != nil || row != w.row || column <= w.column {
			return errOrder
		}
	}
	w.column, w.value, w.formula = column, false, false
	return nil
}

func (w *worksheet) merge(ref string) error {
	from, to, found := strings.Cut(ref, ":")
	if !found || len(w.merged) == mostAreas {
		return nil
	}
	var a area
	var err1, err2 error
	a.left, a.top, err1 = excelize.CellNameToCoordinates(from)
	a.right, a.bottom, err2 = excelize.CellNameToCoordinates(to)
	if err1 != nil || err2 != nil {
		return errors.New("its merged cells make no sense")
	}
	w.merged = append(w.merged, a)
	return nil
}

func attribute(attributes []xml.Attr, name string) string {
	for _, a := range attributes {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
