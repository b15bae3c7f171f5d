package words

import "bulkinvite/invitation"

// SweepStates names the states of a sweep as a person reads them.
var SweepStates = map[invitation.SweepState]string{
	invitation.SweepDry: "a dry run: nothing was revoked", invitation.SweepHeld: "held: nothing is revoked before somebody allows it",
	invitation.SweepRunning: "going on", invitation.SweepDone: "done",
}

// SweepReasons says why invitations were left alone, as a person reads it: pairs
// of what the database says and what we do.
var SweepReasons = [][2]string{
	{string(invitation.RevokeAccepted), "had been accepted"},
	{string(invitation.RevokeBefore), "had been revoked"},
	{string(invitation.RevokeGone), "Clerk does not know them"},
	{invitation.SkipExpired, "have expired"},
	{invitation.SkipOwnExpiry, "live to an expiry that their batch or row set"},
	{invitation.SkipOpenAttempt, "a request for the person is under way"},
	{invitation.SkipWaitingRow, "a row for the person waits to be sent"},
	{invitation.SkipOtherSweep, "another sweep is at them"},
	{invitation.SkipSuperseded, "left to a newer sweep"},
	{invitation.SkipStopped, "left when it was stopped"},
}

// SweepReason says why one invitation was left alone; what it does not know
// stays as it is.
func SweepReason(code string) string {
	for _, r := range SweepReasons {
		if r[0] == code {
			return r[1]
		}
	}
	return Reason(code)
}

// DriftKinds names each kind of drift as a person reads it.
var DriftKinds = map[invitation.DriftKind]string{
	invitation.Unexplained:  "at Clerk, but no row explains it",
	invitation.Gone:         "of a row, but gone at Clerk",
	invitation.PendingAgain: "over by our row, but pending at Clerk",
}
