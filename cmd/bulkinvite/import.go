package main

import (
	"context"
	"errors"
)

type importCmd struct {
	Draft bool `help:"Leave it unstarted; bulkinvite start BATCH lets it run. Default: off."`
	uploadFlags
}

// Help is shown before the flags.
func (importCmd) Help() string {
	return `Examples:

    bulkinvite import hires.csv
    bulkinvite import hires.csv --yes --priority 1 --actor maria
    bulkinvite import hires.csv --start-at "2026-11-24 08:00" --hours 8-18 --tz Europe/Berlin
    bulkinvite import hires.csv --draft

Workers (bulkinvite work) send it; bulkinvite status BATCH tells how far they are. Exit status 0, 3 if rows are invalid, 4 if it was not confirmed or is a batch already.`
}

// Run imports the file and leaves its jobs to workers.
func (c *importCmd) Run(ctx context.Context, p *program) error {
	if c.Draft && c.Roster != 0 {
		return usage(errors.New("--draft and --roster exclude each other: who is gone would be taken back, and nobody invited; bulkinvite check FILE shows the plan"))
	}
	u, earlier, err := openUpload(ctx, p, &c.uploadFlags)
	if err != nil {
		return err
	}
	u.draft = c.Draft
	if u.plan.summary.Rows == 0 {
		return u.printEmpty()
	}
	if earlier != nil {
		return u.sentAlready(earlier)
	}
	if err := u.begin(ctx); err != nil {
		return err
	}
	return troubled(p.printStatus(ctx, u.pool, u.batch), u.plan.summary.Invalid > 0)
}
