package main

import (
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"

	"bulkinvite/invitation"
	"bulkinvite/words"
)

// The words that the command line shares with the page, by short names.
var (
	thousands     = words.Thousands
	counted       = words.Counted
	span          = words.Span
	moment        = words.Moment
	momentSeconds = words.MomentSeconds
	plain         = words.Plain
	outcomeWords  = words.Outcomes
	shownOrder    = words.Order
	callWords     = words.Calls

	spreadsheetSafe = invitation.SpreadsheetSafe
	cellText        = invitation.CellText
)

// table lays out rows of cells in aligned columns, two spaces apart.
type table struct {
	head  []string
	right []bool // columns of numbers
	rows  [][]string
	least []int // widths that columns have at least, such as those of rows above
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// String lays the table out.
func (t *table) String() string {
	widths := t.widths()
	var b strings.Builder
	if t.head != nil {
		t.line(&b, widths, t.head)
	}
	for _, row := range t.rows {
		t.line(&b, widths, row)
	}
	return b.String()
}

func (t *table) widths() []int {
	widths := slices.Clone(t.least)
	for _, row := range slices.Concat([][]string{t.head}, t.rows) {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], runewidth.StringWidth(plain(cell)))
		}
	}
	return widths
}

func (t *table) line(b *strings.Builder, widths []int, cells []string) {
	var line strings.Builder
	for i, cell := range cells {
		cell = plain(cell)
		gap := strings.Repeat(" ", max(0, widths[i]-runewidth.StringWidth(cell)))
		if i > 0 {
			line.WriteString("  ")
		}
		if i < len(t.right) && t.right[i] {
			line.WriteString(gap + cell)
		} else {
			line.WriteString(cell + gap)
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

// nilOr keeps a nil pointer from becoming an interface that is not nil.
func nilOr[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}
