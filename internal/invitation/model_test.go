package invitation_test

import (
	"fmt"
	"slices"
	"time"

	"bulkinvite/internal/invitation"
)

// A model of Clerk, of the ledger and of the processes around [Next].
// Everything that happens is an event of a world; what the program decides, the
// real Next decides, from evidence that is put together as ledger.Load does it.
// model_search_test.go tries the events in every order; model_truth_test.go
// knows what the program can't, and says when a promise is broken.
//
// One person is modelled, in one row or in two rows of two batches. Other people
// matter only as those in the same bulk call.

// Time goes in ticks, which are longer than every tolerance of Next's. Request
// timeout, settle time and the first backoff are one tick each.
const (
	tickLength  = 20 * time.Second
	timeout     = 1
	settleTicks = 1
	backoff     = 1
	freshTicks  = 3
	gapTicks    = 6 // differences this long and longer are alike to Next
)

// moment is a time: a tick, and within all time the order of what happened. The
// zero moment is no time.
type moment struct{ tick, order int8 }

func (m moment) zero() bool         { return m == moment{} }
func (m moment) plus(n int8) moment { return moment{m.tick + n, m.order} }
func (m moment) before(n moment) bool {
	return m.tick < n.tick || m.tick == n.tick && m.order < n.order
}

func (m moment) time() time.Time {
	if m.zero() {
		return time.Time{}
	}
	return began.Add(time.Duration(m.tick)*tickLength + time.Duration(m.order)*time.Millisecond)
}

// Small numbers stand for the words, so that a world is plain memory to hash.
var (
	modelAnswers     = []invitation.Answer{invitation.NoAnswer, invitation.AnswerCreated, invitation.AnswerExists, invitation.AnswerUser, invitation.AnswerRejected, invitation.AnswerRefused}
	modelResolutions = []string{"", invitation.ClosedAnswered, invitation.ClosedNotSent, invitation.ClosedRefused, invitation.ClosedOurs, invitation.ClosedNotThere, invitation.ClosedExists, invitation.ClosedUser}
	modelOutcomes    = append([]invitation.Outcome{""}, invitation.Outcomes...)
	modelStatuses    = []invitation.Status{"", invitation.Pending, invitation.Accepted, invitation.Revoked, invitation.Expired}
	modelStates      = []invitation.State{invitation.Draft, invitation.Running, invitation.Paused, invitation.StateCancelled}
	modelIDs         = []string{"", "inv_1", "inv_2", "inv_3", "inv_4"}
)

func number[T comparable](words []T, word T) int8 {
	for i, w := range words {
		if w == word {
			return int8(i)
		}
	}
	panic(fmt.Sprintf("%v is not in %v", word, words))
}

var hasFailed = number(modelOutcomes, invitation.Failed)

const (
	isPending, isAccepted, isRevoked, isExpired = 1, 2, 3, 4
	isDraft, isRunning, isPaused, isCancelled   = 0, 1, 2, 3
)

// What a process holds in hand of an answer and has yet to write down.
const (
	replyNone     = iota
	replyCreated  // of these five, the first ones are also the answer of the same number
	replyExists   //
	replyUser     //
	replyRejected //
	replyRefused  // 429, 401: nothing was done
	replyNotSent  // never written
	replyLost     // cut, timed out, 5xx, garbage
	replySilent   // a bulk answer that decides others, and says nothing of this person
	replyUnnamed  // a bulk call refused for somebody whom it does not name
	replyUnfound  // the same, and reading finds nobody
)

const maxTries, maxInvites = 6, 4

// invite is an invitation at Clerk.
type invite struct {
	made    moment // on our clock
	by      int8   // 1 or 2: the row whose attempt made it; negative: the same, and a restored ledger has forgotten it; 0: somebody else
	try     int8   // the attempt that made it, from 1
	status  int8
	visible bool // lists show it
}

// request is what became of an attempt in reality.
type request struct {
	phase int8 // 0: it can do nothing any more
	reply int8
	until moment // of an orphan: the last tick in which it may still reach Clerk
}

const (
	underway = 1 // its process lives and waits; whether it is written is not known
	orphan   = 2 // nobody waits for it
)

// try is an attempt in the ledger.
type try struct {
	row               int8 // 1 or 2
	started, answered moment
	open, alone       bool
	answer            int8
	inv               int8 // from 1
	resolution        int8
	refusal           int8 // replyUnnamed or replyUnfound
	again             bool // a read came too early: see ledger.ReadAgain
	name              int8 // in the history; unlike the place it stays the same
}

