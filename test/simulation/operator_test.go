package simulation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/importer"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

// send imports a file and starts it, as bulkinvite send does.
func (r *run) send(n int) {
	f := r.world.files[n]
	text := f.csv(n)
	d := &importer.Draft{Batch: invitation.Batch{InstanceID: r.instance.ID, FileName: fmt.Sprintf("file%d.csv", n),
		Actor: "operator", Priority: invitation.DefaultPriority, Preflight: f.preflight, Duplicates: f.duplicates,
		Cooldown: second / 10, Canary: f.canary, Confirmed: true}}
	err := pgx.BeginFunc(r.ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := importer.CreateDraft(r.ctx, tx, strings.NewReader(text), d); err != nil {
			return err
		}
		return jobs.Start(r.ctx, tx, &d.Batch, "operator")
	})
	if err != nil {
		r.wrong("import file %d: %v", n, err)
		return
	}
	r.mu.Lock()
	r.files++
	r.mu.Unlock()
	r.note(nil, "sends file %d as batch %d", n, d.ID)
}

// arrived counts a request that changes something, and lets the operator do what is due. The
// request waits for the operator, but only for a short time, so that it is in flight during the
// action.
func (r *run) arrived() {
	r.mu.Lock()
	r.arrive++
	var due []action
	rest := r.actions[:0:0]
	for _, a := range r.actions {
		if a.after <= r.arrive {
			due = append(due, a)
		} else {
			rest = append(rest, a)
		}
	}
	r.actions = rest
	r.mu.Unlock()
	patience := time.After(requestTimeout / 4)
	for _, a := range due {
		done := make(chan struct{})
		r.task(func() {
			defer close(done)
			r.do(a)
		})
		select {
		case <-done:
		case <-patience:
			return
		}
	}
}

// act0 does the operator's next action that never became due. It returns false if there is none.
func (r *run) act0() bool {
	r.mu.Lock()
	if len(r.actions) == 0 {
		r.mu.Unlock()
		return false
	}
	a := r.actions[0]
	r.actions = r.actions[1:]
	r.mu.Unlock()
	r.do(a)
	return true
}

// refused reports whether an error means that the program can't do something at the moment.
func refused(err error) bool {
	var state *batch.StateError
	return errors.As(err, &state) || errors.Is(err, batch.ErrUnderWay)
}

// do does one action of the operator.
func (r *run) do(a action) {
	r.note(nil, "%s", a.what)
	switch a.what {
	case "send":
		r.send(1)
		return
	case "restart":
		r.restart(a.dice.IntN(r.world.workers))
		return
	case "accept":
		r.control("POST", "/sandbox/accept", fmt.Sprintf(`{"fraction":0.2,"seed":%d}`, a.dice.Uint32()), nil)
		return
	}
	b, err := r.batch(a)
	if err == nil && b != nil {
		err = r.change(a, b)
	}
	if err != nil && !refused(err) {
		r.wrong("%s: %v", a.what, err)
	} else if err != nil {
		r.note(nil, "%s is refused: %v", a.what, err)
	}
}

// batch chooses one of the batches, or nil if there is none.
func (r *run) batch(a action) (*invitation.Batch, error) {
	rows, _ := r.pool.Query(r.ctx, `select id from batches order by id`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return batch.Batch(r.ctx, r.pool, ids[a.dice.IntN(len(ids))])
}

func (r *run) change(a action, b *invitation.Batch) error {
	if r.anyFlying() {
		r.rare.count(a.what + " while a request was under way")
	}
	switch a.what {
	case "pause":
		return jobs.Pause(r.ctx, r.pool, b, "operator")
	case "resume":
		return jobs.Resume(r.ctx, r.pool, b, "operator")
	case "cancel":
		return jobs.Cancel(r.ctx, r.pool, b, "operator")
	case "retry":
		_, err := jobs.Retry(r.ctx, r.pool, b, "operator", invitation.Rejected)
		return err
	case "resend":
		again, err := batch.CountAgain(r.ctx, r.pool, b.ID, 0, second/10)
		if err != nil || again.People == 0 {
			return err
		}
		return pgx.BeginFunc(r.ctx, r.pool, func(tx pgx.Tx) error {
			if err := batch.LockResend(r.ctx, tx, b); err != nil {
				return err
			}
			under, err := batch.ResendUnderWay(r.ctx, tx, b.ID)
			if err != nil || under != nil {
				return err
			}
			id, n, err := jobs.InsertResend(r.ctx, tx, invitation.Batch{Actor: "operator",
				Cooldown: second / 10, Confirmed: true}, b, 0)
			r.note(nil, "resends batch %d as batch %d, with %d rows", b.ID, id, n)
			return err
		})
	case "rescind":
		keys := []string{person(a.dice.IntN(25)), person(a.dice.IntN(25)), person(a.dice.IntN(25))}
		sw := &revocation.Sweep{InstanceID: r.instance.ID, Kind: revocation.KindRescind, StartedBy: "operator",
			Apply: true, Allow: true}
		w, err := jobs.Rescind(r.ctx, r.pool, sw, keys)
		if err == nil {
			r.note(nil, "rescind takes %d invitations and %d rows", len(w.Targets), len(w.Waiting))
		}
		return err
	case "undo":
		_, err := jobs.Undo(r.ctx, r.pool, b, "operator")
		return err
	case "correct":
		return r.correct(a, b)
	case "sweep":
		return r.sweep()
	}
	return fmt.Errorf("no such action: %s", a.what)
}

func (r *run) correct(a action, b *invitation.Batch) error {
	rows, _ := r.pool.Query(r.ctx, `
		select row_number from results r where batch_id = $1 and key is not null and outcome is distinct
			from 'duplicate_row'
		and not exists (select from batches c where c.corrects = r.batch_id and c.corrects_row = r.row_number
			and c.state <> 'cancelled')
		order by row_number`, b.ID)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(numbers) == 0 {
		return err
	}
	email := fmt.Sprintf("right%d@example.com", a.dice.IntN(100))
	c, err := jobs.Correct(r.ctx, r.pool, b, numbers[a.dice.IntN(len(numbers))], email, email, "operator")
	if err == nil {
		r.note(nil, "corrects by batch %d and sweep %d", c.Batch, c.Sweep)
	}
	return err
}

// sweep revokes invitations that have been pending for ten simulated seconds.
func (r *run) sweep() error {
	return pgx.BeginFunc(r.ctx, r.pool, func(tx pgx.Tx) error {
		sw := &revocation.Sweep{InstanceID: r.instance.ID, Kind: revocation.KindSweep, StartedBy: "operator",
			Scope:     "ours",
			OlderThan: 10 * second, Apply: true, Allow: true}
		targets, scanned, skipped, err := revocation.Stale(r.ctx, tx, r.instance.ID,
			revocation.Policy{OlderThan: sw.OlderThan})
		if err != nil {
			return err
		}
		sw.Scanned, sw.Skipped = scanned, skipped
		return jobs.BeginSweep(r.ctx, tx, sw, targets)
	})
}

// restart stops a worker as SIGTERM does, and starts it again.
func (r *run) restart(worker int) {
	r.mu.Lock()
	n := r.nodes[worker]
	r.mu.Unlock()
	if n.isDead() {
		return
	}
	n.stop()
	select {
	case <-n.over:
		r.start(worker, n.life+1)
	case <-r.working.Done():
	}
}

// resume resumes a paused batch.
func (r *run) resume(b *invitation.Batch) error { return jobs.Resume(r.ctx, r.pool, b, "operator") }
