package jobs

import (
	"testing"
	"time"

	"bulkinvite/clerk/sandbox"
)

func TestTrace(t *testing.T) {
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: 100, Window: 6 * time.Second}, Bulk: sandbox.Limit{N: 25, Window: 6 * time.Second}}})
	batch := b.batch(1000, person)
	b.run(b.worker(Config{Create: scaled.create, Bulk: scaled.bulk}), batch)
	rows, _ := b.pool.Query(t.Context(), `select bucket, width_bucket(extract(epoch from started_at - (select min(started_at) from attempts)), 0, 16, 160)/10.0, count(*), round(avg(extract(epoch from answered_at-started_at))*1000) from attempts group by 1,2 order by 2,1`)
	for rows.Next() {
		var s string
		var a, ms float64
		var n int
		if err := rows.Scan(&s, &a, &n, &ms); err != nil {
			t.Fatal(err)
		}
		t.Log(s, a, n, ms)
	}
	rows, _ = b.pool.Query(t.Context(), `select state, attempt, metadata::text, count(*) from river_job group by 1,2,3 order by 4 desc limit 10`)
	for rows.Next() {
		v, _ := rows.Values()
		t.Log(v...)
	}
}
