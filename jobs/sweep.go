package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/robfig/cron/v3"
	"golang.org/x/sync/errgroup"

	"bulkinvite/clerk"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// revokers is how many revocations a sweep has under way. The general limit sets
// the pace.
const revokers = 8

// ParseSchedule reads a cron expression of five fields, in a time zone (empty:
// the machine's).
func ParseSchedule(expression, zone string) (cron.Schedule, error) {
	where := time.Local
	if zone != "" {
		var err error
		if where, err = time.LoadLocation(zone); err != nil {
			return nil, fmt.Errorf("%q is no time zone: write one of the IANA database, such as Europe/Berlin", zone)
		}
	}
	spec, err := cron.ParseStandard(expression)
	if err != nil || strings.Contains(expression, "TZ=") {
		return nil, fmt.Errorf("%q is no cron expression: write minute hour day month weekday, such as \"0 2 * * *\"", expression)
	}
	return wallClock{spec, where}, nil
}

// wallClock is a schedule that goes by the clock on the wall. The parser's own
// zones leave a night out when its hour is skipped for summer time, and run
// twice when it is repeated; here such a night has one run.
type wallClock struct {
	spec  cron.Schedule
	where *time.Location
}

// Next returns the first moment of the schedule after t.
func (c wallClock) Next(t time.Time) time.Time {
	wall := t.In(c.where)
	asUTC := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, time.UTC)
	for {
		asUTC = c.spec.Next(asUTC)
		if asUTC.IsZero() { // a date that never comes, such as 30 February
			return asUTC
		}
		next := time.Date(asUTC.Year(), asUTC.Month(), asUTC.Day(), asUTC.Hour(), asUTC.Minute(), asUTC.Second(), 0, c.where)
		if next.After(t) {
			return next
		}
	}
}

// SweepArgs is the sweep of one night.
type SweepArgs struct {
	Night time.Time `json:"night"` // the moment of the schedule
}

// Kind is River's name of the job.
func (SweepArgs) Kind() string { return "sweep" }

// nights inserts the sweep of each night as it comes, until ctx is done. River's
// own periodic jobs are inserted by the one leader of a database, for its own
// instance and by its own configuration; here each process inserts, and the
// night in the arguments makes it one job.
func (w *Worker) nights(ctx context.Context) {
	if w.schedule == nil {
		return
	}
	for {
		night := w.schedule.Next(time.Now())
		if night.IsZero() {
			return
		}
		if sleep(ctx, time.Until(night)) != nil {
			return
		}
		_, err := w.river.Insert(ctx, SweepArgs{night.UTC()}, &river.InsertOpts{
			Queue: sweepQueue(w.cfg.Instance.ID), UniqueOpts: river.UniqueOpts{ByArgs: true, ByQueue: true}})
		if err != nil && ctx.Err() == nil {
			w.log.Error("insert the nightly sweep", "night", night, "error", err)
		}
	}
}

type sweepWorker struct {
	river.WorkerDefaults[SweepArgs]
	w *Worker
}

// Timeout lets a sweep of a hundred thousand invitations finish.
func (s *sweepWorker) Timeout(*river.Job[SweepArgs]) time.Duration { return -1 }

// Work sweeps a night once. What it does not get done, the next night does.
func (s *sweepWorker) Work(ctx context.Context, job *river.Job[SweepArgs]) error {
	_, err := s.w.sweep(ctx, SweepOptions{OlderThan: s.w.cfg.SweepOlderThan, Apply: true, Actor: "nightly sweep", night: job.Args.Night})
	if err != nil && !errors.Is(err, invitation.ErrSwept) {
		return river.JobCancel(err)
	}
	return nil
}

// SweepOptions say what a sweep does.
type SweepOptions struct {
	OlderThan time.Duration // how old a pending invitation must be; 0: 14 days
	Apply     bool          // false: only count
	Actor     string        // who asked for it
	night     time.Time     // for the nightly sweep
}

// Sweep revokes the pending invitations of ours that are older than the options
// say. It is for a worker that does not run; a running one sweeps by a job.
func (w *Worker) Sweep(ctx context.Context, o SweepOptions) (*invitation.Sweep, error) {
	leave, err := w.attend(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return w.sweep(ctx, o)
}

func (w *Worker) sweep(ctx context.Context, o SweepOptions) (*invitation.Sweep, error) {
	sw := &invitation.Sweep{OlderThan: o.OlderThan, Apply: o.Apply, StartedBy: o.Actor, Night: o.night}
	orDefault(&sw.OlderThan, w.cfg.SweepOlderThan)
	people, err := w.store.BeginSweep(ctx, w.cfg.Instance.ID, sw)
	if err != nil {
		return nil, err
	}
	if o.Apply {
		err = w.revokeAll(ctx, sw, people)
	}
	if endErr := w.store.EndSweep(context.WithoutCancel(ctx), sw); err == nil {
		err = endErr
	}
	w.log.Info("sweep ended", "sweep", sw.ID, "apply", sw.Apply, "scanned", sw.Scanned, "stale", sw.Stale, "revoked", sw.Revoked, "skipped", sw.Skipped, "failed", sw.Failed)
	return sw, err
}

func (w *Worker) revokeAll(ctx context.Context, sw *invitation.Sweep, people []invitation.Person) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(revokers)
	for _, p := range people {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			result, err := w.revoke(ctx, sw.ID, p)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				sw.Failed++
				return err
			case result == "revoked":
				sw.Revoked++
			case result == "failed":
				sw.Failed++
			default:
				sw.Skipped[result]++
			}
			return nil
		})
	}
	return group.Wait()
}

