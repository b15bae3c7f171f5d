package main

import (
	"context"
	"log/slog"
	"sync/atomic"
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
	over     atomic.Bool // it watches no more
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
	defer v.over.Store(true)
	tick := time.NewTicker(v.every())
	defer tick.Stop()
	answered, said := time.Now(), time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		there := v.answers(ctx)
		if ctx.Err() != nil {
			return nil
		}
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

// listen returns the log for the worker: its warnings and errors are left out
// while the database is away.
func (v *vigil) listen() *slog.Logger { return slog.New(&ear{v.log.Handler(), v}) }

// ear is a log handler that looks for the database before it passes a complaint on.
type ear struct {
	slog.Handler
	v *vigil
}

// Handle takes a record.
func (e *ear) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn && !e.v.over.Load() && !e.v.answers(context.WithoutCancel(ctx)) {
		return nil
	}
	return e.Handler.Handle(ctx, r)
}

// WithAttrs and WithGroup keep the ear in front of the handler.
func (e *ear) WithAttrs(a []slog.Attr) slog.Handler { return &ear{e.Handler.WithAttrs(a), e.v} }

// WithGroup is as WithAttrs.
func (e *ear) WithGroup(name string) slog.Handler { return &ear{e.Handler.WithGroup(name), e.v} }
