package jobs

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"bulkinvite/clerk"
	"bulkinvite/internal/lease"
	"bulkinvite/invitation"
	"bulkinvite/ratelimit"
)

// inviteWorker is woken by a job.
type inviteWorker struct {
	river.WorkerDefaults[InviteArgs]
	w *Worker
}

// stint is how many requests a job sends at least before it ends, as long as
// anybody waits and there is budget. Whom a request is for needs no job of their
// own any more: see [Worker.dismiss]. So most jobs are never fetched, which costs
// as much as an invitation does.
const stint = 50

// Work sends requests, whoever they are for, until there is no budget, or the
// job's own row no longer waits and its stint is over. A job whose row does not
// wait to begin with ends at once.
func (i *inviteWorker) Work(ctx context.Context, job *river.Job[InviteArgs]) error {
	row := invitation.RowID{Batch: job.Args.Batch, Row: job.Args.Row}
	i.w.working.Store(job.ID, row)
	defer i.w.working.Delete(job.ID)
	handOver := time.Now().Add(jobLimit / 2)
	var recording, sending sync.WaitGroup
	defer recording.Wait()
	defer sending.Wait()
	for sent := 0; ; {
		waits, err := sent > 0 && sent < stint, error(nil)
		if !waits {
			waits, err = i.w.waits(ctx, row)
		}
		if err == nil && !waits {
			failpoint("before_completion")
			return nil
		}
		var g granted
		if err != nil {
			g.closed = i.w.gate.trouble(err)
		} else if time.Now().Before(handOver) {
			g = i.w.claimer.claim(ctx)
		} else {
			return river.JobSnooze(0)
		}
		if g.ticket != nil {
			sending.Wait() // a job has one request under way
			sending.Go(func() { i.w.send(ctx, g.ticket, &recording) })
			if sent++; !i.w.ahead() {
				sending.Wait()
			}
			continue
		}
		if !g.closed.IsZero() {
			i.w.gate.hold(ctx)
		}
		// A pause or a cancel may have come meanwhile, which leaves no job behind.
		if waits, err := i.w.waits(ctx, row); err == nil && !waits {
			return nil
		}
		switch {
		case g.err != nil: // the worker stops: the job goes back at once
			return river.JobSnooze(0)
		case !g.closed.IsZero():
			return river.JobSnooze(max(0, time.Until(g.closed)))
		default: // its row is locked by another process' claim, or waits for another's answer
			return river.JobSnooze(time.Second)
		}
	}
}

// ahead says whether a job claims its next request while one is under way, so that
// it can leave the moment that the other is answered. It does where Clerk answers
// within a quarter of what a request may take: that begins with the claim, and a
// slow Clerk would leave too little of it for the answer to come.
func (w *Worker) ahead() bool {
	took := time.Duration(w.took.Load())
	return w.cfg.workers() == maxWorkers && took > 0 && took < w.cfg.RequestTimeout/4
}

// wondered is a row of which a job asks whether it waits.
type wondered struct {
	row   invitation.RowID
	waits bool
}

// waits reports whether a row waits: see [invitation.Store.Waits].
func (w *Worker) waits(ctx context.Context, row invitation.RowID) (bool, error) {
	if w.decided.has(row) {
		return false, nil
	}
	one := &wondered{row: row}
	err := w.asking.ask(ctx, one)
	return one.waits, err
}

// lookWhoWaits asks the database for many jobs at once.
func (w *Worker) lookWhoWaits(ctx context.Context, all []*wondered) error {
	ids := make([]invitation.RowID, len(all))
	for i, one := range all {
		ids[i] = one.row
	}
	waits, err := w.store.Waits(ctx, ids...)
	for _, one := range all {
		one.waits = waits[one.row]
	}
	return err
}

// send sends a claimed request and records what came of it. It comes to its end
// whatever happens to the job. That it invited people is recorded in the
// background, once what came of the request before is, so that the next one can be
// under way; all else may concern the next one.
func (w *Worker) send(ctx context.Context, t *ticket, recording *sync.WaitGroup) {
	ctx, span := beginInvite(context.WithoutCancel(ctx), t, t.deadline.Add(-w.cfg.RequestTimeout))
	a, asked := w.ask(ctx, t)
	recording.Wait()
	take := func() {
		defer span.End()
		w.taken(ctx, t, a)
	}
	switch {
	case !asked:
		span.End()
		poke(w.active)
	case a.Class == clerk.Success && !t.probe:
		recording.Go(take)
	default:
		take()
	}
}

// ask sends a claimed request. It reports false where the invitation that it was
// to replace was not revoked.
func (w *Worker) ask(ctx context.Context, t *ticket) (a clerk.Answer, asked bool) {
	defer w.claimer.ended(t.Bucket)
	began := time.Now()
	defer func() { w.took.Store(int64(time.Since(began))) }()
	calling, cancel := context.WithDeadline(clerk.About(ctx, "attempt", t.AttemptID), t.deadline)
	defer cancel()
	if t.revoking != 0 && !w.makeRoom(ctx, calling, t) {
		return a, false
	}
	invites := make([]clerk.Invite, len(t.People))
	for i, p := range t.People {
		invites[i] = invite(t.cases[p.Key])
	}
	failpoint("before_send")
	if t.Call == ratelimit.Bulk {
		a = w.api.Bulk(calling, invites)
	} else {
		a = w.api.Create(calling, invites[0])
	}
	failpoint("after_send")
	if a.Class == clerk.Throttled {
		w.freeze(ctx, t, a) // before it is recorded: until then a probe counts as under way
	}
	return a, true
}