// revoke revokes one invitation and says how that ended: revoked, failed, or
// the reason why it was left alone.
func (w *Worker) revoke(ctx context.Context, sweep int64, p invitation.Person) (string, error) {
	for try := 0; ; try++ {
		release, err := w.general.Acquire(ctx)
		if err != nil {
			return "", err
		}
		a, attempt, err := w.revokeOnce(ctx, sweep, p)
		var throttled *ratelimit.Throttled
		if a.Class == clerk.Throttled {
			throttled = &ratelimit.Throttled{Wait: a.RetryAfter, Told: a.HasRetryAfter}
		}
		release(throttled)
		switch {
		case err != nil:
			return "", err
		case attempt == 0:
			return "open_attempt", nil
		case a.Class == clerk.Success, a.Class == clerk.AlreadyRevoked:
			return "revoked", nil
		case a.Class == clerk.AlreadyAccepted:
			return "accepted", nil
		case a.Class == clerk.Gone:
			return "unknown_at_clerk", nil
		case a.Class == clerk.Unauthorized:
			return "", ErrUnauthorized
		case (a.Class == clerk.Throttled || a.Class == clerk.NotSent) && try < 5:
			if err := sleep(ctx, time.Duration(try)*time.Second); err != nil {
				return "", err
			}
		default:
			return "failed", nil
		}
	}
}

// revokeOnce claims the person, asks Clerk, and records the answer. No attempt:
// somebody else has an open one.
func (w *Worker) revokeOnce(ctx context.Context, sweep int64, p invitation.Person) (a clerk.Answer, attempt int64, err error) {
	ctx = context.WithoutCancel(ctx)
	deadline := time.Now().Add(w.cfg.RequestTimeout)
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if err := invitation.Alive(ctx, tx, w.id); err != nil {
			return err
		}
		r := invitation.Request{Call: "revoke", Bucket: ratelimit.GeneralCall, People: []invitation.Person{p}, Sweep: sweep}
		claimed, err := w.store.Open(ctx, tx, w.cfg.Instance.ID, w.id, w.cfg.RequestTimeout, []invitation.Request{r})
		if err != nil {
			return err
		}
		claimed, err = w.store.Withdraw(ctx, tx, claimed, func(invitation.Person) bool { return false })
		if len(claimed) > 0 {
			attempt = claimed[0].AttemptID
		}
		return err
	})
	if err != nil || attempt == 0 {
		return a, 0, err
	}
	calling, cancel := context.WithDeadline(ctx, deadline)
	a = w.api.Revoke(calling, p.InvitationID)
	cancel()
	w.persist(ctx, func(ctx context.Context) error { return w.recordRevoke(ctx, attempt, p, a) })
	return a, attempt, nil
}

func (w *Worker) recordRevoke(ctx context.Context, attempt int64, p invitation.Person, a clerk.Answer) error {
	r := invitation.Reply{Status: a.Status, Code: a.Code, TraceID: a.TraceID, NotSent: a.Class == clerk.NotSent, People: map[string]invitation.Said{}}
	var status invitation.Status
	how := invitation.ClosedAnswered
	answer := invitation.AnswerRefused
	switch a.Class {
	case clerk.Success, clerk.AlreadyRevoked:
		answer, status = invitation.AnswerRevoked, invitation.Revoked
	case clerk.AlreadyAccepted:
		answer, status = invitation.AnswerAccepted, invitation.Accepted
	case clerk.Gone:
		answer = invitation.AnswerGone
	case clerk.NotSent:
		how = invitation.ClosedNotSent
	case clerk.Transient, clerk.Lost:
		answer, how, r.Read = invitation.NoAnswer, "", true
	default:
		how = invitation.ClosedRefused
	}
	if answer != invitation.NoAnswer {
		r.People[p.Key] = invitation.Said{Answer: answer, Code: a.Code, InvitationID: p.InvitationID}
	}
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		open, err := w.store.Note(ctx, tx, attempt, r, w.cfg.Settle)
		if err != nil || !open || how == "" {
			return err
		}
		freed, err := w.store.CloseRevoke(ctx, tx, w.cfg.Instance.ID, p, status, how)
		if err != nil {
			return err
		}
		return free(ctx, tx, w.cfg.Instance.ID, freed)
	})
}

// settleRevoke settles a revoke whose answer was lost, by where the lists show
// the invitation now.
func (w *Worker) settleRevoke(ctx context.Context, a invitation.OpenAttempt) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		people, err := w.store.LockAttempt(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		for _, p := range people {
			status, err := w.store.LastStatus(ctx, tx, w.cfg.Instance.ID, p.InvitationID)
			if err != nil {
				return err
			}
			how := invitation.ClosedRead
			if status == invitation.Pending || status == "" {
				how = invitation.ClosedNotThere
			}
			freed, err := w.store.CloseRevoke(ctx, tx, w.cfg.Instance.ID, p, status, how)
			if err != nil {
				return err
			}
			if err := free(ctx, tx, w.cfg.Instance.ID, freed); err != nil {
				return err
			}
			w.log.Info("revoke settled by reading", "attempt", a.ID, "batch", p.Batch, "row", p.Row, "status", status)
		}
		return nil
	})
}
