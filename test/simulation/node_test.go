package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/clerk"
	"bulkinvite/jobs"
)

// node is one life of a worker: the process with its connections.
type node struct {
	r      *run
	worker int // from 0
	life   int // from 0; it goes up with each start
	stop   context.CancelFunc
	over   chan struct{}

	mu     sync.Mutex
	dead   bool
	thawed chan struct{} // closed when it goes on; nil: it does not stand still
	id     string        // in workers
	conns  map[net.Conn]bool
}

var errDead = errors.New("the worker is dead")

// start begins a life of a worker. It runs until it dies, is stopped, or the run ends.
func (r *run) start(worker, life int) {
	ctx, stop := context.WithCancel(r.working)
	n := &node{r: r, worker: worker, life: life, stop: stop, over: make(chan struct{}), conns: map[net.Conn]bool{}}
	r.mu.Lock()
	r.nodes[worker] = n
	r.mu.Unlock()
	go func() {
		defer close(n.over)
		n.live(ctx)
	}()
}

// live is one life. Should the worker give up by itself, as it does where it can't even register, it is
// started again, as a supervisor of processes would.
func (n *node) live(ctx context.Context) {
	r := n.r
	config := r.pool.Config()
	config.MaxConns = 4
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan" // planning is most of what a run costs
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := n.gate(); err != nil {
			return nil, err
		}
		inner, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return n.keep(&toPostgres{Conn: inner, n: n})
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		r.wrong("open a worker's pool: %v", err)
		return
	}
	defer pool.Close()
	api, err := clerk.New(clerk.Config{Key: "sk_live_simulation", URL: "http://127.0.0.1/v1", Dial: n.dialClerk})
	if err != nil {
		r.wrong("make a client: %v", err)
		return
	}
	for ctx.Err() == nil {
		w, err := jobs.New(pool, api, n.config())
		if err != nil {
			r.wrong("make a worker: %v", err)
			return
		}
		r.note(n, "starts")
		err = w.Run(ctx, nil)
		r.note(n, "ends: %v", err)
		if err != nil && ctx.Err() == nil {
			time.Sleep(2 * second)
		}
	}
}

func (n *node) config() jobs.Config {
	w := n.r.world
	c := jobs.Config{
		Instance: n.r.instance, Create: w.create, Bulk: w.bulk, General: w.general,
		Settle: settleTime, RequestTimeout: requestTimeout, RecoverAfter: recoverAfter, Second: second,
		Version: n.name(), Log: slog.New(slog.NewTextHandler(logged{n}, &slog.HandlerOptions{Level: slog.LevelWarn,
			ReplaceAttr: timeless})),
	}
	if w.reconciling {
		c.ReconcileEvery = 8 * second
	}
	return c
}

// name is what the node is called, in workers.version too.
func (n *node) name() string { return fmt.Sprintf("%d.%d", n.worker, n.life) }

func timeless(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == "worker" {
		return slog.Attr{}
	}
	return a
}

// logged puts a worker's log among what happened.
type logged struct{ n *node }

func (l logged) Write(p []byte) (int, error) {
	l.n.r.note(l.n, "log: %s", p[:len(p)-1])
	if broken.Match(p) {
		l.n.r.wrong("PostgreSQL refuses what worker %s writes: %s", l.n.name(), p[:len(p)-1])
	}
	return len(p), nil
}

// broken finds errors that no fault explains: a value, a constraint, a trigger or a statement that is wrong.
var broken = regexp.MustCompile(`SQLSTATE (22|23|42|P0)`)

// gate returns when the process runs: at once, or when it has stood still for long enough.
func (n *node) gate() error {
	for {
		n.mu.Lock()
		dead, thawed := n.dead, n.thawed
		n.mu.Unlock()
		if dead {
			return errDead
		}
		if thawed == nil {
			return nil
		}
		<-thawed
	}
}

// keep watches over a connection, so that it ends with the process.
func (n *node) keep(c net.Conn) (net.Conn, error) {
	n.mu.Lock()
	dead := n.dead
	if !dead {
		n.conns[c] = true
	}
	n.mu.Unlock()
	if dead { // since it was dialled; Close locks too
		return nil, errors.Join(errDead, c.Close())
	}
	return c, nil
}

func (n *node) isDead() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

func (n *node) forget(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// die is kill -9, as far as anybody outside the process can tell: all connections end at once, and none is made.
func (n *node) die() {
	n.mu.Lock()
	if n.dead {
		n.mu.Unlock()
		return
	}
	n.dead = true
	conns := n.conns
	n.conns = map[net.Conn]bool{}
	if n.thawed != nil {
		close(n.thawed)
		n.thawed = nil
	}
	n.mu.Unlock()
	for c := range conns {
		// What can't be closed any more is closed.
		_ = c.Close()
	}
	n.r.note(n, "is killed")
	if n.r.inFlight(n) {
		n.r.rare.count("a worker was killed while a request of its was under way")
	}
	n.r.rare.count("a worker was killed")
	n.stop()
	wait := between(n.r.fate.at("birth", n.worker, n.life), 0, 15*second)
	n.r.later(wait, func() { n.r.start(n.worker, n.life+1) })
}

// stand lets the process stand still, as SIGSTOP does, and go on after a while. Timers of its fire
// meanwhile, and not all at once when it goes on.
func (n *node) stand(d time.Duration) {
	n.mu.Lock()
	if n.dead || n.thawed != nil {
		n.mu.Unlock()
		return
	}
	thawed := make(chan struct{})
	n.thawed = thawed
	n.mu.Unlock()
	n.r.note(n, "stands still for %s", d)
	n.r.rare.count("a worker stood still")
	if n.r.inFlight(n) && d > 5*second {
		n.r.rare.count("a worker stood still for longer than a lease while a request of its was under way")
	}
	held := n.r.leases(n)
	time.AfterFunc(d, func() {
		n.r.lostLeases(n, held)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.thawed == thawed {
			n.thawed = nil
			close(thawed)
		}
		n.r.note(n, "goes on")
	})
}

// mortal says whether this life may end by a fault: a worker's third life goes on.
func (n *node) mortal() bool { return n.life < 2 }
