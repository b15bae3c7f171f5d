package importer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gocarina/gocsv"

	"bulkinvite/internal/invitation"
)

// values are the cells of a record that we use, as gocsv maps them. The columns
// public_metadata.NAME are not among them: gocsv fills a fixed set of fields, and
// those names are only in the file.
type values struct {
	Email         string `csv:"email"`
	RedirectURL   link   `csv:"redirect_url"`
	ExpiresInDays days   `csv:"expires_in_days"`
}

type link struct {
	text string
	bad  bool
}

// UnmarshalCSV reads a cell with where the invitation leads; empty: as the batch says.
// What is wrong with it is the row's problem, and no reason to stop reading others.
func (l *link) UnmarshalCSV(cell string) error {
	l.text = strings.TrimFunc(cell, isSpace)
	if l.text != "" && invitation.CheckRedirectURL(l.text) != nil {
		*l = link{bad: true}
	}
	return nil
}

type days struct {
	n   int
	bad bool
}

// UnmarshalCSV reads a cell with a number of days; empty: as the batch says.
func (d *days) UnmarshalCSV(cell string) (err error) {
	text := strings.TrimFunc(cell, isSpace)
	if text == "" {
		return nil
	}
	d.n, err = strconv.Atoi(text)
	if err != nil || text[0] == '+' || invitation.CheckExpiresInDays(d.n) != nil {
		*d = days{bad: true}
	}
	return nil
}

// read has gocsv map the cells of records that we use, under our names for the columns.
func (c *columns) read(records []record) error {
	cells := grid{{emailColumn, redirectColumn, expiresColumn}}
	for _, rec := range records {
		cells = append(cells, []string{cell(rec.cells, c.email), cell(rec.cells, c.redirect), cell(rec.cells, c.expire)})
	}
	var mapped []values
	if err := gocsv.UnmarshalCSV(cells, &mapped); err != nil {
		return fmt.Errorf("map the columns: %w", err)
	}
	for i := range records {
		records[i].values = mapped[i]
	}
	return nil
}

// grid is a header and records as gocsv reads them.
type grid [][]string

func (g grid) ReadAll() ([][]string, error) { return g, nil }

// Read is there for gocsv's interface alone.
func (g grid) Read() ([]string, error) { return nil, io.EOF }

// metadata makes a JSON object of a row's metadata cells; empty ones are left out.
func metadata(cells []string, columns []metaColumn) (json.RawMessage, bool) {
	values := map[string]string{}
	for _, c := range columns {
		if c.index < len(cells) && !blankCell(cells[c.index]) {
			values[c.name] = strings.TrimFunc(cells[c.index], isSpace)
		}
	}
	if len(values) == 0 {
		return nil, true
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // the size is Clerk's to count, not a browser's
	if err := encoder.Encode(values); err != nil {
		return nil, false
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte{'\n'})
	return text, len(text) <= MaxMetadata
}
