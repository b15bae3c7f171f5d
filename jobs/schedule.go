package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"bulkinvite/internal/revocation"
)

// ParseSchedule reads a cron expression of five fields. zone is an IANA time zone, or empty for the
// machine's own.
func ParseSchedule(expression, zone string) (cron.Schedule, error) {
	where := time.Local
	if zone != "" {
		var err error
		if where, err = time.LoadLocation(zone); err != nil {
			return nil, fmt.Errorf("%q is no time zone: write one of the IANA database, such as Europe/Berlin", zone)
		}
	}
	spec, err := cron.ParseStandard(expression)
	if err != nil || strings.Contains(expression, "TZ=") {
		return nil, fmt.Errorf("%q is no cron expression: write minute hour day month weekday, such as \"0 2 * * *\"", expression)
	}
	return wallClock{spec, where}, nil
}

// wallClock is a schedule in local time. With the parser's own time zones a run is left out if its
// hour is skipped for summer time, and done twice if its hour is repeated. Here such a night has
// exactly one run.
type wallClock struct {
	spec  cron.Schedule
	where *time.Location
}

// Next returns the first time of the schedule after t, or the zero time if there is none.
func (c wallClock) Next(t time.Time) time.Time {
	wall := t.In(c.where)
	asUTC := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, time.UTC)
	for {
		asUTC = c.spec.Next(asUTC)
		if asUTC.IsZero() { // a date that never comes, such as 30 February
			return asUTC
		}
		next := time.Date(asUTC.Year(), asUTC.Month(), asUTC.Day(), asUTC.Hour(), asUTC.Minute(), asUTC.Second(), 0, c.where)
		if next.After(t) {
			return next
		}
	}
}

// latest returns the last time of a schedule after one time and not after another, or the zero time
// if there is none. Schedules run between once a minute and once a year, so it looks back a day,
// then a month, and so on, until it finds one.
func latest(s cron.Schedule, after, until time.Time) (found time.Time) {
	for _, back := range []time.Duration{24 * time.Hour, 32 * 24 * time.Hour, 367 * 24 * time.Hour, until.Sub(after)} {
		from := until.Add(-back)
		if from.Before(after) {
			from = after
		}
		for at := s.Next(from); !at.IsZero() && !at.After(until); at = s.Next(at) {
			found = at
		}
		if !found.IsZero() || from.Equal(after) {
			break
		}
	}
	return found
}

// nights begins the sweep of each night when it is due, until ctx is done. The first process to
// record it has the night. If all processes missed some nights, only the last of them is made up
// for. A sweep that cannot begin is tried again.
func (w *Worker) nights(ctx context.Context) {
	if w.schedule == nil {
		return
	}
	failed := false
	for ctx.Err() == nil {
		wait := 5 * time.Second
		elsewhere, err := w.night(ctx)
		if err == nil && !elsewhere {
			// Wait at most one minute, because the clock may be set.
			wait = min(max(w.schedule.Next(w.now()).Sub(w.now()), time.Millisecond), time.Minute)
		} else if ctx.Err() == nil && !failed {
			w.log.Warn("the nightly sweep can't begin; it is tried until it can", "error", err, "again_in", wait)
		}
		failed = err != nil
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// night begins a nightly sweep if one is due. elsewhere is true if another process is doing it. If
// that process dies, this one takes over soon.
func (w *Worker) night(ctx context.Context) (elsewhere bool, err error) {
	now := w.now()
	since, err := revocation.Swept(ctx, w.pool, w.cfg.Instance.ID, w.cfg.SweepAt, w.cfg.TZ)
	if err != nil {
		return false, err
	}
	due := latest(w.schedule, since, now)
	if due.IsZero() {
		return false, nil
	}
	held, err := w.take(ctx, "night")
	if err != nil || held == nil {
		return err == nil, err
	}
	defer func() { err = held.Explain(err); held.Release() }()
	_, err = w.BeginSweep(ctx, SweepOptions{OlderThan: w.cfg.SweepOlderThan, Scope: w.cfg.SweepScope, Apply: true,
		Actor: "nightly sweep", night: due.UTC(), held: held})
	if errors.Is(err, revocation.ErrSwept) { // another process began it meanwhile
		return false, nil
	}
	return false, err
}
