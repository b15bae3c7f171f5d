// Package importer reads the files that people have: CSV in any of the usual
// encodings and dialects, with headers in people's words. Read turns a file
// into rows, each of them checked; CreateDraft writes those rows into the results
// table in the caller's transaction.
//
// Every record of a file but its header and its blank ones is one row: valid,
// invalid, or a duplicate. None is cut, padded, shifted or dropped.
//
// It may import batch, erased and invitation, and not jobs. Start reading at [Read] in read.go;
// import.go writes the rows.
package importer

import (
	"cmp"
	"encoding/json"
	"time"

	"bulkinvite/internal/invitation"
)

// The limits that hold where Limits has a zero.
const (
	DefaultRows      = 20_000_000
	DefaultColumns   = 1_000
	DefaultCellBytes = 1 << 20
	DefaultLineBytes = 4 << 20
	DefaultFileBytes = 8 << 30
)

// MaxMetadata is how many bytes a row's public_metadata may take as JSON.
// Clerk's documentation limits the metadata of a user to 8 KB.
const MaxMetadata = 8 << 10

// keptProblems is how many problems, and how many warnings, a Summary keeps.
const keptProblems = 1000

// Limits bound what is read; a file over one of them is refused whole. A zero
// stands for the default of the same name.
type Limits struct {
	Rows      int   // rows, without header and blank records
	Columns   int   // cells in one record
	CellBytes int   // bytes in one cell, as UTF-8
	LineBytes int   // bytes in one record, as UTF-8, with the line breaks inside its quotes
	FileBytes int64 // bytes in the file, and again in what is in it when it is compressed
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Rows: cmp.Or(l.Rows, DefaultRows), Columns: cmp.Or(l.Columns, DefaultColumns),
		CellBytes: cmp.Or(l.CellBytes, DefaultCellBytes), LineBytes: cmp.Or(l.LineBytes, DefaultLineBytes),
		FileBytes: cmp.Or(l.FileBytes, DefaultFileBytes),
	}
}

// Options say how to read a file. The zero value finds everything out.
type Options struct {
	// Map names columns: our name to the column's header, for example email to
	// Work Address, or to its number: #7 is the seventh, unless a header is that
	// to the letter. Our names are email, redirect_url, expires_in_days and
	// public_metadata.NAME.
	Map map[string]string
	// Metadata names columns that go into public_metadata under their headers.
	Metadata []string
	// Domain is the company's, such as example.com: addresses that are nearly in
	// it are warned of. Empty to take the one that most of the first rows share.
	Domain string
	// RevokeOn is the header of the column with the day after which a pending
	// invitation is taken back; empty: none.
	RevokeOn string
	Limits   Limits
	// Delimiter is one ASCII character, or comma, semicolon, tab or pipe; empty
	// to detect it.
	Delimiter string
	// Encoding is a name such as UTF-8, Windows-1252, Shift-JIS, or any other
	// that the WHATWG's Encoding Standard lists; empty to detect it.
	Encoding string
}

// Row is one row of a file.
type Row struct {
	Number int // from 1; header and blank records are not counted
	Line   int // the line on which the row begins, from 1
	// Cells are the row's cells as the file has them, but that CRLF inside
	// quotes reads as LF, and that what is no valid character or is NUL reads as
	// U+FFFD. A ragged row has another number of cells
	// than the header; a valid one may have empty cells more than that, or lack
	// cells at the end, which count as empty.
	Cells []string
	// Email is the address to invite, cleaned; empty where none could be read.
	Email string
	// Key is the person: [invitation.Key] of Email. Empty where Email is.
	Key string
	// RedirectURL, ExpiresInDays (days, 1 to 365) and PublicMetadata (a JSON
	// object) are the row's own options; zero where the row has none.
	RedirectURL    string
	ExpiresInDays  int
	PublicMetadata json.RawMessage
	RevokeOn       time.Time // the day after which a pending invitation is taken back; zero: its age counts
	Notes          []string  // what was mended in the address
	Problem        *Problem  // why the row is invalid; nil: it is valid
	DuplicateOf    int       // the number of the valid row that has the same key and came first; 0: none
	Warnings       []Problem // what deserves a look
}

