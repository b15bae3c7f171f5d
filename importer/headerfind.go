package importer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// above is a record that was read before the header was found.
type above struct {
	record
	gap bool // a blank record stands before it
}

// maxSkipped is how many records with an address may stand above the header: the
// name of who made the report, the host of a meeting. More of them are people.
const maxSkipped = 3

// readHeader finds the header, under title lines where there are some, and
// leaves the table at the first row.
func readHeader(t *table, o Options) (*columns, error) {
	header, over, err := search(t, o)
	if err != nil {
		return nil, err
	}
	if header == nil {
		return guess(t, over, o)
	}
	if header, over, err = below(t, header, over, o); err != nil {
		return nil, err
	}
	c, err := resolve(t, header, o)
	if err != nil {
		return nil, err
	}
	for _, rec := range over {
		if holdsAddress(rec.record) {
			c.skipped = append(c.skipped, rec.line)
		}
	}
	return c, nil
}

// findHeader gives the record that has a name for the e-mail column; nil: none of
// the first has one.
func findHeader(t *table, o Options) (*record, error) {
	header, _, err := search(t, o)
	return header, err
}

// search gives the header and the records above it, or those that were looked
// through in vain.
func search(t *table, o Options) (header *record, over []above, err error) {
	for len(over) < titleLines {
		rec, gap, err := t.nextWithGap()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if isHeader(rec, o) && areTitles(over, rec, gap) {
			return &rec, over, nil
		}
		over = append(over, above{rec, gap})
	}
	return nil, over, nil
}

// nextWithGap gives the next record to keep, and whether a blank one stands before it.
func (t *table) nextWithGap() (rec record, gap bool, err error) {
	blank := t.blank
	rec, err = t.next()
	rec.cells = slices.Clone(rec.cells)
	return rec, t.blank > blank, err
}

// areTitles reports whether the records above a header can be titles. A title has
// fewer cells than the table under it, or a blank line below it. A row that happens
// to have the word email in it is no header for the rows above.
func areTitles(over []above, header record, gap bool) bool {
	width, addresses := filled(header.cells), 0
	for i := len(over) - 1; i >= 0; i-- {
		n := filled(over[i].cells)
		if holdsAddress(over[i].record) {
			if addresses++; addresses > maxSkipped || !gap && (n > 2 || n >= width) {
				return false
			}
		}
		if !gap && n > 1 && n >= width {
			return false
		}
		gap = gap || over[i].gap
	}
	return true
}

// below looks for another header under the one that was found, behind a blank line.
// Above a list of people some reports have a table of one row, such as Zoom's of the
// meeting. Any other second table is a fault: read by the first one's header, its
// cells would be taken for what they are not.
func below(t *table, header *record, over []above, o Options) (*record, []above, error) {
	var read []above
	for len(over)+1+len(read) < titleLines {
		rec, gap, err := t.nextWithGap()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if gap && filled(rec.cells) > 1 && isHeader(rec, o) && !slices.Equal(rec.cells, header.cells) {
			if len(read) < 2 {
				return &rec, append(append(over, above{record: *header}), read...), nil
			}
			if !sameEmailColumns(rec, *header) {
				what := fmt.Sprintf("a second table begins here, which the header on line %d does not fit", header.line)
				return nil, nil, &FileError{Line: rec.line, What: what, Fix: "Save each table as a file of its own."}
			}
		}
		read = append(read, above{rec, gap})
	}
	t.unread(read)
	return header, over, nil
}

func sameEmailColumns(a, b record) bool {
	for i := range max(len(a.cells), len(b.cells)) {
		if readHeaderCell(cell(a.cells, i)).isEmail() != readHeaderCell(cell(b.cells, i)).isEmail() {
			return false
		}
	}
	return true
}

// unread gives records back, to be read again.
func (t *table) unread(read []above) {
	records := make([]record, 0, len(read)+len(t.ahead))
	for _, rec := range read {
		records = append(records, rec.record)
	}
	t.ahead = append(records, t.ahead...)
}

// guess takes the record for the header that looks most like one, where no record
// has a header that is known. It is read only if somebody has said which of its
// columns holds the addresses; otherwise the error asks for that.
func guess(t *table, over []above, o Options) (*columns, error) {
	first := slices.IndexFunc(over, func(a above) bool { return holdsAddress(a.record) })
	if first < 0 {
		first = len(over)
	}
	switch {
	case len(over) == 0:
		return nil, emptyFile()
	case first == 0:
		return nil, noHeader(over[0].line)
	}
	at := 0
	for i, rec := range over[:first] {
		best, now := aboutAvoided(over[at].record), aboutAvoided(rec.record)
		if now && !best || now == best && filled(rec.cells) > filled(over[at].cells) {
			at = i
		}
	}
	header := over[at].record
	if header.broken {
		return nil, &FileError{Line: header.line, What: "the header's quotation marks are not closed",
			Fix: "Mend that line; a quotation mark inside a quoted name is doubled."}
	}
	for _, cell := range header.cells {
		if strings.ContainsRune(cell, '@') {
			return nil, noHeader(header.line) // and an address, if a bad one, is not to be shown
		}
	}
	t.unread(over[at+1:])
	if want := o.Map[emailColumn]; want != "" && len(lookUpColumn(header.cells, want)) == 0 {
		names := make([]string, 0, len(header.cells))
		for _, cell := range header.cells {
			names = append(names, title(cell))
		}
		return nil, noSuchColumn(emailColumn, want, names)
	}
	return resolve(t, &header, o)
}

func noHeader(line int) *FileError {
	return &FileError{Line: line, What: "no header: this line holds an address, not the names of columns",
		Fix: "Write a line above it with a name for each column, one of them email."}
}

func (c *columns) skippedLines() string {
	if len(c.skipped) == 1 {
		return fmt.Sprintf("line %d", c.skipped[0])
	}
	return fmt.Sprintf("line %d (the first of %d)", c.skipped[0], len(c.skipped))
}

// warnings are what there is to say of the lines above the header.
func (c *columns) warnings() []Problem {
	if len(c.skipped) == 0 {
		return nil
	}
	const message = "%s above the header holds an address and is no row; if that is a person to invite, move it below the header"
	return []Problem{{Line: c.skipped[0], Code: AddressesAbove, Message: fmt.Sprintf(message, c.skippedLines())}}
}
