package invitation_test

import (
	"testing"
	"time"

	"bulkinvite/internal/invitation"
)

// again is a row whose person is to be invited again.
func again(r *invitation.Row) { r.Resend, r.Cooldown = true, 72*time.Hour }

// repeat makes it a row of a resend of a batch.
func repeat(r *invitation.Row) { again(r); r.Repeat = true }

// owed says that inv_old was revoked for the row, or is being revoked.
func owed(r *invitation.Row) { r.Owed = true }

func revoked(open bool) func(*invitation.Evidence) {
	return func(ev *invitation.Evidence) {
		ev.Revoked = append(ev.Revoked, invitation.OwnRevoke{InvitationID: "inv_old", Open: open})
	}
}

// earlier is a row that invited the person a day before the batch began.
func earlier(change ...func(*invitation.Other)) invitation.Other {
	o := invitation.Other{Outcome: invitation.Invited, Status: invitation.Pending, InvitationID: "inv_old", DecidedAt: at(-86400), ExpiresAt: at(1e6)}
	for _, f := range change {
		f(&o)
	}
	return o
}

func revoking(id string) func(*invitation.Action) {
	return func(a *invitation.Action) { a.Revoke, a.Alone = id, true }
}

func stands(s invitation.Status) func(*invitation.Other) {
	return func(o *invitation.Other) { o.Status = s }
}

func left(reason string) invitation.Action {
	return decide(invitation.AlreadyInvited, reason, func(a *invitation.Action) { a.InvitationID, a.Status = "inv_old", invitation.Pending })
}

// Who is invited again, and whose invitation is revoked for it.
func TestNextResend(t *testing.T) {
	t.Parallel()
	resent := func(s float64) func(*invitation.Evidence) {
		return func(ev *invitation.Evidence) { ev.Resent = at(s) }
	}
	since := func(o *invitation.Other) { o.DecidedAt = at(10) }
	expired := func(o *invitation.Other) { o.ExpiresAt = at(-5) }
	open := func(o *invitation.Other) { o.Open, o.Outcome = true, "" }
	unread := func(ev *invitation.Evidence) { ev.Coverage = invitation.Coverage{} }
	sightedSince := func(s *invitation.Sighting) { s.CreatedAt, s.FirstSeen = at(5), at(20) }
	accepted := decide(invitation.AlreadyRegistered, "accepted")
	registered := decide(invitation.AlreadyRegistered, "user_at_clerk", byRead(78), func(a *invitation.Action) { a.UserID = "user_1" })
	givenUp := func(r *invitation.Row) { r.Since, r.LastError = at(-2*86400), "internal_clerk_error" }
	room := with(claim, revoking("inv_old"))
	exists := lost(said(invitation.AnswerExists, "duplicate_record"))
	refused := lost(said(invitation.AnswerExists, "duplicate_record"), closed(invitation.ClosedRefused))
	checkNext(t, []nextCase{
		{"invited before the batch", waitingRow(again), nothingKnown(others(earlier())), room},
		{"a row that does not ask for it", waitingRow(), nothingKnown(others(earlier())), left("invited_by_another_row")},
		{"invited since the batch began", waitingRow(again), nothingKnown(others(earlier(since))), left("invited_by_another_row")},
		{"one from before, and one since", waitingRow(again), nothingKnown(others(earlier(), earlier(since))), left("invited_by_another_row")},
		{"another row is at it", waitingRow(again), nothingKnown(others(earlier(), earlier(open))), wait},
		{"nobody has invited them", waitingRow(again), nothingKnown(), claim},
		{"expired: nothing is to be revoked", waitingRow(again), nothingKnown(others(earlier(expired))), claim},
		{"unread", waitingRow(again), nothingKnown(others(earlier()), unread), read},
		{"in a paused batch", waitingRow(again, state(invitation.Paused)), nothingKnown(others(earlier())), nothing},
		{"in a cancelled batch", waitingRow(again, state(invitation.StateCancelled)), nothingKnown(others(earlier())), decide(invitation.Cancelled, "")},
		{"tried for a day", waitingRow(again, givenUp), nothingKnown(others(earlier())), decide(invitation.Failed, "internal_clerk_error")},

		{"cooling down", waitingRow(again), nothingKnown(others(earlier()), resent(3600-72*3600+1)), left("invited_again_recently")},
		{"cooled down", waitingRow(again), nothingKnown(others(earlier()), resent(3600-72*3600)), room},
		{"nothing stands, though cooling down", waitingRow(again), nothingKnown(resent(0)), claim},

		{"somebody else's, from before", waitingRow(again), nothingKnown(seen(made(old))), room},
		{"somebody else's, cooling down", waitingRow(again), nothingKnown(seen(made(old)), resent(0)), theirs(made(old), "invited_again_recently")},
		{"somebody else's, made since", waitingRow(again), nothingKnown(seen(made(sightedSince))), theirs(made(sightedSince), "pending_at_clerk")},
		{"ours, which a read shows too", waitingRow(again), nothingKnown(others(earlier()), seen(made(old))), room},

		{"accepted, as the row knows", waitingRow(again), nothingKnown(others(earlier(stands(invitation.Accepted)))), accepted},
		{"accepted, as a read showed", waitingRow(again), nothingKnown(others(earlier()), seen(made(old, status(invitation.Accepted)))), with(accepted, byRead(77))},
		{"a user", waitingRow(again), nothingKnown(others(earlier()), seen(user(3500))), registered},

		{"taken back: a file asks for them all the same", waitingRow(again), nothingKnown(others(earlier(stands(invitation.Revoked)))), claim},
		{"taken back: a resend does not", waitingRow(repeat), nothingKnown(others(earlier(stands(invitation.Revoked)))), decide(invitation.Cancelled, "revoked_elsewhere")},
		{"taken back, as a read showed", waitingRow(repeat), nothingKnown(others(earlier()), seen(made(old, status(invitation.Revoked)))), decide(invitation.Cancelled, "revoked_elsewhere")},
		{"taken back for a row that has yet to invite them", waitingRow(repeat),
			nothingKnown(others(earlier(stands(invitation.Revoked)), invitation.Other{Owed: true})), claim},
		{"revoked, and a list lags", waitingRow(again), nothingKnown(others(earlier(stands(invitation.Revoked))), seen(made(old)), resent(0)), claim},
		{"expired, in a resend", waitingRow(repeat), nothingKnown(others(earlier(expired))), claim},
		{"refused for one that has expired", waitingRow(again), nothingKnown(attempts(exists), others(earlier(expired)), settled(1020)),
			with(claim, closing(invitation.ClosedRefused), byRead(55), alone)},
		{"refused for one that has expired, in a file that skips", waitingRow(), nothingKnown(attempts(exists), others(earlier(expired)), settled(1020)),
			decide(invitation.AlreadyInvited, "duplicate_record", byAttempt(31), byRead(55), closing(invitation.ClosedExists))},
		{"refused before for one that has expired", waitingRow(again), nothingKnown(attempts(refused), others(earlier(expired))), room},
		{"refused before for one that expired as a read shows", waitingRow(again), nothingKnown(attempts(refused), seen(made(old, status(invitation.Expired)))), room},
		{"refused before, and what had expired is revoked", waitingRow(again), nothingKnown(attempts(refused), others(earlier(expired, stands(invitation.Revoked)))), claim},
		{"revoked long ago, and sent again since", waitingRow(repeat),
			nothingKnown(others(earlier(stands(invitation.Revoked), func(o *invitation.Other) { o.InvitationID, o.DecidedAt = "inv_older", at(-2*86400) }), earlier())), room},
	})
}

