package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	domain "bulkinvite/invitation"
	"bulkinvite/migrations"
)

// auditLines are those of questions put to a large database, in the order in
// which they run.
var auditLines = []line{
	{"small", "100,000 rows in 200 batches and 120,000 attempts: a person, a batch and its pages in 50 ms, an actor's month in 1 s", func(ctx context.Context, s *show) error { return s.audit(ctx, 100_000) }},
	{"million", "the same of 1,000,000 rows and 1,200,000 attempts", func(ctx context.Context, s *show) error { return s.audit(ctx, 1_000_000) }},
	{"ten-million", "the same of 10,000,000 rows and 12,000,000 attempts", func(ctx context.Context, s *show) error { return s.audit(ctx, 10_000_000) }},
}

// The database of a show: as many batches, of which each of as many people sent
// one in each of as many months.
const (
	auditBatches = 200
	auditActors  = 10
	auditMonths  = 20
	auditAsked   = 25 // how often a question is asked, of another person or batch each time
)

// fillAudit fills the database with rows of batches that have ended long ago, as
// if one attempt had invited each person, and every fifth had needed another; one
// in five hundred is still pending. Each row of a batch lies on a page of its own:
// no import leaves them so far apart, and nothing is slower to read. Indexes that begin
// with the batch are in order, as imports fill them. Nothing looks at what is written
// while it is.
const fillAudit = `
set session_replication_role = replica;
insert into batches (id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows, created_at, started_at, finished_at) overriding system value
	select b, 1, 'file-' || b || '.csv', sha256(b::text::bytea), 1000, 'UTF-8', ',', '{email,Name}', 'actor' || b %% %[2]d, 'done', %[1]d,
	       timestamptz '2025-01-05Z' + (b / %[2]d %% %[3]d) * interval '1 month', timestamptz '2025-01-05Z' + (b / %[2]d %% %[3]d) * interval '1 month', timestamptz '2025-01-06Z' + (b / %[2]d %% %[3]d) * interval '1 month'
	from generate_series(1, %[4]d) b;
insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, clerk_invitation_id, attempt_id, decided_at, status, status_at, invited_at)
	select b.id, n, 1, n + 1, array['p' || b.id || '-' || n || '@example.com', 'Name ' || n], 'p' || b.id || '-' || n || '@example.com', 'p' || b.id || '-' || n || '@example.com',
	       'invited', 'inv_' || b.id || '_' || n, (b.id - 1) * %[1]d::bigint + n, b.started_at + n * interval '1 ms', case when n %% 500 = 0 then 'pending' else 'accepted' end, b.started_at, b.started_at
	from batches b cross join generate_series(1, %[1]d) n;
insert into attempts (id, instance_id, bucket, call, worker_id, started_at, deadline, answered_at, http_status, trace_id, resolved_at, resolution) overriding system value
	select a, 1, 'create', 'create', 'w', timestamptz '2025-01-05Z' + a * interval '1 ms', timestamptz '2025-01-05Z' + a * interval '1 ms', timestamptz '2025-01-05Z' + a * interval '1 ms', 200, 'trace_' || a, timestamptz '2025-01-05Z', 'answered'
	from generate_series(1, %[5]d) a;
insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, clerk_invitation_id, closed_at, resolution)
	select attempt_id, 1, key, batch_id, row_number, false, 'created', clerk_invitation_id, decided_at, 'answered' from results
	union all
	select %[1]d::bigint * %[4]d + ((batch_id - 1) * %[1]d + row_number) / 5, 1, key, batch_id, row_number, false, null, null, decided_at, 'not_there' from results where row_number %% 5 = 0;
insert into events (instance_id, batch_id, actor, action, at)
	select 1, id, actor, 'imported', created_at from batches union all select 1, null, 'actor' || n %% %[2]d, 'swept', timestamptz '2025-01-05Z' + n * interval '1 min' from generate_series(1, 100000) n;
set session_replication_role = origin;
reindex index results_outcome;
reindex index results_status;
`

// audit fills a database and asks it what auditors ask. The time is that of the
// question itself, over a connection that is there.
func (s *show) audit(ctx context.Context, rows int) error {
	return s.on(ctx, conditions{mode: "sliding", window: scaled}, func(st *stage) error {
		if err := migrations.Up(ctx, st.pool); err != nil {
			return err
		}
		if _, err := st.pool.Exec(ctx, `insert into instances (clerk_id, environment) values ('ins_audit', 'production')`); err != nil {
			return err
		}
		each := rows / auditBatches
		if _, err := st.pool.Exec(ctx, fmt.Sprintf(fillAudit, each, auditActors, auditMonths, auditBatches, rows+rows/5), pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("fill the database: %w", err)
		}
		if _, err := st.pool.Exec(ctx, `vacuum analyze`); err != nil {
			return err
		}
		if err := s.askAudit(ctx, domain.NewReader(st.pool), rows, each); err != nil {
			return err
		}
		if err := s.planAudit(ctx, st.pool); err != nil {
			return err
		}
		return s.tendAudit(ctx, st.pool)
	})
}