// taken records an answer, and does what it asks for.
func (w *Worker) taken(ctx context.Context, t *ticket, a clerk.Answer) {
	failpoint("before_outcome")
	w.recordAmong(ctx, answered{t, a, reply(t, a)})
	failpoint("after_outcome")
	w.react(ctx, t, a)
	poke(w.active)
}

func invite(c *invitation.Case) clerk.Invite {
	i := clerk.Invite{Email: c.Email, RedirectURL: c.Options.RedirectURL, ExpiresInDays: c.Options.ExpiresInDays,
		Template: c.Options.Template, PublicMetadata: c.PublicMetadata}
	if c.Links {
		i.Notify = new(bool) // false: nobody is mailed
	}
	return i
}

// persist repeats a write until it is done: PostgreSQL may be away for minutes.
// Should the process end before, the attempt is open and settled by reading. The
// first failure is logged.
func (w *Worker) persist(ctx context.Context, write func(context.Context) error) {
	const first = 100 * time.Millisecond
	for wait := first; ; wait = min(2*wait, 5*time.Second) {
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := write(within)
		cancel()
		if err == nil || errors.Is(err, lease.ErrLost) { // it is for another process to record
			return
		}
		if wait == first {
			w.log.Warn("the ledger can't be written; it is tried until it can", "error", err)
		}
		select {
		case <-time.After(wait):
		case <-w.over:
			return
		}
	}
}

// reply turns an answer into what the ledger keeps.
func reply(t *ticket, a clerk.Answer) invitation.Reply {
	r := invitation.Reply{Status: a.Status, Code: a.Code, TraceID: a.TraceID, NotSent: a.Class == clerk.NotSent, People: map[string]invitation.Said{}}
	code := a.Code
	if a.Class == clerk.Rejected && a.Param != "" {
		code += ":" + a.Param // the row's reason names what has to be changed
	}
	all := func(answer invitation.Answer) {
		for _, p := range t.People {
			r.People[p.Key] = invitation.Said{Answer: answer, Code: code}
		}
	}
	named := func(answer invitation.Answer) {
		if len(t.People) == 1 {
			all(answer)
			return
		}
		for _, email := range a.Offenders {
			if key, err := invitation.Key(email); err == nil && t.cases[key] != nil {
				r.People[key] = invitation.Said{Answer: answer, Code: code}
			}
		}
	}
	switch a.Class {
	case clerk.Success:
		for _, i := range a.Invitations {
			key, err := invitation.Key(i.Email)
			if len(t.People) == 1 && len(a.Invitations) == 1 {
				key, err = t.People[0].Key, nil // however Clerk writes the address
			}
			if c := t.cases[key]; c != nil && c.Links && i.Link == "" {
				r.Backoff = backoff(t.tries()) // as good as no answer: it is made again
				continue
			} else if c != nil && c.Links {
				t.keep(key, i.Link)
			}
			if err == nil && i.ID != "" {
				r.People[key] = invitation.Said{Answer: invitation.AnswerCreated, InvitationID: i.ID, CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt}
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
	default: // Transient, Lost: unknown
		r.Backoff = backoff(t.tries())
	}
	if t.halfway() && (a.Class == clerk.Exists || a.Class == clerk.Stopped || a.Class == clerk.Unexplained) {
		r.Backoff = backoff(t.tries()) // it is asked for again, whatever the answer
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

// keep holds a link until it is in its file.
func (t *ticket) keep(key string, link clerk.Link) {
	if t.links == nil {
		t.links = map[string]clerk.Link{}
	}
	t.links[key] = link
}

// tries is how many transient answers somebody in the request has got.
func (t *ticket) tries() int {
	tries := 0
	for _, c := range t.cases {
		tries = max(tries, c.Tries)
	}
	return tries
}

// backoff is how long somebody is left alone whose request got no deciding
// answer: two seconds, doubled for each such answer before, at most a quarter of
// an hour, spread by half so that people don't come back together.
func backoff(tries int) time.Duration {
	d := min(2*time.Second<<min(tries, 10), 15*time.Minute)
	return time.Duration(float64(d) * (0.5 + rand.Float64()))
}

// react does what an answer asks of the whole process or fleet.
func (w *Worker) react(ctx context.Context, t *ticket, a clerk.Answer) {
	switch a.Class {
	case clerk.Throttled:
		return
	case clerk.Unauthorized:
		w.stop(unauthorized(a))
	case clerk.Stopped:
		w.pauseFor(ctx, "Clerk refuses every invitation", a)
	case clerk.Unexplained:
		w.pauseUnexplained(ctx, t, a)
	case clerk.NotSent:
		w.gate.trouble(a.Err)
	case clerk.Lost, clerk.Transient: // each row backs off by itself
	default:
		w.gate.fine()
	}
	if t.probe && a.Class != clerk.NotSent {
		w.persist(ctx, func(ctx context.Context) error {
			return ratelimit.Thaw(ctx, w.pool, w.cfg.Instance.ID, t.Bucket, t.AttemptID)
		})
	}
}

// freeze stops a bucket for the fleet.
func (w *Worker) freeze(ctx context.Context, t *ticket, a clerk.Answer) {
	limit := w.cfg.Create
	if t.Bucket == ratelimit.Bulk {
		limit = w.cfg.Bulk
	}
	w.persist(ctx, func(ctx context.Context) error {
		until, err := ratelimit.Freeze(ctx, w.pool, w.cfg.Instance.ID, t.Bucket, limit, t.AttemptID, a.RetryAfter, a.HasRetryAfter)
		if err == nil {
			w.log.Warn("Clerk answered 429", "bucket", t.Bucket, "attempt", t.AttemptID, "frozen_until", until)
		}
		return err
	})
}
