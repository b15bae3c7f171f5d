package main

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Short settings for every run, so that what takes a minute with the defaults takes seconds.
const (
	settle         = 1500 * time.Millisecond
	requestTimeout = 2 * time.Second
	recoverAfter   = 2 * time.Second
)

// scenario is one kind of run: what happens to the programs, which calls they use, and what Clerk
// answers.
type scenario struct {
	harm   harm
	mode   string // single or bulk: the only call that creates invitations
	answer answer
}

// name returns the name that -run selects and the report shows.
func (s scenario) name() string { return s.harm.name + "/" + s.mode + "/" + s.answer.name }

// roll returns the source of all random choices of a run. The same seed and scenario give the same
// choices.
func (s scenario) roll(seed uint64) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.name())) // never fails
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// fault is a fault of the sandbox, as its flag --fault takes it.
type fault map[string]any

// answer is a behaviour of Clerk and of the network to it.
type answer struct {
	name string
	mode string // the only mode that it applies to; empty for both
	set  func(c *clerk, call string, dice *rand.Rand)
}

// clerk has the sandbox's part of a run.
type clerk struct {
	faults   []fault
	switches []string
	flags    []string
	imports  []string // flags of the import
	blocked  bool     // some people are on the block list
	window   float64  // length of the limits' window, in seconds
}

// some limits a fault to some of the first requests of a call. Later requests pass, so that a run
// ends.
func some(call string, dice *rand.Rand, f fault) fault {
	f["call"] = call
	if call == "bulk" {
		f["every"], f["first"] = 2+dice.IntN(2), 18
	} else {
		f["every"], f["first"] = 4+dice.IntN(4), 150
	}
	return f
}

// simple returns an answer with one fault.
func simple(name string, make func(dice *rand.Rand) fault) answer {
	return answer{name: name, set: func(c *clerk, call string, dice *rand.Rand) {
		c.faults = append(c.faults, some(call, dice, make(dice)))
	}}
}

func status(name string, f fault) answer {
	f["kind"] = "status"
	return simple(name, func(*rand.Rand) fault {
		g := fault{}
		for k, v := range f {
			g[k] = v
		}
		return g
	})
}

func pick(dice *rand.Rand, values ...string) string { return values[dice.IntN(len(values))] }

// between returns a random time in a range, both ends included.
func between(dice *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(dice.Int64N(int64(to-from)+1)).Round(time.Millisecond)
}

// answers are the columns of the matrix.
var answers = []answer{
	{name: "none", set: func(*clerk, string, *rand.Rand) {}},
	simple("cut_before", func(*rand.Rand) fault { return fault{"kind": "cut_before"} }),
	simple("cut_after", func(*rand.Rand) fault { return fault{"kind": "cut_after"} }),
	status("500_before", fault{"status": 500}),
	status("500_after", fault{"status": 500, "after": true}),
	status("502_html", fault{"status": 502, "html": true}),
	{name: "429_bare", set: func(c *clerk, call string, dice *rand.Rand) {
		f := some(call, dice, fault{"kind": "status", "status": 429})
		f["first"] = 30 // each one freezes the call for a second or more
		c.faults = append(c.faults, f)
	}},
	simple("slow_before", func(dice *rand.Rand) fault {
		return fault{"kind": "slow", "delay": between(dice, requestTimeout+200*time.Millisecond, 3*requestTimeout).String()}
	}),
	simple("slow_after", func(dice *rand.Rand) fault {
		return fault{"kind": "slow", "after": true, "delay": between(dice, requestTimeout+200*time.Millisecond, 3*requestTimeout).String()}
	}),
	simple("garbage", func(*rand.Rand) fault { return fault{"kind": "garbage"} }),
	{name: "list_lag", set: func(c *clerk, call string, dice *rand.Rand) {
		c.faults = append(c.faults, some(call, dice, fault{"kind": "cut_after"}))
		c.switches = append(c.switches, "list_lag="+between(dice, settle/3, settle-300*time.Millisecond).String())
	}},
	{name: "reads_fail", set: func(c *clerk, call string, dice *rand.Rand) {
		c.faults = append(c.faults, some(call, dice, fault{"kind": pick(dice, "cut_before", "cut_after")}),
			fault{"call": "list", "kind": "status", "status": 502, "html": true, "probability": 0.6, "seed": dice.Uint32(), "first": 40},
			fault{"call": "users", "kind": "cut_before", "probability": 0.5, "seed": dice.Uint32(), "first": 20})
	}},
	{name: "mixed", set: mixed},
	{name: "accepted", set: func(c *clerk, call string, dice *rand.Rand) {
		c.faults = append(c.faults, some(call, dice, fault{"kind": pick(dice, "cut_before", "cut_after", "garbage")}))
		c.flags = append(c.flags, "--accept=0.5", "--accept-after="+between(dice, 0, 3*time.Second).String())
	}},
	{name: "no_preflight", set: offenders},
	{name: "reordered", mode: bulk, set: func(c *clerk, _ string, dice *rand.Rand) {
		c.switches = append(c.switches, "bulk_order="+pick(dice, "reversed", "shuffled"))
	}},
	{name: "lacks_one", mode: bulk, set: func(c *clerk, call string, dice *rand.Rand) {
		c.faults = append(c.faults, some(call, dice, fault{"kind": "partial_bulk"}))
	}},
	{name: "all_or_nothing", mode: bulk, set: bulkOffenders("all_or_nothing")},
	{name: "partial", mode: bulk, set: bulkOffenders("partial")},
	{name: "partial_200", mode: bulk, set: bulkOffenders("partial_200")},
}

