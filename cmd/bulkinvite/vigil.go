package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// How long send waits for a database that somebody else runs, and how often it
// says so.
const (
	databasePatience = 15 * time.Minute
	vigilSays        = 10 * time.Second
)

// vigil watches over the database while a batch is worked on. A worker waits for
// it however long it is away, and a dozen parts of it complain; the vigil says
// in their place, now and then, that the run waits, and ends the wait.
type vigil struct {
	ping     func(context.Context) error
	patience time.Duration
	log      *slog.Logger

	mu   sync.Mutex
	held []complaint // since the vigil last looked
	over bool        // it watches no more
}

// complaint is a line of the worker's log about something that failed, and the handler that it is for.
type complaint struct {
	to     slog.Handler
	record slog.Record
}

// vigil waits for a server of somebody else's to come back. The private one has
// nobody who would start it anew: waiting for it ends once other processes can
// declare this one dead.
func (u *upload) vigil() *vigil {
	patience := u.settings.RecoverAfter
	if u.settings.DatabaseURL != "" {
		patience = databasePatience
	}
	return &vigil{ping: u.pool.Ping, patience: patience, log: u.log}
}

// every is how often the vigil looks, and how long an answer may take.
func (v *vigil) every() time.Duration { return min(2*time.Second, v.patience/4) }

// answers reports whether the database does.
func (v *vigil) answers(ctx context.Context) bool {
	within, cancel := context.WithTimeout(ctx, v.every())
	defer cancel()
	return v.ping(within) == nil
}

// watch returns nil when ctx is done, and an error once the database has not
// answered for too long.
func (v *vigil) watch(ctx context.Context) error {
	there := true
	defer func() { v.release(there, true) }()
	tick := time.NewTicker(v.every())
	defer tick.Stop()
	answered, said := time.Now(), time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before, now := there, v.answers(ctx)
		if ctx.Err() != nil {
			return nil
		}
		there = now
		v.release(before && there, false)
		gone := time.Since(answered)
		switch {
		case there:
			if !said.IsZero() {
				v.log.Warn("the database answers again", "away", gone.Round(time.Second).String())
			}
			answered, said = time.Now(), time.Time{}
		case gone > v.patience:
			return fail(exitFailed, "database", "nothing is lost: see that it runs, then give the same command again",
				"the database has not answered for %s", span(gone))
		case time.Since(said) >= vigilSays:
			said = time.Now()
			v.log.Warn("the database does not answer; waiting for it", "away", gone.Round(time.Second).String(), "patience", v.patience.String())
		}
	}
}

// listen returns the log for the worker. Warnings that name an error wait, 4 s at most, until the vigil
// has looked, and are left out if the database was away meanwhile: what failed then failed for that, and
// is tried again. All other lines are written at once.
func (v *vigil) listen() *slog.Logger { return slog.New(&ear{v.log.Handler(), v}) }

// hold keeps a complaint until the next look. It reports false once the vigil watches no more.
func (v *vigil) hold(c complaint) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.over {
		v.held = append(v.held, c)
	}
	return !v.over
}

// release passes on the complaints that it holds, or drops them. After the last release none is held.
func (v *vigil) release(pass, last bool) {
	v.mu.Lock()
	held := v.held
	v.held, v.over = nil, last
	v.mu.Unlock()
	if !pass {
		return
	}
	for _, c := range held {
		_ = c.to.Handle(context.Background(), c.record) // nobody can be told that the log fails
	}
}

// ear is a log handler that leaves complaints to the vigil. It does no I/O for them: the worker may
// be in a transaction, and other requests wait for that.
type ear struct {
	slog.Handler
	v *vigil
}

// Handle takes a record.
func (e *ear) Handle(ctx context.Context, r slog.Record) error {
	failed := false
	r.Attrs(func(a slog.Attr) bool {
		failed = a.Key == "error"
		return !failed
	})
	if failed && r.Level >= slog.LevelWarn && e.v.hold(complaint{e.Handler, r.Clone()}) {
		return nil
	}
	return e.Handler.Handle(ctx, r)
}

// WithAttrs and WithGroup keep the ear in front of the handler.
func (e *ear) WithAttrs(a []slog.Attr) slog.Handler { return &ear{e.Handler.WithAttrs(a), e.v} }

// WithGroup is as WithAttrs.
func (e *ear) WithGroup(name string) slog.Handler { return &ear{e.Handler.WithGroup(name), e.v} }
