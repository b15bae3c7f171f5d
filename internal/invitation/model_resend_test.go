package invitation_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/invitation"
)

// A model of a resend around the real [Next]: a person with one
// invitation from before, a row that is to send it again, perhaps another row of
// theirs, and other people who want the same budget. Clerk refuses nobody for an
// invitation that stands, so that only the program keeps a person from a second open
// door. Random walks through everything that can happen, each of which is then led
// fairly to its end.

// door is an invitation at Clerk, with what lists may still show of it.
type door struct {
	id          string
	status, was invitation.Status
	changed     time.Time // lists show it as it was for a settle time at most
	created     time.Time
}

// ownRevoke is a revoke of a row's own in the ledger.
type ownRevoke struct {
	id                string
	started, deadline time.Time
	open              bool
	nothing           bool // proven to have done nothing
	unsent            bool // it never came to Clerk
}

// resendRow is a row of the person.
type modelRow struct {
	invitation.Row
	number   int8 // in the history
	outcome  invitation.Outcome
	reason   string
	made     string // its invitation, if it is invited
	decided  time.Time
	attempts []invitation.Attempt
	revokes  []ownRevoke
	asked    bool // a create was claimed since its revoke was done
	sentAt   time.Time
}

// sending is what a process has in hand: a revoke or a create of a row.
type sending struct {
	row      *modelRow
	attempt  int // -1: it is a revoke
	revoke   int
	reply    string
	deadline time.Time
}

type resendModel struct {
	dice *rand.Rand
	now  time.Time
	user bool

	doors    []door
	rows     []*modelRow
	status   map[string]invitation.Status // of invitations, as the rows that made them have it
	seen     map[string]invitation.Sighting
	seenUser invitation.Sighting
	guard    time.Time // when the reads that guard a claim began
	out      *sending
	ours     bool // a revoke of ours came to Clerk and did something
	faults   int
	path     []string
	broken   string
	past     past // what the invariants remember of the history
	history  []fact

	limit  int         // creates in a window
	spent  []time.Time // when the creates began
	frozen time.Time   // a 429 closed the bucket until then
	probe  bool        // no create was answered since
}

// The rows of a history: one from before, which was invited with the invitation
// that stands, the one that is to send it again, and another.
const earlierRow, resendRow, otherRow = 1, 2, 3

const (
	resendSettle  = 15 * time.Second
	resendTimeout = 20 * time.Second
	resendWindow  = 4 * time.Minute
	resendFreeze  = time.Minute
	resendBackoff = time.Minute
)

func newResendModel(seed uint64) *resendModel {
	m := &resendModel{dice: rand.New(rand.NewPCG(seed, 7)), now: began, seen: map[string]invitation.Sighting{},
		status: map[string]invitation.Status{"inv_old": invitation.Pending}, faults: 3}
	m.limit = 1 + m.dice.IntN(3)
	m.doors = []door{{id: "inv_old", status: invitation.Pending, was: invitation.Pending, created: began.Add(-240 * time.Hour), changed: began.Add(-240 * time.Hour)}}
	row := &modelRow{number: resendRow, Row: waitingRow(again, func(r *invitation.Row) {
		r.Repeat, r.Preflight, r.Alone = m.dice.IntN(2) == 0, m.dice.IntN(4) > 0, true
		r.Resend = seed%8 > 0
	})}
	m.rows = append(m.rows, row)
	for _, f := range []fact{
		{kind: rowAdded, row: earlierRow},
		{kind: batchStarted, row: earlierRow},
		{kind: attemptOpened, row: earlierRow, attempt: 1},
		{kind: invitationMailed, row: earlierRow, attempt: 1, invitation: 1},
		{kind: answerRecorded, row: earlierRow, attempt: 1, invitation: 1, answer: invitation.AnswerCreated},
		{kind: attemptClosed, row: earlierRow, attempt: 1},
		{kind: outcomeRecorded, row: earlierRow, invitation: 1, outcome: invitation.Invited},
		{kind: rowAdded, row: resendRow, resend: row.Resend},
		{kind: batchStarted, row: resendRow},
	} {
		m.tell(f)
	}
	if seed%3 > 0 {
		other := &modelRow{number: otherRow, Row: waitingRow(func(r *invitation.Row) {
			r.RowID, r.Preflight, r.Alone = invitation.RowID{Batch: r.Batch + 1, Row: 1}, m.dice.IntN(4) > 0, true
			if r.Resend = m.dice.IntN(2) == 0; r.Resend {
				r.Cooldown, r.Repeat = 72*time.Hour, m.dice.IntN(2) == 0
			}
		})}
		m.rows = append(m.rows, other)
		m.tell(fact{kind: rowAdded, row: otherRow, resend: other.Resend})
		m.tell(fact{kind: batchStarted, row: otherRow})
	}
	return m
}

