package jobs

import (
	"context"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/ratelimit"
)

// inviteWorker works the invite jobs.
type inviteWorker struct {
	river.WorkerDefaults[InviteArgs]
	sender  *sender
	working *sync.Map // see [Worker]
}

// Work sends requests for the rows that are first in line, until the job's own row does not wait
// any more or there is no budget. A job whose row does not wait when it is fetched ends at once:
// another job's request has decided the row, or its batch was stopped.
func (i *inviteWorker) Work(ctx context.Context, job *river.Job[InviteArgs]) error {
	s, row := i.sender, invitation.RowID{Batch: job.Args.Batch, Row: job.Args.Row}
	i.working.Store(job.ID, nil)
	defer i.working.Delete(job.ID)
	handOver := time.Now().Add(jobLimit / 2)
	for owed := false; time.Now().Before(handOver); {
		// After a revoke the job continues with the create, even if the process stops or its own
		// row does not wait any more.
		waits, err := owed, error(nil)
		if !owed {
			waits, err = s.picker.Waits(ctx, row)
		}
		owed = false
		if err == nil && !waits {
			failpoint("before_completion")
			return nil
		}
		var g granted
		if err != nil {
			g.closed = s.gate.trouble(err)
		} else {
			g = s.claimer.claim(ctx)
		}
		if g.ticket != nil {
			owed = s.send(ctx, g.ticket)
			continue
		}
		if !g.closed.IsZero() {
			s.gate.hold(ctx)
		}
		// A pause or a cancel may have come meanwhile. It must leave no job behind.
		if waits, err := s.picker.Waits(ctx, row); err == nil && !waits {
			return nil
		}
		switch {
		case g.err != nil: // the worker stops: the job returns to the queue at once
			return river.JobSnooze(0)
		case !g.closed.IsZero():
			return river.JobSnooze(max(0, time.Until(g.closed)))
		default: // another process's claim has locked its row, or another answer decides about it
			return river.JobSnooze(s.cfg.paced(time.Second))
		}
	}
	return river.JobSnooze(0)
}

// sender sends claimed requests.
type sender struct {
	*process
	claimer *claimer
	gate    *gate
	answers *answers

	// The worker gives these; see its methods of the same name.
	revokeOwn        func(context.Context, *ticket) (owed bool)
	pauseFor         func(ctx context.Context, what string, a clerk.Answer, only ...int64)
	pauseUnexplained func(context.Context, *ticket, clerk.Answer)
}

// send sends a claimed request and records the answer. It completes even if the job is cancelled.
// It reports whether a row is owed an invitation now.
func (s *sender) send(ctx context.Context, t *ticket) (owed bool) {
	ctx, span := beginInvite(context.WithoutCancel(ctx), t, t.deadline.Add(-s.cfg.RequestTimeout))
	defer span.End()
	defer poke(s.active)
	if t.Call == ledger.CallRevoke {
		return s.revokeOwn(ctx, t)
	}
	a := s.ask(ctx, t)
	failpoint("before_outcome")
	s.answers.add(ctx, answered{ticket: t, answer: a, said: s.cfg.reply(t, a)})
	failpoint("after_outcome")
	s.react(ctx, t, a)
	return false
}

// ask sends a claimed request for invitations.
func (s *sender) ask(ctx context.Context, t *ticket) (a clerk.Answer) {
	defer s.claimer.ended(t.Bucket)
	calling, cancel := context.WithDeadline(clerk.About(ctx, "attempt", t.AttemptID), t.deadline)
	defer cancel()
	invites := make([]clerk.Invite, len(t.People))
	for i, p := range t.People {
		invites[i] = invite(t.cases[p.Key])
	}
	failpoint("before_send")
	if t.Call == ratelimit.Bulk {
		a = s.api.Bulk(calling, invites)
	} else {
		a = s.api.Create(calling, invites[0])
	}
	failpoint("after_send")
	if a.Class == clerk.Throttled {
		s.freeze(ctx, t, a) // before the answer is recorded: until then a probe counts as under way
	}
	return a
}

func invite(c *ledger.Case) clerk.Invite {
	i := clerk.Invite{Email: c.Email, RedirectURL: c.Options.RedirectURL, ExpiresInDays: c.Options.ExpiresInDays,
		Template: c.Options.Template, PublicMetadata: c.PublicMetadata}
	if c.Links {
		i.Notify = new(bool) // false: nobody is mailed
	}
	return i
}

