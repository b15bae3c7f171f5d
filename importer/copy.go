package importer

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"

	"bulkinvite/invitation"
)

// copyCommand is what takes the rows that copyRows writes.
const copyCommand = `copy results (batch_id, instance_id, row_number, line, original, email, key, redirect_url, expires_in_days,
	public_metadata, notes, outcome, reason, duplicate_of, decided_at, revoke_on, erased_by, private_hash) from stdin (format binary)`

// copyColumns is how many columns that names.
const copyColumns = 18

// copyRows are rows in the binary form of COPY, which PostgreSQL's documentation
// of COPY lays down ("Binary Format"). pgx writes that form too, but by looking
// up for each cell how to: that took half of what an import takes of this
// process. The zero value is ready; what it has room for it keeps.
type copyRows struct {
	text []byte
	n    int // rows
}

func (c *copyRows) reset() { c.text, c.n = c.text[:0], 0 }

// reader gives all rows, with the form's beginning and end.
func (c *copyRows) reader() io.Reader {
	const flags, extension = "\x00\x00\x00\x00", "\x00\x00\x00\x00"
	return io.MultiReader(bytes.NewReader([]byte("PGCOPY\n\xff\r\n\x00"+flags+extension)), bytes.NewReader(c.text), bytes.NewReader([]byte{0xff, 0xff}))
}

// add adds a row, its values in the order of copyCommand's columns. now is when
// rows that the file alone decides were. erased is what stands for the person, if
// they were erased: nothing is kept of what the file says of them.
func (c *copyRows) add(batch Target, now time.Time, row *Row, erased *invitation.ErasedRow) {
	c.n++
	c.text = binary.BigEndian.AppendUint16(c.text, copyColumns)
	c.bigint(batch.BatchID)
	c.bigint(batch.InstanceID)
	c.integer(row.Number)
	c.integer(row.Line)
	if erased == nil {
		c.strings(row.Cells)
		c.optional(row.Email)
		c.optional(row.Key)
		c.optional(row.RedirectURL)
		c.positive(row.ExpiresInDays)
		c.json(row.PublicMetadata)
	} else {
		c.strings(nil)
		c.null()
		c.string(erased.Key)
		c.null()
		c.positive(row.ExpiresInDays)
		c.null()
	}
	if row.Notes == nil || erased != nil {
		c.null()
	} else {
		c.strings(row.Notes)
	}
	switch {
	case row.Problem != nil:
		c.string("invalid")
		c.string(row.Problem.Code)
		c.null()
		c.moment(now)
	case row.DuplicateOf > 0:
		c.string("duplicate_row")
		c.null()
		c.integer(row.DuplicateOf)
		c.moment(now)
	case erased != nil:
		c.string("cancelled")
		c.string("erased")
		c.null()
		c.moment(now)
	default:
		c.null()
		c.null()
		c.null()
		c.null()
	}
	if row.RevokeOn.IsZero() {
		c.null()
	} else {
		c.date(row.RevokeOn)
	}
	if erased == nil {
		c.null()
		c.null()
	} else {
		c.bigint(erased.By)
		c.string(string(erased.Private[:]))
	}
}

// length begins a value of so many bytes.
func (c *copyRows) length(n int) { c.text = binary.BigEndian.AppendUint32(c.text, uint32(n)) }

func (c *copyRows) null() { c.text = append(c.text, 0xff, 0xff, 0xff, 0xff) }

func (c *copyRows) bigint(n int64) {
	c.length(8)
	c.text = binary.BigEndian.AppendUint64(c.text, uint64(n))
}

func (c *copyRows) integer(n int) {
	c.length(4)
	c.text = binary.BigEndian.AppendUint32(c.text, uint32(n))
}

// positive is NULL for 0.
func (c *copyRows) positive(n int) {
	if n == 0 {
		c.null()
	} else {
		c.integer(n)
	}
}

func (c *copyRows) string(s string) {
	c.length(len(s))
	c.text = append(c.text, s...)
}

// optional is NULL for an empty string.
func (c *copyRows) optional(s string) {
	if s == "" {
		c.null()
	} else {
		c.string(s)
	}
}

// strings is an array of text: its dimensions, whether it has NULLs, the number
// of the type, then for the one dimension how long it is and where it begins.
func (c *copyRows) strings(list []string) {
	const textType = 25
	begin := len(c.text)
	c.length(0)
	if len(list) == 0 {
		c.text = append(c.text, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, textType)
	} else {
		c.text = append(c.text, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, textType)
		c.length(len(list))
		c.text = append(c.text, 0, 0, 0, 1)
		for _, s := range list {
			c.string(s)
		}
	}
	binary.BigEndian.PutUint32(c.text[begin:], uint32(len(c.text)-begin-4))
}

// json is NULL for none. The form of jsonb is its text behind a 1.
func (c *copyRows) json(text []byte) {
	if text == nil {
		c.null()
		return
	}
	c.length(1 + len(text))
	c.text = append(append(c.text, 1), text...)
}

// epoch is what PostgreSQL counts time from.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *copyRows) moment(t time.Time) { c.bigint(t.Sub(epoch).Microseconds()) }

// date is a day as [Row] has it: its midnight in UTC.
func (c *copyRows) date(day time.Time) { c.integer(int(day.Sub(epoch) / (24 * time.Hour))) }
