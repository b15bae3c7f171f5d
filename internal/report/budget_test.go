package report_test

import (
	"errors"
	"testing"
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/report"
	"bulkinvite/ratelimit"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	limits := invitation.Limits{Create: ratelimit.Limit{N: 100, Window: 8 * time.Minute}, Bulk: ratelimit.Limit{N: 25, Window: time.Minute}, General: ratelimit.Limit{N: 100, Window: 10 * time.Second}}
	b, err := report.ReadBudget(t.Context(), pool, 1, limits)
	must.OK(t, err)
	near := func(d, want time.Duration) bool { return d > want-5*time.Second && d < want+5*time.Second }
	if c := b.Create; len(c.Busy) != 1 || !near(c.Busy[0], 3*time.Minute) || !near(c.Frozen, 8*time.Minute) {
		t.Errorf("create: %+v, want one that weighs for three minutes more, and frozen for a window, not for an hour", c)
	}
	// The one that is out may be answered at any moment.
	if c := b.Bulk; len(c.Busy) != 1 || !near(c.Busy[0], time.Minute) || c.Frozen != 0 {
		t.Errorf("bulk: %+v, want the one that is out, for a minute", c)
	}
	if len(b.Frozen) != 1 || b.Frozen[0].Bucket != "create" || b.Frozen[0].Reason != "429" || !near(b.Frozen[0].Until.Sub(b.Now), 8*time.Minute) {
		t.Errorf("frozen: %+v", b.Frozen)
	}
	limits.Create, limits.Bulk = ratelimit.Limit{Off: true}, ratelimit.Limit{None: true}
	if b, err = report.ReadBudget(t.Context(), pool, 1, limits); err != nil || len(b.Create.Busy)+len(b.Bulk.Busy)+len(b.Frozen) > 0 {
		t.Errorf("of singles off and bulk without a limit: %+v, %v", b, err)
	}
}

func TestLoads(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	_, err := pool.Exec(t.Context(), `
		update batches set hours = '{[0,6),[22,24)}', tz = 'Europe/Berlin', start_at = '2026-11-30 08:00Z' where id = 3;
		update batches set canary = 1, canary_row = 2 where id = 2;
		update results set not_before = '2026-11-30 09:00Z' where batch_id = 2 and row_number = 3`)
	must.OK(t, err)
	loads, err := report.Loads(t.Context(), pool, 1)
	if err != nil || len(loads) != 2 {
		t.Fatalf("%+v, %v", loads, err)
	}
	// The urgent one comes first.
	if l := loads[0]; l.Batch != 3 || l.Priority != 1 || l.People != 1 || l.Hours != (invitation.Hours{From: 22, To: 6, TZ: "Europe/Berlin"}) ||
		l.Zone.String() != "Europe/Berlin" || !l.StartAt.Equal(time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)) || !l.NotBefore.IsZero() {
		t.Errorf("%+v", l)
	}
	// Of its two undecided rows one is in a request, the only one of the canary.
	if l := loads[1]; l.Batch != 2 || l.People != 1 || !l.Held || l.Canary != 0 || !l.Hours.IsZero() || !l.StartAt.IsZero() || l.NotBefore.IsZero() {
		t.Errorf("%+v", l)
	}
	if l, err := report.Load(t.Context(), pool, 4); err != nil || l.Batch != 4 || l.People != 1 {
		t.Errorf("a paused one: %+v, %v", l, err)
	}
	if _, err := report.Load(t.Context(), pool, 99); !errors.Is(err, invitation.ErrNoBatch) {
		t.Errorf("no batch: %v", err)
	}
}
