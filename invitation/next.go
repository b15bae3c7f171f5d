package invitation

import (
	"slices"
	"time"
)

// Answer is what Clerk's answer to an attempt said of one person.
type Answer string

// What an answer can say of a person; attempt_people.answer holds these words.
const (
	NoAnswer       Answer = ""         // nothing: it was lost, or it did not name them
	AnswerCreated  Answer = "created"  // an invitation was made for them
	AnswerExists   Answer = "exists"   // refused: a pending invitation exists (duplicate_record)
	AnswerUser     Answer = "user"     // refused: the address belongs to a user (form_identifier_exists)
	AnswerRejected Answer = "rejected" // refused for what the person or the row is
	AnswerRefused  Answer = "refused"  // refused for what has nothing to do with them; it proves that nothing was done
)

// How an attempt was closed for a person; attempt_people.resolution holds these words.
const (
	ClosedAnswered = "answered"  // the answer decided
	ClosedNotSent  = "not_sent"  // it was never written to the network
	ClosedRefused  = "refused"   // the answer proves that nothing was done
	ClosedOurs     = "ours"      // a read showed the invitation that it made
	ClosedNotThere = "not_there" // a read that begun late enough did not show one
	ClosedExists   = "exists"    // a read showed another invitation
	ClosedUser     = "user"      // a read showed that the person is a user
)

// Attempt is one request as it concerns one person of one row.
type Attempt struct {
	ID           int64
	Started      time.Time
	Deadline     time.Time
	Answered     time.Time // zero: no answer came
	Open         bool
	Answer       Answer
	Code         string // Clerk's error code, or ours
	InvitationID string
	Resolution   string
	Alone        bool // the person was alone in the call
	Refused      bool // the answer was a refusal (4xx) that did not name the person and may be due to one of the call's
	Unexplained  bool // the answer was a refusal whose code has no definite meaning, and that named nobody
}

// decided reports whether the attempt got an answer that says what it did for the person.
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

// OwnRevoke is an attempt to revoke an invitation for this row, so that the row can
// make its own. It is left out once it is proven to have done nothing.
type OwnRevoke struct {
	Attempt      int64
	InvitationID string
	Open         bool // what it did is not known yet
	Gone         bool // Clerk does not know that invitation
}

// Sighting is an invitation or a user of the person that a read showed at Clerk.
type Sighting struct {
	ID        string
	User      bool
	Status    Status
	CreatedAt time.Time // by Clerk's clock
	ExpiresAt time.Time
	FirstSeen time.Time // when the first read that showed it ended
	LastSeen  time.Time // when the last read that showed it so began
	ReadID    int64     // the last read that showed it
	Taken     bool      // another row carries its id
	Guessed   bool      // that row was told so by a read alone: a request of this row may have made it
}

// Coverage says how far reads of Clerk reached. Times are Postgres'.
type Coverage struct {
	Users            time.Time // when the last read of users that covers the person began; zero: none
	UsersEnded       time.Time // when it ended
	Invitations      time.Time // when the passes over the invitations that guard a claim began, the earliest; zero: none
	InvitationsEnded time.Time // when they had been read
	Settled          time.Time // when the last pass began that reached back to the person's earliest open attempt; zero: none
	SettledRead      int64     // that pass
}

// Evidence is all that is known of a person when a row is looked at.
type Evidence struct {
	Now       time.Time
	Settle    time.Duration // how long after a request's end a list must be read to prove that it made nothing
	GiveUp    time.Duration // how long transient answers are retried
	Fresh     time.Duration // how long a read guards claims after its end
	Slack     time.Duration // the most that Postgres' clock is ahead of Clerk's by recent answers, the round trip included
	Least     time.Duration // the least that it is ahead; negative where Clerk's clock is
	Attempts  []Attempt     // this row's, oldest first
	Others    []Other
	Sightings []Sighting
	Revoked   []OwnRevoke // oldest first
	Accepted  int64       // the attempt to revoke for this row whose answer said that they had accepted; 0: none
	Resent    time.Time   // when the person was last invited again by another row; zero: never
	Coverage  Coverage
}

