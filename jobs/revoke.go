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

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// revokers is how many revocations a process works at a time. The general limit sets the pace.
const revokers = 8

// RevokeArgs wakes a worker for a revocation. It carries ids only.
type RevokeArgs struct {
	revocation.RevocationID
}

// Kind returns River's name of the job, "revoke".
func (RevokeArgs) Kind() string { return "revoke" }

// BeginSweep records a sweep and its targets, and inserts a job for each target, in one
// transaction; see [revocation.BeginSweep]. A held sweep and a dry run have no jobs. Any
// worker of the instance works the jobs. [Worker.Finish] does so and waits for the end.
func BeginSweep(ctx context.Context, tx pgx.Tx, sw *revocation.Sweep, targets []ledger.Target) error {
	if err := revocation.BeginSweep(ctx, tx, sw, targets); err != nil {
		return err
	}
	if !sw.Apply || sw.Held {
		return nil
	}
	ids := make([]revocation.RevocationID, len(targets))
	for i, t := range targets {
		ids[i] = revocation.RevocationID{Sweep: sw.ID, Invitation: t.InvitationID}
	}
	return InsertRevokes(ctx, tx, sw.InstanceID, ids)
}

// AllowSweep allows a held sweep to exceed its threshold and inserts its jobs. It does nothing to a
// sweep that is not held.
func AllowSweep(ctx context.Context, tx pgx.Tx, sw *revocation.Sweep, actor string) error {
	ids, err := revocation.AllowSweep(ctx, tx, sw.ID, actor)
	if err != nil {
		return err
	}
	return InsertRevokes(ctx, tx, sw.InstanceID, ids)
}

