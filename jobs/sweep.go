package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/robfig/cron/v3"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/lease"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
)

// ScopeAll is the scope of a sweep that also revokes invitations that no row made.
const ScopeAll = "all"

// SweepOptions say what a sweep does.
type SweepOptions struct {
	OlderThan time.Duration // minimum age, if neither the batch nor the row sets one; 0: [Config.SweepOlderThan]
	Scope     string        // "ours" (default): invitations of rows; "all": every pending invitation of the instance
	Apply     bool          // false: only count
	Allow     bool          // allow it to exceed its threshold
	Actor     string        // who asked for it

	// Confirm, if not nil, is called before an applied sweep begins that would not be held, with
	// the number of invitations it would revoke. If it returns an error, the sweep does not begin
	// and nothing is recorded.
	Confirm func(ctx context.Context, revoke int) error

	night time.Time    // only for a nightly sweep
	held  *lease.Lease // only for a nightly sweep
}

// Sweep revokes stale invitations. It returns when the last of them is decided, or when the sweep
// is held. Use it with a worker that does not run yet.
func (w *Worker) Sweep(ctx context.Context, o SweepOptions) (*revocation.Sweep, error) {
	sw, err := w.BeginSweep(ctx, o)
	if err != nil || !sw.Apply || sw.Held {
		return sw, err
	}
	return w.Finish(ctx, sw.ID)
}

// BeginSweep records a sweep of stale invitations. If the sweep is applied and not held, it also
// inserts its jobs.
func (w *Worker) BeginSweep(ctx context.Context, o SweepOptions) (*revocation.Sweep, error) {
	return w.sweeps.begin(ctx, o)
}

// sweepStarter begins sweeps of stale invitations.
type sweepStarter struct {
	*process
	reader   *reader
	schedule cron.Schedule // of the nightly sweep; nil: none
	now      func() time.Time
}

// begin is [Worker.BeginSweep].
func (s *sweepStarter) begin(ctx context.Context, o SweepOptions) (sw *revocation.Sweep, err error) {
	ctx, span := tracer.Start(ctx, "sweep")
	defer func() { endSpan(span, err) }()
	sw = &revocation.Sweep{InstanceID: s.cfg.Instance.ID, Kind: revocation.KindSweep, StartedBy: o.Actor,
		Scope: o.Scope, OlderThan: o.OlderThan, Apply: o.Apply, Allow: o.Allow, Night: o.night}
	orDefault(&sw.OlderThan, s.cfg.SweepOlderThan)
	policy := revocation.Policy{OlderThan: sw.OlderThan, Today: s.today()}
	if o.Scope == ScopeAll {
		reading := ctx
		if o.held != nil {
			reading = o.held.Context()
		}
		if policy.Listed, err = s.pending(reading); err != nil {
			return nil, err
		}
	}
	if o.Confirm != nil && o.Apply {
		if err := s.confirm(ctx, sw, policy, o.Confirm); err != nil {
			return nil, err
		}
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		var targets []ledger.Target
		if targets, sw.Scanned, sw.Skipped, err = revocation.Stale(ctx, tx, sw.InstanceID, policy); err != nil {
			return err
		}
		if o.held != nil { // after the choice, which may take longer than a lease lasts
			if err := o.held.Guard(ctx, tx); err != nil {
				return err
			}
		}
		return BeginSweep(ctx, tx, sw, targets)
	})
	if err != nil {
		return nil, err
	}
	span.SetAttributes(spanSweep.Int64(sw.ID), spanScanned.Int(sw.Scanned), spanStale.Int(sw.Stale), spanHeld.Bool(sw.Held))
	attributes := []any{"sweep", sw.ID, "apply", sw.Apply, "scanned", sw.Scanned, "stale", sw.Stale}
	if sw.Held {
		s.log.Warn("sweep is held: it would revoke more than its threshold",
			append(attributes, "threshold", sw.Threshold)...)
	} else {
		s.log.Info("sweep begins", attributes...)
	}
	return sw, nil
}

// confirm asks for confirmation of what a sweep would revoke now. It holds no transaction
// while a person is asked.
func (s *sweepStarter) confirm(ctx context.Context, sw *revocation.Sweep, policy revocation.Policy,
	confirm func(ctx context.Context, revoke int) error) error {
	var targets []ledger.Target
	var scanned int
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		targets, scanned, _, err = revocation.Stale(ctx, tx, sw.InstanceID, policy)
		return err
	})
	if err != nil {
		return err
	}
	if !sw.Allow && len(targets) > revocation.Threshold(scanned) {
		return nil // the sweep will be held: it revokes nothing
	}
	return confirm(ctx, len(targets))
}

// pending reads what Clerk lists as pending, each invitation once.
func (s *sweepStarter) pending(ctx context.Context) (all []ledger.Seen, err error) {
	met := map[string]bool{}
	_, err = s.reader.walk(ctx, list{call: ledger.ReadPending, status: invitation.Pending, sight: true,
		take: func(ctx context.Context, _ ledger.GET, page []clerk.Invitation) error {
			shown := seen(page)
			if err := ledger.Veil(ctx, s.pool, s.cfg.Instance.ID, shown); err != nil {
				return err
			}
			for _, one := range shown {
				if !met[one.ID] && one.Status == invitation.Pending {
					met[one.ID] = true
					all = append(all, one)
				}
			}
			return nil
		}})
	return all, err
}

// today returns the current time in the schedule's time zone.
func (s *sweepStarter) today() time.Time {
	if local, ok := s.schedule.(wallClock); ok {
		return s.now().In(local.where)
	}
	return s.now()
}

// run begins the sweep of each night when it is due, until ctx is done. The first process to
// record it has the night. If all processes missed some nights, only the last of them is made up
// for. A sweep that cannot begin is tried again.
func (s *sweepStarter) run(ctx context.Context) {
	if s.schedule == nil {
		return
	}
	failed := false
	for ctx.Err() == nil {
		wait := 5 * time.Second
		elsewhere, err := s.night(ctx)
		if err == nil && !elsewhere {
			// Wait at most one minute, because the clock may be set.
			wait = min(max(s.schedule.Next(s.now()).Sub(s.now()), time.Millisecond), time.Minute)
		} else if ctx.Err() == nil && !failed {
			s.log.Warn("the nightly sweep can't begin; it is tried until it can", "error", err, "again_in", wait)
		}
		failed = err != nil
		if sleep(ctx, wait) != nil {
			return
		}
	}
}

// night begins a nightly sweep if one is due. elsewhere is true if another process is doing it. If
// that process dies, this one takes over soon.
func (s *sweepStarter) night(ctx context.Context) (elsewhere bool, err error) {
	now := s.now()
	since, err := revocation.Swept(ctx, s.pool, s.cfg.Instance.ID, s.cfg.SweepAt, s.cfg.TZ)
	if err != nil {
		return false, err
	}
	due := latest(s.schedule, since, now)
	if due.IsZero() {
		return false, nil
	}
	held, err := s.take(ctx, "night")
	if err != nil || held == nil {
		return err == nil, err
	}
	defer func() { err = held.Explain(err); held.Release() }()
	_, err = s.begin(ctx, SweepOptions{OlderThan: s.cfg.SweepOlderThan, Scope: s.cfg.SweepScope, Apply: true,
		Actor: "nightly sweep", night: due.UTC(), held: held})
	if errors.Is(err, revocation.ErrSwept) { // another process began it meanwhile
		return false, nil
	}
	return false, err
}
