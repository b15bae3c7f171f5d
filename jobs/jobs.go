// Package jobs works the queue: River jobs wake a worker, which claims people, sends requests to
// Clerk and records the results.
//
// # Rows are the truth, jobs are disposable
//
// A job carries the numbers of a batch and a row, and only wakes a worker. The worker does not take
// the job's row. It takes the rows that are first in line, because the whole fleet keeps the order
// of priorities. It continues until the job's row does not wait any more or no budget is left. So
// an extra job is harmless: its row does not wait, and it ends. A lost job is found when the queue
// runs empty while rows wait. Nothing is ever decided from jobs.
//
// # The parts
//
// [Worker] makes the parts and runs them. Each part owns its fields, and has process: the pool, the
// configuration, the log and the channels between the parts.
//
//   - presence registers the process, which then may claim.
//   - The reader reads Clerk: which people need no claim, and what requests did whose answers were
//     lost. The preflighter makes the reads that guard claims.
//   - The claimer, one goroutine for each process, reserves budget and claims people in one
//     transaction for many waiting jobs. The sender sends what was claimed, and answers records
//     what Clerk replied.
//   - The gate takes the process off the queue while no budget is left, and puts it back when the
//     window opens.
//   - Revocations are jobs of their own in a queue of their own; see [BeginSweep]. The revoker works
//     them, and sweepStarter begins the sweep of each night. Notices are such jobs too, which the
//     database itself inserts; see [Webhook].
//   - The resolver resolves open attempts by reading, and the reconciler compares everything at
//     Clerk with the results.
//   - The keeper sends heartbeats, declares other processes dead, and repairs lost jobs.
//
// The package may import report, revocation, proof and the packages below them, and clerk. Start
// reading at [Worker.Run] in run.go, then invite.go and claimer.go.
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

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/ratelimit"
)

