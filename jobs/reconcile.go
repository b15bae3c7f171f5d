package jobs

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/lease"
	"bulkinvite/internal/ledger"
	"bulkinvite/ratelimit"
)

// Reconcile compares everything at Clerk with the results: it updates the status of rows and
// records drift. One process of an instance does it at a time, and Reconcile waits for another
// process that does. Use it with a worker that does not run. A running worker reconciles on its
// own, every [Config.ReconcileEvery].
func (w *Worker) Reconcile(ctx context.Context, actor string) (*ledger.Reconcile, error) {
	leave, err := w.presence.attend(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for {
		r, err := w.reconciler.reconcile(ctx, actor, 0)
		if r != nil || err != nil {
			return r, err
		}
		if err := sleep(ctx, w.cfg.paced(200*time.Millisecond)); err != nil {
			return nil, err
		}
	}
}

// reconciler compares everything at Clerk with the results.
type reconciler struct {
	*process
	reader *reader
}

// run reconciles whenever that is due, until ctx is done. The reconciles table says when
// it is due, so restarts and several workers do not change how often it is done.
func (c *reconciler) run(ctx context.Context) {
	every := c.cfg.ReconcileEvery
	if every <= 0 {
		return
	}
	for ctx.Err() == nil {
		wait, err := ledger.ReconcileDue(ctx, c.pool, c.cfg.Instance.ID, every)
		if err == nil && wait <= 0 {
			_, err = c.reconcile(ctx, "every "+ratelimit.Interval(every), every)
			wait = 0 // check again at once
		}
		if errors.Is(err, ErrUnauthorized) {
			c.stop(err)
			return
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("reconcile", "error", err)
		}
		_ = sleep(ctx, min(max(wait, min(c.cfg.paced(time.Second), every)), time.Minute))
	}
}

// reconcile reads everything once. It returns nil if another process is reconciling or, with every,
// has done it meanwhile.
func (c *reconciler) reconcile(ctx context.Context, actor string, every time.Duration) (
	r *ledger.Reconcile, err error) {
	held, err := c.take(ctx, "reconcile")
	if err != nil || held == nil {
		return nil, err
	}
	defer func() { err = held.Explain(err); held.Release() }()
	ctx = held.Context()
	if every > 0 {
		if due, err := ledger.ReconcileDue(ctx, c.pool, c.cfg.Instance.ID, every); err != nil || due > 0 {
			return nil, err
		}
	}
	ctx, span := tracer.Start(ctx, "reconcile")
	defer func() { endSpan(span, err) }()
	r = &ledger.Reconcile{StartedBy: actor}
	if err := ledger.BeginReconcile(ctx, c.pool, c.cfg.Instance.ID, c.id, r); err != nil {
		return nil, err
	}
	p := &pass{process: c.process, reader: c.reader, r: r, guard: held.Guard, seed: maphash.MakeSeed(),
		passes: []int64{}, told: []int64{}}
	var unlisted []ledger.Unlisted
	listed := p.read(ctx)
	if listed == nil {
		unlisted, listed = ledger.Missing(ctx, c.pool, c.cfg.Instance.ID, r, c.cfg.Settle, p.shown, held.Guard)
	}
	err = errors.Join(listed, p.byID(ctx, unlisted))
	end := func() error {
		if r.Complete = listed == nil; listed != nil {
			r.Error = held.Explain(listed).Error()
		}
		return ledger.EndReconcile(context.WithoutCancel(ctx), c.pool, c.cfg.Instance.ID, r,
			p.passes, p.told, held.Guard)
	}
	endErr := end()
	if listed == nil && errors.Is(endErr, lease.ErrLost) { // another process now decides what is there
		listed, err = endErr, errors.Join(err, endErr)
		endErr = end()
	}
	c.log.Info("reconciled", "reconcile", r.ID, "complete", r.Complete, "requests", r.Requests, "scanned", r.Scanned,
		"accepted", r.Accepted, "expired", r.Expired, "revoked", r.Revoked, "deleted", r.Deleted,
		"unexplained", r.Drift.Unexplained, "gone", r.Drift.Gone, "pending_again", r.Drift.PendingAgain)
	span.SetAttributes(spanPass.Int64(r.ID), spanScanned.Int(r.Scanned), spanComplete.Bool(r.Complete))
	poke(c.active)
	return r, errors.Join(err, endErr)
}

// pass reads both of Clerk's lists once. It keeps eight bytes for each invitation that it read, and
// nothing else.
type pass struct {
	*process
	reader *reader
	r      *ledger.Reconcile
	guard  lease.Guard
	seed   maphash.Seed
	hashes []uint64 // of the ids that were read
	passes []int64  // first reads of the lists
	told   []int64  // reads that showed something new, or may have
}

// read reads the default list first and then the revoked invitations, so that it sees what is
// revoked in between.
func (p *pass) read(ctx context.Context) error {
	defer p.sum()
	for _, l := range []list{
		{call: ledger.ReadReconcile, take: p.learn, asked: &p.r.Requests},
		{call: ledger.ReadReconcileRevoked, status: invitation.Revoked, take: p.learn, asked: &p.r.Requests},
	} {
		if _, err := p.reader.walk(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// learn learns from a page of a list.
func (p *pass) learn(ctx context.Context, g ledger.GET, page []clerk.Invitation) error {
	if g.Pass == g.ID {
		p.passes = append(p.passes, g.ID)
	}
	for _, one := range page {
		p.hashes = append(p.hashes, maphash.String(p.seed, one.ID))
	}
	told, err := ledger.Learn(ctx, p.pool, p.cfg.Instance.ID, p.r, g.ID, seen(page), p.cfg.Settle, p.guard)
	if told || err != nil { // an error may be a commit that is done, and whose answer was lost
		p.told = append(p.told, g.ID)
	}
	return err
}

// mostByID is how many invitations a reconcile reads by id. The next reconcile reads the others.
const mostByID = 500

// byID finds out which invitations were deleted, of those that the lists did not show. Lists may
// lag, so it waits a settle time after they were read. Then it reads each invitation by its id, in
// every status.
func (p *pass) byID(ctx context.Context, unlisted []ledger.Unlisted) error {
	if len(unlisted) == 0 {
		return nil
	}
	if err := sleep(ctx, p.cfg.Settle); err != nil {
		return err
	}
	for _, u := range unlisted[:min(len(unlisted), mostByID)] {
		found, last, err := p.find(ctx, u.ID)
		if err != nil {
			return fmt.Errorf("read invitation %s: %w", u.ID, err)
		}
		if found {
			continue
		}
		gone, err := ledger.MarkDeleted(ctx, p.pool, p.cfg.Instance.ID, u, last, p.guard)
		if err != nil {
			return err
		}
		if gone {
			p.r.Deleted++
		}
	}
	return nil
}

// find reads an invitation by its id, in every status, and learns from the result. It returns the
// last read.
func (p *pass) find(ctx context.Context, id string) (found bool, last ledger.GET, err error) {
	var first *ledger.GET
	for _, l := range []list{{call: ledger.ReadByID}, {call: ledger.ReadByIDRevoked, status: invitation.Revoked}} {
		var page []clerk.Invitation
		var others int
		last, _, err = p.reader.get(ctx, l.call, first, func(ctx context.Context) clerk.Answer {
			p.r.Requests++
			a := p.api.Invitations(ctx, clerk.ListQuery{Status: string(l.status), Query: id})
			shown := len(a.Invitations)
			page = slices.DeleteFunc(a.Invitations, func(i clerk.Invitation) bool { return i.ID != id })
			others = shown - len(page)
			return a.Answer
		}, func(_ clerk.Answer, e *ledger.ReadEnd) {
			e.Items, e.Complete = len(page), others == 0
		})
		if err != nil {
			return false, last, err
		}
		if others > 0 { // Clerk ignored the query, so the answer does not prove absence
			return false, last, fmt.Errorf("clerk answered a query for one invitation with %d others", others)
		}
		if len(page) > 0 {
			_, err = ledger.Learn(ctx, p.pool, p.cfg.Instance.ID, p.r, last.ID, seen(page), p.cfg.Settle, p.guard)
			return true, last, err
		}
		first = &last
	}
	return false, last, nil
}

// sum prepares the hashes for look-ups.
func (p *pass) sum() {
	slices.Sort(p.hashes)
	p.hashes = slices.Compact(p.hashes)
	p.r.Scanned = len(p.hashes)
}

// shown reports whether an invitation was read.
func (p *pass) shown(id string) bool {
	_, ok := slices.BinarySearch(p.hashes, maphash.String(p.seed, id))
	return ok
}
