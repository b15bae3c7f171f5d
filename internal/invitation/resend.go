package invitation

import (
	"slices"
	"time"
)

// Reasons of rows that a resend does not invite.
const (
	ReasonCooldown = "invited_again_recently" // another row invited the person again within the cooldown
	ReasonRevoked  = "revoked_elsewhere"      // somebody revoked the invitation meanwhile
	ReasonAccepted = "accepted"               // the person has accepted
)

// withoutRevoked returns the evidence without invitations that are known to be revoked, even if a
// list that lags still shows them, and whenever they were made. These are invitations of other rows
// that say so, and invitations that were or may have been revoked for this row. None of them means
// that the person is invited. For a row whose link goes to a file, it also leaves out invitations
// that are over.
func withoutRevoked(row Row, ev Evidence) Evidence {
	own := func(id string) bool {
		return slices.ContainsFunc(ev.Revoked, func(r OwnRevoke) bool { return r.InvitationID == id })
	}
	gone := func(s Sighting) bool {
		others := func(o Other) bool { return o.InvitationID == s.ID && o.Status == Revoked }
		return !s.User && (own(s.ID) || s.Status == Pending && slices.ContainsFunc(ev.Others, others) ||
			row.Links && over(s.Status, s.ExpiresAt, ev.Now))
	}
	if slices.ContainsFunc(ev.Sightings, gone) {
		ev.Sightings = slices.DeleteFunc(slices.Clone(ev.Sightings), gone)
	}
	if len(ev.Revoked) > 0 {
		ev.Others = slices.Clone(ev.Others)
		for i, o := range ev.Others {
			if own(o.InvitationID) {
				ev.Others[i].Status = Revoked
			}
		}
	}
	return ev
}

// blocking returns the invitation that must be revoked before the row can make its own. That is one
// of these:
//
//   - a pending invitation of the person that was made before this batch began, at most once in a
//     cooldown;
//   - an expired one, if Clerk refused the row because of it;
//   - one that the row made itself and whose link is lost.
//
// If the row must not be sent at all, decided is true and act says how it ends.
func blocking(row Row, ev Evidence) (revoke string, act Action, decided bool) {
	if row.Links {
		if s, a, ok := ours(ev); ok && s.Status != Pending {
			return "", invited(s, a, ClosedOurs), true // accepted: the person has the link
		} else if ok {
			return s.ID, Action{}, false
		}
	}
	if !row.Resend || row.Owed {
		return "", Action{}, false
	}
	if act, ok := acceptedBefore(row, ev); ok {
		return "", act, true
	}
	for _, o := range ev.Others {
		if !stands(o, ev) {
			continue
		}
		if !o.DecidedAt.Before(row.BatchStarted) {
			return "", Action{}, false // it was made since the batch began: known decides
		}
		act = Action{Kind: Decide, Outcome: AlreadyInvited, Reason: ReasonCooldown, InvitationID: o.InvitationID, Status: o.Status}
		revoke = o.InvitationID
	}
	if s, ok := standing(ev, recently(row, ev)); ok && revoke == "" {
		if !s.FirstSeen.Before(row.BatchStarted) && !s.CreatedAt.Before(row.BatchStarted.Add(-ev.Slack)) {
			return "", Action{}, false
		}
		act, revoke = already(s, ReasonCooldown), s.ID
	}
	if revoke != "" && !ev.Resent.IsZero() && ev.Now.Sub(ev.Resent) < row.Cooldown {
		return "", act, true
	}
	if revoke == "" && row.Repeat && takenBack(ev) {
		return "", Action{Kind: Decide, Outcome: Cancelled, Reason: ReasonRevoked}, true
	}
	if revoke == "" && slices.ContainsFunc(ev.Attempts, func(a Attempt) bool { return a.Answer == AnswerExists }) {
		revoke = expired(ev)
	}
	return revoke, Action{}, false
}

