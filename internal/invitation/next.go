package invitation

import (
	"slices"
	"time"
)

// Answer says what Clerk's answer to an attempt said about one person.
type Answer string

// The answers, as attempt_people.answer stores them.
const (
	NoAnswer       Answer = ""         // nothing: the answer was lost or did not name the person
	AnswerCreated  Answer = "created"  // an invitation was made for the person
	AnswerExists   Answer = "exists"   // refused: a pending invitation exists (duplicate_record)
	AnswerUser     Answer = "user"     // refused: the address belongs to a user (form_identifier_exists)
	AnswerRejected Answer = "rejected" // refused because of the person or the row
	AnswerRefused  Answer = "refused"  // refused for a reason that has nothing to do with the person; nothing was done
)

// The answers to a revoke.
const (
	AnswerRevoked  Answer = "revoked"  // the invitation is revoked, by this request or earlier
	AnswerAccepted Answer = "accepted" // the person had accepted it
	AnswerGone     Answer = "gone"     // Clerk does not know it
)

// How an attempt was closed for a person, as attempt_people.resolution stores it.
const (
	ClosedAnswered = "answered"  // the answer decided
	ClosedNotSent  = "not_sent"  // the request was never written to the network
	ClosedRefused  = "refused"   // the answer proves that nothing was done
	ClosedOurs     = "ours"      // a read showed the invitation that the attempt made
	ClosedNotThere = "not_there" // a read that began late enough did not show one
	ClosedExists   = "exists"    // a read showed another invitation
	ClosedUser     = "user"      // a read showed that the person is a user
	ClosedRead     = "read"      // a read showed what a revoke did
)

// Attempt is one request, as far as it concerns the person of one row.
type Attempt struct {
	ID           int64
	Started      time.Time
	Deadline     time.Time
	Answered     time.Time // zero: no answer came
	Open         bool
	Answer       Answer
	Code         string // Clerk's error code, or the program's
	InvitationID string
	Resolution   string
	Alone        bool // the person was the only one in the call
	Refused      bool // a refusal (4xx) that did not name the person and may be about one of the people in the call
	Unexplained  bool // a refusal that named nobody and whose code has no definite meaning
}

// decided reports whether an answer says what the attempt did for the person.
func (a Attempt) decided() bool {
	return a.Answer != NoAnswer || a.Resolution == ClosedNotSent || a.Resolution == ClosedRefused
}

// Other is another row of the same person at the same instance.
type Other struct {
	RowID
	Outcome      Outcome
	Status       Status
	InvitationID string
	DecidedAt    time.Time // when the outcome was recorded
	ExpiresAt    time.Time
	Open         bool // it has an open attempt
	Owed         bool // see [Row]
}

// OwnRevoke is an attempt to revoke an invitation so that this row can make its own. It is not part
// of the evidence once it is proven to have done nothing.
type OwnRevoke struct {
	Attempt      int64
	InvitationID string
	Open         bool // its effect is not known yet
	Gone         bool // Clerk does not know the invitation
}

// Sighting is an invitation or a user of the person that a read showed at Clerk.
type Sighting struct {
	ID        string
	User      bool
	Status    Status
	CreatedAt time.Time // by Clerk's clock
	ExpiresAt time.Time
	FirstSeen time.Time // end of the first read that showed it
	LastSeen  time.Time // begin of the last read that showed it in this status
	ReadID    int64     // the last read that showed it
	Taken     bool      // another row carries its id
	Guessed   bool      // that row knows it by reading alone: a request of this row may have made it
}

// Coverage says which reads of Clerk were made. Times are PostgreSQL's.
type Coverage struct {
	Users            time.Time // begin of the last read of users that asked for the person; zero: none
	UsersEnded       time.Time // its end
	Invitations      time.Time // begin of the earliest of the passes over the invitations that guard a claim; zero: none
	InvitationsEnded time.Time // when these passes had ended
	Settled          time.Time // begin of the last pass that reached the person's earliest open attempt; zero: none
	SettledRead      int64     // reads.id of that pass
}

