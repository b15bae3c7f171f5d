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
