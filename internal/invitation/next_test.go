package invitation_test

import (
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
)

const (
	settle = 15 * time.Second
	giveUp = 24 * time.Hour
	fresh  = 10 * time.Minute
	slack  = 2 * time.Second
)

var began = time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)

// at is a time of the table: some seconds after the batch began. Now is 3600.
func at(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

// waitingRow and nothingKnown are a row that may be claimed, for cases to change.
func waitingRow(change ...func(*invitation.Row)) invitation.Row {
	row := invitation.Row{
		RowID: invitation.RowID{Batch: 1, Row: 7}, Key: "jane@example.com",
		BatchState: invitation.Running, BatchStarted: began, Preflight: true,
	}
	for _, f := range change {
		f(&row)
	}
	return row
}

func nothingKnown(change ...func(*invitation.Evidence)) invitation.Evidence {
	ev := invitation.Evidence{
		Now: at(3600), Settle: settle, GiveUp: giveUp, Fresh: fresh, Slack: slack, Least: slack,
		Coverage: invitation.Coverage{Users: at(3500), Invitations: at(3500)},
	}
	for _, f := range change {
		f(&ev)
	}
	return ev
}

func state(s invitation.State) func(*invitation.Row) {
	return func(r *invitation.Row) { r.BatchState = s }
}

func attempts(all ...invitation.Attempt) func(*invitation.Evidence) {
	return func(ev *invitation.Evidence) { ev.Attempts = append(ev.Attempts, all...) }
}

func others(all ...invitation.Other) func(*invitation.Evidence) {
	return func(ev *invitation.Evidence) { ev.Others = append(ev.Others, all...) }
}

func seen(all ...invitation.Sighting) func(*invitation.Evidence) {
	return func(ev *invitation.Evidence) { ev.Sightings = append(ev.Sightings, all...) }
}

// settled says that the lists were read in a pass that began at a time.
func settled(seconds float64) func(*invitation.Evidence) {
	return func(ev *invitation.Evidence) { ev.Coverage.Settled, ev.Coverage.SettledRead = at(seconds), 55 }
}

// lost is an attempt from second 1000 to 1020 that nothing was heard of.
func lost(change ...func(*invitation.Attempt)) invitation.Attempt {
	a := invitation.Attempt{ID: 31, Started: at(1000), Deadline: at(1020), Open: true}
	for _, f := range change {
		f(&a)
	}
	return a
}

func closed(how string) func(*invitation.Attempt) {
	return func(a *invitation.Attempt) { a.Open, a.Resolution = false, how }
}

// said is an answer at second 1005.
func said(answer invitation.Answer, code string) func(*invitation.Attempt) {
	return func(a *invitation.Attempt) { a.Answered, a.Answer, a.Code = at(1005), answer, code }
}

// second makes it the attempt after the first, from second 2000 to 2020.
func second(a *invitation.Attempt) {
	a.ID, a.Started, a.Deadline = 32, at(2000), at(2020)
	if !a.Answered.IsZero() {
		a.Answered = at(2005)
	}
}

// made is an invitation that was made at second 1001 and first seen at 1036.
func made(change ...func(*invitation.Sighting)) invitation.Sighting {
	s := invitation.Sighting{ID: "inv_1", Status: invitation.Pending, CreatedAt: at(1001), ExpiresAt: at(1e6), FirstSeen: at(1036), LastSeen: at(3500), ReadID: 77}
	for _, f := range change {
		f(&s)
	}
	return s
}

// old is an invitation from before the batch, last seen since it began.
func old(s *invitation.Sighting) { s.ID, s.CreatedAt, s.FirstSeen = "inv_old", at(-86400), at(-3600) }

func status(st invitation.Status) func(*invitation.Sighting) {
	return func(s *invitation.Sighting) { s.Status = st }
}

func user(lastSeen float64) invitation.Sighting {
	return invitation.Sighting{ID: "user_1", User: true, FirstSeen: at(-3600), LastSeen: at(lastSeen), ReadID: 78}
}

// What Next can say, as the cases below expect it.
var (
	nothing = invitation.Action{Kind: invitation.Nothing}
	claim   = invitation.Action{Kind: invitation.Claim}
	read    = invitation.Action{Kind: invitation.Read}
	wait    = invitation.Action{Kind: invitation.Wait}
)

func with(a invitation.Action, change ...func(*invitation.Action)) invitation.Action {
	for _, f := range change {
		f(&a)
	}
	return a
}

func closing(how string) func(*invitation.Action) {
	return func(a *invitation.Action) { a.Close = how }
}

func from(seconds float64) func(*invitation.Action) {
	return func(a *invitation.Action) { a.At = at(seconds) }
}

func alone(a *invitation.Action) { a.Alone = true }

func byAttempt(id int64) func(*invitation.Action) {
	return func(a *invitation.Action) { a.AttemptID = id }
}

func byRead(id int64) func(*invitation.Action) {
	return func(a *invitation.Action) { a.ReadID = id }
}

func decide(o invitation.Outcome, reason string, change ...func(*invitation.Action)) invitation.Action {
	return with(invitation.Action{Kind: invitation.Decide, Outcome: o, Reason: reason}, change...)
}

// of says that a decision speaks of an invitation that a read showed.
func of(s invitation.Sighting) func(*invitation.Action) {
	return func(a *invitation.Action) {
		a.InvitationID, a.Status, a.InvitedAt, a.ExpiresAt, a.ReadID = s.ID, s.Status, s.CreatedAt, s.ExpiresAt, s.ReadID
	}
}

func ours(s invitation.Sighting, attempt int64) invitation.Action {
	return decide(invitation.Invited, "found_by_reading", of(s), byAttempt(attempt), closing(invitation.ClosedOurs))
}

func theirs(s invitation.Sighting, reason string) invitation.Action {
	return decide(invitation.AlreadyInvited, reason, of(s))
}

type nextCase struct {
	name string
	row  invitation.Row
	ev   invitation.Evidence
	want invitation.Action
}

func checkNext(t *testing.T, cases []nextCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expect.Equal(t, "decision", invitation.Next(tt.row, tt.ev), tt.want)
		})
	}
}

