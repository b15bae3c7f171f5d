package invitation_test

import (
	"slices"

	"bulkinvite/internal/invitation"
)

// overlook holds what Next says of a row against the rules that need no look at
// Clerk.
func (m *model) overlook(w *world, row int, settled moment, act invitation.Action) {
	e := &w.rows[row]
	k := w.openTry(row)
	switch {
	case e.outcome != 0:
		if act.Kind != invitation.Nothing {
			m.breaks("row %d is decided, and Next says %s", row+1, act.Kind)
		}
	case k >= 0:
		m.overlookOpen(w, k, settled, act)
	case e.state == isCancelled:
		if act.Outcome != invitation.Cancelled {
			m.breaks("row %d of a cancelled batch has no open attempt, and Next says %s %s", row+1, act.Kind, act.Outcome)
		}
	case e.state != isRunning:
		if act.Kind != invitation.Nothing {
			m.breaks("row %d does not run, and Next says %s", row+1, act.Kind)
		}
	case w.anyOpen():
		if act.Kind != invitation.Wait {
			m.breaks("another row of the person of row %d has an open attempt, and Next says %s", row+1, act.Kind)
		}
	case act.Kind == invitation.Claim:
		m.claimable(w, row, act)
	}
}

// claimable holds a claim against what guards it.
func (m *model) claimable(w *world, row int, act invitation.Action) {
	e := &w.rows[row]
	if act.Close != "" {
		m.breaks("row %d has no open attempt, and a claim closes one as %s", row+1, act.Close)
	}
	if w.now.before(e.notBefore) {
		m.breaks("row %d is claimed before its backoff has passed", row+1)
	}
	for _, t := range []moment{e.users, w.lists} {
		if !m.noPreflight && (t.before(e.started) || t.before(w.now.plus(-freshTicks))) {
			m.breaks("row %d is claimed though nobody has read lately", row+1)
		}
	}
	if !e.since.zero() && e.notBefore.time().Sub(e.since.time()) > m.patience() {
		m.breaks("row %d is claimed though it was retried for too long", row+1)
	}
	if e.alone != act.Alone {
		m.breaks("row %d is to go alone: %v, and Next says %v", row+1, e.alone, act.Alone)
	}
	if m.stoodIn(w, row) {
		m.breaks("row %d is claimed though an invitation stands that is known", row+1)
	}
}

// stoodIn says whether the ledger knows of an invitation that stands and was
// mailed for the other row.
func (m *model) stoodIn(w *world, row int) bool {
	o := w.rows[1-row]
	return modelOutcomes[o.outcome] == invitation.Invited && !m.knownOver(w, int(o.inv-1))
}

// knownOver says whether the ledger knows that an invitation is revoked or expired.
func (m *model) knownOver(w *world, i int) bool {
	if m.expiry > 0 && !w.now.before(w.invs[i].made.plus(m.expiry)) {
		return true
	}
	over := func(s int8) bool { return s == isRevoked || s == isExpired }
	return over(w.seen[i].status) || slices.ContainsFunc(w.rows[:], func(e entry) bool { return e.inv == int8(i+1) && over(e.status) })
}

// overlookOpen holds what Next says of a row with an open attempt against the
// proof that closes it.
func (m *model) overlookOpen(w *world, k int, settled moment, act invitation.Action) {
	t := &w.tries[k]
	if act.Kind == invitation.Read {
		if act.At.IsZero() || !settled.zero() && !act.At.After(settled.time()) {
			m.breaks("attempt %d has been read for, and Next wants the same again", k+1)
		}
		return
	}
	if act.Kind != invitation.Decide && act.Kind != invitation.Claim || act.Close == "" {
		m.breaks("attempt %d is open, and Next says %s", k+1, act.Kind)
		return
	}
	if act.Kind == invitation.Claim && act.Close != invitation.ClosedRefused && act.Close != invitation.ClosedNotThere {
		m.breaks("attempt %d is closed as %s, and its row goes again", k+1, act.Close)
	}
	answers := map[string][]invitation.Answer{
		invitation.ClosedAnswered: {invitation.AnswerCreated, invitation.AnswerRejected, invitation.AnswerUser},
		invitation.ClosedRefused:  {invitation.AnswerRefused},
		invitation.ClosedExists:   {invitation.AnswerExists, invitation.NoAnswer},
		invitation.ClosedOurs:     {invitation.AnswerExists, invitation.AnswerUser, invitation.NoAnswer},
		invitation.ClosedNotThere: {invitation.NoAnswer},
		invitation.ClosedUser:     {invitation.NoAnswer},
	}
	if !slices.Contains(answers[act.Close], modelAnswers[t.answer]) {
		m.breaks("attempt %d, of whose answer %q is known, is closed as %s", k+1, modelAnswers[t.answer], act.Close)
	}
	if act.Close != invitation.ClosedOurs && t.answer == 0 && settled.before(t.ended().plus(settleTicks)) {
		m.breaks("attempt %d is closed as %s without a read that began a settle time after its end", k+1, act.Close)
	}
	if act.Close == invitation.ClosedNotThere && act.ReadID != settleRead {
		m.breaks("attempt %d is closed as not there, and no read is named that proves it", k+1)
	}
}

