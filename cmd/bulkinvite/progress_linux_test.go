package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"bulkinvite/internal/expect"
)

// screen is what a terminal shows, and has shown above: lines that are too long
// go on in the next one.
type screen struct {
	columns int
	lines   [][]rune
	row     int
	column  int
}

var escape = regexp.MustCompile(`^\x1b\[([0-9]*)([A-Za-z])`)

// write shows a text with the sequences that bars are drawn with.
func (s *screen) write(t *testing.T, text string) {
	t.Helper()
	for text != "" {
		if found := escape.FindStringSubmatch(text); found != nil {
			n, _ := strconv.Atoi(found[1]) // left out: 0
			switch found[2] {
			case "A":
				s.row = max(0, s.row-n)
			case "J":
				s.cut()
			default:
				t.Fatalf("an unknown sequence: %q", found[0])
			}
			text = text[len(found[0]):]
			continue
		}
		r := []rune(text[:min(len(text), 4)])[0]
		text = text[len(string(r)):]
		switch r {
		case '\n':
			s.row++
		case '\r':
			s.column = 0
		default:
			if s.column+runewidth.RuneWidth(r) > s.columns {
				s.row, s.column = s.row+1, 0
			}
			s.put(r)
		}
	}
}

func (s *screen) put(r rune) {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
	line := s.lines[s.row]
	for len(line) <= s.column {
		line = append(line, ' ')
	}
	line[s.column] = r
	s.lines[s.row] = line
	s.column += runewidth.RuneWidth(r)
}

// cut clears what is after the cursor.
func (s *screen) cut() {
	s.lines = s.lines[:min(len(s.lines), s.row+1)]
	if s.row < len(s.lines) {
		s.lines[s.row] = s.lines[s.row][:min(len(s.lines[s.row]), s.column)]
	}
}

func (s *screen) text() string {
	var b strings.Builder
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return b.String()
}

// frames awaits so many more drawings of the bar, and returns all that was
// written up to the end of the last of them.
func (term *terminal) frames(n int) string {
	term.t.Helper()
	const begins = "\x1b[J" // each drawing clears the one before
	late := time.After(30 * time.Second)
	for have := strings.Count(term.text(), begins); strings.Count(term.text(), begins) < have+n; {
		select {
		case <-term.more:
		case <-late:
			term.t.Fatalf("the bar is not drawn any more:\n%s", term.text())
		}
	}
	text := term.text()
	return text[:strings.LastIndex(text, begins)]
}

// A batch that waits for budget is shown once, whatever the width, and also where
// that changes meanwhile.
func TestProgressFitsTheTerminal(t *testing.T) {
	t.Parallel()
	for _, widths := range [][]int{{40}, {80}, {120}, {120, 40, 80, 20}} {
		t.Run(fmt.Sprint(widths), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			_, text := b.sitAt(widths[0], func(term *terminal) {
				term.await("next window in")
				shown, all := &screen{}, ""
				for _, width := range widths {
					term.resize(width)
					whole := term.frames(2)
					shown.columns = max(shown.columns, width) // a drawing for the width before may be among these
					shown.write(t, whole[len(all):])
					shown.columns, all = width, whole
					whole = term.frames(8)
					shown.write(t, whole[len(all):])
					all = whole
					if n := strings.Count(shown.text(), "Batch 1 "); n != 1 {
						t.Errorf("%d columns: the batch is shown %d times:\n%s", width, n, shown.text())
					}
					last := whole[strings.LastIndex(whole, "\x1b[J")+len("\x1b[J"):]
					for line := range strings.Lines(last) {
						if w := runewidth.StringWidth(strings.TrimRight(line, "\r\n")); w > width {
							t.Errorf("%d columns: a line has %d: %q", width, w, line)
						}
					}
					t.Logf("%d columns:\n%s", width, last)
				}
				if !slices.Contains(widths, 20) && !strings.Contains(shown.text(), "Ctrl-C leaves it to go on later") {
					t.Errorf("how to leave is not shown:\n%s", shown.text())
				}
				expect.OK(t, term.process.Signal(os.Interrupt))
			}, "send", "--sandbox", "--yes", "--limit-create", "2/1h", "--limit-bulk", "off", b.file("five.csv", people(5)))
			expect.Text(t, text, "interrupted")
		})
	}
}