// Evidence is everything that is known of a person when [Next] decides about a row.
type Evidence struct {
	Now       time.Time
	Settle    time.Duration // how long after its deadline an attempt can still show up in Clerk's lists
	GiveUp    time.Duration // how long transient answers are retried
	Fresh     time.Duration // how long a read guards claims after its end
	Slack     time.Duration // how far PostgreSQL's clock was ahead of Clerk's at most, round trip included
	Least     time.Duration // how far it was ahead at least; negative if Clerk's clock is ahead
	Attempts  []Attempt     // of this row, oldest first
	Others    []Other
	Sightings []Sighting
	Revoked   []OwnRevoke // oldest first
	Accepted  int64       // the attempt to revoke for this row whose answer said that the person had accepted; 0: none
	Resent    time.Time   // when another row last invited the person again; zero: never
	Coverage  Coverage
}

// ActionKind says what kind of action comes next.
type ActionKind string

// The kinds of action.
const (
	Nothing ActionKind = "nothing" // the row is decided, or its batch does not run
	Claim   ActionKind = "claim"   // send a create, or a revoke of Revoke; an open attempt made nothing and is closed
	Read    ActionKind = "read"    // read Clerk with a read that begins at At or later
	Wait    ActionKind = "wait"    // until At; zero: until another attempt for the person is closed
	Decide  ActionKind = "decide"  // the row ended as Outcome
)

// Action is what [Next] decides about a row.
type Action struct {
	Kind         ActionKind
	At           time.Time
	Outcome      Outcome
	Reason       string
	Status       Status
	InvitationID string
	UserID       string
	InvitedAt    time.Time
	ExpiresAt    time.Time
	AttemptID    int64  // the attempt whose answer or effect proves the outcome
	ReadID       int64  // the read that proves the outcome
	Close        string // the resolution with which an open attempt of the row is closed
	Alone        bool   // the claim must go in a call of its own
	Revoke       string // the claim revokes this invitation; once that is done the row is owed another
	Lists        bool   // the lists must be read again, however recent the last read is
}

// Next decides what comes next for a row, given everything that is known. It is pure: the same row
// and evidence always give the same action, and nothing else decides.
//
// The order of the questions matters. Open attempts come first, because the row's own request may
// still have made an invitation. Then come other rows of the person, then what reads showed. A row
// is claimed only if nothing known prevents it.
func Next(row Row, ev Evidence) Action {
	if row.Outcome != "" {
		return Action{Kind: Nothing}
	}
	ev = withoutRevoked(row, ev)
	if i := slices.IndexFunc(ev.Attempts, func(a Attempt) bool { return a.Open }); i >= 0 {
		return nextOpen(row, ev, ev.Attempts[i])
	}
	if slices.ContainsFunc(ev.Revoked, func(r OwnRevoke) bool { return r.Open }) {
		return Action{Kind: Wait}
	}
	// A row that is owed an invitation continues until its person has one. Only a sweep that takes
	// the row away stops it.
	if row.stopped() {
		return Action{Kind: Decide, Outcome: Cancelled, Reason: row.why()}
	}
	if row.BatchState != Running && !row.Owed {
		return Action{Kind: Nothing}
	}
	if slices.ContainsFunc(ev.Others, func(o Other) bool { return o.Open }) {
		return Action{Kind: Wait}
	}
	revoke, act, ok := blocking(row, ev)
	if ok {
		return act
	}
	if revoke == "" {
		if act, ok := known(row, ev); ok {
			return act
		}
	}
	if !row.Since.IsZero() && tried(row, ev) > ev.GiveUp && !row.Owed {
		return Action{Kind: Decide, Outcome: Failed, Reason: row.LastError}
	}
	if row.NotBefore.After(ev.Now) {
		return Action{Kind: Wait, At: row.NotBefore}
	}
	if row.Preflight && !fresh(row, ev) {
		return Action{Kind: Read}
	}
	return Action{Kind: Claim, Alone: row.Alone || revoke != "", Revoke: revoke}
}

