package importer

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// delimiters are those looked for, the likeliest first.
const delimiters = ",;\t|"

// separatorLine is the line with which Excel is told a file's delimiter.
var separatorLine = regexp.MustCompile(`^"?[sS][eE][pP]=([ -~\t])"?\r?(?:\n|$)`)

// delimiterNamed reads the option of that name.
func delimiterNamed(name string) (byte, error) {
	switch strings.ToLower(name) {
	case "comma":
		return ',', nil
	case "semicolon":
		return ';', nil
	case "tab", `\t`:
		return '\t', nil
	case "pipe":
		return '|', nil
	}
	if len(name) == 1 && name[0] < 0x7f && !strings.Contains("\x00\"\r\n", name) {
		return name[0], nil
	}
	return 0, &FileError{What: fmt.Sprintf("%q can't be a delimiter", name), Fix: "Give one ASCII character, or comma, semicolon, tab or pipe."}
}

// dialect is what the first part of a text shows of its shape.
type dialect struct {
	comma byte
	sep   bool // the first line is Excel's sep= line
	mac   bool // lines end with CR alone
}

// sniff finds a text's dialect. A delimiter is good if it makes a header of a
// record near the top; among such, and where none does, the better one cuts more
// of the records below into as many cells as the widest header that it might be.
func sniff(sample []byte, whole bool, o Options) (dialect, error) {
	var d dialect
	if d.mac = bytes.IndexByte(sample, '\n') < 0 && bytes.IndexByte(sample, '\r') >= 0; d.mac {
		sample = bytes.ReplaceAll(sample, []byte{'\r'}, []byte{'\n'})
	}
	if m := separatorLine.FindSubmatch(sample); m != nil && m[1][0] != '"' {
		d.sep, d.comma = true, m[1][0]
	}
	if o.Delimiter != "" {
		comma, err := delimiterNamed(o.Delimiter)
		if err != nil {
			return d, err
		}
		d.comma = comma
	}
	if d.comma != 0 {
		return d, nil
	}
	best := -1.0
	for i := range len(delimiters) {
		if score := shape(sample, whole, delimiters[i], o); score > best {
			d.comma, best = delimiters[i], score
		}
	}
	return d, nil
}

// shape scores how well a delimiter fits a sample: 2 for a header, and up to 1
// for regular records of more than one cell.
func shape(sample []byte, whole bool, comma byte, o Options) float64 {
	l := newLines(bytes.NewReader(sample), &decoder{}, comma, Limits{}.withDefaults())
	t := &table{from: l}
	score, found := 0.0, false
	widths := map[int]int{}
	all := 0
	for all < 100 {
		rec, err := t.next()
		if err != nil || !whole && l.split.pos == l.split.end && l.split.err != nil {
			break // the end, or a last record that the sample cuts off
		}
		if !found && all < titleLines {
			if found = isHeader(rec, o) || aboutAvoided(rec); found {
				score += 2
				clear(widths)
				all = 0
			}
		}
		widths[len(rec.cells)]++
		all++
	}
	regular := 0
	for width, n := range widths {
		if width > 1 {
			regular = max(regular, n)
		}
	}
	return score + float64(regular)/float64(max(all, 1))
}
