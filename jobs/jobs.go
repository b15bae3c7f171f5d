// Package jobs works the queue: River jobs wake a worker, which claims people,
// asks Clerk for them, and records what came of it.
//
// # Rows are the truth, jobs are disposable
//
// A job carries the number of a batch and of a row, nothing else, and is a mere
// wake-up. A woken worker does not take "its" row: it takes whatever is first in
// line, for the whole fleet keeps the order of priorities, and it goes on until
// its own row no longer waits or no budget is left. So an extra job is harmless
// (its row does not wait, it returns), and a lost one is found when the queue
// runs empty while rows wait. Nothing is ever decided from jobs.
//
// # The parts
//
//   - The claimer, one goroutine a process, reserves budget and claims people in
//     one transaction for many waiting jobs at once.
//   - The reader reads Clerk: whom a claim would be spent on in vain, and what
//     became of requests whose answers were lost.
//   - The gate takes the process off the queue while no budget is left, and puts
//     it back when the window opens.
//   - Revocations are jobs of their own, in a queue of their own: see BeginSweep.
//     So are notices, which the database itself inserts: see Webhook.
//   - The resolver settles open attempts by reading.
//   - The keeper sends heartbeats, declares others dead, repairs lost jobs and
//     finishes batches.
package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/robfig/cron/v3"

	"bulkinvite/clerk"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// Config says how a worker works. Its zero fields take the defaults named.
