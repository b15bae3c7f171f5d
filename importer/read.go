package importer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize/english"

	"bulkinvite/internal/invitation"
)

// Rows are read in slices, since gocsv maps several rows at a time much faster than
// one. A slice ends with either number, so that long rows need no more memory.
const (
	sliceRows  = 256
	sliceBytes = 256 << 10
)

// Read reads a whole file in one pass and yields its rows in order; it keeps of
// them about 40 bytes each, to know duplicates by. What is wrong with a row is in
// the row. A *FileError means that the file can't be used, in which case some
// rows may have been yielded before. An error from yield ends the reading and is
// returned as it is. Read returns only after r's last Read has; a context that
// ends doesn't interrupt that.
func Read(ctx context.Context, r io.Reader, o Options, yield func(*Row) error) (*Summary, error) {
	o.Limits = o.Limits.withDefaults()
	src := newSource(r, o.Limits.FileBytes)
	t, err := open(ctx, src, o)
	if err != nil {
		return nil, err
	}
	s, err := readTable(ctx, t, o, yield)
	if closing := t.from.close(); err == nil {
		err = closing
	}
	if _, cut := t.from.(*workbook); cut && err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // whatever is wrong with the file now is our doing
	}
	if err != nil {
		return nil, err
	}
	s.SHA256, s.Bytes = src.sum(), src.n
	return s, nil
}

func readTable(ctx context.Context, t *table, o Options, yield func(*Row) error) (*Summary, error) {
	columns, err := readHeader(t, o)
	if err != nil {
		return nil, err
	}
	s := &Summary{Problems: []Problem{}, Warnings: []Problem{}, Columns: columns.report(), HeaderLine: columns.line}
	first, err := t.look()
	if err != nil {
		return nil, err
	}
	c := &checker{columns: columns, company: companyOf(first, columns.email, o.Domain), shape: shapeOf(first, columns)}
	if w, ok := t.from.(*workbook); ok {
		c.merged = w.sheet.swallows
	}
	known := newPeople()
	for ended := false; !ended; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		records, err := t.slice(o.Limits.Rows - c.rows)
		if ended = err == io.EOF; err != nil && !ended {
			return nil, err
		}
		if err := c.columns.read(records); err != nil {
			return nil, err
		}
		for i := range records {
			row := c.check(&records[i])
			if row.Problem == nil && !known.place(row) {
				c.warn(row, DifferentOptions, remedies[DifferentOptions])
			}
			s.add(row)
			if err := yield(row); err != nil {
				return nil, err
			}
		}
	}
	s.Blank = t.blank
	t.from.describe(s)
	s.Warnings = append(columns.warnings(), s.Warnings...)
	return s, nil
}

// slice returns the next records, or io.EOF with the last of them. A file that has
// more than so many is refused.
func (t *table) slice(most int) (records []record, err error) {
	for size := 0; len(records) < sliceRows && size < sliceBytes; {
		rec, err := t.next()
		if err == nil && len(records) == most {
			err = &FileError{Line: rec.line, What: fmt.Sprintf("more than %d rows", t.limits.Rows), Fix: "Split the file."}
		}
		if err != nil {
			return records, err
		}
		records = append(records, rec)
		size += rec.size
	}
	return records, nil
}

// open finds out how a file is written, and leaves it at its first record.
func open(ctx context.Context, src *source, o Options) (*table, error) {
	in, isWorkbook, err := unpack(src, o.Limits.FileBytes)
	if err != nil {
		return nil, err
	}
	var from records
	if isWorkbook {
		from, err = openWorkbook(ctx, in, src, o)
	} else {
		from, err = openText(in, o)
	}
	return &table{from: from, limits: o.Limits}, err
}

