package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
)

// sweeper is how a worker is configured that only takes back.
var sweeper = func() Config {
	c := quick
	c.OnlyRevokes = true
	return c
}()

// aged invites n people and makes their invitations 20 days old.
func (b *bundle) aged(n int) int64 {
	b.t.Helper()
	batch := b.batch(n, person)
	b.run(b.worker(quick), batch)
	b.exec(`update results set invited_at = invited_at - interval '20 days' where batch_id = $1`, batch)
	return batch
}

// sums fails unless a sweep that has ended adds up.
func (b *bundle) sums(sw *revocation.Sweep) {
	b.t.Helper()
	n := sw.Revoked + sw.Failed
	for _, skipped := range sw.Skipped {
		n += skipped
	}
	if sw.FinishedAt.IsZero() || sw.Undecided != 0 || n != sw.Stale {
		b.t.Errorf("sweep %+v has not ended or does not add up", *sw)
	}
}

// takeBack begins to take back all that a batch has sent.
func (b *bundle) takeBack(kind revocation.SweepKind, batch int64) int64 {
	b.t.Helper()
	sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: kind, Batch: batch, StartedBy: "maria", Apply: true, Allow: true}
	must.OK(b.t, pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(b.t.Context(), `select row_number, key, clerk_invitation_id from results where batch_id = $1 and outcome = 'invited' and status = 'pending'`, batch)
		targets, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t ledger.Target, err error) {
			t.Batch = batch
			return t, row.Scan(&t.Row, &t.Key, &t.InvitationID)
		})
		if err != nil {
			return err
		}
		return BeginSweep(b.t.Context(), tx, sw, targets)
	}))
	return sw.ID
}

// Whom a row waits for is left to that row: a resend of which the old invitation
// is gone would not invite again.
func TestSweepLeavesWhoWaits(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.aged(3)
	before, err := b.worker(sweeper).BeginSweep(t.Context(), SweepOptions{Apply: true, Actor: "maria"}) // it has chosen all three
	must.OK(t, err)
	again := b.batch(1, person)
	b.exec(`update batches set state = 'paused' where id = $1`, again)
	for _, sweep := range []func() (*revocation.Sweep, error){
		func() (*revocation.Sweep, error) { return b.worker(sweeper).Finish(t.Context(), before.ID) },
		func() (*revocation.Sweep, error) {
			return b.worker(sweeper).Sweep(t.Context(), SweepOptions{Apply: true, Actor: "maria"})
		},
	} {
		sw, err := sweep()
		must.OK(t, err)
		b.sums(sw)
		if sw.Skipped[revocation.SkipWaitingRow] != 1 {
			t.Errorf("sweep %+v, want the person who waits left alone", *sw)
		}
	}
	b.counts(2, "are revoked", `select count(*) from results where status = 'revoked'`)
}

// A sweep of too much revokes nothing until a person allows it; then it revokes
// what they saw. A newer one takes its place.
func TestHeldSweep(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.aged(30)
	first, err := b.worker(sweeper).Sweep(t.Context(), SweepOptions{Apply: true, Actor: "maria"})
	must.OK(t, err)
	second, err := b.worker(sweeper).Sweep(t.Context(), SweepOptions{Apply: true, Actor: "maria"})
	must.OK(t, err)
	if !second.Held || second.Threshold != 20 || second.Stale != 30 {
		t.Errorf("sweep %+v, want it held at 20", *second)
	}
	if first, err = revocation.ReadSweep(t.Context(), b.pool, first.ID); err != nil {
		t.Fatal(err)
	}
	b.sums(first)
	if first.Held || first.Skipped[revocation.SkipSuperseded] != 30 {
		t.Errorf("the older sweep is %+v, want it superseded", *first)
	}
	idle, err := Idle(t.Context(), b.pool, b.instance.ID)
	must.OK(t, err)
	if n := b.count(`select count(*) from attempts where call = 'revoke'`); n != 0 || !idle {
		t.Errorf("%d requests of a held sweep, idle %v; want none, and true", n, idle)
	}
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool,
		func(tx pgx.Tx) error { return AllowSweep(t.Context(), tx, second, "tom") }))
	done, err := b.worker(sweeper).Finish(t.Context(), second.ID)
	must.OK(t, err)
	b.sums(done)
	if done.Revoked != 30 || done.Held || done.AllowedBy != "tom" {
		t.Errorf("sweep %+v, want 30 revoked as tom allowed", *done)
	}
}

