package invitation

import "fmt"

// UndeliveredAfter is how many mails a development instance delivers in a calendar
// month, by Clerk's documentation; it drops the others.
const UndeliveredAfter = 100

// Sending is what starting a batch does, as far as somebody has to agree to it.
// Commands, the page and the API all ask it, so that none of them invites people
// whom another would not.
type Sending struct {
	People      int    // how many are invited
	Environment string // of the batch's own instance: production, development, sandbox
	Real        bool   // the mails reach people: a production instance, or a live key
	Mailed      int    // mails of the instance in this calendar month, where it is a development instance
	Silent      bool   // Clerk mails nobody: the links go to a file
	Confirmed   bool   // somebody has confirmed it, and nothing has changed since
}

// Consent is what somebody said when they were asked.
type Consent struct {
	Number      *int // the number of people that they typed; nil: none
	Yes         bool // a yes without a number: the page's button, a call of the API, an answer on a terminal
	All         bool // --yes, which confirms everything
	Undelivered bool // mails that Clerk drops are fine
}

// Of is s of a draft, given what is known of its people and how many wait.
func (s Sending) Of(b *Batch, p *Preview, waiting int) Sending {
	s.People, s.Silent, s.Confirmed = p.ToInvite(waiting, b.Duplicates), b.LinksFile != "", b.Confirmed
	return s
}

// NeedsNumber reports whether a yes is not enough, and the number of people has to
// be typed.
func (s Sending) NeedsNumber() bool { return s.Real && s.People > 0 && !s.Confirmed }

// Undelivered reports whether Clerk would drop mails.
func (s Sending) Undelivered() bool {
	return s.Environment == "development" && !s.Silent && !s.Confirmed &&
		s.People > 0 && s.Mailed+s.People > UndeliveredAfter
}

// Check returns nil where c is enough for the batch to be started, and otherwise an
// [UndeliveredError] or a [ConsentError].
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

// ConsentError says that nobody has confirmed what would be sent, or that they
// typed another number of people.
type ConsentError struct{ Sending Sending }

func (e *ConsentError) Error() string {
	return fmt.Sprintf("nobody confirmed that %d people are invited", e.Sending.People)
}

// UndeliveredError says that a development instance would not deliver all mails.
type UndeliveredError struct{ Sending Sending }

func (e *UndeliveredError) Error() string {
	return fmt.Sprintf("a development instance delivers %d mails a month; %d went out this month and this would add %d",
		UndeliveredAfter, e.Sending.Mailed, e.Sending.People)
}

// ZoneError says that a batch can't be sent in its hours, since PostgreSQL does not
// know their time zone.
type ZoneError struct {
	Batch int64
	TZ    string
}

func (e *ZoneError) Error() string {
	return fmt.Sprintf("batch %d: PostgreSQL does not know the time zone %s of its hours", e.Batch, e.TZ)
}
