package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"bulkinvite/migrations"
)

type migrateCmd struct {
	Status bool `help:"Show what is applied; change nothing. Default: off."`
}

// Help is shown before the flags.
func (migrateCmd) Help() string {
	return `Examples:

    bulkinvite migrate             bring the database up to date
    bulkinvite migrate --status    what is applied and what is not

Every command that needs the database does this first, so that migrate is for deployments that want it apart. Any number of programs may start at once.`
}

// migrationLine is one migration as migrate prints it.
type migrationLine struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	Applied   bool       `json:"applied"`
	AppliedAt *time.Time `json:"applied_at"`
}

// Run brings the schema up to date, unless only asked how it stands.
func (c *migrateCmd) Run(ctx context.Context, p *program) error {
	open := p.database
	if c.Status {
		open = p.databaseAsItIs
	}
	pool, err := open(ctx)
	if err != nil {
		return err
	}
	found, err := migrations.Status(ctx, pool)
	if err != nil {
		return err
	}
	lines := make([]migrationLine, 0, len(found))
	var text strings.Builder
	for _, m := range found {
		line := migrationLine{Version: m.Version, Name: m.Name, Applied: m.Applied}
		word := "waiting"
		if m.Applied {
			line.AppliedAt = &m.AppliedAt
			word = "applied " + m.AppliedAt.Local().Format(time.DateTime)
		}
		lines = append(lines, line)
		fmt.Fprintf(&text, "%04d  %-24s  %s\n", m.Version, m.Name, word)
	}
	return p.show(lines, text.String())
}
