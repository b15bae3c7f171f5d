package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"bulkinvite/invitation"
	"bulkinvite/jobs"
	"bulkinvite/words"
)

type reconcileCmd struct {
	Actor string `placeholder:"NAME" help:"Who asks for it, for the record. Default: the login name."`
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
func (c *reconcileCmd) Run(ctx context.Context, p *program) error {
	t, err := p.openTakingBack(ctx)
	if err != nil {
		return err
	}
	if c.Actor == "" {
		c.Actor = loginName()
	}
	r, err := t.worker.Reconcile(ctx, c.Actor)
	if errors.Is(err, jobs.ErrUnauthorized) {
		return fail(exitFailed, "clerk_key", "set a good key in "+keyVariable+" and reconcile again", "reconcile: %w", err)
	}
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(r)
	}
	return p.print(reconcileText(r))
}

func reconcileText(r *invitation.Reconcile) string {
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
	for _, k := range []struct {
		n    int
		kind invitation.DriftKind
	}{{r.Drift.Unexplained, invitation.Unexplained}, {r.Drift.Gone, invitation.Gone}, {r.Drift.PendingAgain, invitation.PendingAgain}} {
		if k.n > 0 {
			t.add("  "+thousands(k.n), words.DriftKinds[k.kind])
		}
	}
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
func (driftCmd) Run(ctx context.Context, p *program) error {
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	all := []invitation.Drift{}
	err = invitation.NewReader(pool).Drift(ctx, invitation.DriftFilter{}, func(d *invitation.Drift) error {
		all = append(all, *d)
		return nil
	})
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(all)
	}
	if len(all) == 0 {
		compared, err := invitation.NewReader(pool).Reconciled(ctx)
		if err != nil {
			return err
		}
		if !compared {
			return p.print("The rows have not been compared with Clerk yet. bulkinvite reconcile does it.\n")
		}
		return p.print("No drift that the last reconciling found. bulkinvite reconcile looks again.\n")
	}
	return p.print(driftTable(all).on(p.outDisplay()))
}

func driftTable(all []invitation.Drift) *table {
	t := &table{head: []string{"What", "Person", "Invitation", "Status", "Made", "Row", "First seen", "Last seen", "Clerk"}}
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
	return t
}
