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
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// persons are the keys of person i for each i.
func persons(numbers ...int) []string {
	keys := make([]string, len(numbers))
	for i, n := range numbers {
		keys[i] = person(n)
	}
	return keys
}

// rescind withdraws people and works until that is done.
func (b *bundle) rescind(keys []string) (*revocation.Sweep, *revocation.Withdrawal) {
	b.t.Helper()
	sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true}
	w, err := Rescind(b.t.Context(), b.pool, sw, keys)
	must.OK(b.t, err)
	if sw.Held {
		return sw, w
	}
	return b.finish(sw.ID), w
}

// finish works until a sweep has ended, a minute at the most.
func (b *bundle) finish(sweep int64) *revocation.Sweep {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	done, err := b.worker(sweeper).Finish(ctx, sweep)
	must.OK(b.t, err)
	b.sums(done)
	return done
}

// TestRescind withdraws people who are invited, who wait in several batches, who
// have accepted, whom somebody else invited, and nobody else.
func TestRescind(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.batch(30, person)
	b.run(b.worker(quick), first)
	second := b.batch(20, func(i int) string { return person(30 + i) })
	third := b.batch(20, func(i int) string { return person(30 + i) })
	b.exec(`update batches set state = 'paused' where id = $1`, second)
	b.exec(`update batches set state = 'draft', started_at = null where id = $1`, third)
	b.plant(sandbox.Seed{Email: person(90)}, sandbox.Seed{Email: person(91)})
	b.accept(persons(3, 4)...)
	b.exec(`update results set status = 'accepted' where key = $1`, person(3))
	if r := b.reconcile(); r.Drift.Unexplained != 2 {
		t.Fatalf("%+v", r)
	}
	b.exec(`update results set status = 'pending' where key = $1`, person(4)) // as if they accepted just now

	sw, w := b.rescind(persons(0, 1, 2, 3, 4, 30, 31, 90, 99))
	if w.People != 9 || len(w.Targets) != 5 || len(w.Waiting) != 4 || len(w.Joined) != 1 || w.Unknown != 1 {
		t.Errorf("%+v", w)
	}
	if sw.Revoked != 4 || sw.Skipped["accepted"] != 1 || sw.Failed != 0 || sw.Cancelled != 4 {
		t.Errorf("%+v", sw)
	}
	for _, batch := range []int64{second, third} {
		b.want(batch, tally{"cancelled": 2, "": 18})
	}
	b.is("true", `select bool_and(reason = 'withdrawn') from results where outcome = 'cancelled'`)
	b.is("3", `select count(*) from results where status = 'revoked'`)
	pending := b.pendingAtClerk()
	for i := range 92 {
		want := i >= 5 && i < 30 || i == 91
		if pending[person(i)] != want {
			t.Errorf("person %d: pending %v, want %v", i, !want, want)
		}
	}
	b.exec(`update batches set state = 'running' where id = $1`, second)
	b.run(b.worker(quick), second)
	if mails := b.mails(); mails[person(30)]+mails[person(31)] != 0 || mails[person(32)] != 1 {
		t.Errorf("mails %v", mails)
	}
	again, w := b.rescind(persons(0, 1, 2, 30, 31, 90))
	if w.Takes() != 0 || again.Revoked != 0 || again.Cancelled != 0 {
		t.Errorf("a second time: %+v, %+v", again, w)
	}
}

// TestRescindInFlight withdraws people of whom a request has gone out whose
// answer was lost: what it made is revoked once it is found, also if the
// process that withdrew them died.
func TestRescindInFlight(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault              string
		revoked, cancelled int
	}{{sandbox.FaultCutAfter, 10, 0}, {sandbox.FaultCutBefore, 0, 10}} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "bulk", Kind: c.fault, First: 1}}})
			batch := b.batch(10, person)
			must.OK(t, b.worker(quick).Run(t.Context(), func(context.Context) (bool, error) {
				return b.count(`select count(*) from attempts where answered_at is not null and resolved_at is null`) == 1, nil
			}))
			// What Rescind's first transaction does; then the process dies.
			sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true}
			must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
				w, err := revocation.Withdrawing(t.Context(), tx, b.instance.ID, persons(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), true)
				if err != nil {
					return err
				}
				if err := BeginSweep(t.Context(), tx, sw, w.Targets); err != nil {
					return err
				}
				return revocation.TakeAway(t.Context(), tx, sw.ID, w.Waiting)
			}))
			// Their requests are open: nothing is decided yet, and nothing over.
			must.OK(t, follow(t.Context(), b.pool, b.instance.ID))
			must.OK(t, revocation.FinishSweeps(t.Context(), b.pool, b.instance.ID))
			b.want(batch, tally{"": 10})
			done := b.finish(sw.ID)
			if done.Revoked != c.revoked || done.Cancelled != c.cancelled || len(b.pendingAtClerk()) != 0 {
				t.Errorf("%+v, outcomes %v, %d pending at Clerk", done, b.outcomes(batch), len(b.pendingAtClerk()))
			}
			b.is("done", `select state from batches where id = $1`, batch)
			b.proven(batch)
		})
	}
}