// tried returns how long transient answers have been retried: from the first one to the end of the
// last backoff. The time after that does not count, because the row waited for something else, such
// as budget, a freeze or a pause. [ledger.Note] leaves out the waits in between.
func tried(row Row, ev Evidence) time.Duration {
	if row.NotBefore.IsZero() || row.NotBefore.After(ev.Now) {
		return ev.Now.Sub(row.Since)
	}
	return row.NotBefore.Sub(row.Since)
}

// nextOpen decides about a row whose own attempt is open, whatever the state of its batch.
func nextOpen(row Row, ev Evidence, a Attempt) Action {
	switch a.Answer {
	case AnswerCreated:
		return Action{Kind: Decide, Outcome: Invited, Reason: a.Code, Status: Pending, InvitationID: a.InvitationID, AttemptID: a.ID, Close: ClosedAnswered}
	case AnswerRejected:
		return Action{Kind: Decide, Outcome: Rejected, Reason: a.Code, AttemptID: a.ID, Close: ClosedAnswered}
	case AnswerRefused:
		if !row.stopped() && !row.Owed && a.Alone && a.Unexplained && RefusedBefore(row, ev, a.Code) && !a.Started.Before(row.Resumed) {
			return Action{Kind: Decide, Outcome: Failed, Reason: a.Code, AttemptID: a.ID, Close: ClosedRefused}
		}
		return void(row, Action{Close: ClosedRefused, Alone: row.Alone || a.Unexplained})
	case AnswerUser:
		return nextUser(row, ev, a)
	case AnswerExists:
		return nextExists(row, ev, a)
	}
	if s, at, ok := ours(ev); ok {
		return found(row, s, at)
	}
	// An answer that says nothing of the person, or a connection that was cut, does not prove that
	// Clerk has finished. It may work on the request until the deadline.
	after := a.Deadline
	if a.Answered.After(after) {
		after = a.Answered
	}
	after = after.Add(ev.Settle)
	if ev.Coverage.Settled.Before(after) {
		return Action{Kind: Read, At: after}
	}
	if act, ok := known(row, ev); ok {
		act.Close = ClosedExists
		if act.Outcome == AlreadyRegistered {
			act.Close = ClosedUser
		}
		return act
	}
	return void(row, Action{Close: ClosedNotThere, ReadID: ev.Coverage.SettledRead, Alone: row.Alone || !a.Alone && (a.Refused || row.Tries >= manyTries)})
}

// RefusedBefore reports whether Clerk refused a request for the row with this code, which has no
// definite meaning, before the row's batch was last resumed. The refusal paused the batch, and a
// person let it continue.
func RefusedBefore(row Row, ev Evidence, code string) bool {
	return slices.ContainsFunc(ev.Attempts, func(a Attempt) bool {
		return a.Unexplained && a.Code == code && a.Started.Before(row.Resumed)
	})
}

// stopped reports whether nothing more may be sent for the row.
func (r Row) stopped() bool { return r.Withdrawn || r.BatchState == StateCancelled && !r.Owed }

// why returns the reason of a row that ends as cancelled. It is empty if the batch was cancelled.
func (r Row) why() string {
	if r.Withdrawn {
		return "withdrawn"
	}
	return ""
}

// manyTries is the number of transient answers after which a person goes alone: Clerk may fail on
// another person in the call.
const manyTries = 2

// void continues with a row whose open attempt made nothing. The row is claimed again, unless its
// batch was cancelled or the row was withdrawn meanwhile.
func void(row Row, act Action) Action {
	act.Kind = Claim
	if row.stopped() {
		act.Kind, act.Outcome, act.Reason = Decide, Cancelled, row.why()
	}
	return act
}

