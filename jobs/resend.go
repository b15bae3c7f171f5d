package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/clerk"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// makeRoom revokes the invitation that stands in the way of a claimed create,
// under that claim and its deadline, and reports whether the create may be sent.
// If not, the create is closed as never sent, and its row says how it goes on.
func (w *Worker) makeRoom(ctx, calling context.Context, t *ticket) bool {
	var a clerk.Answer
	budget := true
	release, err := w.general.Acquire(calling)
	if err != nil {
		a, budget = clerk.Answer{Class: clerk.NotSent, Code: "no_budget", Err: err}, false
	} else {
		failpoint("before_revoke")
		a = w.api.Revoke(clerk.About(calling, "attempt", t.revoking), t.revoke.InvitationID)
		failpoint("after_revoke")
		var throttled *ratelimit.Throttled
		if a.Class == clerk.Throttled {
			throttled = &ratelimit.Throttled{Wait: a.RetryAfter, Told: a.HasRetryAfter}
		}
		release(throttled)
	}
	var free bool
	w.persist(ctx, func(ctx context.Context) (err error) {
		free, err = w.recordRoom(ctx, t, a)
		return err
	})
	failpoint("between_halves")
	switch {
	case a.Class == clerk.Unauthorized:
		w.stop(unauthorized(a))
	case a.Class == clerk.Stopped:
		w.pauseFor(ctx, "Clerk refuses every revocation", a)
	case a.Class == clerk.Unexplained && t.tries() == 0: // later it backs off, and fails after a day
		w.pauseUnexplained(ctx, t, a)
	case a.Class == clerk.NotSent && budget:
		w.gate.trouble(a.Err)
	case a.Class == clerk.Lost, a.Class == clerk.Transient:
		w.log.Warn("revocation must be read", "attempt", t.revoking, "class", a.Class.String(), "code", a.Code)
		poke(w.resolve)
	}
	return free
}

// halfway reports whether an invitation was revoked to make room for this one.
func (t *ticket) halfway() bool {
	return t.revoking != 0 || len(t.People) == 1 && t.cases[t.People[0].Key].Halfway
}

// recordRoom records the answer to a revocation under a create. While the create
// is to be sent the revocation stays unsettled: it is settled with the row, or by
// a read before anything else is sent for it.
func (w *Worker) recordRoom(ctx context.Context, t *ticket, a clerk.Answer) (free bool, err error) {
	p := t.revoke
	answer, how, status := invitation.AnswerRefused, invitation.ClosedRefused, invitation.Status("")
	switch a.Class {
	case clerk.Success, clerk.AlreadyRevoked:
		answer, how, status = invitation.AnswerRevoked, "", invitation.Revoked
	case clerk.Gone:
		answer, how = invitation.AnswerGone, ""
	case clerk.AlreadyAccepted:
		answer, how, status = invitation.AnswerAccepted, invitation.ClosedAnswered, invitation.Accepted
	case clerk.NotSent:
		how = invitation.ClosedNotSent
	case clerk.Transient, clerk.Lost:
		answer, how = invitation.NoAnswer, ""
	}
	said := invitation.Reply{Status: a.Status, Code: a.Code, TraceID: a.TraceID, NotSent: a.Class == clerk.NotSent, Read: how == "", People: map[string]invitation.Said{}}
	if answer != invitation.NoAnswer {
		said.People[p.Key] = invitation.Said{Answer: answer, Code: a.Code, InvitationID: p.InvitationID}
	}
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		noted, err := w.store.Note(ctx, tx, w.cfg.Settle, invitation.Noted{Attempt: t.revoking, Started: t.revoked, Reply: said})
		if err != nil {
			return err
		}
		open := noted[t.revoking]
		free = open && (answer == invitation.AnswerRevoked || answer == invitation.AnswerGone)
		if free && a.Class == clerk.AlreadyRevoked {
			// Somebody else took it back, unless an earlier revocation of ours did: then
			// whether there is anything to send again is to be asked anew.
			if free, err = w.store.RevokedBefore(ctx, tx, p.RowID, t.revoking); err != nil {
				return err
			}
			if !free {
				how = invitation.ClosedAnswered
			}
		}
		if open {
			if err := w.store.Displace(ctx, tx, w.cfg.Instance.ID, p, status); err != nil {
				return err
			}
		}
		if free {
			return nil
		}
		return w.giveBack(ctx, tx, t, how, a)
	})
	return free && err == nil, err
}

