package importer

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize/english"
	"golang.org/x/text/unicode/norm"
)

// Our names of columns, which Options.Map and headers may use.
const (
	emailColumn    = "email"
	redirectColumn = "redirect_url"
	expiresColumn  = "expires_in_days"
	revokeColumn   = "revoke_on"
	metadataPrefix = "public_metadata."
)

// titleLines is how many records above the header are looked through for it.
const titleLines = 20

// normal writes a header so that spellings of one name meet: small letters and
// digits alone, without the accents of Latin letters.
func normal(header string) string {
	var out strings.Builder
	for _, r := range norm.NFKD.String(strings.ToValidUTF8(header, "")) {
		switch {
		case '\u0300' <= r && r <= '\u036f':
		case r == 'ı':
			out.WriteByte('i')
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r):
			out.WriteRune(unicode.ToLower(r))
		}
	}
	return norm.NFKD.String(out.String()) // marks that were apart may stand together now
}

// title is a header cell as it is shown: nothing invisible around or in it.
func title(cell string) string {
	return strings.TrimFunc(strings.Map(visible, cell), func(r rune) bool { return isSpace(r) || r == '"' })
}

type metaColumn struct {
	index int
	name  string
}

// columns tells which cell of a row is what; -1: none.
type columns struct {
	names            []string // the header, as it is shown
	line             int      // on which it begins
	email            int
	redirect, expire int
	revoke           int
	metadata         []metaColumn
	unused           []int             // other columns with an e-mail header, empty as far as was looked
	mapped           map[string]string // as Columns has them
	numbers          map[string]int
	skipped          []int // lines above the header that hold addresses
}

func (c *columns) report() Columns {
	found := Columns{Found: c.names, Mapped: c.mapped, Numbers: c.numbers, Ignored: []string{}}
	used := slices.Collect(maps.Values(c.numbers))
	for i, name := range c.names {
		if !slices.Contains(used, i+1) && name != "" {
			found.Ignored = append(found.Ignored, name)
		}
	}
	return found
}

// isHeader reports whether a record may be the header: it names the e-mail column,
// and no cell of it is an address itself.
func isHeader(rec record, o Options) bool {
	if rec.broken || holdsAddress(rec) {
		return false
	}
	if want := o.Map[emailColumn]; want != "" {
		if len(named(rec.cells, want)) > 0 {
			return true
		}
		if numbered(want) == 0 {
			return false
		}
	}
	return slices.ContainsFunc(rec.cells, func(cell string) bool { return readHeaderCell(cell).isEmail() })
}

// aboutAvoided reports whether a header in a record speaks of an e-mail address that
// is not the one to invite, and of nothing else.
func aboutAvoided(rec record) bool {
	return slices.ContainsFunc(rec.cells, func(cell string) bool {
		h := readHeaderCell(cell)
		return h.avoided() && h.mail && h.known
	})
}

// lookUpColumn finds the columns that somebody means: by name, else by number.
func lookUpColumn(cells []string, want string) []int {
	found := named(cells, want)
	if n := numbered(want); len(found) == 0 && 0 < n && n <= len(cells) {
		return []int{n - 1}
	}
	return found
}

// numbered reads #7, the seventh column; 0: it is no such number.
func numbered(want string) int {
	digits, ok := strings.CutPrefix(strings.TrimSpace(want), "#")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 {
		return 0
	}
	return n
}

