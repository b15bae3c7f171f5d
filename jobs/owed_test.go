package jobs

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// claims lets a worker claim up to n requests, and returns them.
func (b *bundle) claims(w *Worker, n int) []*ticket {
	b.t.Helper()
	must.OK(b.t, w.presence.register(b.t.Context()))
	r, err := w.claimer.round(b.t.Context(), n)
	must.OK(b.t, err)
	for _, t := range r.tickets { // nothing holds them here
		w.claimer.ended(t.Bucket)
	}
	return r.tickets
}

// claimsOne lets a worker claim a request that must be the only one, of a call for a
// batch. Up to n may be claimed.
func (b *bundle) claimsOne(w *Worker, n int, call string, batch int64) *ticket {
	b.t.Helper()
	got := b.claims(w, n)
	if len(got) != 1 || got[0].Call != call || got[0].People[0].Batch != batch {
		b.t.Fatalf("claimed: %v, want one %s for batch %d", claimed(got), call, batch)
	}
	return got[0]
}

func claimed(tickets []*ticket) (list []string) {
	for _, t := range tickets {
		list = append(list, fmt.Sprintf("%s %v", t.Call, t.People[0].RowID))
	}
	return list
}

// unread is a resend of a batch whose claims need no read.
func (b *bundle) unread(of *invitation.Batch, priority int) int64 {
	b.t.Helper()
	id, _ := b.resend(of)
	b.exec(`update batches set preflight = false, priority = $2 where id = $1`, id, priority)
	return id
}

// Revokes that are under way, and rows that are owed an invitation, hold back the
// creates that they need.
func TestOwedRowsWeighOnTheBudget(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(2)
	second := b.unread(first, 2)
	used := b.count(`select count(*) from attempts where bucket = 'create'`)
	w := b.worker(Config{Create: ratelimit.Limit{N: used + 2, Window: time.Hour}, Bulk: ratelimit.Limit{Off: true}})
	revoke := b.claimsOne(w, 1, ledger.CallRevoke, second)
	urgent := b.batch(5, func(i int) string { return "urgent" + person(i) })
	b.exec(`update batches set preflight = false, priority = 1 where id = $1`, urgent)
	b.claimsOne(w, 5, ratelimit.Create, urgent)
	if got := b.claims(w, 5); len(got) > 0 {
		t.Errorf("the create of a row whose revoke is under way is taken by %v", claimed(got))
	}
	if !w.sender.send(t.Context(), revoke) {
		t.Fatal("the row is owed nothing")
	}
	if closed, err := w.gate.opening(t.Context()); err != nil || closed != 0 {
		t.Errorf("the gate opens in %s: %v", closed, err)
	}
	b.exec(`update results set not_before = clock_timestamp() + interval '1 hour' where batch_id = $1 and row_number = $2`, second, revoke.People[0].Row)
	if got := b.claims(w, 5); len(got) > 0 {
		t.Errorf("the create of an owed row that backs off is taken by %v", claimed(got))
	}
	if closed, err := w.gate.opening(t.Context()); err != nil || closed < time.Second {
		t.Errorf("the gate opens in %s: %v", closed, err)
	}
	b.exec(`update results set not_before = null where batch_id = $1`, second)
	w.sender.send(t.Context(), b.claimsOne(w, 5, ratelimit.Create, second))
	b.want(second, tally{"invited": 1})
}

// Nobody's invitation is revoked while Clerk takes no creates, nor to find out whether
// it does if another row can.
func TestNoRevokeWhileFrozen(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(2)
	second := b.unread(first, 1)
	other := b.batch(1, func(int) string { return "other@example.com" })
	b.exec(`update batches set preflight = false where id = $1`, other)
	limit := ratelimit.Limit{N: 1000, Window: time.Hour}
	w := b.worker(Config{Create: limit, Bulk: ratelimit.Limit{Off: true}})
	freeze := func(d time.Duration) {
		attempt := int64(b.count(`select min(id) from attempts where call = 'create'`))
		if _, err := ratelimit.Freeze(t.Context(), b.pool, b.instance.ID, ratelimit.Create, limit, attempt, d, true); err != nil {
			t.Fatal(err)
		}
	}
	freeze(time.Hour)
	if got := b.claims(w, 3); len(got) > 0 {
		t.Fatalf("claimed while the bucket is frozen: %v", claimed(got))
	}
	b.exec(`update buckets set frozen_until = clock_timestamp() - interval '1 s' where name = 'create'`)
	probe := b.claimsOne(w, 3, ratelimit.Create, other)
	if got := b.claims(w, 3); len(got) > 0 {
		t.Fatalf("claimed while a request probes: %v", claimed(got))
	}
	w.sender.send(t.Context(), probe)
	revoke := b.claimsOne(w, 3, ledger.CallRevoke, second)
	freeze(time.Hour)
	if !w.sender.send(t.Context(), revoke) {
		t.Fatal("the row is owed nothing")
	}
	if got := b.claims(w, 3); len(got) > 0 {
		t.Fatalf("claimed while the bucket is frozen again: %v", claimed(got))
	}
	// With nobody else in line an owed row probes, and without one a revoke goes.
	b.exec(`update buckets set frozen_until = clock_timestamp() - interval '1 s' where name = 'create'`)
	w.sender.send(t.Context(), b.claimsOne(w, 3, ratelimit.Create, second))
	freeze(time.Hour)
	b.exec(`update buckets set frozen_until = clock_timestamp() - interval '1 s' where name = 'create'`)
	w.sender.send(t.Context(), b.claimsOne(w, 3, ledger.CallRevoke, second))
	w.sender.send(t.Context(), b.claimsOne(w, 3, ratelimit.Create, second))
	b.sentAgain(first.ID, second)
}