// When a row is claimed, and what keeps it from it.
func TestNextClaim(t *testing.T) {
	t.Parallel()
	preflight := func(yes bool) func(*invitation.Row) { return func(r *invitation.Row) { r.Preflight = yes } }
	users := func(s float64) func(*invitation.Evidence) {
		return func(ev *invitation.Evidence) { ev.Coverage.Users = at(s) }
	}
	lists := func(s float64) func(*invitation.Evidence) {
		return func(ev *invitation.Evidence) { ev.Coverage.Invitations = at(s) }
	}
	slow := func(begun, ended float64) func(*invitation.Evidence) {
		return func(ev *invitation.Evidence) {
			ev.Coverage.Invitations, ev.Coverage.InvitationsEnded = at(begun), at(ended)
		}
	}
	lastSeen := func(s float64) func(*invitation.Sighting) {
		return func(v *invitation.Sighting) { v.LastSeen = at(s) }
	}
	unread := func(ev *invitation.Evidence) { ev.Coverage = invitation.Coverage{} }
	notBefore := func(s float64) func(*invitation.Row) { return func(r *invitation.Row) { r.NotBefore = at(s) } }
	later := func(s float64) func(*invitation.Evidence) { return func(ev *invitation.Evidence) { ev.Now = at(s) } }
	checkNext(t, []nextCase{
		{"nothing stands in the way", waitingRow(), nothingKnown(), claim},
		{"it must go alone", waitingRow(func(r *invitation.Row) { r.Alone = true }), nothingKnown(), with(claim, alone)},

		{"users were not read", waitingRow(), nothingKnown(users(-1e9)), read},
		{"users were never read", waitingRow(), nothingKnown(func(ev *invitation.Evidence) { ev.Coverage.Users = time.Time{} }), read},
		{"users were read before the batch began", waitingRow(), nothingKnown(later(60), users(-1), lists(10)), read},
		{"users were read as it began", waitingRow(), nothingKnown(later(60), users(0), lists(0)), claim},
		{"users were read too long ago", waitingRow(), nothingKnown(users(2999)), read},
		{"users were read ten minutes ago", waitingRow(), nothingKnown(users(3000)), claim},
		{"the lists were never read", waitingRow(), nothingKnown(func(ev *invitation.Evidence) { ev.Coverage.Invitations = time.Time{} }), read},
		{"the lists were read before the batch began", waitingRow(), nothingKnown(later(60), users(10), lists(-1)), read},
		{"the lists were read too long ago", waitingRow(), nothingKnown(lists(2999)), read},
		{"the lists took half an hour", waitingRow(), nothingKnown(slow(1500, 3300)), claim},
		{"the lists took half an hour, too long ago", waitingRow(), nothingKnown(slow(1199, 2999)), read},
		{"the lists began before the batch did", waitingRow(), nothingKnown(slow(-1, 3300)), read},
		{"what slow lists showed counts as long as they do", waitingRow(), nothingKnown(slow(1500, 3300), seen(made(old, lastSeen(1500)))), theirs(made(old), "pending_at_clerk")},
		{"what lists before them showed does not", waitingRow(), nothingKnown(slow(1500, 3300), seen(made(old, lastSeen(1499)))), claim},
		{"nor what slow lists showed too long ago", waitingRow(), nothingKnown(slow(1199, 2999), seen(made(old, lastSeen(1199)))), read},
		{"no preflight", waitingRow(preflight(false)), nothingKnown(unread), claim},

		{"it backs off", waitingRow(notBefore(3601)), nothingKnown(), with(wait, from(3601))},
		{"it backed off", waitingRow(notBefore(3600)), nothingKnown(), claim},
		{"it backs off, unread", waitingRow(notBefore(3601)), nothingKnown(unread), with(wait, from(3601))},
		{"it backs off, but is known", waitingRow(notBefore(3601)), nothingKnown(seen(made(old))), theirs(made(old), "pending_at_clerk")},
	})
}

