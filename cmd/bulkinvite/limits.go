package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
	"bulkinvite/ratelimit"
)

type limitsCmd struct {
	Show limitsShowCmd `cmd:"" default:"1" help:"Show them. So does limits alone."`
	Thaw limitsThawCmd `cmd:"" help:"End freezes, so that one request tries whether Clerk takes requests again."`
}

// Help is shown before the flags.
func (limitsCmd) Help() string {
	return `Examples:

    bulkinvite limits
    bulkinvite limits --json
    bulkinvite limits thaw create

Shows what each limit of Clerk's has left, and which are frozen or go one request at a time since Clerk answered 429, for every instance in the database. Needs no key. Exit status: 0.`
}

type limitsShowCmd struct{}

// Help is shown before the flags.
func (limitsShowCmd) Help() string { return limitsCmd{}.Help() }

// Run shows where the limits stand.
func (limitsShowCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	all, err := report.LimitsOfAll(ctx, pool, p.limits, p.settings.RequestTimeout)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return p.show(all, "Nothing was sent from this database yet\n")
	}
	parts := make([]string, len(all))
	for i, in := range all {
		parts[i] = limitsText(in)
	}
	return p.show(all, strings.Join(parts, "\n"))
}

// limitsText is where the limits of an instance stand, as a person reads it.
func limitsText(in report.InstanceLimits) string {
	t := table{}
	for _, l := range in.Limits {
		t.add("  "+l.Bucket, l.Limit.String(), limitText(l))
	}
	text := fmt.Sprintf("%s instance %s, %s\n", in.Environment, in.Instance,
		counted(in.Workers, "process works", "processes work")) + t.String()
	if differing := differingText(in.Differing); differing != "" {
		text += differing + "\n"
	}
	return text
}

// limitText says what a limit has left.
func limitText(l report.LimitState) string {
	var parts []string
	switch {
	case l.Limit.Off:
		return "not used"
	case l.FrozenUntil != nil:
		parts = append(parts, fmt.Sprintf("frozen until %s: %s", momentSeconds(*l.FrozenUntil), *l.FrozenReason))
	case l.Limit.None:
		parts = append(parts, "no limit")
	default:
		parts = append(parts, thousands(*l.Free)+" may go now")
		if l.OneAtATimeUntil != nil {
			parts = append(parts, "one at a time until "+momentSeconds(*l.OneAtATimeUntil)+", since Clerk answered 429")
		}
		if l.OpensAt != nil {
			parts = append(parts, "the next at "+momentSeconds(*l.OpensAt))
		}
	}
	return dotted(parts...)
}

// differingText names the workers that were given different limits, if there are any.
func differingText(differing []report.WorkerLimits) string {
	if len(differing) == 0 {
		return ""
	}
	text := words.Differing
	for _, w := range differing {
		text += "\n  " + w.String()
	}
	return text
}

type limitsThawCmd struct {
	Bucket string `arg:"" optional:"" enum:"create,bulk,general,all" default:"all" help:"create, bulk or general. Default: all."`
	Actor  actor  `placeholder:"NAME" help:"Who does it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (limitsThawCmd) Help() string {
	return `Examples:

    bulkinvite limits
    bulkinvite limits thaw create
    bulkinvite limits thaw --actor maria

Ends the freeze of a limit, or of all, at every instance in the database. One request then tries whether Clerk takes requests again, within ten seconds, while a worker runs and people wait. If Clerk answers 429 once more, the limit is frozen anew. Nothing else changes, so it does not ask. Needs no key. Exit status: 0, also where nothing was frozen.`
}

// Run ends freezes.
func (c *limitsThawCmd) Run(ctx context.Context, p *program, pool *pgxpool.Pool) error {
	buckets := []string{c.Bucket}
	if c.Bucket == "all" {
		buckets = []string{ratelimit.Create, ratelimit.Bulk, ratelimit.GeneralCall}
	}
	thawed, err := report.ThawLimits(ctx, pool, buckets, c.Actor.name())
	if err != nil {
		return err
	}
	text := ""
	if len(thawed) == 0 {
		text = "Nothing is frozen\n"
	}
	for _, one := range thawed {
		text += fmt.Sprintf("%s of %s is no longer frozen (it was until %s). One request tries it next.\n",
			one.Bucket, one.Instance, momentSeconds(one.Until))
	}
	return p.show(thawed, text)
}
