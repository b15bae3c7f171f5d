package invitation_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/invitation"
)

// A model of a resend around the real [invitation.Next]: a person with one
// invitation from before, one row that is to send it again, and a Clerk that
// refuses nobody, so that only the program keeps a person from a second open
// door. Random walks through everything that can happen, each of which is then
// led fairly to its end.

// door is an invitation at Clerk, with what lists may still show of it.
type door struct {
	id          string
	status, was invitation.Status
	changed     time.Time // lists show it as it was for a settle time at most
	created     time.Time
	mine        bool // the row's attempt made it
}

// revocation is one in the ledger that ran under a create.
type revocation struct {
	attempt  int64 // the create's
	id       string
	answered time.Time
	answer   invitation.Answer
	resolved bool
	nothing  bool // proven to have done nothing
	again    time.Time
}

// sending is what a process has in hand: first the revocation, then the create.
type sending struct {
	attempt  int
	revoke   int // -1: none, or done
	reply    string
	deadline time.Time
}

type resendModel struct {
	dice *rand.Rand
	now  time.Time
	user bool

	doors    []door
	row      invitation.Row
	outcome  invitation.Outcome
	reason   string
	attempts []invitation.Attempt
	revokes  []revocation
	status   invitation.Status // of the earlier row's invitation, as that row has it
	seen     map[string]invitation.Sighting
	seenUser invitation.Sighting
	guard    time.Time // when the reads that guard a claim began
	out      *sending
	ours     bool // a revocation of ours came to Clerk and did something
	faults   int
	path     []string
	broken   string
}

const (
	resendSettle  = 15 * time.Second
	resendTimeout = 20 * time.Second
)

func newResendModel(seed uint64) *resendModel {
	m := &resendModel{dice: rand.New(rand.NewPCG(seed, 7)), now: began, status: invitation.Pending, seen: map[string]invitation.Sighting{}, faults: 3}
	m.doors = []door{{id: "inv_old", status: invitation.Pending, was: invitation.Pending, created: began.Add(-240 * time.Hour), changed: began.Add(-240 * time.Hour)}}
	m.row = waitingRow(again, func(r *invitation.Row) {
		r.Repeat, r.Preflight, r.Alone = m.dice.IntN(2) == 0, m.dice.IntN(4) > 0, true
	})
	return m
}

func (m *resendModel) breaks(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// evidence is what Store.Load puts together.
func (m *resendModel) evidence(settled time.Time) (invitation.Row, invitation.Evidence) {
	row := m.row
	row.Outcome = m.outcome
	ev := invitation.Evidence{Now: m.now, Settle: resendSettle, GiveUp: time.Hour, Fresh: fresh, Slack: 0,
		Coverage: invitation.Coverage{Users: m.guard, Invitations: m.guard, Settled: settled},
		Attempts: slices.Clone(m.attempts),
		Others:   []invitation.Other{{RowID: invitation.RowID{Batch: 9, Row: 1}, Outcome: invitation.Invited, Status: m.status, InvitationID: "inv_old", DecidedAt: began.Add(-239 * time.Hour)}}}
	for _, d := range m.doors {
		if s, ok := m.seen[d.id]; ok {
			s.Taken = d.id == "inv_old"
			ev.Sightings = append(ev.Sightings, s)
		}
	}
	if m.seenUser.User {
		ev.Sightings = append(ev.Sightings, m.seenUser)
	}
	for _, r := range m.revokes {
		if row.Halfway && !r.nothing {
			ev.Revoked = append(ev.Revoked, invitation.Displaced{InvitationID: r.id, Open: !r.resolved})
		}
	}
	return row, ev
}

func (m *resendModel) next(settled time.Time) invitation.Action {
	return invitation.Next(m.evidence(settled))
}

func (m *resendModel) open() int {
	return slices.IndexFunc(m.attempts, func(a invitation.Attempt) bool { return a.Open })
}

// unread is the revocation that must be read before anything else is sent; -1: none.
func (m *resendModel) unread() int {
	return slices.IndexFunc(m.revokes, func(r revocation) bool { return !r.resolved })
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
	}
	if m.user {
		m.seenUser = invitation.Sighting{ID: "user_1", User: true, FirstSeen: m.now, LastSeen: begun, ReadID: 1}
	}
	m.now = m.now.Add(time.Millisecond)
	return begun
}

// stand records where an invitation stands, as Store.standing does.
func (m *resendModel) stand(id string, s invitation.Status) {
	if id == "inv_old" {
		m.status = s
	}
	if g, ok := m.seen[id]; ok {
		g.Status = s
		m.seen[id] = g
	}
}

