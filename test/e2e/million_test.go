//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/report"
	"bulkinvite/internal/rig"
)

const million = 1_000_000

// fillMillion makes a running batch of a million rows, most of them decided, as if workers had run
// for months. Of each hundred rows 60 are invited, and a third of those people have accepted.
const fillMillion = `
insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows,
	                 started_at, judged_from)
	select instance_id, 'million.csv', '\x00', 1, 'UTF-8', ',', '{email,name}', actor, 'running', 1000000,
	       now() - interval '60 days', now()
	from batches where id = 1;
insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, reason, duplicate_of,
	                 clerk_invitation_id, status, status_at, invited_at, decided_at)
	select 2, n, 1, n + 1, array[e, 'Somebody'], e, e, o,
	       case o when 'invalid' then (array['no_at', 'no_dot_domain', 'missing_email'])[1 + n % 3]
	              when 'rejected' then 'form_param_format_invalid' end,
	       case o when 'duplicate_row' then 1 end,
	       case when o = 'invited' then 'inv_' || n end,
	       case when o = 'invited' then
	            case when n % 10000 = 7 then 'revoked' when n % 3 = 0 then 'accepted' else 'pending' end end,
	       case when o = 'invited' then at end, case when o = 'invited' then at end, case when o is not null then at end
	from (select n, 'p' || lpad(n::text, 7, '0') || '@example.com' as e,
	             now() - interval '60 days' + n * interval '5 seconds' as at,
	             case when n % 100 < 60 then 'invited' when n % 100 < 63 then 'already_registered'
	                  when n % 100 < 65 then 'invalid' when n % 100 = 65 then 'duplicate_row'
	                  when n % 10000 = 66 then 'rejected' end as o
	      from generate_series(1, 1000000) n) r;
`

// asked has the pages to read. Each page must contain says, so that an empty page does not count as
// a fast one.
var asked = []struct{ where, path, says string }{
	{"list of batches", "/", "million.csv"},
	{"page of the batch", "/batches/2", "p0000001@example.com"},
	{"rows, the last", "/batches/2/rows?after=999950", "p1000000@example.com"},
	{"outcome, common", "/batches/2/rows?outcome=invited", "p0000001@example.com"},
	{"outcome, rare", "/batches/2/rows?outcome=rejected", "p0000066@example.com"},
	{"outcome, none", "/batches/2/rows?outcome=failed", "No row is like that"},
	{"undecided", "/batches/2/rows?outcome=undecided", "p0000067@example.com"},
	{"status, rare", "/batches/2/rows?status=revoked", "p0010007@example.com"},
	{"status and outcome", "/batches/2/rows?outcome=invited&status=accepted&after=900000", "p0900003@example.com"},
	{"problems by kind", "/batches/2/problems?code=no_at", "Somebody"},
	{"search, an address", "/batches/2/rows?q=p0999999@example.com", "p0999999@example.com"},
	{"search, a few", "/batches/2/rows?q=p09999", "p0999900@example.com"},
	{"search, everybody", "/batches/2/rows?q=p", "p0000001@example.com"},
	{"search, a rare outcome", "/batches/2/rows?q=p09&outcome=rejected", "p0900066@example.com"},
	{"search, an invitation", "/batches/2/rows?q=inv_999959", "p0999959@example.com"},
	{"search, a row", "/batches/2/rows?q=777777", "p0777777@example.com"},
	{"people", "/people?q=p0999", "p0999000@example.com"},
	{"a row's story", "/batches/2/rows/500001", "p0500001@example.com"},
}

// TestMillionRows checks the pages of a batch of 1,000,000 rows: each page takes less than 100 ms,
// one live page costs less than 1 % of a core, 200 live pages work at the same time, and writing
// the results needs little memory.
func TestMillionRows(t *testing.T) {
	s := on(t, rig.Conditions{Mode: "sliding", Window: time.Hour})
	must(t, s.Import(s.ctx, rig.Crowd("small", 3)))
	s.exec(fillMillion, pgx.QueryExecModeSimpleProtocol)
	s.exec(`vacuum analyze`)       // autovacuum does this some time after such an import
	page, err := s.Serve(s.ctx, 8) // each operator may watch 32 batches
	must(t, err)
	t.Run("pages", func(t *testing.T) { s.askPages(t, page) })
	t.Run("one watches", func(t *testing.T) { s.watchOne(t, page) })
	t.Run("200 watch", func(t *testing.T) { s.watchMany(t, page) })
	t.Run("results", s.writeResults)
}

