package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// A row that asks for a resend is invited in two requests, each with a claim of its own: a revoke
// of the blocking invitation, and the create that the row is then owed. See docs/protocol.md,
// "Inviting again".

// revokeOwn sends a claimed revoke of a row's own and records the answer. It reports whether the
// row is owed an invitation now.
func (w *Worker) revokeOwn(ctx context.Context, t *ticket) (owed bool) {
	defer w.claimer.ended(t.Bucket)
	calling, cancel := context.WithDeadline(clerk.About(ctx, "attempt", t.AttemptID), t.deadline)
	defer cancel()
	var a clerk.Answer
	budget := true
	release, err := w.general.Acquire(calling)
	if err != nil {
		a, budget = clerk.Answer{Class: clerk.NotSent, Code: "no_budget", Err: err}, false
	} else {
		failpoint("before_revoke")
		a = w.api.Revoke(calling, t.People[0].InvitationID)
		failpoint("after_revoke")
		var throttled *ratelimit.Throttled
		if a.Class == clerk.Throttled {
			throttled = &ratelimit.Throttled{Wait: a.RetryAfter, Told: a.HasRetryAfter}
		}
		release(throttled)
	}
	w.persist(ctx, func(ctx context.Context) (err error) {
		owed, err = w.recordOwnRevoke(ctx, t, a)
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
		w.log.Warn("revocation must be read", "attempt", t.AttemptID, "class", a.Class.String(), "code", a.Code)
		poke(w.resolve)
	}
	return owed
}

// owed reports whether the request is the create of an owed row.
func (t *ticket) owed() bool { return len(t.People) == 1 && t.cases[t.People[0].Key].Owed }

// recordOwnRevoke records the answer to a row's own revoke. If the revoke is done, the same
// transaction inserts a job for the row's create.
func (w *Worker) recordOwnRevoke(ctx context.Context, t *ticket, a clerk.Answer) (owed bool, err error) {
	p, said := t.People[0], judgeRevoke(a)
	reply := ledger.Reply{Status: a.Status, Code: a.Code, TraceID: a.TraceID, NotSent: a.Class == clerk.NotSent,
		Read: said.close == "", People: map[string]ledger.Said{}}
	if said.answer != invitation.NoAnswer {
		reply.People[p.Key] = ledger.Said{Answer: said.answer, Code: a.Code, InvitationID: p.InvitationID}
	}
	if said.answer == invitation.NoAnswer || said.answer == invitation.AnswerRefused {
		reply.Backoff = w.cfg.backoff(t.tries())
	}
	err = pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		owed = false
		open, err := ledger.Note(ctx, tx, w.cfg.Settle,
			ledger.Noted{Attempt: t.AttemptID, Started: t.StartedAt, Reply: reply})
		if err != nil || !open[t.AttemptID] || said.close == "" {
			return err
		}
		switch a.Class {
		case clerk.Success, clerk.Gone:
			owed = true
		case clerk.AlreadyRevoked:
			// Somebody else revoked it, unless an earlier revoke of this row did. If it was
			// somebody else, Next decides again whether the row invites the person.
			if owed, err = ledger.RevokedBefore(ctx, tx, p.RowID, t.AttemptID); err != nil {
				return err
			}
		}
		return w.closeOwnRevoke(ctx, tx, t.AttemptID, p, said.status, said.close, owed)
	})
	return owed && err == nil, err
}

// closeOwnRevoke closes a row's own revoke and inserts jobs for the rows that can be claimed again.
func (w *Worker) closeOwnRevoke(ctx context.Context, tx pgx.Tx, attempt int64, p ledger.Person,
	status invitation.Status, how string, done bool) error {
	freed, err := ledger.CloseOwnRevoke(ctx, tx, w.cfg.Instance.ID, attempt, p, status, how, done)
	if err != nil {
		return err
	}
	return free(ctx, tx, w.cfg.Instance.ID, freed)
}

// InsertResend makes and starts the batch that invites the people of another batch again, with its
// rows and jobs. It returns the batch's number and its number of rows. It locks the create and bulk
// buckets, as all transactions that revoke a batch's invitations do. So of two such transactions
// the second sees what the first has done.
func InsertResend(ctx context.Context, tx pgx.Tx, b invitation.Batch, of *invitation.Batch, pendingFor time.Duration) (int64, int, error) {
	if err := ratelimit.Lock(ctx, tx, of.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
		return 0, 0, err
	}
	id, rows, err := batch.CreateResend(ctx, tx, b, of, pendingFor)
	if err != nil {
		return 0, 0, err
	}
	if err := InsertInvites(ctx, tx, of.InstanceID, b.Priority, id, rows); err != nil {
		return 0, 0, fmt.Errorf("resend batch %d: %w", of.ID, err)
	}
	return id, len(rows), batch.StartBatch(ctx, tx, id, b.Actor, len(rows), 0)
}

// Correction is the result of correcting a row.
type Correction struct {
	Batch int64 // the batch of one row with the right address
	Sweep int64 // revokes the invitations of the wrong address; 0: there are none
}

// Correct replaces the address of a row of a batch. In one transaction it cancels the row if it is
// undecided, begins a sweep that revokes the pending invitations that any batch made for it, and
// starts a batch of one row with the right address. It fails with [batch.ErrUnderWay] while a
// request for the row is open; see [batch.CreateCorrection] for its other errors.
func Correct(ctx context.Context, pool *pgxpool.Pool, of *invitation.Batch, row int, email, key, actor string) (*Correction, error) {
	var c Correction
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Take this lock first, so that no claim waits for the buckets while this waits for an
		// erasure.
		if err := erased.ShareErasures(ctx, tx); err != nil {
			return err
		}
		if err := ratelimit.Lock(ctx, tx, of.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
			return err
		}
		id, targets, err := batch.CreateCorrection(ctx, tx, of, row, email, key, actor)
		if err != nil {
			return err
		}
		c.Batch = id
		if err := InsertInvites(ctx, tx, of.InstanceID, of.Priority, id, []int{1}); err != nil {
			return err
		}
		if err := batch.StartBatch(ctx, tx, id, actor, 1, 0); err != nil || len(targets) == 0 {
			return err
		}
		sw := &revocation.Sweep{InstanceID: of.InstanceID, Kind: revocation.KindCorrect, Batch: of.ID, StartedBy: actor,
			Apply: true, Allow: true, Scanned: len(targets)}
		if err := BeginSweep(ctx, tx, sw, targets); err != nil {
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