// proven holds a decision against the proof in the ledger that it names.
func (m *model) proven(w *world, row int, act invitation.Action, settled moment) {
	e := &w.rows[row]
	i := int(number(modelIDs, act.InvitationID)) - 1
	if m.lateArrival {
		return
	}
	bad := func(what string) {
		m.breaks("row %d is decided %s (%s): %s", row+1, act.Outcome, act.Reason, what)
	}
	var t try // the attempt that is named as proof
	if act.AttemptID > 0 {
		if t = w.tries[act.AttemptID-1]; t.row != int8(row+1) {
			bad("the attempt that is to prove it is another row's")
		}
	}
	sighted := i >= 0 && act.ReadID == listRead+int64(i+1) && !w.seen[i].last.zero()
	since := e.started
	if oldest := w.now.plus(-freshTicks); since.before(oldest) {
		since = oldest
	}
	switch act.Outcome {
	case invitation.Invited:
		switch {
		case i < 0:
			bad("no invitation is named")
		case act.AttemptID == 0 || !(t.answer == replyCreated && t.inv == int8(i+1)) && !sighted:
			bad("neither an answer nor a read proves it")
		case w.invs[i].by == int8(row+1) && w.invs[i].try != int8(act.AttemptID):
			bad("another attempt made that invitation")
		}
	case invitation.AlreadyInvited:
		o := w.rows[1-row]
		byOther := i >= 0 && modelOutcomes[o.outcome] == invitation.Invited && o.inv == int8(i+1)
		switch {
		case i < 0 && (t.answer != replyExists || act.ReadID != settleRead || settled.before(t.answered.plus(settleTicks))):
			bad("Clerk did not say so, or it was not read late enough which one it is")
		case i < 0:
		case byOther && m.knownOver(w, i) && (w.told(1-row) || act.Reason != "made_since_the_batch_began"):
			bad("that invitation is known to be over")
		case byOther:
		case !sighted:
			bad("no read shows that invitation")
		case w.seen[i].status == isPending && t.answer != replyExists && w.seen[i].last.before(since) && act.Reason == "pending_at_clerk":
			bad("what was read may have changed")
		}
	case invitation.AlreadyRegistered:
		if t.answer != replyUser && (act.ReadID != userRead || w.seenUser.last.before(since)) {
			bad("neither an answer nor a read proves it")
		}
	case invitation.Rejected:
		if t.answer != replyRejected {
			bad("no answer proves it")
		}
	case invitation.Failed:
		if e.since.zero() || w.now.time().Sub(e.since.time()) <= m.patience() || e.state != isRunning {
			bad("it was not retried for long enough")
		}
	case invitation.Cancelled:
		if e.state != isCancelled {
			bad("its batch is not cancelled")
		}
	default:
		bad("Next can't know that")
	}
}

// truth holds a world against what no fact shows yet: that no request of a decided
// row may still arrive.
func (m *model) truth(w *world) {
	if m.lateArrival || m.lateLists {
		return
	}
	for k, t := range w.tries {
		if t.row > 0 && w.rows[t.row-1].outcome != 0 && w.requests[k].phase != 0 {
			m.breaks("row %d is decided, and its request %d may still arrive", t.row, k+1)
		}
	}
}

// ended says whether every row has ended.
func (m *model) ended(w *world) bool {
	for r := range m.rows {
		if w.rows[r].outcome == 0 {
			return false
		}
	}
	return true
}

// fair is what happens next where nothing goes wrong any more: batches run,
// Clerk answers, answers are written down, reads are made, and time passes.
func (m *model) fair(w *world) event {
	for r := range m.rows {
		switch e := &w.rows[r]; {
		case e.outcome != 0:
		case e.state == isDraft:
			return event{evStart, r, 0}
		case e.state == isPaused:
			return event{evResume, r, 0}
		case e.state == isCancelled && w.openTry(int(r)) < 0:
			return event{evCancelRow, r, 0}
		}
	}
	for k := range w.requests {
		switch {
		case w.requests[k].reply != replyNone:
			return event{evRecord, int8(k), 0}
		case w.requests[k].phase == underway:
			return event{evClerk, int8(k), honestly}
		}
	}
	switch w.settling.stage {
	case wasRead:
		return event{evSettle, 0, 0}
	case readLists:
		return event{evSettleEnd, 0, 0}
	}
	if w.guard.stage != 0 {
		return event{evEnd, 0, 0}
	}
	for r := range m.rows {
		if k := w.openTry(int(r)); k >= 0 {
			act := m.ask(w, int(r), moment{})
			if !w.now.before(w.due(k)) && (w.tries[k].again || act.Kind != invitation.Read || !act.At.After(w.now.time())) {
				return event{evSettleRead, int8(k), 0}
			}
		}
	}
	for r := range m.rows {
		if w.waits(int(r)) {
			switch act := m.ask(w, int(r), moment{}); act.Kind {
			case invitation.Decide:
				return event{evDecide, r, 0}
			case invitation.Claim:
				return event{evClaim, r, 1}
			}
		}
	}
	switch lists, users := m.wanted(w); {
	case lists:
		return event{evBegin, readLists, 0}
	case users:
		return event{evBegin, readUsers, 0}
	}
	return event{evTick, 0, 0}
}