// Config configures a worker. Zero fields have the defaults that their comments name.
type Config struct {
	Instance invitation.Instance // the instance of the key; required

	Create  ratelimit.Limit // default 100/1h
	Bulk    ratelimit.Limit // default 25/1h
	General ratelimit.Limit // default by environment: 1000/10s, or 100/10s in development

	Settle         time.Duration // default 15 s: how long after its deadline an attempt can show up in Clerk's lists
	RequestTimeout time.Duration // default 20 s: the longest that a request may take
	RecoverAfter   time.Duration // default 20 s: a process is dead if its last heartbeat is older

	SweepAt        string        // cron expression such as "0 2 * * *"; empty: no nightly sweep
	TZ             string        // its time zone; empty: the machine's
	SweepOlderThan time.Duration // default 14 days
	SweepScope     string        // of the nightly sweep; see SweepOptions

	Links *Links // send only one batch, whose links go to a file; nil: send the batches that Clerk mails

	OnlyRevokes bool // send no invitations, only revokes and reads

	ReconcileEvery time.Duration // how often one process of the instance reconciles; 0: never

	PurgeOlderThan time.Duration   // how long after a batch's end it is purged; 0: never
	Webhook        *Webhook        // where to deliver notices; nil: leave them to other processes
	retries        []time.Duration // waits between deliveries of a notice; shorter in tests
	fresh          time.Duration   // how long a read guards claims after its end; shorter in tests

	// Second is the length of one second of the worker's own waits: backoffs, polls, leases and the
	// end of a stop. The default is one second. A simulation in which an hour takes seconds sets a
	// shorter one. It does not change what Clerk and PostgreSQL get: Settle, RequestTimeout,
	// RecoverAfter and limits.
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

// paced converts one of the worker's own waits from its default length; see [Config.Second].
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

// Limits on time.
const (
	freshFor = 10 * time.Minute // how long a read guards claims after its end
	giveUp   = 24 * time.Hour   // how long transient answers are retried
	jobLimit = 10 * time.Minute // River's timeout of a job; a job that has worked for half of it hands over
)

// SlowLists is how long reading the lists that guard claims may take. If it takes longer, workers
// spend more than a third of their time reading, during which they send nothing, and what they read
// is old when they use it.
const SlowLists = freshFor / 2

// maxWorkers and limitedWorkers are how many jobs of the invite queue a process works at a time,
// without and with limits. Without limits it is also the number of requests under way, and as many
// more may be claimed. With limits at most inFlight requests of each call are under way, so that
// little is lost if Clerk begins to refuse. More workers than those that keep these requests busy
// would only work through finished jobs at the moment when a window opens.
const (
	inFlight       = 4
	maxWorkers     = 100
	limitedWorkers = 4 * inFlight
)

// queue returns the queue with this process's jobs.
func (c Config) queue() string {
	if c.Links != nil {
		return linksQueue(c.Links.Batch)
	}
	return inviteQueue(c.Instance.ID)
}

// stopWithin returns how long a stop waits until requests under way are recorded: 30 s, or 10 s
// more than a request may take if that is longer.
func (c Config) stopWithin() time.Duration {
	return max(c.paced(30*time.Second), c.RequestTimeout+c.paced(10*time.Second))
}

// heartbeat returns the time between two heartbeats.
func (c Config) heartbeat() time.Duration { return min(5*time.Second, c.RecoverAfter/4) }

// idlePoll returns how often a process looks for open attempts of other processes. It is well below
// the settle time, which the attempts must wait anyway.
func (c Config) idlePoll() time.Duration {
	return min(max(c.Settle/3, c.paced(250*time.Millisecond)), c.paced(5*time.Second))
}

// lone returns the bucket of requests for one person. Rows that must go alone use it, and so do all
// owed rows.
func (c Config) lone(create, bulk *ratelimit.Bucket) *ratelimit.Bucket {
	if c.Create.Off {
		return bulk
	}
	return create
}

// workers returns how many jobs of the invite queue this process works at a time.
func (c Config) workers() int {
	if c.Create.None || c.Bulk.None {
		return maxWorkers
	}
	return limitedWorkers
}

// Worker is a process of the fleet for one instance.
type Worker struct {
	*process
	river   *river.Client[pgx.Tx]
	general *ratelimit.General

	measured    *measured
	presence    *presence
	reader      *reader
	preflighter *preflighter
	gate        *gate
	claimer     *claimer
	sender      *sender
	answers     *answers
	revoker     *revoker
	sweeps      *sweepStarter
	resolver    *resolver
	reconciler  *reconciler
	keeper      *keeper

	working sync.Map    // ids of the jobs that this process is working
	suspect atomic.Bool // a row was rejected or failed: the breaker must check
}

// New returns a worker that does nothing yet; see [Worker.Run]. It fails if both kinds of create
// are off, or if the cron expression or time zone is not valid.
func New(pool *pgxpool.Pool, api *clerk.Client, cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if cfg.Create.Off && cfg.Bulk.Off {
		return nil, fmt.Errorf("both ways to invite are off: nothing could be sent")
	}
	w := &Worker{process: newProcess(pool, api, cfg)}
	w.measured = &measured{}
	w.presence = &presence{process: w.process, measured: w.measured}
	w.general = ratelimit.NewGeneral(pool, cfg.Instance.ID, w.id, cfg.General, cfg.RequestTimeout, w.log)
	w.reader = &reader{process: w.process, general: w.general, measured: w.measured}
	w.preflighter = &preflighter{process: w.process, reader: w.reader, measured: w.measured}
	w.reconciler = &reconciler{process: w.process, reader: w.reader}
	w.revoker = &revoker{process: w.process, general: w.general, presence: w.presence,
		patience: &patience{paced: cfg.paced, failing: cfg.afterFailures()}}
	w.answers = newAnswers(w.process, w.measured, &w.suspect)
	w.gate = newGate(w.process)
	w.claimer = newClaimer(w)
	w.resolver = &resolver{process: w.process, reader: w.reader, measured: w.measured,
		closeOwnRevoke: w.closeOwnRevoke}
	w.sender = &sender{process: w.process, claimer: w.claimer, gate: w.gate, answers: w.answers,
		revokeOwn: w.revokeOwn, pauseFor: w.pauseFor, pauseUnexplained: w.pauseUnexplained}
	w.sweeps = &sweepStarter{process: w.process, reader: w.reader, now: time.Now}
	w.keeper = &keeper{process: w.process, general: w.general, presence: w.presence, gate: w.gate, working: &w.working}
	var err error
	if cfg.SweepAt != "" {
		if w.sweeps.schedule, err = ParseSchedule(cfg.SweepAt, cfg.TZ); err != nil {
			return nil, err
		}
	}
	if w.river, err = w.client(); err != nil {
		return nil, err
	}
	w.gate.queues = w.river.Queues()
	return w, nil
}

// processID returns an id for this process that River accepts as a client id.
func processID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.40s_%d_%08x", strings.ReplaceAll(host, ".", "_"), os.Getpid(), rand.Uint32())
}