func TestNextNothing(t *testing.T) {
	t.Parallel()
	everything := nothingKnown(seen(made(old), user(3500)))
	var cases []nextCase
	for _, o := range invitation.Outcomes {
		decided := waitingRow(func(r *invitation.Row) { r.Outcome = o })
		cases = append(cases, nextCase{"decided: " + string(o), decided, everything, nothing},
			nextCase{"decided, with an open attempt: " + string(o), decided, nothingKnown(attempts(lost()), settled(3500)), nothing})
	}
	for _, s := range []invitation.State{invitation.Draft, invitation.Paused, invitation.Done} {
		cases = append(cases, nextCase{"batch " + string(s), waitingRow(state(s)), everything, nothing})
	}
	cases = append(cases, nextCase{"batch cancelled", waitingRow(state(invitation.StateCancelled)), everything, decide(invitation.Cancelled, "")})
	checkNext(t, cases)
}

// Transient answers are retried for a day; waiting for something else does not count.
func TestNextGivesUp(t *testing.T) {
	t.Parallel()
	tried := func(since, notBefore float64) invitation.Row {
		return waitingRow(func(r *invitation.Row) {
			r.Since, r.NotBefore, r.Tries, r.LastError = at(since), at(notBefore), 30, "internal_clerk_error"
		})
	}
	const day = 86400
	late := func(ev *invitation.Evidence) {
		ev.Now = at(2 * day)
		ev.Coverage = invitation.Coverage{Users: ev.Now, Invitations: ev.Now}
	}
	failed := decide(invitation.Failed, "internal_clerk_error")
	checkNext(t, []nextCase{
		{"after a day of tries", tried(0, day+1), nothingKnown(late), failed},
		{"not within the day", tried(0, day), nothingKnown(late), claim},
		{"while it backs off for the last time", tried(day/2, 3*day), nothingKnown(late), failed},
		{"a pause of a day does not count", tried(0, 60), nothingKnown(late), claim},
		{"what is known comes first", tried(0, day+1), nothingKnown(late, seen(user(2*day-60))),
			decide(invitation.AlreadyRegistered, "user_at_clerk", byRead(78), func(a *invitation.Action) { a.UserID = "user_1" })},
		{"never with an open attempt", tried(0, day+1), nothingKnown(late, attempts(lost())), with(read, from(1035))},
		{"never while another row of the person has one", tried(0, day+1), nothingKnown(late, others(invitation.Other{Open: true})), wait},
	})
}

// What other rows of the person did.
func TestNextOthers(t *testing.T) {
	t.Parallel()
	other := func(change ...func(*invitation.Other)) invitation.Other {
		o := invitation.Other{RowID: invitation.RowID{Batch: 2, Row: 1}, Outcome: invitation.Invited, Status: invitation.Pending, InvitationID: "inv_other", ExpiresAt: at(1e6)}
		for _, f := range change {
			f(&o)
		}
		return o
	}
	is := func(s invitation.Status) func(*invitation.Other) { return func(o *invitation.Other) { o.Status = s } }
	expires := func(s float64) func(*invitation.Other) {
		return func(o *invitation.Other) { o.ExpiresAt = at(s) }
	}
	unknownExpiry := func(o *invitation.Other) { o.ExpiresAt = time.Time{} }
	ended := func(how invitation.Outcome) func(*invitation.Other) {
		return func(o *invitation.Other) { o.Outcome = how }
	}
	open := func(o *invitation.Other) { o.Outcome, o.Open = "", true }
	already := func(s invitation.Status) invitation.Action {
		return decide(invitation.AlreadyInvited, "invited_by_another_row", func(a *invitation.Action) { a.InvitationID, a.Status = "inv_other", s })
	}
	shown := func(s invitation.Status) invitation.Sighting {
		return made(old, status(s), func(v *invitation.Sighting) { v.ID, v.Taken = "inv_other", true })
	}
	checkNext(t, []nextCase{
		{"one is under way", waitingRow(), nothingKnown(others(other(open))), wait},
		{"one is under way, whatever is known", waitingRow(), nothingKnown(others(other(), other(open)), seen(made(old))), wait},
		{"mailed, though no list shows it", waitingRow(), nothingKnown(others(other())), already(invitation.Pending)},
		{"mailed, accepted", waitingRow(), nothingKnown(others(other(is(invitation.Accepted)))), already(invitation.Accepted)},
		{"mailed, its status unknown", waitingRow(), nothingKnown(others(other(is(""), unknownExpiry))), already("")},
		{"mailed without preflight", waitingRow(func(r *invitation.Row) { r.Preflight = false }), nothingKnown(others(other())), already(invitation.Pending)},
		{"revoked", waitingRow(), nothingKnown(others(other(is(invitation.Revoked)))), claim},
		{"expired", waitingRow(), nothingKnown(others(other(is(invitation.Expired)))), claim},
		{"deleted at Clerk", waitingRow(), nothingKnown(others(other(is(invitation.Deleted)))), claim},
		{"deleted at Clerk, as a read showed", waitingRow(), nothingKnown(others(other()), seen(shown(invitation.Deleted))), claim},
		{"past its expiry", waitingRow(), nothingKnown(others(other(expires(3600)))), claim},
		{"one of two is revoked", waitingRow(), nothingKnown(others(other(is(invitation.Revoked)), other())), already(invitation.Pending)},
		{"revoked, as a read showed", waitingRow(), nothingKnown(others(other()), seen(shown(invitation.Revoked))), claim},
		{"expired, as a read showed", waitingRow(), nothingKnown(others(other(unknownExpiry)), seen(shown(invitation.Expired))), claim},
		{"accepted, as a read showed", waitingRow(), nothingKnown(others(other()), seen(shown(invitation.Accepted))), already(invitation.Pending)},
		{"undecided too", waitingRow(), nothingKnown(others(other(ended("")))), claim},
		{"not mailed by it", waitingRow(), nothingKnown(others(other(ended(invitation.AlreadyInvited)))), claim},
		{"failed", waitingRow(), nothingKnown(others(other(ended(invitation.Failed)))), claim},
	})
}

