package ratelimit

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/must"
)

var tenAnHour = Limit{N: 10, Window: time.Hour}

func (b *bundle) freeze(name string, limit Limit, attempt int64, wait time.Duration, told bool) time.Time {
	b.Helper()
	until, err := Freeze(b.Context(), b.pool, b.instance, name, limit, attempt, wait, told)
	must.OK(b, err)
	return until
}

// lasts is how long the bucket's freeze was set to last, as it was set last.
func (b *bundle) lasts(name string) time.Duration {
	b.Helper()
	return must.Read[time.Duration](b, b.pool,
		`select frozen_until - frozen_at from buckets where instance_id = $1 and name = $2`,
		b.instance, name)
}

// near allows for two readings of the clock in one statement.
func near(got, want time.Duration) bool { return (got - want).Abs() < 500*time.Millisecond }

func (b *bundle) thaw(name string, attempt int64) {
	b.Helper()
	must.OK(b, Thaw(b.Context(), b.pool, b.instance, name, attempt))
}

// pass lets a freeze end, as if the time had passed.
func (b *bundle) pass(name string) {
	b.Helper()
	b.exec(`update buckets set frozen_until = clock_timestamp() where instance_id = $1 and name = $2`, b.instance, name)
}

// probe reserves the one request that may try a bucket that thaws.
func (b *bundle) probe() (id int64) {
	b.Helper()
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		var got Bucket
		var err error
		id, got, err = reserve(ctx, tx, b.instance, tenAnHour)
		if err != nil {
			return err
		}
		if !got.Probe || got.Free != 1 {
			b.Fatalf("a bucket that thaws: %+v; want one request, a probe", got)
		}
		return Probing(ctx, tx, b.instance, Create, id)
	})
	return id
}

func (b *bundle) answer(attempt int64, resolution string) {
	b.Helper()
	b.exec(`update attempts set answered_at = clock_timestamp(), resolved_at = clock_timestamp(), resolution = $2 where id = $1`, attempt, resolution)
}

func TestFreezeForRetryAfter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.newInstance("ins_two")
	until := b.freeze(Create, tenAnHour, 0, 90*time.Second, true)
	if d := b.lasts(Create); !near(d, 90*time.Second) {
		t.Errorf("frozen for %v, want 90 s", d)
	}
	got := b.count(Create, tenAnHour)
	if got.Free != 0 || !got.Frozen.Equal(until) || got.Opens.Before(until) || got.Reason != "Clerk answered 429" {
		t.Errorf("frozen: %+v; want nothing free until %v", got, until)
	}
	if none := b.count(Create, Limit{None: true}); none.Free != 0 {
		t.Errorf("without a limit %d are free while the bucket is frozen", none.Free)
	}
	for _, name := range []string{Bulk, GeneralCall} {
		if other := b.count(name, tenAnHour); other.Free != 10 || !other.Frozen.IsZero() {
			t.Errorf("bucket %s, which Clerk did not refuse: %+v", name, other)
		}
	}
	if other, err := Count(t.Context(), b.pool, b.instance+1, Create, tenAnHour); err != nil || other.Free != 10 {
		t.Errorf("another instance's bucket: %+v, %v", other, err)
	}
	// A 429 that names a shorter time, or was on its way longer, takes nothing back.
	if again := b.freeze(Create, tenAnHour, 0, time.Second, true); !again.Equal(until) {
		t.Errorf("frozen until %v after a shorter Retry-After, want %v", again, until)
	}
}

// While a full bucket is frozen, it opens when both are over.
func TestFreezeOfAFullBucket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.insertAll(times(10, attempt{answered: "-50 min"})...)
	full := b.count(Create, tenAnHour)
	b.freeze(Create, tenAnHour, 0, time.Minute, true)
	if got := b.count(Create, tenAnHour); !got.Opens.Equal(full.Opens) {
		t.Errorf("opens at %v, want %v, when the first stops weighing", got.Opens, full.Opens)
	}
	until := b.freeze(Create, tenAnHour, 0, time.Hour, true)
	if got := b.count(Create, tenAnHour); !got.Opens.Equal(until) {
		t.Errorf("opens at %v, want %v, when the freeze ends", got.Opens, until)
	}
}

func TestFreezeWithoutRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit Limit
		want  []time.Duration // seconds
	}{
		{Limit{N: 1, Window: 10 * time.Second}, []time.Duration{1, 2, 4, 8, 10, 10}},
		{Limit{N: 1, Window: time.Hour}, []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600}},
		{Limit{N: 1, Window: 100 * time.Millisecond}, []time.Duration{1, 1}},
		{Limit{None: true}, []time.Duration{1, 1}},
	} {
		t.Run(tt.limit.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for i, want := range tt.want {
				b.pass(Bulk)
				b.freeze(Bulk, tt.limit, 0, 0, false)
				if d := b.lasts(Bulk); !near(d, want*time.Second) {
					t.Errorf("429 number %d in a row froze for %v, want %d s", i+1, d, want)
				}
			}
		})
	}
}

