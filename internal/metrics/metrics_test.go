package metrics

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/ratelimit"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// filled fills a database with values for every metric.
const filled = `
	insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows, started_at, finished_at)
	select $1, 'a.csv', '', 0, 'utf-8', ',', '{email}', 'maria', s, 3, clock_timestamp() - interval '1 hour', case when s = 'done' then clock_timestamp() end
	from unnest(array['done', 'running', 'paused']) s;`

func instance(t *testing.T) (*pgxpool.Pool, invitation.Instance) {
	t.Helper()
	pool := postgrestest.New(t)
	in, err := batch.EnsureInstance(t.Context(), pool, "ins_planted", "development")
	must.OK(t, err)
	for _, sql := range []string{
		filled,
		`insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, decided_at)
		 select id, n, $1, n, '{}', 'planted@x.test', 'planted@x.test', case when state = 'done' then (array['invited', 'invited', 'rejected'])[n] end, case when state = 'done' then clock_timestamp() end
		 from batches, generate_series(1, 3) n where instance_id = $1`,
		`insert into attempts (instance_id, bucket, call, worker_id, started_at, deadline) values
		 ($1, 'create', 'create', 'w', clock_timestamp() - interval '1 minute', clock_timestamp() - interval '40 seconds')`,
		`insert into sweeps (instance_id, kind, started_by, apply, started_at, finished_at, revoked, failed, skipped, held) values
		 ($1, 'sweep', 'nightly sweep', true, clock_timestamp(), clock_timestamp(), 5, 1, '{"accepted": 2, "gone": 1}', false),
		 ($1, 'sweep', 'nightly sweep', true, clock_timestamp(), null, 0, 0, '{}', true)`,
		`insert into reconciles (instance_id, worker_id, started_by, started_at, finished_at, complete) values
		 ($1, 'w', 'x', clock_timestamp() - interval '10 minutes', clock_timestamp(), true), ($1, 'w', 'x', clock_timestamp(), clock_timestamp(), false)`,
		`insert into drift (instance_id, kind, clerk_invitation_id, key, first_seen, last_seen, ended_at) values
		 ($1, 'unexplained', 'inv_1', 'planted@x.test', now(), now(), null), ($1, 'unexplained', 'inv_2', 'planted@x.test', now(), now(), now())`,
		`insert into reads (instance_id, worker_id, call, pass_begun_at, ended_at, complete) values
		 ($1, 'w', 'invitations_pending', now() - interval '9 minutes', now() - interval '2 minutes', true),
		 ($1, 'w', 'invitations', now() - interval '2 minutes', now() - interval '1 minute', true),
		 ($1, 'w', 'invitations', now() - interval '3 hours', now() - interval '2 hours', true)`,
		`update buckets set frozen_until = clock_timestamp() + interval '1 minute', frozen_at = clock_timestamp() where instance_id = $1 and name = 'bulk'`,
		`insert into leases (instance_id, worker_id, tokens, use_by) values ($1, 'w', 7, clock_timestamp())`,
		`insert into workers (id, instance_id, host, pid, version, lock_key) values ('w', $1, 'h', 1, 'v', 1)`,
	} {
		exec(t, pool, sql, in.ID)
	}
	return pool, in
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	postgrestest.Plant(t, pool, sql, args...)
}

func config(in invitation.Instance) Config {
	return Config{Instance: in, RequestTimeout: 20 * time.Second, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
		Limits: invitation.Limits{Create: ratelimit.DefaultCreate, Bulk: ratelimit.DefaultBulk, General: ratelimit.DefaultDevelopment}}
}

