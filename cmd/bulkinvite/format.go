package main

import (
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"

	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
)

// The words that the command line shares with the page, by short names.
var (
	thousands     = words.Thousands
	counted       = words.Counted
	span          = words.Span
	moment        = words.Moment
	momentSeconds = words.MomentSeconds
	outcomeWords  = words.Outcomes
	shownOrder    = words.Order
	callWords     = words.Calls

	spreadsheetSafe = report.SpreadsheetSafe
	cellText        = report.CellText
)

// plain takes out of other people's text what would move a terminal's cursor or change its colours.
func plain(s string) string {
	return strings.ReplaceAll(words.Plain(s), unicodeSigns.unreadable, signs.unreadable)
}

// dotted joins parts of a line with dots between them.
func dotted(parts ...string) string { return strings.Join(parts, " "+signs.dot+" ") }

// table lays out rows of cells in aligned columns, two spaces apart. One with a head fits any
// screen: its columns move together and its cells are cut, those of the last column first, since
// the first say what a row is about. Where not even that is enough, each row is a block with a
// line for each cell. One without a head is part of a text that is wrapped as a whole.
type table struct {
	head   []string
	headed bool   // the head was written already
	right  []bool // columns of numbers, which are not cut
	keep   []int  // how far columns are cut at most; 0 and beyond its end: to leastCell
	rows   []row
	least  []int // widths that columns have at least, such as those of rows above
}

type row struct {
	cells []string
	first colour // of its first cell
}

// Where cells have to be cut, long ones are first cut to wideCell, in columns of the screen, and
// then all to leastCell.
const (
	wideCell  = 20
	leastCell = 8
)

func (t *table) add(cells ...string) { t.paint(noColour, cells...) }

// paint adds a row whose first cell has a colour.
func (t *table) paint(c colour, cells ...string) { t.rows = append(t.rows, row{cells, c}) }

// count adds a row that begins with a number, unless that is 0.
func (t *table) count(n int, cells ...string) {
	if n > 0 {
		t.add(append([]string{"  " + thousands(n)}, cells...)...)
	}
}

// String lays the table out for any reader but a terminal.
func (t *table) String() string { return t.on(display{}) }

// lines are those of String; none if it has no rows.
func (t *table) lines() []string {
	return strings.FieldsFunc(t.String(), func(r rune) bool { return r == '\n' })
}

// on lays the table out for a screen.
func (t *table) on(s display) string {
	widths, gap := t.widths(), 2
	if s.columns > 0 && t.head != nil {
		if gap = t.shrink(widths, s.columns); gap == 0 {
			return s.fit(t.blocks())
		}
	}
	var b strings.Builder
	if t.head != nil && !t.headed {
		t.line(&b, s, widths, gap, row{cells: t.head})
	}
	for _, row := range t.rows {
		t.line(&b, s, widths, gap, row)
	}
	return b.String()
}

func (t *table) widths() []int {
	widths := slices.Clone(t.least)
	for _, row := range append([]row{{cells: t.head}}, t.rows...) {
		for i, cell := range row.cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(plain(cell)))
		}
	}
	return widths
}

// shrink makes columns narrower until they fit. It returns how far apart they stand then; 0: they
// don't fit.
func (t *table) shrink(widths []int, columns int) (gap int) {
	over := 2*(len(widths)-1) - columns
	for _, w := range widths {
		over += w
	}
	if over <= 0 {
		return 2
	}
	over -= len(widths) - 1
	for _, keep := range []int{wideCell, leastCell} {
		for i := len(widths) - 1; i >= 0 && over > 0; i-- {
			if i < len(t.right) && t.right[i] {
				continue
			}
			least := keep
			if i < len(t.keep) {
				least = max(keep, t.keep[i])
			}
			gives := min(over, max(0, widths[i]-least))
			widths[i] -= gives
			over -= gives
		}
	}
	if over > 0 {
		return 0
	}
	return 1
}

// blocks writes each row as lines of a column's name and the cell, without those that are empty.
func (t *table) blocks() string {
	widest := 0
	for _, name := range t.head {
		widest = max(widest, runewidth.StringWidth(name))
	}
	var b strings.Builder
	for i, row := range t.rows {
		if i > 0 || t.headed {
			b.WriteByte('\n')
		}
		for j, cell := range row.cells {
			if cell != "" {
				b.WriteString(runewidth.FillRight(t.head[j], widest) + "  " + plain(cell) + "\n")
			}
		}
	}
	return b.String()
}

func (t *table) line(b *strings.Builder, s display, widths []int, gap int, row row) {
	var line strings.Builder
	for i, cell := range row.cells {
		cell = plain(cell)
		if t.head != nil {
			cell = cut(cell, widths[i])
		}
		rest := strings.Repeat(" ", max(0, widths[i]-runewidth.StringWidth(cell)))
		if i == 0 {
			cell = s.paint(row.first, cell)
		} else {
			line.WriteString(strings.Repeat(" ", gap))
		}
		if i < len(t.right) && t.right[i] {
			line.WriteString(rest + cell)
		} else {
			line.WriteString(cell + rest)
		}
	}
	b.WriteString(strings.TrimRight(line.String(), " "))
	b.WriteByte('\n')
}

// or returns what p points at as text, or nothing.
func or[T any](p *T) string {
	if p == nil {
		return ""
	}
	return cellText(*p)
}