// nextUser handles the answer "the address belongs to a user". If an earlier attempt of the row
// never got a deciding answer, the person may be a user because they accepted the invitation of
// that attempt.
func nextUser(row Row, ev Evidence, a Attempt) Action {
	if slices.ContainsFunc(ev.Attempts, func(b Attempt) bool { return b.ID != a.ID && !b.decided() }) {
		if ev.Coverage.Settled.Before(a.Answered) {
			return Action{Kind: Read, At: a.Answered}
		}
		if s, at, ok := ours(ev); ok {
			return found(row, s, at)
		}
	}
	return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: a.Code, AttemptID: a.ID, Close: ClosedAnswered}
}

// nextExists handles the answer "a pending invitation exists". A read says which one. Clerk's lists
// may lag behind its refusals, so a read that shows nothing decides only after the settle time.
func nextExists(row Row, ev Evidence, a Attempt) Action {
	if ev.Coverage.Settled.Before(a.Answered) {
		return Action{Kind: Read, At: a.Answered}
	}
	if s, at, ok := ours(ev); ok {
		return found(row, s, at)
	}
	if s, ok := standing(ev, a.Answered); ok {
		act := already(s, a.Code)
		act.AttemptID, act.Close = a.ID, ClosedExists
		return act
	}
	if settled := a.Answered.Add(ev.Settle); ev.Coverage.Settled.Before(settled) {
		return Action{Kind: Read, At: settled}
	}
	again := row.Resend && expired(ev) != "" // for an expired invitation: it is revoked first
	if row.Owed {                            // Clerk may still refuse because of the revoked invitation
		again = !slices.ContainsFunc(ev.Revoked, func(r OwnRevoke) bool { return r.Gone })
	}
	if again {
		return void(row, Action{Close: ClosedRefused, ReadID: ev.Coverage.SettledRead, Alone: true})
	}
	return Action{Kind: Decide, Outcome: AlreadyInvited, Reason: a.Code, AttemptID: a.ID, ReadID: ev.Coverage.SettledRead, Close: ClosedExists}
}

// known decides a row from what is known without asking Clerk: an invitation that an attempt of the
// row made, an invitation of another row, or what reads showed since the batch began.
func known(row Row, ev Evidence) (Action, bool) {
	if s, at, ok := ours(ev); ok && !row.Links {
		return invited(s, at, ClosedOurs), true
	}
	for _, o := range ev.Others {
		if stands(o, ev) {
			return Action{Kind: Decide, Outcome: AlreadyInvited, Reason: "invited_by_another_row", InvitationID: o.InvitationID, Status: o.Status}, true
		}
	}
	since := recently(row, ev)
	if s, ok := standing(ev, since); ok {
		return already(s, "pending_at_clerk"), true
	}
	for _, s := range ev.Sightings {
		if !s.User || s.LastSeen.Before(since) {
			continue
		}
		// The person may be a user because they accepted an invitation of this row.
		if slices.ContainsFunc(ev.Attempts, func(a Attempt) bool { return !a.decided() }) &&
			ev.Coverage.Invitations.Before(s.LastSeen) && ev.Coverage.Settled.Before(s.LastSeen) {
			return Action{Kind: Read, Lists: true}, true
		}
		return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: "user_at_clerk", UserID: s.ID, ReadID: s.ReadID}, true
	}
	// An invitation was made since the batch began, and no attempt explains it: a database that was
	// restored from a backup has forgotten the attempt. The same is possible for an invitation that
	// another row knows by reading alone.
	for _, s := range ev.Sightings {
		if !s.User && (!s.Taken || s.Guessed) && !s.CreatedAt.Before(row.BatchStarted.Add(-ev.Slack)) {
			return already(s, "made_since_the_batch_began"), true
		}
	}
	return Action{}, false
}

// over reports whether an invitation is known to be revoked, expired or deleted.
func over(s Status, expires, now time.Time) bool {
	return s == Revoked || s == Expired || s == Deleted || !expires.IsZero() && !expires.After(now)
}