// What reads showed of the person, no attempt of ours being in question.
func TestNextSeen(t *testing.T) {
	t.Parallel()
	lastSeen := func(s float64) func(*invitation.Sighting) {
		return func(v *invitation.Sighting) { v.LastSeen = at(s) }
	}
	created := func(s float64) func(*invitation.Sighting) {
		return func(v *invitation.Sighting) { v.CreatedAt = at(s) }
	}
	expired := func(v *invitation.Sighting) { v.ExpiresAt = at(3600) }
	forEver := func(v *invitation.Sighting) { v.ExpiresAt = time.Time{} }
	taken := func(v *invitation.Sighting) { v.Taken = true }
	registered := decide(invitation.AlreadyRegistered, "user_at_clerk", byRead(78), func(a *invitation.Action) { a.UserID = "user_1" })
	guessed := func(v *invitation.Sighting) { v.Taken, v.Guessed = true, true }
	const since = "made_since_the_batch_began"
	checkNext(t, []nextCase{
		{"a pending invitation", waitingRow(), nothingKnown(seen(made(old))), theirs(made(old), "pending_at_clerk")},
		{"a pending invitation without expiry", waitingRow(), nothingKnown(seen(made(old, forEver))), theirs(made(old, forEver), "pending_at_clerk")},
		{"a pending invitation of another row", waitingRow(), nothingKnown(seen(made(old, taken))), theirs(made(old, taken), "pending_at_clerk")},
		{"a pending invitation, last seen before the batch", waitingRow(), nothingKnown(seen(made(old, lastSeen(-1)))), claim},
		{"a pending invitation past its expiry", waitingRow(), nothingKnown(seen(made(old, expired))), claim},
		{"one that was revoked long ago", waitingRow(), nothingKnown(seen(made(old, status(invitation.Revoked)))), claim},
		{"one that was accepted long ago", waitingRow(), nothingKnown(seen(made(old, status(invitation.Accepted)))), claim},
		{"one that expired long ago", waitingRow(), nothingKnown(seen(made(old, status(invitation.Expired)))), claim},

		{"a user", waitingRow(), nothingKnown(seen(user(3400))), registered},
		{"a user, last seen too long ago", waitingRow(), nothingKnown(seen(user(0))), claim},
		{"a user, where a lost attempt may have made them one: the lists are read after", waitingRow(), nothingKnown(attempts(lost(closed(invitation.ClosedNotThere))), seen(user(3550))), invitation.Action{Kind: invitation.Read, Lists: true}},
		{"a user, and the lists were read after", waitingRow(), nothingKnown(attempts(lost(closed(invitation.ClosedNotThere))), seen(user(3450))), registered},
		{"a user, last seen before the batch", waitingRow(), nothingKnown(seen(user(-1))), claim},

		// The database may have been restored from a backup: Clerk knows more than it.
		{"pending since the batch began", waitingRow(), nothingKnown(seen(made())), theirs(made(), "pending_at_clerk")},
		{"revoked since the batch began", waitingRow(), nothingKnown(seen(made(status(invitation.Revoked)))), theirs(made(status(invitation.Revoked)), since)},
		{"accepted since the batch began", waitingRow(), nothingKnown(seen(made(status(invitation.Accepted)))), theirs(made(status(invitation.Accepted)), since)},
		{"expired since the batch began", waitingRow(), nothingKnown(seen(made(status(invitation.Expired)))), theirs(made(status(invitation.Expired)), since)},
		{"made as the batch began, by a clock that may be slow", waitingRow(), nothingKnown(seen(made(status(invitation.Revoked), created(-2)))),
			theirs(made(status(invitation.Revoked), created(-2)), since)},
		{"made before the batch began", waitingRow(), nothingKnown(seen(made(status(invitation.Revoked), created(-2.001)))), claim},
		{"made since by another row, which explains it", waitingRow(), nothingKnown(seen(made(status(invitation.Revoked), taken))), claim},
		{"made since, and another row took it for its own by reading", waitingRow(), nothingKnown(seen(made(status(invitation.Revoked), guessed))), theirs(made(status(invitation.Revoked), guessed), since)},
	})
}