// A process that is told to stop between a revoke and the create that follows it makes
// the create first, whether its job's own row waits still or not.
func TestStopServesOwedRows(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*bundle, *invitation.Batch) error{
		"running":   func(*bundle, *invitation.Batch) error { return nil },
		"cancelled": func(b *bundle, of *invitation.Batch) error { return Cancel(b.t.Context(), b.pool, of, "test") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited})
			first := b.sent(40)
			second, _ := b.resend(first)
			b.sandbox.Tell("faults", `[{"call":"revoke","kind":"slow","after":true,"delay":"1500ms"}]`)
			cfg := quick
			cfg.RequestTimeout = 20 * time.Second
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran := make(chan error, 1)
			go func() { ran <- b.worker(cfg).Run(ctx, nil) }()
			b.await("somebody's invitation is revoked", func() bool {
				for _, doors := range b.clerks() {
					if doors["revoked"] > 0 {
						return true
					}
				}
				return false
			})
			must.OK(t, meanwhile(b, b.read(second)))
			cancel()
			must.OK(t, <-ran)
			if got := b.outcomes(second); got["invited"] == 0 || got["invited"] == 40 {
				t.Errorf("outcomes %v, want a few invited", got)
			}
			b.counts(0, "rows are owed an invitation",
				`select count(*) from results where revoke_sent is not null and outcome is null`)
			for address, doors := range b.clerks() {
				if doors["pending"] != 1 {
					t.Errorf("%s has %v at Clerk", address, doors)
				}
			}
		})
	}
}

// A revoke is claimed under the buckets, as creates are: a cancel that holds them
// leaves none behind that could go out for a row that is about to be cancelled.
func TestRevokeIsClaimedUnderTheBuckets(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(3)
	second := b.unread(first, 2)
	of := b.read(second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	must.OK(t, change(t.Context(), b.pool, b.instance.ID, func(tx pgx.Tx) error {
		go func() { ran <- b.worker(quick).Run(ctx, nil) }()
		revokes := func() int { return b.count(`select count(*) from attempts where call = 'revoke'`) }
		b.await("a claim waits for the buckets", func() bool {
			return revokes() > 0 || b.waiting() > 0
		})
		if n := revokes(); n > 0 {
			t.Errorf("%d revokes were claimed beside a cancel", n)
		}
		return batch.CancelBatch(t.Context(), tx, of, "test")
	}))
	b.await("all rows are decided", func() bool { return b.outcomes(second)[""] == 0 })
	cancel()
	must.OK(t, <-ran)
	b.want(second, tally{"cancelled": 3})
	for address, doors := range b.clerks() {
		if doors["pending"] != 1 || doors["revoked"] != 0 {
			t.Errorf("%s has %v at Clerk", address, doors)
		}
	}
}

// Clerk says that an invitation is revoked already, and it was our own earlier request
// that did it: its answer was lost, and it came after the lists were read.
func TestRevokedByOurOwnLostRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(1)
	second := b.unread(first, 2)
	w := b.worker(quick)
	lost := b.claimsOne(w, 1, ledger.CallRevoke, second)
	p := lost.People[0]
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		return w.closeOwnRevoke(t.Context(), tx, lost.AttemptID, p, "", invitation.ClosedNotThere, false)
	}))
	if a := w.api.Revoke(t.Context(), p.InvitationID); a.Class != clerk.Success {
		t.Fatal(a)
	}
	if !w.sender.send(t.Context(), b.claimsOne(w, 1, ledger.CallRevoke, second)) {
		t.Error("the row is owed nothing")
	}
	w.sender.send(t.Context(), b.claimsOne(w, 1, ratelimit.Create, second))
	b.sentAgain(first.ID, second)
}