// inviteQueue returns the instance's own queue, so that a live worker never sees a rehearsal's
// jobs. River does not allow capital letters in names of queues.
func inviteQueue(instance int64) string { return fmt.Sprintf("invite_%d", instance) }

// linksQueue returns the queue of one batch whose links go to a file: only the process that has the
// file may work on it.
func linksQueue(batch int64) string { return fmt.Sprintf("links_%d", batch) }

func queueOf(instance, batch int64, links bool) string {
	if links {
		return linksQueue(batch)
	}
	return inviteQueue(instance)
}

// revokeQueue returns the queue of the instance's revocations. It also keeps River's client from
// being without a queue while the gate is closed.
func revokeQueue(instance int64) string { return fmt.Sprintf("revoke_%d", instance) }

func (w *Worker) client() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &inviteWorker{sender: w.sender, working: &w.working})
	river.AddWorker(workers, &revokeWorker{revoker: w.revoker, working: &w.working})
	cfg := &river.Config{
		ID:      w.id,
		Logger:  slog.New(quiet{w.log.Handler()}),
		Workers: workers,
		Queues: map[string]river.QueueConfig{revokeQueue(w.cfg.Instance.ID): {MaxWorkers: revokers,
			FetchCooldown: 10 * time.Millisecond, FetchPollInterval: max(w.cfg.paced(2*time.Second), 10*time.Millisecond)}},
		// Anybody who can connect to the database can send PostgreSQL's notifications, so poll
		// instead.
		PollOnly:             true,
		JobTimeout:           jobLimit,
		RescueStuckJobsAfter: 2 * jobLimit,
		// Finished jobs prove nothing and only make the table larger.
		CompletedJobRetentionPeriod: time.Hour,
	}
	if w.cfg.Webhook != nil {
		river.AddWorker(workers, &noticeWorker{process: w.process, retries: w.cfg.retries})
		cfg.Queues[noticeQueue(w.cfg.Instance.ID)] = river.QueueConfig{MaxWorkers: 2, FetchPollInterval: 2 * time.Second}
	}
	client, err := river.NewClient(riverpgxv5.New(w.pool), cfg)
	if err != nil {
		return nil, fmt.Errorf("set up the queue: %w", err)
	}
	return client, nil
}

// inviteQueueConfig fetches as fast as River can, because most jobs find that another job's bulk
// call has decided their row, and end at once.
func (c Config) inviteQueueConfig() river.QueueConfig {
	q := Unlimited
	q.MaxWorkers = c.workers()
	q.FetchPollInterval = max(c.paced(q.FetchPollInterval), q.FetchCooldown)
	return q
}

// Unlimited is how a process works its invite queue if Clerk's limits do not slow it down.
var Unlimited = river.QueueConfig{
	MaxWorkers: maxWorkers, FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 500 * time.Millisecond,
}

// quiet drops River's information from the log, because only warnings and errors of the queue
// concern an operator.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && q.Handler.Enabled(ctx, l)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(n string) slog.Handler      { return quiet{q.Handler.WithGroup(n)} }
