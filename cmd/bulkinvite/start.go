package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bulkinvite/importer"
	"bulkinvite/internal/app"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
)

type startCmd struct {
	batchFlags
	AllowUndelivered bool `help:"Go past the 100 mails a month of a development instance. Default: off."`
}

// Help is shown before the flags.
func (startCmd) Help() string {
	return `Examples:

    bulkinvite import hires.csv --draft
    bulkinvite start 12
    bulkinvite start 12 --yes --actor maria

Lets a draft run. Workers (bulkinvite work) send it. A draft that nobody has confirmed since it was uploaded or changed shows its plan and asks: of a production instance you type the number of people. Off a terminal that needs --yes. What import --draft has asked for is not asked again.
Exit status: 0; 4 if it was not confirmed, a development instance would not deliver all mails, or the batch's state does not allow it; 2 if there is no such batch. Needs no key. --json prints what bulkinvite status BATCH does.`
}

// Run lets a draft run.
func (c *startCmd) Run(ctx context.Context, p *program) error {
	start := func(a *app.App, ctx context.Context, id int64, actor string) error {
		b, err := batch.Batch(ctx, a.Pool, id)
		if err != nil {
			return err
		}
		if err := batch.Allow(b.ID, b.State, "start"); err != nil {
			return err
		}
		d, err := p.openDraft(ctx, a, b)
		if err != nil {
			return err
		}
		ask := d.asked(p)
		consent, err := p.agree(ctx, d.sending, c.AllowUndelivered, ask)
		if err != nil {
			return err
		}
		err = a.Start(ctx, id, nil, consent, actor)
		var zone *invitation.ZoneError
		if errors.As(err, &zone) {
			remedy := "bring PostgreSQL's time zones up to date; or run bulkinvite cancel %d and send the file with another --tz"
			return fail(exitHeld, "zone", fmt.Sprintf(remedy, b.ID), "%w", zone)
		}
		return consentFailure(err, ask) // it may have been changed while somebody was asked
	}
	return p.changeBatch(ctx, c.batchFlags, start)
}

// draft is what starting a draft takes.
type draft struct {
	*invitation.Batch
	instance invitation.Instance
	sending  invitation.Sending
	plan     *plan
}

// openDraft works out what starting a draft takes, as the page shows it: with what
// was found of its people, or else what earlier batches tell of them.
func (p *program) openDraft(ctx context.Context, a *app.App, b *invitation.Batch) (*draft, error) {
	pool, d := a.Pool, &draft{Batch: b}
	var err error
	if d.instance, _, err = report.Fleet(ctx, pool, b.InstanceID); err != nil {
		return nil, err
	}
	known, err := batch.Preview(ctx, pool, b.ID)
	if err == nil && known == nil && !b.Confirmed {
		begun, ok, beginErr := batch.BeginPreview(ctx, pool, b.ID)
		if err = beginErr; ok {
			if err = jobs.LookUp(ctx, pool, b, begun, nil); err == nil {
				known, err = batch.Preview(ctx, pool, b.ID)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	tally, err := report.Tally(ctx, pool, b.ID)
	if err != nil {
		return nil, err
	}
	d.sending, err = a.Sending(ctx, b.InstanceID)
	if err != nil {
		return nil, err
	}
	d.sending = d.sending.Of(b, known, tally.Undecided)
	pl := &plan{
		input: &input{name: b.FileName}, batch: b.ID, canary: b.Canary, resend: b.Duplicates == invitation.Resend,
		summary: &importer.Summary{Rows: tally.Rows(), Valid: tally.Undecided, Blank: b.Blank,
			Invalid: tally.Outcomes[invitation.Invalid], DuplicateRow: tally.Outcomes[invitation.DuplicateRow]},
		when: when{startAt: b.StartAt, hours: b.Hours},
	}
	if known != nil {
		pl.known = known.Known
	}
	if !b.Hours.IsZero() {
		if pl.when.zone, err = batch.Zone(ctx, pool, b.Hours.TZ); err != nil {
			return nil, err
		}
	}
	d.plan = pl
	return d, pl.forecast(ctx, pool, b.InstanceID, p.limits(d.instance.Environment), b.Priority)
}

// asked is how a person is asked for a draft.
func (d *draft) asked(p *program) asked {
	a := askedToInvite(d.sending, fmt.Sprintf("batch %d", d.ID), "",
		fmt.Sprintf("bulkinvite start %d on a terminal shows the plan and asks; --yes confirms it", d.ID))
	a.show = func() {
		p.tell(d.text(time.Now()), "plan", "batch", d.ID, "rows", d.plan.summary.Rows, "to_send", d.sending.People,
			"instance", d.instance.ClerkID, "environment", d.instance.Environment)
	}
	return a
}

// text is what starting the draft takes, for a person.
func (d *draft) text(now time.Time) string {
	at := target{environment: d.instance.Environment, clerkID: d.instance.ClerkID}
	text := fmt.Sprintf("Draft of batch %d: %s, uploaded by %s\nClerk  %s\n\n%s\n",
		d.ID, plain(d.FileName), plain(d.Actor), &at, d.plan.people())
	return text + planLines(d.plan.lines(now))
}

// planLines has each line of a plan say that it is one.
func planLines(lines []string) string { return "Plan  " + strings.Join(lines, "\nPlan  ") + "\n" }