// openText finds out in what encoding and dialect a text is written.
func openText(in *bufio.Reader, o Options) (*lines, error) {
	text, err := newDecoder(in, o.Encoding)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(text, window)
	sample, err := r.Peek(window)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if fault := markup(sample); fault != nil {
		return nil, fault
	}
	d, err := sniff(sample, err == io.EOF, o)
	if err != nil {
		return nil, err
	}
	var whole io.Reader = r
	if d.mac {
		whole = &macLines{r: r}
	}
	l := newLines(whole, text, d.comma, o.Limits)
	if d.sep {
		if _, _, _, err := l.split.next(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// macLines writes CR, which ends the lines of old Macs' files, as LF. Should
// CRLF follow further down, its CR goes.
type macLines struct {
	r  io.Reader
	cr bool // the last byte read was a CR
}

func (m *macLines) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	out := p[:0]
	for _, b := range p[:n] {
		again := m.cr && b == '\n'
		if m.cr = b == '\r'; m.cr {
			b = '\n'
		}
		if !again {
			out = append(out, b)
		}
	}
	return len(out), err
}

// cell gives a record's cell in a column, and nothing for a column that the file
// or the record doesn't have.
func cell(cells []string, i int) string {
	if i < 0 || i >= len(cells) {
		return ""
	}
	return cells[i]
}

// longRow is how many bytes a row may have whose address is a part of it. That of
// a longer one is copied, so that who keeps addresses doesn't keep such rows.
const longRow = 1 << 10

// checker turns records into rows, all but for duplicates.
type checker struct {
	columns *columns
	rows    int // how many were checked
	company company
	// domain is that of the row before, which most share, and doubt what there is
	// to say of it.
	domain, doubt string
	shape         rowShape
	merged        func(row, column int) bool // whether a cell is one with another; nil: none is
}

// check makes a row of a record.
func (c *checker) check(rec *record) *Row {
	c.rows++
	row := &Row{Number: c.rows, Line: rec.line, Cells: rec.cells}
	if rec.broken {
		c.invalid(row, -1, BadQuotes, remedies[BadQuotes])
		return row
	}
	length := c.shape.judge(rec.cells)
	if length == ragged {
		do := "a cell that holds the delimiter needs quotation marks around it"
		if len(rec.cells) < len(c.columns.names) {
			do = "write the delimiters of empty cells too"
		}
		than := fmt.Sprintf("the header has %d", len(c.columns.names))
		if c.shape.again && len(rec.cells) == len(c.columns.names) {
			c.invalid(row, -1, RaggedRow, "is still marked as ragged_row, and looks shifted or incomplete; "+
				"see that each cell stands under its header, then empty the cell that says ragged_row")
			return row
		}
		if len(rec.cells) == len(c.columns.names) {
			than = fmt.Sprintf("other rows have %d", c.shape.usual)
			do = "see that none stands under another column's header"
		}
		c.invalid(row, -1, RaggedRow, fmt.Sprintf("has %s where %s; %s", english.Plural(len(rec.cells), "cell", ""), than, do))
		return row
	}
	if rec.lost {
		c.lost(row, rec)
	}
	c.address(row, rec)
	c.options(row, rec)
	if length == short && row.Problem == nil {
		row.Warnings = append(row.Warnings,
			Problem{Row: row.Number, Line: row.Line, Code: ShortRow, Message: remedies[ShortRow]})
	}
	if row.Problem == nil && rec.lost {
		c.warn(row, LostCharacter, remedies[LostCharacter])
	}
	if rec.unsure {
		c.guessed(row)
	}
	if length == whole && row.Problem == nil {
		c.shape.learn(rec.cells)
	}
	return row
}

// lost rejects a row with lost characters in a cell that is sent.
func (c *checker) lost(row *Row, rec *record) {
	message := remedies[BadEncoding]
	if rec.nul {
		message = "holds NUL characters, which no text has; take them out"
	}
	for _, i := range c.sent() {
		if strings.ContainsRune(cell(rec.cells, i), utf8.RuneError) {
			c.invalid(row, i, BadEncoding, message)
		}
	}
}

// guessed rejects a row whose address or link has letters outside ASCII where the
// encoding is a guess: with other letters it would be somebody else's.
func (c *checker) guessed(row *Row) {
	const message = "has letters outside A to Z, and the file's encoding is a guess; " +
		"name it with --encoding, or save the file as UTF-8"
	if ascii([]byte(row.Email)) < len(row.Email) {
		c.invalid(row, c.columns.email, BadEncoding, message)
	}
	if ascii([]byte(row.RedirectURL)) < len(row.RedirectURL) {
		c.invalid(row, c.columns.redirect, BadEncoding, message)
	}
}

// sent are the columns whose cells reach Clerk or decide what is sent.
func (c *checker) sent() []int {
	all := []int{c.columns.email, c.columns.redirect, c.columns.expire, c.columns.revoke}
	for _, m := range c.columns.metadata {
		all = append(all, m.index)
	}
	return all
}

// address reads the row's address.
func (c *checker) address(row *Row, rec *record) {
	a, notes, code := clean(rec.Email)
	if code == MissingEmail && c.merged != nil && c.merged(rec.line, c.columns.email+1) {
		code = MergedCell
	}
	for _, i := range c.columns.unused {
		if !blankCell(cell(rec.cells, i)) {
			c.invalid(row, i, SeveralAddresses, "this e-mail column has something here, while another was taken for the one with the addresses; name the right one with --map")
			return
		}
	}
	if code != "" {
		message, text := remedies[code], cell(rec.cells, c.columns.email)
		if odd := oddities[code]; odd != "" && ascii([]byte(text)) < len(text) {
			message = odd
		}
		c.invalid(row, c.columns.email, code, message)
		row.Problem.Suggestion = Suggest(text)
		return
	}
	key, err := invitation.Key(a.text)
	if err != nil {
		c.invalid(row, c.columns.email, BadDomain, remedies[BadDomain])
		return
	}
	if rec.size > longRow {
		a.text, key = strings.Clone(a.text), strings.Clone(key)
	}
	row.Email, row.Key, row.Notes = a.text, key, notes
	if rec.hidden {
		c.warn(row, HiddenRow, remedies[HiddenRow])
	}
	if a.ascii != c.domain {
		c.domain, c.doubt = strings.Clone(a.ascii), c.doubtOf(a.ascii)
	}
	if c.doubt != "" {
		c.warn(row, LikelySlip, c.doubt)
	}
	if isInside(a.ascii) {
		c.warn(row, InternalDomain, remedies[InternalDomain])
	}
	if isGuest(a.local) {
		c.warn(row, GuestAccount, remedies[GuestAccount])
	}
	if isRole(a.local) {
		c.warn(row, RoleAddress, remedies[RoleAddress])
	}
	if ascii([]byte(a.local)) < len(a.local) {
		c.warn(row, NonASCIILocal, remedies[NonASCIILocal])
	}
}

// doubtOf says why a domain may be misspelt; empty: it looks right.
func (c *checker) doubtOf(domain string) string {
	if right := slip(domain); right != "" {
		return "did you mean " + right + "?"
	}
	if c.company.slip(domain) {
		return "nearly the company's domain, but not quite"
	}
	return ""
}

// options checks what the row asks for in columns of its own.
func (c *checker) options(row *Row, rec *record) {
	row.RedirectURL, row.ExpiresInDays = rec.RedirectURL.text, rec.ExpiresInDays.n
	if rec.RedirectURL.bad {
		c.invalid(row, c.columns.redirect, BadRedirectURL, remedies[BadRedirectURL])
	}
	if rec.ExpiresInDays.bad {
		c.invalid(row, c.columns.expire, BadExpiresInDays, remedies[BadExpiresInDays])
	}
	var ok bool
	if row.RevokeOn, ok = date(cell(rec.cells, c.columns.revoke)); !ok {
		c.invalid(row, c.columns.revoke, BadRevokeOn, remedies[BadRevokeOn])
	}
	if len(c.columns.metadata) == 0 {
		return
	}
	if row.PublicMetadata, ok = metadata(rec.cells, c.columns.metadata); !ok {
		row.PublicMetadata = nil
		c.invalid(row, c.columns.metadata[0].index, BadMetadata, remedies[BadMetadata])
	}
}

// invalid gives a row its problem; the first one found stands.
func (c *checker) invalid(row *Row, column int, code, message string) {
	if row.Problem == nil {
		row.Problem = &Problem{Row: row.Number, Line: row.Line, Column: c.name(column), Code: code, Message: message}
	}
}

func (c *checker) warn(row *Row, code, message string) {
	row.Warnings = append(row.Warnings, Problem{Row: row.Number, Line: row.Line, Column: c.name(c.columns.email), Code: code, Message: message})
}

// name is a column's header; a nameless one goes by its place.
func (c *checker) name(column int) string {
	if column < 0 {
		return ""
	}
	if name := c.columns.names[column]; name != "" {
		return name
	}
	return fmt.Sprintf("column %d", column+1)
}
