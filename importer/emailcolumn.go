package importer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Choice is a column that may hold the addresses to invite.
type Choice struct {
	Number  int      // of the column, from 1
	Name    string   // the header; may be empty
	Map     string   // what Options.Map takes for it: the name, or #7; empty: nothing names it alone
	Avoided bool     // its header says that it holds private addresses, or those of other people
	Samples []string // the first cells that are not empty, three at most; long ones are cut
}

// sampleCells is how many cells of a column a Choice shows.
const sampleCells = 3

// Choices reads the beginning of a file, and returns the columns to choose among,
// the likeliest first, where [Read] would fail because nobody can tell which one
// holds the addresses to invite. Where Read would not fail for that reason there
// are none. The samples are cells of rows: they are for who may see the file, not
// for logs.
func Choices(ctx context.Context, r io.Reader, o Options) (choices []Choice, err error) {
	o.Limits = o.Limits.withDefaults()
	t, err := open(ctx, newSource(r, o.Limits.FileBytes), o)
	if err != nil {
		return nil, err
	}
	_, err = readHeader(t, o)
	closing := t.from.close()
	var fault *FileError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err() // whatever is wrong with the file now is our doing
	case errors.As(err, &fault):
		return fault.choices, closing
	case err != nil:
		return nil, err
	}
	return nil, closing
}

// candidate is a column that may be the one with the addresses.
type candidate struct {
	index     int
	header    header
	filled    int // cells that are not empty, in the records that were looked at
	addresses int // cells that are an address
	samples   []string
	cells     []string // of the records that were looked at, in lower case; empty if the column has no cell there
}

// tooLong stands for a cell that is no address, and that takes too much memory to keep.
const tooLong = "\x00"

// repeats reports whether a column has nothing but what another one has, in each record.
func (c *candidate) repeats(other *candidate) bool {
	for i, cell := range c.cells {
		if cell == tooLong || cell != "" && cell != other.cells[i] {
			return false
		}
	}
	return true
}

// distinct is how many different cells a column has.
func (c *candidate) distinct() int {
	seen := map[string]bool{}
	for _, cell := range c.cells {
		if cell != "" {
			seen[cell] = true
		}
	}
	return len(seen)
}

// isShared reports whether a column has an address in several rows that another column
// tells apart: it is a department's then.
func (c *candidate) isShared(others []*candidate) bool {
	n := c.distinct()
	return n < c.filled && slices.ContainsFunc(others, func(other *candidate) bool { return n < other.distinct() })
}

// holds reports whether the column holds addresses. Where its header says nothing of
// e-mail, most cells have to be one: a note may be an address now and then.
func (c *candidate) holds() bool {
	if c.header.mail {
		return c.addresses > 0
	}
	return c.addresses > 0 && 2*c.addresses >= c.filled
}

// likelier puts the columns that people mean most often first.
func likelier(a, b *candidate) int {
	rank := func(c *candidate) headerKind { return max(c.header.kind, privateHeader) }
	return cmp.Or(-cmp.Compare(rank(a), rank(b)), -cmp.Compare(a.addresses, b.addresses), cmp.Compare(a.index, b.index))
}

// candidates are the columns that are not mapped to something else, with what the
// next records hold in them.
func (c *columns) candidates(t *table) ([]*candidate, error) {
	records, err := t.look()
	if err != nil {
		return nil, err
	}
	var all []*candidate
	for i, name := range c.names {
		if c.taken(i) {
			continue
		}
		one := &candidate{index: i, header: readHeaderCell(name)}
		for _, rec := range records {
			text := cell(rec.cells, i)
			if rec.broken || blankCell(text) {
				one.cells = append(one.cells, "")
				continue
			}
			one.filled++
			if isAddress(text) {
				one.addresses++
			}
			if len(one.samples) < sampleCells {
				one.samples = append(one.samples, strings.Clone(shortened(text)))
			}
			if len(text) > 4*maxAddress {
				text = tooLong
			}
			one.cells = append(one.cells, strings.ToLower(strings.TrimSpace(text)))
		}
		all = append(all, one)
	}
	return all, nil
}

