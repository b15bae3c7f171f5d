package postgres

import (
	"errors"
	"strings"
)

// The kinds of errors of a database, for callers that need to tell them apart. Each is wrapped in
// an [*Error].
var (
	// ErrNoBinaries says that PostgreSQL is not installed, so no server can be started.
	ErrNoBinaries = errors.New("PostgreSQL is not installed")
	// ErrTooOld says that the server, or the only installed PostgreSQL, is older than [MinMajor].
	ErrTooOld = errors.New("PostgreSQL is too old")
	// ErrVersion says that the data directory was created by a major version that is not installed.
	ErrVersion = errors.New("the data directory belongs to another version of PostgreSQL")
	// ErrForeign says that the directory contains files that are not a database of this program.
	ErrForeign = errors.New("the directory holds something else")
	// ErrAccess says that the user that the server would run as can't use the directory or one
	// above it, or that another user could change what root writes there.
	ErrAccess = errors.New("the data directory is out of reach")
	// ErrURL says that the database URL can't be parsed.
	ErrURL = errors.New("the database URL cannot be read")
	// ErrUnreachable says that the server does not answer or refuses the connection.
	ErrUnreachable = errors.New("the database cannot be reached")
	// ErrFetch says that PostgreSQL could not be downloaded.
	ErrFetch = errors.New("PostgreSQL could not be fetched")
	// ErrFailed says that the private server could not be started or stopped.
	ErrFailed = errors.New("the private PostgreSQL failed")
)

// Error says what is wrong with a database and how to fix it. It never contains a password. It
// never contains a server's DETAIL either, which may quote rows.
type Error struct {
	// Kind is one of the errors of this package. errors.Is finds it.
	Kind error
	// Text says what failed, in one line.
	Text string
	// Remedy is an instruction, in one line.
	Remedy string
	// Err is the cause. It is nil if the cause itself could reveal a secret.
	Err error

	fetchable bool // Fetch would fix it
}

// Fetchable reports whether err is about missing binaries that [Fetch] would download.
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

// oneLine joins the lines of a text, since an error is one line.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "; ")
}