func (s *stage) askPages(t *testing.T, page *rig.Page) {
	const times, most = 100, 100 * time.Millisecond
	for _, a := range asked {
		_, body, err := page.Get(s.ctx, a.path)
		must(t, err)
		if !strings.Contains(body, a.says) {
			t.Errorf("%s does not say %q", a.path, a.says)
		}
		var all []time.Duration
		for range times {
			took, _, err := page.Get(s.ctx, a.path)
			must(t, err)
			all = append(all, took)
		}
		slices.Sort(all)
		half, slow := all[times/2], all[times-1-times/100]
		t.Logf("%-24s half within %s, 99 of 100 within %s", a.where, half, slow)
		if slow >= most {
			t.Errorf("%s: 99 of 100 within %s, want %s", a.where, slow, most)
		}
	}
}

// watchPage follows the batch's live page until a line contains text.
func watchPage(ctx context.Context, page *rig.Page, operator int, text string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page.URL+"/batches/2/live", nil)
	if err != nil {
		return err
	}
	answer, err := page.Clients[operator].Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close() // it was only read
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("watch: %s", answer.Status)
	}
	lines := bufio.NewReader(answer.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		if strings.Contains(line, text) {
			return nil
		}
	}
}

// watchOne measures the server's CPU while one live page is open and a row is decided each second.
func (s *stage) watchOne(t *testing.T, page *rig.Page) {
	const long = 30
	watching, stop := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() { ended <- watchPage(watching, page, 0, "nothing says this") }()
	s.sleep(5 * time.Second) // time for the first update
	before, err := rig.CPUTime(page.Server.PID())
	must(t, err)
	for i := range long {
		s.exec(`
			update results set outcome = 'cancelled', decided_at = now() where batch_id = 2 and row_number = $1`, 67+100*i)
		s.sleep(time.Second)
	}
	after, err := rig.CPUTime(page.Server.PID())
	must(t, err)
	select {
	case err := <-ended:
		t.Errorf("it stopped watching: %v", err)
	default:
	}
	stop()
	if share := 100 * (after - before).Seconds() / long; share >= 1 {
		t.Errorf("%.2f %% of a core, want less than 1", share)
	}
}

// watchMany opens 200 live pages and pauses the batch. Every page must show that in time.
func (s *stage) watchMany(t *testing.T, page *rig.Page) {
	const watching, most = 200, 30 * time.Second
	ctx, stop := context.WithTimeout(s.ctx, 2*time.Minute)
	defer stop()
	saw := make(chan error, watching)
	for i := range watching {
		go func() { saw <- watchPage(ctx, page, i%len(page.Clients), `data-state="paused"`) }()
	}
	s.sleep(5 * time.Second)
	began := time.Now()
	s.exec(`update batches set state = 'paused', paused_by = 'person' where id = 2`)
	for range watching {
		if err := <-saw; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took >= most {
		t.Errorf("all saw the pause after %s, want %s", took, most)
	}
}

// writeResults checks the number of lines and the memory of writing all results to a file.
func (s *stage) writeResults(t *testing.T) {
	const most = 64 << 20
	path := filepath.Join(s.Dir, "results.csv")
	out, err := os.Create(path)
	must(t, err)
	log := filepath.Join(s.Dir, "results.log")
	p, err := rig.Launch(s.ctx, s.Rig.Binary, s.Env, log, out, "results", "2", "--format=csv")
	must(t, err)
	memory, err := rig.PeakMemory(p)
	must(t, err)
	must(t, p.Wait(s.ctx))
	_, err = out.Seek(0, io.SeekStart)
	must(t, err)
	lines := 0
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		lines++
	}
	must(t, out.Close())
	if lines != million+1 || memory > most {
		t.Errorf("%d lines, and %d MiB of memory; want %d and at most %d", lines, memory>>20, million+1, most>>20)
	}
}

// Size of the database for the audit questions: batches that ended long ago, one for each actor in
// each month.
const auditBatches, auditActors, auditMonths, auditRows = 200, 10, 20, million / 200

