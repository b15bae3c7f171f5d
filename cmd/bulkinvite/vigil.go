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

	poke  chan struct{} // somebody complained
	mu    sync.Mutex
	heard []complaint
	over  bool // nobody listens any more
}

// complaint is a warning of the worker's, held until it is known whether the
// database is there.
type complaint struct {
	to     slog.Handler
	record slog.Record
}

func newVigil(ping func(context.Context) error, patience time.Duration, log *slog.Logger) *vigil {
	return &vigil{ping: ping, patience: patience, log: log, poke: make(chan struct{}, 1)}
}

// vigil waits for a server of somebody else's to come back. The private one has
// nobody who would start it anew: waiting for it ends once other processes can
// declare this one dead.
func (u *upload) vigil() *vigil {
	patience := u.settings.RecoverAfter
	if u.settings.DatabaseURL != "" {
		patience = databasePatience
	}
	return newVigil(u.pool.Ping, patience, u.log)
}

// watch returns nil when ctx is done, and an error once the database has not
// answered for too long.
func (v *vigil) watch(ctx context.Context) error {
	every := min(2*time.Second, v.patience/4)
	tick := time.NewTicker(every)
	defer tick.Stop()
	answered, said := time.Now(), time.Time{}
	away := false
	defer func() { v.end(away) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-v.poke:
			if away {
				v.pass(away)
				continue
			}
		}
		asking, cancel := context.WithTimeout(ctx, every)
		err := v.ping(asking)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		away = err != nil
		v.pass(away)
		gone := time.Since(answered)
		switch {
		case !away:
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

// listen returns the log for the worker: its warnings and errors wait until it
// is known whether the database is away, and are left out if it is.
func (v *vigil) listen() *slog.Logger { return slog.New(&ear{v.log.Handler(), v}) }

// pass lets complaints through to the log, or, while the database is away, drops them.
func (v *vigil) pass(away bool) {
	v.mu.Lock()
	heard := v.heard
	v.heard = nil
	v.mu.Unlock()
	if away {
		return
	}
	for _, c := range heard {
		_ = c.to.Handle(context.Background(), c.record) // a log that can't be written has nobody to tell
	}
}

func (v *vigil) end(away bool) {
	v.mu.Lock()
	v.over = true
	v.mu.Unlock()
	v.pass(away)
}

// ear is a log handler that has the vigil hear complaints first.
type ear struct {
	slog.Handler
	v *vigil
}

// Handle takes a record.
func (e *ear) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn || !e.v.hear(complaint{e.Handler, r.Clone()}) {
		return e.Handler.Handle(ctx, r)
	}
	return nil
}

// WithAttrs and WithGroup keep the ear in front of the handler.
func (e *ear) WithAttrs(a []slog.Attr) slog.Handler { return &ear{e.Handler.WithAttrs(a), e.v} }

// WithGroup is as WithAttrs.
func (e *ear) WithGroup(name string) slog.Handler { return &ear{e.Handler.WithGroup(name), e.v} }

// hear takes a complaint, unless the vigil is over.
func (v *vigil) hear(c complaint) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over {
		return false
	}
	v.heard = append(v.heard, c)
	select {
	case v.poke <- struct{}{}:
	default: // it knows already
	}
	return true
}