// settle is Store.Settle of an action on the row.
func (m *resendModel) settle(act invitation.Action) {
	if i := m.open(); i >= 0 && act.Close != "" {
		m.attempts[i].Open, m.attempts[i].Resolution = false, act.Close
	}
	if act.Kind != invitation.Decide {
		return
	}
	m.outcome, m.reason = act.Outcome, act.Reason
	for i := range m.revokes {
		if r := &m.revokes[i]; r.answer == invitation.AnswerRevoked {
			r.resolved = true
		}
	}
}

// claim opens the attempts that Next asks for.
func (m *resendModel) claim(act invitation.Action) {
	id := int64(len(m.attempts) + 1)
	m.attempts = append(m.attempts, invitation.Attempt{ID: id, Started: m.now, Deadline: m.now.Add(resendTimeout), Open: true, Alone: true})
	m.out = &sending{attempt: int(id) - 1, revoke: -1, deadline: m.now.Add(resendTimeout)}
	if act.Revoke != "" {
		m.revokes = append(m.revokes, revocation{attempt: id, id: act.Revoke})
		m.out.revoke = len(m.revokes) - 1
		m.row.Halfway = true
	}
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
	if o.revoke >= 0 {
		d := &m.doors[slices.IndexFunc(m.doors, func(d door) bool { return d.id == m.revokes[o.revoke].id })]
		switch {
		case d.status == invitation.Pending:
			d.was, d.status, d.changed, m.ours = d.status, invitation.Revoked, m.now, true
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
	for _, d := range m.doors {
		if d.mine {
			m.breaks("a second invitation is made for the row")
		}
		if d.status == invitation.Pending || d.status == invitation.Accepted {
			m.breaks("an invitation is made while %s is %s", d.id, d.status)
		}
	}
	m.doors = append(m.doors, door{id: fmt.Sprintf("inv_%d", len(m.doors)), status: invitation.Pending, changed: m.now, created: m.now, mine: true})
}

// record writes the answer down: recordRoom and giveBack of a revocation, record
// of a create.
func (m *resendModel) record() {
	o := m.out
	if o.revoke < 0 {
		m.out = nil
		m.recordCreate(o)
		return
	}
	r := &m.revokes[o.revoke]
	late := r.resolved
	if !late {
		r.answered = m.now
	}
	before := slices.ContainsFunc(m.revokes[:o.revoke], func(r revocation) bool { return r.answer != invitation.AnswerRefused })
	goOn := false
	switch {
	case late:
	case o.reply == "answered", o.reply == "revoked before":
		r.answer = invitation.AnswerRevoked
		m.stand(r.id, invitation.Revoked)
		goOn = o.reply == "answered" || before
		if !goOn {
			r.resolved, r.nothing, m.row.Halfway = true, false, false
		}
	case o.reply == "accepted":
		r.answer, r.resolved, m.row.Halfway = invitation.AnswerAccepted, true, false
		m.stand(r.id, invitation.Accepted)
	case o.reply != "lost":
		r.answer, r.resolved, r.nothing, m.row.Halfway = invitation.AnswerRefused, true, true, false
	}
	if goOn {
		o.revoke, o.reply = -1, ""
		return
	}
	m.out = nil
	if a := &m.attempts[o.attempt]; a.Open {
		a.Answered, a.Answer = m.now, invitation.AnswerRefused
		m.settle(invitation.Action{Kind: invitation.Claim, Close: invitation.ClosedNotSent})
	}
}

func (m *resendModel) recordCreate(o *sending) {
	a := &m.attempts[o.attempt]
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
		a.Answer = invitation.AnswerExists
	case "refused", "not sent":
		a.Answer = invitation.AnswerRefused
	}
	act := m.next(time.Time{})
	if act.Kind == invitation.Decide || act.Close != "" {
		if o.reply == "not sent" {
			act.Close = invitation.ClosedNotSent
		}
		m.settle(act)
	}
}

// resolve is a read that settles what is due: the create first, then what was
// revoked under it.
func (m *resendModel) resolve() {
	if i := m.open(); i >= 0 {
		if a := m.attempts[i]; m.out == nil && (!a.Answered.IsZero() || !m.now.Before(a.Deadline.Add(resendSettle))) {
			if act := m.next(m.read()); act.Kind == invitation.Decide || act.Close != "" {
				m.settle(act)
			}
		}
		return
	}
	i := m.unread()
	if i < 0 {
		return
	}
	r := &m.revokes[i]
	due := m.attempts[r.attempt-1].Deadline
	if !r.answered.IsZero() {
		due = r.answered
	}
	if due = due.Add(resendSettle); m.now.Before(due) || m.now.Before(r.again) {
		return
	}
	begun := m.read()
	s := m.seen[r.id]
	status := s.Status
	if s.LastSeen.Before(begun) {
		status = ""
	}
	switch {
	case status == invitation.Pending && r.answer == invitation.AnswerRevoked:
		r.again = m.now.Add(resendSettle)
		return
	case status == invitation.Pending:
		r.nothing, m.row.Halfway = true, false
	case status == invitation.Accepted:
		m.row.Halfway = false
	}
	if r.resolved = true; status != "" {
		m.stand(r.id, status)
	}
}

// work is one step of the program: whatever there is to do.
func (m *resendModel) work() {
	switch {
	case m.outcome != "":
	case m.out != nil && m.out.reply == "":
		m.send()
	case m.out != nil:
		m.record()
	case m.open() >= 0:
		m.resolve()
	default:
		switch act := m.next(time.Time{}); act.Kind {
		case invitation.Wait:
			m.resolve()
		case invitation.Decide:
			if act.Outcome == invitation.Cancelled && m.row.Halfway {
				m.breaks("a row is cancelled whose person has lost an invitation")
			}
			m.settle(act)
		case invitation.Read:
			m.guard = m.read()
		case invitation.Claim:
			m.claim(act)
		}
	}
}

// happen is one thing that may happen at any time.
func (m *resendModel) happen() {
	step := func(what string, do func()) { m.path = append(m.path, what); do() }
	switch n := m.dice.IntN(22); {
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
			if m.row.BatchState == invitation.Running {
				m.row.BatchState = invitation.Paused
			}
		})
	case n < 18:
		step("resume", func() {
			if m.row.BatchState == invitation.Paused {
				m.row.BatchState = invitation.Running
			}
		})
	case n < 19 && m.dice.IntN(3) == 0:
		step("cancel", func() { // see Store.CancelRows
			m.row.BatchState = invitation.StateCancelled
			if m.outcome == "" && m.open() < 0 && !m.row.Halfway {
				m.outcome = invitation.Cancelled
			}
		})
	case n < 20 && m.faults > 0 && m.dice.IntN(3) == 0:
		m.faults--
		step("revoke elsewhere", func() {
			if d := &m.doors[0]; d.status == invitation.Pending {
				d.was, d.status, d.changed = d.status, invitation.Revoked, m.now
			}
		})
	case n < 21 && m.dice.IntN(3) == 0:
		step("accept", func() {
			for i := range m.doors {
				if d := &m.doors[i]; d.status == invitation.Pending {
					d.was, d.status, d.changed, m.user = d.status, invitation.Accepted, m.now, true
				}
			}
		})
	case n == 21 && m.dice.IntN(4) == 0:
		step("failing for long", func() { m.row.Since, m.row.LastError = m.now.Add(-2*time.Hour), "timeout" })
	}
}

