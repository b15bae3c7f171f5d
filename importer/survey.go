package importer

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
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
	part          string // its name in the archive
	alias         string // its name in the copy that excelize reads
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

// allowances are how much a workbook may come to. They grow with the file, so that
// honest ones stay far below, and a small file can't keep a processor busy for
// minutes or fill the memory.
type allowances struct {
	unpacked int64 // bytes of all its parts together
	cells    int64 // in the rows that are read, each as many as the sheet is wide
	text     int64 // bytes in these: many cells may share one text
	elements int64 // of the parts that are read for what they say; each takes some 3 µs
	strings  int64 // texts that cells share; each takes some 60 bytes of memory
	effort   int64 // of showing numbers and of unescaping texts, in each part with cells or texts
	rows     int64 // up to the last one of each sheet, with those that are not there
}

// allowed returns what a file of so many bytes, as it came, may come to. Excel's own
// files unpack to ten or twenty times their size.
func allowed(size int64) allowances {
	return allowances{
		unpacked: min(16<<20+100*size, maxUnpacked),
		cells:    4<<20 + 100*size,
		text:     16<<20 + 100*size,
		elements: 1_500_000 + 8*size,
		strings:  500_000 + size/4,
		effort:   512<<10 + 20*size,
		rows:     8<<20 + 100*size,
	}
}

const saveAsCSV = "Save the sheet as CSV (UTF-8)."

// swollen refuses a workbook that comes to far more than a file of its size holds.
func swollen(what string) *FileError {
	return &FileError{What: "the workbook has far more " + what + " than a file of its size should have", Fix: saveAsCSV}
}

// Whatever its size, a workbook over one of these is refused.
const (
	maxSheets        = 1_000
	maxRelationships = 10_000
	maxStyles        = 65_536  // Excel's own limit is 65,490 formats of cells
	maxFormats       = 1_000   // number formats of its own; Excel's limit is 250
	maxFormat        = 1_000   // bytes in one of these; Excel's limit is 255 characters
	maxName          = 1_000   // bytes in a sheet's name; Excel's limit is 31 characters
	maxDepth         = 100     // elements inside one another
	maxNamespaces    = 1_000   // declared on one element; each takes memory until it ends
	maxDirectory     = 4 << 20 // bytes of the archive's list of parts; each takes some 400 of memory
	maxToken         = 4 << 20 // bytes from one mark-up to the next, which the decoder holds in memory
)

// markUp is what must not have more than maxToken bytes.
const markUp = "mark-up of the workbook"

// excess refuses a workbook with more of something than such a limit.
func excess(most int, what string) *FileError {
	return &FileError{What: fmt.Sprintf("the workbook has more than %d %s", most, what), Fix: saveAsCSV}
}

// called ends a reading when its context does.
type called struct {
	ctx context.Context
	r   io.Reader
}

// Read reads on.
func (c *called) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// directory lets so much of a file be read while the archive's list of parts is,
// which the zip reader keeps in memory.
type directory struct {
	io.ReaderAt
	left int // bytes; negative: no limit any more
}

var errDirectory = &FileError{What: "the workbook has too many parts", Fix: saveAsCSV}

// ReadAt reads at a place.
func (d *directory) ReadAt(p []byte, at int64) (int, error) {
	n, err := d.ReaderAt.ReadAt(p, at)
	if d.left < 0 {
		return n, err
	}
	if d.left -= n; d.left < 0 {
		d.left = 0
		return 0, errDirectory
	}
	return n, err
}

// surveyWorkbook reads all of a workbook once: that it is whole, and what its
// worksheets have. The library would take a sheet that breaks off for one that
// ends, and cells out of order for cells of other columns. It writes a copy with
// what the library needs, and nothing else, to clean.
func surveyWorkbook(ctx context.Context, name, clean string, limits Limits, allow allowances) ([]sheet, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	at := &directory{file, maxDirectory}
	archive, err := zip.NewReader(at, info.Size())
	var fault *FileError
	if errors.As(err, &fault) {
		return nil, err
	}
	if err != nil {
		return nil, damagedWorkbook(err)
	}
	at.left = -1
	v := &survey{ctx: ctx, limits: limits, allow: allow, parts: map[string]*zip.File{}}
	if err := v.index(archive.File); err != nil {
		return nil, err
	}
	sheets, err := v.worksheets()
	if err != nil {
		return nil, err
	}
	return sheets, v.write(clean, sheets)
}

type survey struct {
	ctx    context.Context
	limits Limits
	allow  allowances
	parts  map[string]*zip.File
	date   bool   // dates count from 1904
	texts  string // the part with the texts that cells share; empty: there is none
	styles styles
	rows   int64 // up to the last one of each sheet

	elementCount int64
}

