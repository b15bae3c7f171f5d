package main

import (
	"context"
	"errors"
	"strconv"

	"bulkinvite/invitation"
)

// asked is how a person is asked to confirm that people are invited.
type asked struct {
	what     string // what sends them: a file's name, a batch
	question string // whose answer is yes or no
	number   string // whose answer is the number of people
	show     func() // shows the plan
	refused  error  // what not confirming it comes to
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
	case s.Confirmed, c.All, !p.inTTY, !p.errTTY:
	case s.NeedsNumber():
		wanted := []string{strconv.Itoa(s.People), thousands(s.People)}
		ok, err := p.confirm(ctx, a.number, wanted...)
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
