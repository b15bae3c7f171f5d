package simulation

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/ratelimit"
)

// Times of a run. second is the length of a second of the workers' own waits; the flag -second sets
// it.
var second, settleTime, requestTimeout, recoverAfter, calmAfter, stuck time.Duration

// pace sets the times. If they are too short for the machine, requests time out without a planted
// fault.
func pace(s time.Duration) {
	second = s
	settleTime, requestTimeout, recoverAfter = 5*s, 8*s, 14*s
	calmAfter = 130 * s // no faults after this
	stuck = 2800 * s    // a run that takes longer has failed; a row may back off for 1350*s
}

// file is a file that the operator sends.
type file struct {
	people     []int // by row; -1 for an invalid address
	duplicates invitation.OnDuplicate
	preflight  bool
	canary     int
}

// csv returns the text of the file.
func (f file) csv(n int) string {
	var b strings.Builder
	b.WriteString("Name,Email\n")
	for i, p := range f.people {
		email := person(p)
		if p < 0 {
			email = "nobody"
		}
		fmt.Fprintf(&b, "File %d row %d,%s\n", n, i+1, email)
	}
	return b.String()
}

func person(i int) string { return fmt.Sprintf("p%02d@example.com", i) }

// action is something that the operator does after a number of requests that change something has
// arrived at the sandbox.
type action struct {
	what  string
	after int
	dice  *rand.Rand
}

// world is what a seed decides before the run begins.
type world struct {
	files       []file
	users       []string // users at the start
	pending     []string // people with a pending invitation at the start
	blocked     []string
	workers     int
	create      ratelimit.Limit
	bulk        ratelimit.Limit
	general     ratelimit.Limit
	windows     string
	switches    sandbox.Switches
	ignoring    bool // Clerk refuses no second invitation, so only the program prevents one
	late        bool // requests may be in flight after their deadline; there are no limits then
	toPostgres  float64
	toClerk     float64
	harm        float64 // probability that a fault kills the worker or lets it stand still
	reconciling bool
	actions     []action
}

func newWorld(f *fate) *world {
	dice := f.at("world")
	w := &world{workers: 2 + dice.IntN(3), toPostgres: []float64{0, 0.02, 0.05, 0.1}[dice.IntN(4)],
		toClerk: []float64{0, 0.1, 0.25, 0.4}[dice.IntN(4)], harm: []float64{0.2, 0.4, 0.6}[dice.IntN(3)]}
	w.windows = []string{"sliding", "fixed"}[dice.IntN(2)]
	w.switches = sandbox.Switches{
		Bulk:      []string{"all_or_nothing", "partial", "partial_200"}[dice.IntN(3)],
		Offenders: []string{"all", "first", "none"}[dice.IntN(3)],
		BulkOrder: []string{"same", "reversed", "shuffled"}[dice.IntN(3)],
		Twice:     "refuse",
		Query:     []string{"substring", "exact"}[dice.IntN(2)],
	}
	w.ignoring = dice.Float64() < 0.4
	w.reconciling = dice.Float64() < 0.3
	lag := dice.Float64()
	w.limits(dice)
	if lag < 0.3 && !w.late { // lag and late together would be longer than the settle time
		w.switches.ListLag = sandbox.Duration(settleTime / 3)
	}
	w.crowd(dice)
	w.operator(f, dice)
	return w
}

// limits chooses the limits. Some of them allow very little.
func (w *world) limits(dice *rand.Rand) {
	none := ratelimit.Limit{None: true}
	switch dice.IntN(4) {
	case 0:
		w.create, w.bulk, w.general = none, none, none
		w.late = dice.IntN(2) == 0
	case 1: // only single calls
		w.create, w.bulk = ratelimit.Limit{N: 4 + dice.IntN(8), Window: 10 * second}, ratelimit.Limit{Off: true}
		w.general = ratelimit.Limit{N: 100, Window: 4 * second}
	case 2: // only bulk calls
		w.create, w.bulk = ratelimit.Limit{Off: true}, ratelimit.Limit{N: 2 + dice.IntN(3), Window: 10 * second}
		w.general = ratelimit.Limit{N: 100, Window: 4 * second}
	default:
		w.create, w.bulk = ratelimit.Limit{N: 3 + dice.IntN(6), Window: 13 * second},
			ratelimit.Limit{N: 1 + dice.IntN(3), Window: 13 * second}
		w.general = ratelimit.Limit{N: 60, Window: 4 * second}
	}
}

// crowd chooses the people and their files.
func (w *world) crowd(dice *rand.Rand) {
	people, refused := 10+dice.IntN(15), 0
	if dice.IntN(10) == 0 { // enough for the breaker
		people, refused = 24+dice.IntN(12), 8
	}
	for i := range people {
		switch n := dice.IntN(20); {
		case i < refused:
			w.blocked = append(w.blocked, person(i))
		case n == 0:
			w.users = append(w.users, person(i))
		case n == 1:
			w.pending = append(w.pending, person(i))
		case n == 2 && dice.IntN(2) == 0:
			w.blocked = append(w.blocked, person(i))
		}
	}
	files := 1 + dice.IntN(2)
	for n := range files {
		f := file{preflight: w.ignoring || dice.IntN(4) > 0, duplicates: invitation.Skip}
		if n > 0 && dice.IntN(2) == 0 {
			f.duplicates = invitation.Resend
		}
		if dice.IntN(8) == 0 {
			f.canary = 1 + dice.IntN(3)
		}
		for _, i := range dice.Perm(people) {
			if n == 0 || dice.IntN(3) > 0 { // the second file has two thirds of them
				f.people = append(f.people, i)
			}
		}
		if dice.IntN(2) == 0 && len(f.people) > 2 {
			f.people = append(f.people, f.people[dice.IntN(len(f.people))], -1)
		}
		w.files = append(w.files, f)
	}
}

// operator chooses the operator's actions.
func (w *world) operator(f *fate, dice *rand.Rand) {
	for n := range dice.IntN(5) {
		a := action{after: 1 + dice.IntN(10), dice: f.at("action", n)}
		a.what = pick(dice, []weighted[string]{{"pause", 3}, {"resume", 3}, {"cancel", 2}, {"retry", 2}, {"resend",
			3}, {"rescind", 3},
			{"undo", 1}, {"correct", 2}, {"sweep", 2}, {"restart", 2}, {"accept", 2}})
		if dice.IntN(4) == 0 { // once nothing else is left
			a.after = math.MaxInt
		}
		w.actions = append(w.actions, a)
	}
	if len(w.files) > 1 {
		w.actions = append(w.actions, action{what: "send", after: dice.IntN(12), dice: f.at("action", "send")})
	}
}

// allows returns a limit in the sandbox's form.
func allows(l ratelimit.Limit) sandbox.Limit {
	if l.None || l.Off {
		return sandbox.Limit{N: -1}
	}
	return sandbox.Limit{N: l.N, Window: l.Window}
}
