package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones by name, also where the system has none

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/invitation"
)

// whenFlags say when a batch goes out, and before which others.
type whenFlags struct {
	Priority int    `default:"2" placeholder:"1-4" help:"1 goes before 4, whoever came first. Default: 2."`
	StartAt  string `placeholder:"TIME" help:"Send nothing before: 2026-11-24T08:00:00+01:00, or \"2026-11-24 08:00\" in --tz, or 08:00, the next one. Default: at once."`
	Hours    string `placeholder:"FROM-TO" help:"Send only in these hours, in --tz: 8-18; 22-6 is the night. Default: all."`
	zoneFlag
}

// zoneFlag is the time zone of a command's times.
type zoneFlag struct {
	TZ string `name:"tz" placeholder:"ZONE" help:"Time zone, such as Europe/Berlin. Default: the machine's."`
}

// apply makes the zone that of all times that the program shows. It is called
// before anything else runs.
func (f *zoneFlag) apply() error {
	if f.TZ == "" {
		return nil
	}
	zone, err := loadZone(f.TZ)
	if err != nil {
		return usage(fmt.Errorf("--tz=%s is no time zone: write it as Europe/Berlin", f.TZ))
	}
	time.Local = zone
	return nil
}

// loadZone is time.LoadLocation, but for the two names that are no zones.
func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, errors.New("no time zone")
	}
	return time.LoadLocation(name)
}

// when is when a batch goes out.
type when struct {
	startAt time.Time
	hours   invitation.Hours
	zone    *time.Location // that of hours
}

// openWhen reads the flags, and makes their zone that of the program. now is
// what the next 08:00 is counted from.
func (f *whenFlags) openWhen(now time.Time) (when, error) {
	var w when
	if err := f.apply(); err != nil {
		return w, err
	}
	if f.Priority < 1 || f.Priority > 4 {
		return w, usage(fmt.Errorf("--priority=%d must be 1 to 4", f.Priority))
	}
	var err error
	if w.startAt, err = parseStart(f.StartAt, now.Local()); err != nil {
		return w, usage(err)
	}
	if w.hours, err = parseHours(f.Hours); err != nil {
		return w, usage(err)
	}
	if w.hours.IsZero() {
		return w, nil
	}
	if w.hours.TZ = f.TZ; f.TZ == "" {
		if w.hours.TZ, err = machineZone(); err != nil {
			return w, usage(err)
		}
	}
	w.zone, err = loadZone(w.hours.TZ)
	return w, err
}

// parseStart reads --start-at in the zone of now.
func parseStart(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		t, err := time.ParseInLocation(layout, text, now.Location())
		if err != nil {
			continue
		}
		if t.Format(layout) != text {
			return t, fmt.Errorf("--start-at=%s: there is no such time, since the clocks are put forward over it", text)
		}
		return t, nil
	}
	if t, err := time.Parse("15:04", text); err == nil {
		next := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
		if !next.After(now) {
			next = time.Date(now.Year(), now.Month(), now.Day()+1, t.Hour(), t.Minute(), 0, 0, now.Location())
		}
		return next, nil
	}
	return time.Time{}, fmt.Errorf("--start-at=%s is no time: write 2026-11-24T08:00:00+01:00, or \"2026-11-24 08:00\", or 08:00", text)
}

var hoursForm = regexp.MustCompile(`^(\d{1,2})-(\d{1,2})$`)

// parseHours reads --hours; the zone is left open.
func parseHours(text string) (invitation.Hours, error) {
	if text == "" {
		return invitation.Hours{}, nil
	}
	bad := fmt.Errorf("--hours=%s: write two hours of the day from 0 to 24, such as 8-18, or 22-6 for the night", text)
	m := hoursForm.FindStringSubmatch(text)
	if m == nil {
		return invitation.Hours{}, bad
	}
	from, err := strconv.Atoi(m[1])
	if err != nil {
		return invitation.Hours{}, bad
	}
	to, err := strconv.Atoi(m[2])
	if err != nil || from > 23 || to > 24 || from == to {
		return invitation.Hours{}, bad
	}
	if from == 0 && to == 24 {
		return invitation.Hours{}, nil
	}
	return invitation.Hours{From: from, To: to}, nil
}

// machineZone finds the name of the machine's time zone: the batch keeps it, so
// that its hours stay where they are when summer time comes. Go knows the zone
// but not its name.
func machineZone() (string, error) {
	var names []string
	if tz, set := os.LookupEnv("TZ"); set {
		names = append(names, strings.TrimPrefix(tz, ":"))
		if tz == "" {
			names[0] = "UTC"
		}
	} else {
		if link, err := filepath.EvalSymlinks("/etc/localtime"); err == nil {
			if _, name, ok := strings.Cut(link, "zoneinfo/"); ok {
				names = append(names, name)
			}
		}
		if text, err := os.ReadFile("/etc/timezone"); err == nil {
			names = append(names, strings.TrimSpace(string(text)))
		}
		if _, err := os.Stat("/etc/localtime"); errors.Is(err, os.ErrNotExist) {
			names = append(names, "UTC")
		}
	}
	for _, name := range names {
		if _, err := loadZone(name); err == nil {
			return name, nil
		}
	}
	return "", errors.New("the name of this machine's time zone is not known: give it, as in --tz Europe/Berlin")
}

// knowsZone sees that PostgreSQL knows the zone too: workers ask it what the
// hour is.
func knowsZone(ctx context.Context, pool *pgxpool.Pool, h invitation.Hours) error {
	if h.IsZero() {
		return nil
	}
	var known bool
	if err := pool.QueryRow(ctx, `select exists (select from pg_timezone_names where name = $1)`, h.TZ).Scan(&known); err != nil {
		return fmt.Errorf("look for the time zone: %w", err)
	}
	if !known {
		return fail(exitUsage, "usage", "take one that it knows, such as Europe/Berlin", "--tz: PostgreSQL does not know the time zone %s", h.TZ)
	}
	return nil
}

// words says in which hours, for people; empty: in all.
func (w when) words() string {
	if w.hours.IsZero() {
		return ""
	}
	return fmt.Sprintf("only from %d to %d o'clock (%s)", w.hours.From, w.hours.To, w.hours.TZ)
}
