package invitation_test

import (
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/invitation"
)

// judge judges a history by all invariants. It returns the first that is broken,
// and how; "" if none is.
func judge(history []fact) string {
	var p past
	for _, f := range history {
		if broken := p.observe(f, invariants); broken != "" {
			return broken
		}
	}
	return ""
}

// Histories that break nothing.
var (
	// confirmed has a row of a batch that runs.
	confirmed = []fact{{kind: rowAdded, row: 1}, {kind: batchStarted, row: 1}}
	// asked has an open attempt for it.
	asked = append(slices.Clip(confirmed), fact{kind: attemptOpened, row: 1, attempt: 1})
	// inMail has an invitation that it made, and no answer.
	inMail = append(slices.Clip(asked), fact{kind: invitationMailed, row: 1, attempt: 1, invitation: 1})
	// answered has the answer too.
	answered = append(slices.Clip(inMail),
		fact{kind: answerRecorded, row: 1, attempt: 1, invitation: 1, answer: invitation.AnswerCreated},
		fact{kind: attemptClosed, row: 1, attempt: 1})
	// invitedRow has the outcome.
	invitedRow = append(slices.Clip(answered),
		fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.Invited})
	// secondRow has another row of the person.
	secondRow = append(slices.Clip(invitedRow), fact{kind: rowAdded, row: 2}, fact{kind: batchStarted, row: 2})
	// revokedFirst has a row that was to resend it, and has revoked it.
	revokedFirst = append(slices.Clip(invitedRow),
		fact{kind: rowAdded, row: 2, resend: true}, fact{kind: batchStarted, row: 2},
		fact{kind: attemptOpened, row: 2, attempt: 2, invitation: 1},
		fact{kind: invitationRevoked, row: 2, attempt: 2, invitation: 1},
		fact{kind: answerRecorded, row: 2, attempt: 2, answer: invitation.AnswerRevoked},
		fact{kind: sightingRecorded, invitation: 1, status: invitation.Revoked},
		fact{kind: attemptClosed, row: 2, attempt: 2})
	// resent has the new invitation.
	resent = append(slices.Clip(revokedFirst),
		fact{kind: attemptOpened, row: 2, attempt: 3},
		fact{kind: invitationMailed, row: 2, attempt: 3, invitation: 2},
		fact{kind: answerRecorded, row: 2, attempt: 3, invitation: 2, answer: invitation.AnswerCreated},
		fact{kind: attemptClosed, row: 2, attempt: 3},
		fact{kind: outcomeRecorded, row: 2, invitation: 2, outcome: invitation.Invited})
)

func TestInvariantsHold(t *testing.T) {
	t.Parallel()
	lost := append(slices.Clip(inMail), fact{kind: answerRecorded, row: 1, attempt: 1})
	for name, history := range map[string][]fact{
		"invited": append(slices.Clip(invitedRow), fact{kind: runEnded}),
		"found by reading": append(slices.Clip(lost),
			fact{kind: sightingRecorded, invitation: 1, status: invitation.Pending},
			fact{kind: attemptClosed, row: 1, attempt: 1},
			fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.Invited}, fact{kind: runEnded}),
		"rejected": append(slices.Clip(asked),
			fact{kind: answerRecorded, row: 1, attempt: 1, answer: invitation.AnswerRejected},
			fact{kind: attemptClosed, row: 1, attempt: 1, void: true},
			fact{kind: outcomeRecorded, row: 1, outcome: invitation.Rejected}, fact{kind: runEnded}),
		"cancelled": append(slices.Clip(confirmed), fact{kind: batchCancelled, row: 1},
			fact{kind: outcomeRecorded, row: 1, outcome: invitation.Cancelled}, fact{kind: runEnded}),
		"a user": append(slices.Clip(confirmed), fact{kind: personJoined}, fact{kind: userRecorded},
			fact{kind: outcomeRecorded, row: 1, outcome: invitation.AlreadyRegistered}, fact{kind: runEnded}),
		"a second row": append(slices.Clip(secondRow),
			fact{kind: outcomeRecorded, row: 2, invitation: 1, outcome: invitation.AlreadyInvited}, fact{kind: runEnded}),
		"a second row after it expired": append(slices.Clip(secondRow), fact{kind: invitationExpired, invitation: 1},
			fact{kind: attemptOpened, row: 2, attempt: 2},
			fact{kind: invitationMailed, row: 2, attempt: 2, invitation: 2}),
		"resent": append(slices.Clip(resent), fact{kind: runEnded}),
		"resent in a paused batch": append(append(slices.Clip(revokedFirst), fact{kind: batchPaused, row: 2}),
			resent[len(revokedFirst):]...),
		"a second row between the halves of a resend": append(slices.Clip(revokedFirst),
			fact{kind: rowAdded, row: 3}, fact{kind: batchStarted, row: 3},
			fact{kind: attemptOpened, row: 3, attempt: 3},
			fact{kind: invitationMailed, row: 3, attempt: 3, invitation: 2},
			fact{kind: answerRecorded, row: 3, attempt: 3, invitation: 2, answer: invitation.AnswerCreated},
			fact{kind: attemptClosed, row: 3, attempt: 3},
			fact{kind: outcomeRecorded, row: 3, invitation: 2, outcome: invitation.Invited},
			fact{kind: outcomeRecorded, row: 2, invitation: 2, outcome: invitation.AlreadyInvited}, fact{kind: runEnded}),
		"failed and retried": append(slices.Clip(asked),
			fact{kind: answerRecorded, row: 1, attempt: 1}, fact{kind: attemptClosed, row: 1, attempt: 1, void: true},
			fact{kind: outcomeRecorded, row: 1, outcome: invitation.Failed}, fact{kind: rowReopened, row: 1},
			fact{kind: attemptOpened, row: 1, attempt: 1}),
		"restored, and found by reading": append(slices.Clip(confirmed), fact{kind: backedUp},
			inMail[len(confirmed)], inMail[len(confirmed)+1], fact{kind: restored},
			fact{kind: sightingRecorded, invitation: 1, status: invitation.Pending},
			fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.AlreadyInvited}, fact{kind: runEnded}),
	} {
		if broken := judge(history); broken != "" {
			t.Errorf("%s: %s\n%s", name, broken, told(history))
		}
	}
}