// What makes room is gone or may be: nothing but Clerk's answer ends the row.
func TestNextOwed(t *testing.T) {
	t.Parallel()
	create := lost(closed(invitation.ClosedNotSent))
	lagging := made(old) // a list that still shows inv_old pending
	fresh := made(func(s *invitation.Sighting) { s.ID, s.CreatedAt, s.FirstSeen = "inv_new", at(2500), at(2600) })
	guessed := made(old, func(s *invitation.Sighting) { s.CreatedAt, s.Taken, s.Guessed = at(-1), true, true })
	tired := func(r *invitation.Row) { r.Since, r.LastError = at(-2*86400), "internal_clerk_error" }
	exists := lost(said(invitation.AnswerExists, "duplicate_record"))
	refused := lost(said(invitation.AnswerRefused, "too_many_requests"))
	knows := others(earlier())
	cases := []nextCase{
		{"the revocation must be read", waitingRow(repeat, owed), nothingKnown(attempts(create), knows, revoked(true)), wait},
		{"it was read", waitingRow(repeat, owed), nothingKnown(attempts(create), knows, revoked(false)), claim},
		{"it was read, and a list lags", waitingRow(repeat, owed), nothingKnown(attempts(create), knows, seen(lagging), revoked(false)), claim},
		{"it was read, and a list shows that it was made as the batch began, which another row learned by reading", waitingRow(repeat, owed),
			nothingKnown(attempts(create), knows, seen(guessed), revoked(false)), claim},
		{"tried for a day", waitingRow(repeat, owed, tired), nothingKnown(attempts(create), knows, revoked(false)), claim},
		{"cooling down", waitingRow(repeat, owed), nothingKnown(attempts(create), knows, revoked(false), func(ev *invitation.Evidence) { ev.Resent = at(0) }), claim},
		{"backing off", waitingRow(repeat, owed, func(r *invitation.Row) { r.NotBefore = at(3700) }), nothingKnown(knows, revoked(false)), with(wait, from(3700))},
		{"another row is at it", waitingRow(repeat, owed), nothingKnown(knows, revoked(false), others(invitation.Other{Open: true})), wait},
		{"another row has invited them", waitingRow(repeat, owed), nothingKnown(knows, revoked(false), others(invitation.Other{Outcome: invitation.Invited, Status: invitation.Pending, InvitationID: "inv_9"})),
			decide(invitation.AlreadyInvited, "invited_by_another_row", func(a *invitation.Action) { a.InvitationID, a.Status = "inv_9", invitation.Pending })},
		{"somebody has invited them", waitingRow(repeat, owed), nothingKnown(knows, revoked(false), seen(fresh)), theirs(fresh, "pending_at_clerk")},

		{"the create may have gone out, and nothing was read", waitingRow(repeat, owed), nothingKnown(attempts(lost()), knows, revoked(true)), with(read, from(1035))},
		{"it did not, and whether inv_old stands is not known", waitingRow(repeat, owed), nothingKnown(attempts(lost()), knows, seen(lagging), revoked(true), settled(1035)),
			with(claim, closing(invitation.ClosedNotThere), byRead(55))},
		{"it did", waitingRow(repeat, owed), nothingKnown(attempts(lost()), knows, revoked(true), seen(lagging, made())), ours(made(), 31)},
		{"refused for an invitation that was revoked", waitingRow(repeat, owed), nothingKnown(attempts(exists), knows, seen(lagging), revoked(true), settled(1020)),
			with(claim, closing(invitation.ClosedRefused), byRead(55), alone)},
		{"refused, and Clerk does not know what was to be revoked", waitingRow(repeat, owed),
			nothingKnown(attempts(exists), knows, func(ev *invitation.Evidence) {
				ev.Revoked = []invitation.OwnRevoke{{InvitationID: "inv_old", Gone: true}}
			}, settled(1020)), decide(invitation.AlreadyInvited, "duplicate_record", byAttempt(31), byRead(55), closing(invitation.ClosedExists))},
		{"refused for another", waitingRow(repeat, owed), nothingKnown(attempts(exists), knows, revoked(true), seen(fresh), settled(1020)),
			with(theirs(fresh, "duplicate_record"), byAttempt(31), closing(invitation.ClosedExists))},
	}
	for _, s := range []invitation.State{invitation.Paused, invitation.StateCancelled} {
		cases = append(cases,
			nextCase{string(s), waitingRow(repeat, owed, state(s)), nothingKnown(attempts(create), knows, revoked(false)), claim},
			nextCase{string(s) + ", its create refused", waitingRow(repeat, owed, state(s)), nothingKnown(attempts(refused), knows, revoked(true)), with(claim, closing(invitation.ClosedRefused))},
			nextCase{string(s) + ", its create not there", waitingRow(repeat, owed, state(s)), nothingKnown(attempts(lost()), knows, revoked(true), settled(1035)),
				with(claim, closing(invitation.ClosedNotThere), byRead(55))},
		)
	}
	checkNext(t, cases)
}