// ActionKind names what is done next.
type ActionKind string

// The kinds of action.
const (
	Nothing ActionKind = "nothing" // the row is decided, or its batch does not run
	Claim   ActionKind = "claim"   // ask Clerk for the person, or to revoke what Revoke says; an attempt still open is void and to be closed as not there
	Read    ActionKind = "read"    // read Clerk, in a read that begins at or after At
	Wait    ActionKind = "wait"    // until At; zero: until another row's open attempt is closed
	Decide  ActionKind = "decide"  // the row ended as Outcome
)

// Action is what [Next] says of a row.
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
	AttemptID    int64  // the attempt whose answer, or whose effect, proves the outcome
	ReadID       int64  // the read that proves it
	Close        string // how an open attempt of the row is closed by this
	Alone        bool   // a claim that must go in a call of its own
	Revoke       string // a claim that revokes this invitation: once that is done the row is owed another
	Lists        bool   // a read of the lists is needed, however fresh the last one is
}

// Next says what is done next for a row, given all that is known. It is pure:
// the same row and evidence give the same action, and nothing else decides.
//
// The order of the questions matters. An open attempt comes first, since
// nothing may be said of a row whose own request may yet have made something;
// then what other rows of the person did; then what reads showed; and only a
// row of which nothing is known to stand in the way is claimed.
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
	// A row that is owed an invitation goes on until its person has one: only a
	// sweep that takes it away stops it.
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

// tried is how long transient answers have been retried: up to the end of the
// last backoff. What came after it was waiting for something else, such as
// budget, a freeze or a pause. See [Store.Note] for the waits in between.
func tried(row Row, ev Evidence) time.Duration {
	if row.NotBefore.IsZero() || row.NotBefore.After(ev.Now) {
		return ev.Now.Sub(row.Since)
	}
	return row.NotBefore.Sub(row.Since)
}

// nextOpen handles a row whose own attempt is open, whatever its batch's state.
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
	after := a.Deadline
	if !a.Answered.IsZero() {
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

// RefusedBefore reports whether the row's batch was resumed since Clerk refused a
// request for the row with this code, which has no definite meaning. It had paused
// the batch then: a person let it go on.
func RefusedBefore(row Row, ev Evidence, code string) bool {
	return slices.ContainsFunc(ev.Attempts, func(a Attempt) bool {
		return a.Unexplained && a.Code == code && a.Started.Before(row.Resumed)
	})
}

// stopped reports whether nobody is to be asked for a row any more.
func (r Row) stopped() bool { return r.Withdrawn || r.BatchState == StateCancelled && !r.Owed }

// why is the reason of a row that ends as cancelled; empty: its batch was.
func (r Row) why() string {
	if r.Withdrawn {
		return "withdrawn"
	}
	return ""
}

// manyTries is after how many transient answers a person goes alone: it may be
// one of the others in the call whom Clerk fails on.
const manyTries = 2

// void goes on with a row whose open attempt made nothing: it is claimed again,
// unless its batch was cancelled or the row withdrawn meanwhile.
func void(row Row, act Action) Action {
	act.Kind = Claim
	if row.stopped() {
		act.Kind, act.Outcome, act.Reason = Decide, Cancelled, row.why()
	}
	return act
}

// nextUser handles "the address belongs to a user". Where an earlier attempt of
// the row never got a deciding answer, they may be a user because they accepted
// our own invitation.
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

// nextExists handles "a pending invitation exists": whose it is, a read says.
// A list may lag behind what Clerk refused by, so that an empty read settles
// nothing before the settle time has passed.
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
	again := row.Resend && expired(ev) != "" // for one that has expired, which is revoked first
	if row.Owed {                            // for one that was revoked: Clerk has not caught up yet
		again = !slices.ContainsFunc(ev.Revoked, func(r OwnRevoke) bool { return r.Gone })
	}
	if again {
		return void(row, Action{Close: ClosedRefused, ReadID: ev.Coverage.SettledRead, Alone: true})
	}
	return Action{Kind: Decide, Outcome: AlreadyInvited, Reason: a.Code, AttemptID: a.ID, ReadID: ev.Coverage.SettledRead, Close: ClosedExists}
}

