package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/ledger"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
)

type reconcileCmd struct {
	Actor actor `placeholder:"NAME" help:"Who asks for it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (reconcileCmd) Help() string {
	return `Examples:

    bulkinvite reconcile
    bulkinvite reconcile --json
    bulkinvite drift

Learns who has accepted, what has expired, and what was revoked elsewhere; then tells how many invitations no row explains, and how many of ours are gone. Changes nothing at Clerk. Workers do it by themselves every 15 minutes (work --reconcile-every). Exit status 0, also where there is drift.`
}

// Run reconciles once.
func (c *reconcileCmd) Run(ctx context.Context, p *program, t *takingBack) error {
	r, err := t.worker.Reconcile(ctx, c.Actor.name())
	if err != nil {
		return keyRefused(err, "set a good key in "+keyVariable+" and reconcile again", "reconcile: ")
	}
	return p.show(r, reconcileText(r))
}

func reconcileText(r *ledger.Reconcile) string {
	t := table{right: []bool{true}}
	t.add("  "+thousands(r.Scanned), "invitations at Clerk, read with "+counted(r.Requests, "request", "requests"))
	t.add("  "+thousands(r.Accepted), "rows turned out to be accepted")
	t.add("  "+thousands(r.Expired), "expired")
	t.add("  "+thousands(r.Revoked), "revoked by somebody else")
	t.add("  "+thousands(r.Deleted), "deleted at Clerk")
	text := "\n" + t.String()
	if r.Drift.Sum() == 0 {
		return text + "\nNo drift: each invitation has its row, and each row its invitation.\n"
	}
	t = table{right: []bool{true}}
	t.count(r.Drift.Unexplained, words.DriftKinds[ledger.Unexplained])
	t.count(r.Drift.Gone, words.DriftKinds[ledger.Gone])
	t.count(r.Drift.PendingAgain, words.DriftKinds[ledger.PendingAgain])
	return text + "\nDrift\n\n" + t.String() + "\nbulkinvite drift lists it\n"
}

type driftCmd struct{}

// Help is shown before the flags.
func (driftCmd) Help() string {
	return `Examples:

    bulkinvite reconcile
    bulkinvite drift
    bulkinvite drift --json

Shows what the last reconciling found: invitations at Clerk that no row explains, rows whose invitation is gone at Clerk, and invitations that are over by our row and pending at Clerk. What is found no more is listed no more. Needs no key.`
}

// Run lists the drift.
func (driftCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	all := []report.Drift{}
	err := report.EachDrift(ctx, pool, report.DriftFilter{}, func(d *report.Drift) error {
		all = append(all, *d)
		return nil
	})
	if err != nil {
		return err
	}
	t := table{head: []string{"What", "Person", "Invitation", "Status", "Made", "Row", "First seen", "Last seen", "Clerk"}}
	for _, d := range all {
		made, row := "-", "-"
		if d.CreatedAt != nil {
			made = moment(*d.CreatedAt)
		}
		if d.BatchID != nil {
			row = "batch " + strconv.FormatInt(*d.BatchID, 10) + ", row " + strconv.Itoa(*d.RowNumber)
		}
		t.add(strings.ReplaceAll(string(d.Kind), "_", " "), d.Email, d.ClerkInvitationID, or(d.Status), made, row, moment(d.FirstSeen), moment(d.LastSeen), d.Environment)
	}
	text := t.on(p.outDisplay())
	if len(all) == 0 {
		compared, err := report.Reconciled(ctx, pool)
		if err != nil {
			return err
		}
		text = "No drift that the last reconciling found. bulkinvite reconcile looks again.\n"
		if !compared {
			text = "The rows have not been compared with Clerk yet. bulkinvite reconcile does it.\n"
		}
	}
	return p.show(all, text)
}
