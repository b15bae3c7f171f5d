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
	"go.opentelemetry.io/otel/trace"

	"bulkinvite/clerk"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// revokers is how many revocations a process works at a time. The general limit sets the pace.
const revokers = 8

// RevokeArgs wakes a worker for a revocation. It carries ids only.
type RevokeArgs struct {
	invitation.RevocationID
}

// Kind returns River's name of the job, "revoke".
func (RevokeArgs) Kind() string { return "revoke" }

// BeginSweep records a sweep and its targets, and inserts a job for each target, in one
// transaction; see [invitation.Store.BeginSweep]. A held sweep and a dry run have no jobs. Any
// worker of the instance works the jobs. [Worker.Finish] does so and waits for the end.
func BeginSweep(ctx context.Context, tx pgx.Tx, store *invitation.Store, sw *invitation.Sweep, targets []invitation.Target) error {
	if err := store.BeginSweep(ctx, tx, sw, targets); err != nil {
		return err
	}
	if !sw.Apply || sw.Held {
		return nil
	}
	ids := make([]invitation.RevocationID, len(targets))
	for i, t := range targets {
		ids[i] = invitation.RevocationID{Sweep: sw.ID, Invitation: t.InvitationID}
	}
	return InsertRevokes(ctx, tx, sw.InstanceID, ids)
}

// AllowSweep allows a held sweep to exceed its threshold and inserts its jobs. It does nothing to a
// sweep that is not held.
func AllowSweep(ctx context.Context, tx pgx.Tx, store *invitation.Store, sw *invitation.Sweep, actor string) error {
	ids, err := store.AllowSweep(ctx, tx, sw.ID, actor)
	if err != nil {
		return err
	}
	return InsertRevokes(ctx, tx, sw.InstanceID, ids)
}

// InsertRevokes inserts a job for each revocation. Call it in the transaction that records them.
func InsertRevokes(ctx context.Context, tx pgx.Tx, instance int64, ids []invitation.RevocationID) error {
	if len(ids) == 0 {
		return nil
	}
	opts := &river.InsertOpts{Queue: revokeQueue(instance)}
	params := make([]river.InsertManyParams, len(ids))
	for i, id := range ids {
		params[i] = river.InsertManyParams{Args: RevokeArgs{id}, InsertOpts: opts}
	}
	if _, err := insertJobs(ctx, tx, params); err != nil {
		return fmt.Errorf("insert the jobs of sweep %d: %w", ids[0].Sweep, err)
	}
	return nil
}

// Finish works on revocations until a sweep has ended, no matter who began it, and returns the
// sweep. It sends no invitations if [Config.OnlyRevokes] is set. If ctx ends first, the returned
// sweep has not ended, and any worker continues it.
func (w *Worker) Finish(ctx context.Context, sweep int64) (*invitation.Sweep, error) {
	err := w.Run(ctx, func(ctx context.Context) (bool, error) {
		sw, err := w.store.Sweep(ctx, sweep)
		return err == nil && (sw.Held || !sw.FinishedAt.IsZero()), err
	})
	if err != nil {
		return nil, err
	}
	return w.store.Sweep(context.WithoutCancel(ctx), sweep)
}

type revokeWorker struct {
	river.WorkerDefaults[RevokeArgs]
	w *Worker
}

// Work revokes one invitation, or snoozes until it can be tried again.
func (r *revokeWorker) Work(ctx context.Context, job *river.Job[RevokeArgs]) error {
	w := r.w
	w.working.Store(job.ID, nil)
	defer w.working.Delete(job.ID)
	ctx, cancel := w.untilStop(ctx)
	defer cancel()
	for {
		wait, err := w.revoke(ctx, job.Args.RevocationID)
		switch {
		case err == nil && wait == 0:
			failpoint("before_completion")
			return nil
		case ctx.Err() != nil: // the worker stops: the job returns to the queue at once
			return river.JobSnooze(0)
		case err != nil:
			w.log.Warn("revoke", "sweep", job.Args.Sweep, "invitation", job.Args.Invitation, "error", err)
			w.revoking.lose()
			return river.JobSnooze(w.revoking.left())
		case wait > w.cfg.paced(time.Second):
			return river.JobSnooze(wait)
		}
		if sleep(ctx, wait) != nil {
			return river.JobSnooze(0)
		}
	}
}