// Between the two requests of a resend the person is free: another row may invite them,
// and the owed row ends with that.
func TestAnotherRowInvitesWhoIsOwed(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(1)
	second := b.unread(first, 2)
	w := b.worker(quick)
	w.sender.send(t.Context(), b.claimsOne(w, 1, ledger.CallRevoke, second))
	b.exec(`update results set not_before = clock_timestamp() + interval '1 hour' where batch_id = $1`, second)
	b.run(b.worker(quick), b.batch(1, person))
	b.exec(`update results set not_before = null where batch_id = $1`, second)
	b.run(b.worker(quick), second)
	if n := b.count(`select count(*) from results where batch_id = $1 and outcome = 'already_invited' and reason = 'invited_by_another_row'`, second); n != 1 {
		t.Errorf("outcomes %v, want already_invited", b.outcomes(second))
	}
	if mails, doors := b.mails()[person(0)], b.clerks()[person(0)]; mails != 2 || doors["pending"] != 1 {
		t.Errorf("%d mails, and %v at Clerk", mails, doors)
	}
}

// The version before sent a revoke under a create. Rows that it left between the two
// are read and go on.
func TestRowsBetweenHalvesOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		done     bool
		answered string // the revoke
	}{
		"its answer is lost, and it was done":     {done: true},
		"its answer is lost, and it was not done": {},
		"it was answered":                         {done: true, answered: "revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited})
			first := b.sent(1)
			second := b.unread(first, 2)
			w := b.worker(quick)
			must.OK(t, w.presence.register(t.Context()))
			id := must.Read[string](t, b.pool, `select clerk_invitation_id from results where batch_id = $1`, first.ID)
			b.exec(`
				with first as (
					insert into attempts (instance_id, worker_id, call, bucket, started_at, deadline, resolved_at, resolution)
					values ($1, $2, 'create', 'create', now() - interval '90 s', now() - interval '70 s', now(), 'not_sent') returning id),
				person as (
					insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, closed_at, resolution)
					select id, $1, $3, $4, 1, false, now(), 'not_sent' from first),
				below as (
					insert into attempts (instance_id, worker_id, call, bucket, under, started_at, deadline, answered_at, read_after)
					select $1, $2, 'revoke', 'general', id, now() - interval '90 s', now() - interval '70 s',
					       case when $6 <> '' then now() - interval '80 s' end, case when $6 <> '' then now() - interval '60 s' end
					from first returning id),
				revoked_person as (
					insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, clerk_invitation_id, open, answer)
					select id, $1, $3, $4, 1, $5, false, nullif($6, '') from below)
				update results set revoke_sent = now() - interval '90 s' where batch_id = $4`,
				b.instance.ID, w.id, person(0), second, id, c.answered)
			if c.done {
				w.api.Revoke(t.Context(), id)
			}
			if got := b.claims(w, 1); len(got) > 0 {
				t.Errorf("claimed before the revoke was read: %v", claimed(got))
			}
			b.run(b.worker(quick), second)
			b.sentAgain(first.ID, second)
		})
	}
}

// Where an expired invitation keeps Clerk from making another, a resend revokes it
// first; where that can't be done, the row ends.
func TestResendOfTheExpired(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		switches sandbox.Switches
		want     string
	}{
		"nothing in the way":             {sandbox.Switches{}, "invited"},
		"in the way":                     {sandbox.Switches{ExpiredBlocks: true}, "invited"},
		"in the way, and not to revoke":  {sandbox.Switches{ExpiredBlocks: true, ExpiredNotRevocable: true}, "already_invited"},
		"nothing to revoke, nor blocked": {sandbox.Switches{ExpiredNotRevocable: true}, "invited"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Switches: c.switches})
			first := b.batch(1, person)
			b.exec(`delete from river_job`)
			b.sandbox.Tell("invitations", fmt.Sprintf(`[{"email":%q,"age":"960h"}]`, person(0)))
			w := b.worker(quick)
			for _, one := range w.api.Invitations(t.Context(), clerk.ListQuery{Limit: clerk.MaxPage}).Invitations {
				b.exec(`update results set outcome = 'invited', status = 'pending', decided_at = $2, clerk_invitation_id = $1, invited_at = $2, expires_at = $3`,
					one.ID, one.CreatedAt, one.ExpiresAt)
			}
			b.exec(`update batches set state = 'done', finished_at = now()`)
			second, n := b.resend(b.read(first))
			if n != 1 {
				t.Fatalf("%d people in the resend, want 1", n)
			}
			b.run(b.worker(quick), second)
			if got := b.outcomes(second); got[c.want] != 1 {
				t.Errorf("outcomes %v, want %s", got, c.want)
			}
		})
	}
}

// What closes a revoke as done gives the row a job, though its batch is paused.
func TestOwedRowGetsItsJob(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(3)
	second := b.unread(first, 2)
	w := b.worker(quick)
	revoke := b.claimsOne(w, 1, ledger.CallRevoke, second)
	must.OK(t, Pause(t.Context(), b.pool, b.read(second), "test"))
	b.exec(`delete from river_job`)
	w.sender.send(t.Context(), revoke)
	b.wantJobs(second, 1)
	b.claimsOne(w, 3, ratelimit.Create, second)
}
