package simulation

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/postgres"
	"bulkinvite/internal/postgres/postgrestest"
)

var (
	oneSeed = flag.Uint64("seed", 0, "simulate this seed alone, and say what happened; 0: -seeds of them")
	seeds   = flag.Uint64("seeds", 6, "how many seeds, from -first on")
	first   = flag.Uint64("first", 1, "the first seed")
	slow    = flag.Duration("second", underRace*30*time.Millisecond,
		"how long a second of the workers' own waits is; longer for a busy machine")
	complete = flag.Bool("complete", false, "fail for a rare state that no seed has reached")
	times    = flag.Int("times", 1, "how often each seed is run")
)

func TestMain(m *testing.M) {
	flag.Parse()
	pace(*slow)
	postgrestest.Main(m, func() error {
		if *seeds < 50 && *oneSeed == 0 {
			return nil
		}
		return total.report(os.Stdout, *complete)
	})
}

// total counts the rare states of all runs.
var total = newRare()

// mostVoid is the share of runs that may be void with -complete. A program that stops making
// progress would make more of them void.
const mostVoid = 0.02

// TestSimulate runs the program under the faults of some seeds.
func TestSimulate(t *testing.T) {
	t.Parallel()
	from, to := *first, *first+*seeds
	if *oneSeed != 0 {
		from, to = *oneSeed, *oneSeed+1
	}
	for seed := from; seed < to; seed++ {
		for range *times {
			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
				t.Parallel()
				simulate(t, seed)
			})
		}
	}
}

// run is one run of a seed.
type run struct {
	t       *testing.T
	fate    *fate
	world   *world
	pool    *pgxpool.Pool // has no faults; for the operator and the checks
	sandbox *sandbox.Server
	rare    *rare

	instance invitation.Instance
	began    time.Time
	ctx      context.Context // ends with the run
	working  context.Context // ends when the workers must stop
	listener listener
	closed   chan struct{}
	acting   sync.Mutex // lets the sandbox handle one request at a time

	mu      sync.Mutex
	nodes   map[int]*node
	came    map[int64]int // requests that arrived, by attempt
	arrive  int           // requests that arrived and change something
	tasks   int           // actions and restarts that have not ended
	flight  map[*node]int // requests in flight
	kinds   map[string]int
	files   int // files that were sent
	actions []action
	wrongs  []string
	story   []string
	quiet   bool // there are no faults any more
	voided  bool // the machine was too busy
}

func simulate(t *testing.T, seed uint64) {
	f := &fate{seed: seed, seen: map[string]int{}}
	r := &run{t: t, fate: f, world: newWorld(f), rare: newRare(), began: time.Now(), listener: make(chan net.Conn),
		closed: make(chan struct{}),
		nodes:  map[int]*node{}, came: map[int64]int{}, flight: map[*node]int{}, kinds: map[string]int{}}
	r.actions = r.world.actions
	ctx, cancel := context.WithTimeout(t.Context(), 2*stuck)
	defer cancel()
	r.ctx = ctx
	var stop context.CancelFunc
	r.working, stop = context.WithCancel(ctx)
	defer stop()
	r.open()
	server := &http.Server{Handler: r, ConnContext: func(ctx context.Context,
		c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(r) }()
	r.send(0)
	for i := range r.world.workers {
		r.start(i, 0)
	}
	ended := r.drain()
	r.end(stop)
	if ended {
		r.judge()
	}
	r.states()
	close(r.closed)
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("the server ended: %v", err)
	}
	if err := r.sandbox.Close(); err != nil {
		t.Error(err)
	}
	total.add(r.rare)
	r.tell()
}

// open makes the database, the sandbox and the instance.
func (r *run) open() {
	pool, err := postgres.Open(r.ctx, postgrestest.URL(r.t)+"&pool_max_conns=8")
	if err != nil {
		r.t.Fatal(err)
	}
	r.pool = pool
	r.t.Cleanup(pool.Close)
	w := r.world
	r.sandbox, err = sandbox.New(sandbox.Config{WindowMode: w.windows, Switches: w.switches, Users: w.users,
		Blocked: w.blocked,
		Limits:  sandbox.Limits{Create: allows(w.create), Bulk: allows(w.bulk), General: allows(w.general)}})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, email := range w.pending {
		r.control("POST", "/sandbox/invitations", fmt.Sprintf(`[{"email":%q,"age":"48h"}]`, email), nil)
	}
	if r.instance, err = batch.EnsureInstance(r.ctx, r.pool, "ins_sandbox", "production"); err != nil {
		r.t.Fatal(err)
	}
}