// seenOver reports whether a read showed that an invitation is over. The row that made it may not
// know that yet.
func seenOver(id string, ev Evidence) bool {
	return slices.ContainsFunc(ev.Sightings, func(s Sighting) bool {
		return !s.User && s.ID == id && over(s.Status, s.ExpiresAt, ev.Now)
	})
}

// standing finds a pending invitation that a read showed, where the read began at or after since.
func standing(ev Evidence, since time.Time) (Sighting, bool) {
	for _, s := range ev.Sightings {
		if !s.User && s.Status == Pending && !s.LastSeen.Before(since) && (s.ExpiresAt.IsZero() || s.ExpiresAt.After(ev.Now)) {
			return s, true
		}
	}
	return Sighting{}, false
}

// ours finds an invitation that an attempt of this row made although no answer said so. The attempt
// got no deciding answer and could have made it, no read that ended before the attempt shows it,
// and no other row carries its id. If several attempts could have made it, ours returns the last
// one: it began after reads had shown that the earlier ones made nothing.
func ours(ev Evidence) (Sighting, Attempt, bool) {
	for _, s := range ev.Sightings {
		if s.User || s.Taken {
			continue
		}
		for _, a := range slices.Backward(ev.Attempts) {
			if !a.decided() && couldMake(a, s, ev) && !s.FirstSeen.Before(a.Started) {
				return s, a, true
			}
		}
	}
	return Sighting{}, Attempt{}, false
}

// couldMake reports whether an attempt could have made an invitation. It could not if the
// invitation is older than the request, or so much newer than the deadline that a read had already
// settled that the attempt made nothing.
func couldMake(a Attempt, s Sighting, ev Evidence) bool {
	const spare = 5 * time.Second // the round trip, and the difference between the clocks of Clerk's machines
	return !s.CreatedAt.Before(a.Started.Add(-time.Second-ev.Slack)) && !s.CreatedAt.After(a.Deadline.Add(ev.Settle+spare-ev.Least))
}

func invited(s Sighting, a Attempt, how string) Action {
	return Action{Kind: Decide, Outcome: Invited, Reason: "found_by_reading", Status: s.Status, InvitationID: s.ID,
		InvitedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt, AttemptID: a.ID, ReadID: s.ReadID, Close: how}
}

func already(s Sighting, reason string) Action {
	return Action{Kind: Decide, Outcome: AlreadyInvited, Reason: reason, Status: s.Status, InvitationID: s.ID,
		InvitedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt, ReadID: s.ReadID}
}

// fresh reports whether the reads that guard a claim of the row are recent enough.
func fresh(row Row, ev Evidence) bool {
	users, lists := ev.Missing(row)
	return !users && !lists
}

// Missing reports which reads that guard a claim of the row are missing: reads of users, and reads
// of the lists. A read guards a claim if it began after the batch started, and for ev.Fresh after
// its end.
//
// A read shows each thing as it was at some moment between its begin and its end. So only its begin
// proves that it did not miss what is older than the batch. Its end says how much may have changed
// since. That limits wasted requests; it does not protect a person from a second mail. If age
// counted from the begin, lists that take longer than ev.Fresh to read would never guard anything.
//
// An owed row that has backed off needs no read of users. They were read before the revoke, and a
// question that Clerk does not answer must not leave the person without an invitation.
func (ev Evidence) Missing(row Row) (users, lists bool) {
	missing := func(begun, ended time.Time) bool { return begun.Before(row.BatchStarted) || !ev.recent(begun, ended) }
	users = missing(ev.Coverage.Users, ev.Coverage.UsersEnded) && !(row.Owed && row.Tries > 0)
	return users, missing(ev.Coverage.Invitations, ev.Coverage.InvitationsEnded)
}

// recent reports whether a read ended recently enough to guard a claim.
func (ev Evidence) recent(begun, ended time.Time) bool {
	if ended.Before(begun) {
		ended = begun
	}
	return !ended.Before(ev.Now.Add(-ev.Fresh))
}