// mixed combines all faults, each for a share of the requests, with lists that lag and reads that
// fail.
func mixed(c *clerk, call string, dice *rand.Rand) {
	for _, f := range []fault{
		{"kind": "cut_before"}, {"kind": "cut_after"}, {"kind": "garbage"},
		{"kind": "status", "status": 500, "after": true}, {"kind": "status", "status": 502, "html": true}, {"kind": "status", "status": 429},
		{"kind": "slow", "after": true, "delay": (requestTimeout + 300*time.Millisecond).String()},
	} {
		f = some(call, dice, f)
		delete(f, "every")
		f["probability"], f["seed"] = 0.05, dice.Uint32()
		c.faults = append(c.faults, f)
	}
	c.faults = append(c.faults, fault{"call": "list", "kind": "cut_after", "probability": 0.2, "seed": dice.Uint32(), "first": 40})
	c.switches = append(c.switches, "list_lag="+between(dice, 0, settle-300*time.Millisecond).String())
}

// offenders adds people to the file that Clerk refuses, and turns the preflight off.
func offenders(c *clerk, _ string, _ *rand.Rand) {
	c.imports = append(c.imports, "--no-preflight")
	c.blocked = true
}

// bulkOffenders is offenders with one of the ways to refuse a bulk call that Clerk's documentation
// leaves open.
func bulkOffenders(how string) func(*clerk, string, *rand.Rand) {
	return func(c *clerk, call string, dice *rand.Rand) {
		offenders(c, call, dice)
		c.window = 0.25 // people go one by one after a call was refused without a named reason
		c.switches = append(c.switches, "bulk="+how, "offenders="+pick(dice, "all", "first", "none"))
	}
}

const (
	single = "single"
	bulk   = "bulk"
)

var modes = []string{single, bulk}

// matrix returns every scenario: each fail point with each answer, and each other harm with
// complete answers, with lost answers, and with mixed ones. A long harm has one answer.
func matrix() []scenario {
	var all []scenario
	for _, h := range append(slices.Clone(points()), harms...) {
		for _, mode := range modes {
			for _, a := range answers {
				point := strings.HasPrefix(h.name, "die_") || h.name == "none"
				if (a.mode == "" || a.mode == mode) && (point || h.plain(a)) {
					all = append(all, scenario{h, mode, a})
				}
			}
		}
	}
	return all
}

// spread returns a part of the matrix in which each harm occurs once, and each answer at least once
// in each of its modes.
func spread() []scenario {
	var all []scenario
	for i, h := range harms {
		played, ok := h.short()
		if !ok {
			continue
		}
		a := answers[2*((i/2)%2)]
		if h.long {
			a = answerNamed(cmp.Or(h.answer, "none"))
		}
		all = append(all, scenario{played, modes[i%2], a})
	}
	deaths := points()
	n := 0
	for _, a := range answers {
		for _, mode := range modes {
			if a.mode == "" || a.mode == mode {
				all = append(all, scenario{deaths[n%len(deaths)], mode, a})
				n++
			}
		}
	}
	return all
}