// giveBack closes a create that is not sent since nothing, or nothing that is
// known, was revoked to make room for it.
func (w *Worker) giveBack(ctx context.Context, tx pgx.Tx, t *ticket, how string, a clerk.Answer) error {
	p := t.revoke
	unsent := invitation.Reply{NotSent: true, Code: "not_sent", People: map[string]invitation.Said{p.Key: {Answer: invitation.AnswerRefused, Code: "not_sent"}}}
	if a.Class != clerk.AlreadyAccepted && a.Class != clerk.AlreadyRevoked {
		unsent.Backoff, unsent.Code = backoff(t.tries()), a.Code
	}
	open, err := w.store.Note(ctx, tx, w.cfg.Settle, invitation.Noted{Attempt: t.AttemptID, Started: t.StartedAt, Reply: unsent})
	if err != nil || !open[t.AttemptID] {
		return err
	}
	if how != "" {
		if _, err := w.store.CloseRoom(ctx, tx, w.cfg.Instance.ID, t.revoking, p, "", how, false); err != nil {
			return err
		}
	}
	act := invitation.Action{Kind: invitation.Claim, Close: invitation.ClosedNotSent}
	freed, err := w.store.Settle(ctx, tx, w.cfg.Instance.ID, []invitation.Verdict{{RowID: p.RowID, Key: p.Key, Action: act}})
	if err != nil {
		return err
	}
	return free(ctx, tx, w.cfg.Instance.ID, freed)
}

// settleRoom settles a revocation under a create whose row is undecided, by
// where the lists show the invitation now. An answer that said revoked stands: a
// list that shows the invitation pending all the same lags, and is read again.
func (w *Worker) settleRoom(ctx context.Context, a invitation.OpenAttempt, settled invitation.Coverage) error {
	var told func()
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		p, revoked, err := w.store.LockRoom(ctx, tx, a.ID)
		if err != nil || p.Key == "" {
			return err
		}
		status, _, err := w.store.LastStatus(ctx, tx, w.cfg.Instance.ID, p.InvitationID, settled.Settled)
		if err != nil {
			return err
		}
		how, gone := invitation.ClosedRead, true
		switch {
		case status == invitation.Pending && revoked:
			return w.store.ReadAgain(ctx, tx, a.ID, time.Now().Add(w.cfg.Settle))
		case status == invitation.Pending:
			how, gone = invitation.ClosedNotThere, false
		case status == invitation.Accepted:
			gone = false
		}
		freed, err := w.store.CloseRoom(ctx, tx, w.cfg.Instance.ID, a.ID, p, status, how, gone)
		if err != nil {
			return err
		}
		told = func() {
			w.log.Info("revocation settled by reading", "attempt", a.ID, "batch", p.Batch, "row", p.Row, "status", status)
		}
		return free(ctx, tx, w.cfg.Instance.ID, freed)
	})
	if err == nil && told != nil {
		told()
	}
	return err
}

// InsertResend makes the batch that invites again the people of another, with
// its rows and jobs, all or nothing, and returns its number and that of its rows. It
// holds the create and bulk buckets, as all do who take people back: whichever of
// the two comes second sees what the first has done.
func InsertResend(ctx context.Context, tx pgx.Tx, store *invitation.Store, b invitation.Batch, of *invitation.Batch, pendingFor time.Duration) (int64, int, error) {
	if err := ratelimit.Lock(ctx, tx, of.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
		return 0, 0, err
	}
	id, rows, err := store.CreateResend(ctx, tx, b, of, pendingFor)
	if err != nil {
		return 0, 0, err
	}
	if err := InsertInvites(ctx, tx, of.InstanceID, b.Priority, id, rows); err != nil {
		return 0, 0, fmt.Errorf("resend batch %d: %w", of.ID, err)
	}
	return id, len(rows), store.StartBatch(ctx, tx, id, b.Actor, len(rows), 0)
}

// Correction is what sets a row right.
type Correction struct {
	Batch int64 // of one row: the right address
	Sweep int64 // takes the wrong address' invitation back; 0: there is none
}

// Correct gives a row of a batch up, or takes back the invitations that were made
// for it, by whichever batch, and invites another address in its place, all or
// nothing. It is [invitation.ErrUnderWay] while Clerk is being asked for the row.
func Correct(ctx context.Context, pool *pgxpool.Pool, of *invitation.Batch, row int, email, key, actor string) (*Correction, error) {
	store := invitation.NewStore(pool)
	var c Correction
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// First, so that nobody waits for the buckets while this waits for an erasure.
		if err := invitation.ShareErasures(ctx, tx); err != nil {
			return err
		}
		if err := ratelimit.Lock(ctx, tx, of.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
			return err
		}
		batch, targets, err := store.CreateCorrection(ctx, tx, of, row, email, key, actor)
		if err != nil {
			return err
		}
		c.Batch = batch
		if err := InsertInvites(ctx, tx, of.InstanceID, of.Priority, batch, []int{1}); err != nil {
			return err
		}
		if err := store.StartBatch(ctx, tx, batch, actor, 1, 0); err != nil || len(targets) == 0 {
			return err
		}
		sw := &invitation.Sweep{InstanceID: of.InstanceID, Kind: invitation.KindCorrect, Batch: of.ID, StartedBy: actor,
			Apply: true, Allow: true, Scanned: len(targets)}
		if err := BeginSweep(ctx, tx, store, sw, targets); err != nil {
			return err
		}
		c.Sweep = sw.ID
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}