// index lists what is in a workbook, and measures it before anything is unpacked.
func (v *survey) index(files []*zip.File) error {
	all := uint64(0)
	names := map[string]bool{} // in lower case: that is how some programs look for parts
	for _, f := range files {
		name := strings.ReplaceAll(f.Name, `\`, "/")
		lower := strings.ToLower(name)
		if names[lower] {
			return damagedWorkbook(errors.New("it has two parts of one name"))
		}
		names[lower], v.parts[name] = true, f
		// Sizes are checked one by one, so that their sum can't overflow; that
		// they are true, the archive's reader checks.
		if all += f.UncompressedSize64; all > uint64(v.allow.unpacked) || f.UncompressedSize64 > uint64(v.allow.unpacked) {
			return &FileError{What: fmt.Sprintf("the workbook unpacks to more than %d bytes", v.allow.unpacked), Fix: saveAsCSV}
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

// relationship is what a part says of another one.
type relationship struct{ kind, target string }

// relationships reads those of a part by their ids; of two of one id the first
// counts.
func (v *survey) relationships(part string) (map[string]relationship, error) {
	all := map[string]relationship{}
	n := 0
	err := v.elements(part, func(_ []string, e xml.StartElement) error {
		if e.Name.Local != "Relationship" {
			return nil
		}
		if n++; n > maxRelationships {
			return excess(maxRelationships, "relationships between its parts")
		}
		id := attribute(e.Attr, "Id")
		if _, twice := all[id]; !twice {
			all[id] = relationship{attribute(e.Attr, "Type"), attribute(e.Attr, "Target")}
		}
		return nil
	})
	return all, err
}

// listed is a sheet in the workbook's list.
type listed struct{ name, state, id string }

// list reads which sheets there are.
func (v *survey) list(book string) ([]listed, error) {
	var all []listed
	err := v.elements(book, func(in []string, e xml.StartElement) error {
		switch {
		case e.Name.Local == "workbookPr":
			var err error
			if text := attribute(e.Attr, "date1904"); text != "" {
				v.date, err = strconv.ParseBool(text)
			}
			return err
		case e.Name.Local != "sheet" || len(in) == 0 || in[len(in)-1] != "sheets":
			return nil
		}
		if len(all) == maxSheets {
			return excess(maxSheets, "sheets")
		}
		s := listed{attribute(e.Attr, "name"), attribute(e.Attr, "state"), attribute(e.Attr, "id")}
		if len(s.name) > maxName {
			return errors.New("a sheet has a name that is too long")
		}
		all = append(all, s)
		return nil
	})
	return all, err
}

// worksheets surveys the sheets that the workbook's list names, and reads
// everything else to see that it is whole.
func (v *survey) worksheets() ([]sheet, error) {
	root, err := v.relationships("_rels/.rels")
	if err != nil {
		return nil, err
	}
	book := ""
	for _, r := range root {
		if strings.HasSuffix(r.kind, "/officeDocument") {
			book = strings.TrimPrefix(r.target, "/")
		}
	}
	if !strings.HasSuffix(book, ".xml") || v.parts[book] == nil {
		return nil, &FileError{What: "this is a binary workbook or another document, not an .xlsx workbook", Fix: "Open it in its program and save it as .xlsx or CSV (UTF-8)."}
	}
	list, err := v.list(book)
	if err != nil {
		return nil, err
	}
	rels, err := v.relationships(path.Dir(book) + "/_rels/" + path.Base(book) + ".rels")
	if err != nil {
		return nil, err
	}
	v.texts = v.related(book, rels, "/sharedStrings", sharedStringsPart)
	if v.styles, err = v.formats(v.related(book, rels, "/styles", stylesPart)); err != nil {
		return nil, err
	}
	var sheets []sheet
	seen := map[string]bool{}
	for _, s := range list {
		r, ok := rels[s.id]
		if !ok || !strings.HasSuffix(r.kind, "/worksheet") {
			continue
		}
		part := v.part(book, r.target)
		if seen[part] {
			return nil, damagedWorkbook(errors.New("two of its sheets are one part"))
		}
		found, err := v.worksheet(part)
		if err != nil {
			return nil, fmt.Errorf("sheet %q: %w", shortened(s.name), err)
		}
		if v.rows += int64(found.last); v.rows > v.allow.rows {
			return nil, swollen("rows")
		}
		found.name, found.hidden, found.part = s.name, s.state != "" && s.state != "visible", part
		found.alias = fmt.Sprintf("s%d", len(sheets)+1)
		sheets, seen[part] = append(sheets, *found), true
	}
	if v.texts != "" {
		if err := v.sharedStrings(v.texts); err != nil {
			return nil, err
		}
		seen[v.texts] = true
	}
	return sheets, v.rest(seen)
}

// part names the part that a relationship of another one points at. Where there is none
// of that name, one that differs in case is meant, as for Excel.
func (v *survey) part(from, target string) string {
	name := path.Join(path.Dir(from), target)
	if strings.HasPrefix(target, "/") {
		name = path.Clean(target)[1:]
	}
	return v.spelled(name)
}

// spelled returns a part's name as the archive spells it.
func (v *survey) spelled(name string) string {
	if v.parts[name] != nil {
		return name
	}
	for other := range v.parts {
		if strings.EqualFold(other, name) {
			return other
		}
	}
	return name
}

// related names the part of a kind that the workbook has one of at most; empty: there is
// none. Without a relationship the usual name counts. Of several the first by id does.
func (v *survey) related(book string, rels map[string]relationship, kind, usual string) string {
	for _, id := range slices.Sorted(maps.Keys(rels)) {
		if strings.HasSuffix(rels[id].kind, kind) {
			return v.part(book, rels[id].target)
		}
	}
	if name := v.spelled(usual); v.parts[name] != nil {
		return name
	}
	return ""
}

// sharedStrings surveys the texts that cells share.
func (v *survey) sharedStrings(part string) error {
	var n, spent int64
	var text escapes
	return v.tokens(part, "si", maxToken, markUp, func(in []string, token xml.Token) error {
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Local != "si" || slices.Contains(in, "si") {
				return nil
			}
			text = escapes{}
			if n++; n > v.allow.strings { // the library takes them at any depth
				return swollen("texts")
			}
		case xml.CharData:
			text.add(t)
		case xml.EndElement:
			if t.Name.Local != "si" || slices.Contains(in, "si") {
				return nil
			}
			if spent += text.effort(); spent > v.allow.effort {
				return swollen("escaped characters")
			}
		}
		return nil
	})
}

// escapes measures what it takes excelize to unescape a text: each escape, such as
// _x000D_, has it copy what it has of the text so far.
type escapes struct{ underscores, letters, bytes int }

// add adds a piece of the text. Pieces are joined before escapes are looked for.
func (e *escapes) add(piece []byte) {
	e.underscores += bytes.Count(piece, []byte{'_'})
	e.letters += bytes.Count(piece, []byte{'x'})
	e.bytes += len(piece)
}

// effort returns that in the unit of the number formats' effort, in which some 8 KiB
// are copied. It counts four times as much, since a text is unescaped in one go: no
// context ends it.
func (e *escapes) effort() int64 {
	most := min(e.underscores/2, e.letters)
	return int64(most) * int64(e.bytes) >> 11
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
	defer r.Close() // it was only read
	err = use(&called{v.ctx, r})
	var fault *FileError
	if err == nil || errors.As(err, &fault) || v.ctx.Err() != nil {
		return err
	}
	return damagedWorkbook(err)
}

// elements calls use with each element of a part and the names of those around it.
func (v *survey) elements(name string, use func(in []string, e xml.StartElement) error) error {
	return v.tokens(name, "", maxToken, markUp, func(in []string, token xml.Token) error {
		if e, ok := token.(xml.StartElement); ok {
			return use(in, e)
		}
		return nil
	})
}

// tokens calls use with each token of a part and the names of the elements around it.
// What is inside of an element named whole, and any other mark-up between two tokens,
// has to be no longer than most: the decoder and the library hold it in memory.
func (v *survey) tokens(name, whole string, most int, what string, use func(in []string, token xml.Token) error) error {
	return v.read(name, func(r io.Reader) error {
		in := &allowance{Reader: bufio.NewReaderSize(r, window), most: most, what: what}
		decoder := xml.NewDecoder(in)
		var around []string
		inside := 0 // how deep the element is that has to be whole; 0: in none
		for {
			if inside == 0 {
				in.used = 0
			}
			token, err := decoder.Token()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			start, begins := token.(xml.StartElement)
			if begins {
				if len(around) == maxDepth {
					return fmt.Errorf("it has more than %d elements inside one another", maxDepth)
				}
				if err := v.element(start); err != nil {
					return err
				}
			} else if _, ends := token.(xml.EndElement); ends {
				if inside == len(around) {
					inside = 0
				}
				around = around[:len(around)-1]
			}
			if err := use(around, token); err != nil {
				return err
			}
			if begins {
				around = append(around, start.Name.Local)
				if inside == 0 && start.Name.Local == whole {
					inside = len(around)
				}
			}
		}
	})
}

// element counts an element, and refuses one that declares too many namespaces.
func (v *survey) element(e xml.StartElement) error {
	if v.elementCount++; v.elementCount > v.allow.elements {
		return swollen("elements")
	}
	n := 0
	for _, a := range e.Attr {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			n++
		}
	}
	if n > maxNamespaces {
		return excess(maxNamespaces, "namespaces on one element")
	}
	return nil
}

// worksheet surveys one sheet.
func (v *survey) worksheet(part string) (*sheet, error) {
	w := &worksheet{cost: v.styles.cost, most: v.allow.effort}
	err := v.tokens(part, "row", v.limits.LineBytes, "a row", w.token)
	if err == nil && !w.ended {
		err = damagedWorkbook(errors.New("it has no cells"))
	}
	return &w.sheet, err
}

// allowance lets so many bytes pass between one renewal and the next, because
// an XML decoder holds in memory what it has begun.
type allowance struct {
	*bufio.Reader
	used, most int
	what       string // that has so many bytes
}

// ReadByte gives the next byte.
func (a *allowance) ReadByte() (byte, error) {
	if a.used++; a.used > a.most {
		return 0, &FileError{What: fmt.Sprintf("%s is longer than %d bytes", a.what, a.most), Fix: "Take the long text out."}
	}
	return a.Reader.ReadByte()
}

// worksheet is a sheet on the way through its XML (ECMA-376, part 1, 18.3).
type worksheet struct {
	sheet
	inData, inRow  bool
	ended          bool
	row, column    int // where the walk is
	value, formula bool
	style          int     // of the cell
	text           escapes // in the cell
	number         []byte  // the text of the last v element in the cell
	numberDepth    int     // the depth of that element; 0: it has ended
	digits         int     // the most that a number in the cell has
	cost           []int
	spent, most    int64 // effort
}

var errOrder = errors.New("its rows or cells are out of order")

func (w *worksheet) token(in []string, token xml.Token) error {
	switch e := token.(type) {
	case xml.StartElement:
		return w.start(e, len(in)+1)
	case xml.EndElement:
		w.end(e.Name.Local, len(in)+1)
		if w.spent > w.most {
			return swollen("formatted cells, or more escaped characters,")
		}
	case xml.CharData:
		if !w.inRow {
			return nil
		}
		w.text.add(e)
		if len(in) == w.numberDepth {
			w.number = append(w.number, e...)
		}
	}
	return nil
}

func (w *worksheet) start(e xml.StartElement, depth int) error {
	switch name := e.Name.Local; {
	case name == "sheetData":
		if w.ended || w.inData {
			return errOrder
		}
		w.inData = true
	case name == "row" && w.inData:
		return w.startRow(e.Attr)
	case name == "c" && w.inRow:
		return w.startCell(e.Attr)
	case name == "f" && w.inRow:
		w.formula = true
	case name == "v" && w.inRow:
		w.value, w.number, w.numberDepth = true, w.number[:0], depth
	case name == "is" && w.inRow:
		w.value = true
	case name == "mergeCell" && w.ended:
		return w.merge(attribute(e.Attr, "ref"))
	}
	return nil
}

// digitsOf returns how many digits a number has where it is written out, since
// excelize shows each by a walk through all. Only 1e20 and more, and very small
// fractions, have more than 20; they come out as 0 below that.
func digitsOf(text []byte) int {
	if len(text) <= 20 && !bytes.ContainsAny(text, "eExXpP") {
		return 0
	}
	number, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0
	}
	return len(strconv.FormatFloat(number, 'f', -1, 64))
}

func (w *worksheet) end(name string, depth int) {
	switch {
	case name == "v" && w.inRow:
		if depth == w.numberDepth {
			w.digits, w.numberDepth = max(w.digits, digitsOf(w.number)), 0
		}
	case name == "sheetData":
		w.inData, w.ended = false, true
	case name == "row" && w.inRow:
		w.inRow = false
	case name == "c" && w.inRow:
		if w.value && 0 < w.style && w.style < len(w.cost) {
			w.spent += int64(w.cost[w.style] + w.digits*w.digits/256)
		}
		w.spent += w.text.effort()
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
	w.inRow, w.row, w.column = true, number, 0
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
	w.column, w.value, w.formula, w.style = column, false, false, 0
	w.text, w.digits, w.numberDepth = escapes{}, 0, 0
	if text := attribute(attributes, "s"); text != "" {
		var err error
		if w.style, err = strconv.Atoi(text); err != nil {
			return errors.New("a cell has no number for its format")
		}
	}
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