func answerNamed(name string) answer {
	return answers[slices.IndexFunc(answers, func(a answer) bool { return a.name == name })]
}

// longStop returns a harm that stops one worker for more than a minute, at a fail point, or at any
// moment if point is empty.
func longStop(name, point string, answer ...string) harm {
	h := harm{name: name, stopAt: point, do: (*run).stopAtPoint,
		from: time.Minute, to: 75 * time.Second, long: true, brief: 32 * time.Second}
	if point == "" {
		h.do = (*run).stop
	}
	if len(answer) > 0 {
		h.answer = answer[0]
	}
	return h
}

// idling gives the workers flags that bring them to the fail point even without rows. The query
// taken reports whether another worker has done, since a time, what is done there.
func (h harm) idling(taken string, flags ...string) harm {
	h.idle, h.taken, h.flags = true, taken, flags
	return h
}

// plain reports whether a harm that is not a fail point is played with an answer.
func (h harm) plain(a answer) bool {
	if h.long {
		return a.name == cmp.Or(h.answer, "none")
	}
	return a.name == "none" || a.name == "cut_after" || a.name == "mixed"
}

// short returns the harm as -short plays it, and whether -short has it.
func (h harm) short() (harm, bool) {
	if h.brief > 0 {
		h.from, h.to, h.long = h.brief, h.brief, false
	}
	return h, !h.long
}

// draw has the random choices that a run makes before it begins.
type draw struct {
	clerk
	limits  []string      // flags of the sandbox and the workers
	points  []string      // BULKINVITE_FAILPOINT of each worker's first process
	trigger int           // number of invitations at which the harm begins
	wait    time.Duration // length of the harm
	worker  int           // the worker that the harm hits
	dice    *rand.Rand
}

// prepare makes the random choices of a run.
func (s scenario) prepare(seed uint64) *draw {
	d := &draw{clerk: clerk{window: 1}, dice: s.roll(seed)}
	call := map[string]string{single: "create", bulk: "bulk"}[s.mode]
	s.answer.set(&d.clerk, call, d.dice)
	// Each request takes some time and the budget spreads them over some seconds. Otherwise the run
	// would end before the harm begins.
	d.faults = append(d.faults, fault{"call": call, "kind": "slow", "delay": "40ms"})
	if s.harm.slow {
		d.window *= 4
	}
	window := time.Duration(d.window * float64(time.Second)).String()
	d.limits = []string{"--limit-create=100/" + window, "--limit-bulk=off"}
	if s.mode == bulk {
		d.limits = []string{"--limit-create=off", "--limit-bulk=10/" + window}
	}
	if s.harm.point != "" {
		for range workers {
			n := 1 + d.dice.IntN(3)
			if s.mode == single {
				n = 1 + d.dice.IntN(12)
			}
			d.points = append(d.points, fmt.Sprintf("%s:%d", s.harm.point, n))
		}
	}
	if s.harm.stopAt != "" {
		n := 1
		if s.harm.stopAt == "before_send" || s.harm.stopAt == "after_send" {
			n += d.dice.IntN(3)
		}
		for range workers { // only the first worker that reaches it stops
			d.points = append(d.points, fmt.Sprintf("%s:%d", s.harm.stopAt, n))
		}
	}
	d.trigger = 20 + d.dice.IntN(200)
	if s.harm.slow {
		d.trigger = 10 + d.dice.IntN(60)
	}
	d.worker = d.dice.IntN(workers)
	if s.harm.to > 0 {
		d.wait = between(d.dice, s.harm.from, s.harm.to)
	}
	return d
}

// harm is what happens to the programs in a run.
type harm struct {
	name     string
	point    string // the fail point at which each worker dies once
	do       func(*run) error
	rival    bool          // another program invites some of the people
	from, to time.Duration // range of its length
	restored bool          // the ledger forgets some requests
	batches  int           // number of imports of the same people; 0 means 1
	through  bool          // workers reach PostgreSQL through a proxy
	resend   bool          // once all rows are decided, the file is imported again with --on-duplicate=resend
	long     bool          // takes a minute or more, so it is played with one answer only
	brief    time.Duration // length in the short form; if it is zero, the short form leaves out a long harm

	stopAt string // the fail point at which one worker stops once
	idle   bool   // workers reach stopAt even if no row waits
	// query: has another worker done what the stopped one was about to do? Empty if that is not
	// checked.
	taken        string
	answer       string                     // the only answer of a long harm; empty for "none"
	flags        []string                   // additional flags of the workers
	prepare      func(*run) (string, error) // makes the database and returns its URL; nil to use the lane's server
	one          bool                       // only one worker uses the proxy to PostgreSQL
	slow         bool                       // slow to bring about: a quarter of the budget, and an early start
	throughClerk bool                       // workers reach Clerk through a proxy
	quits        bool                       // workers may exit by themselves and are restarted
	steps        bool                       // workers have clocks that can be stepped
}