// Rows are the truth: a sweep whose jobs are all gone goes on.
func TestRevokesFindLostJobs(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.aged(5)
	w := b.worker(sweeper)
	sw, err := w.BeginSweep(t.Context(), SweepOptions{Apply: true, Actor: "maria"})
	must.OK(t, err)
	b.exec(`delete from river_job where kind = 'revoke' and args->>'invitation' <> (select min(clerk_invitation_id) from revocations)`)
	b.exec(`update river_job set state = 'scheduled', scheduled_at = now() + interval '10 minutes' where kind = 'revoke'`) // one that comes late must not hold up the others
	done, err := w.Finish(t.Context(), sw.ID)
	must.OK(t, err)
	b.sums(done)
	if done.Revoked != 5 {
		t.Errorf("sweep %+v, want 5 revoked", *done)
	}
}

// Whom a request is open for is left alone by a sweep, and waited for by whoever
// named them. What has no row of ours is revoked too, and settled by reading.
func TestRevokeBesideAnOpenAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Invitations: []string{"theirs@example.com"},
		Faults: []sandbox.Fault{{Call: "revoke", Kind: sandbox.FaultCutAfter, Address: "theirs@example.com", First: 1}}})
	b.aged(2)
	w := b.worker(sweeper)
	begin := func(kind revocation.SweepKind, targets ...ledger.Target) *revocation.Sweep {
		sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: kind, StartedBy: "maria", Apply: true, Scanned: 3}
		must.OK(t, pgx.BeginFunc(t.Context(), b.pool,
			func(tx pgx.Tx) error { return BeginSweep(t.Context(), tx, sw, targets) }))
		return sw
	}
	var targets []ledger.Target
	err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		targets, _, _, err = revocation.Stale(t.Context(), tx, b.instance.ID, revocation.Policy{OlderThan: time.Hour, Today: time.Now()})
		return err
	})
	if err != nil || len(targets) != 2 {
		t.Fatalf("%d stale invitations, %v; want 2", len(targets), err)
	}
	theirs := w.api.Invitations(t.Context(), clerk.ListQuery{Status: "pending", Limit: clerk.MaxPage})
	for _, one := range theirs.Invitations {
		if one.Email == "theirs@example.com" {
			targets = append(targets, ledger.Target{Person: ledger.Person{Key: one.Email, InvitationID: one.ID}, InvitedAt: one.CreatedAt})
		}
	}
	// Somebody's request for both of our people is open.
	b.exec(`insert into workers (id, instance_id, host, pid, version, lock_key) values ('other', $1, 'h', 1, '', 1)`, b.instance.ID)
	b.exec(`with a as (insert into attempts (instance_id, worker_id, call, bucket, deadline) select $1, 'other', 'create', 'create', clock_timestamp() + interval '1 s' from generate_series(1, 2) returning id)
		insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number)
		select a.id, $1, r.key, r.batch_id, r.row_number from (select id, row_number() over () as n from a) a join results r on r.row_number = a.n`, b.instance.ID)
	sweep := begin(revocation.KindSweep, targets[0])
	rescind := begin(revocation.KindRescind, targets[1:]...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = w.Run(ctx, func(ctx context.Context) (bool, error) { // what waits has been put off, and is not decided
		one, err := revocation.ReadSweep(ctx, b.pool, sweep.ID)
		return err == nil && !one.FinishedAt.IsZero() && b.count(`select count(*) from revocations where not_before is not null`) == 1, err
	})
	must.OK(t, err)
	b.exec(`update attempt_people set open = false, resolution = 'not_there' where attempt_id in (select id from attempts where worker_id = 'other')`)
	b.exec(`update attempts set resolved_at = clock_timestamp(), resolution = 'read' where worker_id = 'other'`)
	done, err := b.worker(sweeper).Finish(ctx, rescind.ID)
	must.OK(t, err)
	b.sums(done)
	if done.Revoked != 2 {
		t.Errorf("rescind %+v, want both revoked", *done)
	}
	if done, err = revocation.ReadSweep(t.Context(), b.pool, sweep.ID); err != nil {
		t.Fatal(err)
	}
	b.sums(done)
	if !maps.Equal(done.Skipped, map[string]int{revocation.SkipOpenAttempt: 1}) {
		t.Errorf("sweep %+v, want the one with an open attempt left alone", *done)
	}
	b.counts(1, "lost revokes of somebody without a row were settled by reading",
		`select count(*) from attempts a join attempt_people p on p.attempt_id = a.id where p.batch_id is null and p.resolution = 'read' and a.resolution = 'read'`)
}