// TestRescindWhileSending withdraws half of the people while two workers invite
// them: nobody of them keeps an invitation, and the others get theirs.
func TestRescindWhileSending(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultCutAfter, Every: 5}, {Call: "create", Kind: sandbox.FaultCutBefore, Every: 3}}})
	const n = 200
	batch := b.batch(n, person)
	var even []string
	for i := 0; i < n; i += 2 {
		even = append(even, person(i))
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan error, 2)
	for range 2 {
		w := b.worker(quick)
		go func() {
			ended <- w.Run(ctx, func(ctx context.Context) (bool, error) {
				return b.count(`select count(*) from sweeps where finished_at is not null`) == 1 && b.outcomes(batch)[""] == 0, nil
			})
		}()
	}
	b.await("some are invited", func() bool { return b.outcomes(batch)["invited"] >= n/10 })
	sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true, Allow: true}
	if _, err := Rescind(ctx, b.pool, sw, even); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		must.OK(t, <-ended)
	}
	done, err := revocation.ReadSweep(t.Context(), b.pool, sw.ID)
	must.OK(t, err)
	b.sums(done)
	pending := b.pendingAtClerk()
	for i := range n {
		expect.Equal(t, fmt.Sprintf("person %d: pending", i), pending[person(i)], i%2 == 1)
	}
	if done.Revoked+done.Cancelled != n/2 || done.Revoked == 0 || done.Cancelled == 0 {
		t.Errorf("%+v, want each of %d either revoked or cancelled", done, n/2)
	}
	b.proven(batch)
}

// TestRescindOfTooMany does nothing without a person's word.
func TestRescindOfTooMany(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(60, person)
	b.run(b.worker(quick), batch)
	waits := b.batch(20, func(i int) string { return person(100 + i) })
	b.exec(`update batches set state = 'paused' where id = $1`, waits)
	var keys []string
	for i := range 25 { // 15 pending and 10 that wait; 24 would be 30 % of 80
		keys = append(keys, person(map[bool]int{true: i, false: 85 + i}[i < 15]))
	}
	sw, _ := b.rescind(keys)
	if !sw.Held || sw.ID != 0 || b.count(`select count(*) from sweeps`) != 0 || b.count(`select count(*) from results where withdrawn_by is not null`) != 0 {
		t.Errorf("%+v, want it held and nothing written", sw)
	}
	dry := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria"}
	if _, err := Rescind(t.Context(), b.pool, dry, keys); err != nil || dry.Stale != 15 || b.count(`select count(*) from revocations`) != 0 || b.outcomes(waits)["cancelled"] != 0 {
		t.Errorf("a dry run: %+v, %v", dry, err)
	}
	if sw, _ := b.rescind(keys[:24]); sw.Revoked != 15 || sw.Cancelled != 9 {
		t.Errorf("%+v", sw)
	}
	all := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true, Allow: true}
	for i := range 60 {
		keys = append(keys, person(i))
	}
	if _, err := Rescind(t.Context(), b.pool, all, keys); err != nil || all.Held || all.AllowedBy != "maria" {
		t.Errorf("%+v, %v", all, err)
	}
	b.is("45", fmt.Sprintf(`select count(*) from revocations where sweep_id = %d`, all.ID))
}

// TestRescindFromADraft rescinds people of a draft who were found to have been invited before. They do not lower the
// number of people that starting the draft is confirmed for.
func TestRescindFromADraft(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.sent(2)
	var draft int64
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		draft, err = batch.CreateBatch(t.Context(), tx, invitation.Batch{InstanceID: b.instance.ID,
			FileName: "draft.csv", Columns: []string{"email"}, Actor: "test", Preflight: true})
		return err
	}))
	for i := range 5 { // two of them were invited
		b.exec(`insert into results (batch_id, row_number, instance_id, line, original, email, key)
			values ($1, $2, $3, $2, array[$4], $4, $4)`, draft, i+1, b.instance.ID, person(i))
	}
	people := func() int {
		t.Helper()
		known, err := batch.Preview(t.Context(), b.pool, draft)
		must.OK(t, err)
		waiting := b.count(`select count(*) from results where batch_id = $1 and outcome is null`, draft)
		return invitation.Sending{}.Of(b.read(draft), known, waiting).People
	}
	b.exec(`insert into previews (batch_id, begun_at, looked_at, invited)
		values ($1, clock_timestamp(), clock_timestamp(), 2)`, draft)
	if n := people(); n != 3 {
		t.Fatalf("%d people are to be invited, want 3", n)
	}
	b.rescind(persons(0, 1))
	expect.Equal(t, "people to invite after two others were rescinded", people(), 3)
}