// points returns a harm for each fail point where a worker can die, and the harm "none".
func points() []harm {
	all := []harm{{name: "none"}}
	for _, p := range []string{"before_reserve", "after_reserve", "before_send", "after_send", "before_outcome", "after_outcome", "before_completion"} {
		all = append(all, harm{name: "die_" + p, point: p})
	}
	return all
}

// harms are the harms that are not in points.
var harms = []harm{
	{name: "kill", do: (*run).kill},
	{name: "stop", do: (*run).stop, from: requestTimeout + time.Second, to: 4 * requestTimeout},
	longStop("stop_long", ""),
	longStop("stop_before_send", "before_send"),
	longStop("stop_after_send", "after_send"),
	longStop("stop_in_preflight", "hold_preflight"),
	longStop("stop_in_settle", "hold_settle", "cut_after"),
	longStop("stop_in_reconcile", "hold_reconcile").idling(
		`select exists (select from reconciles where started_at > $1 and complete)`, "--reconcile-every=2s"),
	longStop("stop_in_night", "hold_night").idling(
		`select exists (select from sweeps where started_at > $1 and night is not null)`, "--sweep-at=@every 2s", "--tz=UTC"),
	longStop("stop_in_purge", "hold_purge").idling("", "--purge-older-than=365d"),
	{name: "stop_in_claim", do: (*run).stopInClaim, from: 12 * time.Second, to: 20 * time.Second},
	{name: "postgres_down", do: (*run).postgresDown, from: 0, to: 4 * time.Second},
	{name: "postgres_away", do: (*run).postgresDown, from: 5 * time.Minute, to: 5 * time.Minute, long: true},
	{name: "connection_lost", do: (*run).connectionLost, from: 0, to: 4 * time.Second, through: true},
	{name: "connection_silent", do: (*run).connectionSilent, from: time.Second, to: 6 * time.Second, through: true},
	{name: "swallowed_postgres", do: (*run).swallowPostgres,
		prepare: (*run).ownServer, through: true, from: 2 * time.Minute, to: 2 * time.Minute, long: true, brief: 35 * time.Second},
	{name: "swallowed_postgres_one", do: (*run).swallowPostgres,
		prepare: (*run).ownServer, through: true, one: true, from: 2 * time.Minute, to: 2 * time.Minute, long: true, brief: 35 * time.Second},
	{name: "swallowed_clerk", do: (*run).swallowClerk,
		throughClerk: true, from: 2 * time.Minute, to: 2 * time.Minute, long: true, brief: 20 * time.Second},
	{name: "promoted", do: (*run).promote, prepare: (*run).withStandby, from: 0, to: 4 * time.Second},
	{name: "promoted_behind", do: (*run).promoteBehind, prepare: (*run).withStandby, restored: true, slow: true},
	{name: "disk_full", do: (*run).fillDisk, prepare: (*run).onSmallDisk, from: time.Second, to: 10 * time.Second},
	{name: "disk_full_data", do: (*run).fillDisk,
		prepare: (*run).dataOnSmallDisk, quits: true, from: time.Second, to: 10 * time.Second},
	{name: "clock_steps", do: (*run).stepClock, steps: true, from: time.Second, to: 10 * time.Second},
	{name: "restored", do: (*run).restore, restored: true},
	{name: "two_batches", batches: 2},
	{name: "rival", do: (*run).invite, rival: true},
	{name: "cancel", do: (*run).cancel},
	{name: "resend_die_before_revoke", point: "before_revoke", batches: 2, resend: true, do: (*run).sendAgain},
	{name: "resend_die_after_revoke", point: "after_revoke", batches: 2, resend: true, do: (*run).sendAgain},
	{name: "resend_die_between_halves", point: "between_halves", batches: 2, resend: true, do: (*run).sendAgain},
	{name: "pause", do: (*run).pause, from: time.Second, to: 4 * time.Second},
}
