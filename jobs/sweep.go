package jobs

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

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
func (w *Worker) BeginSweep(ctx context.Context, o SweepOptions) (sw *revocation.Sweep, err error) {
	ctx, span := tracer.Start(ctx, "sweep")
	defer func() { endSpan(span, err) }()
	sw = &revocation.Sweep{InstanceID: w.cfg.Instance.ID, Kind: revocation.KindSweep, StartedBy: o.Actor, Scope: o.Scope,
		OlderThan: o.OlderThan, Apply: o.Apply, Allow: o.Allow, Night: o.night}
	orDefault(&sw.OlderThan, w.cfg.SweepOlderThan)
	policy := revocation.Policy{OlderThan: sw.OlderThan, Today: w.today()}
	if o.Scope == ScopeAll {
		reading := ctx
		if o.held != nil {
			reading = o.held.Context()
		}
		if policy.Listed, err = w.pending(reading); err != nil {
			return nil, err
		}
	}
	if o.Confirm != nil && o.Apply {
		if err := w.confirmSweep(ctx, sw, policy, o.Confirm); err != nil {
			return nil, err
		}
	}
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) (err error) {
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
		w.log.Warn("sweep is held: it would revoke more than its threshold", append(attributes, "threshold", sw.Threshold)...)
	} else {
		w.log.Info("sweep begins", attributes...)
	}
	return sw, nil
}

// confirmSweep asks for confirmation of what a sweep would revoke now. It holds no transaction
// while a person is asked.
func (w *Worker) confirmSweep(ctx context.Context, sw *revocation.Sweep, policy revocation.Policy,
	confirm func(ctx context.Context, revoke int) error) error {
	var targets []ledger.Target
	var scanned int
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) (err error) {
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
func (w *Worker) pending(ctx context.Context) (all []ledger.Seen, err error) {
	met := map[string]bool{}
	_, err = w.reader.walk(ctx, list{call: ledger.ReadPending, status: invitation.Pending, sight: true,
		take: func(ctx context.Context, _ ledger.GET, page []clerk.Invitation) error {
			shown := seen(page)
			if err := ledger.Veil(ctx, w.pool, w.cfg.Instance.ID, shown); err != nil {
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
func (w *Worker) today() time.Time {
	if s, ok := w.schedule.(wallClock); ok {
		return w.now().In(s.where)
	}
	return w.now()
}