// InsertRevokes inserts a job for each revocation. Call it in the transaction that records them.
func InsertRevokes(ctx context.Context, tx pgx.Tx, instance int64, ids []revocation.RevocationID) error {
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
func (w *Worker) Finish(ctx context.Context, sweep int64) (*revocation.Sweep, error) {
	err := w.Run(ctx, func(ctx context.Context) (bool, error) {
		sw, err := revocation.ReadSweep(ctx, w.pool, sweep)
		return err == nil && (sw.Held || !sw.FinishedAt.IsZero()), err
	})
	if err != nil {
		return nil, err
	}
	return revocation.ReadSweep(context.WithoutCancel(ctx), w.pool, sweep)
}

// revoker revokes invitations for sweeps.
type revoker struct {
	*process
	general  *ratelimit.General
	presence *presence
	patience *patience
}

// revokeWorker works the revoke jobs.
type revokeWorker struct {
	river.WorkerDefaults[RevokeArgs]
	revoker *revoker
	working *sync.Map // see [Worker]
}

// Work revokes one invitation, or snoozes until it can be tried again.
func (r *revokeWorker) Work(ctx context.Context, job *river.Job[RevokeArgs]) error {
	v := r.revoker
	r.working.Store(job.ID, nil)
	defer r.working.Delete(job.ID)
	ctx, cancel := v.untilStop(ctx)
	defer cancel()
	for {
		wait, err := v.revoke(ctx, job.Args.RevocationID)
		switch {
		case err == nil && wait == 0:
			failpoint("before_completion")
			return nil
		case ctx.Err() != nil: // the worker stops: the job returns to the queue at once
			return river.JobSnooze(0)
		case err != nil:
			v.log.Warn("revoke", "sweep", job.Args.Sweep, "invitation", job.Args.Invitation, "error", err)
			v.patience.lose()
			return river.JobSnooze(v.patience.left())
		case wait > v.cfg.paced(time.Second):
			return river.JobSnooze(wait)
		}
		if sleep(ctx, wait) != nil {
			return river.JobSnooze(0)
		}
	}
}

// untilStop returns a context that also ends when the worker stops.
func (v *revoker) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-v.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// revoke revokes one invitation. It returns 0 if nothing is left to do for this job, or how long to
// wait before the next try.
func (v *revoker) revoke(ctx context.Context, id revocation.RevocationID) (time.Duration, error) {
	now, err := revocation.ReadRevocation(ctx, v.pool, id)
	if err != nil {
		return 0, err
	}
	if now.Held || now.Outcome != "" {
		return 0, nil
	}
	if !now.Waits() {
		return max(now.NotBefore.Sub(now.Now), time.Millisecond), nil
	}
	if err := v.patience.wait(ctx); err != nil {
		return 0, err
	}
	release, err := v.general.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	var throttled *ratelimit.Throttled
	defer func() { release(throttled) }()
	ctx = context.WithoutCancel(ctx) // what is committed below must be sent and recorded
	failpoint("before_reserve")
	began := time.Now()
	claimed, wait, err := v.claimRevoke(ctx, id)
	attempt := claimed.AttemptID
	if errors.Is(err, ledger.ErrDeclaredDead) {
		return time.Millisecond, v.presence.register(ctx)
	}
	if err != nil || attempt == 0 {
		return wait, err
	}
	failpoint("after_reserve")
	ctx, span := tracer.Start(ctx, "revoke", trace.WithTimestamp(began))
	defer span.End()
	span.SetAttributes(spanAttempt.Int64(attempt), spanSweep.Int64(id.Sweep), spanPeople.Int(1))
	calling, cancel := context.WithDeadline(clerk.About(ctx, "attempt", attempt), began.Add(v.cfg.RequestTimeout))
	failpoint("before_send")
	a := v.api.Revoke(calling, id.Invitation)
	cancel()
	failpoint("after_send")
	if a.Class == clerk.Throttled {
		throttled = &ratelimit.Throttled{Wait: a.RetryAfter, Told: a.HasRetryAfter}
	}
	failpoint("before_outcome")
	v.persist(ctx, func(ctx context.Context) (err error) {
		wait, err = v.recordRevoke(ctx, claimed, now, a)
		return err
	})
	failpoint("after_outcome")
	switch a.Class {
	case clerk.Unauthorized:
		v.stop(unauthorized(a))
		v.patience.lose()
	case clerk.NotSent, clerk.Lost, clerk.Transient:
		v.patience.lose()
	default:
		v.patience.fine()
	}
	poke(v.active)
	return wait, nil
}

// claimRevoke opens an attempt for a revoke and claims its person, unless it is known by now that
// nothing must be sent. If it returns no attempt, the revocation is decided, or must be tried again
// after wait.
func (v *revoker) claimRevoke(ctx context.Context, id revocation.RevocationID) (
	claimed ledger.Claimed, wait time.Duration, err error) {
	claiming, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = pgx.BeginFunc(claiming, v.pool, func(tx pgx.Tx) error {
		claimed, wait = ledger.Claimed{}, 0
		if err := ledger.Alive(claiming, tx, v.id); err != nil {
			return err
		}
		r, err := revocation.LockRevocation(claiming, tx, id)
		if err != nil || !r.Waits() {
			return err
		}
		if r.Dropped != "" {
			// An answer or a read decides a request that is under way, also that of a dead process.
			under, err := revocation.UnderWay(claiming, tx, v.cfg.Instance.ID, r)
			if err != nil || under == r.Invitation {
				return err
			}
			end := revocation.RevocationEnd{Outcome: revocation.RevokeSkipped, Reason: r.Dropped}
			return revocation.EndRevocation(claiming, tx, id, end)
		}
		open, err := ledger.Open(claiming, tx, v.cfg.Instance.ID, v.id, v.cfg.RequestTimeout,
			[]ledger.Request{{Call: ledger.CallRevoke, Bucket: ratelimit.GeneralCall, People: []ledger.Person{r.Person}, Sweep: id.Sweep}})
		if err != nil {
			return err
		}
		if len(open) == 0 {
			wait, err = v.leaveAlone(claiming, tx, r)
			return err
		}
		// This is a new statement: it sees what was recorded before this claim.
		end, err := v.foregone(claiming, tx, r)
		if err != nil {
			return err
		}
		if end.Outcome == "" {
			claimed = open[0]
			return nil
		}
		if _, err := ledger.Withdraw(claiming, tx, open, func(ledger.Person) bool { return true }); err != nil {
			return err
		}
		return revocation.EndRevocation(claiming, tx, id, end)
	})
	if err == nil && claimed.AttemptID == 0 && wait == 0 {
		poke(v.active)
	}
	return claimed, wait, err
}

// leaveAlone handles a person who has an open request. A sweep of stale invitations skips the person,
// because a later sweep finds the invitation again. Other sweeps wait, and so does a sweep whose own
// open request is for another invitation of the same person. If the open request is this revoke,
// resolving it decides the revocation or inserts a job.
func (v *revoker) leaveAlone(ctx context.Context, tx pgx.Tx, r *revocation.Revocation) (time.Duration, error) {
	mine, err := revocation.UnderWay(ctx, tx, v.cfg.Instance.ID, r)
	if err != nil || mine == r.Invitation {
		return 0, err
	}
	if r.Kind == revocation.KindSweep && mine == "" {
		return 0, revocation.EndRevocation(ctx, tx, r.RevocationID, revocation.RevocationEnd{Outcome: revocation.RevokeSkipped, Reason: revocation.SkipOpenAttempt})
	}
	again := v.cfg.paced(2 * time.Second)
	_, err = revocation.PutOffRevocation(ctx, tx, r.RevocationID, again, "")
	return again, err
}

// foregone decides a revocation if it is known that there is nothing to revoke. The end has no
// outcome if that is not known.
func (v *revoker) foregone(ctx context.Context, tx pgx.Tx, r *revocation.Revocation) (
	e revocation.RevocationEnd, err error) {
	status, waits, err := revocation.Known(ctx, tx, v.cfg.Instance.ID, r)
	switch {
	case err != nil:
	case status == invitation.Revoked:
		e.Outcome = revocation.RevokeBefore
	case status == invitation.Accepted:
		e.Outcome = revocation.RevokeAccepted
	case status == invitation.Expired, !r.ExpiresAt.IsZero() && !r.ExpiresAt.After(r.Now):
		e.Outcome, e.Reason = revocation.RevokeSkipped, revocation.SkipExpired
	case waits && r.Kind == revocation.KindSweep: // the row decides whether to revoke it
		e.Outcome, e.Reason = revocation.RevokeSkipped, revocation.SkipWaitingRow
	}
	return e, err
}

// revoked is the meaning of an answer to a revoke.
type revoked struct {
	end    revocation.RevocationEnd // no outcome: try again, or read
	status invitation.Status        // of the invitation; empty: unknown
	answer invitation.Answer
	close  string // the attempt's resolution; empty: only a read can resolve it
	wait   bool   // back off before the next try
}

// judgeRevoke returns the meaning of an answer to a revoke.
func judgeRevoke(a clerk.Answer) revoked {
	failed := revocation.RevocationEnd{Outcome: revocation.RevokeFailed, Reason: a.Code}
	switch a.Class {
	case clerk.Success:
		return revoked{end: revocation.RevocationEnd{Outcome: revocation.RevokeDone}, status: invitation.Revoked, answer: invitation.AnswerRevoked, close: invitation.ClosedAnswered}
	case clerk.AlreadyRevoked:
		return revoked{end: revocation.RevocationEnd{Outcome: revocation.RevokeBefore}, status: invitation.Revoked, answer: invitation.AnswerRevoked, close: invitation.ClosedAnswered}
	case clerk.AlreadyAccepted:
		return revoked{end: revocation.RevocationEnd{Outcome: revocation.RevokeAccepted}, status: invitation.Accepted, answer: invitation.AnswerAccepted, close: invitation.ClosedAnswered}
	case clerk.Gone:
		return revoked{end: revocation.RevocationEnd{Outcome: revocation.RevokeGone}, answer: invitation.AnswerGone, close: invitation.ClosedAnswered}
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
func (v *revoker) recordRevoke(ctx context.Context, claimed ledger.Claimed, r *revocation.Revocation,
	a clerk.Answer) (wait time.Duration, err error) {
	attempt, said := claimed.AttemptID, judgeRevoke(a)
	reply := ledger.Reply{Status: a.Status, Code: a.Code, TraceID: a.TraceID, NotSent: a.Class == clerk.NotSent, People: map[string]ledger.Said{}, Read: said.close == ""}
	if said.answer != invitation.NoAnswer {
		reply.People[r.Key] = ledger.Said{Answer: said.answer, Code: a.Code, InvitationID: r.Invitation}
	}
	err = pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		wait = 0
		open, err := ledger.Note(ctx, tx, v.cfg.Settle,
			ledger.Noted{Attempt: attempt, Started: claimed.StartedAt, Reply: reply})
		if err != nil || !open[attempt] {
			return err // a read has resolved it meanwhile and decided the revocation
		}
		if wait, err = v.endOrWait(ctx, tx, attempt, r, said, a.Code); err != nil || said.close == "" {
			return err
		}
		return closeRevoke(ctx, tx, v.cfg.Instance.ID, attempt, r.Person, said.status, said.close)
	})
	if said.close == "" && err == nil {
		v.log.Warn("revoke must be read",
			"attempt", attempt, "sweep", r.Sweep, "class", a.Class.String(), "code", a.Code)
		poke(v.resolve)
		return 0, nil // the read inserts a job if a further try is needed
	}
	return wait, err
}

// endOrWait decides a revocation as the answer says, or makes it back off.
func (v *revoker) endOrWait(ctx context.Context, tx pgx.Tx, attempt int64, r *revocation.Revocation, said revoked,
	code string) (time.Duration, error) {
	if said.end.Outcome == revocation.RevokeGone && !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(r.Now.Add(time.Minute)) {
		said.end.Outcome, said.end.Reason = revocation.RevokeSkipped, revocation.SkipExpired // its clock is ahead
	}
	if said.end.Outcome != "" {
		said.end.Attempt = attempt
		return 0, revocation.EndRevocation(ctx, tx, r.RevocationID, said.end)
	}
	if !said.wait {
		return time.Millisecond, nil
	}
	if said.close != "" && r.Now.Sub(r.Begun) > giveUp {
		return 0, revocation.EndRevocation(ctx, tx, r.RevocationID, revocation.RevocationEnd{Outcome: revocation.RevokeFailed, Reason: code, Attempt: attempt})
	}
	wait := v.cfg.backoff(r.Tries)
	_, err := revocation.PutOffRevocation(ctx, tx, r.RevocationID, wait, code)
	return wait, err
}

// closeRevoke closes a person's part of an attempt to revoke, and inserts jobs for the rows that
// can be claimed again.
func closeRevoke(ctx context.Context, tx pgx.Tx, instance, attempt int64, p ledger.Person,
	status invitation.Status, how string) error {
	freed, err := ledger.CloseRevoke(ctx, tx, instance, attempt, p, status, how)
	if err != nil {
		return err
	}
	return free(ctx, tx, instance, freed)
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
