package invitation_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkinvite/internal/invitation"
)

// The invariants of inviting: what must hold of every run, however the program
// works inside. They judge a history of facts that are visible from outside: what
// the ledger has committed, and what happened at Clerk. They know nothing of
// Next, of claims, or of how a model steps. A model reports its history by
// model.tell or resendModel.tell; any other run can do the same.
//
// A history is about one person: all its rows have the same key. A run with many
// people has one past for each.

// factKind says what happened.
type factKind int8

// Facts of the ledger. Each is told when it commits.
const (
	rowAdded         factKind = iota + 1 // row was imported; resend: its batch was asked to resend
	batchStarted                         // a person confirmed row's batch, for the first time or after a restore
	batchPaused                          //
	batchResumed                         //
	batchCancelled                       //
	attemptOpened                        // to create an invitation for row; invitation set: to revoke that one for row
	answerRecorded                       // answer and the invitation it names; NoAnswer: lost, or it decided nothing
	attemptClosed                        // void: proven to have done nothing
	sightingRecorded                     // a read or an answer showed invitation with status
	userRecorded                         // a read showed that the person is a user
	outcomeRecorded                      // outcome, with the invitation that it names
	rowReopened                          // retry
	backedUp                             // the database was dumped
	restored                             // the last dump became the database again
)

// Facts at Clerk. Where row is set, a request of the program caused them.
const (
	invitationMailed   factKind = iota + 101 // invitation was made, and the person was mailed
	invitationRevoked                        //
	invitationAccepted                       // the person is a user now
	invitationExpired                        //
	personJoined                             // the person became a user without an invitation
)

// runEnded is told when nothing is left to do.
const runEnded factKind = 127

var factNames = map[factKind]string{
	rowAdded: "row added", batchStarted: "batch started", batchPaused: "batch paused", batchResumed: "batch resumed",
	batchCancelled: "batch cancelled", attemptOpened: "attempt opened", answerRecorded: "answer recorded",
	attemptClosed: "attempt closed", sightingRecorded: "sighting recorded", userRecorded: "user recorded",
	outcomeRecorded: "outcome recorded", rowReopened: "row reopened", backedUp: "backed up", restored: "restored",
	invitationMailed: "mailed", invitationRevoked: "revoked", invitationAccepted: "accepted",
	invitationExpired: "expired", personJoined: "joined", runEnded: "run ended",
}

// fact is one thing that happened. Rows, attempts and invitations are numbered
// from 1; 0 means none. The number of an attempt may be used again when the
// attempt is closed and its request can do nothing any more.
type fact struct {
	kind       factKind
	at         time.Time // for people who read the history: facts are judged by their order
	row        int8
	attempt    int16
	invitation int8
	resend     bool
	void       bool
	answer     invitation.Answer
	status     invitation.Status
	outcome    invitation.Outcome
}

func (f fact) String() string {
	var s strings.Builder
	if !f.at.IsZero() {
		s.WriteString(f.at.UTC().Format("02 15:04:05.000 "))
	}
	s.WriteString(factNames[f.kind])
	for _, part := range []struct {
		name   string
		number int
	}{{"row", int(f.row)}, {"attempt", int(f.attempt)}, {"invitation", int(f.invitation)}} {
		if part.number > 0 {
			fmt.Fprintf(&s, ", %s %d", part.name, part.number)
		}
	}
	for _, word := range []string{string(f.answer), string(f.status), string(f.outcome)} {
		if word != "" {
			s.WriteString(", " + word)
		}
	}
	if f.resend {
		s.WriteString(", resend")
	}
	if f.void {
		s.WriteString(", void")
	}
	return s.String()
}

// How many rows, open attempts and invitations a history may have.
const (
	pastRows, pastAttempts, pastInvitations = 4, 4, 8
)

// past is what the invariants remember of a history. It is plain memory, so that
// a search can copy it and hash it with its world.
type past struct {
	pastLedger
	backup pastLedger
	pastClerk
}

// pastLedger is what the database says. A restore brings back an earlier one.
type pastLedger struct {
	rows     [pastRows]pastRow
	attempts [pastAttempts]pastAttempt // the open ones
	learned  [pastInvitations]learned
	user     bool
	backedUp bool
}

type pastRow struct {
	added, resend, started, runs, cancelled, decided bool
	answers                                          uint16 // recorded: a bit for each
	before                                           uint8  // made before its batch started: a bit for each invitation
	revokes                                          int8   // attempts to revoke for it that are not proven void
}

