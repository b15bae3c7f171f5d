package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v6"
	"github.com/riverqueue/river"

	"bulkinvite/clerk"
	"bulkinvite/ratelimit"
)

// gate takes the process off the queue while nothing can be sent, and puts it
// back when something can. Jobs that were fetched before it closed snooze until
// then; all others stay where they are, so that waiting costs neither
// statements nor attempts of jobs.
type gate struct {
	w    *Worker
	shut chan struct{}

	mu      sync.Mutex
	until   time.Time // zero: open
	why     string
	failing *backoff.ExponentialBackOff // the waits after failures in a row
	left    chan struct{}               // closed once River has been told to fetch no more
}

func newGate(w *Worker) *gate {
	return &gate{w: w, shut: make(chan struct{}, 1), failing: w.cfg.afterFailures(), left: make(chan struct{})}
}

// hold keeps a job that can't go on from ending before River has been told to
// fetch no more: otherwise its place is given to the next job, which would
// snooze too, and so on through the whole queue.
func (g *gate) hold(ctx context.Context) {
	g.mu.Lock()
	left := g.left
	g.mu.Unlock()
	select {
	case <-left:
	case <-ctx.Done():
	case <-g.w.stopping:
	case <-time.After(g.w.cfg.paced(5 * time.Second)):
	}
}

// closed reports whether the gate is closed, and until when about.
func (g *gate) closed() (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until, !g.until.IsZero()
}

// noBudget is why the gate closes when no limit leaves a request.
const noBudget = "no budget left"

// lookAgain is how often a gate that closed for lack of budget looks whether there is some before
// it was expected: a worker with a stricter limit may have ended, or a person have ended a freeze.
const lookAgain = 10 * time.Second

// close closes the gate until about a time.
func (g *gate) close(until time.Time, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until) {
		g.until, g.why = until, why
		poke(g.shut)
	}
}

// trouble closes the gate after something failed that has nothing to do with a
// person: Clerk or PostgreSQL can't be reached, or a read failed. The wait
// doubles with each failure in a row, from one second to a minute.
func (g *gate) trouble(err error) time.Time {
	if errors.Is(err, ErrUnauthorized) {
		g.w.stop(err)
	}
	g.mu.Lock()
	if !g.until.IsZero() { // what fails at the same time counts once
		defer g.mu.Unlock()
		return g.until
	}
	wait := g.failing.NextBackOff()
	g.mu.Unlock()
	g.w.log.Warn("waiting after a failure", "error", err, "wait", wait)
	until := time.Now().Add(wait)
	g.close(until, err.Error())
	return until
}

// fine ends a row of failures.
func (g *gate) fine() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failing.Reset()
}

// run moves the process off and onto the queue until ctx is done.
func (g *gate) run(ctx context.Context) {
	queue := g.w.queue()
	g.kick(ctx)
	for {
		g.enter(ctx, queue)
		select {
		case <-ctx.Done():
			return
		case <-g.shut:
		}
		g.leave(ctx, queue)
		until, _ := g.closed()
		ahead, cancel := context.WithDeadline(ctx, until) // it must not hold a window shut
		if err := g.w.survey(ahead); err != nil && ahead.Err() == nil {
			g.w.log.Warn("read ahead", "error", err)
		}
		cancel()
		g.wait(ctx)
		if ctx.Err() != nil {
			return
		}
		g.kick(ctx)
	}
}

// enter puts the process on the queue, which asks the database for it.
func (g *gate) enter(ctx context.Context, queue string) {
	for ctx.Err() == nil {
		err := g.w.river.Queues().Add(queue, g.w.cfg.inviteQueueConfig())
		if err == nil {
			return
		}
		g.w.log.Warn("go on the queue", "error", err)
		g.remove(ctx, queue)
		_ = sleep(ctx, g.w.cfg.paced(time.Second))
	}
}

// leave takes the process off the queue. River waits for jobs that run; a
// Remove that is given up has to be called again before the queue is added.
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
		err := g.w.river.Queues().Remove(within, queue)
		cancel()
		var missing *river.QueueNotFoundError
		if err == nil || errors.As(err, &missing) {
			return
		}
		g.w.log.Debug("leaving the queue takes its time", "error", err)
	}
}

// wait returns when a request can start again, or ctx is done.
func (g *gate) wait(ctx context.Context) {
	for {
		g.mu.Lock()
		wait := time.Until(g.until)
		if g.why == noBudget {
			wait = min(wait, g.w.cfg.paced(lookAgain))
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
				g.w.log.Warn("look at the budget", "error", err)
			}
			next = g.w.cfg.paced(time.Second)
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

// opening says how long it is until the budget opens; 0: it is open.
func (g *gate) opening(ctx context.Context) (time.Duration, error) {
	cfg := g.w.cfg
	create, err := ratelimit.Count(ctx, g.w.pool, cfg.Instance.ID, ratelimit.Create, cfg.Create)
	if err != nil {
		return 0, err
	}
	bulk, err := ratelimit.Count(ctx, g.w.pool, cfg.Instance.ID, ratelimit.Bulk, cfg.Bulk)
	if err != nil {
		return 0, err
	}
	if _, err := g.w.withhold(ctx, g.w.pool, &create, &bulk); err != nil {
		return 0, err
	}
	if create.Free == 0 && bulk.Free > 0 && !cfg.Create.Off {
		crowd, err := g.w.store.Peek(ctx, cfg.Instance.ID, 1, false)
		if err != nil {
			return 0, err
		}
		lone, err := g.w.store.Peek(ctx, cfg.Instance.ID, 1, true)
		if err != nil {
			return 0, err
		}
		if len(crowd) == 0 && len(lone) > 0 { // whoever waits must go alone
			return untilSingle(create), nil
		}
	}
	if create.Free > 0 || bulk.Free > 0 {
		return 0, nil
	}
	// Answers that are still out make the opening uncertain: it is looked at again soon.
	d := opening(create, bulk, cfg)
	return min(max(d, 5*time.Millisecond), time.Minute), nil
}

// kick wakes jobs for what waits: those that snoozed can take some seconds to
// be woken by River.
func (g *gate) kick(ctx context.Context) {
	if err := g.w.kick(ctx); err != nil && ctx.Err() == nil {
		g.w.log.Warn("wake the queue", "error", err)
	}
}

// ErrUnauthorized says that Clerk refused the key.
var ErrUnauthorized = errors.New("the key was refused by Clerk")

// unauthorized is ErrUnauthorized with what Clerk answered.
func unauthorized(a clerk.Answer) error {
	return fmt.Errorf("%w (%d %s)", ErrUnauthorized, a.Status, a.Code)
}

// refusedError is an answer by which Clerk refuses everybody, or for a reason that
// its code does not tell.
type refusedError struct{ answer clerk.Answer }

func (e *refusedError) Error() string { return e.answer.Err.Error() }

// answerError makes an error of an answer that is no success.
func answerError(a clerk.Answer) error {
	switch a.Class {
	case clerk.Unauthorized:
		return unauthorized(a)
	case clerk.Stopped, clerk.Unexplained:
		return &refusedError{a}
	}
	return a.Err
}
