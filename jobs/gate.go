package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v6"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/db"
	"bulkinvite/internal/ledger"
	"bulkinvite/ratelimit"
)

// gate takes the process off the queue while nothing can be sent, and puts it back when something
// can. Jobs that were fetched before the gate closed snooze until then. All others stay in the
// queue, so waiting costs neither statements nor tries of jobs.
type gate struct {
	*process
	queues *river.QueueBundle // of the process's own client
	shut   chan struct{}

	mu      sync.Mutex
	until   time.Time // zero: open
	why     string
	failing *backoff.ExponentialBackOff // the waits after consecutive failures
	left    chan struct{}               // closed once River was told to fetch no more
}

func newGate(p *process) *gate {
	return &gate{process: p, shut: make(chan struct{}, 1), failing: p.cfg.afterFailures(), left: make(chan struct{})}
}

// hold delays the end of a job that cannot continue until River was told to fetch no more.
// Otherwise the next job would get its place and snooze too, and so on through the whole queue.
func (g *gate) hold(ctx context.Context) {
	g.mu.Lock()
	left := g.left
	g.mu.Unlock()
	select {
	case <-left:
	case <-ctx.Done():
	case <-g.stopping:
	case <-time.After(g.cfg.paced(5 * time.Second)):
	}
}

// closed reports whether the gate is closed, and approximately until when.
func (g *gate) closed() (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until, !g.until.IsZero()
}

// noBudget is the reason for closing the gate if no limit leaves a request.
const noBudget = "no budget left"

// lookAgain is how often a gate that is closed for lack of budget checks for budget before the
// expected time. A worker with a stricter limit may have ended, or a person may have ended a
// freeze.
const lookAgain = 10 * time.Second

// close closes the gate until approximately the given time.
func (g *gate) close(until time.Time, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until) {
		g.until, g.why = until, why
		poke(g.shut)
	}
}

// trouble closes the gate after a failure that has nothing to do with a person: Clerk or PostgreSQL
// is out of reach, or a read failed. The wait is one second at first, doubled with each consecutive
// failure, at most one minute. trouble returns when the gate opens.
func (g *gate) trouble(err error) time.Time {
	if errors.Is(err, ErrUnauthorized) {
		g.stop(err)
	}
	g.mu.Lock()
	if !g.until.IsZero() { // simultaneous failures count once
		defer g.mu.Unlock()
		return g.until
	}
	wait := g.failing.NextBackOff()
	g.mu.Unlock()
	g.log.Warn("waiting after a failure", "error", err, "wait", wait)
	until := time.Now().Add(wait)
	g.close(until, err.Error())
	return until
}

// fine ends a series of failures.
func (g *gate) fine() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failing.Reset()
}

// run takes the process off the queue and puts it back, until ctx is done. It calls survey while
// there is no budget, to decide the rows that need none.
func (g *gate) run(ctx context.Context, survey func(context.Context) error) {
	queue := g.cfg.queue()
	g.wake(ctx)
	for {
		g.enter(ctx, queue)
		select {
		case <-ctx.Done():
			return
		case <-g.shut:
		}
		g.leave(ctx, queue)
		until, _ := g.closed()
		ahead, cancel := context.WithDeadline(ctx, until) // the survey must end before the window opens
		if err := survey(ahead); err != nil && ahead.Err() == nil {
			g.log.Warn("read ahead", "error", err)
		}
		cancel()
		g.wait(ctx)
		if ctx.Err() != nil {
			return
		}
		g.wake(ctx)
	}
}

// enter puts the process on the queue. That needs the database.
func (g *gate) enter(ctx context.Context, queue string) {
	for ctx.Err() == nil {
		err := g.queues.Add(queue, g.cfg.inviteQueueConfig())
		if err == nil {
			return
		}
		g.log.Warn("go on the queue", "error", err)
		g.remove(ctx, queue)
		_ = sleep(ctx, g.cfg.paced(time.Second))
	}
}

// leave takes the process off the queue. River waits for running jobs. A Remove that was given up
// must be called again before the queue is added.
func (g *gate) leave(ctx context.Context, queue string) {
	g.mu.Lock()
	left := g.left
	g.mu.Unlock()
	told := time.AfterFunc(50*time.Millisecond, func() { close(left) })
	defer func() {
		if told.Stop() {
			close(left)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.left = make(chan struct{})
	}()
	g.remove(ctx, queue)
}

func (g *gate) remove(ctx context.Context, queue string) {
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := g.queues.Remove(within, queue)
		cancel()
		var missing *river.QueueNotFoundError
		if err == nil || errors.As(err, &missing) {
			return
		}
		g.log.Debug("leaving the queue takes its time", "error", err)
	}
}

