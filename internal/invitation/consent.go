package invitation

import (
	"fmt"
)

// UndeliveredAfter is how many mails a development instance delivers in a calendar month, according
// to Clerk's documentation. Clerk drops the others.
const UndeliveredAfter = 100

// Sending is what starting a batch does, as far as a person must confirm it. Commands, the page and
// the API all check it, so none of them starts what another would refuse.
type Sending struct {
	People      int    // how many people are invited
	Environment string // of the batch's instance: production, development or sandbox
	Real        bool   // mails reach people: a production instance, or a live key
	Mailed      int    // for a development instance: its mails in this calendar month
	Silent      bool   // Clerk mails nobody: the links go to a file
	Confirmed   bool   // a person confirmed it, and nothing has changed since
}

// Consent is what a person answered.
type Consent struct {
	Number      *int // the number of people that they typed; nil: none
	Yes         bool // a yes without a number: the page's button, an API call, an answer on a terminal
	All         bool // --yes, which confirms everything
	Undelivered bool // the person accepts that Clerk drops mails
}

// Of returns s for a draft, given the draft's preview (or nil) and how many of its rows wait.
func (s Sending) Of(b *Batch, p *Preview, waiting int) Sending {
	s.People, s.Silent, s.Confirmed = p.ToInvite(waiting, b.Duplicates), b.LinksFile != "", b.Confirmed
	return s
}

// NeedsNumber reports whether a yes is not enough and the person must type the number of people.
func (s Sending) NeedsNumber() bool { return s.Real && s.People > 0 && !s.Confirmed }

// Undelivered reports whether Clerk would drop mails, because there are more than
// [UndeliveredAfter] in this month.
func (s Sending) Undelivered() bool {
	return s.Environment == "development" && !s.Silent && !s.Confirmed &&
		s.People > 0 && s.Mailed+s.People > UndeliveredAfter
}

// Check returns nil if c is enough to start the batch. Otherwise it returns an [UndeliveredError]
// or a [ConsentError].
func (s Sending) Check(c Consent) error {
	switch {
	case c.Number != nil && *c.Number != s.People:
		return &ConsentError{s}
	case s.Undelivered() && !c.Undelivered:
		return &UndeliveredError{s}
	case s.Confirmed, c.All, c.Number != nil, c.Yes && !s.NeedsNumber():
		return nil
	}
	return &ConsentError{s}
}

// ConsentError says that nobody confirmed the sending, or that a person typed another number of
// people.
type ConsentError struct{ Sending Sending }

// Error says how many people would be invited.
func (e *ConsentError) Error() string {
	return fmt.Sprintf("nobody confirmed that %d people are invited", e.Sending.People)
}

// UndeliveredError says that a development instance would not deliver all mails.
type UndeliveredError struct{ Sending Sending }

// Error has the limit, the mails so far and the mails that would be added.
func (e *UndeliveredError) Error() string {
	return fmt.Sprintf("a development instance delivers %d mails a month; %d went out this month and this would add %d",
		UndeliveredAfter, e.Sending.Mailed, e.Sending.People)
}

// ZoneError says that a batch cannot be sent in its hours, because PostgreSQL does not know their
// time zone.
type ZoneError struct {
	Batch int64
	TZ    string
}

// Error names the batch and the time zone.
func (e *ZoneError) Error() string {
	return fmt.Sprintf("batch %d: PostgreSQL does not know the time zone %s of its hours", e.Batch, e.TZ)
}