// end is led to fairly: nothing fails any more, and time passes.
func (m *resendModel) end() {
	m.faults = 0
	m.path = append(m.path, "| fairly |")
	if m.row.BatchState == invitation.Paused && !m.row.Halfway {
		m.row.BatchState = invitation.Running
	}
	for n := 0; m.outcome == "" && m.broken == ""; n++ {
		if m.row.BatchState == invitation.StateCancelled && m.open() < 0 && m.out == nil && !m.row.Halfway {
			m.outcome = invitation.Cancelled
		}
		if m.row.BatchState == invitation.Paused && !m.row.Halfway {
			m.row.BatchState = invitation.Running
		}
		m.work()
		m.now = m.now.Add(2 * time.Second)
		if n > 500 {
			m.breaks("the row does not come to its end")
		}
	}
	if m.broken != "" {
		return
	}
	standing := 0
	for _, d := range m.doors {
		if d.status == invitation.Pending || d.status == invitation.Accepted {
			standing++
		}
	}
	if m.ours && standing == 0 {
		m.breaks("revoked and forgotten: %s (%s)", m.outcome, m.reason)
	}
	if m.outcome == invitation.AlreadyInvited && (m.ours || m.row.BatchState == invitation.Running) {
		m.breaks("nobody else invites them, and it ended %s (%s)", m.outcome, m.reason)
	}
	if standing > 1 {
		m.breaks("%d invitations stand", standing)
	}
	if mine := slices.ContainsFunc(m.doors, func(d door) bool { return d.mine }); mine != (m.outcome == invitation.Invited) {
		m.breaks("an invitation was made for the row: %v, and it ended %s (%s)", mine, m.outcome, m.reason)
	}
}

// Whatever happens between the halves of a resend: one door is open at its end,
// never two, and nobody is left revoked and forgotten.
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
			t.Fatalf("seed %d: %s\nafter %s", seed, m.broken, strings.Join(m.path, ", "))
		}
		outcomes[string(m.outcome)+" "+m.reason]++
	}
	for _, met := range []string{"invited ", "invited found_by_reading", "cancelled ", "cancelled revoked_elsewhere", "already_registered user_at_clerk", "already_registered accepted", "failed timeout"} {
		if outcomes[met] == 0 {
			t.Errorf("no walk ended as %q: %v", met, outcomes)
		}
	}
}