// untilStop returns a context that also ends when the worker stops.
func (w *Worker) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-w.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// revoke revokes one invitation. It returns 0 if nothing is left to do for this job, or how long to
// wait before the next try.
func (w *Worker) revoke(ctx context.Context, id invitation.RevocationID) (time.Duration, error) {
	now, err := w.store.Revocation(ctx, id)
	if err != nil {
		return 0, err
	}
	if now.Held || now.Outcome != "" {
		return 0, nil
	}
	if !now.Waits() {
		return max(now.NotBefore.Sub(now.Now), time.Millisecond), nil
	}
	if err := w.revoking.wait(ctx); err != nil {
		return 0, err
	}
	release, err := w.general.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	var throttled *ratelimit.Throttled
	defer func() { release(throttled) }()
	ctx = context.WithoutCancel(ctx) // what is committed below must be sent and recorded
	failpoint("before_reserve")
	began := time.Now()
	claimed, wait, err := w.claimRevoke(ctx, id)
	attempt := claimed.AttemptID
	if errors.Is(err, invitation.ErrDeclaredDead) {
		return time.Millisecond, w.register(ctx)
	}
	if err != nil || attempt == 0 {
		return wait, err
	}
	failpoint("after_reserve")
	ctx, span := tracer.Start(ctx, "revoke", trace.WithTimestamp(began))
	defer span.End()
	span.SetAttributes(spanAttempt.Int64(attempt), spanSweep.Int64(id.Sweep), spanPeople.Int(1))
	calling, cancel := context.WithDeadline(clerk.About(ctx, "attempt", attempt), began.Add(w.cfg.RequestTimeout))
	failpoint("before_send")
	a := w.api.Revoke(calling, id.Invitation)
	cancel()
	failpoint("after_send")
	if a.Class == clerk.Throttled {
		throttled = &ratelimit.Throttled{Wait: a.RetryAfter, Told: a.HasRetryAfter}
	}
	failpoint("before_outcome")
	w.persist(ctx, func(ctx context.Context) (err error) {
		wait, err = w.recordRevoke(ctx, claimed, now, a)
		return err
	})
	failpoint("after_outcome")
	switch a.Class {
	case clerk.Unauthorized:
		w.stop(unauthorized(a))
		w.revoking.lose()
	case clerk.NotSent, clerk.Lost, clerk.Transient:
		w.revoking.lose()
	default:
		w.revoking.fine()
	}
	poke(w.active)
	return wait, nil
}

// claimRevoke opens an attempt for a revoke and claims its person, unless it is known by now that
// nothing must be sent. If it returns no attempt, the revocation is decided, or must be tried again
// after wait.
func (w *Worker) claimRevoke(ctx context.Context, id invitation.RevocationID) (claimed invitation.Claimed, wait time.Duration, err error) {
	claiming, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = pgx.BeginFunc(claiming, w.pool, func(tx pgx.Tx) error {
		claimed, wait = invitation.Claimed{}, 0
		if err := invitation.Alive(claiming, tx, w.id); err != nil {
			return err
		}
		r, err := w.store.LockRevocation(claiming, tx, id)
		if err != nil || !r.Waits() {
			return err
		}
		if r.Dropped != "" {
			end := invitation.RevocationEnd{Outcome: invitation.RevokeSkipped, Reason: r.Dropped}
			return w.store.EndRevocation(claiming, tx, id, end)
		}
		open, err := w.store.Open(claiming, tx, w.cfg.Instance.ID, w.id, w.cfg.RequestTimeout,
			[]invitation.Request{{Call: invitation.CallRevoke, Bucket: ratelimit.GeneralCall, People: []invitation.Person{r.Person}, Sweep: id.Sweep}})
		if err != nil {
			return err
		}
		if len(open) == 0 {
			wait, err = w.leaveAlone(claiming, tx, r)
			return err
		}
		// This is a new statement: it sees what was recorded before this claim.
		end, err := w.foregone(claiming, tx, r)
		if err != nil {
			return err
		}
		if end.Outcome == "" {
			claimed = open[0]
			return nil
		}
		if _, err := w.store.Withdraw(claiming, tx, open, func(invitation.Person) bool { return true }); err != nil {
			return err
		}
		return w.store.EndRevocation(claiming, tx, id, end)
	})
	if err == nil && claimed.AttemptID == 0 && wait == 0 {
		poke(w.active)
	}
	return claimed, wait, err
}