// What makes an invitation ours: each condition is broken singly.
func TestNextOurs(t *testing.T) {
	t.Parallel()
	notThere := lost(closed(invitation.ClosedNotThere))
	created := func(s float64) func(*invitation.Sighting) {
		return func(v *invitation.Sighting) { v.CreatedAt = at(s) }
	}
	firstSeen := func(s float64) func(*invitation.Sighting) {
		return func(v *invitation.Sighting) { v.FirstSeen = at(s) }
	}
	taken := func(v *invitation.Sighting) { v.Taken = true }
	ahead := func(ev *invitation.Evidence) { ev.Slack, ev.Least = -10*time.Second, -10*time.Second } // Clerk's clock, by ten seconds
	unsure := func(ev *invitation.Evidence) { ev.Slack, ev.Least = 10*time.Second, -10*time.Second } // a read took long
	cases := []nextCase{
		{"all hold", waitingRow(), nothingKnown(attempts(notThere), seen(made())), ours(made(), 31)},
		{"all hold, accepted meanwhile", waitingRow(), nothingKnown(attempts(notThere), seen(made(status(invitation.Accepted)))), ours(made(status(invitation.Accepted)), 31)},
		{"all hold, revoked meanwhile", waitingRow(), nothingKnown(attempts(notThere), seen(made(status(invitation.Revoked)))), ours(made(status(invitation.Revoked)), 31)},
		{"all hold, expired meanwhile", waitingRow(), nothingKnown(attempts(notThere), seen(made(status(invitation.Expired)))), ours(made(status(invitation.Expired)), 31)},
		{"all hold, and they are a user now", waitingRow(), nothingKnown(attempts(notThere), seen(user(3500), made(status(invitation.Accepted)))), ours(made(status(invitation.Accepted)), 31)},
		{"of the first attempt, the second being refused", waitingRow(),
			nothingKnown(attempts(notThere, lost(said(invitation.AnswerRefused, "too_many_requests"), second, closed(invitation.ClosedRefused))), seen(made())), ours(made(), 31)},
		{"of the second attempt, made after the first", waitingRow(),
			nothingKnown(attempts(lost(closed(invitation.ClosedNotSent)), lost(second, closed(invitation.ClosedNotThere))), seen(made(created(2001), firstSeen(2040)))),
			ours(made(created(2001), firstSeen(2040)), 32)},

		{"of the second attempt, begun as soon as the first was settled", waitingRow(),
			nothingKnown(attempts(notThere, lost(closed(invitation.ClosedNotThere), func(a *invitation.Attempt) { a.ID, a.Started, a.Deadline = 32, at(1035), at(1055) })), seen(made(created(1036), firstSeen(1075)))),
			ours(made(created(1036), firstSeen(1075)), 32)},

		{"no attempt could have made it", waitingRow(), nothingKnown(seen(made())), theirs(made(), "pending_at_clerk")},
		{"made as the attempt began, by a clock that may be slow", waitingRow(), nothingKnown(attempts(notThere), seen(made(created(997)))), ours(made(created(997)), 31)},
		{"made before the attempt", waitingRow(), nothingKnown(attempts(notThere), seen(made(created(996.999)))), theirs(made(created(996.999)), "pending_at_clerk")},
		{"made long after the deadline", waitingRow(), nothingKnown(attempts(notThere), seen(made(created(1038.001)))), theirs(made(created(1038.001)), "pending_at_clerk")},
		{"made before the attempt, by a fast clock", waitingRow(), nothingKnown(ahead, attempts(notThere), seen(made(created(1008)))), theirs(made(created(1008)), "pending_at_clerk")},
		{"made after the attempt, by a fast clock", waitingRow(), nothingKnown(ahead, attempts(notThere), seen(made(created(1009)))), ours(made(created(1009)), 31)},
		{"made as the attempt began, by a clock that is not known well", waitingRow(), nothingKnown(unsure, attempts(notThere), seen(made(created(989)))), ours(made(created(989)), 31)},
		{"made before the attempt, by a clock that is not known well", waitingRow(), nothingKnown(unsure, attempts(notThere), seen(made(created(988.999)))), theirs(made(created(988.999)), "pending_at_clerk")},
		{"made after the deadline, by a clock that is not known well", waitingRow(), nothingKnown(unsure, attempts(notThere), seen(made(created(1050)))), ours(made(created(1050)), 31)},
		{"made long after the deadline, by a clock that is not known well", waitingRow(), nothingKnown(unsure, attempts(notThere), seen(made(created(1050.001)))), theirs(made(created(1050.001)), "pending_at_clerk")},
		{"a read had shown it before the attempt", waitingRow(), nothingKnown(attempts(notThere), seen(made(firstSeen(999.999)))), theirs(made(firstSeen(999.999)), "pending_at_clerk")},
		{"another row carries its id", waitingRow(), nothingKnown(attempts(notThere), seen(made(taken))), theirs(made(taken), "pending_at_clerk")},
	}
	// An attempt that got a deciding answer made nothing, or made what its answer says.
	for name, a := range map[string]invitation.Attempt{
		"refused":           lost(said(invitation.AnswerRefused, "too_many_requests"), closed(invitation.ClosedRefused)),
		"refused by name":   lost(said(invitation.AnswerExists, "duplicate_record"), closed(invitation.ClosedExists)),
		"rejected":          lost(said(invitation.AnswerRejected, "form_param_format_invalid"), closed(invitation.ClosedAnswered)),
		"user":              lost(said(invitation.AnswerUser, "form_identifier_exists"), closed(invitation.ClosedAnswered)),
		"never written":     lost(closed(invitation.ClosedNotSent)),
		"closed as refused": lost(closed(invitation.ClosedRefused)),
	} {
		cases = append(cases, nextCase{"the attempt was decided: " + name, waitingRow(), nothingKnown(attempts(a), seen(made())), theirs(made(), "pending_at_clerk")})
	}
	checkNext(t, cases)
}