// wait returns when a request can start again or ctx is done.
func (g *gate) wait(ctx context.Context) {
	for {
		g.mu.Lock()
		wait := time.Until(g.until)
		if g.why == noBudget {
			wait = min(wait, g.cfg.paced(lookAgain))
		}
		g.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		next, err := g.opening(ctx)
		if err != nil {
			if ctx.Err() == nil {
				g.log.Warn("look at the budget", "error", err)
			}
			next = g.cfg.paced(time.Second)
		}
		g.mu.Lock()
		if next == 0 {
			g.until, g.why = time.Time{}, ""
			g.mu.Unlock()
			return
		}
		g.until = time.Now().Add(next)
		g.mu.Unlock()
	}
}

// opening returns how long it takes until there is budget. 0 means now.
func (g *gate) opening(ctx context.Context) (time.Duration, error) {
	cfg := g.cfg
	create, err := ratelimit.Count(ctx, g.pool, cfg.Instance.ID, ratelimit.Create, cfg.Create)
	if err != nil {
		return 0, err
	}
	bulk, err := ratelimit.Count(ctx, g.pool, cfg.Instance.ID, ratelimit.Bulk, cfg.Bulk)
	if err != nil {
		return 0, err
	}
	if _, err := g.withhold(ctx, g.pool, &create, &bulk); err != nil {
		return 0, err
	}
	if create.Free == 0 && bulk.Free > 0 && !cfg.Create.Off {
		crowd, err := g.picker.Peek(ctx, cfg.Instance.ID, 1, false)
		if err != nil {
			return 0, err
		}
		lone, err := g.picker.Peek(ctx, cfg.Instance.ID, 1, true)
		if err != nil {
			return 0, err
		}
		if len(crowd) == 0 && len(lone) > 0 { // all waiting rows must go alone
			return untilSingle(create), nil
		}
	}
	if create.Free > 0 || bulk.Free > 0 {
		return 0, nil
	}
	// Pending answers make the opening uncertain, so check again soon.
	d := opening(create, bulk, cfg)
	return min(max(d, 5*time.Millisecond), time.Minute), nil
}

// wake inserts jobs for waiting rows, because River may take seconds to wake jobs that snoozed.
func (g *gate) wake(ctx context.Context) {
	if err := g.kick(ctx); err != nil && ctx.Err() == nil {
		g.log.Warn("wake the queue", "error", err)
	}
}

// kick inserts a few jobs for the rows that are last in line. Each of them works until its own row
// does not wait any more, and so until all rows before it are done.
func (g *gate) kick(ctx context.Context) error {
	rows, err := g.picker.LastWaiting(ctx, g.cfg.Instance.ID, 3*inFlight)
	if err != nil || len(rows) == 0 {
		return err
	}
	freed := make([]ledger.Freed, len(rows))
	for i, id := range rows {
		freed[i] = ledger.Freed{RowID: id, Priority: 1, Links: g.cfg.Links != nil}
	}
	return pgx.BeginFunc(ctx, g.pool, func(tx pgx.Tx) error { return free(ctx, tx, g.cfg.Instance.ID, freed) })
}

// withhold counts the creates that are promised to rows whose invitation was or is being revoked.
// If the bucket has no more than these, and none of these rows can use it now, withhold treats the
// bucket as empty. Otherwise other requests would use it, and a person would be without an
// invitation for a whole window.
func (g *gate) withhold(ctx context.Context, db db.Queryer,
	create, bulk *ratelimit.Bucket) (promised int, err error) {
	promised, ready, err := g.picker.Promised(ctx, db, g.cfg.Instance.ID)
	if b := g.cfg.lone(create, bulk); err == nil && ready == 0 && b.Free > 0 && b.Free <= promised {
		b.Free, b.Opens = 0, b.Now.Add(g.cfg.paced(2*time.Second))
	}
	return promised, err
}

// ErrUnauthorized says that Clerk refused the key.
var ErrUnauthorized = errors.New("the key was refused by Clerk")

// unauthorized returns ErrUnauthorized with Clerk's status and code.
func unauthorized(a clerk.Answer) error {
	return fmt.Errorf("%w (%d %s)", ErrUnauthorized, a.Status, a.Code)
}

// refusedError is an answer that refuses all requests, or whose code has no definite meaning.
type refusedError struct{ answer clerk.Answer }

func (e *refusedError) Error() string { return e.answer.Err.Error() }

// answerError returns the error of an answer that is not a success.
func answerError(a clerk.Answer) error {
	switch a.Class {
	case clerk.Unauthorized:
		return unauthorized(a)
	case clerk.Stopped, clerk.Unexplained:
		return &refusedError{a}
	}
	return a.Err
}
