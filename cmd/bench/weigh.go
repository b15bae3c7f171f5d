package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// weight is what importing and inviting leaves on the disk, in bytes a row.
type weight struct {
	wal    int            // written ahead, from before the import on
	tables map[string]int // with their indexes and large values, after a vacuum; those of less than a byte are left out
}

// firstWeights are what the first measurement found, of 20,000 rows, on 26 November
// 2026: what later ones are to halve.
var firstWeights = map[string]weight{
	"bulk calls, 1 process":   {wal: 6561, tables: map[string]int{"results": 896, "attempts": 69, "attempt_people": 785, "river_job": 1221, "": 49}},
	"single calls, 1 process": {wal: 7749, tables: map[string]int{"results": 845, "attempts": 682, "attempt_people": 625, "river_job": 1143, "": 49}},
}

const leastLighter = 0.5 // of the first measurement

// weighed are the tables that grow with the rows, in the order of a report.
var weighed = []string{"results", "attempts", "attempt_people", "river_job"}

// disk is what all tables hold.
func (w weight) disk() int {
	sum := 0
	for _, n := range w.tables {
		sum += n
	}
	return sum
}

func (w weight) String() string {
	parts := []string{fmt.Sprintf("bytes a row: %s of WAL, %s of disk", grouped(w.wal), grouped(w.disk()))}
	for _, name := range weighed {
		parts = append(parts, name+" "+grouped(w.tables[name]))
	}
	return strings.Join(parts, ", ")
}

// weightTable sets what was found beside the first measurement.
func (b *invites) weightTable() string {
	lines := [][]string{{"bytes a row", "WAL", "disk"}, {"---", "--:", "--:"}}
	for _, name := range weighed {
		lines[0], lines[1] = append(lines[0], name), append(lines[1], "--:")
	}
	line := func(what string, w weight) {
		cells := []string{what, grouped(w.wal), grouped(w.disk())}
		for _, name := range weighed {
			cells = append(cells, grouped(w.tables[name]))
		}
		lines = append(lines, cells)
	}
	for _, r := range waysOf(0) {
		first, ok := firstWeights[r.name]
		if !ok {
			continue
		}
		now := b.weights[r.name]
		line(r.name+", first", first)
		line(r.name+", now", now)
		share := func(now, first int) string {
			part := float64(now) / float64(first)
			text := fmt.Sprintf("%.2f", part)
			if part > leastLighter {
				text += fmt.Sprintf(", and should be %.2f", leastLighter)
			}
			return text
		}
		cells := []string{"of the first", share(now.wal, first.wal), share(now.disk(), first.disk())}
		for _, name := range weighed {
			cells = append(cells, fmt.Sprintf("%.2f", float64(now.tables[name])/float64(first.tables[name])))
		}
		lines = append(lines, cells)
	}
	return table(lines)
}

// written says how much WAL the server has written, in bytes.
func (s *stage) written(ctx context.Context) (n int64, err error) {
	if err := s.pool.QueryRow(ctx, `select (pg_current_wal_lsn() - '0/0')::bigint`).Scan(&n); err != nil {
		return 0, fmt.Errorf("look how much WAL there is: %w", err)
	}
	return n, nil
}

// weigh says what is on the disk of so many rows. began is how much WAL there was
// before them.
func (s *stage) weigh(ctx context.Context, began int64, people int) (w weight, err error) {
	ended, err := s.written(ctx)
	if err != nil {
		return w, err
	}
	w.wal, w.tables = int(ended-began)/people, map[string]int{}
	if _, err := s.pool.Exec(ctx, `vacuum`); err != nil {
		return w, fmt.Errorf("vacuum: %w", err)
	}
	rows, _ := s.pool.Query(ctx, `select c.relname, pg_total_relation_size(c.oid) from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace`)
	var name string
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&name, &size}, func() error {
		if n := int(size) / people; n > 0 {
			w.tables[name] = n
		}
		return nil
	})
	if err != nil {
		return w, fmt.Errorf("weigh the tables: %w", err)
	}
	return w, nil
}

// largest prints which tables and indexes are large.
func (s *stage) largest(ctx context.Context, people int) error {
	rows, _ := s.pool.Query(ctx, `select relname, pg_relation_size(oid) from pg_class where relkind in ('r', 'i', 't') and pg_relation_size(oid) > 8 * $1::int order by 2 desc`, people)
	var name string
	var size int64
	_, err := pgx.ForEachRow(rows, []any{&name, &size}, func() error {
		fmt.Printf("    %8s bytes a row  %s\n", grouped(int(size)/people), name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look which relations are large: %w", err)
	}
	return nil
}