// drain returns true once nothing is left to do. In a loop it makes River's due jobs available and
// does the operator's remaining actions. It returns false if the run is stuck.
func (r *run) drain() bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(r.began) < stuck {
		<-tick.C
		if time.Since(r.began) > calmAfter {
			r.mu.Lock()
			r.quiet = true
			r.mu.Unlock()
		}
		r.wake()
		r.sample()
		// When nothing else is left, do the operator's remaining actions, one after the other.
		if !r.busy() && r.idle() && !r.act0() {
			return true
		}
	}
	left := r.left()
	if r.backsOff() {
		r.void("rows back off for longer than a run lasts: " + left)
		return false
	}
	r.wrong("the run is stuck: %s", left)
	return false
}

// end stops the workers as SIGTERM does, and waits for them.
func (r *run) end(stop context.CancelFunc) {
	r.mu.Lock()
	r.quiet = true
	r.mu.Unlock()
	stop()
	r.mu.Lock()
	nodes := slices.Collect(maps.Values(r.nodes))
	r.mu.Unlock()
	for _, n := range nodes {
		// A killed worker has no connections and ends by itself.
		if n.isDead() {
			continue
		}
		select {
		case <-n.over:
		case <-time.After(stuck):
			r.wrong("worker %s does not stop", n.name())
		}
	}
}

func (r *run) calm() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quiet
}

// later calls do after d, unless the workers must stop before that.
func (r *run) later(d time.Duration, do func()) {
	r.task(func() {
		select {
		case <-time.After(d):
			do()
		case <-r.working.Done():
		}
	})
}

// task runs do in the background. The run does not end before it.
func (r *run) task(do func()) {
	r.mu.Lock()
	r.tasks++
	r.mu.Unlock()
	go func() {
		do()
		r.mu.Lock()
		r.tasks--
		r.mu.Unlock()
	}()
}

func (r *run) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tasks > 0
}

// note adds a line to the story of the run.
func (r *run) note(n *node, format string, args ...any) {
	who := "operator"
	if n != nil {
		who = fmt.Sprintf("worker %d.%d", n.worker, n.life)
	}
	line := fmt.Sprintf("%7.1f ms  %-10s %s", float64(time.Since(r.began).Microseconds())/1000, who,
		fmt.Sprintf(format, args...))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.story = append(r.story, line)
}

// wrong records that something does not hold.
func (r *run) wrong(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	r.note(nil, "WRONG: %s", what)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrongs = append(r.wrongs, what)
}

// void records that the machine was too busy for the run to prove anything. It delayed a request
// for longer than the program may rely on, or so many requests timed out that rows back off for
// longer than a run lasts.
func (r *run) void(why string) {
	r.note(nil, "the machine is too busy, and the run is void: %s", why)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.voided = true
}

// tell reports the result of the run, with its story if it failed or is the only seed.
func (r *run) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *oneSeed != 0 && testing.Verbose() || len(r.wrongs) > 0 {
		const most = 600
		story := r.story
		if len(story) > most {
			story = append(slices.Clone(story[:most/2]), append([]string{"…"}, story[len(story)-most/2:]...)...)
		}
		r.t.Logf("%+v\n%s\n%s", *r.world, strings.Join(story, "\n"), r.rare)
	}
	if r.voided {
		r.t.Logf("seed %d: void, since the machine is too busy; -second is for such", r.fate.seed)
		return
	}
	for _, what := range r.wrongs {
		r.t.Errorf("seed %d: %s", r.fate.seed, what)
	}
	if len(r.wrongs) > 0 {
		r.t.Logf("run it again: go test ./test/simulation -run TestSimulate -seed %d -v", r.fate.seed)
	}
}

// rare counts the rare states that were reached.
type rare struct {
	mu sync.Mutex
	n  map[string]int
}

func newRare() *rare { return &rare{n: map[string]int{}} }

func (c *rare) count(what string) { c.many(what, 1) }

func (c *rare) many(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what] += n
}

func (c *rare) add(other *rare) {
	other.mu.Lock()
	n := maps.Clone(other.n)
	other.mu.Unlock()
	for what, k := range n {
		c.many(what, k)
	}
}

func (c *rare) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(&b, "%7d  %s\n", c.n[what], what)
	}
	return b.String()
}
