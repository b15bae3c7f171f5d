package importer

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// splitter cuts text into records, and encoding/csv takes those apart.
// encoding/csv alone would read from a quote that is never closed to the end
// of the file, and lose the rows in between; a splitter that meets such a quote
// goes back, gives the one line up as broken, and reads on from the next.
type splitter struct {
	r        io.Reader
	buf      []byte // buf[pos:end] is unread
	pos, end int
	err      error // what the reader ended with
	line     int   // the line at pos, from 1
	comma    byte
	limits   Limits
}

func newSplitter(r io.Reader, comma byte, limits Limits) *splitter {
	return &splitter{r: r, buf: make([]byte, window), line: 1, comma: comma, limits: limits}
}

// next gives the next record without its line end, valid until the next call,
// and the line it begins on. A broken one is a single line whose quotes make
// no sense.
func (s *splitter) next() (text []byte, line int, broken bool, err error) {
	n, width, err := s.first()
	if err != nil {
		return nil, 0, false, err
	}
	several := bytes.IndexByte(s.buf[s.pos:s.pos+n], '"') >= 0 // lines, maybe
	if several {
		m, w, ok := s.quoted()
		if s.err != nil && s.err != io.EOF {
			return nil, 0, false, s.err
		}
		if ok {
			n, width = m, w
		}
		broken = !ok
	}
	text, line = s.buf[s.pos:s.pos+n], s.line
	if several {
		s.line += bytes.Count(s.buf[s.pos:s.pos+n+width], []byte{'\n'})
	} else {
		s.line++
	}
	s.pos += n + width
	return text, line, broken, nil
}

// first measures the line at pos: its length, and that of its end.
func (s *splitter) first() (n, width int, err error) {
	seen := 0
	for {
		if i := bytes.IndexByte(s.buf[s.pos+seen:s.end], '\n'); i >= 0 {
			n, width = s.trim(seen+i, 1)
			break
		}
		seen = s.end - s.pos
		if seen > s.limits.LineBytes {
			break
		}
		if !s.fill() {
			if s.err != io.EOF {
				return 0, 0, s.err
			}
			if seen == 0 {
				return 0, 0, io.EOF
			}
			n, width = s.trim(seen, 0)
			break
		}
	}
	if max(n, seen) > s.limits.LineBytes {
		return 0, 0, &FileError{Line: s.line, What: fmt.Sprintf("the line is longer than %d bytes", s.limits.LineBytes), Fix: "This may be no CSV file, or one whose line breaks got lost."}
	}
	return n, width, nil
}

// trim counts a CR before the line's end as part of it.
func (s *splitter) trim(n, width int) (int, int) {
	if n > 0 && s.buf[s.pos+n-1] == '\r' {
		return n - 1, width + 1
	}
	return n, width
}

// quoted measures the record at pos, in which some cells may be quoted. It
// fails where a quote is not closed within the limits, or closes before
// something else than a delimiter or a line's end. Going back from there costs
// no more than the way to the next line that opens a quote, because that quote
// is met inside the open one and settles it.
func (s *splitter) quoted() (n, width int, ok bool) {
	for i := 0; ; i++ {
		if s.have(i) && s.at(i) == '"' {
			if i = s.closing(i); i < 0 {
				return 0, 0, false
			}
		} else {
			for i <= s.limits.LineBytes && s.have(i) && s.at(i) != s.comma && s.at(i) != '\n' {
				i++
			}
		}
		switch {
		case i > s.limits.LineBytes:
			return 0, 0, false
		case !s.have(i):
			n, width = s.trim(i, 0)
			return n, width, true
		case s.at(i) == '\n':
			n, width = s.trim(i, 1)
			return n, width, true
		case s.at(i) == '\r' && !s.have(i+1):
			return i, 1, true
		case s.at(i) == '\r' && s.at(i+1) == '\n':
			return i, 2, true
		case s.at(i) != s.comma:
			return 0, 0, false
		}
	}
}

