package importer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"bulkinvite/invitation"
)

// Rows go from the goroutine that takes the text apart and checks them to the one
// that finds duplicates in batches, which end with either number. At any time one
// is filled, one waits and one is looked through, so that long rows don't add up.
const (
	batchRows  = 256
	batchBytes = 256 << 10
)

// Read reads a whole file in one pass and yields its rows in order; it keeps of
// them about 20 bytes each, to know duplicates by. What is wrong with a row is in
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
	firm, err := companyOf(t, columns.email, o.Domain)
	if err != nil {
		return nil, err
	}
	c := &checker{columns: columns, company: firm}
	if w, ok := t.from.(*workbook); ok {
		c.merged = w.sheet.swallows
	}
	known := newPeople()
	err = inBatches(ctx, func(b *batch) { t.fill(b, c, o.Limits.Rows) }, func(rows []Row) error {
		known.meet(rows)
		for i := range rows {
			row := &rows[i]
			if row.Problem == nil && !known.place(row, known.hashes[i]) {
				c.warn(row, DifferentOptions, remedies[DifferentOptions])
			}
			s.add(row)
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.Blank = t.blank
	t.from.describe(s)
	return s, nil
}

// open finds out how a file is written, and leaves it at its first record.
func open(ctx context.Context, src *source, o Options) (*table, error) {
	in, kind, err := unpack(src, o.Limits.FileBytes)
	if err != nil {
		return nil, err
	}
	var from records
	if kind == aWorkbook {
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
	for {
		n, err := m.r.Read(p)
		out := p[:0]
		for _, b := range p[:n] {
			if b != '\n' || !m.cr {
				out = append(out, b)
			}
			m.cr = b == '\r'
		}
		for i := range out {
			if out[i] == '\r' {
				out[i] = '\n'
			}
		}
		if len(out) > 0 || err != nil || len(p) == 0 {
			return len(out), err
		}
	}
}

// batch is a run of rows. Behind the last one err is what the file ended with,
// io.EOF where nothing is wrong.
type batch struct {
	records []record
	cells   []string // theirs
	rows    []Row
	err     error
}

// inBatches has a goroutine of its own fill the batches and gives the rows of each
// to use, in their order. Batches that were used are filled again.
func inBatches(ctx context.Context, fill func(*batch), use func([]Row) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	batches, used := make(chan *batch, 1), make(chan *batch, 3)
	for range cap(used) {
		used <- &batch{}
	}
	go func() {
		defer close(batches)
		for more := true; more && ctx.Err() == nil; {
			b := <-used
			fill(b)
			more = b.err == nil
			select {
			case batches <- b:
			case <-ctx.Done():
			}
		}
	}()
	var end error
	whole := false
	for b := range batches {
		if end == nil {
			end = use(b.rows)
		}
		switch {
		case end != nil:
			cancel(end) // what was under way still comes
		case b.err == io.EOF:
			whole = true
		default:
			end = b.err
		}
		used <- b
	}
	if end == nil && !whole {
		return context.Cause(ctx)
	}
	return end
}

// fill fills a batch with the next rows, of so many at most in the whole file.
func (t *table) fill(b *batch, c *checker, most int) {
	clear(b.cells)
	b.records, b.cells, b.rows = b.records[:0], b.cells[:0], b.rows[:0]
	for size := 0; len(b.records) < batchRows && size < batchBytes; {
		rec, err := t.next()
		if err == nil && c.rows+len(b.records) == most {
			err = &FileError{Line: rec.line, What: fmt.Sprintf("more than %d rows", most), Fix: "Split the file."}
		}
		if b.err = err; err != nil {
			break
		}
		begin := len(b.cells)
		b.cells = append(b.cells, rec.cells...)
		rec.cells = b.cells[begin:len(b.cells):len(b.cells)]
		b.records = append(b.records, rec)
		size += rec.size
	}
	if err := c.columns.read(b.records); err != nil {
		b.err = err
		return
	}
	for i := range b.records {
		c.rows++
		rec := &b.records[i]
		b.rows = append(b.rows, Row{Number: c.rows, Line: rec.line, Cells: rec.cells})
		c.check(&b.rows[i], rec)
	}
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
	merged        func(row, column int) bool // whether a cell is one with another; nil: none is
}

// check adds to a row what there is to say of its record.
func (c *checker) check(row *Row, rec *record) {
	if rec.code != "" {
		message := remedies[rec.code]
		if rec.nul {
			message = "holds NUL characters, which no text has; take them out"
		}
		c.invalid(row, -1, rec.code, message)
		return
	}
	if c.ragged(rec) {
		do := "a cell that holds the delimiter needs quotation marks around it"
		if len(rec.cells) < len(c.columns.names) {
			do = "write the delimiters of empty cells too"
		}
		c.invalid(row, -1, RaggedRow, fmt.Sprintf("has %s where the header has %d; %s", counted(len(rec.cells), "cell"), len(c.columns.names), do))
		return
	}
	c.address(row, rec)
	c.options(row, rec)
}

// ragged tells whether a record has other cells than the header. Empty cells
// behind the last column, and a lack of cells in columns that have no name and
// stand last, change nothing of what the others are: spreadsheets leave both.
func (c *checker) ragged(rec *record) bool {
	want, have := len(c.columns.names), len(rec.cells)
	if have > want {
		return !blank(rec.cells[want:])
	}
	return slices.ContainsFunc(c.columns.names[have:], func(name string) bool { return name != "" })
}

// address reads the row's address.
func (c *checker) address(row *Row, rec *record) {
	a, notes, code := clean(cell(rec.cells, c.columns.email))
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
		c.invalid(row, c.columns.email, code, remedies[code])
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
	if asks := rec.asks; asks != nil {
		row.RedirectURL, row.ExpiresInDays = asks.RedirectURL.text, asks.ExpiresInDays.n
		if asks.RedirectURL.bad {
			c.invalid(row, c.columns.redirect, BadRedirectURL, remedies[BadRedirectURL])
		}
		if asks.ExpiresInDays.bad {
			c.invalid(row, c.columns.expire, BadExpiresInDays, remedies[BadExpiresInDays])
		}
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

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