// entry is a row and its batch in the ledger.
type entry struct {
	state            int8
	started          moment
	outcome          int8
	status           int8
	inv              int8
	since, notBefore moment
	tries            int8
	alone            bool
	users            moment // when the read of users that covers it began
}

// sight is what reads showed of an invitation or a user.
type sight struct {
	status      int8
	first, last moment
}

// book is the ledger: what survives a crash, and is what a dump holds.
type book struct {
	tries    [maxTries]try
	rows     [2]entry
	seen     [maxInvites]sight
	seenUser sight
	lists    moment // when the pass over the lists began that guards claims
}

// pass is a read that is under way.
type pass struct {
	stage int8 // 0: none
	try   int8 // that it is to settle, from 1
	begun moment
	early bool // Clerk looked at its lists as the read began; otherwise as it ended
	snap  [maxInvites]int8
	user  bool
}

// The stages of a pass.
const (
	readLists = 1
	readUsers = 2
	wasRead   = 3 // a settling pass has ended, its transaction is to come
)

// world is everything there is. It is plain memory without padding.
type world struct {
	now      moment
	user     bool // the person is a user
	invs     [maxInvites]invite
	requests [maxTries]request
	book
	dump     book
	dumped   bool
	restored bool
	guard    pass // a read that guards claims
	settling pass
	faults   int8 // how many faults there may still be
	past     past // what the invariants remember of the history
}

// setting says which world it is and what may happen in it.
type setting struct {
	name  string
	depth int  // events, in the exhaustive search
	rows  int8 // 1 or 2
	tries int8 // how many attempts the search may begin
	fault int8 // how many of the faults the search may have

	unread      bool // the reads that guard the first claim are yet to come
	noPreflight bool
	bulk        bool          // the person may also be in a call with others
	lenient     bool          // Clerk refuses nobody: only the program keeps a person from a second mail
	slowReads   bool          // other things happen while a read goes on
	lateLists   bool          // lists lag up to twice the settle time
	lateArrival bool          // requests for which nobody waits arrive at any time: only the number of mails is held
	restore     bool          // the database may be dumped, and restored
	reaped      bool          // after a restore no read of the dump counts, as all of its processes are known to be dead
	shallow     bool          // a settling pass shows no more than it must
	offset      int8          // ticks by which our clock is ahead of Clerk's
	over        time.Duration // by how much Slack is more than that offset
	expiry      int8          // ticks until an invitation expires; 0: never
	blocks      bool          // an expired one keeps Clerk from making another
	start       func(*world)  // how the world is different as it begins

	accept, revoke, sweep, joins, cancel, pause, retry, reject bool // what may happen
}

// model plays a setting. It keeps buffers, and the first promise that was broken.
type model struct {
	setting
	broken string // which promise, and how
	full   bool   // the event went past what a world has room for
	decs   map[string]int

	history   []fact // what happened, while telling is set
	telling   bool
	times     []*moment
	attempts  []invitation.Attempt
	sightings []invitation.Sighting
}