// fillAudit fills that database as if one attempt had invited each person, and every fifth person
// had needed a second one. Each row of a batch is on a page of its own. No import spreads rows so
// far apart, so this is the slowest layout to read. Indexes that begin with the batch are in order,
// as imports fill them.
const fillAudit = `
set session_replication_role = replica;
insert into instances (clerk_id, environment) values ('ins_audit', 'production');
insert into batches (id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state,
	                 rows, created_at, started_at, finished_at) overriding system value
	select b, 1, 'file-' || b || '.csv', sha256(b::text::bytea), 1000, 'UTF-8', ',', '{email,Name}',
	       'actor' || b %% %[2]d, 'done', %[1]d, at, at, at + interval '1 day'
	from generate_series(1, %[4]d) b,
	     lateral (select timestamptz '2025-01-05Z' + (b / %[2]d %% %[3]d) * interval '1 month' as at) m;
insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, clerk_invitation_id,
	                 attempt_id, decided_at, status, status_at, invited_at)
	select b.id, n, 1, n + 1, array[e, 'Name ' || n], e, e, 'invited', 'inv_' || b.id || '_' || n,
	       (b.id - 1) * %[1]d::bigint + n, b.started_at + n * interval '1 ms',
	       case when n %% 500 = 0 then 'pending' else 'accepted' end, b.started_at, b.started_at
	from batches b cross join generate_series(1, %[1]d) n,
	     lateral (select 'p' || b.id || '-' || n || '@example.com' as e) m;
insert into attempts (id, instance_id, bucket, call, worker_id, started_at, deadline, answered_at, http_status,
	                  trace_id, resolved_at, resolution) overriding system value
	select a, 1, 'create', 'create', 'w', at, at, at, 200, 'trace_' || a, at, 'answered'
	from generate_series(1, %[1]d * %[4]d * 6 / 5) a,
	     lateral (select timestamptz '2025-01-05Z' + a * interval '1 ms' as at) m;
insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, clerk_invitation_id,
	                        closed_at, resolution)
	select attempt_id, 1, key, batch_id, row_number, false, 'created', clerk_invitation_id, decided_at, 'answered'
	from results
	union all
	select %[1]d::bigint * %[4]d + ((batch_id - 1) * %[1]d + row_number) / 5, 1, key, batch_id, row_number, false,
	       null, null, decided_at, 'not_there'
	from results where row_number %% 5 = 0;
insert into events (instance_id, batch_id, actor, action, at)
	select 1, id, actor, 'imported', created_at from batches
	union all
	select 1, null, 'actor' || n %% %[2]d, 'swept', timestamptz '2025-01-05Z' + n * interval '1 min'
	from generate_series(1, 100000) n;
set session_replication_role = origin;
reindex index results_outcome;
reindex index results_status;
`

// TestAuditMillion measures audit questions about 1,000,000 rows and 1,200,000 attempts. A person,
// a request or a batch must take less than 50 ms, an actor's month less than 1 s.
func TestAuditMillion(t *testing.T) {
	s := on(t, rig.Conditions{Mode: "sliding", Window: window})
	fill := fmt.Sprintf(fillAudit, auditRows, auditActors, auditMonths, auditBatches)
	s.exec(fill, pgx.QueryExecModeSimpleProtocol)
	s.exec(`vacuum analyze`)
	key := func(i int) string {
		return fmt.Sprintf("p%d-%d@example.com", 1+i*7%auditBatches, 1+i*7919%auditRows)
	}
	batch := func(i int) int64 { return int64(1 + i*7%auditBatches) }
	count := func(f report.AuditFilter) (n int, err error) {
		err = report.Audit(s.ctx, s.Pool, f, func(*report.AuditRow) error { n++; return nil })
		return n, err
	}
	const times = 25 // of another person or batch each time
	for _, q := range []struct {
		what string
		want int
		most time.Duration
		ask  func(i int) (int, error)
	}{
		{"why EMAIL", 1, 50 * time.Millisecond, func(i int) (int, error) {
			story, err := report.Why(s.ctx, s.Pool, key(i))
			if err != nil {
				return 0, err
			}
			return len(story.Rows), nil
		}},
		{"audit --email", 1, 50 * time.Millisecond, func(i int) (int, error) {
			return count(report.AuditFilter{Key: key(i)})
		}},
		{"audit --trace", 1, 50 * time.Millisecond, func(i int) (int, error) {
			return count(report.AuditFilter{Trace: fmt.Sprintf("trace_%d", 1+i*104729%million)})
		}},
		{"a batch's counts", auditRows, 50 * time.Millisecond, func(i int) (int, error) {
			t, err := report.Tally(s.ctx, s.Pool, batch(i))
			return t.Rows(), err
		}},
		{"a page of its rows", 50, 50 * time.Millisecond, func(i int) (int, error) {
			p, err := report.ReadPage(s.ctx, s.Pool, batch(i), report.RowFilter{After: auditRows * i / (2 * times), Limit: 50})
			return len(p.Rows), err
		}},
		{"an actor's month", auditRows * auditBatches / auditMonths / auditActors, time.Second, func(i int) (int, error) {
			month := time.Date(2025, time.January+time.Month(i%auditMonths), 1, 0, 0, 0, 0, time.UTC)
			actor := fmt.Sprintf("actor%d", i%auditActors)
			return count(report.AuditFilter{Actor: actor, Since: month, Until: month.AddDate(0, 1, 0)})
		}},
	} {
		var slowest time.Duration
		for i := range times + 1 {
			began := time.Now()
			got, err := q.ask(max(0, i-1))
			must(t, err)
			if got != q.want {
				t.Fatalf("%s answers with %d, want %d", q.what, got, q.want)
			}
			if i > 0 { // the first query also plans
				slowest = max(slowest, time.Since(began))
			}
		}
		t.Logf("%-20s within %s", q.what, slowest)
		if slowest >= q.most {
			t.Errorf("%s took %s, want less than %s", q.what, slowest, q.most)
		}
	}
}
