package importer

import (
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// A row with another number of cells than the header ends early, or lost a delimiter,
// or has one too many. Only the first is harmless: after the others each cell stands
// under its neighbour's header, and the e-mail column may hold somebody else's address.
// Nothing in the row says which it is. So such a row is read only where a shift can be
// excluded, by what the header and the complete rows say of the columns.

// ProblemColumn is the first header of a file of bad rows, which check --problems
// writes: what is wrong with each of them. Below it a row of another length than the
// header is always ragged.
const ProblemColumn = "bulkinvite_problem"

// The results of a batch, and its rows that can't be sent, have these columns behind
// the file's own.
const (
	outcomeColumn = "bulkinvite_outcome"
	reasonColumn  = "bulkinvite_reason"
)

// length is how a row compares with the header.
type length int

const (
	whole  length = iota // as the header, or other by what means nothing
	short                // ends early
	ragged               // may be shifted
)

// rowShape is what is known of a file's columns. It judges rows by it.
type rowShape struct {
	names  []string
	email  int
	sent   int  // the last column whose cells are sent
	usual  int  // the number of cells that most rows have
	again  bool // these are bad rows of another file, whose good rows would be needed
	reason int  // then the column that says what was wrong
	first  int  // then the first column of that file
	end    int  // then the column after its last one that has a name
	holds  []bool
	domain map[string]bool // of the addresses in complete rows
	longer map[string]bool // those of them that begin another one, as acme.co begins acme.com
	beside map[string]bool // what complete rows have behind the e-mail column, in lower case
}

// shapeOf looks at the header and at the first rows.
func shapeOf(records []record, c *columns) rowShape {
	s := rowShape{
		names: c.names, email: c.email, sent: max(c.email, c.redirect, c.expire, c.revoke),
		holds: make([]bool, len(c.names)), domain: map[string]bool{}, longer: map[string]bool{},
		beside: map[string]bool{},
	}
	for _, m := range c.metadata {
		s.sent = max(s.sent, m.index)
	}
	s.usual = usualLength(records, len(s.names))
	s.end = len(s.names)
	if s.names[0] == ProblemColumn {
		s.again, s.first = true, 1
	} else if at := slices.Index(s.names, reasonColumn); at > 0 && s.names[at-1] == outcomeColumn {
		s.again, s.reason, s.end = true, at, at-1
	}
	for s.again && s.end > s.first && s.names[s.end-1] == "" {
		s.end--
	}
	filled := make([]bool, len(s.names))
	for _, rec := range records {
		if rec.broken || len(rec.cells) != len(s.names) && len(rec.cells) != s.usual {
			continue
		}
		for i := range min(len(rec.cells), len(s.names)) {
			filled[i] = filled[i] || !blankCell(rec.cells[i])
		}
		s.learn(rec.cells)
		if a, _, code := clean(cell(rec.cells, s.email)); code == "" {
			s.domain[a.ascii] = true
		}
		if beside := cell(rec.cells, s.email+1); len(beside) <= maxAddress {
			s.beside[strings.ToLower(beside)] = true
		}
	}
	for _, all := range []map[string]bool{s.domain, providers} {
		for domain := range all {
			for i := range domain {
				if s.domain[domain[:i]] {
					s.longer[domain[:i]] = true
				}
			}
		}
	}
	for i, name := range s.names {
		h := readHeaderCell(name) // Invoice Email, or Manager
		s.holds[i] = s.holds[i] || !filled[i] && (h.mail || h.avoided())
	}
	return s
}

// usualLength returns the number of cells that most records have, of equals the one
// nearest to the header's. What a single record has is no custom, and one with
// something behind the last column is wrong.
func usualLength(records []record, header int) int {
	count := map[int]int{}
	for _, rec := range records {
		if !rec.broken && (len(rec.cells) <= header || blank(rec.cells[header:])) {
			count[len(rec.cells)]++
		}
	}
	away := func(n int) int { return max(n-header, header-n) }
	usual := header
	for n, many := range count {
		if many > max(count[usual], 1) || many == count[usual] && many > 1 && away(n) < away(usual) {
			usual = n
		}
	}
	return usual
}

// learn remembers which columns hold addresses.
func (s *rowShape) learn(cells []string) {
	for i := range min(len(cells), len(s.holds)) {
		if !s.holds[i] && strings.IndexByte(cells[i], '@') >= 0 {
			s.holds[i] = true
		}
	}
}

// judge compares a row with the header, and with the other rows where these have more
// cells: spreadsheets leave empty ones behind the last column, in all rows or some, and
// leave those out that have no name.
func (s *rowShape) judge(cells []string) length {
	want, have := len(s.names), len(cells)
	full := max(want, s.usual)
	if s.again && s.unmended(cells) {
		return ragged
	}
	if have > want && !blank(cells[want:]) {
		return ragged
	}
	verdict := whole
	for i := have; i < want; i++ {
		if s.names[i] != "" {
			verdict = short
		}
	}
	switch {
	case have == full, verdict == whole && have < want && have >= s.usual:
		return whole
	case s.again || s.sent > s.email || have <= s.email || !s.sole(cells):
		return ragged
	case have > full:
		if s.maybeMoved(cells, have-full, 0) {
			return ragged
		}
		return whole
	}
	a, _, code := clean(cells[s.email])
	switch {
	case code == MissingEmail:
		return verdict // whatever the others are, nobody is invited
	case code != "" && have >= want:
		return verdict // the address says what is wrong
	case code != "", s.maybeMoved(cells, full-have, len(s.names)-1), !s.settled(a.ascii, cells[s.email+1:], have < want):
		return ragged
	}
	return verdict
}

// unmended reports whether a row that was ragged in another file looks as it did there.
// Spreadsheets give all rows the same number of cells when they save a file, so the
// number alone does not tell.
func (s *rowShape) unmended(cells []string) bool {
	at := slices.IndexFunc(cells, func(cell string) bool {
		return cell == RaggedRow || strings.HasSuffix(cell, "("+RaggedRow+")")
	})
	if at < 0 {
		return false
	}
	if at != s.reason || len(cells) != len(s.names) || blankCell(cells[s.end-1]) {
		return true
	}
	for i := s.end; i < len(cells) && s.names[i] == ""; i++ {
		if !blankCell(cells[i]) {
			return true
		}
	}
	return false
}

// sole reports whether addresses stand only where they are expected. After a shift the
// row's own address is in a neighbour of the e-mail column.
func (s *rowShape) sole(cells []string) bool {
	for i, cell := range cells {
		if strings.IndexByte(cell, '@') >= 0 && (i >= len(s.holds) || !s.holds[i] && i != s.email) {
			return false
		}
	}
	return true
}

// maybeMoved reports whether the address in a row's e-mail column may be one that belongs
// further to one end of the row: to the right after a delimiter is lost before it, to the
// left where one stands inside an earlier cell. With so many cells missing, or too many,
// it can have come from a column as many places away at most, and only from one that
// holds addresses. The cell of that column was moved too then: if it has an address, that
// came from a third such column, and so on. If that chain has to end beyond the row,
// nothing was moved.
func (s *rowShape) maybeMoved(cells []string, by, end int) bool {
	step := 1
	if end > s.email {
		step = -1
	}
	away := func(i, from int) int { return max(i-from, from-i) }
	nearest := end - step*(by+1) // the next column whose address may have been moved
	for i := end; i != s.email; i += step {
		if s.holds[i] && (!strings.Contains(cell(cells, i), "@") || away(i, nearest) <= by) {
			nearest = i
		}
	}
	return away(s.email, nearest) <= by
}

// settled reports whether a domain ends where its cell did. A delimiter that is lost
// behind the address makes one of both cells: jane@x.com and Sales become
// jane@x.comSales, which reads like an address. A line that is cut off may end in
// jane@x.co. So an address that ends its row has a domain that complete rows have, and
// none that goes on longer, if the row ends early. Any other may have one of its own,
// unless that could be a domain and a text of the next column.
func (s *rowShape) settled(domain string, behind []string, early bool) bool {
	known := s.domain[domain] || providers[domain]
	if early && len(behind) == 0 && (!known || s.longer[domain]) || !known && !hasEnding(domain) {
		return false
	}
	fits := len(behind) > 0 && !blankCell(behind[0]) && s.beside[strings.ToLower(behind[0])]
	for i := strings.IndexByte(domain, '.') + 2; i < len(domain); i++ {
		before, rest := domain[:i], domain[i:]
		if !hasEnding(before) {
			continue
		}
		if s.beside[rest] && !fits {
			return false
		}
		// Two letters, as in co and m, are behind many endings, but seldom a cell.
		if first, _, _ := strings.Cut(rest, "."); len(first) > 2 && (!known || s.domain[before]) {
			return false
		}
	}
	return true
}

// hasEnding reports whether a domain ends in a top-level domain that exists.
func hasEnding(domain string) bool {
	label := domain[strings.LastIndexByte(domain, '.')+1:]
	_, exists := publicsuffix.PublicSuffix(label)
	return exists && label != ""
}