// An open attempt whose answer decides.
func TestNextAnswered(t *testing.T) {
	t.Parallel()
	answered := func(answer invitation.Answer, code string) invitation.Attempt { return lost(said(answer, code)) }
	created := answered(invitation.AnswerCreated, "")
	created.InvitationID = "inv_new"
	aloneRow := func(r *invitation.Row) { r.Alone = true }
	checkNext(t, []nextCase{
		{"created", waitingRow(), nothingKnown(attempts(created)),
			decide(invitation.Invited, "", byAttempt(31), closing(invitation.ClosedAnswered), func(a *invitation.Action) {
				a.InvitationID, a.Status = "inv_new", invitation.Pending
			})},
		{"rejected", waitingRow(), nothingKnown(attempts(answered(invitation.AnswerRejected, "form_param_format_invalid"))),
			decide(invitation.Rejected, "form_param_format_invalid", byAttempt(31), closing(invitation.ClosedAnswered))},
		{"refused", waitingRow(), nothingKnown(attempts(answered(invitation.AnswerRefused, "too_many_requests"))), with(claim, closing(invitation.ClosedRefused))},
		{"refused, to go alone", waitingRow(aloneRow), nothingKnown(attempts(answered(invitation.AnswerRefused, "bulk_size_exceeded"))), with(claim, closing(invitation.ClosedRefused), alone)},
		{"created, in a batch that was cancelled meanwhile", waitingRow(state(invitation.StateCancelled)), nothingKnown(attempts(created)),
			decide(invitation.Invited, "", byAttempt(31), closing(invitation.ClosedAnswered), func(a *invitation.Action) {
				a.InvitationID, a.Status = "inv_new", invitation.Pending
			})},
		{"refused, in a batch that was paused meanwhile", waitingRow(state(invitation.Paused)),
			nothingKnown(attempts(answered(invitation.AnswerRefused, "too_many_requests"))), with(claim, closing(invitation.ClosedRefused))},
		{"refused, in a batch that was cancelled meanwhile", waitingRow(state(invitation.StateCancelled)),
			nothingKnown(attempts(answered(invitation.AnswerRefused, "too_many_requests"))), decide(invitation.Cancelled, "", closing(invitation.ClosedRefused))},
	})
}

// "The address belongs to a user": where an attempt of the row before this one
// was lost, they may have accepted ours.
func TestNextUser(t *testing.T) {
	t.Parallel()
	before := lost(closed(invitation.ClosedNotThere))
	user := lost(said(invitation.AnswerUser, "form_identifier_exists"), second)
	accepted := made(status(invitation.Accepted))
	registered := decide(invitation.AlreadyRegistered, "form_identifier_exists", byAttempt(32), closing(invitation.ClosedAnswered))
	checkNext(t, []nextCase{
		{"the first attempt", waitingRow(), nothingKnown(attempts(user)), registered},
		{"the first that was written", waitingRow(), nothingKnown(attempts(lost(closed(invitation.ClosedNotSent)), user)), registered},
		{"the one before was refused", waitingRow(), nothingKnown(attempts(lost(said(invitation.AnswerRefused, "too_many_requests"), closed(invitation.ClosedRefused)), user)), registered},
		{"the one before was lost: read", waitingRow(), nothingKnown(attempts(before, user)), with(read, from(2005))},
		{"a read that began before the answer does not count", waitingRow(), nothingKnown(attempts(before, user), seen(accepted), settled(2004)), with(read, from(2005))},
		{"they accepted ours", waitingRow(), nothingKnown(attempts(before, user), seen(accepted), settled(2005)), ours(accepted, 31)},
		{"they did not", waitingRow(), nothingKnown(attempts(before, user), settled(2005)), registered},
		{"they accepted somebody else's", waitingRow(), nothingKnown(attempts(before, user), seen(made(old, status(invitation.Accepted))), settled(2005)), registered},
	})
}

