package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/importer"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
	"bulkinvite/migrations"
)

type checkCmd struct {
	Problems  string `type:"path" placeholder:"OUT" help:"Write the rows that can't be sent to a file like the one read, in UTF-8, with what is wrong in a column before them. Corrected, it can be sent as it is. Default: none."`
	Preflight bool   `help:"Read at Clerk who is a user or invited already, and would be skipped. Needs the key. Default: off."`
	peopleFlags
}

// Help is shown before the flags.
func (checkCmd) Help() string {
	return `Examples:

    bulkinvite check hires.csv
    bulkinvite check hires.csv --problems bad.csv     correct bad.csv, then send it too
    bulkinvite check hires.xlsx
    bulkinvite check hires.csv --map email="Work Address" --json
    bulkinvite check hires.csv --preflight --start-at 08:00 --tz Europe/Berlin

Writes and sends nothing, and needs no key but for --preflight. A database is asked whom it knows only where one is named or runs already. Exit status 0, 3 if rows are invalid, 2 if the file can't be read.`
}

// Run reads the file and prints its plan.
func (c *checkCmd) Run(ctx context.Context, p *program) error {
	pl, err := c.read(ctx, p, "")
	if err != nil {
		return err
	}
	if c.Problems != "" {
		if err := pl.writeProblems(ctx, c.Problems); err != nil {
			return err
		}
		p.note("Wrote %s that can't be sent to %s", counted(pl.summary.Invalid, "row", "rows"), plain(c.Problems))
	}
	if err := c.plan(ctx, p, pl); err != nil {
		return err
	}
	err = p.show(importer.NewCheck(pl.summary, pl.known, pl.Plan), pl.text(pl.clerk, time.Now(), p.outDisplay()))
	return troubled(err, pl.summary.Invalid > 0)
}

// plan works out the requests. It asks a database that runs already whom it
// knows and, with --preflight, Clerk.
func (c *checkCmd) plan(ctx context.Context, p *program, pl *plan) error {
	var from jobs.Lookup
	var to *target
	environment := "production"
	if c.Preflight {
		var err error
		if to, err = p.connect(ctx); err != nil {
			return err
		}
		pl.clerk, environment = to.String(), to.environment
		from.Clerk = jobs.NewPreflight(to.api, jobs.NewPacer(p.limits(environment).General), p.settings.RequestTimeout)
	}
	var err error
	if from.Pool, from.Instance, err = p.askedDatabase(ctx, to); err != nil {
		return err
	}
	var silent *jobs.UnansweredError
	if pl.known, err = from.Known(ctx, pl.everybody(ctx, p)); errors.As(err, &silent) {
		return fail(exitFailed, "clerk", "try again later; nothing was sent", "%w", err)
	} else if err != nil {
		return fmt.Errorf("%s: look for people who need no invitation: %w", plain(pl.input.name), err)
	}
	return pl.forecast(ctx, from.Pool, from.Instance, p.limits(environment), c.Priority)
}

// askedDatabase finds a database that may be asked, and the number of the
// instance there; nil if there is none. One whose schema is not this program's is not asked: check
// writes nothing, and so brings none up to date.
func (p *program) askedDatabase(ctx context.Context, to *target) (*pgxpool.Pool, int64, error) {
	pool, err := p.runningDatabase(ctx)
	if err != nil || pool == nil {
		return nil, 0, err
	}
	found, err := migrations.Status(ctx, pool)
	if err != nil || slices.ContainsFunc(found, func(m migrations.Migration) bool { return !m.Applied }) {
		return nil, 0, err
	}
	instance, ok, err := p.checkInstance(ctx, pool, to)
	if err != nil || !ok {
		return nil, 0, err
	}
	return pool, instance, nil
}

// checkInstance finds the instance that check speaks of: that of the key where
// there was need of one, the sandbox if asked for, else the only one that the
// database has met but the sandbox.
func (p *program) checkInstance(ctx context.Context, pool *pgxpool.Pool, to *target) (int64, bool, error) {
	switch {
	case to != nil:
		id, _, err := to.find(ctx, pool)
		return id, id != 0, err
	case p.settings.Sandbox:
		return report.InstanceByClerkID(ctx, pool, sandboxInstance)
	}
	return report.OnlyInstance(ctx, pool)
}