// Two sweeps of one night at one moment: one of them is it.
func TestOneSweepANight(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.aged(3)
	night := time.Now().Truncate(time.Minute)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			_, err := b.worker(sweeper).BeginSweep(t.Context(), SweepOptions{Apply: true, Actor: "nightly sweep", night: night})
			errs <- err
		}()
	}
	began := 0
	for range cap(errs) {
		switch err := <-errs; {
		case err == nil:
			began++
		case !errors.Is(err, revocation.ErrSwept):
			t.Error(err)
		}
	}
	if n := b.count(`select count(*) from revocations`); began != 1 || n != 3 {
		t.Errorf("%d sweeps began with %d revocations, want 1 with 3", began, n)
	}
}

// Three days of downtime are made up for once; a schedule that is new has
// nothing to make up for; and on the nights on which the clock is put forward or
// back there is one sweep.
func TestNights(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	must.OK(t, err)
	for _, c := range []struct {
		name  string
		set   time.Time   // when the schedule was first set
		awake []time.Time // when a worker looks
		want  []string    // the nights that are swept
	}{
		{"new", time.Date(2026, 11, 20, 12, 0, 0, 0, berlin), []time.Time{time.Date(2026, 11, 20, 12, 0, 0, 0, berlin)}, nil},
		{"each night", time.Date(2026, 11, 20, 12, 0, 0, 0, berlin), []time.Time{time.Date(2026, 11, 21, 2, 0, 0, 0, berlin), time.Date(2026, 11, 21, 2, 0, 1, 0, berlin),
			time.Date(2026, 11, 22, 1, 59, 59, 0, berlin), time.Date(2026, 11, 22, 2, 0, 0, 0, berlin)}, []string{"2026-11-21 02:00", "2026-11-22 02:00"}},
		{"three days of downtime", time.Date(2026, 11, 20, 12, 0, 0, 0, berlin), []time.Time{time.Date(2026, 11, 21, 2, 0, 0, 0, berlin),
			time.Date(2026, 11, 24, 9, 0, 0, 0, berlin), time.Date(2026, 11, 24, 9, 1, 0, 0, berlin)}, []string{"2026-11-21 02:00", "2026-11-24 02:00"}},
		{"a year of downtime", time.Date(2025, 11, 20, 12, 0, 0, 0, berlin), []time.Time{time.Date(2026, 11, 24, 1, 0, 0, 0, berlin)}, []string{"2026-11-23 02:00"}},
		{"forward: 02:00 is skipped", time.Date(2026, 3, 28, 12, 0, 0, 0, berlin), minutes(time.Date(2026, 3, 29, 0, 30, 0, 0, berlin), 26*60), []string{"2026-03-29 03:00", "2026-03-30 02:00"}},
		{"back: 02:00 comes twice", time.Date(2026, 10, 24, 12, 0, 0, 0, berlin), minutes(time.Date(2026, 10, 25, 0, 30, 0, 0, berlin), 24*60), []string{"2026-10-25 02:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{})
			cfg := sweeper
			cfg.SweepAt, cfg.TZ = "0 2 * * *", "Europe/Berlin"
			b.exec(`insert into schedules (instance_id, expression, tz, since) values ($1, $2, $3, $4)`, b.instance.ID, cfg.SweepAt, cfg.TZ, c.set)
			one, other := b.worker(cfg), b.worker(cfg)
			for _, at := range c.awake {
				errs := make(chan error)
				for _, w := range []*Worker{one, other} {
					w.sweeps.now = func() time.Time { return at }
					go func() {
						_, err := w.sweeps.night(t.Context())
						errs <- err
					}()
				}
				for range 2 {
					must.OK(t, <-errs)
				}
			}
			rows, _ := b.pool.Query(t.Context(), `select night from sweeps order by night`)
			nights, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
			must.OK(t, err)
			var got []string
			for _, night := range nights {
				got = append(got, night.In(berlin).Format("2006-01-02 15:04"))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("swept %v, want %v", got, c.want)
			}
		})
	}
}

// minutes are the moments of a quarter of an hour each, n minutes long.
func minutes(from time.Time, n int) (all []time.Time) {
	for m := 0; m <= n; m += 15 {
		all = append(all, from.Add(time.Duration(m)*time.Minute))
	}
	return all
}