// reply converts an answer to what the ledger keeps.
func (c Config) reply(t *ticket, a clerk.Answer) ledger.Reply {
	r := ledger.Reply{Status: a.Status, Code: a.Code, TraceID: a.TraceID, NotSent: a.Class == clerk.NotSent, People: map[string]ledger.Said{}}
	code := a.Code
	if a.Class == clerk.Rejected && a.Param != "" {
		code += ":" + a.Param // the row's reason names the parameter to change
	}
	all := func(answer invitation.Answer) {
		for _, p := range t.People {
			r.People[p.Key] = ledger.Said{Answer: answer, Code: code}
		}
	}
	named := func(answer invitation.Answer) {
		if len(t.People) == 1 {
			all(answer)
			return
		}
		for _, email := range a.Offenders {
			if key, err := invitation.Key(email); err == nil && t.cases[key] != nil {
				r.People[key] = ledger.Said{Answer: answer, Code: code}
			}
		}
	}
	switch a.Class {
	case clerk.Success:
		for _, i := range a.Invitations {
			key, err := invitation.Key(i.Email)
			if len(t.People) == 1 && len(a.Invitations) == 1 {
				key, err = t.People[0].Key, nil // however Clerk spells the address
			}
			said := ledger.Said{Answer: invitation.AnswerCreated, InvitationID: i.ID,
				CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt}
			if p := t.cases[key]; p != nil && p.Links && i.Link == "" {
				said.Code = noLink
			} else if p != nil && p.Links {
				t.keep(key, i.Link)
			}
			if err == nil && i.ID != "" {
				r.People[key] = said
			}
		}
	case clerk.Exists:
		named(invitation.AnswerExists)
	case clerk.UserExists:
		named(invitation.AnswerUser)
	case clerk.Rejected:
		named(invitation.AnswerRejected)
	case clerk.BadCall:
		if len(t.People) == 1 {
			all(invitation.AnswerRejected)
		} else {
			all(invitation.AnswerRefused)
		}
	case clerk.Throttled, clerk.Unauthorized, clerk.NotSent:
		all(invitation.AnswerRefused)
	case clerk.Stopped, clerk.Unexplained:
		if a.NothingDone() || len(t.People) == 1 {
			all(invitation.AnswerRefused)
		}
	default: // Transient, Lost: the effect is unknown
		r.Backoff = c.backoff(t.tries())
	}
	if t.owed() && (a.Class == clerk.Exists || a.Class == clerk.Stopped || a.Class == clerk.Unexplained) {
		r.Backoff = c.backoff(t.tries()) // it is tried again, whatever the answer
	}
	for key, s := range r.People {
		r.Soon = r.Soon || s.Answer == invitation.AnswerExists || s.Answer == invitation.AnswerUser
		if t.cases[key] == nil {
			delete(r.People, key)
		}
	}
	r.Read = r.Soon || len(r.People) < len(t.People)
	return r
}

// noLink is the reason of a row whose invitation Clerk made without a link for the file. Another
// invitation would have no link either.
const noLink = "no_link"

// keep stores a link until it is in its file.
func (t *ticket) keep(key string, link clerk.Link) {
	if t.links == nil {
		t.links = map[string]clerk.Link{}
	}
	t.links[key] = link
}

// tries returns the highest number of transient answers of a person in the request.
func (t *ticket) tries() int {
	tries := 0
	for _, c := range t.cases {
		tries = max(tries, c.Tries)
	}
	return tries
}

// react does what an answer requires for the whole process or fleet.
func (s *sender) react(ctx context.Context, t *ticket, a clerk.Answer) {
	switch a.Class {
	case clerk.Throttled:
		return
	case clerk.Unauthorized:
		s.stop(unauthorized(a))
	case clerk.Stopped:
		s.pauseFor(ctx, "Clerk refuses every invitation", a)
	case clerk.Unexplained:
		s.pauseUnexplained(ctx, t, a)
	case clerk.NotSent:
		s.gate.trouble(a.Err)
	case clerk.Lost, clerk.Transient: // each row backs off on its own
	default:
		s.gate.fine()
	}
	if t.probe && a.Class != clerk.NotSent {
		s.persist(ctx, func(ctx context.Context) error {
			return ratelimit.Thaw(ctx, s.pool, s.cfg.Instance.ID, t.Bucket, t.AttemptID)
		})
	}
}

// freeze freezes the request's bucket for the fleet.
func (s *sender) freeze(ctx context.Context, t *ticket, a clerk.Answer) {
	limit := s.cfg.Create
	if t.Bucket == ratelimit.Bulk {
		limit = s.cfg.Bulk
	}
	s.persist(ctx, func(ctx context.Context) error {
		until, err := ratelimit.Freeze(ctx, s.pool, s.cfg.Instance.ID, t.Bucket, limit, t.AttemptID,
			a.RetryAfter, a.HasRetryAfter)
		if err == nil {
			s.log.Warn("Clerk answered 429", "bucket", t.Bucket, "attempt", t.AttemptID, "frozen_until", until)
		}
		return err
	})
}