// A link that must be in a file is lost where a read alone shows the invitation:
// it is revoked and made again, whatever the cooldown.
func TestNextLinks(t *testing.T) {
	t.Parallel()
	links := func(r *invitation.Row) { r.Links = true }
	remade := made(status(invitation.Revoked))
	lostLink := with(claim, closing(invitation.ClosedOurs), byRead(77), alone, func(a *invitation.Action) { a.InvitationID = "inv_1" })
	closedOurs := lost(closed(invitation.ClosedOurs))
	checkNext(t, []nextCase{
		{"found by reading", waitingRow(links), nothingKnown(attempts(lost()), seen(made()), settled(1035)), lostLink},
		{"to be made again", waitingRow(links), nothingKnown(attempts(closedOurs), seen(made())), with(claim, revoking("inv_1"))},
		{"revoked for it", waitingRow(links, owed), nothingKnown(attempts(closedOurs), seen(remade), func(ev *invitation.Evidence) {
			ev.Revoked = []invitation.OwnRevoke{{InvitationID: "inv_1"}}
		}), claim},
		{"accepted: somebody has it", waitingRow(links), nothingKnown(attempts(closedOurs), seen(made(status(invitation.Accepted)))), ours(made(status(invitation.Accepted)), 31)},
		{"another row's is left alone", waitingRow(links), nothingKnown(others(earlier())), left("invited_by_another_row")},
	})
}