// known decides a row from what is known without asking Clerk for anything:
// what an attempt of its own made after all, who else was mailed, and what
// reads showed since the batch began.
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
		// They may be a user because they accepted an invitation of ours.
		if slices.ContainsFunc(ev.Attempts, func(a Attempt) bool { return !a.decided() }) &&
			ev.Coverage.Invitations.Before(s.LastSeen) && ev.Coverage.Settled.Before(s.LastSeen) {
			return Action{Kind: Read, Lists: true}, true
		}
		return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: "user_at_clerk", UserID: s.ID, ReadID: s.ReadID}, true
	}
	// An invitation made since the batch began that no attempt explains is one
	// that a database restored from a backup has forgotten; so may be one that an
	// attempt of another row explains, but whose answer nobody remembers.
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

// seenOver reports whether a read showed that an invitation is over, which the
// row that made it may not know yet.
func seenOver(id string, ev Evidence) bool {
	return slices.ContainsFunc(ev.Sightings, func(s Sighting) bool {
		return !s.User && s.ID == id && over(s.Status, s.ExpiresAt, ev.Now)
	})
}

// standing finds a pending invitation that a read showed at or after since.
func standing(ev Evidence, since time.Time) (Sighting, bool) {
	for _, s := range ev.Sightings {
		if !s.User && s.Status == Pending && !s.LastSeen.Before(since) && (s.ExpiresAt.IsZero() || s.ExpiresAt.After(ev.Now)) {
			return s, true
		}
	}
	return Sighting{}, false
}

// ours finds an invitation that an attempt of this row made without our being
// told: one that an attempt without a deciding answer could have made, that no
// earlier read had shown, and that no other row carries. Where several attempts
// could have, it is the last one: it was begun when reading had shown that those
// before it had made nothing.
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

// couldMake reports whether an attempt could have made an invitation: it was made
// neither before the request left, nor so long after its deadline that reading
// had settled by then that it made nothing.
func couldMake(a Attempt, s Sighting, ev Evidence) bool {
	const spare = 5 * time.Second // the round trip, and what differs between the clocks of Clerk's machines
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

// fresh reports whether the reads that guard a claim of a row are recent enough.
func fresh(row Row, ev Evidence) bool {
	users, lists := ev.Missing(row)
	return !users && !lists
}

// Missing reports which of the reads that guard a claim of a row are missing: they
// begin after the batch has started, and guard claims for ev.Fresh after their end.
//
// What a read shows was so at some moment between its begin and its end, so only
// its begin says that it cannot have missed what is older than the batch. Its end
// says how much may have changed since. That bounds requests that are wasted, and
// not what keeps a person from a second mail; were it counted from the begin, lists
// that take longer than ev.Fresh would never guard anything.
//
// An owed row that has backed off needs no read of users: they were read before the
// revoke, and a question that Clerk does not answer must not leave its person without
// an invitation.
func (ev Evidence) Missing(row Row) (users, lists bool) {
	missing := func(begun, ended time.Time) bool { return begun.Before(row.BatchStarted) || !ev.recent(begun, ended) }
	users = missing(ev.Coverage.Users, ev.Coverage.UsersEnded) && !(row.Owed && row.Tries > 0)
	return users, missing(ev.Coverage.Invitations, ev.Coverage.InvitationsEnded)
}

// recent reports whether a read may still guard a claim.
func (ev Evidence) recent(begun, ended time.Time) bool {
	if ended.Before(begun) {
		ended = begun
	}
	return !ended.Before(ev.Now.Add(-ev.Fresh))
}
