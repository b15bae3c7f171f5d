package words

import (
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
)

// SweepStates names the states of a sweep as a person reads them.
var SweepStates = map[revocation.SweepState]string{
	revocation.SweepDry: "a dry run: nothing was revoked", revocation.SweepHeld: "held: nothing is revoked before somebody allows it",
	revocation.SweepRunning: "going on", revocation.SweepDone: "done",
}

// SweepReasons says why invitations were left alone, as a person reads it: pairs
// of what the database says and what we do.
var SweepReasons = [][2]string{
	{string(revocation.RevokeAccepted), "had been accepted"},
	{string(revocation.RevokeBefore), "had been revoked"},
	{string(revocation.RevokeGone), "Clerk does not know them"},
	{revocation.SkipExpired, "have expired"},
	{revocation.SkipOwnExpiry, "live to an expiry that their batch or row set"},
	{revocation.SkipOpenAttempt, "a request for the person is under way"},
	{revocation.SkipWaitingRow, "a row for the person waits to be sent"},
	{revocation.SkipOtherSweep, "another sweep is at them"},
	{revocation.SkipSuperseded, "left to a newer sweep"},
	{revocation.SkipStopped, "left when it was stopped"},
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
var DriftKinds = map[ledger.DriftKind]string{
	ledger.Unexplained:  "at Clerk, but no row explains it",
	ledger.Gone:         "of a row, but gone at Clerk",
	ledger.PendingAgain: "over by our row, but pending at Clerk",
}