// tell tells the invariants what happens.
func (m *resendModel) tell(f fact) {
	f.at = m.now
	m.history = append(m.history, f)
	if broken := m.past.observe(f, invariants); broken != "" {
		m.breaks("%s", broken)
	}
}

func (m *resendModel) breaks(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// doorNumber is the number of an invitation in the history.
func (m *resendModel) doorNumber(id string) int8 {
	return int8(slices.IndexFunc(m.doors, func(d door) bool { return d.id == id }) + 1)
}

// Numbers of attempts in the history.
func (r *modelRow) createNumber(i int) int16 { return int16(r.number)*1000 + int16(2*i) + 2 }
func (r *modelRow) revokeNumber(i int) int16 { return int16(r.number)*1000 + int16(2*i) + 501 }

// open is the row's create that is open; -1: none.
func (r *modelRow) open() int {
	return slices.IndexFunc(r.attempts, func(a invitation.Attempt) bool { return a.Open })
}

// revoking is the row's revoke that is open; -1: none.
func (r *modelRow) revoking() int {
	return slices.IndexFunc(r.revokes, func(r ownRevoke) bool { return r.open })
}

// claimed reports whether the person is in a request whose end is not known.
func (m *resendModel) claimed() bool {
	return slices.ContainsFunc(m.rows, func(r *modelRow) bool { return r.open() >= 0 || r.revoking() >= 0 })
}

// evidence is what ledger.Load puts together.
func (m *resendModel) evidence(r *modelRow, settled time.Time) (invitation.Row, invitation.Evidence) {
	row := r.Row
	row.Outcome = r.outcome
	ev := invitation.Evidence{Now: m.now, Settle: resendSettle, GiveUp: time.Hour, Fresh: fresh, Slack: 0,
		Coverage: invitation.Coverage{Users: m.guard, Invitations: m.guard, Settled: settled},
		Attempts: slices.Clone(r.attempts),
		Others:   []invitation.Other{{RowID: invitation.RowID{Batch: 9, Row: 1}, Outcome: invitation.Invited, Status: m.status["inv_old"], InvitationID: "inv_old", DecidedAt: began.Add(-239 * time.Hour)}}}
	taken := map[string]bool{"inv_old": true}
	for _, o := range m.rows {
		if o == r || o.outcome != "" && o.outcome != invitation.Invited {
			continue
		}
		taken[o.made] = true
		ev.Others = append(ev.Others, invitation.Other{RowID: o.RowID, Outcome: o.outcome, Status: m.status[o.made], InvitationID: o.made,
			DecidedAt: o.decided, Open: o.open() >= 0 || o.revoking() >= 0, Owed: o.Owed && o.outcome == ""})
		if o.sentAt.After(ev.Resent) {
			ev.Resent = o.sentAt
		}
	}
	for _, d := range m.doors {
		if s, ok := m.seen[d.id]; ok {
			s.Taken = taken[d.id]
			ev.Sightings = append(ev.Sightings, s)
		}
	}
	if m.seenUser.User {
		ev.Sightings = append(ev.Sightings, m.seenUser)
	}
	for i, v := range r.revokes {
		if row.Owed && !v.nothing {
			ev.Revoked = append(ev.Revoked, invitation.OwnRevoke{Attempt: int64(i), InvitationID: v.id, Open: v.open})
		}
	}
	return row, ev
}

func (m *resendModel) next(r *modelRow, settled time.Time) invitation.Action {
	return invitation.Next(m.evidence(r, settled))
}

// read is a pass over users and both lists, which may lag.
func (m *resendModel) read() time.Time {
	begun := m.now
	for _, d := range m.doors {
		shown := d.status
		if lag := m.now.Sub(d.changed) < resendSettle && m.dice.IntN(2) == 0; lag && d.was == "" {
			continue
		} else if lag {
			shown = d.was
		}
		s, known := m.seen[d.id]
		if final := s.Status == invitation.Revoked || s.Status == invitation.Accepted; final && shown == invitation.Pending {
			continue
		}
		if !known {
			s = invitation.Sighting{ID: d.id, CreatedAt: d.created, FirstSeen: m.now}
		}
		s.Status, s.LastSeen, s.ReadID = shown, begun, 1
		m.seen[d.id] = s
		if m.status[d.id] != invitation.Revoked { // which its row says whatever a list shows
			m.tell(fact{kind: sightingRecorded, invitation: m.doorNumber(d.id), status: shown})
		}
	}
	if m.user {
		m.seenUser = invitation.Sighting{ID: "user_1", User: true, FirstSeen: m.now, LastSeen: begun, ReadID: 1}
		m.tell(fact{kind: userRecorded})
	}
	m.now = m.now.Add(time.Millisecond)
	return begun
}

// stand records where an invitation stands, as standing in package ledger does.
func (m *resendModel) stand(id string, s invitation.Status) {
	m.status[id] = s
	if g, ok := m.seen[id]; ok {
		g.Status = s
		m.seen[id] = g
	}
	m.tell(fact{kind: sightingRecorded, invitation: m.doorNumber(id), status: s})
	if s == invitation.Accepted {
		m.tell(fact{kind: userRecorded}) // for all rows of the person
	}
}

// settle is ledger.Settle of an action on a row.
func (m *resendModel) settle(r *modelRow, act invitation.Action) {
	if i := r.open(); i >= 0 && act.Close != "" {
		r.attempts[i].Open, r.attempts[i].Resolution = false, act.Close
		m.tell(fact{kind: attemptClosed, row: r.number, attempt: r.createNumber(i), void: act.Kind == invitation.Claim})
	}
	if act.Kind == invitation.Decide {
		m.decide(r, act.Outcome, act.Reason, act.InvitationID)
	}
}

func (m *resendModel) decide(r *modelRow, outcome invitation.Outcome, reason, id string) {
	r.outcome, r.reason, r.decided = outcome, reason, m.now
	if outcome == invitation.Invited {
		r.made = id
		if m.status[id] = invitation.Pending; m.seen[id].Status != "" {
			m.status[id] = m.seen[id].Status
		}
		if r.Repeat && r.sentAt.IsZero() {
			r.sentAt = m.now
		}
	}
	m.tell(fact{kind: outcomeRecorded, row: r.number, outcome: outcome, invitation: m.doorNumber(id)})
}

// closeRevoke is ledger.CloseOwnRevoke. A person who has just lost an invitation can
// be given another at once, unless Clerk has closed the bucket meanwhile.
func (m *resendModel) closeRevoke(r *modelRow, i int, nothing, done bool) {
	r.revokes[i].open, r.revokes[i].nothing = false, nothing
	m.tell(fact{kind: attemptClosed, row: r.number, attempt: r.revokeNumber(i), void: nothing})
	if r.Owed, r.asked = done, false; !done {
		r.sentAt = time.Time{}
	} else if m.free() < 1 && !m.now.Before(m.frozen) {
		m.breaks("row %d is owed an invitation, and no create is left in the window", r.number)
	}
}

// freeze is what follows a 429.
func (m *resendModel) freeze() { m.frozen, m.probe = m.now.Add(resendFreeze), true }

// free is how many creates may start now by the limit.
func (m *resendModel) free() int {
	free := m.limit
	for _, at := range m.spent {
		if m.now.Sub(at) < resendWindow {
			free--
		}
	}
	return free
}

// promised is how many creates revokes and owed rows weigh: see ledger.Picker.Promised.
func (m *resendModel) promised() (n int) {
	for _, r := range m.rows {
		if r.outcome == "" && r.Owed && r.open() < 0 {
			n++
		}
	}
	return n
}

// affords reports whether the budget allows a claim: see pack in jobs.
func (m *resendModel) affords(owed, revoke bool) bool {
	switch {
	case m.now.Before(m.frozen):
		return false
	case owed:
		return m.free() > 0
	case revoke && m.probe && m.dice.IntN(2) == 0: // another row can find out
		return false
	}
	return m.free()-m.promised() > 0
}

// claim opens the attempt that Next asks for.
func (m *resendModel) claim(r *modelRow, act invitation.Action) {
	if !m.affords(r.Owed, act.Revoke != "") {
		if r.Owed && !r.asked && !m.now.Before(m.frozen) {
			m.breaks("row %d is owed an invitation, and waits for budget", r.number)
		}
		return
	}
	deadline := m.now.Add(resendTimeout)
	m.out = &sending{row: r, attempt: -1, deadline: deadline}
	if act.Revoke != "" {
		if m.now.Before(m.frozen) {
			m.breaks("an invitation is revoked while the bucket is frozen")
		}
		m.out.revoke = len(r.revokes)
		r.revokes = append(r.revokes, ownRevoke{id: act.Revoke, started: m.now, deadline: deadline, open: true})
		m.tell(fact{kind: attemptOpened, row: r.number, attempt: r.revokeNumber(m.out.revoke), invitation: m.doorNumber(act.Revoke)})
		r.Owed, r.sentAt = true, m.now
		return
	}
	m.spent = append(m.spent, m.now)
	m.out.attempt = len(r.attempts)
	r.attempts = append(r.attempts, invitation.Attempt{ID: int64(len(r.attempts) + 1), Started: m.now, Deadline: deadline, Open: true, Alone: true})
	r.asked = true
	m.tell(fact{kind: attemptOpened, row: r.number, attempt: r.createNumber(m.out.attempt)})
}

// send lets Clerk do what is asked, or not, and gives the answer, or none.
func (m *resendModel) send() {
	o := m.out
	if !m.now.Before(o.deadline) {
		o.reply = "not sent"
		return
	}
	way := 0
	if m.faults > 0 {
		if way = m.dice.IntN(5); way > 0 {
			m.faults--
		}
	}
	o.reply = []string{"answered", "lost", "lost", "refused", "not sent"}[way]
	if way > 1 {
		return // nothing is done
	}
	if o.attempt < 0 {
		d := &m.doors[slices.IndexFunc(m.doors, func(d door) bool { return d.id == o.row.revokes[o.revoke].id })]
		switch {
		case d.status == invitation.Pending:
			d.was, d.status, d.changed, m.ours = d.status, invitation.Revoked, m.now, true
			m.tell(fact{kind: invitationRevoked, row: o.row.number, attempt: o.row.revokeNumber(o.revoke), invitation: m.doorNumber(d.id)})
		case d.status == invitation.Accepted && way == 0:
			o.reply = "accepted"
		case d.status == invitation.Revoked && way == 0:
			o.reply = "revoked before"
		}
		return
	}
	if m.user {
		if way == 0 {
			o.reply = "user"
		}
		return
	}
	if d := m.doors[0]; way == 0 && m.faults > 0 && m.ours && d.status == invitation.Revoked && m.now.Sub(d.changed) < resendSettle && m.dice.IntN(2) == 0 {
		m.faults--
		o.reply = "exists" // Clerk itself has not caught up with the revocation
		return
	}
	id := fmt.Sprintf("inv_%d", len(m.doors))
	m.doors = append(m.doors, door{id: id, status: invitation.Pending, changed: m.now, created: m.now})
	m.tell(fact{kind: invitationMailed, row: o.row.number, attempt: o.row.createNumber(o.attempt), invitation: m.doorNumber(id)})
}

// record writes the answer down.
func (m *resendModel) record() {
	o := m.out
	m.out = nil
	if o.attempt >= 0 {
		m.recordCreate(o)
	} else if o.row.revokes[o.revoke].open {
		m.recordRevoke(o.row, o.revoke, o.reply)
	}
}

// recordRevoke is recordOwnRevoke in jobs.
func (m *resendModel) recordRevoke(r *modelRow, i int, reply string) {
	v := &r.revokes[i]
	before := slices.ContainsFunc(r.revokes[:i], func(v ownRevoke) bool { return !v.unsent })
	answer := func(a invitation.Answer) {
		m.tell(fact{kind: answerRecorded, row: r.number, attempt: r.revokeNumber(i), answer: a})
	}
	switch reply {
	case "answered", "revoked before":
		answer(invitation.AnswerRevoked)
		m.stand(v.id, invitation.Revoked)
		m.closeRevoke(r, i, false, reply == "answered" || before)
	case "accepted":
		answer(invitation.AnswerAccepted)
		m.stand(v.id, invitation.Accepted)
		m.closeRevoke(r, i, false, false)
	case "lost":
		r.NotBefore = m.now.Add(resendBackoff)
	default:
		v.unsent, r.NotBefore = true, m.now.Add(resendBackoff)
		answer(invitation.AnswerRefused)
		m.closeRevoke(r, i, true, false)
	}
}

func (m *resendModel) recordCreate(o *sending) {
	r, a := o.row, &o.row.attempts[o.attempt]
	if !a.Open {
		return // late
	}
	a.Answered = m.now
	switch o.reply {
	case "answered":
		a.Answer, a.InvitationID = invitation.AnswerCreated, m.doors[len(m.doors)-1].id
	case "user":
		a.Answer = invitation.AnswerUser
	case "exists":
		a.Answer, r.NotBefore = invitation.AnswerExists, m.now.Add(resendBackoff)
	case "lost":
		r.NotBefore = m.now.Add(resendBackoff)
	case "refused":
		a.Answer = invitation.AnswerRefused
		m.freeze()
	case "not sent":
		a.Answer = invitation.AnswerRefused
		m.spent = m.spent[:len(m.spent)-1]
	}
	m.probe = m.probe && (o.reply == "refused" || o.reply == "not sent")
	m.tell(fact{kind: answerRecorded, row: r.number, attempt: r.createNumber(o.attempt), answer: a.Answer, invitation: m.doorNumber(a.InvitationID)})
	act := m.next(r, time.Time{})
	if act.Kind == invitation.Decide || act.Close != "" {
		if o.reply == "not sent" {
			act.Close = invitation.ClosedNotSent
		}
		m.settle(r, act)
	}
}

// resolve is a read that settles what is due.
func (m *resendModel) resolve() {
	for _, r := range m.rows {
		if i := r.open(); i >= 0 {
			if a := r.attempts[i]; m.out == nil && (!a.Answered.IsZero() || !m.now.Before(a.Deadline.Add(resendSettle))) {
				if act := m.next(r, m.read()); act.Kind == invitation.Decide || act.Close != "" {
					m.settle(r, act)
				}
			}
			return
		}
		i := r.revoking()
		if i < 0 || m.out != nil || m.now.Before(r.revokes[i].deadline.Add(resendSettle)) {
			continue
		}
		begun := m.read()
		v := &r.revokes[i]
		s := m.seen[v.id]
		status := s.Status
		if s.LastSeen.Before(begun) && status != invitation.Accepted && status != invitation.Revoked {
			status = ""
		}
		if status != "" {
			m.stand(v.id, status)
		}
		m.closeRevoke(r, i, status == invitation.Pending, status != invitation.Pending && status != invitation.Accepted)
		return
	}
}

// work is one step of the program: whatever there is to do. Owed rows come first.
func (m *resendModel) work() {
	switch {
	case m.out != nil && m.out.reply == "":
		m.send()
		return
	case m.out != nil:
		m.record()
		return
	case m.claimed():
		m.resolve()
		return
	}
	line := slices.Clone(m.rows)
	if m.dice.IntN(2) == 0 {
		slices.Reverse(line)
	}
	slices.SortStableFunc(line, func(a, b *modelRow) int {
		switch {
		case a.Owed == b.Owed:
			return 0
		case a.Owed:
			return -1
		}
		return 1
	})
	for _, r := range line {
		act := m.next(r, time.Time{})
		switch act.Kind {
		case invitation.Decide:
			m.settle(r, act)
			return
		case invitation.Read:
			m.guard = m.read()
			return
		case invitation.Claim:
			if m.claim(r, act); m.out != nil {
				return
			}
		}
	}
}

// happen is one thing that may happen at any time.
func (m *resendModel) happen() {
	step := func(what string, do func()) { m.path = append(m.path, what); do() }
	row := m.rows[m.dice.IntN(len(m.rows))]
	switch n := m.dice.IntN(23); {
	case n < 11:
		step("work", m.work)
	case n < 14:
		step("tick", func() {
			m.now = m.now.Add([]time.Duration{time.Second, 8 * time.Second, 20 * time.Second, 40 * time.Second, time.Hour}[m.dice.IntN(5)])
		})
	case n < 15 && m.faults > 0:
		m.faults--
		step("crash", func() { m.out = nil })
	case n < 16:
		step("resolve", m.resolve)
	case n < 17:
		step("pause", func() {
			if row.BatchState == invitation.Running {
				row.BatchState = invitation.Paused
				m.tell(fact{kind: batchPaused, row: row.number})
			}
		})
	case n < 18:
		step("resume", func() {
			if row.BatchState == invitation.Paused {
				m.resume(row)
			}
		})
	case n < 19 && m.dice.IntN(3) == 0:
		step("cancel", func() {
			row.BatchState = invitation.StateCancelled
			m.tell(fact{kind: batchCancelled, row: row.number})
			m.cancelRows(row)
		})
	case n < 20 && m.faults > 0 && m.dice.IntN(3) == 0:
		m.faults--
		step("revoke elsewhere", func() {
			if d := &m.doors[0]; d.status == invitation.Pending {
				d.was, d.status, d.changed = d.status, invitation.Revoked, m.now
				m.tell(fact{kind: invitationRevoked, invitation: 1})
			}
		})
	case n < 21 && m.dice.IntN(3) == 0:
		step("accept", func() {
			for i := range m.doors {
				if d := &m.doors[i]; d.status == invitation.Pending {
					d.was, d.status, d.changed, m.user = d.status, invitation.Accepted, m.now, true
					m.tell(fact{kind: invitationAccepted, invitation: int8(i + 1)})
				}
			}
		})
	case n < 22:
		step("somebody else", func() {
			if !m.affords(false, false) {
				return
			}
			m.spent, m.probe = append(m.spent, m.now), false
			if m.faults > 0 && m.dice.IntN(3) == 0 {
				m.faults--
				m.freeze()
			}
		})
	case m.dice.IntN(4) == 0:
		step("failing for long", func() {
			row.Since, row.LastError = m.now.Add(-2*time.Hour), "timeout"
			m.tell(fact{kind: answerRecorded, row: row.number})
		})
	}
}

// cancelRows is ledger.CancelRows.
func (m *resendModel) cancelRows(r *modelRow) {
	if r.BatchState == invitation.StateCancelled && r.outcome == "" && r.open() < 0 && r.revoking() < 0 && !r.Owed {
		m.decide(r, invitation.Cancelled, "", "")
	}
}

func (m *resendModel) resume(r *modelRow) {
	r.BatchState = invitation.Running
	m.tell(fact{kind: batchResumed, row: r.number})
}

// end is led to fairly: nothing fails any more, and time passes.
func (m *resendModel) end() {
	m.faults = 0
	m.path = append(m.path, "| fairly |")
	undecided := func(r *modelRow) bool { return r.outcome == "" }
	for n := 0; m.broken == "" && (slices.ContainsFunc(m.rows, undecided) || m.claimed()); n++ {
		for _, r := range m.rows {
			m.cancelRows(r)
			if r.BatchState == invitation.Paused && !r.Owed {
				m.resume(r)
			}
		}
		m.work()
		m.now = m.now.Add(2 * time.Second)
		if n > 1500 {
			m.breaks("a row does not come to its end")
		}
	}
	if m.broken == "" {
		m.tell(fact{kind: runEnded})
	}
}

// Whatever happens between the halves of a resend, the invariants hold. Every
// eighth row was not asked to resend.
func TestResendModel(t *testing.T) {
	t.Parallel()
	outcomes := map[string]int{}
	for seed := range uint64(60_000) {
		m := newResendModel(seed)
		for range 45 {
			if m.happen(); m.broken != "" {
				break
			}
		}
		if m.broken == "" {
			m.end()
		}
		if m.broken != "" {
			t.Fatalf("seed %d: %s\nafter %s\nhistory:\n%s", seed, m.broken, strings.Join(m.path, ", "), told(m.history))
		}
		for _, r := range m.rows {
			outcomes[string(r.outcome)+" "+r.reason]++
			if r.Owed && r.reason == "invited_by_another_row" {
				outcomes["owed, and invited by another row"]++
			}
		}
	}
	for _, met := range []string{
		"invited ", "invited found_by_reading", "cancelled ", "cancelled revoked_elsewhere",
		"already_registered user_at_clerk", "already_registered accepted", "failed timeout",
		"already_invited invited_by_another_row", "owed, and invited by another row",
	} {
		if outcomes[met] == 0 {
			t.Errorf("no walk ended as %q: %v", met, outcomes)
		}
	}
}
