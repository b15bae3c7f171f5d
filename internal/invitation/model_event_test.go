package invitation_test

import (
	"fmt"

	"bulkinvite/internal/invitation"
)

// event is one thing that can happen to a world.
type event struct{ kind, a, b int8 }

const (
	evTick       = iota // a tick passes
	evClaim             // a claims alone (b 1) or in a bulk call
	evDecide            // a claim finds that row a needs no request
	evClerk             // Clerk answers request a in the way b
	evCrash             // the process of request a dies
	evCut               // the connection of request a breaks; it may still be on its way
	evArrive            // request a, for which nobody waits any more, arrives
	evRecord            // the answer to request a is written down
	evBegin             // a read that guards claims begins: a its stage, b Clerk looks early
	evEnd               // it ends; b: it fails on the way
	evSettleRead        // a read begins that is to settle attempt a; b Clerk looks early
	evSettleEnd         // it ends; b: it fails on the way
	evSettle            // what it showed is applied
	evForget            // the processes that read are dead: their reads guard nothing
	evAccept            // the person accepts invitation a
	evRevoke            // somebody revokes invitation a
	evSweep             // the program revokes invitation a
	evJoin              // the person becomes a user in another way
	evShow              // lists begin to show invitation a
	evStart             // batch 2 starts
	evPause             // batch a is paused
	evResume            // batch a is resumed
	evCancel            // batch a is cancelled
	evCancelRow         // the second half of that
	evRetry             // batch a is retried
	evDump              // the database is dumped
	evRestore           // and restored
)

var eventNames = []string{"tick", "claim", "decide", "clerk", "crash", "cut", "arrive", "record", "begin", "end", "settle read", "settle end", "settle", "forget",
	"accept", "revoke", "sweep", "join", "show", "start", "pause", "resume", "cancel", "cancel row", "retry", "dump", "restore"}

func (e event) String() string { return fmt.Sprintf("%s(%d,%d)", eventNames[e.kind], e.a, e.b) }

// The ways in which Clerk, and what lies before it, can answer.
const (
	honestly   = iota
	lostAfter  // it did it, the answer is lost
	lostBefore // a 5xx, nothing done
	throttled  // a 429
	unwritten  // it was never written
	rejecting
	silentAfter // the rest: bulk calls only
	silentBefore
	unnamedAfter
	unnamedBefore
	unfoundAfter
	unfoundBefore
	ways
)

// events lists what can happen. A fault is left out where none is left.
func (m *model) events(w *world, list []event) []event {
	list = m.requestEvents(w, list[:0])
	list = m.readEvents(w, list)
	for r := range m.rows {
		if !w.waits(int(r)) {
			continue
		}
		switch act := m.ask(w, int(r), moment{}); {
		case act.Kind == invitation.Decide:
			list = append(list, event{evDecide, r, 0})
		case act.Kind == invitation.Claim && int8(w.triesMade()) < m.tries:
			list = append(list, event{evClaim, r, 1})
			if m.bulk && !act.Alone {
				list = append(list, event{evClaim, r, 0})
			}
		}
	}
	list = m.peopleEvents(w, list)
	if m.restore {
		if !w.dumped && w.rows[0].outcome == 0 {
			list = append(list, event{evDump, 0, 0})
		} else if w.dumped && !w.restored && m.quiet(w) {
			list = append(list, event{evRestore, 0, 0})
		}
	}
	return append(list, event{evTick, 0, 0})
}

// quiet says that no request can do anything any more: work is stopped.
func (m *model) quiet(w *world) bool {
	for _, r := range w.requests {
		if r.phase != 0 {
			return false
		}
	}
	return true
}

func (m *model) requestEvents(w *world, list []event) []event {
	for k := range w.requests {
		q := &w.requests[k]
		a := int8(k)
		switch q.phase {
		case underway:
			list = append(list, event{evClerk, a, honestly})
			if w.faults == 0 {
				continue
			}
			for way := int8(lostAfter); way < ways; way++ {
				if way == rejecting && !m.reject || way >= silentAfter && w.tries[k].alone {
					continue
				}
				if (way == lostAfter || way == silentAfter || way == unnamedAfter || way == unfoundAfter) && m.stands(w) != replyNone {
					continue // the same as before
				}
				list = append(list, event{evClerk, a, way})
			}
			list = append(list, event{evCrash, a, 0}, event{evCut, a, 0})
		case orphan:
			if m.stands(w) == replyNone {
				list = append(list, event{evArrive, a, 0})
			}
		}
		if q.reply != replyNone {
			list = append(list, event{evRecord, a, 0})
			if w.faults > 0 && q.phase == 0 {
				list = append(list, event{evCrash, a, 0})
			}
		}
	}
	return list
}

