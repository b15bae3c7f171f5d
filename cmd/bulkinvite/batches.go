package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

type batchesCmd struct{}

// Help is shown before the flags.
func (batchesCmd) Help() string {
	return `Examples:

    bulkinvite batches
    bulkinvite batches --json`
}

// Run lists the batches, the newest first.
func (batchesCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	lines, err := report.Batches(ctx, pool)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return p.show(lines, "No batches yet. bulkinvite send FILE makes the first.\n")
	}
	held, err := heldSweeps(ctx, pool, 0)
	if err != nil {
		return err
	}
	t := table{
		head:  []string{"Batch", "File", "By", "Clerk", "Made", "Rows", "Invited", "Accepted", "State"},
		right: []bool{true, false, false, false, false, true, true, true, false},
	}
	for _, l := range lines {
		invited := l.Outcomes[invitation.Invited]
		accepted := "-"
		if invited > 0 {
			accepted = fmt.Sprintf("%d %%", 100*l.Accepted/invited)
		}
		state := string(l.State)
		if l.State == invitation.Running || l.State == invitation.Paused {
			state += fmt.Sprintf(" %s %s undecided", signs.dot, thousands(l.Undecided))
		}
		if l.StateReason != nil {
			state += " " + signs.dot + " " + *l.StateReason
		}
		t.add(strconv.FormatInt(l.Batch, 10), l.FileName, l.Actor, l.Environment, moment(l.CreatedAt),
			thousands(l.Rows), thousands(invited), accepted, state)
	}
	return p.show(lines, t.on(p.outDisplay())+held)
}