// "A pending invitation exists": ours, or somebody else's.
func TestNextExists(t *testing.T) {
	t.Parallel()
	before := lost(closed(invitation.ClosedNotThere))
	exists := lost(said(invitation.AnswerExists, "duplicate_record"), second)
	already := func(s invitation.Sighting) invitation.Action {
		return with(theirs(s, "duplicate_record"), byAttempt(32), closing(invitation.ClosedExists))
	}
	fresh := made(func(s *invitation.Sighting) { s.CreatedAt, s.FirstSeen = at(2001), at(2036) })
	gone := made(old, func(s *invitation.Sighting) { s.ID, s.LastSeen = "inv_gone", at(1500) })
	checkNext(t, []nextCase{
		{"unread", waitingRow(), nothingKnown(attempts(exists)), with(read, from(2005))},
		{"unread, though one was seen before", waitingRow(), nothingKnown(attempts(exists), seen(made(old))), with(read, from(2005))},
		{"a read that began before the answer does not count", waitingRow(), nothingKnown(attempts(exists), seen(made(old)), settled(2004)), with(read, from(2005))},
		{"somebody else's", waitingRow(), nothingKnown(attempts(exists), seen(made(old)), settled(2005)), already(made(old))},
		{"made while we asked: the refusal says that it is not ours", waitingRow(), nothingKnown(attempts(exists), seen(fresh), settled(2005)), already(fresh)},
		{"made by the attempt before, which was lost", waitingRow(), nothingKnown(attempts(before, exists), seen(made()), settled(2005)), ours(made(), 31)},
		{"not that of the attempt before", waitingRow(), nothingKnown(attempts(before, exists), seen(made(old)), settled(2005)), already(made(old))},
		{"the list lags", waitingRow(), nothingKnown(attempts(exists), settled(2019)), with(read, from(2020))},
		{"no list shows it", waitingRow(), nothingKnown(attempts(exists), settled(2020)),
			decide(invitation.AlreadyInvited, "duplicate_record", byAttempt(32), byRead(55), closing(invitation.ClosedExists))},
		{"one that the read no longer showed is not it", waitingRow(), nothingKnown(attempts(exists), seen(gone), settled(2005)), with(read, from(2020))},
		{"one that the read no longer showed, beside the one that it showed", waitingRow(), nothingKnown(attempts(exists), seen(gone, made(old)), settled(2005)), already(made(old))},
	})
}

