package invitation_test

import (
	"hash/maphash"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// normal brings a world into the one form that stands for all that are alike to
// Next and to all that can happen: what matters of times is their order, and
// how many ticks lie between them up to gapTicks. Attempts of a row that is
// decided for good and that can do nothing more are forgotten.
//
// It is what a search mostly does, in one goroutine: the race detector has
// nothing to find in it, and would make it eight times slower.
//
//go:norace
func (m *model) normal(w *world) {
	if !m.restore {
		m.drop(w)
	}
	m.times = w.book.times(append(m.times[:0], &w.now, &w.guard.begun, &w.settling.begun))
	if w.dumped {
		m.times = w.dump.times(m.times)
	}
	for i := range w.invs {
		m.times = append(m.times, &w.invs[i].made)
	}
	for k := range w.requests {
		m.times = append(m.times, &w.requests[k].until)
	}
	var ticks, orders [64]int8
	for _, t := range m.times {
		ticks[t.tick], orders[t.order] = 1, 1
	}
	next, last := int8(0), 0
	for i := 1; i < len(ticks); i++ {
		if ticks[i] > 0 {
			next += int8(min(i-last, gapTicks))
			last, ticks[i] = i, next
		}
	}
	next = 0
	for i := 1; i < len(orders); i++ {
		if orders[i] > 0 {
			next++
			orders[i] = next
		}
	}
	ticks[0], orders[0] = 0, 0
	for _, t := range m.times {
		t.tick, t.order = ticks[t.tick], orders[t.order]
	}
}

// times lists the times in a ledger.
//
//go:norace
func (b *book) times(list []*moment) []*moment {
	for k := range b.tries {
		if b.tries[k].row == 0 {
			break
		}
		list = append(list, &b.tries[k].started, &b.tries[k].answered)
	}
	for r := range b.rows {
		e := &b.rows[r]
		list = append(list, &e.started, &e.since, &e.notBefore, &e.users)
	}
	for i := range b.seen {
		list = append(list, &b.seen[i].first, &b.seen[i].last)
	}
	return append(list, &b.seenUser.first, &b.seenUser.last, &b.lists)
}

//go:norace
func (m *model) drop(w *world) {
	to := 0
	var moved [maxTries + 1]int8
	for k := range w.tries {
		t, q := w.tries[k], w.requests[k]
		if t.row == 0 {
			continue
		}
		outcome := w.rows[t.row-1].outcome
		if outcome != 0 && outcome != hasFailed && q == (request{}) && !t.open {
			continue
		}
		w.tries[to], w.requests[to] = t, q
		to++
		moved[k+1] = int8(to)
	}
	for k := to; k < maxTries; k++ {
		w.tries[k], w.requests[k] = try{}, request{}
	}
	for i := range w.invs {
		w.invs[i].try = moved[w.invs[i].try]
	}
	if w.settling.try > 0 {
		if w.settling.try = moved[w.settling.try]; w.settling.try == 0 {
			w.settling = pass{}
		}
	}
}

// node is a world that was reached, and how.
type node struct {
	from *node
	by   event
}

func (n *node) String() string {
	var path []string
	for ; n.from != nil; n = n.from {
		path = append([]string{n.by.String()}, path...)
	}
	return strings.Join(path, " ")
}

// search plays every order of events up to the setting's depth. Worlds that are
// alike are played once. From each a fair run must come to its end.
type search struct {
	*model
	t           *testing.T
	seed        maphash.Seed
	met, live   map[uint64]struct{}
	states      int
	transitions int
	stepped     int // of fair runs
}

type reached struct {
	world
	*node
}

func (s *search) run() {
	w := s.begin()
	s.normal(&w)
	level := []reached{{w, &node{}}}
	s.met[maphash.Comparable(s.seed, w)] = struct{}{}
	var events []event
	for depth := 0; depth <= s.depth && len(level) > 0; depth++ {
		var next []reached
		for i := range level {
			at := &level[i]
			s.states++
			s.ends(at)
			events = s.events(&at.world, events)
			s.failed(at.node)
			if depth == s.depth {
				continue
			}
			for _, e := range events {
				w := at.world
				s.play(&w, e)
				s.transitions++
				if s.broken != "" {
					s.failed(&node{at.node, e})
				}
				if s.full {
					s.full = false
					continue
				}
				h := maphash.Comparable(s.seed, w)
				if _, ok := s.met[h]; !ok {
					s.met[h] = struct{}{}
					next = append(next, reached{w, &node{at.node, e}})
				}
			}
		}
		level = next
	}
}

// play lets an event happen, looks whether all is true, and brings the world
// into its normal form.
func (m *model) play(w *world, e event) {
	m.happen(w, e)
	m.truth(w)
	m.normal(w)
}

func (s *search) failed(n *node) {
	if s.broken != "" {
		s.t.Fatalf("%s\nafter %s\nhistory:\n%s", s.broken, n, s.retold(n))
	}
}

// retold plays a way again, and lists the facts of its history.
func (s *search) retold(n *node) string {
	var way []event
	for ; n.from != nil; n = n.from {
		way = append(way, n.by)
	}
	m := &model{setting: s.setting, telling: true}
	w := m.begin()
	m.normal(&w)
	for _, e := range slices.Backward(way) {
		m.play(&w, e)
	}
	return told(m.history)
}

// mostSteps is how many events a fair run may take to its end.
const mostSteps = 200

// ends lets a world go on fairly until it meets one that is known to come to its
// end, or does.
func (s *search) ends(at *reached) {
	w := at.world
	way := at.node
	var steps []uint64
	for range mostSteps {
		h := maphash.Comparable(s.seed, w)
		_, ok := s.live[h]
		if !ok && s.ended(&w) {
			ok = true
			s.tell(&w, fact{kind: runEnded})
			s.failed(way)
		}
		if ok {
			for _, h := range append(steps, h) {
				s.live[h] = struct{}{}
			}
			return
		}
		steps = append(steps, h)
		e := s.fair(&w)
		way = &node{way, e}
		s.play(&w, e)
		s.stepped++
		s.failed(way)
		if s.full {
			s.t.Fatalf("a fair run needs more than a world has room for\nafter %s", way)
		}
	}
	s.t.Fatalf("a fair run does not end\nafter %s", way)
}

// In these worlds the person is known to Clerk as the batch starts.
func invitedBefore(status int8, at moment) func(*world) {
	return func(w *world) {
		w.invs[0] = invite{made: at, status: status, visible: true}
		w.user = status == isAccepted
	}
}

// Each setting is searched to a depth that takes about a second.
var settings = []setting{
	{name: "one row", depth: 11, rows: 1, tries: 3, fault: 3, accept: true, revoke: true, reject: true, joins: true},
	{name: "one row, taken away", depth: 11, rows: 1, tries: 3, fault: 2, accept: true, cancel: true, pause: true, retry: true},
	{name: "one row in bulk", depth: 10, rows: 1, tries: 3, fault: 2, bulk: true, accept: true},
	{name: "one row, slow reads", depth: 12, rows: 1, tries: 2, fault: 2, unread: true, slowReads: true, accept: true, revoke: true},
	{name: "one row, nobody read ahead", depth: 10, rows: 1, tries: 3, fault: 3, noPreflight: true, slowReads: true, accept: true, reject: true},
	{name: "one row, Clerk refuses nobody", depth: 10, rows: 1, tries: 3, fault: 3, lenient: true, noPreflight: true, slowReads: true, revoke: true},
	{name: "one row, our clock ahead", depth: 12, rows: 1, tries: 2, fault: 2, offset: 2, over: time.Second, accept: true},
	{name: "one row, our clock behind", depth: 12, rows: 1, tries: 2, fault: 2, offset: -2, over: 15 * time.Second, accept: true},
	{name: "one row, invited before", depth: 10, rows: 1, tries: 2, fault: 2, unread: true, accept: true, revoke: true, bulk: true, start: invitedBefore(isPending, moment{10, 1})},
	{name: "one row, invited before, not read", depth: 10, rows: 1, tries: 2, fault: 2, noPreflight: true, accept: true, bulk: true, start: invitedBefore(isPending, moment{10, 1})},
	{name: "one row, revoked just before", depth: 10, rows: 1, tries: 2, fault: 2, unread: true, bulk: true, slowReads: true, start: invitedBefore(isRevoked, moment{20, 1})},
	{name: "one row, a user before", depth: 10, rows: 1, tries: 2, fault: 2, unread: true, bulk: true, start: invitedBefore(isAccepted, moment{10, 1})},
	{name: "one row, a user before, not read", depth: 9, rows: 1, tries: 2, fault: 2, noPreflight: true, bulk: true, start: invitedBefore(isAccepted, moment{10, 1})},
	{name: "two rows", depth: 8, rows: 2, tries: 3, fault: 2, accept: true, cancel: true},
	{name: "two rows, Clerk refuses nobody", depth: 9, rows: 2, tries: 3, fault: 2, lenient: true, noPreflight: true, accept: true, revoke: true, sweep: true},
	{name: "two rows, expiry", depth: 10, rows: 2, tries: 3, fault: 1, expiry: 2, noPreflight: true},
	{name: "two rows, expired ones block", depth: 10, rows: 2, tries: 3, fault: 1, expiry: 2, blocks: true, noPreflight: true},
	{name: "restored", depth: 10, rows: 1, tries: 3, fault: 2, restore: true, accept: true},
	{name: "restored, all dead, revoked", depth: 10, rows: 1, tries: 3, fault: 2, restore: true, reaped: true, accept: true, revoke: true},
	{name: "restored, two rows", depth: 8, rows: 2, tries: 3, fault: 1, restore: true, reaped: true, sweep: true},
	{name: "late lists", depth: 12, rows: 1, tries: 3, fault: 2, lateLists: true},
	{name: "late arrival", depth: 8, rows: 2, tries: 3, fault: 2, lateArrival: true, accept: true},
}

func TestModel(t *testing.T) {
	t.Parallel()
	deeper, _ := strconv.Atoi(os.Getenv("MODEL_DEEPER"))
	for _, one := range settings {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			one.depth += deeper
			s := &search{model: &model{setting: one, decs: map[string]int{}}, t: t, seed: maphash.MakeSeed(), met: map[uint64]struct{}{}, live: map[uint64]struct{}{}}
			s.run()
			t.Logf("depth %d: %d states, %d events, %d fair: %v", s.depth, s.states, s.transitions, s.stepped, s.decs)
		})
	}
}

// TestModelAtRandom goes further than any search: long walks, many faults, and
// more attempts than one.
func TestModelAtRandom(t *testing.T) {
	t.Parallel()
	for _, one := range settings {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			one.tries, one.fault = 4, 20
			rapid.Check(t, func(t *rapid.T) {
				m := &model{setting: one, telling: true}
				w := m.begin()
				var events []event
				for range 100 {
					events = m.events(&w, events)
					e := rapid.SampledFrom(events).Draw(t, "event")
					m.play(&w, e)
					if m.broken != "" {
						t.Fatalf("%s\nhistory:\n%s", m.broken, told(m.history))
					}
					if m.full {
						return
					}
				}
				for range mostSteps {
					if m.full {
						return
					}
					if m.ended(&w) {
						if m.tell(&w, fact{kind: runEnded}); m.broken != "" {
							t.Fatalf("%s\nhistory:\n%s", m.broken, told(m.history))
						}
						return
					}
					e := m.fair(&w)
					t.Logf("fair: %v", e)
					m.play(&w, e)
					if m.broken != "" {
						t.Fatalf("%s\nhistory:\n%s", m.broken, told(m.history))
					}
				}
				t.Fatal("a fair run does not end")
			})
		})
	}
}
