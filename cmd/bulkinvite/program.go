package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/metrics"
	"bulkinvite/internal/postgres"
	"bulkinvite/ratelimit"
)

// program is what a run of the program has to work with: its streams, its
// settings, its log, and what must be closed at the end.
type program struct {
	settings *settings
	in       io.Reader
	out      *os.File
	errs     *os.File
	inTTY    bool
	outTTY   bool
	errTTY   bool
	json     bool // --json, known before the command line is parsed
	wrote    bool // something is on standard output already
	place    []placeFlag
	log      *slog.Logger
	logTo    *divertible
	level    slog.LevelVar
	requests *metrics.Requests // to Clerk
	private  *postgres.Server  // the private PostgreSQL; nil: not started
	closers  []func() error
}

// divertible is standard error, or whatever stands in front of it for a while,
// such as a progress bar that prints lines above itself.
type divertible struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes to where output goes now.
func (d *divertible) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.w.Write(b)
}

// divert sends what follows to w, and returns what undoes that.
func (d *divertible) divert(w io.Writer) (restore func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.w
	d.w = w
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.w = before
	}
}

// configure takes up the parsed settings.
func (p *program) configure(s *settings) error {
	p.settings, p.json = s, s.JSON
	p.requests = metrics.NewRequests()
	p.logTo = &divertible{w: p.errs}
	if s.LogLevel != "" {
		if err := p.level.UnmarshalText([]byte(s.LogLevel)); err != nil {
			return usage(err)
		}
	}
	options := &slog.HandlerOptions{Level: &p.level, ReplaceAttr: durationText}
	if s.LogFormat == "text" || (s.LogFormat == "" && p.errTTY) {
		p.log = slog.New(slog.NewTextHandler(p.logTo, options))
	} else {
		p.log = slog.New(slog.NewJSONHandler(p.logTo, options))
	}
	return p.startTraces()
}

// durationText writes durations as texts such as 15s: slog's JSON has nanoseconds.
func durationText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// onClose has f called when the program ends, last come first.
func (p *program) onClose(f func() error) { p.closers = append(p.closers, f) }

func (p *program) close() error {
	var errs []error
	for _, f := range slices.Backward(p.closers) {
		errs = append(errs, f())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// printJSON writes the one document that --json promises.
func (p *program) printJSON(doc any) error {
	p.wrote = true
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// show writes a result: with --json the document, else the text.
func (p *program) show(doc any, text string) error {
	if p.json {
		return p.printJSON(doc)
	}
	return p.print(text)
}

// print writes a result for people to standard output. It fits a terminal.
func (p *program) print(text string) error {
	return p.printAsIs(p.outDisplay().fit(p.complete(text)))
}

// printAsIs writes a result that is for other programs to standard output.
func (p *program) printAsIs(text string) error {
	p.wrote = true
	if _, err := io.WriteString(p.out, text); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

// note tells a person something that is no result, on standard error.
func (p *program) note(format string, args ...any) {
	text := p.errDisplay().fit(p.complete(fmt.Sprintf(format+"\n", args...)))
	_, _ = io.WriteString(p.logTo, text) // nobody is left to tell
}

// tell shows a person at a terminal a text that is no result. Elsewhere the log has a line of the same.
func (p *program) tell(text, line string, attributes ...any) {
	if p.errTTY {
		p.note("%s", text)
	} else {
		p.log.Info(line, attributes...)
	}
}

// tellsSteps reports whether a person at a terminal watches the program. Without
// one, or with --json, only the log says what the program does.
func (p *program) tellsSteps() bool { return p.errTTY && !p.json }

// step tells a person at a terminal what the program does next. Some steps take
// many seconds, and a silent program looks as if it hangs.
func (p *program) step(format string, args ...any) {
	if p.tellsSteps() {
		p.note(format+" ...", args...)
	}
}

// limits are the limits of an instance. That of reads and revokes Clerk sets by the instance's environment.
func (p *program) limits(environment string) invitation.Limits {
	l := invitation.Limits{Create: p.settings.LimitCreate, Bulk: p.settings.LimitBulk, General: ratelimit.DefaultProduction}
	switch {
	case p.settings.LimitGeneral != nil:
		l.General = *p.settings.LimitGeneral
	case environment == "development":
		l.General = ratelimit.DefaultDevelopment
	}
	return l
}

// yes are the answers that mean it.
var yes = []string{"y", "Y", "yes", "Yes", "YES"}

// number are the answers that mean it where a number has to be typed.
func number(n int) []string { return []string{strconv.Itoa(n), thousands(n)} }

// canAsk reports whether a person is at the terminal who sees a question and can answer it.
func (p *program) canAsk() bool { return p.inTTY && p.errTTY }

// confirmed has a person confirm something, on a terminal by one of the answers wanted, else by
// --yes. It returns refused where nobody did.
func (p *program) confirmed(ctx context.Context, refused error, question string, wanted ...string) error {
	if p.settings.Yes {
		return nil
	}
	if !p.canAsk() {
		return refused
	}
	ok, err := p.confirm(ctx, question, wanted...)
	if err == nil && !ok {
		err = refused
	}
	return err
}

// confirm asks on the terminal and reports whether the answer is one of those
// wanted. It gives up when ctx ends.
func (p *program) confirm(ctx context.Context, question string, wanted ...string) (bool, error) {
	if _, err := fmt.Fprint(p.errs, p.errDisplay().fit(question)); err != nil {
		return false, fmt.Errorf("ask for confirmation: %w", err)
	}
	line, err := await(ctx, func() (string, error) { return readLine(p.in) })
	switch {
	case ctx.Err() != nil:
		p.note("")
		return false, context.Cause(ctx)
	case err != nil && !errors.Is(err, io.EOF):
		return false, fmt.Errorf("read the answer: %w", err)
	}
	return slices.Contains(wanted, line), nil
}

// await runs read until it ends or ctx does. It is then left behind, since a read of a terminal or
// of a pipe can't be called off.
func await[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type reply struct {
		v   T
		err error
	}
	replies := make(chan reply, 1)
	go func() {
		v, err := read()
		replies <- reply{v, err}
	}()
	select {
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	case r := <-replies:
		return r.v, r.err
	}
}

// quietOnTerminal is quiet where a person is at the terminal.
func (p *program) quietOnTerminal() {
	if p.errTTY {
		p.quiet()
	}
}

// quiet keeps information out of the log where a person is told it in words,
// unless a level was asked for.
func (p *program) quiet() {
	if p.settings.LogLevel == "" {
		p.level.Set(slog.LevelWarn)
	}
}