// One probe, whoever asks; when it is answered all is as before.
func TestProbe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.freeze(Create, tenAnHour, 0, 0, false)
	b.freeze(Create, tenAnHour, 0, 0, false)
	b.pass(Create)
	id := b.probe()
	got := b.count(Create, tenAnHour)
	if got.Free != 0 || got.Probe || got.Frozen.IsZero() || !got.Opens.After(got.Now) {
		t.Errorf("while the probe is out: %+v; want nothing free, and a look again later", got)
	}
	b.answer(id, "answered")
	b.thaw(Create, id+1)
	if got := b.count(Create, tenAnHour); got.Free != 1 {
		t.Errorf("somebody else's answer thawed the bucket: %+v", got)
	}
	b.thaw(Create, id)
	if got := b.count(Create, tenAnHour); got.Free != 1 || got.Probe || !got.Frozen.IsZero() || got.Reason != "" {
		t.Errorf("after the probe: %+v; want one free at a time, nothing frozen", got)
	}
	b.freeze(Create, tenAnHour, 0, 0, false)
	if d := b.lasts(Create); !near(d, time.Second) {
		t.Errorf("the first 429 of a new row froze for %v, want 1 s", d)
	}
}

func TestProbeGoesToOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.freeze(Create, tenAnHour, 0, 0, true)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			return pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
				id, got, err := reserve(t.Context(), tx, b.instance, tenAnHour)
				if err != nil || !got.Probe {
					return err
				}
				return Probing(t.Context(), tx, b.instance, Create, id)
			})
		})
	}
	must.OK(t, group.Wait())
	if got := b.count(Create, tenAnHour); got.Weighs != 1 {
		t.Errorf("%d requests probe the bucket, want one", got.Weighs)
	}
}

// How a probe can end without an answer that thaws, and what follows.
func TestProbeWithoutSuccess(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*bundle, int64){
		"its deadline passes": func(b *bundle, id int64) {
			b.exec(`update attempts set deadline = clock_timestamp() where id = $1`, id)
		},
		"it was never written": func(b *bundle, id int64) { b.answer(id, "not_sent") },
		"its process dies after the answer": func(b *bundle, id int64) {
			b.answer(id, "answered")
		},
		"it is refused": func(b *bundle, id int64) {
			b.answer(id, "refused")
			b.freeze(Create, tenAnHour, id, 0, false)
			if d := b.lasts(Create); !near(d, 2*time.Second) {
				b.Errorf("a refused probe froze for %v, want 2 s", d)
			}
			if got := b.count(Create, tenAnHour); got.Free != 0 {
				b.Errorf("after a refused probe: %+v", got)
			}
			b.pass(Create)
			b.thaw(Create, id) // it is no probe any more
		},
		"another request is refused meanwhile": func(b *bundle, id int64) {
			until := b.freeze(Create, tenAnHour, id+1, time.Minute, true)
			b.answer(id, "answered")
			b.thaw(Create, id)
			if got := b.count(Create, tenAnHour); got.Free != 0 || !got.Frozen.Equal(until) {
				b.Errorf("the probe ended a later freeze: %+v", got)
			}
			b.pass(Create)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.freeze(Create, tenAnHour, 0, 0, false)
			b.pass(Create)
			end(b, b.probe())
			b.probe() // the next one
		})
	}
}

// The probe does not wait for requests that are under way, but it needs room under
// the limit.
func TestProbeNeedsRoom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.insertAll(times(5, attempt{answered: "-1 s"})...)
	b.insert(attempt{})
	b.freeze(Create, tenAnHour, 0, 0, true)
	b.answer(b.probe(), "answered")
	b.insertAll(times(3, attempt{answered: "-1 s"})...) // the limit is reached
	b.freeze(Create, tenAnHour, 0, 0, true)
	if got := b.count(Create, tenAnHour); got.Free != 0 || got.Probe {
		t.Errorf("a full bucket that thaws: %+v; want no probe", got)
	}
}

// For a day after a 429 one request goes at a time: another client may use the
// limit too, and then only one request is refused.
func TestOneAtATimeAfterRefusal(t *testing.T) {
	t.Parallel()
	limit := Limit{N: 100, Window: time.Hour}
	for _, tt := range []struct {
		name string
		ago  string // how long ago the 429 was
		sent []attempt
		free int
	}{
		{"one", "1 s", nil, 1},
		{"while it is under way, no other", "1 s", []attempt{{}}, 0},
		{"when it is answered, the next", "1 s", times(30, attempt{answered: "-1 s"}), 1},
		{"up to the limit", "1 s", times(100, attempt{answered: "-1 s"}), 0},
		{"not yet a day later", "23 hours 59 min", nil, 1},
		{"a day later", "24 hours 1 min", times(45, attempt{answered: "-1 s"}), 55},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.freeze(Create, limit, 0, 0, true)
			b.thaw(Create, 0)
			b.insertAll(tt.sent...)
			b.exec(`update buckets set frozen_at = clock_timestamp() - $1::interval where name = 'create'`, tt.ago)
			got := b.count(Create, limit)
			if got.Free != tt.free || !got.Frozen.IsZero() {
				t.Errorf("%+v, want %d free", got, tt.free)
			}
			if careful := tt.name != "a day later"; careful != got.Careful.After(got.Now) {
				t.Errorf("requests go one at a time until %v", got.Careful)
			}
			if got.Free == 0 && !got.Opens.After(got.Now) {
				t.Errorf("nothing is free, and it opens at %v, now being %v", got.Opens, got.Now)
			}
		})
	}
}