type Config struct {
	Instance invitation.Instance // whom the key belongs to; required

	Create  ratelimit.Limit // default 100/1h
	Bulk    ratelimit.Limit // default 25/1h
	General ratelimit.Limit // default by the instance: 1000/10s, or 100/10s in development

	Settle         time.Duration // default 15 s: how long after a request's end a read must begin to prove that it made nothing; see docs/protocol.md
	RequestTimeout time.Duration // default 20 s: the longest that a request may take
	RecoverAfter   time.Duration // default 20 s: a process not heard of for so long is dead

	SweepAt        string        // a cron expression ("0 2 * * *"); empty: no nightly sweep
	TZ             string        // its time zone; empty: the machine's
	SweepOlderThan time.Duration // default 14 days
	SweepScope     string        // of the nightly sweep: see SweepOptions

	Links *Links // it sends one batch alone, whose links go to a file; nil: all whose invitations Clerk mails

	OnlyRevokes bool // it sends no invitation, and only takes back and reads

	ReconcileEvery time.Duration // how often everything at Clerk is held against our rows, by one process of the instance; 0: never

	PurgeOlderThan time.Duration   // how long after its end a batch's addresses and original rows are removed; 0: never
	Webhook        *Webhook        // where it delivers notices; nil: others may
	retries        []time.Duration // of notices; tests are in a hurry
	fresh          time.Duration   // how long a read guards claims after its end; tests are in a hurry

	// Second is how long a second is of what the worker waits by itself: backoffs, polls, leases and the
	// end of a stop. Default one second; a simulation, in which an hour takes seconds, has shorter ones.
	// What Clerk and PostgreSQL are given is not changed by it: Settle, RequestTimeout, RecoverAfter and limits.
	Second time.Duration

	Version string // for the workers table
	Log     *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Create == (ratelimit.Limit{}) {
		c.Create = ratelimit.DefaultCreate
	}
	if c.Bulk == (ratelimit.Limit{}) {
		c.Bulk = ratelimit.DefaultBulk
	}
	if c.General == (ratelimit.Limit{}) {
		c.General = ratelimit.DefaultProduction
		if c.Instance.Environment == "development" {
			c.General = ratelimit.DefaultDevelopment
		}
	}
	orDefault(&c.Settle, 15*time.Second)
	orDefault(&c.RequestTimeout, 20*time.Second)
	orDefault(&c.RecoverAfter, 20*time.Second)
	orDefault(&c.SweepOlderThan, 14*24*time.Hour)
	orDefault(&c.Second, time.Second)
	orDefault(&c.fresh, freshFor)
	if c.retries == nil {
		c.retries = noticeRetries
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// paced is a wait of the worker's own, given as it is by default: see [Config.Second].
func (c Config) paced(d time.Duration) time.Duration {
	if c.Second == time.Second {
		return d
	}
	return max(time.Duration(float64(d)*c.Second.Seconds()), time.Millisecond)
}

func orDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

// What a claim may rely on, and how long it is tried.
const (
	freshFor = 10 * time.Minute // how long a read guards claims after its end
	giveUp   = 24 * time.Hour   // how long transient answers are retried
	jobLimit = 10 * time.Minute // River's time-out of a job; a job that has worked for half of it hands over
)

// SlowLists is how long reading the lists that guard claims may take. Beyond
// that, workers spend more than a third of their time reading, during which they
// send nothing, and what they read is old by the time that it is used.
const SlowLists = freshFor / 2

// How many jobs of the invite queue a process works at a time. Without limits it
// is also how many requests are under way, and as many more may be claimed. Under a limit at most inFlight
// requests of each call are, so that little is lost should Clerk begin to
// refuse; more workers than keep those busy would only burn through finished
// jobs at the very moment when a window opens.
const (
	inFlight       = 4
	maxWorkers     = 100
	limitedWorkers = 4 * inFlight
)

// workers is how many jobs of the invite queue this process works at a time.
func (c Config) workers() int {
	if c.Create.None || c.Bulk.None {
		return maxWorkers
	}
	return limitedWorkers
}

// Worker is a process of the fleet for one instance.
type Worker struct {
	pool     *pgxpool.Pool
	store    *invitation.Store
	api      *clerk.Client
	cfg      Config
	log      *slog.Logger
	id       string
	river    *river.Client[pgx.Tx]
	general  *ratelimit.General
	claimer  *claimer
	answers  recorder
	gate     *gate
	working  sync.Map                  // the ids of the jobs at work here
	skew     skew                      // between Postgres' clock and Clerk's
	heard    atomic.Pointer[time.Time] // when it registered first: see [invitation.Rules]
	schedule cron.Schedule             // of the nightly sweep; nil: none
	revoking *patience
	now      func() time.Time // of the schedule
	pruned   time.Time        // when old leases and notices were deleted last; of the keeper
	suspect  atomic.Bool      // a row was rejected or failed: the breaker has to look
	resolve  chan struct{}    // pokes the resolver
	active   chan struct{}    // pokes whoever watches progress
	fatal    chan error       // ends Run
	stopping chan struct{}    // closed when the run ends
	over     chan struct{}    // closed when no job runs any more
}

// New returns a worker. It has done nothing yet; see [Worker.Run].
func New(pool *pgxpool.Pool, api *clerk.Client, cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if cfg.Create.Off && cfg.Bulk.Off {
		return nil, fmt.Errorf("both ways to invite are off: nothing could be sent")
	}
	w := &Worker{
		pool: pool, store: invitation.NewStore(pool), api: api, cfg: cfg, now: time.Now,
		id:      processID(),
		resolve: make(chan struct{}, 1), active: make(chan struct{}, 1), fatal: make(chan error, 1), stopping: make(chan struct{}), over: make(chan struct{}),
	}
	if cfg.Links != nil {
		w.store = w.store.ForLinks(cfg.Links.Batch)
	}
	w.log = cfg.Log.With("worker", w.id)
	w.general = ratelimit.NewGeneral(pool, cfg.Instance.ID, w.id, cfg.General, cfg.RequestTimeout, w.log)
	w.revoking = &patience{paced: cfg.paced, failing: cfg.afterFailures()}
	w.claimer = newClaimer(w)
	w.answers.write = w.record
	w.gate = newGate(w)
	var err error
	if cfg.SweepAt != "" {
		if w.schedule, err = ParseSchedule(cfg.SweepAt, cfg.TZ); err != nil {
			return nil, err
		}
	}
	if w.river, err = w.client(); err != nil {
		return nil, err
	}
	return w, nil
}

// processID names this process, in a way that River takes as a client's id.
func processID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.40s_%d_%08x", strings.ReplaceAll(host, ".", "_"), os.Getpid(), rand.Uint32())
}

// inviteQueue is the instance's own queue, so that a live worker never sees a
// rehearsal's jobs. River's queue names refuse capitals.
func inviteQueue(instance int64) string { return fmt.Sprintf("invite_%d", instance) }

// linksQueue is a batch's own: only the process that has the file of its links
// may work on it.
func linksQueue(batch int64) string { return fmt.Sprintf("links_%d", batch) }

func queueOf(instance, batch int64, links bool) string {
	if links {
		return linksQueue(batch)
	}
	return inviteQueue(instance)
}

// queue is where this process' jobs are.
func (w *Worker) queue() string {
	if w.cfg.Links != nil {
		return linksQueue(w.cfg.Links.Batch)
	}
	return inviteQueue(w.cfg.Instance.ID)
}

// revokeQueue also keeps the client from running without a queue while the gate
// is closed.
func revokeQueue(instance int64) string { return fmt.Sprintf("revoke_%d", instance) }

func (w *Worker) client() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &inviteWorker{w: w})
	river.AddWorker(workers, &revokeWorker{w: w})
	cfg := &river.Config{
		ID:      w.id,
		Logger:  slog.New(quiet{w.log.Handler()}),
		Workers: workers,
		Queues: map[string]river.QueueConfig{revokeQueue(w.cfg.Instance.ID): {MaxWorkers: revokers,
			FetchCooldown: 10 * time.Millisecond, FetchPollInterval: max(w.cfg.paced(2*time.Second), 10*time.Millisecond)}},
		// Notifications of PostgreSQL are sent by anybody who can connect to the
		// database: queues are looked at instead.
		PollOnly:             true,
		JobTimeout:           jobLimit,
		RescueStuckJobsAfter: 2 * jobLimit,
		// Finished jobs prove nothing and only weigh on the table.
		CompletedJobRetentionPeriod: time.Hour,
	}
	if w.cfg.Webhook != nil {
		river.AddWorker(workers, &noticeWorker{w: w, retries: w.cfg.retries})
		cfg.Queues[noticeQueue(w.cfg.Instance.ID)] = river.QueueConfig{MaxWorkers: 2, FetchPollInterval: 2 * time.Second}
	}
	client, err := river.NewClient(riverpgxv5.New(w.pool), cfg)
	if err != nil {
		return nil, fmt.Errorf("set up the queue: %w", err)
	}
	return client, nil
}