// closing finds the offset behind the quote that closes the one at i; -1: none.
func (s *splitter) closing(i int) int {
	for j := i + 1; ; {
		k := bytes.IndexByte(s.buf[s.pos+j:s.end], '"')
		if k < 0 {
			j = s.end - s.pos
			if j-i > 2*s.limits.CellBytes || j > s.limits.LineBytes || !s.fill() {
				return -1
			}
			continue
		}
		j += k + 1
		if !s.have(j) || s.at(j) != '"' {
			return j
		}
		j++
	}
}

func (s *splitter) at(i int) byte { return s.buf[s.pos+i] }

// have reads until there is a byte i places behind pos.
func (s *splitter) have(i int) bool {
	for s.pos+i >= s.end {
		if !s.fill() {
			return false
		}
	}
	return true
}

// fill reads more, and moves or grows the buffer to make room. What callers
// hold on to are offsets from pos, which that leaves as they are.
func (s *splitter) fill() bool {
	if s.err != nil {
		return false
	}
	if s.end == len(s.buf) {
		if s.pos > 0 {
			copy(s.buf, s.buf[s.pos:s.end])
			s.pos, s.end = 0, s.end-s.pos
		} else {
			s.buf = append(s.buf, make([]byte, len(s.buf))...)
		}
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		s.err = err
		if n > 0 || err != nil {
			return n > 0
		}
	}
	s.err = io.ErrNoProgress
	return false
}

// record is one record of a file.
type record struct {
	cells  []string // nil: it is a blank one
	line   int
	broken bool // its quotation marks make no sense
	lost   bool // it has bytes that the encoding doesn't have, which read as U+FFFD
	nul    bool // some of those are NUL
	unsure bool // it has characters outside ASCII, and the encoding is a guess
	hidden bool // its row is hidden in the sheet
	gap    bool // a blank record stands before it
	size   int  // bytes
	values      // of the columns that we use
}

// records are a file's records, one after another.
type records interface {
	next() (record, error) // io.EOF: there is no other
	describe(s *Summary)   // says how they were read; after the last one
	close() error
}

// table reads a file's records, ahead where somebody has to look.
type table struct {
	from   records
	limits Limits
	blank  int      // how many blank records went by
	ahead  []record // read ahead, to be given first
}

// next gives the next record that is not blank, or io.EOF.
func (t *table) next() (record, error) {
	if len(t.ahead) > 0 {
		rec := t.ahead[0]
		t.ahead = t.ahead[1:]
		return rec, nil
	}
	for gap := false; ; gap = true {
		rec, err := t.from.next()
		if err != nil || rec.cells != nil {
			rec.gap = gap
			return rec, err
		}
		t.blank++
	}
}

// lookahead bounds how many records are read before the first is checked.
const lookahead = 1000

// look gives the next records and leaves them to be read: so many that something is
// known of the columns.
func (t *table) look() ([]record, error) { return t.peek(lookahead, t.limits.LineBytes) }

// peek gives the next records, up to some number or size in bytes, and leaves them to
// be read.
func (t *table) peek(most, bytes int) ([]record, error) {
	var read []record
	size := 0
	for len(read) < most && size < bytes {
		rec, err := t.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		read, size = append(read, rec), size+rec.size
	}
	t.ahead = append(read, t.ahead...)
	return read, nil
}

// lines reads a text's records.
type lines struct {
	split  *splitter
	feed   *feed
	csv    *csv.Reader
	text   *decoder
	limits Limits
	comma  string
}

func newLines(r io.Reader, text *decoder, comma byte, limits Limits) *lines {
	l := &lines{split: newSplitter(r, comma, limits), text: text, limits: limits, comma: string(rune(comma))}
	l.restart()
	return l
}

func (l *lines) restart() {
	l.feed = &feed{}
	l.csv = csv.NewReader(l.feed)
	l.csv.Comma = rune(l.split.comma)
	l.csv.FieldsPerRecord = -1
	// The splitter has seen to it that quotes open and close cells. A quote in
	// the middle of a cell without quotes is a character as any other.
	l.csv.LazyQuotes = true
}

