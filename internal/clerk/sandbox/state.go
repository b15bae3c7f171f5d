package sandbox

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The statuses of an invitation. In the state an expired one stays pending; statusAt compares it
// with the clock.
const (
	pending  = "pending"
	accepted = "accepted"
	revoked  = "revoked"
	expired  = "expired"
	deleted  = "deleted" // in no list, and found by no call
)

// invitation is one invitation. Times are Unix milliseconds, as at Clerk.
type invitation struct {
	ID       string          `json:"id"`
	Email    string          `json:"email"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Created  int64           `json:"created"`
	Expires  int64           `json:"expires"`
	Status   string          `json:"status"`
	Changed  int64           `json:"changed,omitempty"` // when it stopped being pending
	Mailed   bool            `json:"mailed,omitempty"`
}

// statusAt returns the status at a time, as seen by a reader who learns of changes lag later. Both
// are in milliseconds.
func (in *invitation) statusAt(ms, lag int64) string {
	status := in.Status
	if in.Changed != 0 && ms < in.Changed+lag {
		status = pending
	}
	if status == pending && ms >= in.Expires {
		status = expired
	}
	return status
}

type user struct {
	ID      string `json:"id"`
	Email   string `json:"email"`
	Created int64  `json:"created"`
}

// entry is a request in the log.
type entry struct {
	N      int       `json:"n"`
	At     time.Time `json:"at"`
	Call   string    `json:"call"`
	Trace  string    `json:"trace_id"`
	Status int       `json:"status"` // 0: no answer so far, or none at all
	Fault  string    `json:"fault,omitempty"`

	bucket bucket
	free   bool
}

// logged is how many requests the log keeps at least.
const logged = 100_000

// state is everything that the sandbox knows. Only apply changes it, so replaying a journal gives
// the same state.
type state struct {
	settings *settings

	invitations []*invitation // in order of creation, once sort has run
	unsorted    bool
	byID        map[string]*invitation
	byKey       map[string][]*invitation // by address in lower case
	waiting     []*invitation            // created by calls and not yet considered for acceptance; oldest first

	users   []*user
	userKey map[string][]*user

	mails      map[string]int
	mailed     int
	month      string // the month of monthMails, in UTC
	monthMails int

	requests int // how many arrived in total, which is the number of the last one
	log      []*entry
	arrivals map[string]int            // by call
	answers  map[string]map[string]int // by call and status
	windows  map[bucket]*window
	meters   map[bucket]*meter
	last     int64 // the time of the newest request
}

func newState(c *settings) *state {
	st := &state{
		settings: c,
		byID:     map[string]*invitation{},
		byKey:    map[string][]*invitation{},
		userKey:  map[string][]*user{},
		mails:    map[string]int{},
		arrivals: map[string]int{},
		answers:  map[string]map[string]int{},
	}
	st.measure()
	return st
}

func (st *state) empty() bool {
	return st.requests == 0 && len(st.invitations) == 0 && len(st.users) == 0
}

// measure builds the windows for the settings in force, from the log.
func (st *state) measure() {
	st.windows, st.meters = map[bucket]*window{}, map[bucket]*meter{}
	for _, b := range buckets {
		limit := st.settings.Limits.of(b, "")
		st.meters[b] = &meter{window: window{length: int64(limit.Window)}}
		w := &window{length: int64(limit.Window), fixed: st.settings.WindowMode == "fixed", epoch: st.settings.Switches.Alignment == "epoch"}
		if limit.N < 0 {
			w.length = 0
		}
		st.windows[b] = w
	}
	for _, e := range st.log {
		st.count(e)
	}
}

func (st *state) count(e *entry) {
	if e.bucket == "" {
		return
	}
	at := e.At.UnixNano()
	st.meters[e.bucket].add(at)
	if !e.free {
		st.windows[e.bucket].add(at)
	}
}

func (st *state) apply(r *record) {
	switch r.Op {
	case opArrive:
		st.arrive(r)
	case opAnswer:
		st.answer(r)
	case opInvite, opSeed:
		for _, in := range r.Invitations {
			st.invite(in)
		}
		if r.Op == opInvite {
			st.waiting = append(st.waiting, r.Invitations...)
		}
		st.join(r.Users)
	case opRevoke:
		st.change(r, revoked)
	case opDelete:
		st.change(r, deleted)
	case opAccept:
		st.change(r, accepted)
		st.join(r.Users)
	}
}

func (st *state) arrive(r *record) {
	e := &entry{N: r.N, At: time.Unix(0, r.At).UTC(), Call: r.Call, Trace: r.Trace, bucket: r.Bucket}
	st.requests, st.last = r.N, r.At
	if len(st.log) >= 2*logged {
		st.log = slices.Clone(st.log[logged:])
	}
	st.log = append(st.log, e)
	st.arrivals[e.Call]++
	st.count(e)
}

func (st *state) answer(r *record) {
	i := r.N - 1 - (st.requests - len(st.log))
	if i < 0 || i >= len(st.log) {
		return // no longer in the log
	}
	e := st.log[i]
	e.Status, e.Fault, e.free = r.Status, r.Fault, r.Free
	if r.Free && e.bucket != "" {
		st.windows[e.bucket].drop(e.At.UnixNano())
	}
	status := "cut"
	if r.Status != 0 {
		status = strconv.Itoa(r.Status)
	}
	if st.answers[e.Call] == nil {
		st.answers[e.Call] = map[string]int{}
	}
	st.answers[e.Call][status]++
}

func (st *state) invite(in *invitation) {
	if n := len(st.invitations); n > 0 && st.invitations[n-1].Created > in.Created {
		st.unsorted = true
	}
	key := strings.ToLower(in.Email)
	st.invitations = append(st.invitations, in)
	st.byID[in.ID] = in
	st.byKey[key] = append(st.byKey[key], in)
	if in.Mailed {
		st.mails[key]++
		st.mailed++
		if month := monthOf(in.Created); month != st.month {
			st.month, st.monthMails = month, 0
		}
		st.monthMails++
	}
}

func (st *state) change(r *record, status string) {
	for _, id := range r.IDs {
		if in := st.byID[id]; in != nil {
			in.Status, in.Changed = status, r.At/int64(time.Millisecond)
		}
	}
}

func (st *state) join(users []*user) {
	for _, u := range users {
		key := strings.ToLower(u.Email)
		st.users = append(st.users, u)
		st.userKey[key] = append(st.userKey[key], u)
	}
}

// sort puts the invitations into order of creation. Calls create them in order. Only seeds with an
// earlier time of creation are out of order.
func (st *state) sort() {
	if st.unsorted {
		slices.SortStableFunc(st.invitations, func(a, b *invitation) int { return cmp.Compare(a.Created, b.Created) })
		st.unsorted = false
	}
}

// same reports whether two addresses are one person for this instance.
func (st *state) same(a, b string) bool {
	return a == b || !st.settings.Switches.CaseSensitive && strings.EqualFold(a, b)
}

func (st *state) user(email string) *user {
	for _, u := range st.userKey[strings.ToLower(email)] {
		if st.same(u.Email, email) {
			return u
		}
	}
	return nil
}

// standing reports whether an invitation blocks a new one.
func (st *state) standing(email string, ms int64) bool {
	return slices.ContainsFunc(st.byKey[strings.ToLower(email)], func(in *invitation) bool {
		status := in.statusAt(ms, 0)
		return st.same(in.Email, email) &&
			(status == pending || status == expired && st.settings.Switches.ExpiredBlocks)
	})
}

// willAccept reports whether a person is one of those who accept after some time.
func (a Acceptance) willAccept(email string) bool {
	if a.Fraction == 0 {
		return false
	}
	h := fnv.New64a()
	h.Write(strconv.AppendUint([]byte(strings.ToLower(email)), a.Seed, 10))
	// The last byte hardly changes FNV's upper bits, so mix them.
	v := h.Sum64()
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	return float64(v>>11)/(1<<53) < a.Fraction
}

// mature accepts the invitations that are due to be accepted.
func (s *Server) mature(now time.Time) {
	a := s.settings.Acceptance
	if a.Fraction == 0 {
		return
	}
	ms, after := now.UnixMilli(), time.Duration(a.After).Milliseconds()
	for st := s.state; len(st.waiting) > 0 && st.waiting[0].Created+after <= ms; {
		in := st.waiting[0]
		st.waiting = st.waiting[1:]
		due := in.Created + after
		if in.statusAt(due, 0) == pending && a.willAccept(in.Email) {
			s.accept([]*invitation{in}, due)
		}
	}
}

// accept marks invitations as accepted and makes their people users.
func (s *Server) accept(invitations []*invitation, ms int64) {
	r := &record{Op: opAccept, At: ms * int64(time.Millisecond)}
	joined := map[string]bool{}
	for _, in := range invitations {
		r.IDs = append(r.IDs, in.ID)
		if s.state.user(in.Email) == nil && !joined[strings.ToLower(in.Email)] {
			joined[strings.ToLower(in.Email)] = true
			r.Users = append(r.Users, newUser(in.Email, ms))
		}
	}
	s.commit(r)
}

// newInvitation uses a random id, so that an id is never repeated, even after the state was
// deleted.
func newInvitation(email string, ms int64, days int) *invitation {
	return &invitation{ID: "inv_" + rand.Text(), Email: email, Created: ms, Expires: ms + int64(days)*24*int64(time.Hour/time.Millisecond), Status: pending}
}

func newUser(email string, ms int64) *user {
	return &user{ID: "user_" + rand.Text(), Email: email, Created: ms}
}

func monthOf(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01") }