// gathered returns every sample by its name and labels, in the form name{label="value"}.
func gathered(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	must.OK(t, err)
	samples := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch {
			case m.Gauge != nil:
				samples[name] = m.Gauge.GetValue()
			case m.Counter != nil:
				samples[name] = m.Counter.GetValue()
			case m.Histogram != nil:
				samples[name] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return samples
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	pool, in := instance(t)
	requests := NewRequests()
	began := time.Now()
	requests.Answered(clerk.Answer{Call: "create", Class: clerk.Success, Sent: true, Begun: began, Ended: began.Add(time.Second)})
	requests.Answered(clerk.Answer{Call: "create", Class: clerk.Throttled, Sent: true, Begun: began, Ended: began.Add(time.Second)})
	requests.Answered(clerk.Answer{Call: "create", Class: clerk.NotSent, Begun: began, Ended: began})
	r := New(pool, requests, config(in))
	got := gathered(t, r)
	for name, want := range map[string]float64{
		"bulkinvite_database_up": 1,
		"bulkinvite_build_info{environment=development,version=1.2.3}":   1,
		"bulkinvite_rows{outcome=invited}":                               2,
		"bulkinvite_rows{outcome=rejected}":                              1,
		"bulkinvite_rows{outcome=failed}":                                0,
		"bulkinvite_rows{outcome=undecided}":                             6,
		"bulkinvite_rows_waiting":                                        3,
		"bulkinvite_batches{state=paused}":                               1,
		"bulkinvite_batches{state=running}":                              1,
		"bulkinvite_attempts_unknown":                                    1,
		"bulkinvite_workers":                                             1,
		"bulkinvite_sweeps{state=held}":                                  1,
		"bulkinvite_sweeps{state=running}":                               0,
		"bulkinvite_revocations{outcome=revoked}":                        5,
		"bulkinvite_revocations{outcome=failed}":                         1,
		"bulkinvite_revocations{outcome=skipped}":                        3,
		"bulkinvite_drift{kind=unexplained}":                             1,
		"bulkinvite_drift{kind=gone}":                                    0,
		"bulkinvite_budget_limit{bucket=create}":                         100,
		"bulkinvite_budget_used{bucket=create}":                          1,
		"bulkinvite_budget_free{bucket=create}":                          99,
		"bulkinvite_budget_refill_seconds{bucket=create}":                0,
		"bulkinvite_budget_ceiling{bucket=create}":                       100,
		"bulkinvite_budget_frozen{bucket=create}":                        0,
		"bulkinvite_budget_frozen{bucket=bulk}":                          1,
		"bulkinvite_budget_free{bucket=bulk}":                            0,
		"bulkinvite_budget_used{bucket=general}":                         7,
		"bulkinvite_budget_free{bucket=general}":                         93,
		"bulkinvite_clerk_requests_total{answer=success,call=create}":    1,
		"bulkinvite_clerk_requests_total{answer=throttled,call=create}":  1,
		"bulkinvite_clerk_requests_total{answer=not_sent,call=create}":   1,
		"bulkinvite_clerk_requests_total{answer=unauthorized,call=bulk}": 0,
		"bulkinvite_clerk_request_duration_seconds{call=create}":         2,
	} {
		if have, ok := got[name]; !ok || have != want {
			t.Errorf("%s is %v (%v), want %v", name, have, ok, want)
		}
	}
	for name, span := range map[string][2]float64{
		"bulkinvite_oldest_waiting_seconds":               {3600, 3700},
		"bulkinvite_oldest_unknown_seconds":               {60, 160},
		"bulkinvite_lists_read_seconds":                   {480, 480},
		"bulkinvite_reconcile_lag_seconds":                {600, 700},
		"bulkinvite_budget_refill_seconds{bucket=bulk}":   {1, 60},
		"bulkinvite_sweep_last_success_timestamp_seconds": {float64(began.Unix() - 100), float64(began.Unix() + 100)},
	} {
		if have := got[name]; have < span[0] || have > span[1] {
			t.Errorf("%s is %v, want %v", name, have, span)
		}
	}
	problems, err := testutil.GatherAndLint(r)
	must.OK(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name := range got {
		if strings.Contains(name, "planted") {
			t.Errorf("%s tells whom it is about", name)
		}
	}
	// A batch outside its hours does not count as waiting, so that no alert wakes the person on call.
	exec(t, pool, `update batches set tz = 'UTC', hours = int4multirange(int4range(h, h + 1))
		from (select (extract(hour from clock_timestamp() at time zone 'UTC')::int + 12) % 24 as h) other`)
	if waits := gathered(t, New(pool, requests, config(in)))["bulkinvite_oldest_waiting_seconds"]; waits != 0 {
		t.Errorf("somebody waits for %v s outside the hours", waits)
	}
}

// statements counts the queries of the results table.
type statements struct{ rows int }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "from results where batch_id") {
		s.rows++
	}
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestScrapesAreCheap checks that many scrapes query the database once, and that the rows of an
// ended batch are counted once, unless it is opened again.
func TestScrapesAreCheap(t *testing.T) {
	t.Parallel()
	pool, in := instance(t)
	var asked statements
	cfg := pool.Config()
	cfg.ConnConfig.Tracer, cfg.MaxConns = &asked, 1
	counting, err := pgxpool.NewWithConfig(t.Context(), cfg)
	must.OK(t, err)
	t.Cleanup(counting.Close)
	now := time.Now()
	s := newState(counting, config(in))
	s.now = func() time.Time { return now }
	r := prometheus.NewRegistry()
	r.MustRegister(s)
	for _, step := range []struct {
		name  string
		do    func()
		rows  int // batches whose rows are counted
		value float64
	}{
		{"the first", func() {}, 3, 2},
		{"at once again", func() {}, 0, 2},
		{"a minute later, the batch that is over is not counted", func() { now = now.Add(time.Minute) }, 2, 2},
		{"opened again", func() {
			now = now.Add(time.Minute)
			exec(t, pool, `update batches set state = 'running', finished_at = null where state = 'done'`)
			exec(t, pool, `update results set outcome = 'invited' where outcome = 'rejected'`)
		}, 3, 3},
		{"over again", func() {
			now = now.Add(time.Minute)
			exec(t, pool, `update batches set state = 'done', finished_at = now() where id = (select min(id) from batches)`)
		}, 3, 3},
		{"and left alone", func() { now = now.Add(time.Minute) }, 2, 3},
	} {
		step.do()
		asked.rows = 0
		if got := gathered(t, r)["bulkinvite_rows{outcome=invited}"]; got != step.value || asked.rows != step.rows {
			t.Errorf("%s: %v invited, %d batches were counted; want %v and %d", step.name, got, asked.rows, step.value, step.rows)
		}
	}
}

// TestDatabaseAway checks that without the database the process still shows what it counts itself.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	pool, in := instance(t)
	requests := NewRequests()
	requests.Answered(clerk.Answer{Call: "bulk", Class: clerk.Lost})
	r := New(pool, requests, config(in))
	pool.Close()
	got := gathered(t, r)
	if up, ok := got["bulkinvite_database_up"]; !ok || up != 0 || got["bulkinvite_clerk_requests_total{answer=lost,call=bulk}"] != 1 {
		t.Errorf("told %v", got)
	}
	if _, ok := got["bulkinvite_rows{outcome=invited}"]; ok {
		t.Error("tells of rows that nobody could read")
	}
}