// stop stops a sweep.
func (b *bundle) stop(sweep int64) {
	b.t.Helper()
	must.OK(b.t, pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error {
		return revocation.StopSweep(b.t.Context(), tx, sweep, "maria")
	}))
}

// TestStopRevokesNothingMore stops a rescind after the request of a withdrawn row has made an invitation, and before
// that invitation has a revocation. The sweep ends at once, counts the invitation as skipped, and revokes nothing.
func TestStopRevokesNothingMore(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(2, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	w := b.worker(Config{Bulk: ratelimit.Limit{Off: true}})
	tickets := b.claims(w, 2)
	sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true}
	_, err := Rescind(t.Context(), b.pool, sw, persons(0))
	must.OK(t, err)
	for _, ticket := range tickets {
		w.sender.send(t.Context(), ticket)
	}
	b.want(batch, tally{"invited": 2})

	b.stop(sw.ID)
	b.is("true", `select finished_at is not null from sweeps where id = $1`, sw.ID)
	must.OK(t, follow(t.Context(), b.pool, b.instance.ID))
	done := b.finish(sw.ID)
	if done.Stale != 1 || done.Skipped[revocation.SkipStopped] != 1 || done.Revoked != 0 {
		t.Errorf("%+v, want the invitation skipped", done)
	}
	if pending := b.pendingAtClerk(); !pending[person(0)] || !pending[person(1)] {
		t.Errorf("pending at Clerk: %v, want both", pending)
	}
}

// TestStopTriesNothingAgain stops a sweep while the answers to its revokes are lost. The revoke that reached Clerk is
// found, and the other is not tried again.
func TestStopTriesNothingAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{
		{Call: "revoke", Kind: sandbox.FaultCutAfter, Address: person(0), First: 1},
		{Call: "revoke", Kind: sandbox.FaultCutBefore, Address: person(1), First: 1}}})
	batch := b.batch(2, person)
	b.run(b.worker(quick), batch)
	sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true}
	_, err := Rescind(t.Context(), b.pool, sw, persons(0, 1))
	must.OK(t, err)
	cfg := sweeper
	cfg.Settle = time.Minute // the lost answers stay open
	must.OK(t, b.worker(cfg).Run(t.Context(), func(context.Context) (bool, error) {
		return b.count(`select count(*) from attempts
			where call = 'revoke' and answered_at is not null and resolved_at is null`) == 2, nil
	}))
	b.stop(sw.ID)
	b.exec(`update attempts set read_after = clock_timestamp() where resolved_at is null`)
	done := b.finish(sw.ID)
	if done.Revoked != 1 || done.Skipped[revocation.SkipStopped] != 1 {
		t.Errorf("%+v, want one revoked and one skipped", done)
	}
	b.counts(2, "requests to revoke", `select count(*) from attempts where call = 'revoke'`)
	if pending := b.pendingAtClerk(); pending[person(0)] || !pending[person(1)] {
		t.Errorf("pending at Clerk: %v, want the second person", pending)
	}
}

// TestStopAwaitsADeadProcess stops a sweep whose revoke a process sent and did not record. The job of the revocation,
// which another process has taken over, leaves the end to the read.
func TestStopAwaitsADeadProcess(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(1, person)
	b.run(b.worker(quick), batch)
	sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true}
	_, err := Rescind(t.Context(), b.pool, sw, persons(0))
	must.OK(t, err)
	id := revocation.RevocationID{Sweep: sw.ID,
		Invitation: must.Read[string](t, b.pool, `select clerk_invitation_id from revocations`)}
	dead := b.worker(sweeper)
	must.OK(t, dead.presence.register(t.Context()))
	claimed, _, err := dead.revoker.claimRevoke(t.Context(), id)
	must.OK(t, err)
	if claimed.AttemptID == 0 {
		t.Fatal("the revocation was not claimed")
	}
	if answer := dead.api.Revoke(t.Context(), id.Invitation); answer.Class != clerk.Success {
		t.Fatal(answer.Class)
	}
	b.stop(sw.ID)
	_, _, err = dead.revoker.claimRevoke(t.Context(), id)
	must.OK(t, err)
	b.exec(`update attempts set read_after = clock_timestamp(), deadline = clock_timestamp() where resolved_at is null`)
	done := b.finish(sw.ID)
	if done.Revoked != 1 || done.Skipped[revocation.SkipStopped] != 0 {
		t.Errorf("%+v, want one revoked", done)
	}
}

