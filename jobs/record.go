package jobs

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// answered is a request with an answer to record.
type answered struct {
	*ticket
	answer  clerk.Answer
	said    ledger.Reply
	written chan error // used by [recorder]
}

// recorder writes answers into the ledger. Answers that arrive during a transaction share the next
// one. Without limits a process has a hundred requests at Clerk at once, and this way their answers
// take few transactions and one connection.
type recorder struct {
	write func(context.Context, []answered) error

	mu      sync.Mutex
	busy    bool
	waiting []answered
}

// add returns when an answer is written, with the error of its transaction.
func (r *recorder) add(ctx context.Context, a answered) error {
	a.written = make(chan error, 1)
	r.mu.Lock()
	r.waiting = append(r.waiting, a)
	if !r.busy {
		r.busy = true
		go r.run(context.WithoutCancel(ctx))
	}
	r.mu.Unlock()
	return <-a.written
}

// run writes waiting answers until there are none.
func (r *recorder) run(ctx context.Context) {
	for {
		r.mu.Lock()
		all := r.waiting
		r.waiting = nil
		r.busy = len(all) > 0
		r.mu.Unlock()
		if len(all) == 0 {
			return
		}
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := r.write(within, all)
		cancel()
		for _, a := range all {
			a.written <- err
		}
	}
}

// answers records the answers to requests for invitations.
type answers struct {
	*process
	measured *measured
	suspect  *atomic.Bool // see [Worker]
	shared   recorder
}

func newAnswers(p *process, m *measured, suspect *atomic.Bool) *answers {
	a := &answers{process: p, measured: m, suspect: suspect}
	a.shared.write = a.record
	return a
}

// add returns when an answer is in the ledger. If the process ends before, the attempt
// stays open and is resolved by reading.
func (r *answers) add(ctx context.Context, a answered) {
	if err := r.shared.add(ctx, a); err != nil {
		// Record it alone, so that another answer cannot prevent it.
		r.log.Debug("answers are recorded one by one", "error", err)
		r.persist(ctx, func(ctx context.Context) error { return r.record(ctx, []answered{a}) })
	}
}

// record writes answers, and everything that follows from them, in one transaction. The transaction
// changes only rows of these attempts.
func (r *answers) record(ctx context.Context, all []answered) error {
	// Every transaction that writes several attempts uses this order.
	slices.SortFunc(all, func(a, b answered) int { return cmp.Compare(a.AttemptID, b.AttemptID) })
	var verdicts map[int64][]ledger.Verdict // by attempt
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		until, err := r.cfg.Links.guard(ctx, tx)
		if err != nil {
			return err
		}
		var freed []ledger.Freed
		if verdicts, freed, err = r.note(ctx, tx, all, until); err != nil {
			return err
		}
		return free(ctx, tx, r.cfg.Instance.ID, freed)
	})
	if err != nil {
		return err
	}
	for _, a := range all {
		r.tell(a, verdicts[a.AttemptID])
	}
	return nil
}

// note records answers. It returns the decisions that follow, by attempt, and the rows that can be
// claimed again. It writes links only before until.
func (r *answers) note(ctx context.Context, tx pgx.Tx, all []answered, until time.Time) (
	map[int64][]ledger.Verdict, []ledger.Freed, error) {
	notes := make([]ledger.Noted, len(all))
	for i, a := range all {
		notes[i] = ledger.Noted{Attempt: a.AttemptID, Started: a.StartedAt, Reply: a.said}
	}
	open, err := ledger.Note(ctx, tx, r.cfg.Settle, notes...)
	if err != nil {
		return nil, nil, err
	}
	verdicts, err := r.verdicts(ctx, tx, all, open)
	if err != nil {
		return nil, nil, err
	}
	var every []ledger.Verdict
	for _, a := range all {
		if open[a.AttemptID] {
			if err := r.cfg.Links.keep(a.ticket, a.said, until); err != nil {
				return nil, nil, err
			}
		}
		every = append(every, verdicts[a.AttemptID]...)
	}
	freed, err := ledger.Settle(ctx, tx, r.cfg.Instance.ID, every)
	return verdicts, freed, err
}

// verdict returns the decision that follows from an answer for one person.
func (a answered) verdict(c *ledger.Case) ledger.Verdict {
	v := ledger.Verdict{RowID: c.RowID, Key: c.Key, Action: c.Next()}
	if p, ok := a.said.People[c.Key]; ok && v.Outcome == invitation.Invited {
		v.InvitedAt, v.ExpiresAt = p.CreatedAt, p.ExpiresAt
	}
	if a.said.NotSent && (v.Kind == invitation.Decide || v.Close != "") {
		v.Close = invitation.ClosedNotSent
	}
	v.Alone = v.Alone || a.answer.Class == clerk.BadCall
	return v
}

// verdicts returns the decisions that follow from answers, by attempt, for the people of attempts
// that were open. The other people of these attempts must be read first.
func (r *answers) verdicts(ctx context.Context, tx pgx.Tx, all []answered, open map[int64]bool) (
	map[int64][]ledger.Verdict, error) {
	of := map[invitation.RowID]answered{}
	var cases []*ledger.Case
	var unclear []invitation.RowID
	for _, a := range all {
		if !open[a.AttemptID] {
			continue
		}
		for _, p := range a.People {
			of[p.RowID] = a
		}
		made, rest := a.created()
		cases, unclear = append(cases, made...), append(unclear, rest...)
	}
	if len(unclear) > 0 {
		more, err := ledger.Load(ctx, tx, r.cfg.Instance.ID, unclear, r.measured.rules(r.cfg), invitation.Coverage{})
		if err != nil {
			return nil, err
		}
		cases = append(cases, more...)
	}
	verdicts := map[int64][]ledger.Verdict{}
	for _, c := range cases {
		a := of[c.RowID]
		if v := a.verdict(c); v.Kind == invitation.Decide || v.Close != "" {
			verdicts[a.AttemptID] = append(verdicts[a.AttemptID], v)
		}
	}
	return verdicts, nil
}

// created returns the cases of the people that got an invitation according to the answer, as they
// were at the claim, and the rows of all others. Nothing else that could be known of a person
// changes the meaning of such an answer, so their evidence need not be loaded. A row that was
// decided meanwhile stays as it is.
func (a answered) created() (cases []*ledger.Case, rest []invitation.RowID) {
	for _, p := range a.People {
		one := a.said.People[p.Key]
		if one.Answer != invitation.AnswerCreated {
			rest = append(rest, p.RowID)
			continue
		}
		c := *a.cases[p.Key]
		c.Attempts = append(slices.Clone(c.Attempts), invitation.Attempt{ID: a.AttemptID, Open: true, Answer: one.Answer, Code: one.Code, InvitationID: one.InvitationID})
		cases = append(cases, &c)
	}
	return cases, rest
}

// tell logs what was recorded for an answer.
func (r *answers) tell(a answered, verdicts []ledger.Verdict) {
	for _, v := range verdicts {
		if v.Kind != invitation.Decide {
			continue
		}
		r.suspect.CompareAndSwap(false, v.Outcome == invitation.Rejected || v.Outcome == invitation.Failed)
		r.log.Debug("row decided",
			"batch", v.Batch, "row", v.Row, "outcome", v.Outcome, "reason", v.Reason, "attempt", a.AttemptID)
	}
	if len(verdicts) < len(a.People) {
		r.log.Warn("attempt must be read", "attempt", a.AttemptID, "class", a.answer.Class.String(),
			"code", a.answer.Code, "people", len(a.People)-len(verdicts))
		poke(r.resolve)
	}
}
