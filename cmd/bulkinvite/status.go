package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
)

type statusCmd struct {
	Batch int64 `arg:"" help:"The batch's number; bulkinvite batches lists them."`
	zoneFlag
}

// Help is shown before the flags.
func (statusCmd) Help() string {
	return `Examples:

    bulkinvite status 12
    bulkinvite status 12 --json
    bulkinvite status 12 --tz Europe/Berlin

Exit status 0 whatever the batch's state; 2 if there is no such batch.`
}

// Run says where a batch stands.
func (c *statusCmd) Run(ctx context.Context, p *program) error {
	if err := c.apply(); err != nil {
		return err
	}
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	return p.printStatus(ctx, pool, c.Batch)
}

// printStatus prints where a batch stands, and what it waits for.
func (p *program) printStatus(ctx context.Context, pool *pgxpool.Pool, batch int64) error {
	d, budget, err := report.ReadDocument(ctx, pool, batch, p.limits)
	if err != nil {
		return noBatch(err)
	}
	if p.json {
		return p.printJSON(d)
	}
	if d.Environment == sandboxInstance {
		p.suggestSandbox()
	}
	text := reportText(d.Report, p.outDisplay())
	if d.Plan != nil {
		text += leftText(d.Report, *d.Plan)
	}
	for _, line := range budgetLines(budget) {
		text += "\n" + line + "\n"
	}
	held, err := heldSweeps(ctx, pool, d.InstanceID)
	if err != nil {
		return err
	}
	return p.print(text + held)
}

// leftText says what is left to do of a batch.
func leftText(r *report.Report, plan invitation.Plan) string {
	if plan.ToSend == 0 {
		return "\nThe last answers are awaited\n"
	}
	lines := append(scheduleLines(plan, r.ETA.Add(-plan.Lasts())),
		fmt.Sprintf("The last goes out about %s, if a worker runs", moment(*r.ETA)))
	if plan.Ahead > 0 {
		lines = append(lines, fmt.Sprintf("after %s of other batches", counted(plan.Ahead, "person", "people")))
	}
	return "\n" + titled("Left", len("Left      "), lines)
}

// budgetLines says which limits are not what was set, and until when.
func budgetLines(b report.Budget) []string {
	var lines []string
	for _, f := range b.Frozen {
		lines = append(lines, fmt.Sprintf("Clerk said to slow down: no %s until %s (%s)", callWords[f.Bucket], momentSeconds(f.Until), f.Reason))
	}
	if differing := differingText(b.Differing()); differing != "" {
		lines = append(lines, differing)
	}
	return lines
}

// noBatch says what to do about a number that no batch has.
func noBatch(err error) error {
	if errors.Is(err, invitation.ErrNoBatch) {
		return &failure{exit: exitUsage, code: "no_batch", err: err, remedy: "bulkinvite batches lists what there is"}
	}
	return err
}

// outcomeColours are those of outcomes that a person should see at a glance.
var outcomeColours = map[invitation.Outcome]colour{
	invitation.Invited: green, invitation.Invalid: yellow, invitation.Rejected: yellow, invitation.Failed: red,
}

// reportText is the report as a person reads it.
func reportText(r *report.Report, s display) string {
	var b strings.Builder
	took := time.Duration(r.Seconds * float64(time.Second))
	fmt.Fprintf(&b, "Batch %d %s: %s", r.Batch, stateWords(r.State), counted(r.Rows, "row", "rows"))
	if r.FinishedAt != nil {
		fmt.Fprintf(&b, " in %s", span(took))
	}
	if r.Environment == sandboxInstance {
		b.WriteString(", in the sandbox: nobody was mailed")
	}
	b.WriteString("\n\n")
	t := table{right: []bool{false, true, false}}
	for _, o := range shownOrder {
		hint, looks := "", noColour
		if r.Outcomes[o] > 0 {
			looks = outcomeColours[o]
			if o == invitation.Rejected || o == invitation.Invalid || o == invitation.Failed {
				hint = fmt.Sprintf(" bulkinvite results %d --outcome %s", r.Batch, o)
			}
		}
		t.paint(looks, "  "+outcomeWords[o], thousands(r.Outcomes[o]), hint)
	}
	if r.Undecided > 0 {
		t.add("  undecided", thousands(r.Undecided), "")
	}
	t.add("", thousands(r.Rows), " every row accounted for")
	b.WriteString(t.on(s))
	q := r.Requests
	requests := []string{thousands(q.Bulk) + " bulk", thousands(q.Create) + " single", counted(q.Read, "read", "reads")}
	if q.Revoke > 0 {
		requests = append(requests, counted(q.Revoke, "revocation", "revocations"))
	}
	requests = append(requests, thousands(r.RateLimited)+" told to slow down")
	b.WriteString("\nRequests  " + dotted(requests...) + "\n")
	if c := r.Certificate; c != nil {
		fmt.Fprintf(&b, "Proof     bulkinvite verify %d --head %s\n", r.Batch, c.Head)
	}
	if r.Unknown != nil {
		b.WriteString("\n" + titled("Not known", len("Not known "), words.Unknown(r.Unknown)))
	}
	if r.State == invitation.Paused {
		fmt.Fprintf(&b, "\nPaused: %s; bulkinvite resume %d lets it go on\n", pauseReason(r), r.Batch)
	}
	return b.String()
}

func stateWords(s invitation.State) string {
	switch s {
	case invitation.Draft:
		return "is a draft"
	case invitation.StateCancelled:
		return "was cancelled"
	}
	return "is " + string(s)
}

// pauseReason says why a batch is paused.
func pauseReason(r *report.Report) string {
	if r.StateReason != nil {
		return *r.StateReason
	}
	return "a person paused it"
}