// TestWithdrawnByTwoSweeps withdraws a person twice while their request is under way, by two rescinds or by a rescind
// and an undo, and stops one, both or none of the two. Each sweep that goes on gets what it wants, as if the other did
// not exist. A rescind revokes what the request made or met, an undo only what it made.
func TestWithdrawnByTwoSweeps(t *testing.T) {
	t.Parallel()
	const rescind, undo = revocation.KindRescind, revocation.KindUndo
	for _, kinds := range [][2]revocation.SweepKind{{rescind, rescind}, {rescind, undo}, {undo, rescind}} {
		for _, end := range []string{"made", "met", "nothing"} {
			t.Run(fmt.Sprint(kinds[0], " ", kinds[1], " ", end), func(t *testing.T) {
				t.Parallel()
				b := setup(t, sandbox.Config{Limits: unlimited})
				cfg := quick
				cfg.Bulk = ratelimit.Limit{Off: true}
				if end != "nothing" { // the request must be sent, however busy the machine is
					cfg.RequestTimeout = time.Minute
				}
				w := b.worker(cfg)
				for i, stopped := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
					b.withdrawTwice(w, i, kinds, end, stopped)
				}
			})
		}
	}
}

// withdrawTwice is one case of TestWithdrawnByTwoSweeps, for person i.
func (b *bundle) withdrawTwice(w *Worker, i int, kinds [2]revocation.SweepKind, end string, stopped [2]bool) {
	b.t.Helper()
	ctx := b.t.Context()
	batch := b.batch(1, func(int) string { return person(i) })
	b.exec(`update batches set preflight = false where id = $1`, batch)
	ticket := b.claimsOne(w, 1, "create", batch)
	var sweeps [2]int64
	for n, kind := range kinds {
		if kind == revocation.KindUndo {
			sw, err := Undo(ctx, b.pool, b.read(batch), "maria")
			must.OK(b.t, err)
			sweeps[n] = sw.ID
			continue
		}
		sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: kind, StartedBy: "maria", Apply: true}
		_, err := Rescind(ctx, b.pool, sw, persons(i))
		must.OK(b.t, err)
		sweeps[n] = sw.ID
	}
	for n, stop := range stopped {
		if stop {
			b.stop(sweeps[n])
		}
	}
	must.OK(b.t, follow(ctx, b.pool, b.instance.ID))
	must.OK(b.t, revocation.FinishSweeps(ctx, b.pool, b.instance.ID))
	for n, stop := range stopped {
		b.is(fmt.Sprint(stop), `select finished_at is not null from sweeps where id = $1`, sweeps[n])
	}
	switch end {
	case "met":
		b.plant(sandbox.Seed{Email: person(i)})
	case "nothing":
		b.sandbox.Tell("faults", `[{"call":"create","kind":"cut_before","first":1}]`)
	}
	w.sender.send(ctx, ticket)
	worker := b.worker(quick)
	err := worker.Run(ctx, func(context.Context) (bool, error) {
		return b.count(`select count(*) from results where outcome is null`)+
			b.count(`select count(*) from sweeps where finished_at is null`) == 0, nil
	})
	must.OK(b.t, err)

	// A sweep that was not stopped wants it to be revoked.
	wanted, revokes := false, false
	for n, kind := range kinds {
		wanted = wanted || !stopped[n]
		revokes = revokes || !stopped[n] && (kind == revocation.KindRescind || end != "met")
		sw, err := revocation.ReadSweep(ctx, b.pool, sweeps[n])
		must.OK(b.t, err)
		b.sums(sw)
		if want := end == "nothing" && !stopped[n]; (sw.Cancelled == 1) != want {
			b.t.Errorf("stopped %v: the %s cancelled %d rows, want %v", stopped, kind, sw.Cancelled, want)
		}
	}
	undone := kinds[0] == revocation.KindUndo || kinds[1] == revocation.KindUndo // the batch stays cancelled
	pending := !revokes
	if end == "nothing" {
		pending = !wanted && !undone
	}
	expect.Equal(b.t, fmt.Sprintf("stopped %v: pending", stopped), b.pendingAtClerk()[person(i)], pending)
	outcome := map[string]string{"made": "invited", "met": "already_invited", "nothing": "cancelled"}[end]
	if end == "nothing" && pending {
		outcome = "invited"
	}
	b.want(batch, tally{outcome: 1})
	b.counts(map[bool]int{false: 0, true: 1}[revokes && end != "nothing"], fmt.Sprintf("stopped %v: revokes", stopped),
		`select count(*) from attempts a join attempt_people p on p.attempt_id = a.id where a.call = 'revoke' and p.key = $1`,
		person(i))
}