// stands is what Clerk would refuse the person for: replyExists, replyUser or replyNone.
func (m *model) stands(w *world) int8 {
	if m.lenient {
		return replyNone
	}
	if w.user {
		return replyUser
	}
	for i := range w.invs {
		if s := m.statusNow(w, i); s == isPending || s == isExpired && m.blocks {
			return replyExists
		}
	}
	return replyNone
}

func (m *model) readEvents(w *world, list []event) []event {
	modes := int8(1)
	if m.slowReads {
		modes = 2
	}
	if w.guard.stage == 0 {
		lists, users := m.wanted(w)
		for early := range modes {
			if lists {
				list = append(list, event{evBegin, readLists, early})
			}
			if users {
				list = append(list, event{evBegin, readUsers, early})
			}
		}
		if w.faults > 0 && m.slowReads && !w.lists.zero() {
			list = append(list, event{evForget, 0, 0})
		}
	} else {
		list = append(list, event{evEnd, 0, 0})
		if w.faults > 0 {
			list = append(list, event{evEnd, 0, 1})
		}
	}
	switch w.settling.stage {
	case 0:
		for r := range int(m.rows) {
			k := w.openTry(r)
			if k < 0 || w.now.before(w.due(k)) {
				continue
			}
			for early := range modes {
				list = append(list, event{evSettleRead, int8(k), early})
			}
		}
	case wasRead:
		list = append(list, event{evSettle, 0, 0})
	default:
		list = append(list, event{evSettleEnd, 0, 0})
		if w.faults > 0 {
			list = append(list, event{evSettleEnd, 0, 1})
		}
	}
	return list
}

// due is when a read for an attempt may begin: after its answer, if one came that did not decide, though for many
// kinds it is only read later.
func (w *world) due(k int) moment {
	t := w.tries[k]
	if t.answered.zero() || t.again {
		return t.ended().plus(settleTicks)
	}
	return t.answered
}

// ended is when Clerk has finished with an attempt at the latest. An answer that decides says so at once.
func (t try) ended() moment {
	end := t.started.plus(timeout)
	if t.answer != 0 || end.before(t.answered) {
		end = t.answered
	}
	return end
}

// wanted says which reads a claim asks for: see Worker.preflight.
func (m *model) wanted(w *world) (lists, users bool) {
	for r := range int(m.rows) {
		if !w.waits(r) {
			continue
		}
		act := m.ask(w, r, moment{})
		if act.Kind != invitation.Read {
			continue
		}
		stale := func(t moment) bool { return t.before(w.rows[r].started) || t.before(w.now.plus(-freshTicks)) }
		lists = lists || act.Lists || stale(w.lists)
		users = users || stale(w.rows[r].users)
	}
	return lists, users
}

func (m *model) peopleEvents(w *world, list []event) []event {
	for i := range w.invs {
		v := &w.invs[i]
		a := int8(i)
		if v.status == 0 {
			continue
		}
		if !v.visible {
			list = append(list, event{evShow, a, 0})
		}
		if m.statusNow(w, i) != isPending {
			continue
		}
		if m.accept {
			list = append(list, event{evAccept, a, 0})
		}
		if m.revoke && w.faults > 0 {
			list = append(list, event{evRevoke, a, 0})
		}
		if r := v.by - 1; m.sweep && r >= 0 && w.rows[r].inv == a+1 && w.rows[r].status == isPending && !w.anyOpen() {
			list = append(list, event{evSweep, a, 0})
		}
	}
	if m.joins && !w.user {
		list = append(list, event{evJoin, 0, 0})
	}
	for r := range m.rows {
		e := &w.rows[r]
		if e.state == isDraft {
			list = append(list, event{evStart, r, 0})
		}
		if m.cancel && e.outcome == 0 && (e.state == isRunning || e.state == isPaused) {
			list = append(list, event{evCancel, r, 0})
		}
		if e.state == isCancelled && e.outcome == 0 && w.openTry(int(r)) < 0 {
			list = append(list, event{evCancelRow, r, 0})
		}
		if m.pause && e.outcome == 0 && e.state == isRunning {
			list = append(list, event{evPause, r, 0})
		}
		if e.state == isPaused {
			list = append(list, event{evResume, r, 0})
		}
		if m.retry && modelOutcomes[e.outcome] == invitation.Failed {
			list = append(list, event{evRetry, r, 0})
		}
	}
	return list
}