// leaveAlone handles a person who has an open request. A sweep of stale invitations skips the person,
// because a later sweep finds the invitation again. Other sweeps wait, and so does a sweep whose own
// open request is for another invitation of the same person. If the open request is this revoke,
// resolving it decides the revocation or inserts a job.
func (w *Worker) leaveAlone(ctx context.Context, tx pgx.Tx, r *invitation.Revocation) (time.Duration, error) {
	mine, err := w.store.Revoking(ctx, tx, w.cfg.Instance.ID, r)
	if err != nil || mine == r.Invitation {
		return 0, err
	}
	if r.Kind == invitation.KindSweep && mine == "" {
		return 0, w.store.EndRevocation(ctx, tx, r.RevocationID, invitation.RevocationEnd{Outcome: invitation.RevokeSkipped, Reason: invitation.SkipOpenAttempt})
	}
	again := w.cfg.paced(2 * time.Second)
	_, err = w.store.PutOffRevocation(ctx, tx, r.RevocationID, again, "")
	return again, err
}

// foregone decides a revocation if it is known that there is nothing to revoke. The end has no
// outcome if that is not known.
func (w *Worker) foregone(ctx context.Context, tx pgx.Tx, r *invitation.Revocation) (e invitation.RevocationEnd, err error) {
	status, waits, err := w.store.Known(ctx, tx, w.cfg.Instance.ID, r)
	switch {
	case err != nil:
	case status == invitation.Revoked:
		e.Outcome = invitation.RevokeBefore
	case status == invitation.Accepted:
		e.Outcome = invitation.RevokeAccepted
	case status == invitation.Expired, !r.ExpiresAt.IsZero() && !r.ExpiresAt.After(r.Now):
		e.Outcome, e.Reason = invitation.RevokeSkipped, invitation.SkipExpired
	case waits && r.Kind == invitation.KindSweep: // the row decides whether to revoke it
		e.Outcome, e.Reason = invitation.RevokeSkipped, invitation.SkipWaitingRow
	}
	return e, err
}

// revoked is the meaning of an answer to a revoke.
type revoked struct {
	end    invitation.RevocationEnd // no outcome: try again, or read
	status invitation.Status        // of the invitation; empty: unknown
	answer invitation.Answer
	close  string // the attempt's resolution; empty: only a read can resolve it
	wait   bool   // back off before the next try
}

// judgeRevoke returns the meaning of an answer to a revoke.
func judgeRevoke(a clerk.Answer) revoked {
	failed := invitation.RevocationEnd{Outcome: invitation.RevokeFailed, Reason: a.Code}
	switch a.Class {
	case clerk.Success:
		return revoked{end: invitation.RevocationEnd{Outcome: invitation.RevokeDone}, status: invitation.Revoked, answer: invitation.AnswerRevoked, close: invitation.ClosedAnswered}
	case clerk.AlreadyRevoked:
		return revoked{end: invitation.RevocationEnd{Outcome: invitation.RevokeBefore}, status: invitation.Revoked, answer: invitation.AnswerRevoked, close: invitation.ClosedAnswered}
	case clerk.AlreadyAccepted:
		return revoked{end: invitation.RevocationEnd{Outcome: invitation.RevokeAccepted}, status: invitation.Accepted, answer: invitation.AnswerAccepted, close: invitation.ClosedAnswered}
	case clerk.Gone:
		return revoked{end: invitation.RevocationEnd{Outcome: invitation.RevokeGone}, answer: invitation.AnswerGone, close: invitation.ClosedAnswered}
	case clerk.NotSent:
		return revoked{answer: invitation.AnswerRefused, close: invitation.ClosedNotSent, wait: true}
	case clerk.Throttled, clerk.Unauthorized:
		return revoked{answer: invitation.AnswerRefused, close: invitation.ClosedRefused}
	case clerk.Transient, clerk.Lost:
		return revoked{wait: true}
	}
	return revoked{end: failed, answer: invitation.AnswerRefused, close: invitation.ClosedRefused}
}

