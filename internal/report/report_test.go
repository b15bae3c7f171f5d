package report_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/report"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// house is a database with two instances and the batches of readings.
const house = `
insert into instances (clerk_id, environment) values ('ins_live', 'production'), ('sandbox', 'sandbox');
insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, state_reason, rows, priority, created_at, started_at, finished_at)
values
	(1, 'hires.csv', '\x01', 1, 'UTF-8', ',', '{Name,Email}', 'maria', 'done', null, 5, 2, '2026-11-22 20:11:02Z', '2026-11-22 20:11:03Z', '2026-11-22 20:12:03Z'),
	(1, 'more.csv', '\x02', 1, 'UTF-8', ',', '{Email}', 'tom', 'running', null, 3, 2, now() - interval '1 minute', now() - interval '1 minute', null),
	(1, 'urgent.csv', '\x03', 1, 'UTF-8', ',', '{Email}', 'tom', 'running', null, 1, 1, now(), now(), null),
	(2, 'hires.csv', '\x01', 1, 'UTF-8', ',', '{Email}', 'maria', 'paused', 'user_quota_exceeded', 1, 2, now(), now(), null);
insert into results (batch_id, instance_id, row_number, line, original, email, key, outcome, reason, duplicate_of, clerk_invitation_id, attempt_id, read_id, decided_at, status, invited_at)
values
	(1, 1, 1, 2, '{Jane,jane@example.com}', 'jane@example.com', 'jane@example.com', 'invited', null, null, 'inv_1', 1, 2, '2026-11-22 20:11:57Z', 'pending', now()),
	(1, 1, 2, 3, '{Joe,JOE@example.com}', 'JOE@example.com', 'joe@example.com', 'invited', null, null, 'inv_2', 1, null, '2026-11-22 20:11:50Z', 'revoked', now() - interval '70 days'),
	(1, 1, 3, 4, '{Jane,Jane@Example.com}', 'Jane@Example.com', 'jane@example.com', 'duplicate_row', null, 1, null, null, null, '2026-11-22 20:11:02Z', null, null),
	(1, 1, 4, 5, '{Eve,eve,x}', null, null, 'invalid', 'ragged_row', null, null, null, null, '2026-11-22 20:11:02Z', null, null),
	(1, 1, 5, 6, '{Max,max@example.com}', 'max@example.com', 'max@example.com', 'rejected', 'not_allowed_access', null, null, 2, null, '2026-11-22 20:11:50Z', null, null);
insert into results (batch_id, instance_id, row_number, line, original, email, key, outcome, clerk_invitation_id, attempt_id, decided_at, status, invited_at) values
	(2, 1, 1, 2, '{a@example.com}', 'a@example.com', 'a@example.com', 'invited', 'inv_3', 4, now(), 'accepted', now());
insert into results (batch_id, instance_id, row_number, line, original, email, key) values
	(2, 1, 2, 3, '{b@example.com}', 'b@example.com', 'b@example.com'),
	(2, 1, 3, 4, '{jane@example.com}', 'jane@example.com', 'jane@example.com'),
	(3, 1, 1, 2, '{c@example.com}', 'c@example.com', 'c@example.com'),
	(4, 2, 1, 2, '{jane@example.com}', 'jane@example.com', 'jane@example.com');
insert into attempts (instance_id, bucket, call, worker_id, started_at, deadline, answered_at, http_status, error_code, resolved_at, resolution) values
	(1, 'bulk', 'bulk', 'w', '2026-11-22 20:11:40Z', '2026-11-22 20:12:00Z', '2026-11-22 20:11:41Z', null, 'connection_closed', '2026-11-22 20:11:57Z', 'read'),
	(1, 'create', 'create', 'w', '2026-11-22 20:11:42Z', '2026-11-22 20:12:02Z', '2026-11-22 20:11:43Z', 403, 'not_allowed_access', '2026-11-22 20:11:43Z', 'answered'),
	(1, 'create', 'create', 'w', '2026-11-22 20:11:43Z', '2026-11-22 20:12:03Z', null, null, 'connection_refused', '2026-11-22 20:11:43Z', 'not_sent'),
	(1, 'create', 'create', 'w', now() - interval '10 minutes', now() - interval '9 minutes', now() - interval '10 minutes', 200, null, now(), 'answered'),
	(1, 'create', 'create', 'w', now() - interval '5 minutes', now() - interval '4 minutes', now() - interval '5 minutes', 429, 'too_many_requests', now(), 'refused'),
	(1, 'bulk', 'bulk', 'w', now(), now() + interval '20 seconds', null, null, null, null, null);
insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, clerk_invitation_id, resolution) values
	(1, 1, 'jane@example.com', 1, 1, false, null, 'inv_1', 'ours'),
	(1, 1, 'joe@example.com', 1, 2, false, null, 'inv_2', 'ours'),
	(2, 1, 'max@example.com', 1, 5, false, 'rejected', null, 'answered'),
	(3, 1, 'max@example.com', 1, 5, false, null, null, 'not_sent'),
	(4, 1, 'a@example.com', 2, 1, false, 'created', 'inv_3', 'answered'),
	(5, 1, 'b@example.com', 2, 2, false, 'refused', null, 'refused'),
	(6, 1, 'b@example.com', 2, 2, true, null, null, null);
insert into reads (instance_id, worker_id, call, pass_begun_at, begun_at, ended_at, http_status, items, complete) values
	(1, 'w', 'users', '2026-11-22 20:11:10Z', '2026-11-22 20:11:10Z', '2026-11-22 20:11:11Z', 200, 0, true),
	(1, 'w', 'invitations', '2026-11-22 20:11:56Z', '2026-11-22 20:11:56Z', '2026-11-22 20:11:57Z', 200, 2, true),
	(1, 'w', 'users', now(), now() + interval '1 hour', now(), 429, 0, false),
	(2, 'w', 'users', '2026-11-22 20:11:30Z', '2026-11-22 20:11:30Z', '2026-11-22 20:11:31Z', 200, 0, true);
insert into sightings (instance_id, clerk_id, key, kind, status, created_at, first_read, first_seen, last_read, last_seen) values
	(1, 'inv_1', 'jane@example.com', 'invitation', 'pending', '2026-11-22 20:11:40Z', 2, '2026-11-22 20:11:57Z', 2, '2026-11-22 20:11:56Z');
insert into late_answers (attempt_id, http_status, clerk_invitation_ids) values (1, 200, '{inv_1,inv_2}');
insert into events (instance_id, batch_id, actor, action) values (1, 1, 'maria', 'imported'), (1, 2, 'tom', 'imported');
insert into buckets (instance_id, name, frozen_until, frozen_reason) values
	(1, 'create', now() + interval '1 hour', '429'), (1, 'bulk', now() - interval '1 hour', '429'), (1, 'general', null, null);
`

