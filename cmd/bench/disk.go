package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// footprint is how much a database's tables take, with their indexes, and how
// far PostgreSQL's write-ahead log is.
type footprint struct {
	log    int64
	tables map[string]int64
}

// footprintOf looks at both. The log is the whole server's: nothing else may run
// on it while something is measured. Where clean is set, a vacuum comes between
// the two, as PostgreSQL makes it by itself before long: what that writes down is
// not of the rows.
func footprintOf(ctx context.Context, pool *pgxpool.Pool, clean bool) (footprint, error) {
	f := footprint{tables: map[string]int64{}}
	if err := pool.QueryRow(ctx, `select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`).Scan(&f.log); err != nil {
		return f, fmt.Errorf("look how far the log is: %w", err)
	}
	if clean {
		if _, err := pool.Exec(ctx, `vacuum`); err != nil {
			return f, fmt.Errorf("vacuum: %w", err)
		}
	}
	rows, _ := pool.Query(ctx, `select relname, pg_total_relation_size(oid) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'`)
	var table string
	var bytes int64
	_, err := pgx.ForEachRow(rows, []any{&table, &bytes}, func() error {
		f.tables[table] = bytes
		return nil
	})
	if err != nil {
		return f, fmt.Errorf("look what the tables take: %w", err)
	}
	return f, nil
}

// since is what has come to it since an earlier look.
func (f footprint) since(before footprint) footprint {
	grown := footprint{log: f.log - before.log, tables: map[string]int64{}}
	for table, bytes := range f.tables {
		grown.tables[table] = bytes - before.tables[table]
	}
	return grown
}

// disk is what all tables take together.
func (f footprint) disk() float64 {
	var sum int64
	for _, bytes := range f.tables {
		sum += bytes
	}
	return float64(sum)
}

func (f footprint) wal() float64 { return float64(f.log) }

// firstMeasured is what importing a row and inviting its person took in the first
// measurement, of 20,000 rows, by calls: the one figure that is written down, for
// later programs can't measure it. They are to halve it.
var firstMeasured = map[string]footprint{
	bulkCalls:   {6561, map[string]int64{"results": 896, "attempts": 69, "attempt_people": 785, "river_job": 1221, "": 49}},
	singleCalls: {7749, map[string]int64{"results": 845, "attempts": 682, "attempt_people": 625, "river_job": 1143, "": 49}},
}

const firstText = "The first measurement is of commit 48fe95e, on 26 November 2026, by `go run ./cmd/bench invite -rows 20000`. It is the one\nfigure that is written down: later programs can't measure it."

// weighed are the tables that grow with the rows, in the order of a report.
var weighed = []string{"results", "attempts", "attempt_people", "river_job"}
