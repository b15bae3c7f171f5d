package repository_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/postgres/postgrestest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// planned fills a database with 40,000 rows in 100 batches, an attempt for each person, a second
// attempt for every fifth, and events. It is large enough that PostgreSQL uses an index for a
// question if there is a suitable one.
const planned = `
insert into instances (clerk_id, environment) values ('ins_1', 'production');
insert into batches (id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows, created_at, started_at, finished_at) overriding system value
	select b, 1, 'file-' || b || '.csv', sha256(b::text::bytea), 1000, 'UTF-8', ',', '{email,Department}', 'actor' || b % 10, 'done', 400,
	       at, at, at + interval '1 day' from generate_series(1, 100) b, lateral (select timestamptz '2025-01-05Z' + b * interval '5 days' as at) m;
insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, clerk_invitation_id, attempt_id, decided_at, status, status_at, invited_at)
	select b.id, n, 1, n + 1, array[address, 'Sales'], address, address, case when n % 100 = 0 then 'rejected' else 'invited' end, 'inv_' || b.id || '_' || n,
	       (b.id - 1) * 400 + n, b.started_at + n * interval '1 s', case when n % 100 = 0 then null when n % 50 = 0 then 'pending' else 'accepted' end, b.started_at, b.started_at
	from batches b, generate_series(1, 400) n, lateral (select 'p' || b.id || '-' || n || '@example.com' as address) m;
insert into attempts (id, instance_id, bucket, call, worker_id, started_at, deadline, answered_at, http_status, trace_id, resolved_at, resolution) overriding system value
	select a, 1, 'create', 'create', 'w', at, at, at, 200, 'trace_' || a, at, 'answered' from generate_series(1, 48000) a, lateral (select timestamptz '2025-01-05Z' + a * interval '15 min' as at) m;
insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, clerk_invitation_id, closed_at, resolution)
	select attempt_id, 1, key, batch_id, row_number, false, 'created', clerk_invitation_id, decided_at, 'answered' from results
	union all
	select 40000 + attempt_id / 5, 1, key, batch_id, row_number, false, null, null, decided_at, 'not_there' from results where row_number % 5 = 0;
insert into events (instance_id, batch_id, actor, action, at)
	select 1, id, actor, 'imported', created_at + n * interval '1 min' from batches, generate_series(1, 200) n;
`

// large has the tables that grow with people and requests.
var large = []string{"results", "attempts", "attempt_people", "reads", "sightings", "events"}

// aboutAll has the questions that must read a whole large table, because they are about all of it.
// By number of the question, with what it asks about.
var aboutAll = map[string]string{
	"6":  "whether every row has its proof",
	"7":  "whether every invitation has its row",
	"8":  "whether every batch has its rows",
	"9":  "everybody's invitations",
	"13": "every request of each hour",
	"16": "everybody who was invited",
	"21": "all rows, for those that were erased; it is asked seldom, and an index for it would have to be kept with each outcome",
}

// TestPlansOfTheAuditPage lets PostgreSQL plan each question. A plan may read a whole large table
// only if the question is in aboutAll. testdata/audit-plans.golden has the indexes that the plans
// use; go test -run TestPlansOfTheAuditPage -update . writes it.
func TestPlansOfTheAuditPage(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	postgrestest.Plant(t, pool, planned, pgx.QueryExecModeSimpleProtocol)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// Statistics of every row: a random sample would differ from run to run.
	for _, sql := range []string{`set default_statistics_target = 1000`, `vacuum analyze`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	index := regexp.MustCompile(`(?:Scan using|Bitmap Index Scan on) (\w+)`)
	whole := regexp.MustCompile(`Seq Scan on (\w+)`)
	var out strings.Builder
	for _, q := range auditQuestions(t) {
		rows, _ := conn.Query(t.Context(), "explain (costs off) "+q[4], pgx.QueryExecModeSimpleProtocol)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Errorf("%s. %s: %v", q[1], q[2], err)
			continue
		}
		text := strings.Join(plan, "\n")
		var reads []string
		for _, m := range index.FindAllStringSubmatch(text, -1) {
			if slices.ContainsFunc(large, func(table string) bool { return strings.HasPrefix(m[1], table+"_") }) {
				reads = append(reads, "    by "+m[1]+"\n")
			}
		}
		for _, m := range whole.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(large, m[1]) {
				continue
			}
			reads = append(reads, "    all of "+m[1]+"\n")
			if aboutAll[q[1]] == "" {
				t.Errorf("%s. %s: reads all of %s:\n%s", q[1], q[2], m[1], text)
			}
		}
		slices.Sort(reads)
		fmt.Fprintf(&out, "%s. %s\n", q[1], q[2])
		if why := aboutAll[q[1]]; why != "" {
			fmt.Fprintf(&out, "    asks about all: %s\n", why)
		}
		out.WriteString(strings.Join(slices.Compact(reads), ""))
	}
	const golden = "test/repository/testdata/audit-plans.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the plans are\n%s\nwant\n%s", out.String(), want)
	}
}
