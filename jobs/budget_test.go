package jobs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

var hour = struct{ create, bulk ratelimit.Limit }{ratelimit.Limit{N: 20, Window: time.Hour}, ratelimit.Limit{N: 3, Window: time.Hour}}

// whenUndecided runs a worker until so many rows of a batch are undecided.
func (b *bundle) whenUndecided(w *Worker, batch int64, n int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	must.OK(b.t, w.Run(ctx, func(context.Context) (bool, error) { return b.outcomes(batch)[""] == n, nil }))
	b.want(batch, tally{"": n})
}

// People whom Clerk knows cost no create, and when the budget is spent they are
// told so at once, not when the window opens.
func TestKnownPeopleCostNothing(t *testing.T) {
	t.Parallel()
	var users, pending []string
	for i := 50; i < 120; i++ {
		if i%2 == 0 {
			users = append(users, fmt.Sprintf("%q", person(i)))
		} else {
			pending = append(pending, fmt.Sprintf(`{"email":%q,"age":"1h"}`, person(i)))
		}
	}
	seeds := filepath.Join(t.TempDir(), "seeds.json")
	must.OK(t, os.WriteFile(seeds, []byte(`{"users":[`+strings.Join(users, ",")+`],"invitations":[`+strings.Join(pending, ",")+`]}`), 0o600))
	b := setup(t, sandbox.Config{SeedFile: seeds})
	batch := b.batch(120, person)
	b.run(b.worker(Config{Create: hour.create, Bulk: hour.bulk}), batch)
	b.want(batch, tally{"invited": 50, "already_registered": 35, "already_invited": 35})
	spent := must.Read[int](t, b.pool,
		`select count(*) from attempt_people p join results r using (batch_id, row_number) where r.outcome <> 'invited'`)
	expect.Equal(t, "creates spent on people whom Clerk knows", spent, 0)
	b.proven(batch)
}

// An urgent batch overtakes a long one at the next request.
func TestPriorityOvertakes(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	long := b.batch(200, person)
	urgent := b.batch(20, func(i int) string { return fmt.Sprintf("urgent%d@example.com", i) })
	must.Exec(t, b.pool, `update batches set priority = 1 where id = $1`, urgent)
	b.whenUndecided(b.worker(Config{Create: hour.create, Bulk: hour.bulk}), long, 170)
	b.want(urgent, tally{"invited": 20})
}

// With the budget spent a process fetches no jobs, and each job that was fetched
// snoozes once; the queue's other jobs are not touched.
func TestNoBudgetNoWork(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(3000, person)
	w := b.worker(Config{Create: hour.create, Bulk: hour.bulk})
	var spent time.Time
	must.OK(t, w.Run(t.Context(), func(context.Context) (bool, error) {
		if _, closed := w.gate.closed(); closed && spent.IsZero() {
			spent = time.Now()
		}
		return !spent.IsZero() && time.Since(spent) > 6*time.Second, nil
	}))
	var touched, attempts int
	must.OK(t, b.pool.QueryRow(t.Context(),
		`select count(*) filter (where metadata ? 'snoozes' or state <> 'available'), max(attempt) from river_job where kind = 'invite' and state <> 'completed'`).Scan(&touched, &attempts))
	if touched > limitedWorkers+3*inFlight || attempts > 0 {
		t.Errorf("%d jobs were touched and one had %d attempts; want at most %d and 0", touched, attempts, limitedWorkers+3*inFlight)
	}
	b.want(batch, tally{"invited": 50})
}