// A night that can't be begun is not lost, and a fresh database has none to make
// up for.
func TestNightIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	cfg := sweeper
	cfg.SweepAt = "@every 1s"
	w := b.worker(cfg)
	if _, err := w.sweeps.night(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.counts(0, "sweeps as the schedule is set", `select count(*) from sweeps`)
	later := time.Now().Add(time.Minute)
	w.sweeps.now = func() time.Time { return later }
	b.exec(`alter table revocations rename to away`)
	if _, err := w.sweeps.night(t.Context()); err == nil {
		t.Error("a sweep without its table is no error")
	}
	b.exec(`alter table away rename to revocations`)
	if _, err := w.sweeps.night(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.counts(1, "nightly sweeps after the failure",
		`select count(*) from sweeps where night is not null and finished_at is null`)
}

// A nightly sweep of too much is held, once, and nothing tries it again.
func TestNightIsHeld(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.aged(30)
	cfg := sweeper
	cfg.SweepAt = "0 2 * * *"
	b.exec(`insert into schedules (instance_id, expression, tz, since) values ($1, $2, '', now() - interval '2 days')`, b.instance.ID, cfg.SweepAt)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must.OK(t, b.worker(cfg).Run(ctx, func(context.Context) (bool, error) { return b.count(`select count(*) from sweeps`) > 0, nil }))
	held, err := revocation.Sweeps(t.Context(), b.pool, revocation.SweepFilter{Instance: b.instance.ID, Held: true})
	must.OK(t, err)
	if len(held) != 1 || held[0].Night.IsZero() || held[0].Undecided != 30 || b.count(`select count(*) from attempts where call = 'revoke'`) != 0 || b.count(`select count(*) from river_job where kind = 'revoke'`) != 0 {
		t.Errorf("held %+v, want the night, with no job and no request", held)
	}
}

// What is stale: the row's own day goes before its batch's age, and that before
// the sweep's; an expiry that the row or batch set goes before the sweep's alone.
func TestStale(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	plain := b.aged(9) // 20 days old
	today := time.Date(2026, 11, 23, 0, 30, 0, 0, time.FixedZone("east", 5*3600))
	b.exec(`update results set revoke_on = '2026-11-22' where row_number = 1`)
	b.exec(`update results set revoke_on = '2026-11-23' where row_number = 2`)
	b.exec(`update results set expires_in_days = 60 where row_number = 3`)
	b.exec(`update results set expires_in_days = 60, revoke_on = '2026-11-22' where row_number = 4`)
	b.exec(`update results set expires_at = now() - interval '1 second' where row_number = 5`)
	b.exec(`update results set status = 'accepted' where row_number = 6`)
	b.exec(`update results set invited_at = now() - interval '13 days' where row_number = 7`)
	b.exec(`update results set invited_at = now() - interval '13 days', revoke_on = '2026-11-22' where row_number = 8`)
	stale := func(older time.Duration) (rows []int, pending int, skipped map[string]int) {
		t.Helper()
		must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
			targets, n, why, err := revocation.Stale(t.Context(), tx, b.instance.ID, revocation.Policy{OlderThan: older, Today: today})
			for _, one := range targets {
				rows = append(rows, one.Row)
			}
			slices.Sort(rows)
			pending, skipped = n, why
			return err
		}))
		return rows, pending, skipped
	}
	check := func(what string, older time.Duration, want []int, wantSkipped map[string]int) {
		t.Helper()
		rows, pending, skipped := stale(older)
		if !slices.Equal(rows, want) || pending != 7 || !maps.Equal(skipped, wantSkipped) {
			t.Errorf("%s: rows %v, %d pending, skipped %v; want %v, 7, %v", what, rows, pending, skipped, want, wantSkipped)
		}
	}
	const day = 24 * time.Hour
	check("14 days", 14*day, []int{1, 4, 8, 9}, map[string]int{"own_expiry": 1, "expired": 1})
	check("30 days", 30*day, []int{1, 4, 8}, nil)
	b.exec(`update batches set options = '{"expires_in_days": 60}' where id = $1`, plain)
	check("the batch has an expiry", 14*day, []int{1, 4, 8}, map[string]int{"own_expiry": 2, "expired": 1})
	b.exec(`update batches set revoke_after = interval '7 days' where id = $1`, plain)
	check("the batch has an age", 30*day, []int{1, 3, 4, 7, 8, 9}, map[string]int{"expired": 1})
	b.exec(`with s as (insert into sweeps (instance_id, kind, started_by, scope, apply, scanned, stale, skipped, held) select $1, 'rescind', 'maria', 'ours', true, 1, 1, '{}', false returning id)
		insert into revocations (sweep_id, clerk_invitation_id, instance_id, key, batch_id, row_number)
		select s.id, r.clerk_invitation_id, r.instance_id, r.key, r.batch_id, r.row_number from s, results r where r.row_number = 9`, b.instance.ID)
	check("another sweep is at one", 30*day, []int{1, 3, 4, 7, 8}, map[string]int{"expired": 1, "in_another_sweep": 1})
}