// Each invariant must fail on histories that are right except for their last fact.
func TestInvariantsBreak(t *testing.T) {
	t.Parallel()
	create := fact{kind: attemptOpened, row: 2, attempt: 2}
	mail := fact{kind: invitationMailed, row: 2, attempt: 2, invitation: 2}
	breaks := map[string][][]fact{
		attemptBeforeRequest: {
			append(slices.Clip(confirmed), fact{kind: invitationMailed, row: 1, attempt: 1, invitation: 1}),
			// The attempt was closed meanwhile.
			append(slices.Clip(asked), fact{kind: attemptClosed, row: 1, attempt: 1, void: true},
				fact{kind: invitationMailed, row: 1, attempt: 1, invitation: 1}),
			append(slices.Clip(secondRow), create, fact{kind: invitationRevoked, row: 2, attempt: 2, invitation: 1}),
			// A restore has forgotten the attempt.
			append(append(slices.Clip(confirmed), fact{kind: backedUp}), asked[len(confirmed)], fact{kind: restored},
				fact{kind: invitationMailed, row: 1, attempt: 1, invitation: 1}),
		},
		onceUnlessOver: {
			append(slices.Clip(secondRow), create, mail),
			append(slices.Clip(inMail), fact{kind: invitationMailed, row: 1, attempt: 1, invitation: 2}),
			append(slices.Clip(secondRow), fact{kind: invitationAccepted, invitation: 1}, create, mail),
			// Nobody has read that it was revoked.
			append(slices.Clip(secondRow), fact{kind: invitationRevoked, invitation: 1}, create, mail),
			// The row's own is revoked, and known to be.
			append(slices.Clip(inMail), fact{kind: invitationRevoked, invitation: 1},
				fact{kind: sightingRecorded, invitation: 1, status: invitation.Revoked},
				fact{kind: invitationMailed, row: 1, attempt: 1, invitation: 2}),
			// A restore has forgotten that it was read.
			append(slices.Clip(secondRow), fact{kind: backedUp}, fact{kind: invitationRevoked, invitation: 1},
				fact{kind: sightingRecorded, invitation: 1, status: invitation.Revoked}, fact{kind: restored}, create, mail),
		},
		revokedWhenAsked: {
			append(slices.Clip(secondRow), fact{kind: attemptOpened, row: 2, attempt: 2, invitation: 1}),
		},
		resentWhenAsked: {
			append(slices.Clip(invitedRow), fact{kind: rowAdded, row: 2, resend: true}, fact{kind: batchStarted, row: 2},
				fact{kind: outcomeRecorded, row: 2, invitation: 1, outcome: invitation.AlreadyInvited}),
			append(slices.Clip(revokedFirst), fact{kind: batchPaused, row: 2},
				fact{kind: outcomeRecorded, row: 2, invitation: 1, outcome: invitation.AlreadyInvited}),
		},
		nothingUnconfirmed: {
			{fact{kind: attemptOpened, row: 1, attempt: 1}},
			{fact{kind: rowAdded, row: 1}, fact{kind: attemptOpened, row: 1, attempt: 1}},
			append(slices.Clip(confirmed), fact{kind: batchPaused, row: 1}, fact{kind: attemptOpened, row: 1, attempt: 1}),
			append(slices.Clip(confirmed), fact{kind: batchCancelled, row: 1},
				fact{kind: attemptOpened, row: 1, attempt: 1}),
			// The revocation did nothing: no resend was begun.
			append(slices.Clip(revokedFirst[:len(invitedRow)+3]), fact{kind: attemptClosed, row: 2, attempt: 2, void: true},
				fact{kind: batchPaused, row: 2}, fact{kind: attemptOpened, row: 2, attempt: 3}),
		},
		oneRequestAtATime: {
			append(slices.Clip(asked), fact{kind: rowAdded, row: 2}, fact{kind: batchStarted, row: 2}, create),
			append(slices.Clip(asked), fact{kind: attemptOpened, row: 1, attempt: 2}),
		},
		closedWhenDecided: {
			append(slices.Clip(answered[:len(answered)-1]),
				fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.Invited}),
			append(slices.Clip(invitedRow), fact{kind: attemptOpened, row: 1, attempt: 2}),
			append(slices.Clip(asked), fact{kind: runEnded}),
		},
		outcomeIsProven: {
			append(slices.Clip(inMail), fact{kind: attemptClosed, row: 1, attempt: 1},
				fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.Invited}),
			append(slices.Clip(confirmed), fact{kind: outcomeRecorded, row: 1, outcome: invitation.Invited}),
			append(slices.Clip(confirmed), fact{kind: outcomeRecorded, row: 1, outcome: invitation.AlreadyInvited}),
			append(slices.Clip(confirmed), fact{kind: invitationMailed, invitation: 1},
				fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.AlreadyInvited}),
			append(slices.Clip(confirmed), fact{kind: userRecorded},
				fact{kind: outcomeRecorded, row: 1, outcome: invitation.AlreadyRegistered}),
			append(slices.Clip(confirmed), fact{kind: personJoined},
				fact{kind: outcomeRecorded, row: 1, outcome: invitation.AlreadyRegistered}),
			append(slices.Clip(confirmed), fact{kind: outcomeRecorded, row: 1, outcome: invitation.Rejected}),
			append(slices.Clip(confirmed), fact{kind: outcomeRecorded, row: 1, outcome: invitation.Failed}),
			append(slices.Clip(confirmed), fact{kind: outcomeRecorded, row: 1, outcome: invitation.Cancelled}),
			append(slices.Clip(confirmed), fact{kind: outcomeRecorded, row: 1, outcome: invitation.Invalid}),
		},
		outcomeIsOwn: {
			append(slices.Clip(answered), fact{kind: batchCancelled, row: 1},
				fact{kind: outcomeRecorded, row: 1, outcome: invitation.Cancelled}),
			append(slices.Clip(confirmed), fact{kind: invitationMailed, invitation: 1},
				fact{kind: sightingRecorded, invitation: 1, status: invitation.Pending},
				fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.Invited}),
		},
		nobodyLeftWithout: {
			append(slices.Clip(revokedFirst), fact{kind: batchCancelled, row: 2},
				fact{kind: outcomeRecorded, row: 2, outcome: invitation.Cancelled}),
			append(slices.Clip(revokedFirst), fact{kind: runEnded}),
		},
		oneOutcomeForEachRow: {
			append(slices.Clip(invitedRow),
				fact{kind: outcomeRecorded, row: 1, invitation: 1, outcome: invitation.Invited}),
			append(slices.Clip(confirmed), fact{kind: rowReopened, row: 1}),
			append(slices.Clip(secondRow), fact{kind: runEnded}),
			append(slices.Clip(answered), fact{kind: batchCancelled, row: 2},
				fact{kind: outcomeRecorded, row: 2, outcome: invitation.Cancelled}),
		},
	}
	for _, rule := range invariants {
		if len(breaks[rule.name]) == 0 {
			t.Errorf("%s: no history breaks it", rule.name)
		}
		for _, history := range breaks[rule.name] {
			if broken := judge(history[:len(history)-1]); broken != "" {
				t.Errorf("%s: broken before the last fact: %s\n%s", rule.name, broken, told(history))
			}
			if broken := only(rule, history); !strings.HasPrefix(broken, rule.name+": ") {
				t.Errorf("%s: not broken by\n%s", rule.name, told(history))
			}
		}
	}
}

// only judges a history by one rule.
func only(rule invariant, history []fact) (broken string) {
	var p past
	for _, f := range history {
		broken = p.observe(f, []invariant{rule})
	}
	return broken
}