func (m *model) breaks(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// tell tells the invariants what happens to a world.
//
//go:norace
func (m *model) tell(w *world, f fact) {
	f.at = w.now.time()
	if m.telling {
		m.history = append(m.history, f)
	}
	rules := invariants
	if m.lateArrival { // the gap that is left: see docs/protocol.md
		rules = onlyOnce
	}
	if broken := w.past.observe(f, rules); broken != "" {
		m.breaks("%s", broken)
	}
}

// begin is the world as batch 1 has started. Batch 2, if there is one, is a draft.
func (m *model) begin() world {
	w := world{now: moment{20, 2}, faults: m.fault}
	w.rows[0] = entry{state: isRunning, started: moment{20, 2}}
	if !m.unread && !m.noPreflight {
		w.lists, w.rows[0].users = w.happens(), w.happens()
	}
	if m.start != nil {
		m.start(&w)
	}
	for i, v := range w.invs {
		if v.status != 0 {
			m.tell(&w, fact{kind: invitationMailed, invitation: int8(i + 1)})
		}
		switch v.status {
		case isRevoked:
			m.tell(&w, fact{kind: invitationRevoked, invitation: int8(i + 1)})
		case isAccepted:
			m.tell(&w, fact{kind: invitationAccepted, invitation: int8(i + 1)})
		}
	}
	for r := range m.rows {
		m.tell(&w, fact{kind: rowAdded, row: r + 1})
	}
	m.tell(&w, fact{kind: batchStarted, row: 1})
	return w
}

// happens returns the moment of something that happens now, after all else.
func (w *world) happens() moment {
	w.now.order++
	return w.now
}

// patience is how long transient answers are retried. Where lists are
// late they are retried for as good as ever, as in earnest: longer than what a
// moment can hold.
func (m *model) patience() time.Duration {
	if m.lateLists {
		return 100 * tickLength
	}
	return tickLength
}

// statusNow is an invitation's status at Clerk.
func (m *model) statusNow(w *world, i int) int8 {
	v := w.invs[i]
	if v.status == isPending && m.expiry > 0 && !w.now.before(v.made.plus(m.expiry)) {
		return isExpired
	}
	return v.status
}

func (m *model) createdAt(w *world, i int) time.Time { return w.invs[i].made.plus(-m.offset).time() }

func (m *model) expiresAt(w *world, i int) time.Time {
	if m.expiry == 0 {
		return time.Time{}
	}
	return m.createdAt(w, i).Add(time.Duration(m.expiry) * tickLength)
}

func (w *world) openTry(row int) int {
	for k := range w.tries {
		if t := &w.tries[k]; t.open && t.row == int8(row+1) {
			return k
		}
	}
	return -1
}

// told reports whether an answer said that the row's invitation was made.
func (w *world) told(row int) bool {
	for k := range w.tries {
		if t := &w.tries[k]; t.row == int8(row+1) && modelAnswers[t.answer] == invitation.AnswerCreated {
			return true
		}
	}
	return false
}

func (w *world) anyOpen() bool { return w.openTry(0) >= 0 || w.openTry(1) >= 0 }

func (w *world) triesMade() (n int) {
	for n < maxTries && w.tries[n].row != 0 {
		n++
	}
	return n
}

// ids of reads: each sighting names its own, so that a decision shows which it relied on.
const (
	settleRead = 300
	userRead   = 200
	listRead   = 100 // and the number of the invitation
)

// evidence puts together what ledger.Load does.
func (m *model) evidence(w *world, row int, settled moment) (invitation.Row, invitation.Evidence) {
	e := &w.rows[row]
	r := invitation.Row{
		RowID: invitation.RowID{Batch: int64(row + 1), Row: 1}, Key: "jane@example.com",
		Outcome: modelOutcomes[e.outcome], BatchState: modelStates[e.state], BatchStarted: e.started.time(), Preflight: !m.noPreflight,
		NotBefore: e.notBefore.time(), Since: e.since.time(), Tries: int(e.tries), Alone: e.alone, LastError: "internal_clerk_error",
	}
	ev := invitation.Evidence{
		Now: w.now.time(), Settle: settleTicks * tickLength, GiveUp: m.patience(), Fresh: freshTicks * tickLength,
		Slack:    time.Duration(m.offset)*tickLength + m.over,
		Least:    time.Duration(m.offset)*tickLength + min(m.over, time.Second),
		Coverage: invitation.Coverage{Users: e.users.time(), Invitations: w.lists.time(), Settled: settled.time()},
		Attempts: m.attempts[:0], Sightings: m.sightings[:0],
	}
	if !settled.zero() {
		ev.Coverage.SettledRead = settleRead
	}
	for k, t := range w.tries {
		if t.row == int8(row+1) {
			ev.Attempts = append(ev.Attempts, invitation.Attempt{ID: int64(k + 1), Started: t.started.time(), Deadline: t.started.plus(timeout).time(), Answered: t.answered.time(),
				Open: t.open, Answer: modelAnswers[t.answer], Code: "code", InvitationID: modelIDs[t.inv], Resolution: modelResolutions[t.resolution],
				Alone: t.alone, Refused: t.refusal == replyUnfound})
		}
	}
	if o := 1 - row; o < int(m.rows) && (w.rows[o].outcome == 0 || modelOutcomes[w.rows[o].outcome] == invitation.Invited) {
		other := invitation.Other{RowID: invitation.RowID{Batch: int64(o + 1), Row: 1}, Outcome: modelOutcomes[w.rows[o].outcome],
			Status: modelStatuses[w.rows[o].status], InvitationID: modelIDs[w.rows[o].inv], Open: w.openTry(o) >= 0}
		if i := w.rows[o].inv; i > 0 {
			other.ExpiresAt = m.expiresAt(w, int(i-1))
		}
		ev.Others = []invitation.Other{other}
	}
	for i, s := range w.seen {
		if !s.last.zero() {
			o := w.rows[1-row]
			taken := modelOutcomes[o.outcome] == invitation.Invited && o.inv == int8(i+1)
			ev.Sightings = append(ev.Sightings, invitation.Sighting{ID: modelIDs[i+1], Status: modelStatuses[s.status], CreatedAt: m.createdAt(w, i), ExpiresAt: m.expiresAt(w, i),
				FirstSeen: s.first.time(), LastSeen: s.last.time(), ReadID: listRead + int64(i+1),
				Taken: taken, Guessed: taken && !w.told(1-row)})
		}
	}
	if s := w.seenUser; !s.last.zero() {
		ev.Sightings = append(ev.Sightings, invitation.Sighting{ID: "user_1", User: true, FirstSeen: s.first.time(), LastSeen: s.last.time(), ReadID: userRead})
	}
	m.attempts, m.sightings = ev.Attempts[:0], ev.Sightings[:0]
	return r, ev
}

// ask asks the real Next about a row, and looks over what it says.
func (m *model) ask(w *world, row int, settled moment) invitation.Action {
	r, ev := m.evidence(w, row, settled)
	act := invitation.Next(r, ev)
	m.overlook(w, row, settled, act)
	return act
}

// waits says whether a claim may pick a row: see ledger.Picker.Pick.
func (w *world) waits(row int) bool {
	e := &w.rows[row]
	return e.state == isRunning && e.outcome == 0 && !w.now.before(e.notBefore) && !w.anyOpen()
}

// settle is ledger.Settle of one verdict.
func (m *model) settle(w *world, row int, act invitation.Action, settled moment) {
	e := &w.rows[row]
	k := w.openTry(row)
	if k >= 0 && act.Close == "" {
		m.breaks("row %d: %s %s leaves its open attempt open", row+1, act.Kind, act.Outcome)
		return
	}
	if act.Kind == invitation.Decide {
		m.proven(w, row, act, settled)
		if m.decs != nil {
			m.decs[string(act.Outcome)+" "+act.Reason]++
		}
		*e = entry{state: e.state, started: e.started, alone: e.alone, users: e.users,
			outcome: number(modelOutcomes, act.Outcome), status: number(modelStatuses, act.Status), inv: number(modelIDs, act.InvitationID)}
		if act.Outcome != invitation.Failed { // which may be opened again
			e.alone, e.users = false, moment{}
		}
	}
	if k >= 0 {
		t := &w.tries[k]
		t.open, t.resolution = false, number(modelResolutions, act.Close)
		m.tell(w, fact{kind: attemptClosed, row: t.row, attempt: int16(t.name), void: act.Kind == invitation.Claim})
		if t.inv == 0 {
			t.inv = number(modelIDs, act.InvitationID)
		}
		e.alone = e.alone || act.Alone && e.outcome == 0
	}
	if act.Kind == invitation.Decide {
		m.tell(w, fact{kind: outcomeRecorded, row: int8(row + 1), outcome: act.Outcome,
			invitation: number(modelIDs, act.InvitationID)})
	}
}

// claim opens an attempt, as a claim does that picked the row.
func (m *model) claim(w *world, row int, alone bool) {
	n := w.triesMade()
	if n == maxTries {
		m.full = true
		return
	}
	for k := range n {
		if t := w.tries[k]; t.row == int8(row+1) && !alone && !t.alone && t.refusal == replyUnfound {
			m.breaks("row %d goes into a second bulk call after one was refused for nobody that was found", row+1)
		}
	}
	w.tries[n] = try{row: int8(row + 1), started: w.happens(), open: true, alone: alone, name: w.freeName()}
	w.requests[n] = request{phase: underway}
	m.tell(w, fact{kind: attemptOpened, row: int8(row + 1), attempt: int16(w.tries[n].name)})
}

// freeName is the smallest number that no attempt is named by.
func (w *world) freeName() int8 {
	for name := int8(1); ; name++ {
		if !slices.ContainsFunc(w.tries[:], func(t try) bool { return t.name == name }) {
			return name
		}
	}
}

// record writes down the answer that a process has in hand.
func (m *model) record(w *world, k int) {
	reply := w.requests[k].reply
	w.requests[k].reply = replyNone
	t := &w.tries[k]
	if !t.open { // late: it changes nothing
		return
	}
	row := int(t.row - 1)
	e := &w.rows[row]
	t.answered = w.happens()
	switch reply {
	case replyCreated, replyExists, replyUser, replyRejected, replyRefused:
		t.answer = reply
		if reply == replyCreated {
			t.inv = m.madeBy(w, k)
		}
	case replyNotSent:
		t.answer = replyRefused
	case replyUnnamed, replyUnfound:
		t.refusal = reply
	case replyLost:
		if e.since.zero() {
			e.since = w.now
		} else if waited := t.started.tick - e.notBefore.tick; waited > 0 {
			e.since = e.since.plus(waited)
		}
		e.tries, e.notBefore = min(e.tries+1, 2), w.now.plus(backoff)
	}
	m.tell(w, fact{kind: answerRecorded, row: t.row, attempt: int16(t.name), invitation: t.inv,
		answer: modelAnswers[t.answer]})
	act := m.ask(w, row, moment{})
	if act.Kind != invitation.Decide && act.Close == "" {
		return // it must be read first
	}
	if reply == replyNotSent {
		act.Close = invitation.ClosedNotSent
	}
	m.settle(w, row, act, moment{})
}

// madeBy is the invitation that an attempt made, from 1.
func (m *model) madeBy(w *world, k int) int8 {
	for i, v := range w.invs {
		if v.try == int8(k+1) {
			return int8(i + 1)
		}
	}
	return 0
}

// look is what the lists and the users show now.
func (m *model) look(w *world, p *pass) {
	for i, v := range w.invs {
		p.snap[i] = 0
		if v.status != 0 && v.visible {
			p.snap[i] = m.statusNow(w, i)
		}
	}
	p.user = w.user
}

// beginPass begins a read; Clerk may look at its lists as it begins or as it ends.
func (m *model) beginPass(w *world, p *pass, stage, try int8, early bool) {
	*p = pass{stage: stage, try: try, begun: w.happens(), early: early}
	if early {
		m.look(w, p)
	}
}

// endPass writes down what a read showed. Of revoked ones there is a second list,
// which is read after the default one. Where the read fails on the way, what it
// showed counts and how far it reached does not.
func (m *model) endPass(w *world, p *pass, fails bool) {
	shown := p.snap
	user := p.user
	var end pass
	m.look(w, &end)
	if !p.early {
		shown, user = end.snap, end.user
	}
	ended := w.happens()
	back := moment{}
	if p.stage == readLists && p.try > 0 {
		if m.shallow {
			back = w.tries[p.try-1].started.plus(-1)
		}
		if w.tries[p.try-1].refusal != replyNone {
			m.seeUser(w, p, ended, user)
		}
	}
	if p.stage == readUsers {
		m.seeUser(w, p, ended, user)
	}
	for i := range w.invs {
		status := shown[i]
		if status == isRevoked || end.snap[i] == isRevoked {
			status = end.snap[i]
		}
		s := &w.seen[i]
		if p.stage != readLists || status == 0 || w.invs[i].made.before(back) || !s.last.zero() && older(*s, status, p.begun) {
			continue
		}
		if s.first.zero() {
			s.first = ended
		}
		s.status, s.last = status, p.begun
		m.tell(w, fact{kind: sightingRecorded, invitation: int8(i + 1), status: modelStatuses[status]})
	}
	done := *p
	*p = pass{}
	switch {
	case fails:
	case done.stage == readUsers:
	case done.try > 0:
		*p = pass{stage: wasRead, try: done.try, begun: done.begun}
	default:
		w.lists = done.begun
	}
}

// older says whether what a read showed is no news beside what is known: see
// ledger.EndRead. Accepted and revoked are for ever.
func older(s sight, status int8, begun moment) bool {
	was, is := s.status == isAccepted || s.status == isRevoked, status == isAccepted || status == isRevoked
	return was && !is || was == is && begun.before(s.last)
}

func (m *model) seeUser(w *world, p *pass, ended moment, user bool) {
	for r := range w.rows {
		if w.rows[r].outcome == 0 && w.rows[r].state != isDraft {
			w.rows[r].users = p.begun
		}
	}
	if !user || !w.seenUser.last.zero() && p.begun.before(w.seenUser.last) {
		return
	}
	if w.seenUser.first.zero() {
		w.seenUser.first = ended
	}
	w.seenUser.last = p.begun
	m.tell(w, fact{kind: userRecorded})
}
