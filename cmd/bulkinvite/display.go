package main

import (
	"cmp"
	"os"
	"regexp"
	"strings"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// signSet is what the program's own text uses of characters that ASCII lacks.
type signSet struct {
	dot, arrow, ellipsis, unreadable string
	bar, tip, rest                   string // of a progress bar
}

var (
	unicodeSigns = signSet{"·", "→", "…", "\ufffd", "━", "╸", "─"}
	asciiSigns   = signSet{"-", "->", "...", "?", "=", ">", "-"}
)

// signs are those that this run of the program uses. run sets them once, before any text is made.
var signs = unicodeSigns

// signsOf finds the signs that the locale can show. LC_ALL wins over LC_CTYPE and that over LANG;
// one that is empty counts as not set. Where none is set, as in many containers, it is UTF-8:
// systemd and Python decide so too, since terminals without UTF-8 have become rare and people who
// have one set a locale. Windows has none of these variables.
func signsOf(env func(string) string) signSet {
	locale := cmp.Or(env("LC_ALL"), env("LC_CTYPE"), env("LANG"))
	charset := strings.ReplaceAll(strings.ToLower(locale), "-", "")
	if locale == "" || strings.Contains(charset, "utf8") {
		return unicodeSigns
	}
	return asciiSigns
}

// ascii writes text of the program's own in the signs of this run. It is for texts that hold
// nothing of other people's, such as help.
func ascii(text string) string {
	return strings.NewReplacer(unicodeSigns.dot, signs.dot, unicodeSigns.arrow, signs.arrow,
		unicodeSigns.ellipsis, signs.ellipsis).Replace(text)
}

// colour is an SGR parameter of ECMA-48. Terminals choose what exactly it looks like.
type colour string

const (
	noColour colour = ""
	red      colour = "31"
	green    colour = "32"
	yellow   colour = "33"
)

// display is what a text has to fit. The zero display is no terminal: nothing is cut, wrapped or
// coloured there.
type display struct {
	columns  int // 0: not known, and lines may have any length
	coloured bool
}

// displayOf finds what the terminal of a file can show. NO_COLOR is honoured as
// https://no-color.org has it, and a terminal without a name counts as dumb, as for Git.
func displayOf(file *os.File, terminal bool) display {
	if !terminal {
		return display{}
	}
	kind := os.Getenv("TERM")
	s := display{coloured: os.Getenv("NO_COLOR") == "" && kind != "" && kind != "dumb"}
	if columns, _, err := term.GetSize(int(file.Fd())); err == nil {
		s.columns = columns
	}
	return s
}

func (p *program) outDisplay() display { return displayOf(p.out, p.outTTY) }
func (p *program) errDisplay() display { return displayOf(p.errs, p.errTTY) }

// paint colours a text.
func (s display) paint(c colour, text string) string {
	if !s.coloured || c == noColour || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// fit wraps the lines that are too long for the screen, between words. What is wrapped stands
// below its line's last column. Neither a command of this program nor a single word is broken,
// so that it can be copied.
func (s display) fit(text string) string {
	if s.columns == 0 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		whole := strings.TrimRight(line, "\n")
		b.WriteString(s.wrap(whole))
		b.WriteString(line[len(whole):])
	}
	return b.String()
}

func (s display) wrap(line string) string {
	if width(strings.TrimRight(line, " ")) <= s.columns {
		return line
	}
	indent := hang(line, s.columns)
	var b strings.Builder
	at := 0 // the column
	for i, part := range parts(line) {
		word := strings.TrimLeft(part, " ")
		gap := len(part) - len(word)
		switch {
		case i > 0 && word != "" && at+gap+width(word) > s.columns:
			at = indent
			if at+width(word) > s.columns {
				at = 0
			}
			b.WriteString("\n" + strings.Repeat(" ", at))
		default:
			b.WriteString(part[:gap])
			at += gap
		}
		b.WriteString(word)
		at += width(word)
	}
	return b.String()
}

// parts splits a line into words, each with the blanks before it. A command counts as one word.
func parts(line string) []string {
	var all []string
	commands := suggestions(line)
	for begin := 0; begin < len(line); {
		end := begin
		for end < len(line) && line[end] == ' ' {
			end++
		}
		if len(commands) > 0 && commands[0].begin < end {
			commands = commands[1:]
		}
		if len(commands) > 0 && commands[0].begin == end {
			end = commands[0].end
		}
		for end < len(line) && line[end] != ' ' {
			end++
		}
		all = append(all, line[begin:end])
		begin = end
	}
	return all
}

// hang finds the column below which the rest of a long line goes: where its last column begins,
// if that leaves room for some words.
func hang(line string, columns int) int {
	most := max(columns/2, columns-roomToHang)
	line = escapes.ReplaceAllString(line, "")
	indent := len(line) - len(strings.TrimLeft(line, " "))
	for i := indent; i < len(line); i++ {
		if line[i] == ' ' || !strings.HasSuffix(line[:i], "  ") {
			continue
		}
		if at := runewidth.StringWidth(line[:i]); at <= most {
			indent = at
		}
	}
	if strings.HasPrefix(line, errorPrefix) {
		indent = len(errorPrefix)
	}
	if indent > most {
		return 0
	}
	return indent
}

// roomToHang is how many columns of the screen are enough for the rest of a line.
const roomToHang = 28

// escapes are what paint adds to a text.
var escapes = regexp.MustCompile(`\x1b\[[0-9]*m`)

// width is how many columns a text takes.
func width(text string) int { return runewidth.StringWidth(escapes.ReplaceAllString(text, "")) }

// cut shortens a text to so many columns and marks it as cut.
func cut(text string, columns int) string {
	if runewidth.StringWidth(text) <= columns {
		return text
	}
	mark := signs.ellipsis
	if width := runewidth.StringWidth(mark); width > columns {
		return mark[:max(0, columns)] // dots, each of them one column
	}
	return runewidth.Truncate(text, columns, mark)
}