// A 429 stops its bucket for everybody until Retry-After has passed, then one
// request probes; the other bucket goes on.
func TestThrottledFreezesOneBucket(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Faults: []sandbox.Fault{{Call: "create", Kind: sandbox.FaultStatus, Status: 429, RetryAfter: "2", First: 6}}})
	batch := b.batch(96, person)
	b.run(b.worker(Config{Create: ratelimit.Limit{N: 100, Window: 30 * time.Second}, Bulk: ratelimit.Limit{N: 5, Window: 30 * time.Second}}), batch)
	var refused, early int
	err := b.pool.QueryRow(t.Context(), `
		select count(*) filter (where http_status = 429),
		       count(*) filter (where exists (select from attempts f where f.bucket = 'create' and f.http_status = 429
		              and a.started_at > f.answered_at + interval '0.5 s' and a.started_at < f.answered_at + interval '1.9 s'))
		from attempts a where bucket = 'create'`).Scan(&refused, &early)
	must.OK(t, err)
	if refused != 6 || early != 0 {
		t.Errorf("%d refused, %d sent while frozen; want 6 and 0", refused, early)
	}
	b.want(batch, tally{"invited": 96})
	b.proven(batch)
}

// A sweep revokes what is stale, and an accepted invitation never.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(40, person)
	b.run(b.worker(quick), batch)
	must.Exec(t, b.pool, `update results set invited_at = invited_at - interval '20 days' where row_number <= 30`)
	b.accept(person(0), person(1))
	dry, err := b.worker(quick).Sweep(t.Context(), SweepOptions{Actor: "maria"})
	must.OK(t, err)
	if dry.Stale != 30 || dry.Revoked != 0 {
		t.Errorf("the dry run says %d stale and %d revoked, want 30 and 0", dry.Stale, dry.Revoked)
	}
	sw, err := b.worker(quick).Sweep(t.Context(), SweepOptions{Apply: true, Allow: true, Actor: "maria"})
	must.OK(t, err)
	if sw.Scanned != 40 || sw.Stale != 30 || sw.Revoked != 28 || sw.Skipped["accepted"] != 2 || sw.Failed != 0 {
		t.Errorf("sweep %+v, want 40 scanned, 30 stale, 28 revoked, 2 accepted", *sw)
	}
	var revoked, open int
	must.OK(t, b.pool.QueryRow(t.Context(),
		`select (select count(*) from results where status = 'revoked'), (select count(*) from attempts where call = 'revoke' and resolved_at is null)`).Scan(&revoked, &open))
	if revoked != 28 || open != 0 {
		t.Errorf("%d rows are revoked and %d revokes open, want 28 and 0", revoked, open)
	}
	// Who was revoked may be invited again by another batch.
	again := b.batch(40, person)
	b.run(b.worker(quick), again)
	b.want(again, tally{"invited": 28, "already_invited": 12})
}

// A revoke whose answer was lost is settled by reading.
func TestLostRevoke(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Faults: []sandbox.Fault{
		{Call: "revoke", Kind: sandbox.FaultCutAfter, Address: person(0), First: 1}, {Call: "revoke", Kind: sandbox.FaultCutAfter, Address: person(1), First: 1},
		{Call: "revoke", Kind: sandbox.FaultCutBefore, Address: person(2), First: 1}, {Call: "revoke", Kind: sandbox.FaultCutBefore, Address: person(3), First: 1}}})
	batch := b.batch(10, person)
	b.run(b.worker(quick), batch)
	must.Exec(t, b.pool, `update results set invited_at = invited_at - interval '20 days'`)
	sw, err := b.worker(quick).Sweep(t.Context(), SweepOptions{Apply: true, Actor: "maria"})
	must.OK(t, err)
	if sw.Revoked != 10 || sw.Failed != 0 {
		t.Errorf("sweep %+v, want 10 revoked", *sw)
	}
	// Those that were done before the answer was lost are found so, the others are tried again.
	counts := map[string]int{}
	rows, _ := b.pool.Query(t.Context(), `select p.resolution, count(*) from attempts a join attempt_people p on p.attempt_id = a.id where a.call = 'revoke' and a.answered_at is not null and a.http_status is null group by 1`)
	var how string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&how, &n}, func() error { counts[how] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	if counts["read"] != 2 || counts["not_there"] != 2 {
		t.Errorf("lost revokes were settled as %v, want 2 read and 2 not there", counts)
	}
	read := must.Read[int](t, b.pool,
		`select count(*) from revocations v join reads r on r.id = v.read_id join attempts a on a.id = v.attempt_id where v.outcome = 'revoked'`)
	expect.Equal(t, "revocations that name the read that decided them", read, 2)
}