// pick decides which column holds the addresses to invite, by its header and by what
// the next records hold. It is the only one that is known by its header and holds
// addresses, except columns that repeat it; or the only one of those with a header that
// says work address, where people don't share these. In all
// other cases a person has to say it: an address of the wrong column is a mail to
// the wrong person.
func (c *columns) pick(t *table) error {
	all, err := c.candidates(t)
	if err != nil {
		return err
	}
	var known, used, open, avoided []*candidate // open: known by the header, or holds addresses
	holds := false
	for _, one := range all {
		switch {
		case one.header.avoided():
			if one.holds() {
				avoided = append(avoided, one)
			}
		case one.header.isEmail():
			known = append(known, one)
			if one.filled > 0 {
				used = append(used, one)
			}
			if one.holds() {
				open, holds = append(open, one), true
			}
		case one.holds():
			open, holds = append(open, one), true
		}
	}
	if !holds {
		open = used
		if len(used) == 0 && len(avoided) == 0 {
			open = known
		}
	}
	open = slices.DeleteFunc(slices.Clone(open), func(one *candidate) bool {
		return slices.ContainsFunc(open, func(other *candidate) bool {
			return holds && one != other && other.header.isEmail() && likelier(other, one) < 0 && one.repeats(other)
		})
	})
	work := slices.DeleteFunc(slices.Clone(open), func(one *candidate) bool { return one.header.kind != workHeader })
	var chosen *candidate
	switch {
	case len(work) == 1 && !work[0].isShared(open):
		chosen = work[0]
	case len(open) == 1 && open[0].header.isEmail():
		chosen = open[0]
	default:
		return c.question(all, known, open, avoided)
	}
	c.email = chosen.index
	c.mapped[emailColumn], c.numbers[emailColumn] = c.names[c.email], c.email+1
	// Other columns that are known by their header, and empty so far, must stay so: a row
	// further down that fills one of them is invalid.
	for _, one := range known {
		if one != chosen && one.filled == 0 && (chosen.header.kind != workHeader || one.header.kind == workHeader) {
			c.unused = append(c.unused, one.index)
		}
	}
	return nil
}

// question asks which column holds the addresses to invite.
func (c *columns) question(all, known, open, avoided []*candidate) *FileError {
	slices.SortFunc(open, likelier)
	slices.SortFunc(avoided, likelier)
	f := &FileError{}
	switch {
	case len(open) > 1:
		f.What = "more than one column may hold the addresses to invite: " + c.shown(open)
		f.Fix = "Name the right one: " + mapFlag + quotedValue(c.names, open[0].index)
	case len(open) == 1:
		f.What = "no e-mail column. Found: " + list(c.names)
		if len(known) > 0 {
			f.What = "no address in the e-mail column: " + c.shown(known)
		}
		f.Fix = fmt.Sprintf("%s holds addresses. If people are to be invited at these, name it: %s%s",
			c.shown(open), mapFlag, quotedValue(c.names, open[0].index))
	case len(avoided) > 0 && len(known) > 0:
		f.What = "no address in the e-mail column: " + c.shown(known)
		f.Fix = "Fill it in, or name another column by its name or number: --map email=COLUMN"
	case len(avoided) > 0:
		f.What = "no e-mail column but one that is never chosen automatically: " + c.shown(avoided)
		f.Fix = "Add a column with the addresses to invite, or name one by its name or number: --map email=COLUMN"
		if first := avoided[0]; first.header.kind == privateHeader {
			f.Fix = "Add a column with work addresses. Only if people are to be invited at these: " +
				mapFlag + quotedValue(c.names, first.index)
		}
	default:
		f.What, f.Fix = "no e-mail column. Found: "+list(c.names), c.nearEmail(all)
	}
	if len(avoided) > 0 && len(open) > 0 {
		f.What += ". Never chosen automatically: " + c.shown(avoided)
	}
	offered := append(slices.Clone(open), avoided...)
	if len(open) < 2 {
		for _, one := range all { // nobody knows: the right one may be any
			if !slices.Contains(offered, one) && !one.header.avoided() && c.names[one.index] != "" {
				offered = append(offered, one)
			}
		}
	}
	for _, one := range offered[:min(len(offered), chosenAmong)] {
		choice := Choice{Number: one.index + 1, Name: c.names[one.index], Map: mapValue(c.names, one.index),
			Avoided: one.header.avoided(), Samples: one.samples}
		if choice.Map != "" {
			f.choices, f.Columns = append(f.choices, choice), append(f.Columns, choice.Map)
		}
	}
	return f
}