func (l *lines) next() (record, error) {
	text, line, broken, err := l.split.next()
	if err != nil || len(text) == 0 {
		return record{}, err
	}
	rec, err := l.record(text, line, broken)
	if err != nil || !rec.broken && !rec.lost && blank(rec.cells) {
		return record{}, err
	}
	return rec, nil
}

func (l *lines) describe(s *Summary) {
	s.Encoding, s.Delimiter = l.text.charset.name, l.comma
	if l.text.guesses != nil {
		s.EncodingGuesses = l.text.guesses
		s.Warnings = append([]Problem{{Code: UncertainEncoding, Message: remedies[UncertainEncoding]}}, s.Warnings...)
	}
}

func (l *lines) close() error { return nil }

func (l *lines) record(text []byte, line int, broken bool) (record, error) {
	rec := record{line: line, size: len(text)}
	if !broken {
		rec.cells, broken = l.parse(text)
	}
	if rec.broken = broken; broken {
		// Cut at the delimiters, so that joining the cells gives the line again.
		rec.cells = strings.Split(string(text), l.comma)
	}
	if err := l.limits.check(line, rec.cells); err != nil {
		return record{}, err
	}
	if rec.lost = l.text.undecoded(text); rec.lost {
		rec.nul = bytes.IndexByte(text, 0) >= 0
		legible(rec.cells)
	}
	rec.unsure = l.text.guesses != nil && ascii(text) < len(text)
	return rec, nil
}

// check refuses a file for one of its records.
func (l Limits) check(line int, cells []string) error {
	if len(cells) > l.Columns {
		return &FileError{Line: line, What: fmt.Sprintf("more than %d cells in one row", l.Columns), Fix: "Name the delimiter with --delimiter if it was taken for another."}
	}
	for _, cell := range cells {
		if len(cell) > l.CellBytes {
			return &FileError{Line: line, What: fmt.Sprintf("a cell is longer than %d bytes", l.CellBytes), Fix: "Take the long text out."}
		}
	}
	return nil
}

// legible writes U+FFFD for what no text has: NUL, what is no UTF-8, and the control
// characters that decoders of Windows code pages write for bytes without a meaning.
func legible(cells []string) {
	for i, cell := range cells {
		cells[i] = strings.Map(func(r rune) rune {
			if r == 0 || 0x80 <= r && r < 0xa0 {
				return utf8.RuneError
			}
			return r
		}, strings.ToValidUTF8(cell, string(utf8.RuneError)))
	}
}

// parse has encoding/csv take one record apart. It fails if the record does not end
// where the splitter says: a record that ran into the next would shift rows.
func (l *lines) parse(text []byte) (cells []string, broken bool) {
	before := l.csv.InputOffset()
	l.feed.text, l.feed.end = text, lineEnd
	fields, err := l.csv.Read()
	if err != nil || l.csv.InputOffset()-before != int64(len(text)+len(lineEnd)) {
		l.restart()
		return nil, true
	}
	return fields, false
}

// feed hands encoding/csv one record at a time, with a line end behind it. That is
// CRLF, of which encoding/csv takes the CR away: one at the end of the text stays.
type feed struct {
	text []byte
	end  string // of the line end, what is left to be read
}

const lineEnd = "\r\n"

func (f *feed) Read(p []byte) (int, error) {
	if len(f.text)+len(f.end) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.text)
	f.text = f.text[n:]
	m := copy(p[n:], f.end)
	f.end = f.end[m:]
	return n + m, nil
}

func blank(cells []string) bool {
	for _, cell := range cells {
		if !blankCell(cell) {
			return false
		}
	}
	return true
}

// blankCell tells whether a cell has nothing that a person would see.
func blankCell(cell string) bool {
	for _, r := range cell {
		if !isSpace(r) && !isInvisible(r) {
			return false
		}
	}
	return true
}