// expired finds an invitation of the person that has expired and that nothing else has ended. Clerk
// may refuse another one because of it.
func expired(ev Evidence) string {
	ended := func(s Status, at time.Time) bool {
		return s == Expired || (s == Pending || s == "") && !at.IsZero() && !at.After(ev.Now)
	}
	for _, s := range slices.Backward(ev.Sightings) {
		if !s.User && ended(s.Status, s.ExpiresAt) {
			return s.ID
		}
	}
	for _, o := range slices.Backward(ev.Others) {
		seen := func(s Sighting) bool { return !s.User && s.ID == o.InvitationID }
		if o.Outcome == Invited && ended(o.Status, o.ExpiresAt) && !slices.ContainsFunc(ev.Sightings, seen) {
			return o.InvitationID
		}
	}
	return ""
}

// acceptedBefore decides a row whose person has accepted an earlier invitation.
func acceptedBefore(row Row, ev Evidence) (Action, bool) {
	for _, s := range ev.Sightings {
		if s.User && !s.LastSeen.Before(recently(row, ev)) && !slices.ContainsFunc(ev.Attempts, func(a Attempt) bool { return !a.decided() }) {
			return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: "user_at_clerk", UserID: s.ID, ReadID: s.ReadID}, true
		}
	}
	for _, o := range ev.Others {
		if o.Outcome != Invited {
			continue
		}
		seen := slices.IndexFunc(ev.Sightings, func(s Sighting) bool { return !s.User && s.ID == o.InvitationID && s.Status == Accepted })
		switch {
		case o.Status == Accepted:
			return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: ReasonAccepted, AttemptID: ev.Accepted}, true
		case seen >= 0:
			return Action{Kind: Decide, Outcome: AlreadyRegistered, Reason: ReasonAccepted, ReadID: ev.Sightings[seen].ReadID}, true
		}
	}
	return Action{}, false
}

// takenBack reports whether the person's latest invitation that this program made was revoked or
// deleted. It returns false if a row is owed an invitation, because then the revocation was made
// for that row.
func takenBack(ev Evidence) bool {
	var last Other
	for _, o := range ev.Others {
		if o.Owed {
			return false
		}
		if o.Outcome == Invited && !o.DecidedAt.Before(last.DecidedAt) {
			last = o
		}
	}
	revoked := func(s Status) bool { return s == Revoked || s == Deleted }
	seen := func(s Sighting) bool { return !s.User && s.ID == last.InvitationID && revoked(s.Status) }
	return last.Outcome == Invited && (revoked(last.Status) || slices.ContainsFunc(ev.Sightings, seen))
}

// stands reports whether another row's invitation is not known to be over.
func stands(o Other, ev Evidence) bool {
	return o.Outcome == Invited && !over(o.Status, o.ExpiresAt, ev.Now) && !seenOver(o.InvitationID, ev)
}

// recently returns the earliest begin of a read that still counts. What an older read showed may
// have changed, so it is read again. Sightings have the time at which their read began, so what the
// reads that guard a claim showed counts as long as these reads do.
func recently(row Row, ev Evidence) time.Time {
	oldest := ev.Now.Add(-ev.Fresh)
	c := ev.Coverage
	for _, r := range [][2]time.Time{{c.Users, c.UsersEnded}, {c.Invitations, c.InvitationsEnded}} {
		if begun := r[0]; begun.Before(oldest) && ev.recent(begun, r[1]) {
			oldest = begun
		}
	}
	if oldest.After(row.BatchStarted) {
		return oldest
	}
	return row.BatchStarted
}

// found continues with a row whose open attempt made an invitation, as a read shows. If the row's
// link must go to a file, the link is lost: the attempt is closed, and the next claim revokes that
// invitation.
func found(row Row, s Sighting, a Attempt) Action {
	if row.Links && s.Status != Accepted && !row.stopped() {
		return void(row, Action{Close: ClosedOurs, InvitationID: s.ID, ReadID: s.ReadID, Alone: true})
	}
	return invited(s, a, ClosedOurs)
}