// happen lets an event happen to a world.
func (m *model) happen(w *world, e event) {
	a := int(e.a)
	switch e.kind {
	case evTick:
		m.tick(w)
	case evClaim:
		m.claim(w, a, e.b == 1)
	case evDecide:
		m.settle(w, a, m.ask(w, a, moment{}), moment{})
	case evClerk:
		m.clerk(w, a, e.b)
	case evCrash:
		w.faults--
		q := &w.requests[a]
		if q.reply = replyNone; q.phase == underway {
			q.phase, q.until = orphan, moment{w.tries[a].started.tick + timeout, 0}
		}
	case evCut:
		w.faults--
		w.requests[a] = request{phase: orphan, reply: replyLost, until: moment{w.tries[a].started.tick + timeout, 0}}
	case evArrive:
		w.requests[a].phase, w.requests[a].until = 0, moment{}
		m.make(w, a)
	case evRecord:
		m.record(w, a)
	case evBegin:
		m.beginPass(w, &w.guard, e.a, 0, e.b == 1)
		if !m.slowReads {
			m.endPass(w, &w.guard, false)
		}
	case evEnd:
		w.faults -= e.b
		m.endPass(w, &w.guard, e.b == 1)
	case evSettleRead:
		m.beginPass(w, &w.settling, readLists, e.a+1, e.b == 1)
		if !m.slowReads {
			m.endPass(w, &w.settling, false)
		}
	case evSettleEnd:
		w.faults -= e.b
		m.endPass(w, &w.settling, e.b == 1)
	case evSettle:
		m.applySettled(w)
	case evForget:
		w.faults--
		w.lists, w.rows[0].users, w.rows[1].users = moment{}, moment{}, moment{}
	case evAccept:
		w.invs[a].status, w.user = isAccepted, true
		m.tell(w, fact{kind: invitationAccepted, invitation: e.a + 1})
	case evRevoke:
		w.faults--
		w.invs[a].status = isRevoked
		m.tell(w, fact{kind: invitationRevoked, invitation: e.a + 1})
	case evSweep: // see ledger.CloseRevoke
		w.invs[a].status, w.rows[w.invs[a].by-1].status = isRevoked, isRevoked
		if !w.seen[a].last.zero() {
			w.seen[a].status = isRevoked
		}
		m.tell(w, fact{kind: invitationRevoked, invitation: e.a + 1})
		m.tell(w, fact{kind: sightingRecorded, invitation: e.a + 1, status: invitation.Revoked})
	case evJoin:
		w.user = true
		m.tell(w, fact{kind: personJoined})
	case evShow:
		w.invs[a].visible = true
	case evStart:
		w.rows[a].state, w.rows[a].started = isRunning, w.happens()
		m.tell(w, fact{kind: batchStarted, row: e.a + 1})
	case evPause:
		w.rows[a].state = isPaused
		m.tell(w, fact{kind: batchPaused, row: e.a + 1})
	case evResume:
		w.rows[a].state = isRunning
		m.tell(w, fact{kind: batchResumed, row: e.a + 1})
	case evCancel:
		w.rows[a].state = isCancelled
		m.tell(w, fact{kind: batchCancelled, row: e.a + 1})
	case evCancelRow:
		w.rows[a] = entry{state: isCancelled, started: w.rows[a].started, outcome: number(modelOutcomes, invitation.Cancelled)}
		m.tell(w, fact{kind: outcomeRecorded, row: e.a + 1, outcome: invitation.Cancelled})
	case evRetry: // see batch.RetryBatch
		failed := w.rows[a]
		w.rows[a] = entry{state: isRunning, started: failed.started, alone: failed.alone, users: failed.users}
		m.tell(w, fact{kind: rowReopened, row: e.a + 1})
	case evDump:
		w.dump, w.dumped = w.book, true
		m.tell(w, fact{kind: backedUp})
	case evRestore:
		m.restoreDump(w)
	}
}