// A schedule sweeps its night once, however many processes there are.
func TestNightlySweep(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(5, person)
	b.run(b.worker(quick), batch)
	must.Exec(t, b.pool, `update results set invited_at = invited_at - interval '20 days'`)
	cfg := quick
	cfg.SweepAt = "@every 2s" // cron/v3's own form of an interval, so that the test need not wait for a minute
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	swept := func(ctx context.Context) (bool, error) {
		var n int
		err := b.pool.QueryRow(ctx, `select count(*) from sweeps where night is not null and finished_at is not null`).Scan(&n)
		return n >= 2, err
	}
	other := make(chan error, 1)
	go func() { other <- b.worker(cfg).Run(ctx, swept) }()
	must.OK(t, b.worker(cfg).Run(ctx, swept))
	must.OK(t, <-other)
	var revoked, revokes int
	must.OK(t, b.pool.QueryRow(t.Context(),
		`select (select count(*) from results where status = 'revoked'), (select count(*) from attempts where call = 'revoke')`).Scan(&revoked, &revokes))
	if revoked != 5 || revokes != 5 {
		t.Errorf("%d revoked by %d requests, want 5 by 5", revoked, revokes)
	}
}

func TestParseSchedule(t *testing.T) {
	t.Parallel()
	// 02:00 is skipped on the night when summer time begins, and comes twice when
	// it ends: each night of two years has one sweep.
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"} {
		where, err := time.LoadLocation(zone)
		must.OK(t, err)
		for _, at := range []string{"0 2 * * *", "30 1 * * *"} {
			s, err := ParseSchedule(at, zone)
			must.OK(t, err)
			days := map[string]int{}
			end := time.Date(2028, 1, 1, 0, 0, 0, 0, where)
			for next := s.Next(time.Date(2025, 12, 31, 23, 59, 59, 0, where)); next.Before(end); next = s.Next(next) {
				days[next.In(where).Format(time.DateOnly)]++
			}
			if len(days) != 2*365 {
				t.Errorf("%s in %s: %d nights, want %d", at, zone, len(days), 2*365)
			}
			for day, n := range days {
				if n != 1 {
					t.Errorf("%s in %s: %d sweeps on %s, want 1", at, zone, n, day)
				}
			}
		}
	}
	// One that is asked within the repeated hour goes on, never back, east of
	// Greenwich and west of it.
	for zone, day := range map[string]int{"Europe/Berlin": 25, "America/New_York": 32} {
		s, err := ParseSchedule("*/30 * * * *", zone)
		must.OK(t, err)
		for at := time.Date(2026, 10, day, 0, 0, 0, 0, time.UTC); at.Hour() != 8; at = at.Add(10 * time.Minute) {
			if next := s.Next(at); !next.After(at) {
				t.Errorf("%s: after %v comes %v", zone, at, next)
			}
		}
	}
	for _, bad := range []struct{ expression, zone string }{{"0 2 * *", ""}, {"", ""}, {"0 25 * * *", ""}, {"0 2 * * *", "Mars/Olympus"}} {
		if _, err := ParseSchedule(bad.expression, bad.zone); err == nil {
			t.Errorf("ParseSchedule(%q, %q) is no error", bad.expression, bad.zone)
		}
	}
}

// That no single is left closes nothing while nobody waits, and keeps nobody from
// a bulk call who begins to wait later.
func TestSinglesSpentKeepNobodyFromBulk(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	w := b.worker(Config{Create: ratelimit.Limit{N: 2, Window: time.Hour}, Bulk: hour.bulk})
	first, second := b.batch(2, person), int64(0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	over := func() bool {
		return b.count(`select count(*) from river_job where kind = 'invite' and state in ('available', 'running')`) == 0
	}
	must.OK(t, w.Run(ctx, func(context.Context) (bool, error) {
		poke(w.active)
		if second == 0 && b.outcomes(first)["invited"] == 2 && over() {
			second = b.batch(20, func(i int) string { return "other" + person(i) })
		}
		return second != 0 && b.outcomes(second)["invited"] == 20, nil
	}))
	b.want(second, tally{"invited": 20})
}
