package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bulkinvite/invitation"
)

type statusCmd struct {
	Batch int64 `arg:"" help:"The batch's number; bulkinvite batches lists them."`
}

// Help is shown before the flags.
func (statusCmd) Help() string {
	return `Examples:

    bulkinvite status 12
    bulkinvite status 12 --json

Exit status 0 whatever the batch's state; 2 if there is no such batch.`
}

// Run says where a batch stands.
func (c *statusCmd) Run(ctx context.Context, p *program) error {
	pool, err := p.database(ctx)
	if err != nil {
		return err
	}
	reader := invitation.NewReader(pool)
	report, err := reader.Report(ctx, c.Batch)
	if err != nil {
		return noBatch(err)
	}
	if err := p.estimate(ctx, reader, report); err != nil {
		return err
	}
	frozen, err := reader.Frozen(ctx, report.InstanceID)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(struct {
			*invitation.Report
			Frozen []invitation.Freeze `json:"frozen"`
		}{report, append([]invitation.Freeze{}, frozen...)})
	}
	text := reportText(report)
	for _, f := range frozen {
		text += fmt.Sprintf("\nClerk said to slow down: no %s requests until %s\n", f.Bucket, momentSeconds(f.Until))
	}
	return p.print(text)
}

// noBatch says what to do about a number that no batch has.
func noBatch(err error) error {
	if errors.Is(err, invitation.ErrNoBatch) {
		return &failure{exit: exitUsage, code: "no_batch", err: err, remedy: "bulkinvite batches lists what there is"}
	}
	return err
}

// estimate works out when a batch's last row goes out, by the budget and what
// it has spent.
func (p *program) estimate(ctx context.Context, reader *invitation.Reader, report *invitation.Report) error {
	if report.State != invitation.Running || report.Undecided == 0 {
		return nil
	}
	ahead, err := reader.Ahead(ctx, report)
	if err != nil {
		return err
	}
	create, bulk := p.settings.LimitCreate, p.settings.LimitBulk
	spent, err := reader.Spent(ctx, report.InstanceID, create.Weight(), bulk.Weight())
	if err != nil {
		return err
	}
	plan := invitation.MakePlan(ahead, create, bulk, spent)
	eta := report.Now.Add(time.Duration(plan.Seconds * float64(time.Second))).UTC()
	report.ETA = &eta
	return nil
}

// outcomeWords names each outcome as a person reads it.
var outcomeWords = map[invitation.Outcome]string{
	invitation.Invited:           "invited",
	invitation.AlreadyInvited:    "already invited",
	invitation.AlreadyRegistered: "already registered",
	invitation.DuplicateRow:      "same row again",
	invitation.Invalid:           "invalid",
	invitation.Rejected:          "rejected by Clerk",
	invitation.Failed:            "failed",
	invitation.Cancelled:         "cancelled",
}

// shownOrder is the order of outcomes in a report: what went well first.
var shownOrder = []invitation.Outcome{
	invitation.Invited, invitation.AlreadyInvited, invitation.AlreadyRegistered, invitation.DuplicateRow,
	invitation.Invalid, invitation.Rejected, invitation.Failed, invitation.Cancelled,
}

// reportText is the report as a person reads it.
func reportText(r *invitation.Report) string {
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
		hint := ""
		if n := r.Outcomes[o]; n > 0 && (o == invitation.Rejected || o == invitation.Invalid || o == invitation.Failed) {
			hint = fmt.Sprintf(" bulkinvite results %d --outcome %s", r.Batch, o)
		}
		t.add("  "+outcomeWords[o], thousands(r.Outcomes[o]), hint)
	}
	if r.Undecided > 0 {
		t.add("  undecided", thousands(r.Undecided), "")
	}
	t.add("", thousands(r.Rows), " every row accounted for")
	b.WriteString(t.String())
	q := r.Requests
	fmt.Fprintf(&b, "\nRequests  %s bulk · %s single · %s · ", thousands(q.Bulk), thousands(q.Create), counted(q.Read, "read", "reads"))
	if q.Revoke > 0 {
		fmt.Fprintf(&b, "%s · ", counted(q.Revoke, "revocation", "revocations"))
	}
	fmt.Fprintf(&b, "%s told to slow down\n", thousands(r.RateLimited))
	if r.StateReason != nil {
		fmt.Fprintf(&b, "\n%s: %s\n", stateTitle(r.State), *r.StateReason)
	}
	if r.ETA != nil {
		fmt.Fprintf(&b, "\nThe last goes out about %s, if a worker runs\n", moment(*r.ETA))
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

func stateTitle(s invitation.State) string {
	return strings.ToUpper(string(s[:1])) + string(s[1:])
}