// tick lets a tick pass. Within the settle time, unless the setting says otherwise,
// lists show what was made, and requests have arrived or never will.
func (m *model) tick(w *world) {
	var was [maxInvites]int8
	for i := range w.invs {
		was[i] = m.statusNow(w, i)
	}
	w.now.tick++
	for i := range w.invs {
		if m.statusNow(w, i) != was[i] {
			m.tell(w, fact{kind: invitationExpired, invitation: int8(i + 1)})
		}
	}
	lag := int8(settleTicks)
	if m.lateLists {
		lag *= 2
	}
	for i := range w.invs {
		if v := &w.invs[i]; v.status != 0 && w.now.tick >= v.made.tick+lag {
			v.visible = true
		}
	}
	for k := range w.requests {
		q := &w.requests[k]
		if q.phase == underway && w.now.tick >= w.tries[k].started.tick+timeout+settleTicks {
			*q = request{reply: replyLost} // as a process finds that was stopped until now
		}
		if q.phase == orphan && w.now.tick > q.until.tick && !m.lateArrival {
			q.phase, q.until = 0, moment{}
		}
	}
}

// clerk lets Clerk answer request k.
func (m *model) clerk(w *world, k int, way int8) {
	if way != honestly {
		w.faults--
	}
	stands := m.stands(w)
	made := func() {
		if stands == replyNone {
			m.make(w, k)
		}
	}
	q := &w.requests[k]
	*q = request{}
	switch way {
	case honestly:
		made()
		q.reply = stands
		if stands == replyNone {
			q.reply = replyCreated
		}
	case lostAfter:
		made()
		q.reply = replyLost
	case lostBefore:
		q.reply = replyLost
	case throttled:
		q.reply = replyRefused
	case unwritten:
		q.reply = replyNotSent
	case rejecting:
		q.reply = replyRejected
	case silentAfter, unnamedAfter, unfoundAfter:
		made()
		q.reply = map[int8]int8{silentAfter: replySilent, unnamedAfter: replyUnnamed, unfoundAfter: replyUnfound}[way]
	case silentBefore, unnamedBefore, unfoundBefore:
		q.reply = map[int8]int8{silentBefore: replySilent, unnamedBefore: replyUnnamed, unfoundBefore: replyUnfound}[way]
	}
}

// make makes an invitation for request k.
func (m *model) make(w *world, k int) {
	i := 0
	for i < maxInvites && w.invs[i].status != 0 {
		i++
	}
	if i == maxInvites {
		m.full = true
		return
	}
	t := &w.tries[k]
	w.invs[i] = invite{made: w.happens(), by: t.row, try: int8(k + 1), status: isPending}
	m.tell(w, fact{kind: invitationMailed, row: t.row, attempt: int16(t.name), invitation: int8(i + 1)})
}

// applySettled is the transaction after a settling read.
func (m *model) applySettled(w *world) {
	p := w.settling
	w.settling = pass{}
	t := &w.tries[p.try-1]
	if !t.open {
		return
	}
	row := int(t.row - 1)
	act := m.ask(w, row, p.begun)
	if (act.Kind == invitation.Decide || act.Kind == invitation.Claim) && act.Close != "" {
		m.settle(w, row, act, p.begun)
	}
	t.again = act.Kind == invitation.Read && !t.answered.zero()
}

// restoreDump puts the ledger back to what it was. What was made since by
// attempts that it does not know is forgotten. A restore takes longer than lists
// lag.
func (m *model) restoreDump(w *world) {
	m.tick(w)
	w.book, w.dump, w.restored = w.dump, book{}, true
	w.guard, w.settling = pass{}, pass{}
	n := int8(w.triesMade())
	for i := range w.invs {
		if v := &w.invs[i]; v.by > 0 && v.try > n {
			v.by, v.try = -v.by, 0
		}
	}
	for k := range w.requests {
		w.requests[k] = request{}
	}
	m.tell(w, fact{kind: restored})
	if m.reaped {
		w.lists, w.rows[0].users, w.rows[1].users = moment{}, moment{}, moment{}
	}
}
