package jobs

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// TestClaimsGoOnWhileADraftStarts: the jobs of a large draft take a while. Neither its start nor what waits for that,
// a discard and a rescind, holds the buckets meanwhile, and none of them ends in a deadlock.
func TestClaimsGoOnWhileADraftStarts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	id := b.batch(3, person)
	b.exec(`delete from river_job`)
	b.exec(`update batches set state = 'draft', started_at = null, confirmed_at = null, rows = 3 where id = $1`, id)
	draft := b.read(id)
	slow, err := b.pool.Begin(t.Context())
	must.OK(t, err)
	defer slow.Rollback(t.Context()) // it is over where all went well
	// No job can be inserted.
	must.Exec(t, slow, `lock table river_job in share mode`)
	var all sync.WaitGroup
	var started, discarded, rescinded error
	waiting := 0
	for _, do := range []func(){
		func() {
			terms := func(*invitation.Batch, *invitation.Preview, int) error { return nil }
			started = StartDraft(t.Context(), b.pool, b.read(id), "olga", terms)
		},
		func() { discarded = Discard(t.Context(), b.pool, draft, "olga") },
		func() {
			sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "olga",
				Apply: true, Allow: true}
			_, rescinded = Rescind(t.Context(), b.pool, sw, []string{person(0)})
		},
	} {
		all.Go(do)
		waiting++
		b.await("one more waits", func() bool {
			var n int
			err := b.pool.QueryRow(t.Context(), `select count(*) from pg_stat_activity
				where datname = current_database() and wait_event_type = 'Lock'`).Scan(&n)
			return err == nil && n == waiting
		})
		if err := b.lockBuckets(); err != nil {
			t.Errorf("%d of start, discard and rescind wait, and claims with them: %v", waiting, err)
		}
	}
	must.OK(t, slow.Commit(t.Context()))
	all.Wait()
	var state *batch.StateError
	if started != nil || !errors.As(discarded, &state) || rescinded != nil {
		t.Errorf("start: %v, discard: %v, rescind: %v", started, discarded, rescinded)
	}
	b.is("running 3 cancelled", `select state || ' ' || (select count(*) from river_job where kind = 'invite') || ' ' ||
		(select outcome from results where batch_id = b.id and row_number = 1) from batches b where id = $1`, id)
}

// lockBuckets does what a claim begins with, and gives up after a second.
func (b *bundle) lockBuckets() error {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
	defer cancel()
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		return ratelimit.Lock(ctx, tx, b.instance.ID, ratelimit.Create, ratelimit.Bulk)
	})
}

// BenchmarkStart starts a draft of a million rows, and reports how long the claims of another worker
// waited for the buckets meanwhile at most: go test ./jobs -run '^$' -bench Start -benchtime 1x
func BenchmarkStart(b *testing.B) {
	pool := postgrestest.New(b)
	in, err := batch.EnsureInstance(b.Context(), pool, "ins_test", "production")
	must.OK(b, err)
	for b.Loop() {
		b.StopTimer()
		draft := invitation.Batch{InstanceID: in.ID, FileName: "people.csv", Columns: []string{"email"},
			Rows: 1_000_000, Actor: "test"}
		must.OK(b, pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) (err error) {
			draft.ID, err = batch.CreateBatch(b.Context(), tx, draft)
			return err
		}))
		must.Exec(b, pool, `insert into results (batch_id, row_number, instance_id, line, original, email, key)
			select $1, n, $2, n + 1, array[n || '@example.com'], n || '@example.com', n || '@example.com'
			from generate_series(1, 1000000) n`, draft.ID, in.ID)
		b.StartTimer()
		done, longest := make(chan struct{}), make(chan time.Duration)
		go func() {
			var most time.Duration
			for {
				select {
				case <-done:
					longest <- most
					return
				case <-time.After(5 * time.Millisecond):
				}
				asked := time.Now()
				err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error {
					return ratelimit.Lock(b.Context(), tx, in.ID, ratelimit.Create, ratelimit.Bulk)
				})
				if err != nil {
					b.Error(err)
				}
				most = max(most, time.Since(asked))
			}
		}()
		err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error { return Start(b.Context(), tx, &draft, "test") })
		close(done)
		b.ReportMetric(float64((<-longest).Microseconds())/1000, "ms-wait")
		must.OK(b, err)
	}
}