// chosenAmong is how many columns a person can choose among.
const chosenAmong = 200

// shown names columns with their numbers.
func (c *columns) shown(columns []*candidate) string {
	var names []string
	for _, one := range columns {
		name := shortened(c.names[one.index])
		if name == "" {
			name = "a column without a name"
		}
		names = append(names, fmt.Sprintf("%s (#%d)", name, one.index+1))
		if len(names) == 20 {
			names = append(names, "…")
			break
		}
	}
	return strings.Join(names, ", ")
}

// nearEmail says what to do where no column holds addresses: a header may be misspelt.
func (c *columns) nearEmail(all []*candidate) string {
	names := make([]string, len(c.names))
	for _, one := range all {
		if !one.header.avoided() {
			names[one.index] = c.names[one.index]
		}
	}
	var words []string
	for word, class := range dictionary.words {
		if class == mailWord {
			words = append(words, word)
		}
	}
	if i := nearest(names, words); i >= 0 {
		return suggestion(mapFlag, c.names, i)
	}
	return "Name the column that holds the addresses, by its name or number: --map email=COLUMN"
}

// mapFlag is the flag that takes a column for the one with the addresses, up to the column.
const mapFlag = "--map " + emailColumn + "="

// suggestion proposes a column for a flag.
func suggestion(flag string, names []string, i int) string {
	what := "is meant"
	if flag == mapFlag {
		what = "holds the addresses"
	}
	return fmt.Sprintf("If one of them %s, name it: %s%s", what, flag, quotedValue(names, i))
}

func quotedValue(names []string, i int) string {
	switch value := mapValue(names, i); {
	case value == "":
		return "COLUMN, after giving it another name in the file"
	case value == names[i]:
		return `"` + value + `"`
	default:
		return value
	}
}

// mapValue is what a flag takes for a column: its name where that works as it is
// printed, in quotation marks in a shell and with the addresses taken out that
// messages don't show; else its number. Empty: neither names it alone.
func mapValue(names []string, i int) string {
	name := names[i]
	plain := name != "" && utf8.RuneCountInString(name) <= longName && strings.TrimSpace(name) == name &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune("\"$`\\!;@", r) })
	if plain && slices.Equal(named(names, name), []int{i}) {
		return name
	}
	number := fmt.Sprintf("#%d", i+1)
	if found := lookUpColumn(names, number); slices.Equal(found, []int{i}) {
		return number
	}
	return ""
}

// nearest finds the name with the fewest edits to one of some words, in relation
// to its length; the first of equals; -1: none is near.
func nearest(names, words []string) int {
	best, least := -1, 0.6
	for i, name := range names[:min(len(names), 100)] {
		plain := []rune(normal(name))
		if len(plain) == 0 || len(plain) > 60 {
			continue
		}
		for _, word := range words {
			w := []rune(word)
			if d := float64(edits(plain, w)) / float64(max(len(plain), len(w))); d < least {
				best, least = i, d
			}
		}
	}
	return best
}
