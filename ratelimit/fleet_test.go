package ratelimit_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/ratelimit"
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
	parse := func(s string) ratelimit.Limit {
		l, err := ratelimit.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
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
		{"off", []string{"25/1h"}, 0, "off", 0, ""},
	} {
		b.exec(`delete from workers`)
		for i, s := range tt.stated {
			b.worker(string(rune('a'+i)), s)
		}
		got := b.count(ratelimit.Create, parse(tt.own))
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
	if _, err := ratelimit.Count(t.Context(), b.pool, b.instance, ratelimit.Create, tenAnHour); err == nil {
		t.Error("a limit that can't be read is passed over")
	}
}

// A worker that registers while another waits for the bucket is obeyed by that claim already.
func TestReserveSeesWhoRegistersMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := make(chan ratelimit.Bucket, 1)
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := ratelimit.Lock(ctx, tx, b.instance, ratelimit.Create); err != nil {
			return err
		}
		go func() {
			var bucket ratelimit.Bucket
			err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) (err error) {
				bucket, err = ratelimit.Reserve(t.Context(), tx, b.instance, ratelimit.Create, tenAnHour)
				return err
			})
			if err != nil {
				t.Error(err)
			}
			got <- bucket
		}()
		for waits := false; !waits; {
			err := b.pool.QueryRow(ctx, `select exists (select from pg_stat_activity
				where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waits)
			if err != nil {
				return err
			}
		}
		b.worker("strict", "3/1h")
		return nil
	})
	if bucket := <-got; bucket.Free != 3 {
		t.Errorf("%d requests are free, want the 3 of the worker that registered", bucket.Free)
	}
}

// The general limit is leased under the strictest too, and leases that weigh on
// a longer window of another worker are kept.
func TestGeneralObeysAllWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.worker("strict", "12/1h")
	loose := ratelimit.Limit{N: 1000, Window: 100 * time.Millisecond}
	g := ratelimit.NewGeneral(b.pool, b.instance, "loose", loose, time.Second, slog.New(slog.DiscardHandler))
	for range 12 {
		release, err := g.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release(nil)
	}
	b.exec(`update leases set use_by = use_by - interval '30 min', settled_at = settled_at - interval '30 min'`)
	if err := g.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if _, err := g.Acquire(ctx); err == nil {
		t.Error("a thirteenth request may go within the hour of the strict worker")
	}
	b.exec(`delete from workers`)
	release, err := g.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release(nil)
}

func TestStrictest(t *testing.T) {
	t.Parallel()
	per := func(n int, d time.Duration) ratelimit.Limit { return ratelimit.Limit{N: n, Window: d} }
	for _, tt := range []struct {
		all  []ratelimit.Limit
		want ratelimit.Limit
	}{
		{[]ratelimit.Limit{{None: true}}, ratelimit.Limit{None: true}},
		{[]ratelimit.Limit{{None: true}, per(5, time.Hour)}, per(5, time.Hour)},
		{[]ratelimit.Limit{{Off: true}, per(5, time.Hour)}, ratelimit.Limit{Off: true}},
		{[]ratelimit.Limit{per(10, time.Minute), per(350, time.Hour)}, per(350, time.Hour)},
		{[]ratelimit.Limit{per(60, time.Hour), per(1, time.Minute)}, per(1, time.Minute)},
	} {
		if got := ratelimit.Strictest(slices.Clone(tt.all)); got != tt.want {
			t.Errorf("of %v: %s, want %s", tt.all, got, tt.want)
		}
	}
}
