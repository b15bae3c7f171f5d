package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// thousands writes a number with a comma every three digits.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted writes a number with the word for what it counts.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// span writes a length of time in its two largest units: 13 h 2 m.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Round(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	case d < time.Hour:
		return two(int(d/time.Minute), "m", int(d%time.Minute/time.Second), "s")
	case d < 24*time.Hour:
		return two(int(d/time.Hour), "h", int(d%time.Hour/time.Minute), "m")
	}
	return two(int(d/(24*time.Hour)), "d", int(d%(24*time.Hour)/time.Hour), "h")
}

func two(a int, unitA string, b int, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// moment writes a time in the user's zone, to the minute.
func moment(t time.Time) string { return t.Local().Format("Mon 2 Jan, 15:04") }

// momentSeconds writes a time in the user's zone, to the second.
func momentSeconds(t time.Time) string { return t.Local().Format("Mon 2 Jan 15:04:05") }

// plain takes out of a text what would move a terminal's cursor or change its
// colours: file names and cells are other people's.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '�'
		}
		return r
	}, s)
}

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
	switch v := any(*p).(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	default:
		return fmt.Sprint(v)
	}
}
