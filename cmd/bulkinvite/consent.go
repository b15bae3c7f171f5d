package main

import (
	"context"
	"errors"
	"fmt"

	"bulkinvite/internal/invitation"
)

// asked is how a person is asked to confirm that people are invited.
type asked struct {
	what     string // what sends them: a file's name, a batch
	question string // whose answer is yes or no
	number   string // whose answer is the number of people
	show     func() // shows the plan
	refused  error  // what not confirming it comes to
}

// askedToInvite is how a person is asked about the people of a file or batch. back is what is done
// besides, as [rosterPlan.words] says it. Where nobody is invited the question is about the record.
func askedToInvite(s invitation.Sending, what, back, remedy string) asked {
	a := asked{what: what}
	a.number = fmt.Sprintf("This sends real e-mail. Type the number of people to invite them%s: ", back)
	if s.Silent {
		a.number = "This makes real invitations; Clerk mails nobody. Type the number of people to invite them: "
	}
	people := counted(s.People, "person", "people")
	a.question = fmt.Sprintf("Invite %s%s? [y/N] ", people, back)
	unconfirmed := people + " would be invited"
	if s.People == 0 {
		a.question = fmt.Sprintf("Nobody is to be invited. Record the rows of %s%s? [y/N] ", what, back)
		unconfirmed = "nobody is to be invited, and the rows would be recorded"
	}
	a.refused = fail(exitHeld, "not_confirmed", remedy, "%s: not confirmed: %s; nothing was sent", what, unconfirmed)
	return a
}

// agree shows a plan and has a person confirm it: on a terminal by an answer, else by
// --yes. What it takes says [invitation.Sending]; undelivered says that mails that
// Clerk drops are fine.
func (p *program) agree(ctx context.Context, s invitation.Sending, undelivered bool,
	a asked) (invitation.Consent, error) {
	c := invitation.Consent{All: p.settings.Yes, Undelivered: undelivered}
	if s.Undelivered() && !undelivered {
		return c, consentFailure(s.Check(c), a)
	}
	if !s.Confirmed {
		a.show()
	}
	switch {
	case s.Confirmed, c.All, !p.canAsk():
	case s.NeedsNumber():
		ok, err := p.confirm(ctx, a.number, number(s.People)...)
		if err != nil {
			return c, err
		}
		if ok {
			c.Number = &s.People
		}
	default:
		var err error
		if c.Yes, err = p.confirm(ctx, a.question, yes...); err != nil {
			return c, err
		}
	}
	return c, consentFailure(s.Check(c), a)
}

// consentFailure says what to do where what was said is not enough.
func consentFailure(err error, a asked) error {
	var unsaid *invitation.ConsentError
	var dropped *invitation.UndeliveredError
	switch {
	case errors.As(err, &unsaid):
		return a.refused
	case errors.As(err, &dropped):
		remedy := "use a production instance's key, or --allow-undelivered to go on all the same"
		return fail(exitHeld, "undelivered", remedy, "%s: %w", a.what, dropped)
	}
	return err
}
