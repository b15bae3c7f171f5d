package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/jobs"
	"bulkinvite/ratelimit"
)

type resendCmd struct {
	Batch            int64 `arg:"" help:"The batch whose people are invited again; bulkinvite batches lists them."`
	PendingFor       age   `default:"7d" placeholder:"AGE" help:"How long an invitation must have been pending: 7d, or 36h. Default: 7d."`
	Cooldown         age   `default:"3d" placeholder:"AGE" help:"Leave out people who were invited again less than this long ago. Default: 3d."`
	AllowUndelivered bool  `help:"Go past the 100 mails a month of a development instance; Clerk drops the rest silently. Default: off."`
	Actor            actor `placeholder:"NAME" help:"Who sends it, for the record. Default: the login name."`
}

// Help is shown before the flags.
func (resendCmd) Help() string {
	return `Examples:

    bulkinvite resend 12
    bulkinvite resend 12 --pending-for 14d --actor maria
    bulkinvite resend 12 --yes --json

Makes a batch of the people of another who have not accepted. For each it revokes the invitation and makes a new one, as single requests: 100 an hour. Once the old one is revoked nothing but Clerk's answer stops the new one, neither a pause nor a cancel. Whoever accepted, or whose invitation was taken back, is left alone. Given again after Ctrl-C or a crash, the same command goes on. Exit status: as of send.`
}

// Run invites again who has not accepted, and reports.
func (c *resendCmd) Run(ctx context.Context, p *program) error {
	u, of, err := openBatch(ctx, p, c.Batch, c.Actor)
	if err != nil {
		return err
	}
	under, err := batch.ResendUnderWay(ctx, u.pool, of.ID)
	if err != nil {
		return err
	}
	if under == nil {
		nobody, err := c.begin(ctx, u, of)
		if err != nil || nobody {
			return err
		}
	} else if err := u.takeUp(ctx, under, ""); err != nil {
		return err
	}
	if err := u.work(ctx); err != nil {
		return err
	}
	return u.finish(ctx)
}

// openBatch opens what it takes to mail people of a batch that is there already. It refuses one
// that was to mail nobody.
func openBatch(ctx context.Context, p *program, batch int64, by actor) (*upload, *invitation.Batch, error) {
	p.quietOnTerminal()
	c, err := p.connection(ctx)
	if err != nil {
		return nil, nil, err
	}
	b, err := c.batchOf(ctx, batch)
	if err == nil && b.LinksFile != "" {
		err = fail(exitHeld, "no_notify", "send a file of the people instead, with or without --no-notify",
			"batch %d was sent without mails, its links going to a file", b.ID)
	}
	return &upload{connection: c, actor: by.name()}, b, err
}

// begin shows whom it would invite again, and makes the batch once that is
// confirmed. nobody is for when there is nobody.
func (c *resendCmd) begin(ctx context.Context, u *upload, of *invitation.Batch) (nobody bool, err error) {
	again, err := batch.CountAgain(ctx, u.pool, of.ID, time.Duration(c.PendingFor), time.Duration(c.Cooldown))
	if err != nil {
		return false, err
	}
	plan, err := c.plan(ctx, u, of, again)
	if err != nil {
		return false, err
	}
	text := againText(u.target.String(), of, again, plan, time.Duration(c.PendingFor), time.Now())
	if again.People == 0 {
		return true, u.show(again, text)
	}
	if err := c.consent(ctx, u, of, again.People, text); err != nil {
		return false, err
	}
	return false, pgx.BeginFunc(ctx, u.pool, func(tx pgx.Tx) error {
		// Two who ask at the same moment make one batch.
		if err := batch.LockResend(ctx, tx, of); err != nil {
			return err
		}
		under, err := batch.ResendUnderWay(ctx, tx, of.ID)
		if err != nil {
			return err
		}
		if under != nil {
			u.batch = under.ID
			return nil
		}
		b := invitation.Batch{Actor: u.actor, Priority: of.Priority, Cooldown: time.Duration(c.Cooldown)}
		u.batch, _, err = jobs.InsertResend(ctx, tx, b, of, time.Duration(c.PendingFor))
		return err
	})
}

// plan is what it takes: single requests only.
func (c *resendCmd) plan(ctx context.Context, u *upload, of *invitation.Batch, again batch.Again) (invitation.Plan, error) {
	budget, others, err := waiting(ctx, u.pool, u.instance.ID, u.limits)
	if err != nil {
		return invitation.Plan{}, err
	}
	bulk := ratelimit.Limit{Off: true}
	if budget.Limits.Create.Off { // then each is a bulk call of one
		bulk = budget.Limits.Bulk
	}
	own := invitation.Load{Priority: of.Priority, People: again.People, Zone: time.Local}
	return invitation.MakePlan(time.Now(), own, others, budget.Limits.Create, bulk, budget.Spent), nil
}

func (c *resendCmd) consent(ctx context.Context, u *upload, of *invitation.Batch, people int, text string) error {
	s, err := u.app().Sending(ctx, u.instance.ID)
	if err != nil {
		return err
	}
	s.People = people
	_, err = u.agree(ctx, s, c.AllowUndelivered, asked{
		what: fmt.Sprintf("batch %d", of.ID), question: fmt.Sprintf("Invite %s again? [y/N] ", counted(people, "person", "people")),
		number: "This sends real e-mail. Type the number of people to invite them again: ",
		show: func() {
			u.tell(text, "plan", "resend_of", of.ID, "to_send", people,
				"instance", u.target.clerkID, "environment", u.target.environment)
		},
		refused: fail(exitHeld, "not_confirmed", "--yes confirms it", "batch %d: nobody confirmed that %s are invited again; nothing was sent", of.ID, counted(people, "person", "people")),
	})
	return err
}

// againText says whom a resend would invite again, and whom not.
func againText(clerk string, of *invitation.Batch, a batch.Again, plan invitation.Plan, pendingFor time.Duration, now time.Time) string {
	t := table{right: []bool{true}}
	t.add("  "+thousands(a.People), "to invite again", "their invitations are revoked")
	t.count(a.Expired, "of them", "whose invitations have expired")
	t.count(a.Younger, "pending for less than "+span(pendingFor), "skipped")
	t.count(a.Cooling, "invited again lately", "skipped")
	t.count(a.Accepted, "have accepted", "skipped")
	t.count(a.Revoked, "taken back", "skipped")
	t.count(a.Erased, "have no address any more", "erased or purged: skipped")
	text := fmt.Sprintf("Resend of batch %d, %s\nClerk %s\n\n%s\n", of.ID, plain(of.FileName), clerk, t.String())
	if a.People == 0 {
		return text + "nothing to send\n"
	}
	return text + planLines(scheduleLines(plan, now))
}
