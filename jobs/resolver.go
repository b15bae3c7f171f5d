package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
)

// resolver resolves open attempts by reading Clerk.
type resolver struct {
	*process
	reader   *reader
	measured *measured
	// closeOwnRevoke closes a row's own revoke; see [Worker.closeOwnRevoke].
	closeOwnRevoke func(ctx context.Context, tx pgx.Tx, attempt int64, p ledger.Person, status invitation.Status,
		how string, done bool) error
}

// run resolves open attempts by reading Clerk, until ctx is done. It does not matter which
// process sent them and whether that process lives.
func (s *resolver) run(ctx context.Context) {
	failing := s.cfg.afterFailures()
	for ctx.Err() == nil {
		next, err := s.settleDue(ctx)
		wait := s.cfg.idlePoll()
		switch {
		case err != nil && ctx.Err() == nil:
			wait = failing.NextBackOff()
			s.log.Warn("open attempts can't be read", "error", err, "again_in", wait)
			if errors.Is(err, ErrUnauthorized) {
				s.stop(err)
			}
		case err == nil:
			failing.Reset()
			if !next.IsZero() {
				wait = min(max(time.Until(next), s.cfg.paced(100*time.Millisecond)), s.cfg.idlePoll())
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-s.resolve:
		}
		t.Stop()
	}
}

// settleDue makes one shared read for all attempts that are due and resolves them. It returns when
// the next attempt is due.
func (s *resolver) settleDue(ctx context.Context) (next time.Time, err error) {
	due, next, err := ledger.Due(ctx, s.pool, s.cfg.Instance.ID, s.cfg.Settle)
	if err != nil || len(due) == 0 {
		return next, err
	}
	held, err := s.take(ctx, "settle")
	if err != nil || held == nil {
		return next, err
	}
	defer func() { err = held.Explain(err); held.Release() }()
	ctx = held.Context()
	// Another process may have resolved them before this one took the lease.
	if due, next, err = ledger.Due(ctx, s.pool, s.cfg.Instance.ID, s.cfg.Settle); err != nil || len(due) == 0 {
		return next, err
	}
	ctx, span := tracer.Start(ctx, "settle")
	defer func() { endSpan(span, err) }()
	span.SetAttributes(spanAttempts.Int(len(due)))
	settled, unread, err := s.readBack(ctx, due)
	if err != nil {
		return next, err
	}
	var failed []error
	for _, a := range due {
		if unread[a.ID] {
			continue
		}
		// An attempt that cannot be resolved must not keep the others open.
		if err := s.settle(ctx, a, settled); err != nil {
			failed = append(failed, fmt.Errorf("settle attempt %d: %w", a.ID, err))
		}
	}
	poke(s.active)
	return next, errors.Join(failed...)
}

// readBack reads the lists back to the earliest of the attempts: first the default list, then the
// revoked invitations, so that it sees what is revoked in between. If an answer says that a pending
// invitation exists, which may be of any age, it reads all pending invitations before. If a refusal
// named nobody, it first reads which of its people are users. unread has the attempts for which
// that failed.
func (s *resolver) readBack(ctx context.Context, due []ledger.OpenAttempt) (
	c invitation.Coverage, unread map[int64]bool, err error) {
	earliest := due[0].Started
	exists := false
	unread = map[int64]bool{}
	for _, a := range due {
		if a.Started.Before(earliest) {
			earliest = a.Started
		}
		if !a.Invited.IsZero() && a.Invited.Before(earliest) {
			earliest = a.Invited
		}
		exists = exists || a.Exists
		if somebody, _ := clerk.NamesNobody(a.Code, a.Status); a.Unnamed && somebody {
			if err := s.readUnnamed(ctx, a); err != nil {
				s.log.Warn("users of a refused call can't be read", "attempt", a.ID, "error", err)
				unread[a.ID] = true
			}
		}
	}
	back := earliest.Add(-s.measured.rules(s.cfg).Slack - 10*time.Second)
	if exists {
		if _, err := s.reader.pass(ctx, ledger.ReadPending, time.Time{}); err != nil {
			return c, unread, err
		}
	}
	first, err := s.reader.pass(ctx, ledger.ReadAll, back)
	if err != nil {
		return c, unread, err
	}
	if _, err := s.reader.pass(ctx, ledger.ReadRevoked, back); err != nil {
		return c, unread, err
	}
	c.Settled, c.SettledRead = first.Begun, first.ID
	return c, unread, nil
}

// readUnnamed reads which people of a refused call are users, because the refusal did not name the
// person that caused it. If Clerk does not say it for a person, the answer to their next request
// will.
func (s *resolver) readUnnamed(ctx context.Context, a ledger.OpenAttempt) error {
	people, err := s.people(ctx, a.ID)
	if err != nil {
		return err
	}
	cases, err := s.reader.load(ctx, people)
	if err != nil || len(cases) == 0 {
		return err
	}
	_, err = s.reader.users(ctx, cases)
	return err
}

// people returns the rows of an attempt's people that are still open.
func (s *resolver) people(ctx context.Context, attempt int64) (ids []invitation.RowID, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		people, err := ledger.LockAttempt(ctx, tx, attempt)
		ids = rowsOf(people)
		return err
	})
	return ids, err
}