// Whatever Clerk does with expired invitations: those whose expiry is known are
// left alone, the others end by Clerk's answer, and who has expired can be
// invited again.
func TestExpired(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		s    sandbox.Switches
		want map[string]int // skipped
		then map[string]int // outcomes of who is invited again
	}{
		{"revocable", sandbox.Switches{}, map[string]int{"expired": 1}, map[string]int{"invited": 2}},
		{"not revocable", sandbox.Switches{ExpiredNotRevocable: true}, map[string]int{"expired": 1, "gone": 1}, map[string]int{"invited": 2}},
		{"in the way", sandbox.Switches{ExpiredBlocks: true}, map[string]int{"expired": 1}, map[string]int{"invited": 1, "already_invited": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Switches: c.s})
			batch := b.batch(2, person)
			b.exec(`delete from river_job`)
			b.sandbox.Tell("invitations", fmt.Sprintf(`[{"email":%q,"age":"960h"},{"email":%q,"age":"960h"}]`, person(0), person(1)))
			w := b.worker(sweeper)
			list := w.api.Invitations(t.Context(), clerk.ListQuery{Limit: clerk.MaxPage})
			for _, one := range list.Invitations {
				b.exec(`update results set outcome = 'invited', status = 'pending', decided_at = now(), clerk_invitation_id = $1, invited_at = $2, expires_at = case row_number when 1 then $3::timestamptz end where email = $4`,
					one.ID, one.CreatedAt, one.ExpiresAt, one.Email)
			}
			b.exec(`update batches set state = 'done', finished_at = now() where id = $1`, batch)
			sw, err := w.Sweep(t.Context(), SweepOptions{Apply: true, Actor: "maria"})
			must.OK(t, err)
			b.sums(sw)
			if !maps.Equal(sw.Skipped, c.want) || sw.Stale != 2 || sw.Failed != 0 {
				t.Errorf("sweep %+v, want skipped %v and no failure", *sw, c.want)
			}
			b.exec(`update results set expires_at = $1 where expires_at is null`, time.Now().AddDate(0, 0, -10))
			again := b.batch(2, person)
			b.run(b.worker(quick), again)
			if got := b.outcomes(again); !maps.Equal(got, c.then) {
				t.Errorf("invited again: %v, want %v", got, c.then)
			}
		})
	}
}

// With scope all, what others have made is taken back too: several of one person,
// one whose answer is lost, and one whose address no file could name.
func TestSweepOfAll(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{
		{Call: "revoke", Kind: sandbox.FaultCutBefore, Address: "old@example.com", First: 1}, {Call: "revoke", Kind: sandbox.FaultCutAfter, Address: "older@example.com", First: 1}}})
	b.aged(2)
	b.sandbox.Tell("invitations", `[{"email":"old@example.com","age":"500h"},{"email":"older@example.com","age":"600h"},{"email":"twice@example.com","age":"500h"},
		{"email":"twice@example.com","age":"500h"},{"email":"new@example.com","age":"24h"},{"email":"expired@example.com","age":"900h"},{"email":"odd@xn--a.example","age":"500h"}]`)
	ours, err := b.worker(sweeper).Sweep(t.Context(), SweepOptions{Actor: "maria"})
	must.OK(t, err)
	if ours.Scanned != 2 || ours.Stale != 2 {
		t.Errorf("of ours alone: %+v, want 2 of 2", *ours)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	all, err := b.worker(sweeper).Sweep(ctx, SweepOptions{Scope: ScopeAll, Apply: true, Actor: "maria"})
	must.OK(t, err)
	b.sums(all)
	if all.Scanned != 8 || all.Stale != 7 || all.Revoked != 7 || all.Scope != ScopeAll {
		t.Errorf("of all: %+v, want 7 revoked of 8", *all)
	}
	list := b.worker(sweeper).api.Invitations(t.Context(), clerk.ListQuery{Status: "pending", Limit: clerk.MaxPage})
	if len(list.Invitations) != 1 || list.Invitations[0].Email != "new@example.com" {
		t.Errorf("%d invitations are pending at Clerk, want the new one", len(list.Invitations))
	}
	b.counts(0, "attempts are open", `select count(*) from attempts where resolved_at is null`)
}
