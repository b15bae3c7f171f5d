package jobs

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/must"
	"bulkinvite/invitation"
	"bulkinvite/postgres/postgrestest"
	"bulkinvite/ratelimit"
)

// BenchmarkClaimsWhileStarting starts a draft of 1,000,000 rows and measures how long claims wait meanwhile. A claim
// begins with the locks of the create and bulk buckets; here a transaction takes them each 5 ms and gives them back.
//
//	go test ./jobs -run '^$' -bench ClaimsWhileStarting -benchtime 1x
func BenchmarkClaimsWhileStarting(b *testing.B) {
	const rows = 1_000_000
	for b.Loop() {
		b.StopTimer()
		pool := postgrestest.New(b)
		store := invitation.NewStore(pool)
		instance, err := store.EnsureInstance(b.Context(), "ins_test", "production")
		must.OK(b, err)
		var id int64
		err = pool.QueryRow(b.Context(), `
			with b as (
				insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns,
					actor, state, rows)
				values ($1, 'people.csv', '', 0, '', '', '{email}', 'test', 'draft', $2) returning id)
			insert into results (batch_id, instance_id, row_number, line, original, email, key)
			select b.id, $1, n, n + 1, array[p], p, p from b, generate_series(1, $2) n, format('person%s@example.com', n) p
			returning batch_id`, instance.ID, rows).Scan(&id)
		must.OK(b, err)
		draft, err := store.Batch(b.Context(), id)
		must.OK(b, err)
		ctx, stop := context.WithCancel(b.Context())
		waits := make(chan time.Duration, 1)
		go func() {
			var longest time.Duration
			for sleep(ctx, 5*time.Millisecond) == nil {
				began := time.Now()
				err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error {
					return ratelimit.Lock(b.Context(), tx, instance.ID, ratelimit.Create, ratelimit.Bulk)
				})
				if err != nil {
					b.Error(err)
				}
				longest = max(longest, time.Since(began))
			}
			waits <- longest
		}()
		b.StartTimer()
		began := time.Now()
		terms := StartTerms{Consent: invitation.Consent{All: true}}
		must.OK(b, StartDraft(b.Context(), pool, draft, "test", terms))
		took := time.Since(began)
		b.StopTimer()
		stop()
		b.ReportMetric(took.Seconds(), "s/start")
		b.ReportMetric(float64((<-waits).Milliseconds()), "ms/longest-claim")
		var jobs int
		err = pool.QueryRow(b.Context(), `select count(*) from river_job`).Scan(&jobs)
		if err != nil || jobs != rows {
			b.Fatalf("%d jobs for %d rows: %v", jobs, rows, err)
		}
		b.StartTimer()
	}
}
