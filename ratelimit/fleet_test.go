package ratelimit

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"bulkinvite/internal/must"
)

// worker registers a live worker that states a limit for each bucket.
func (b *bundle) worker(id, limit string) {
	b.Helper()
	b.exec(`insert into workers
		(id, instance_id, host, pid, version, lock_key, limit_create, limit_bulk, limit_general)
		values ($2, $1, 'h', 1, 'v', 1, nullif($3, ''), nullif($3, ''), nullif($3, ''))`, b.instance, id, limit)
}

// A claim keeps its own limit and each that a live worker has stated, in that limit's own window.
func TestCountObeysAllWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// Six requests in the last minute, fourteen more in the hour.
	b.insertAll(times(6, attempt{started: "-30 s", answered: "-30 s"})...)
	b.insertAll(times(14, attempt{started: "-40 min", answered: "-40 min"})...)
	parse := func(s string) Limit {
		l, err := Parse(s)
		must.OK(t, err)
		return l
	}
	for _, tt := range []struct {
		own    string
		stated []string
		free   int
		binds  string
		weighs int
		opens  string // about when, from now
	}{
		{"100/1h", nil, 80, "100/1h", 20, ""},
		{"100/1h", []string{"100/1h"}, 80, "100/1h", 20, ""},
		{"100/1h", []string{"50/1h"}, 30, "50/1h", 20, ""},
		{"50/1h", []string{"100/1h"}, 30, "50/1h", 20, ""},
		{"350/1h", []string{"10/1m"}, 4, "10/1m", 6, ""},
		{"10/1m", []string{"350/1h"}, 4, "10/1m", 6, ""},
		{"10/1m", []string{"21/1h"}, 1, "21/1h", 20, ""},
		{"6/1m", []string{"20/1h"}, 0, "20/1h", 20, "20 min"},
		{"20/1h", []string{"6/1m", "400/1h"}, 0, "20/1h", 20, "20 min"},
		{"none", []string{"25/1h"}, 5, "25/1h", 20, ""},
		{"25/1h", []string{"none", "off", ""}, 5, "25/1h", 20, ""},
		{"none", nil, unlimited, "none", 0, ""},
		{"off", nil, 0, "off", 0, ""},
		{"off", []string{"25/1h"}, 0, "off", 0, ""},
	} {
		b.exec(`delete from workers`)
		for i, s := range tt.stated {
			b.worker(string(rune('a'+i)), s)
		}
		got := b.count(Create, parse(tt.own))
		if got.Free != tt.free || got.Limit != parse(tt.binds) || got.Weighs != tt.weighs {
			t.Errorf("%s beside %v: %d free, %d weigh on %s; want %d, %d on %s",
				tt.own, tt.stated, got.Free, got.Weighs, got.Limit, tt.free, tt.weighs, tt.binds)
		}
		wait := time.Duration(0)
		if tt.opens != "" {
			wait = 20 * time.Minute
		}
		d := got.Opens.Sub(got.Now)
		if tt.opens == "" != got.Opens.IsZero() || wait > 0 && (d-wait).Abs() > 10*time.Second {
			t.Errorf("%s beside %v: opens in %s, want %s", tt.own, tt.stated, d, wait)
		}
	}
	b.exec(`delete from workers`)
	b.worker("later", "5 a day")
	if _, err := Count(t.Context(), b.pool, b.instance, Create, tenAnHour); err == nil {
		t.Error("a limit that can't be read is passed over")
	}
}

// The general limit is leased under the strictest too, and leases that weigh on
// a longer window of another worker are kept.
func TestGeneralObeysAllWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.worker("strict", "12/1h")
	loose := Limit{N: 1000, Window: 100 * time.Millisecond}
	g := NewGeneral(b.pool, b.instance, "loose", loose, time.Second, slog.New(slog.DiscardHandler))
	for range 12 {
		release, err := g.Acquire(t.Context())
		must.OK(t, err)
		release(nil)
	}
	b.exec(`update leases set use_by = use_by - interval '30 min', settled_at = settled_at - interval '30 min'`)
	must.OK(t, g.Prune(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if _, err := g.Acquire(ctx); err == nil {
		t.Error("a thirteenth request may go within the hour of the strict worker")
	}
	b.exec(`delete from workers`)
	release, err := g.Acquire(t.Context())
	must.OK(t, err)
	release(nil)
}

func TestStrictest(t *testing.T) {
	t.Parallel()
	per := func(n int, d time.Duration) Limit { return Limit{N: n, Window: d} }
	for _, tt := range []struct {
		all  []Limit
		want Limit
	}{
		{[]Limit{{None: true}}, Limit{None: true}},
		{[]Limit{{None: true}, per(5, time.Hour)}, per(5, time.Hour)},
		{[]Limit{{Off: true}, per(5, time.Hour)}, Limit{Off: true}},
		{[]Limit{per(10, time.Minute), per(350, time.Hour)}, per(350, time.Hour)},
		{[]Limit{per(60, time.Hour), per(1, time.Minute)}, per(1, time.Minute)},
	} {
		if got := Strictest(slices.Clone(tt.all)); got != tt.want {
			t.Errorf("of %v: %s, want %s", tt.all, got, tt.want)
		}
	}
}