// recordRevoke writes an answer, and what follows from it, into the ledger. It returns how long to
// wait before the next try. 0 means that the revocation is decided or that a read will decide it.
func (w *Worker) recordRevoke(ctx context.Context, claimed invitation.Claimed, r *invitation.Revocation, a clerk.Answer) (wait time.Duration, err error) {
	attempt, said := claimed.AttemptID, judgeRevoke(a)
	reply := invitation.Reply{Status: a.Status, Code: a.Code, TraceID: a.TraceID, NotSent: a.Class == clerk.NotSent, People: map[string]invitation.Said{}, Read: said.close == ""}
	if said.answer != invitation.NoAnswer {
		reply.People[r.Key] = invitation.Said{Answer: said.answer, Code: a.Code, InvitationID: r.Invitation}
	}
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		wait = 0
		open, err := w.store.Note(ctx, tx, w.cfg.Settle, invitation.Noted{Attempt: attempt, Started: claimed.StartedAt, Reply: reply})
		if err != nil || !open[attempt] {
			return err // a read has resolved it meanwhile and decided the revocation
		}
		if wait, err = w.endOrWait(ctx, tx, attempt, r, said, a.Code); err != nil || said.close == "" {
			return err
		}
		return w.closeRevoke(ctx, tx, attempt, r.Person, said.status, said.close)
	})
	if said.close == "" && err == nil {
		w.log.Warn("revoke must be read", "attempt", attempt, "sweep", r.Sweep, "class", a.Class.String(), "code", a.Code)
		poke(w.resolve)
		return 0, nil // the read inserts a job if a further try is needed
	}
	return wait, err
}

// endOrWait decides a revocation as the answer says, or makes it back off.
func (w *Worker) endOrWait(ctx context.Context, tx pgx.Tx, attempt int64, r *invitation.Revocation, said revoked, code string) (time.Duration, error) {
	if said.end.Outcome == invitation.RevokeGone && !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(r.Now.Add(time.Minute)) {
		said.end.Outcome, said.end.Reason = invitation.RevokeSkipped, invitation.SkipExpired // its clock is ahead
	}
	if said.end.Outcome != "" {
		said.end.Attempt = attempt
		return 0, w.store.EndRevocation(ctx, tx, r.RevocationID, said.end)
	}
	if !said.wait {
		return time.Millisecond, nil
	}
	if said.close != "" && r.Now.Sub(r.Begun) > giveUp {
		return 0, w.store.EndRevocation(ctx, tx, r.RevocationID, invitation.RevocationEnd{Outcome: invitation.RevokeFailed, Reason: code, Attempt: attempt})
	}
	wait := w.cfg.backoff(r.Tries)
	_, err := w.store.PutOffRevocation(ctx, tx, r.RevocationID, wait, code)
	return wait, err
}

// closeRevoke closes a person's part of an attempt to revoke, and inserts jobs for the rows that
// can be claimed again.
func (w *Worker) closeRevoke(ctx context.Context, tx pgx.Tx, attempt int64, p invitation.Person, status invitation.Status, how string) error {
	freed, err := w.store.CloseRevoke(ctx, tx, w.cfg.Instance.ID, attempt, p, status, how)
	if err != nil {
		return err
	}
	return free(ctx, tx, w.cfg.Instance.ID, freed)
}