// An attempt without a deciding answer is resolved by reading, whatever state
// its batch is in.
func TestNextUnknown(t *testing.T) {
	t.Parallel()
	answered := func(s float64) func(*invitation.Attempt) {
		return func(a *invitation.Attempt) { a.Answered, a.Code = at(s), "internal_clerk_error" }
	}
	refused := func(a *invitation.Attempt) { a.Answered, a.Refused = at(1005), true }
	inCrowd := lost(refused)
	single := lost(refused, func(a *invitation.Attempt) { a.Alone = true })
	notThere := with(claim, closing(invitation.ClosedNotThere), byRead(55))
	registered := decide(invitation.AlreadyRegistered, "user_at_clerk", byRead(78), closing(invitation.ClosedUser), func(a *invitation.Action) { a.UserID = "user_1" })
	exists := func(s invitation.Sighting, reason string) invitation.Action {
		return with(theirs(s, reason), closing(invitation.ClosedExists))
	}
	beforeAttempt := made(func(s *invitation.Sighting) { s.CreatedAt, s.FirstSeen = at(500), at(510) })
	cases := []nextCase{
		{"nothing was read", waitingRow(), nothingKnown(attempts(lost())), with(read, from(1035))},
		{"it goes on before its deadline", waitingRow(), nothingKnown(attempts(lost()), func(ev *invitation.Evidence) { ev.Now = at(1001) }), with(read, from(1035))},
		{"a read after the deadline, before the settle time", waitingRow(), nothingKnown(attempts(lost()), settled(1034.999)), with(read, from(1035))},
		{"not there", waitingRow(), nothingKnown(attempts(lost()), settled(1035)), notThere},
		{"not there, to go alone", waitingRow(func(r *invitation.Row) { r.Alone = true }), nothingKnown(attempts(lost()), settled(1035)), with(notThere, alone)},
		{"a 500 is read a settle time after the deadline", waitingRow(), nothingKnown(attempts(lost(answered(1002))), settled(1034)), with(read, from(1035))},
		{"a 500, not there", waitingRow(), nothingKnown(attempts(lost(answered(1002))), settled(1035)), notThere},
		{"an answer that was recorded late", waitingRow(), nothingKnown(attempts(lost(answered(1500))), settled(1100)), with(read, from(1515))},

		{"there, and ours", waitingRow(), nothingKnown(attempts(lost()), seen(made()), settled(1035)), ours(made(), 31)},
		{"there before the settle time", waitingRow(), nothingKnown(attempts(lost()), seen(made())), ours(made(), 31)},
		{"there, made by the attempt before", waitingRow(),
			nothingKnown(attempts(lost(closed(invitation.ClosedNotThere)), lost(second)), seen(made())), ours(made(), 31)},
		{"another's, from before the batch", waitingRow(), nothingKnown(attempts(lost()), seen(made(old)), settled(1035)), exists(made(old), "pending_at_clerk")},
		{"another's, seen before we asked", waitingRow(), nothingKnown(attempts(lost()), seen(beforeAttempt), settled(1035)), exists(beforeAttempt, "pending_at_clerk")},
		{"another's is not taken before the settle time: ours may still show", waitingRow(), nothingKnown(attempts(lost()), seen(made(old)), settled(1034)), with(read, from(1035))},
		{"a user", waitingRow(), nothingKnown(attempts(lost()), seen(user(3480)), settled(3490)), registered},
		{"a user is not taken before the settle time: they may have accepted ours", waitingRow(), nothingKnown(attempts(lost()), seen(user(1030)), settled(1034)), with(read, from(1035))},
		{"another row of the person was mailed", waitingRow(),
			nothingKnown(attempts(lost()), others(invitation.Other{Outcome: invitation.Invited, Status: invitation.Pending, InvitationID: "inv_2"}), settled(1035)),
			decide(invitation.AlreadyInvited, "invited_by_another_row", closing(invitation.ClosedExists), func(a *invitation.Action) {
				a.InvitationID, a.Status = "inv_2", invitation.Pending
			})},

		{"refused for somebody unnamed among others", waitingRow(), nothingKnown(attempts(inCrowd), settled(1035)), with(notThere, alone)},
		{"refused for somebody unnamed, unread", waitingRow(), nothingKnown(attempts(inCrowd), settled(1034)), with(read, from(1035))},
		{"refused for somebody unnamed: this one, a user", waitingRow(), nothingKnown(attempts(inCrowd), seen(user(3480)), settled(3490)), registered},
		{"failed over again and again among others", waitingRow(func(r *invitation.Row) { r.Tries = 2 }), nothingKnown(attempts(lost()), settled(1035)), with(notThere, alone)},
		{"refused, being alone", waitingRow(), nothingKnown(attempts(single), settled(1035)), notThere},
	}
	ends := map[invitation.State]invitation.Action{
		invitation.Paused:         notThere,
		invitation.StateCancelled: decide(invitation.Cancelled, "", closing(invitation.ClosedNotThere), byRead(55)),
	}
	for s, end := range ends {
		cases = append(cases,
			nextCase{string(s) + ": to be read", waitingRow(state(s)), nothingKnown(attempts(lost())), with(read, from(1035))},
			nextCase{string(s) + ": there, and ours", waitingRow(state(s)), nothingKnown(attempts(lost()), seen(made()), settled(1035)), ours(made(), 31)},
			nextCase{string(s) + ": not there", waitingRow(state(s)), nothingKnown(attempts(lost()), settled(1035)), end},
		)
	}
	checkNext(t, cases)
}

// BenchmarkNext looks at a row of which nothing is known, and at one that was
// tried ten times, with as many invitations and rows of the same person.
func BenchmarkNext(b *testing.B) {
	many := nothingKnown()
	for i := range 10 {
		many.Attempts = append(many.Attempts, lost(closed(invitation.ClosedNotThere), func(a *invitation.Attempt) { a.ID += int64(i) }))
		many.Sightings = append(many.Sightings, made(old, status(invitation.Revoked)))
		many.Others = append(many.Others, invitation.Other{RowID: invitation.RowID{Batch: 2, Row: i}, Outcome: invitation.Failed})
	}
	for _, way := range []struct {
		name string
		ev   invitation.Evidence
	}{{"fresh", nothingKnown()}, {"known", many}} {
		b.Run(way.name, func(b *testing.B) {
			row := waitingRow()
			b.ReportAllocs()
			for b.Loop() {
				if act := invitation.Next(row, way.ev); act.Kind != invitation.Claim {
					b.Fatal(act)
				}
			}
		})
	}
}
