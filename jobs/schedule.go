package jobs

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
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