func planted(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := postgrestest.New(t)
	must.Exec(t, pool, house)
	return pool
}

func TestReport(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	done, err := report.ReadReport(t.Context(), pool, 1)
	must.OK(t, err)
	got, err := json.Marshal(done)
	must.OK(t, err)
	// The request that was never sent is no request; the other instance's read and the later one are not this batch's.
	want := `{"batch":1,"state":"done","rows":5,` +
		`"outcomes":{"invited":2,"already_invited":0,"already_registered":0,"invalid":1,"rejected":1,"duplicate_row":1,"failed":0,"cancelled":0},` +
		`"undecided":0,"requests":{"create":1,"bulk":1,"read":2,"revoke":0},"rate_limited":0,` +
		`"started_at":"2026-11-22T20:11:03Z","finished_at":"2026-11-22T20:12:03Z","seconds":60,"eta":null,` +
		`"state_reason":null,"paused_by":null,"unknown":null,"file_name":"hires.csv","environment":"production","certificate":null}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	running, err := report.ReadReport(t.Context(), pool, 2)
	must.OK(t, err)
	if running.Undecided != 2 || running.Requests.Create != 2 || running.Requests.Bulk != 1 || running.RateLimited != 1 || running.Seconds < 59 {
		t.Errorf("running: %+v", running)
	}
	if _, err := report.ReadReport(t.Context(), pool, 99); !errors.Is(err, invitation.ErrNoBatch) {
		t.Errorf("no batch: %v", err)
	}
	// A row that went missing must not go unnoticed.
	postgrestest.Plant(t, pool, "delete from results where batch_id = 1 and row_number = 4")
	if _, err := report.ReadReport(t.Context(), pool, 1); err == nil {
		t.Error("a batch with a row too few is reported as if nothing was wrong")
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	p, err := report.ReadProgress(t.Context(), pool, 2)
	if err != nil || p != (report.Progress{State: invitation.Running, Rows: 3, Undecided: 2}) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestMailedThisMonth(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	if n, err := report.MailedThisMonth(t.Context(), pool, 1); err != nil || n != 2 {
		t.Errorf("%d mails this month, %v; want 2", n, err)
	}
}

func TestBatches(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	lines, err := report.Batches(t.Context(), pool)
	if err != nil || len(lines) != 4 {
		t.Fatalf("%d batches, %v", len(lines), err)
	}
	if l := lines[0]; l.Batch != 4 || l.Environment != "sandbox" || l.StateReason == nil || l.Undecided != 1 || l.Rows != 1 {
		t.Errorf("%+v", l)
	}
	if l := lines[2]; l.Batch != 2 || l.Rows != 3 || l.Undecided != 2 || l.Outcomes[invitation.Invited] != 1 || l.Accepted != 1 {
		t.Errorf("%+v", l)
	}
	if lines, err := report.Batches(t.Context(), postgrestest.New(t)); err != nil || lines == nil || len(lines) != 0 {
		t.Errorf("of no batches: %v, %v", lines, err)
	}
}