type pastAttempt struct {
	number int16
	row    int8 // 0: the place is free
	revoke int8 // the invitation that it revokes; 0: it creates one
	since  bool // it was opened after the last backup
}

type learned struct{ told, shown, over bool }

// pastClerk is what is really so.
type pastClerk struct {
	invitations [pastInvitations]pastInvitation
	isUser      bool
	bereft      bool // a request for a row revoked the person's last invitation, and nothing has replaced it
}

type pastInvitation struct {
	state     int8 // 0: there is none
	row       int8 // 0: somebody else made it
	since     bool // by an attempt that was opened after the last backup
	forgotten bool // that attempt was lost in a restore
}

// The states of an invitation.
const (
	stateNone, statePending, stateAccepted, stateRevoked, stateExpired = 0, 1, 2, 3, 4
)

func (v pastInvitation) stands() bool { return v.state == statePending || v.state == stateAccepted }

// own reports whether invitation i was made for the row since its batch started.
func (p *past) own(row, i int8) bool {
	v := p.invitations[i]
	return v.state != stateNone && v.row == row && p.rows[row].before&(1<<i) == 0
}

// over reports whether the ledger says that invitation i is over. That one has
// expired needs no read: its time is known.
func (p *past) over(i int8) bool { return p.learned[i].over || p.invitations[i].state == stateExpired }

func (p *past) attempt(number int16) *pastAttempt {
	for k := range p.attempts {
		if a := &p.attempts[k]; a.row > 0 && a.number == number {
			return a
		}
	}
	return nil
}

var answerBits = []invitation.Answer{
	invitation.NoAnswer, invitation.AnswerCreated, invitation.AnswerExists, invitation.AnswerUser,
	invitation.AnswerRejected, invitation.AnswerRefused, invitation.AnswerRevoked,
	invitation.AnswerAccepted, invitation.AnswerGone,
}

func answerBit(a invitation.Answer) uint16 { return 1 << number(answerBits, a) }

func (r *pastRow) got(answers ...invitation.Answer) bool {
	for _, a := range answers {
		if r.answers&answerBit(a) != 0 {
			return true
		}
	}
	return false
}

// invariant is a rule that no fact may break. broken says how a fact breaks it,
// given what happened before; "" if it does not.
type invariant struct {
	name   string
	broken func(p *past, f *fact) string
}