// planAudit has PostgreSQL plan the questions of docs/audit.md, but for those that
// are about all rows: of these testdata/audit-plans.golden says so.
func (s *show) planAudit(ctx context.Context, pool *pgxpool.Pool) error {
	page, err := os.ReadFile("docs/audit.md")
	if err != nil {
		return err
	}
	golden, err := os.ReadFile("testdata/audit-plans.golden")
	if err != nil {
		return err
	}
	whole := regexp.MustCompile(`Seq Scan on (results|attempts|attempt_people|reads|sightings|events)\b`)
	planned, wrong := 0, []string{}
	questions := regexp.MustCompile("(?s)### (\\d+\\. [^\n]+)\n.*?```sql\n(.*?)```")
	for _, q := range questions.FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(string(golden), q[1]+"\n    asks about all") {
			continue
		}
		rows, _ := pool.Query(ctx, "explain (costs off) "+q[2], pgx.QueryExecModeSimpleProtocol)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("plan %s: %w", q[1], err)
		}
		planned++
		if read := whole.FindString(strings.Join(plan, "\n")); read != "" {
			wrong = append(wrong, q[1]+": "+read)
		}
	}
	s.verdict(planned > 0 && len(wrong) == 0, "plans of docs/audit.md", "no large table read whole", strings.Join(append([]string{fmt.Sprintf("%d planned", planned)}, wrong...), "; "))
	return nil
}

// tendAudit measures what keeping the largest table in order takes: a vacuum of
// results after one status in thirty has changed, which changes indexes too.
func (s *show) tendAudit(ctx context.Context, pool *pgxpool.Pool) error {
	const most = time.Minute
	changed, err := pool.Exec(ctx, `update results set status = 'expired' where row_number % 30 = 1`)
	if err != nil {
		return fmt.Errorf("have statuses change: %w", err)
	}
	began := time.Now()
	if _, err := pool.Exec(ctx, `vacuum results`); err != nil {
		return err
	}
	took := time.Since(began)
	var heap, indexes int64
	if err := pool.QueryRow(ctx, `select pg_table_size('results'), pg_indexes_size('results')`).Scan(&heap, &indexes); err != nil {
		return err
	}
	s.verdict(took < most, "a vacuum of results", fmt.Sprintf("under %s", most),
		fmt.Sprintf("%.1f s after %s rows changed; %s MiB of rows, %s MiB of indexes", took.Seconds(), grouped(int(changed.RowsAffected())), grouped(int(heap>>20)), grouped(int(indexes>>20))))
	return nil
}

// askAudit asks each question so often, and holds the slowest against what it may take.
func (s *show) askAudit(ctx context.Context, r *domain.Reader, rows, each int) error {
	key := func(i int) string {
		return fmt.Sprintf("p%d-%d@example.com", 1+i*7%auditBatches, 1+i*7919%each)
	}
	batch := func(i int) int64 { return int64(1 + i*7%auditBatches) }
	expect := func(got, want int, err error) error {
		if err == nil && got != want {
			err = fmt.Errorf("it answers with %d, not %d", got, want)
		}
		return err
	}
	count := func(f domain.AuditFilter) (n int, err error) {
		err = r.Audit(ctx, f, func(*domain.AuditRow) error { n++; return nil })
		return n, err
	}
	for _, q := range []struct {
		what string
		most time.Duration
		ask  func(i int) error
	}{
		{"why EMAIL", 50 * time.Millisecond, func(i int) error {
			story, err := r.Why(ctx, key(i))
			if err != nil {
				return err
			}
			return expect(len(story.Rows), 1, nil)
		}},
		{"audit --email", 50 * time.Millisecond, func(i int) error {
			n, err := count(domain.AuditFilter{Key: key(i)})
			return expect(n, 1, err)
		}},
		{"audit --trace", 50 * time.Millisecond, func(i int) error {
			n, err := count(domain.AuditFilter{Trace: fmt.Sprintf("trace_%d", 1+i*104729%rows)})
			return expect(n, 1, err)
		}},
		{"a batch's counts", 50 * time.Millisecond, func(i int) error {
			t, err := r.Tally(ctx, batch(i))
			return expect(t.Rows(), each, err)
		}},
		{"a page of its rows", 50 * time.Millisecond, func(i int) error {
			p, err := r.Page(ctx, batch(i), domain.RowFilter{After: each * i / (2 * auditAsked), Limit: 50})
			return expect(len(p.Rows), 50, err)
		}},
		{"an actor's month", time.Second, func(i int) error {
			month := time.Date(2025, time.January+time.Month(i%auditMonths), 1, 0, 0, 0, 0, time.UTC)
			actor := fmt.Sprintf("actor%d", i%auditActors)
			n, err := count(domain.AuditFilter{Actor: actor, Since: month, Until: month.AddDate(0, 1, 0)})
			return expect(n, each*auditBatches/auditMonths/auditActors, err)
		}},
	} {
		if err := q.ask(0); err != nil { // the first one also plans
			return fmt.Errorf("%s: %w", q.what, err)
		}
		var slowest, sum time.Duration
		for i := range auditAsked {
			began := time.Now()
			if err := q.ask(i); err != nil {
				return fmt.Errorf("%s: %w", q.what, err)
			}
			took := time.Since(began)
			slowest, sum = max(slowest, took), sum+took
		}
		s.verdict(slowest < q.most, q.what, fmt.Sprintf("under %s", q.most),
			fmt.Sprintf("%.1f ms at most, %.1f ms on average, of %d", float64(slowest)/1e6, float64(sum)/1e6/auditAsked, auditAsked))
	}
	return nil
}