// Columns tells what a file's columns were taken for.
type Columns struct {
	Found   []string          `json:"found"`             // the header's names, in order
	Mapped  map[string]string `json:"mapped"`            // our name to the header's
	Numbers map[string]int    `json:"numbers,omitempty"` // our name to the column's number, from 1
	Ignored []string          `json:"ignored"`           // kept with the row, sent nowhere
}

// Summary is what there is to say of a whole file.
// Rows = Valid + Invalid + DuplicateRow.
type Summary struct {
	Rows         int `json:"rows"`
	Blank        int `json:"blank"` // records whose cells are all empty; no rows
	Valid        int `json:"valid"` // valid, and no duplicates
	Invalid      int `json:"invalid"`
	DuplicateRow int `json:"duplicate_row"`
	// Problems and Warnings are the first thousand of each; MoreProblems and
	// MoreWarnings tell how many came after those.
	Problems     []Problem `json:"problems"`
	MoreProblems int       `json:"more_problems,omitempty"`
	Warnings     []Problem `json:"warnings"`
	MoreWarnings int       `json:"more_warnings,omitempty"`
	Columns      Columns   `json:"columns"`
	// HeaderLine is the line on which the header begins, from 1; lines above it
	// are titles, which are no rows.
	HeaderLine int `json:"header_line"`
	// Encoding is the one the file was read in; a file of ASCII alone is UTF-8.
	// An Excel workbook has [EncodingWorkbook] and no delimiter.
	Encoding string `json:"encoding"`
	// EncodingGuesses are the encodings that the file may be in where that is not
	// certain, which [UncertainEncoding] warns of: the likeliest first, which is
	// Encoding. They hold text of the file.
	EncodingGuesses []EncodingGuess `json:"encoding_guesses,omitempty"`
	Delimiter       string          `json:"delimiter"`       // the character itself
	Sheet           string          `json:"sheet,omitempty"` // the sheet that was read of a workbook
	SHA256          [32]byte        `json:"-"`               // of the file's bytes as they were read, compressed or not
	Bytes           int64           `json:"-"`               // how many those were
}

// Check is what there is to say of a file before it is sent, as check --json and
// the API tell it.
type Check struct {
	*Summary
	AlreadyInvited    int             `json:"already_invited"`    // by an earlier batch; by anybody, where Clerk was asked
	AlreadyRegistered int             `json:"already_registered"` // users; 0 where Clerk was not asked
	Plan              invitation.Plan `json:"plan"`
}

// NewCheck makes a Check of what was read and of whom is known.
func NewCheck(found *Summary, known invitation.Known, plan invitation.Plan) Check {
	s := *found
	s.Problems = append([]Problem{}, s.Problems...) // [] rather than null
	for i, p := range s.Problems {
		s.Problems[i].Message = p.Advice()
	}
	s.Warnings = append([]Problem{}, s.Warnings...)
	return Check{Summary: &s, AlreadyInvited: known.Invited + known.Pending, AlreadyRegistered: known.Registered, Plan: plan}
}

func (s *Summary) add(row *Row) {
	s.Rows++
	switch {
	case row.Problem != nil:
		s.Invalid++
		if len(s.Problems) < keptProblems {
			s.Problems = append(s.Problems, *row.Problem)
		} else {
			s.MoreProblems++
		}
	case row.DuplicateOf > 0:
		s.DuplicateRow++
	default:
		s.Valid++
	}
	room := min(keptProblems-len(s.Warnings), len(row.Warnings))
	s.Warnings = append(s.Warnings, row.Warnings[:room]...)
	s.MoreWarnings += len(row.Warnings) - room
}