var invariants = []invariant{
	{attemptBeforeRequest, func(p *past, f *fact) string {
		if f.row == 0 || f.kind != invitationMailed && f.kind != invitationRevoked {
			return ""
		}
		want := int8(0)
		if f.kind == invitationRevoked {
			want = f.invitation
		}
		if a := p.attempt(f.attempt); a == nil || a.row != f.row || a.revoke != want {
			return "the ledger has no open attempt for it"
		}
		return ""
	}},
	{onceUnlessOver, func(p *past, f *fact) string {
		if f.kind != invitationMailed || f.row == 0 {
			return ""
		}
		for i := range int8(pastInvitations) {
			switch v := p.invitations[i]; {
			case v.row == 0:
			case p.own(f.row, i):
				return fmt.Sprintf("the row made invitation %d already", i)
			case v.stands():
				return fmt.Sprintf("invitation %d stands", i)
			case !p.over(i):
				return fmt.Sprintf("the ledger does not know that invitation %d is over", i)
			}
		}
		return ""
	}},
	{revokedWhenAsked, func(p *past, f *fact) string {
		if f.kind == attemptOpened && f.invitation > 0 && !p.rows[f.row].resend {
			return "nobody asked for a resend"
		}
		return ""
	}},
	{resentWhenAsked, func(p *past, f *fact) string {
		if f.kind != outcomeRecorded || f.outcome != invitation.AlreadyInvited {
			return ""
		}
		r := &p.rows[f.row]
		if !r.resend || !r.runs && r.revokes == 0 {
			return ""
		}
		for i := range int8(pastInvitations) {
			if v := p.invitations[i]; v.state != stateNone && r.before&(1<<i) == 0 && v.row != f.row {
				return ""
			}
		}
		return "a resend was asked for, and nobody else has invited the person since"
	}},
	{nothingUnconfirmed, func(p *past, f *fact) string {
		if f.kind != attemptOpened {
			return ""
		}
		switch r := &p.rows[f.row]; {
		case !r.added || !r.started:
			return "nobody confirmed its batch"
		case !r.runs && r.revokes == 0:
			return "its batch does not run, and no resend was begun"
		}
		return ""
	}},
	{oneRequestAtATime, func(p *past, f *fact) string {
		if f.kind != attemptOpened {
			return ""
		}
		for _, a := range p.attempts {
			switch {
			case a.row == 0:
			case a.row != f.row:
				return fmt.Sprintf("row %d has an open attempt", a.row)
			case (a.revoke > 0) == (f.invitation > 0):
				return fmt.Sprintf("attempt %d of the row is open", a.number)
			}
		}
		return ""
	}},
	{closedWhenDecided, func(p *past, f *fact) string {
		switch f.kind {
		case attemptOpened:
			if p.rows[f.row].decided {
				return "the row is decided"
			}
		case outcomeRecorded, runEnded:
			for _, a := range p.attempts {
				if a.row > 0 && (f.kind == runEnded || a.row == f.row && a.revoke == 0) {
					return fmt.Sprintf("attempt %d is open", a.number)
				}
			}
		}
		return ""
	}},
	{oneOutcomeForEachRow, func(p *past, f *fact) string {
		switch r := &p.rows[f.row]; {
		case f.kind == outcomeRecorded && !r.added:
			return "there is no such row"
		case f.kind == outcomeRecorded && r.decided:
			return "the row has an outcome already"
		case f.kind == rowReopened && !r.decided:
			return "the row has no outcome"
		case f.kind == runEnded:
			for n, r := range p.rows {
				if r.added && !r.decided {
					return fmt.Sprintf("row %d has no outcome", n)
				}
			}
		}
		return ""
	}},
	{outcomeIsProven, func(p *past, f *fact) string {
		if f.kind != outcomeRecorded {
			return ""
		}
		return p.unproven(f)
	}},
	{outcomeIsOwn, func(p *past, f *fact) string {
		if f.kind != outcomeRecorded {
			return ""
		}
		for i := range int8(pastInvitations) {
			if p.own(f.row, i) && !p.invitations[i].forgotten &&
				(f.outcome != invitation.Invited || f.invitation != i) {
				return fmt.Sprintf("the row made invitation %d", i)
			}
		}
		v := p.invitations[f.invitation]
		if f.outcome == invitation.Invited && v.row != f.row && !v.forgotten {
			return "the row did not make that invitation"
		}
		return ""
	}},
	{nobodyLeftWithout, func(p *past, f *fact) string {
		ends := f.kind == runEnded || f.kind == outcomeRecorded && p.rows[f.row].revokes > 0
		if ends && p.bereft && !p.isUser {
			return "a resend revoked the person's invitation, and they have no other"
		}
		return ""
	}},
}

// onlyOnce is the one rule that holds in the gap that docs/protocol.md leaves.
var onlyOnce = slices.DeleteFunc(slices.Clone(invariants), func(i invariant) bool { return i.name != onceUnlessOver })

// The names of the invariants.
const (
	attemptBeforeRequest = "every request is in the ledger before it is sent"
	onceUnlessOver       = "nobody is mailed again unless the last invitation is known to be over"
	revokedWhenAsked     = "a row revokes an invitation only if a resend was asked for"
	resentWhenAsked      = "a resend that was asked for is made"
	nothingUnconfirmed   = "nothing is sent for a batch that does not run, unless it ends a resend"
	oneRequestAtATime    = "one row of a person has open attempts at a time"
	closedWhenDecided    = "a decided row asks for no invitation, and every attempt is closed in the end"
	outcomeIsProven      = "an outcome needs an answer or a read that proves it, and is true"
	outcomeIsOwn         = "a row is invited if and only if it made that invitation"
	nobodyLeftWithout    = "a resend leaves nobody without an invitation"
	oneOutcomeForEachRow = "each row has exactly one outcome in the end"
)

// unproven says what an outcome lacks.
func (p *past) unproven(f *fact) string {
	r, l := &p.rows[f.row], p.learned[f.invitation]
	switch f.outcome {
	case invitation.Invited:
		if f.invitation == 0 || !l.told && !l.shown {
			return "neither an answer nor a read showed that invitation"
		}
	case invitation.AlreadyInvited:
		switch {
		case f.invitation == 0 && !r.got(invitation.AnswerExists):
			return "Clerk did not say so"
		case f.invitation > 0 && !l.told && !l.shown:
			return "neither an answer nor a read showed that invitation"
		}
	case invitation.AlreadyRegistered:
		switch {
		case !p.isUser:
			return "the person is not a user"
		case !p.user && !r.got(invitation.AnswerUser, invitation.AnswerAccepted):
			return "neither an answer nor a read showed it"
		}
	case invitation.Rejected:
		if !r.got(invitation.AnswerRejected) {
			return "no answer rejected the person"
		}
	case invitation.Failed:
		if !r.got(invitation.NoAnswer, invitation.AnswerRefused) {
			return "no request failed"
		}
	case invitation.Cancelled:
		if !r.cancelled && !(r.resend && p.replacedOver(r)) {
			return "nobody cancelled its batch or revoked the invitation that it was to replace"
		}
	default:
		return "no request ends so"
	}
	return ""
}