// inviteQueueConfig fetches as fast as River can: most jobs find their row
// decided by another job's bulk call and end at once.
func (c Config) inviteQueueConfig() river.QueueConfig {
	q := Unlimited
	q.MaxWorkers = c.workers()
	q.FetchPollInterval = max(c.paced(q.FetchPollInterval), q.FetchCooldown)
	return q
}

// Unlimited is how a process works its queue of invitations where no limit of
// Clerk's is in the way.
var Unlimited = river.QueueConfig{
	MaxWorkers: maxWorkers, FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 500 * time.Millisecond,
}

// quiet keeps River's own information out of the log: only warnings and errors
// of the queue concern an operator.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && q.Handler.Enabled(ctx, l)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(n string) slog.Handler      { return quiet{q.Handler.WithGroup(n)} }

// rules are the durations that decisions go by.
func (w *Worker) rules() invitation.Rules {
	least, most := w.skew.bounds()
	r := invitation.Rules{Settle: w.cfg.Settle, GiveUp: giveUp, Fresh: w.cfg.fresh, Slack: most, Least: least, NamesNobody: clerk.NamesNobody}
	if heard := w.heard.Load(); heard != nil {
		r.Heard = *heard
	}
	return r
}

// stop ends Run with an error. The first one counts.
func (w *Worker) stop(err error) {
	select {
	case w.fatal <- err:
	default:
	}
}

// poke wakes whoever listens, once, however often it is called meanwhile.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
