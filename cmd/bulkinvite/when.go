package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // zones by name, also where the system has none

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/words"
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
	zone, err := invitation.LoadZone(f.TZ)
	if err != nil {
		return usage(fmt.Errorf("--tz=%s is no time zone: write it as Europe/Berlin", f.TZ))
	}
	time.Local = zone
	return nil
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
	err := optionFailure((&invitation.Batch{Priority: f.Priority}).Validate())
	if err != nil {
		return w, usage(err)
	}
	if w.startAt, err = invitation.ParseStart(f.StartAt, now.Local()); err != nil {
		return w, usage(fmt.Errorf("--start-at=%s %w", f.StartAt, err))
	}
	if w.hours, err = invitation.ParseHours(f.Hours); err != nil {
		return w, usage(fmt.Errorf("--hours=%s %w", f.Hours, err))
	}
	if w.hours.IsZero() {
		return w, nil
	}
	if w.hours.TZ = f.TZ; f.TZ == "" {
		if w.hours.TZ, err = machineZone(); err != nil {
			return w, usage(err)
		}
	}
	w.zone, err = invitation.LoadZone(w.hours.TZ)
	return w, err
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
		if _, err := invitation.LoadZone(name); err == nil {
			return name, nil
		}
	}
	return "", errors.New("the name of this machine's time zone is not known: give it, as in --tz Europe/Berlin")
}

// shownZone names the zone of the times that the program shows.
func shownZone() string {
	if time.Local.String() == "Local" { // read from the machine's files, without a name
		if name, err := machineZone(); err == nil {
			return name
		}
	}
	return words.Zone()
}

// knowsZone sees that PostgreSQL knows the zone too.
func knowsZone(ctx context.Context, pool *pgxpool.Pool, h invitation.Hours) error {
	if h.IsZero() {
		return nil
	}
	known, err := batch.KnowsZone(ctx, pool, h.TZ)
	if err == nil && !known {
		err = fail(exitUsage, "usage", "take one that it knows, such as Europe/Berlin", "--tz: PostgreSQL does not know the time zone %s", h.TZ)
	}
	return err
}

// words says in which hours, for people; empty: in all.
func (w when) words() string {
	if w.hours.IsZero() {
		return ""
	}
	return fmt.Sprintf("only from %d to %d o'clock (%s)", w.hours.From, w.hours.To, w.hours.TZ)
}