// settleRevoke resolves a revoke without a usable answer by the status that the lists show now.
func (w *Worker) settleRevoke(ctx context.Context, a invitation.OpenAttempt) error {
	var told []func()
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		people, err := w.store.LockAttempt(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		for _, p := range people {
			status, read, err := w.store.LastStatus(ctx, tx, w.cfg.Instance.ID, p.InvitationID, a.Due)
			if err != nil {
				return err
			}
			how := invitation.ClosedRead
			if status == invitation.Pending || status == "" && a.Sweep != 0 {
				how = invitation.ClosedNotThere
			}
			if a.Sweep == 0 {
				done := status != invitation.Pending && status != invitation.Accepted
				err = w.closeOwnRevoke(ctx, tx, a.ID, p, status, how, done)
			} else if err = w.closeRevoke(ctx, tx, a.ID, p, status, how); err == nil {
				id := invitation.RevocationID{Sweep: a.Sweep, Invitation: p.InvitationID}
				err = w.decideRead(ctx, tx, id, a.ID, status, read)
			}
			if err != nil {
				return err
			}
			told = append(told, func() {
				w.log.Info("revoke settled by reading", "attempt", a.ID, "batch", p.Batch, "row", p.Row, "status", status)
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, tell := range told {
		tell()
	}
	return nil
}

// decideRead decides a revocation by what a read showed. If the read shows that nothing was done,
// the revoke is tried again, for [giveUp] at most.
func (w *Worker) decideRead(ctx context.Context, tx pgx.Tx, id invitation.RevocationID, attempt int64, status invitation.Status, read int64) error {
	e := invitation.RevocationEnd{Attempt: attempt, Read: read}
	switch status {
	case invitation.Revoked:
		e.Outcome = invitation.RevokeDone
	case invitation.Accepted:
		e.Outcome = invitation.RevokeAccepted
	case invitation.Expired:
		e.Outcome, e.Reason = invitation.RevokeSkipped, invitation.SkipExpired
	default:
		r, err := w.store.LockRevocation(ctx, tx, id)
		if err != nil || r.Outcome != "" {
			return err
		}
		if r.Now.Sub(r.Begun) <= giveUp {
			return InsertRevokes(ctx, tx, w.cfg.Instance.ID, []invitation.RevocationID{id})
		}
		e.Outcome, e.Reason = invitation.RevokeFailed, "not_done"
	}
	return w.store.EndRevocation(ctx, tx, id, e)
}

// repairRevokes inserts jobs for all waiting revocations if the queue has none that could wake a
// worker soon: somebody deleted the jobs, or they died with their process.
func (w *Worker) repairRevokes(ctx context.Context) error {
	var woken bool
	err := w.pool.QueryRow(ctx, `
		select exists (select from river_job where queue = $1 and state in ('available', 'scheduled', 'retryable')
		               and scheduled_at < clock_timestamp() + $2::interval)
		    or exists (select from river_job j join workers w on w.id = j.attempted_by[array_upper(j.attempted_by, 1)]
		               where j.queue = $1 and j.state = 'running')`, revokeQueue(w.cfg.Instance.ID), w.cfg.paced(soon)).Scan(&woken)
	if err != nil {
		return fmt.Errorf("look for revocations that lost their jobs: %w", err)
	}
	if woken {
		return nil
	}
	ids, err := w.store.LostRevocations(ctx, w.cfg.Instance.ID, 100_000)
	if err != nil || len(ids) == 0 {
		return err
	}
	w.log.Warn("revocations waited without jobs", "revocations", len(ids))
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error { return InsertRevokes(ctx, tx, w.cfg.Instance.ID, ids) })
}

// patience delays a process's revokes after failures that have nothing to do with one invitation,
// from one second to one minute.
type patience struct {
	paced   func(time.Duration) time.Duration
	mu      sync.Mutex
	failing *backoff.ExponentialBackOff // the waits after consecutive failures
	until   time.Time
}

// lose records a failure. Simultaneous failures count once.
func (p *patience) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !now.Before(p.until) {
		p.until = now.Add(p.failing.NextBackOff())
	}
}

// fine ends a series of failures.
func (p *patience) fine() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing.Reset()
}

// left returns how long revokes are delayed, at least one second.
func (p *patience) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(time.Until(p.until), p.paced(time.Second))
}

// wait returns when revokes are not delayed any more, or when ctx is done.
func (p *patience) wait(ctx context.Context) error {
	p.mu.Lock()
	d := time.Until(p.until)
	p.mu.Unlock()
	if d <= 0 {
		return ctx.Err()
	}
	return sleep(ctx, d)
}