func rowsOf(people []ledger.Person) []invitation.RowID {
	var ids []invitation.RowID
	for _, p := range people {
		if p.Row != 0 {
			ids = append(ids, p.RowID)
		}
	}
	return ids
}

// settle closes what the reads decide about one attempt. It runs twice. The people that the reads
// decide come first, because how the other people of a refused call continue depends on whether
// anybody was found.
func (s *resolver) settle(ctx context.Context, a ledger.OpenAttempt, settled invitation.Coverage) error {
	if a.Call == ledger.CallRevoke {
		return s.settleRevoke(ctx, a)
	}
	var settledNow []ledger.Verdict
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		again := time.Time{}
		for _, only := range []invitation.ActionKind{invitation.Decide, invitation.Claim} {
			people, err := ledger.LockAttempt(ctx, tx, a.ID)
			if err != nil || len(people) == 0 {
				return err
			}
			cases, err := ledger.Load(ctx, tx, s.cfg.Instance.ID, rowsOf(people), s.measured.rules(s.cfg), settled)
			if err != nil {
				return err
			}
			var verdicts []ledger.Verdict
			for _, c := range cases {
				act := c.Next()
				if act.Kind == only && act.Close != "" {
					verdicts = append(verdicts, ledger.Verdict{RowID: c.RowID, Key: c.Key, Action: act})
				}
				if act.Kind == invitation.Read && (again.IsZero() || act.At.Before(again)) {
					again = act.At
				}
			}
			freed, err := ledger.Settle(ctx, tx, s.cfg.Instance.ID, verdicts)
			if err != nil {
				return err
			}
			if err := free(ctx, tx, s.cfg.Instance.ID, freed); err != nil {
				return err
			}
			settledNow = append(settledNow, verdicts...)
		}
		if again.IsZero() {
			return nil
		}
		return ledger.ReadAgain(ctx, tx, a.ID, again)
	})
	if err != nil {
		return err
	}
	for _, v := range settledNow {
		s.log.Info("attempt settled by reading",
			"attempt", a.ID, "batch", v.Batch, "row", v.Row, "found", v.Close, "outcome", v.Outcome)
	}
	return nil
}

// settleRevoke resolves a revoke without a usable answer by the status that the lists show now.
func (s *resolver) settleRevoke(ctx context.Context, a ledger.OpenAttempt) error {
	var told []func()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		people, err := ledger.LockAttempt(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		for _, p := range people {
			status, read, err := ledger.LastStatus(ctx, tx, s.cfg.Instance.ID, p.InvitationID, a.Due)
			if err != nil {
				return err
			}
			how := invitation.ClosedRead
			if status == invitation.Pending || status == "" && a.Sweep != 0 {
				how = invitation.ClosedNotThere
			}
			if a.Sweep == 0 {
				done := status != invitation.Pending && status != invitation.Accepted
				err = s.closeOwnRevoke(ctx, tx, a.ID, p, status, how, done)
			} else if err = closeRevoke(ctx, tx, s.cfg.Instance.ID, a.ID, p, status, how); err == nil {
				id := revocation.RevocationID{Sweep: a.Sweep, Invitation: p.InvitationID}
				err = s.decideRead(ctx, tx, id, a.ID, status, read)
			}
			if err != nil {
				return err
			}
			told = append(told, func() {
				s.log.Info("revoke settled by reading",
					"attempt", a.ID, "batch", p.Batch, "row", p.Row, "status", status)
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
func (s *resolver) decideRead(ctx context.Context, tx pgx.Tx, id revocation.RevocationID, attempt int64,
	status invitation.Status, read int64) error {
	e := revocation.RevocationEnd{Attempt: attempt, Read: read}
	switch status {
	case invitation.Revoked:
		e.Outcome = revocation.RevokeDone
	case invitation.Accepted:
		e.Outcome = revocation.RevokeAccepted
	case invitation.Expired:
		e.Outcome, e.Reason = revocation.RevokeSkipped, revocation.SkipExpired
	default:
		r, err := revocation.LockRevocation(ctx, tx, id)
		if err != nil || r.Outcome != "" {
			return err
		}
		if r.Now.Sub(r.Begun) <= giveUp {
			return InsertRevokes(ctx, tx, s.cfg.Instance.ID, []revocation.RevocationID{id})
		}
		e.Outcome, e.Reason = revocation.RevokeFailed, "not_done"
	}
	return revocation.EndRevocation(ctx, tx, id, e)
}
