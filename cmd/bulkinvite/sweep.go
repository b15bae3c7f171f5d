package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkinvite/invitation"
	"bulkinvite/jobs"
)

type sweepCmd struct {
	OlderThan age    `default:"14d" placeholder:"AGE" help:"How old a pending invitation must be: 14d, or 36h. Default: 14d."`
	Apply     bool   `help:"Revoke them. Default: only show how many."`
	Allow     bool   `help:"Let it revoke more than its threshold: 30 % of the pending ones, and 20. Default: then it is held."`
	Actor     string `placeholder:"NAME" help:"Who asks for it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (sweepCmd) Help() string {
	return `Examples:

    bulkinvite sweep                           how many of our invitations are stale
    bulkinvite sweep --older-than 30d --apply  revoke them

Only invitations that this database's batches made are touched. work --sweep-at does it each night. Exit status 0; 3 if a revocation failed; 4 if it is held.`
}

// age is a length of time that may be given in days: 14d.
type age time.Duration

// UnmarshalText reads 14d, or what [time.ParseDuration] reads; above zero.
func (a *age) UnmarshalText(text []byte) error {
	bad := fmt.Errorf("%q is no age: write days or hours, such as 14d or 36h", text)
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 36500 {
			return bad
		}
		*a = age(n) * age(24*time.Hour)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 {
		return bad
	}
	*a = age(d)
	return nil
}

// sweepDocument is what sweep --json prints.
type sweepDocument struct {
	Sweep   int64          `json:"sweep"`
	Apply   bool           `json:"apply"`
	Scanned int            `json:"scanned"`
	Stale   int            `json:"stale"`
	Revoked int            `json:"revoked"`
	Skipped map[string]int `json:"skipped"`
	Failed  int            `json:"failed"`
	Held    bool           `json:"held"`
}

// Run sweeps once.
func (c *sweepCmd) Run(ctx context.Context, p *program) error {
	t, err := p.connect(ctx)
	if err != nil {
		return err
	}
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	instance, err := invitation.NewStore(pool).EnsureInstance(ctx, t.clerkID, t.environment)
	if err != nil {
		return err
	}
	config := p.workerConfig(instance)
	config.OnlyRevokes = true
	worker, err := jobs.New(pool, t.api, config)
	if err != nil {
		return err
	}
	actor := c.Actor
	if actor == "" {
		actor = loginName()
	}
	swept, err := worker.Sweep(ctx, jobs.SweepOptions{OlderThan: time.Duration(c.OlderThan), Apply: c.Apply, Allow: c.Allow, Actor: actor})
	if errors.Is(err, jobs.ErrUnauthorized) {
		return fail(exitFailed, "clerk_key", "set a good key in "+keyVariable+" and sweep again", "sweep: %w", err)
	}
	if err != nil {
		return err
	}
	doc := sweepDocument{Sweep: swept.ID, Apply: swept.Apply, Scanned: swept.Scanned, Stale: swept.Stale, Revoked: swept.Revoked, Skipped: swept.Skipped, Failed: swept.Failed, Held: swept.Held}
	if doc.Skipped == nil {
		doc.Skipped = map[string]int{}
	}
	if p.json {
		err = p.printJSON(doc)
	} else {
		err = p.print(sweepText(doc, time.Duration(c.OlderThan)))
	}
	switch {
	case err != nil:
		return err
	case doc.Held:
		return status(exitHeld)
	case doc.Apply && swept.FinishedAt.IsZero():
		return errInterrupted
	case doc.Failed > 0:
		return status(exitRows)
	}
	return nil
}

func sweepText(d sweepDocument, older time.Duration) string {
	t := table{right: []bool{true}}
	t.add("  "+thousands(d.Scanned), "pending invitations of ours")
	t.add("  "+thousands(d.Stale), "of them older than "+span(older))
	if d.Held {
		return fmt.Sprintf("Sweep %d is held, nothing revoked\n\n%s\nIt would revoke more than its threshold. --apply --allow lets it.\n", d.Sweep, t.String())
	}
	if d.Apply {
		t.add("  "+thousands(d.Revoked), "revoked")
		for _, why := range slices.Sorted(maps.Keys(d.Skipped)) {
			t.add("  "+thousands(d.Skipped[why]), "skipped: "+strings.ReplaceAll(why, "_", " "))
		}
		t.add("  "+thousands(d.Failed), "failed; the next sweep sees to them")
		return fmt.Sprintf("Sweep %d\n\n%s", d.Sweep, t.String())
	}
	return fmt.Sprintf("Sweep %d, nothing revoked\n\n%s\n--apply revokes them\n", d.Sweep, t.String())
}
