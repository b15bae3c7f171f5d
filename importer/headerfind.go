package importer

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxSkipped is how many records with an address may stand above the header: the
// name of who made the report, the host of a meeting. More of them are people.
const maxSkipped = 3

// readHeader finds the header, under title lines where there are some, and
// leaves the table at the first row.
func readHeader(t *table, o Options) (*columns, error) {
	first, err := t.peek(titleLines, math.MaxInt)
	if err != nil {
		return nil, err
	}
	at := findHeader(first, o)
	if at < 0 {
		at, err = guess(first)
	} else {
		at, err = below(first, at, o)
	}
	if err != nil {
		return nil, err
	}
	t.ahead = t.ahead[at+1:]
	c, err := resolve(t, first[at], o)
	if err != nil {
		return nil, err
	}
	for _, rec := range first[:at] {
		if holdsAddress(rec) {
			c.skipped = append(c.skipped, rec.line)
		}
	}
	return c, nil
}

// findHeader gives the record that has a name for the e-mail column; -1: none of
// the first has one.
func findHeader(first []record, o Options) int {
	for i, rec := range first[:min(len(first), titleLines)] {
		if isHeader(rec, o) && areTitles(first[:i], rec) {
			return i
		}
	}
	return -1
}

// areTitles reports whether the records above a header can be titles. A title has
// fewer cells than the table under it, or a blank line below it. A row that happens
// to have the word email in it is no header for the rows above.
func areTitles(above []record, header record) bool {
	width, addresses, gap := filled(header.cells), 0, header.gap
	for _, rec := range slices.Backward(above) {
		n := filled(rec.cells)
		if holdsAddress(rec) {
			if addresses++; addresses > maxSkipped || !gap && (n > 2 || n >= width) {
				return false
			}
		}
		if !gap && n > 1 && n >= width {
			return false
		}
		gap = gap || rec.gap
	}
	return true
}

// below looks for another header under the one that was found, behind a blank line.
// Above a list of people some reports have a table of one row, such as Zoom's of the
// meeting. Any other second table is a fault: read by the first one's header, its
// cells would be taken for what they are not.
func below(first []record, at int, o Options) (int, error) {
	header := first[at]
	for i, rec := range first[at+1:] {
		if !rec.gap || filled(rec.cells) < 2 || !isHeader(rec, o) || slices.Equal(rec.cells, header.cells) {
			continue
		}
		if i < 2 {
			return at + 1 + i, nil
		}
		if !sameEmailColumns(rec, header) {
			what := fmt.Sprintf("a second table begins here, which the header on line %d does not fit", header.line)
			return 0, &FileError{Line: rec.line, What: what, Fix: "Save each table as a file of its own."}
		}
	}
	return at, nil
}

func sameEmailColumns(a, b record) bool {
	for i := range max(len(a.cells), len(b.cells)) {
		if readHeaderCell(cell(a.cells, i)).isEmail() != readHeaderCell(cell(b.cells, i)).isEmail() {
			return false
		}
	}
	return true
}

// guess takes the record for the header that looks most like one, where no record
// has a header that is known. It is read only if somebody has said which of its
// columns holds the addresses; otherwise the error asks for that.
func guess(first []record) (int, error) {
	people := slices.IndexFunc(first, holdsAddress)
	switch {
	case len(first) == 0:
		return 0, emptyFile()
	case people == 0:
		return 0, noHeader(first[0].line)
	case people > 0:
		first = first[:people]
	}
	at := 0
	for i, rec := range first {
		best, now := aboutAvoided(first[at]), aboutAvoided(rec)
		if now && !best || now == best && filled(rec.cells) > filled(first[at].cells) {
			at = i
		}
	}
	header := first[at]
	if header.broken {
		return 0, &FileError{Line: header.line, What: "the header's quotation marks are not closed",
			Fix: "Mend that line; a quotation mark inside a quoted name is doubled."}
	}
	for _, cell := range header.cells {
		if strings.ContainsRune(cell, '@') {
			return 0, noHeader(header.line) // and an address, if a bad one, is not to be shown
		}
	}
	return at, nil
}

func noHeader(line int) *FileError {
	return &FileError{Line: line, What: "no header: this line holds an address, not the names of columns",
		Fix: "Write a line above it with a name for each column, one of them email."}
}

// warnings are what there is to say of the lines above the header.
func (c *columns) warnings() []Problem {
	if len(c.skipped) == 0 {
		return nil
	}
	first, more := c.skipped[0], ""
	if n := len(c.skipped); n > 1 {
		more = fmt.Sprintf(" (the first of %d)", n)
	}
	const message = "line %d%s above the header holds an address and is no row; " +
		"if that is a person to invite, move it below the header"
	return []Problem{{Line: first, Code: AddressesAbove, Message: fmt.Sprintf(message, first, more)}}
}