// replacedOver reports whether the ledger says that an invitation from before the
// row's batch is over, and none stands.
func (p *past) replacedOver(r *pastRow) (over bool) {
	for i := range int8(pastInvitations) {
		if p.invitations[i].stands() {
			return false
		}
		over = over || r.before&(1<<i) != 0 && p.over(i)
	}
	return over
}

// observe judges a fact by the rules, and remembers it. It returns the first rule
// that the fact breaks, and how; "" if it breaks none.
//
//go:norace
func (p *past) observe(f fact, rules []invariant) (broken string) {
	for i := range rules {
		if how := rules[i].broken(p, &f); how != "" {
			broken = rules[i].name + ": " + f.String() + ": " + how
			break
		}
	}
	p.note(&f)
	return broken
}

// note remembers a fact.
//
//go:norace
func (p *past) note(f *fact) {
	r, v, l := &p.rows[f.row], &p.invitations[f.invitation], &p.learned[f.invitation]
	switch f.kind {
	case rowAdded:
		*r = pastRow{added: true, resend: f.resend}
	case batchStarted:
		r.started, r.runs, r.before = true, true, 0
		for i, v := range p.invitations {
			if v.state != stateNone {
				r.before |= 1 << i
			}
		}
	case batchPaused:
		r.runs = false
	case batchResumed:
		r.runs = true
	case batchCancelled:
		r.runs, r.cancelled = false, true
	case attemptOpened:
		p.noteOpened(f)
	case answerRecorded:
		r.answers |= answerBit(f.answer)
		l.told = l.told || f.answer == invitation.AnswerCreated
	case attemptClosed:
		if a := p.attempt(f.attempt); a != nil {
			if a.revoke > 0 && f.void {
				p.rows[a.row].revokes--
			}
			*a = pastAttempt{}
		}
	case sightingRecorded:
		l.shown, l.over = true, f.status == invitation.Revoked || f.status == invitation.Expired
	case userRecorded:
		p.user = true
	case outcomeRecorded:
		r.decided = true
	case rowReopened:
		r.decided, r.runs = false, true
	case backedUp:
		p.noteBackup()
	case restored:
		p.pastLedger, p.backup = p.backup, pastLedger{}
		for i := range p.invitations {
			v := &p.invitations[i]
			v.forgotten, v.since = v.forgotten || v.since, false
		}
	case invitationMailed:
		*v = pastInvitation{state: statePending, row: f.row}
		if a := p.attempt(f.attempt); a != nil {
			v.since = a.since
		}
		p.bereft = false
	case invitationRevoked:
		v.state = stateRevoked
		p.bereft = p.bereft || f.row > 0 && !p.anyStands()
	case invitationAccepted:
		v.state, p.isUser = stateAccepted, true
	case invitationExpired:
		v.state = stateExpired
	case personJoined:
		p.isUser = true
	}
}

func (p *past) noteOpened(f *fact) {
	if f.invitation > 0 {
		p.rows[f.row].revokes++
	}
	for k := range p.attempts {
		if p.attempts[k].row == 0 {
			p.attempts[k] = pastAttempt{f.attempt, f.row, f.invitation, p.backedUp}
			return
		}
	}
	panic("a history has more open attempts than the invariants have room for")
}

func (p *past) noteBackup() {
	for k := range p.attempts {
		p.attempts[k].since = false
	}
	for i := range p.invitations {
		p.invitations[i].since = false
	}
	p.backup, p.backedUp = p.pastLedger, true
}

func (p *past) anyStands() bool {
	for _, v := range p.invitations {
		if v.stands() {
			return true
		}
	}
	return false
}

// told is a history as people read it.
func told(history []fact) string {
	var s strings.Builder
	for _, f := range history {
		s.WriteString("  " + f.String() + "\n")
	}
	return s.String()
}