// named finds the columns with a name: those that have it to the letter, else
// those that have it but for case, accents and punctuation.
func named(cells []string, want string) []int {
	var exact, near []int
	for i, cell := range cells {
		if len(cell) > 4*len(want)+200 {
			continue
		}
		if title(cell) == strings.TrimSpace(want) {
			exact = append(exact, i)
		} else if n := normal(cell); n != "" && n == normal(want) {
			near = append(near, i)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return near
}

// holdsAddress tells whether a record is a person's rather than a header.
func holdsAddress(rec record) bool {
	return slices.ContainsFunc(rec.cells, isAddress)
}

func isAddress(cell string) bool {
	if len(cell) > 4*maxAddress || strings.IndexByte(cell, '@') < 0 {
		return false
	}
	_, _, code := clean(cell)
	return code == ""
}

func filled(cells []string) (n int) {
	for _, cell := range cells {
		if !blankCell(cell) {
			n++
		}
	}
	return n
}

// resolve maps a header's columns.
func resolve(t *table, rec record, o Options) (*columns, error) {
	c := &columns{line: rec.line, mapped: map[string]string{}, numbers: map[string]int{}}
	for _, cell := range rec.cells {
		c.names = append(c.names, title(cell))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Map)) {
		if err := c.mapOne(name, o.Map[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range o.Metadata {
		if err := c.addMetadata(name); err != nil {
			return nil, err
		}
	}
	for i, name := range c.names {
		if err := c.recognise(i, name); err != nil {
			return nil, err
		}
	}
	if o.RevokeOn != "" { // this one may be another one of ours too
		i, err := c.find("--revoke-on ", "--revoke-on", o.RevokeOn)
		if err != nil {
			return nil, err
		}
		c.mapped[revokeColumn], c.numbers[revokeColumn] = c.names[i], i+1
	}
	for _, name := range slices.Sorted(maps.Keys(c.numbers)) {
		if after, ok := strings.CutPrefix(name, metadataPrefix); ok {
			c.metadata = append(c.metadata, metaColumn{c.numbers[name] - 1, after})
		}
	}
	c.email, c.redirect = c.numbers[emailColumn]-1, c.numbers[redirectColumn]-1
	c.expire, c.revoke = c.numbers[expiresColumn]-1, c.numbers[revokeColumn]-1
	if _, chosen := o.Map[emailColumn]; chosen {
		return c, nil
	}
	return c, c.pick(t)
}

// taken reports whether a column is mapped to something else than the address.
func (c *columns) taken(i int) bool {
	return i == c.redirect || i == c.expire || slices.ContainsFunc(c.metadata, func(m metaColumn) bool {
		return m.index == i && !readHeaderCell(c.names[i]).isEmail()
	})
}

// mapOne follows one entry of Options.Map.
func (c *columns) mapOne(ours, theirs string) error {
	if !isOurs(ours) {
		return &FileError{What: fmt.Sprintf("--map knows no %q", ours), Fix: "Its names are email, redirect_url, expires_in_days and public_metadata.NAME."}
	}
	i, err := c.find("--map "+ours+"=", ours, theirs)
	if err != nil {
		return err
	}
	return c.set(ours, i)
}

// addMetadata follows one entry of Options.Metadata.
func (c *columns) addMetadata(theirs string) error {
	i, err := c.find("--metadata ", "--metadata", theirs)
	if err != nil {
		return err
	}
	name := c.names[i]
	if name == "" {
		return &FileError{What: fmt.Sprintf("column #%d has no name to go into public_metadata under", i+1),
			Fix: fmt.Sprintf("Give it one: --map public_metadata.NAME=#%d", i+1)}
	}
	if strings.HasPrefix(strings.ToLower(name), metadataPrefix) {
		return nil // it is taken for that by its header
	}
	return c.set(metadataPrefix+name, i)
}

// find finds the column that a flag names, as it is typed up to there, for some use.
func (c *columns) find(flag, use, theirs string) (int, error) {
	found := lookUpColumn(c.names, theirs)
	if len(found) == 1 {
		return found[0], nil
	}
	f := &FileError{What: fmt.Sprintf("no column %q for %s. Found: %s", theirs, use, list(c.names))}
	near := nearest(c.names, []string{normal(theirs)})
	switch n := numbered(theirs); {
	case len(found) > 1:
		f.What = fmt.Sprintf("%d columns are called %q", len(found), theirs)
		f.Fix = fmt.Sprintf("Name the right one by its number: %s#%d or %s#%d", flag, found[0]+1, flag, found[1]+1)
	case n > 0 && isOurs(use):
		f.What = fmt.Sprintf("no column %s for %s: the header has %s", theirs, use,
			english.Plural(len(c.names), "column", ""))
		f.Fix = "Columns count from #1."
	case near >= 0 && mapValue(c.names, near) != "":
		f.Fix = suggestion(flag, c.names, near)
	case isOurs(use):
		f.Fix = "Name one of them, by its name or number: " + flag + "COLUMN"
	default:
		f.Fix = use + " takes names of columns, or their numbers: #3."
	}
	return -1, f
}

func isOurs(name string) bool {
	after, ok := strings.CutPrefix(name, metadataPrefix)
	return name == emailColumn || name == redirectColumn || name == expiresColumn || ok && after != ""
}

// recognise takes a column for one of the options by its header.
func (c *columns) recognise(i int, name string) error {
	lower := strings.ToLower(strings.NewReplacer(" ", "_", "-", "_").Replace(name))
	switch {
	case lower == redirectColumn || lower == expiresColumn:
		return c.set(lower, i)
	case strings.HasPrefix(lower, metadataPrefix) && len(name) > len(metadataPrefix):
		return c.set(metadataPrefix+name[len(metadataPrefix):], i)
	}
	return nil
}

// set takes a column for one of ours. It refuses a second one of that name.
func (c *columns) set(ours string, i int) error {
	if n, set := c.numbers[ours]; set && n != i+1 {
		what := fmt.Sprintf("two columns could be %s: %s", ours, list([]string{c.mapped[ours], c.names[i]}))
		return &FileError{What: what, Fix: "Rename one of them in the file."}
	}
	c.mapped[ours], c.numbers[ours] = c.names[i], i+1
	return nil
}

// edits is Levenshtein's distance.
func edits(a, b []rune) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		before := row[0]
		row[0] = i + 1
		for j, y := range b {
			cost := before
			if x != y {
				cost++
			}
			before, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// list names columns for a message, a screenful at most.
func list(names []string) string {
	var shown []string
	for _, name := range names {
		if name == "" {
			continue
		}
		if len(shown) == 20 {
			return strings.Join(shown, ", ") + ", ..."
		}
		shown = append(shown, shortened(name))
	}
	if len(shown) == 0 {
		return "none with a name"
	}
	return strings.Join(shown, ", ")
}

// longName is how many characters of a name a message shows.
const longName = 120

func shortened(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, name)
	if utf8.RuneCountInString(name) > longName {
		return string([]rune(name)[:longName-3]) + "..."
	}
	return name
}
