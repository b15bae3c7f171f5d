package postgres

import (
	"errors"
	"strings"
)

// What can be wrong with a database, for callers that branch on it; each comes wrapped in an [*Error].
var (
	// ErrNoBinaries: no PostgreSQL is installed, so none can be started.
	ErrNoBinaries = errors.New("PostgreSQL is not installed")
	// ErrTooOld: the server, or the only PostgreSQL installed, is older than [MinMajor].
	ErrTooOld = errors.New("PostgreSQL is too old")
	// ErrVersion: the data directory was made by a major version that is not installed.
	ErrVersion = errors.New("the data directory belongs to another version of PostgreSQL")
	// ErrForeign: the directory holds files that are not a database of this program.
	ErrForeign = errors.New("the directory holds something else")
	// ErrAccess: the directory, or one above it, is closed to the user that the server would run as.
	ErrAccess = errors.New("the data directory is out of reach")
	// ErrURL: the database URL cannot be read.
	ErrURL = errors.New("the database URL cannot be read")
	// ErrUnreachable: nobody answers, or the server turns us away.
	ErrUnreachable = errors.New("the database cannot be reached")
	// ErrFetch: PostgreSQL could not be fetched.
	ErrFetch = errors.New("PostgreSQL could not be fetched")
	// ErrFailed: the private server could not be started or stopped.
	ErrFailed = errors.New("the private PostgreSQL failed")
)

// Error says what is wrong with a database and what can be done about it. It never holds a password, nor a server's
// DETAIL, which may quote rows.
type Error struct {
	// Kind is one of the sentinels of this package; errors.Is finds it.
	Kind error
	// Text says what is wrong with what, in one line.
	Text string
	// Remedy says what to do, in one line.
	Remedy string
	// Err is the cause; nil where the cause itself could give a secret away.
	Err error

	fetchable bool // Fetch would help
}

// Fetchable tells whether err comes of binaries that [Fetch] would get.
func Fetchable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.fetchable
}

// Error returns Text.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// oneLine joins the lines of a text, since errors are one line each.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "; ")
}
