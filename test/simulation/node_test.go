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

	"bulkinvite/internal/clerk"
	"bulkinvite/jobs"
)

// node is one life of a worker: a process with its connections.
type node struct {
	r      *run
	worker int // number of the worker, from 0
	life   int // starts before this one, from 0
	stop   context.CancelFunc
	over   chan struct{}

	mu     sync.Mutex
	dead   bool
	thawed chan struct{} // closed when the node continues; nil unless it stands still
	id     string        // its id in the table workers
	conns  map[net.Conn]bool
}

var errDead = errors.New("the worker is dead")

// start begins a life of a worker. The worker runs until it dies, is stopped, or the run ends.
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

// live runs one life. If the worker gives up by itself, for example because it can't register, live
// starts it again, like a supervisor of processes.
func (n *node) live(ctx context.Context) {
	r := n.r
	config := r.pool.Config()
	config.MaxConns = 4
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan" // planning is most of the cost of a run
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

// name returns the name of the node, which is also in workers.version.
func (n *node) name() string { return fmt.Sprintf("%d.%d", n.worker, n.life) }

func timeless(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == "worker" {
		return slog.Attr{}
	}
	return a
}

// logged adds a worker's log to the story of the run.
type logged struct{ n *node }

func (l logged) Write(p []byte) (int, error) {
	l.n.r.note(l.n, "log: %s", p[:len(p)-1])
	if broken.Match(p) {
		l.n.r.wrong("PostgreSQL refuses what worker %s writes: %s", l.n.name(), p[:len(p)-1])
	}
	return len(p), nil
}

// broken matches errors that no fault explains: a wrong value, constraint, trigger or statement.
var broken = regexp.MustCompile(`SQLSTATE (22|23|42|P0)`)

// gate returns when the process runs: at once, or when it no longer stands still. It returns
// errDead if the process is dead.
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

// keep registers a connection, so that it ends with the process.
func (n *node) keep(c net.Conn) (net.Conn, error) {
	n.mu.Lock()
	dead := n.dead
	if !dead {
		n.conns[c] = true
	}
	n.mu.Unlock()
	if dead { // it died during the dial; Close takes the lock too
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

// die acts like kill -9, as far as the outside can tell: all connections end at once, and no new
// one is made.
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
		// An error means that it is closed already.
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

// stand lets the process stand still for d, like SIGSTOP and SIGCONT. Unlike with SIGSTOP, its
// timers fire in that time and not all at once at its end.
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
	flying := n.r.inFlight(n)
	if flying && d > 5*second {
		n.r.rare.count("a worker stood still for longer than a lease while a request of its was under way")
	}
	held := n.r.leases(n)
	time.AfterFunc(d, func() {
		n.r.lostLeases(n, held, flying)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.thawed == thawed {
			n.thawed = nil
			close(thawed)
		}
		n.r.note(n, "goes on")
	})
}

// mortal reports whether a fault may kill this life. A worker's third life is not killed.
func (n *node) mortal() bool { return n.life < 2 }
