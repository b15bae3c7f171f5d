package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"bulkinvite/importer"
	"bulkinvite/internal/postgres"
)

// The exit statuses that scripts may rely on.
const (
	exitOK          = 0
	exitFailed      = 1   // the program failed: database, Clerk, key, quota
	exitUsage       = 2   // wrong usage, or an unreadable file
	exitRows        = 3   // all decided, some rows failed, rejected or invalid
	exitHeld        = 4   // refused or held
	exitInterrupted = 130 // a signal; the batch waits to be resumed
)

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// failure is an error with all that the command line says of it.
type failure struct {
	exit   int    // the exit status
	code   string // one word for scripts, such as "usage"
	err    error
	remedy string // what to do, in one line; may be empty
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// status is an exit status of a command that has said all that it has to say.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// troubled is the exit status of a command that went well, of which some rows did not.
func troubled(err error, rows bool) error {
	if err == nil && rows {
		return status(exitRows)
	}
	return err
}

// fail makes a failure whose message is formatted as by [fmt.Errorf].
func fail(exit int, code, remedy, format string, args ...any) error {
	return &failure{exit: exit, code: code, err: fmt.Errorf(format, args...), remedy: remedy}
}

// usage makes a failure of what the command-line parser says.
func usage(err error) error {
	if f := (*failure)(nil); errors.As(err, &f) {
		return f
	}
	return &failure{exit: exitUsage, code: "usage", err: err, remedy: "bulkinvite --help, or --help after a command, says what there is"}
}

// classify finds what the command line says of any error.
func classify(ctx context.Context, err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, errInterrupted) || (ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		return &failure{exit: exitInterrupted, code: "interrupted", err: errInterrupted}
	}
	var file *importer.FileError
	if errors.As(err, &file) {
		return &failure{exit: exitUsage, code: "file", err: err, remedy: file.Remedy()}
	}
	var db *postgres.Error
	if errors.As(err, &db) {
		return &failure{exit: exitFailed, code: "database", err: err, remedy: db.Remedy}
	}
	return classifyDatabase(err)
}

// address finds what looks like an e-mail address in a message.
var address = regexp.MustCompile(`[^\s"'<>=]+@[^\s"'<>]+`)

// report prints err, if it is one, and returns the exit status. With --json the
// error is the one document on standard output.
func (p *program) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var said status
	if errors.As(err, &said) {
		return int(said)
	}
	f := classify(ctx, err)
	if p.private != nil && f.exit == exitFailed && f.code != "disk_full" && p.private.DiskFull() {
		// A server without space ends its connections, which says nothing of the reason.
		f = &failure{exit: f.exit, code: "disk_full", err: fmt.Errorf("%w: %s", f.err, noSpace), remedy: diskRemedy}
	}
	message, remedy := f.Error(), f.remedy
	if p.json && !p.wrote {
		return p.reportJSON(f)
	}
	if !p.errTTY {
		// Usage errors quote arguments, and an argument may be an address.
		message = hideAddresses(message)
	}
	s := p.errDisplay()
	text := s.paint(red, strings.TrimSpace(errorPrefix)) + " " + message + "\n"
	if remedy != "" {
		text += strings.Repeat(" ", len(errorPrefix)) + p.complete(remedy) + "\n"
	}
	_, _ = io.WriteString(p.errs, s.fit(text)) // nobody is left to tell
	return f.exit
}

// errorPrefix begins what is said of an error on standard error.
const errorPrefix = "bulkinvite: "

// hideAddresses takes addresses out of a message.
func hideAddresses(message string) string {
	return address.ReplaceAllString(message, signs.ellipsis+"@"+signs.ellipsis)
}

func (p *program) reportJSON(f *failure) int {
	type document struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Remedy  string `json:"remedy"`
	}
	doc := map[string]document{"error": {f.code, f.Error(), p.complete(f.remedy)}}
	if err := json.NewEncoder(p.out).Encode(doc); err != nil {
		_, _ = fmt.Fprintf(p.errs, "bulkinvite: write the error as JSON: %v\n", err) // nobody is left to tell
	}
	return f.exit
}
