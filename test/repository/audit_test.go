package repository_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/postgres/postgrestest"
)

// audited fills a database for which the questions of docs/audit.md have known answers.
const audited = `
insert into instances (clerk_id, environment) values ('ins_1', 'production');
insert into batches (id, instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows, created_at, started_at, finished_at) overriding system value values
	(12, 1, 'hires.csv', '\x0c', 100, 'UTF-8', ',', '{email,Department}', 'maria', 'done', 7, '2026-03-03 08:00Z', '2026-03-03 08:01Z', '2026-03-03 09:00Z'),
	(13, 1, 'again.csv', '\x0c', 100, 'UTF-8', ',', '{email,Department}', 'tom', 'running', 2, '2026-04-03 08:00Z', '2026-04-03 08:01Z', null);
insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, reason, duplicate_of, clerk_invitation_id, attempt_id, read_id, decided_at, status, invited_at) values
	(12, 1, 1, 2, '{jane@example.com,Sales}', 'jane@example.com', 'jane@example.com', 'invited', null, null, 'inv_1', 7, null, '2026-03-03 08:30Z', 'accepted', '2026-03-03 08:30Z'),
	(12, 2, 1, 3, '{tom@example.com,Sales}', 'tom@example.com', 'tom@example.com', 'invited', null, null, 'inv_2', 7, null, '2026-03-03 08:30Z', 'pending', '2026-03-03 08:30Z'),
	(12, 3, 1, 4, '{ann@example.com,IT}', 'ann@example.com', 'ann@example.com', 'invited', 'found_by_reading', null, 'inv_3', 8, 1, '2026-03-03 08:31Z', 'revoked', '2026-03-03 08:30Z'),
	(12, 4, 1, 5, '{nobody,IT}', null, null, 'invalid', 'no_at', null, null, null, null, '2026-03-03 08:00Z', null, null),
	(12, 5, 1, 6, '{jane@example.com,IT}', 'jane@example.com', 'jane@example.com', 'duplicate_row', null, 1, null, null, null, '2026-03-03 08:00Z', null, null),
	(12, 6, 1, 7, '{rob@example.com,IT}', 'rob@example.com', 'rob@example.com', 'rejected', 'form_param_format_invalid', null, null, 9, null, '2026-03-03 08:32Z', null, null),
	(12, 7, 1, 8, '{eve@example.com,IT}', 'eve@example.com', 'eve@example.com', 'already_registered', 'user_at_clerk', null, null, null, 1, '2026-03-03 08:32Z', null, null),
	(13, 1, 1, 2, '{ann@example.com,IT}', 'ann@example.com', 'ann@example.com', 'invited', null, null, 'inv_4', 10, null, '2026-04-03 08:30Z', 'pending', now() - interval '1 day'),
	(13, 2, 1, 3, '{zoe@example.com,IT}', 'zoe@example.com', 'zoe@example.com', null, null, null, null, null, null, null, null, null);
insert into sweeps (instance_id, started_by, kind, scope, apply, started_at, revoked) values (1, 'maria', 'sweep', 'ours', true, '2026-03-20 08:00Z', 1);
insert into revocations (sweep_id, clerk_invitation_id, instance_id, key, batch_id, row_number, invited_at, outcome, decided_at) values
	(1, 'inv_3', 1, 'ann@example.com', 12, 3, '2026-03-03 08:30Z', 'revoked', '2026-03-20 08:00Z');
insert into attempts (id, instance_id, bucket, call, worker_id, sweep_id, started_at, deadline, answered_at, http_status, trace_id, resolved_at, resolution) overriding system value values
	(6, 1, 'bulk', 'bulk', 'w', null, '2026-03-03 08:29Z', '2026-03-03 08:30Z', '2026-03-03 08:29Z', 429, 'trace_6', '2026-03-03 08:29Z', 'refused'),
	(7, 1, 'bulk', 'bulk', 'w', null, '2026-03-03 08:30Z', '2026-03-03 08:31Z', '2026-03-03 08:30Z', 200, 'trace_7', '2026-03-03 08:30Z', 'answered'),
	(8, 1, 'create', 'create', 'w', null, '2026-03-03 08:30Z', '2026-03-03 08:31Z', null, null, null, '2026-03-03 08:31Z', 'read'),
	(9, 1, 'create', 'create', 'w', null, '2026-03-03 08:32Z', '2026-03-03 08:33Z', '2026-03-03 08:32Z', 422, 'trace_9', '2026-03-03 08:32Z', 'answered'),
	(10, 1, 'create', 'create', 'w', null, '2026-04-03 08:30Z', '2026-04-03 08:31Z', '2026-04-03 08:30Z', 200, 'trace_10', '2026-04-03 08:30Z', 'answered'),
	(11, 1, 'create', 'create', 'w', null, '2026-04-03 08:32Z', '2026-04-03 08:33Z', null, null, null, null, null);
insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, error_code, clerk_invitation_id, resolution) values
	(6, 1, 'jane@example.com', 12, 1, false, 'refused', null, null, 'refused'),
	(7, 1, 'jane@example.com', 12, 1, false, 'created', null, 'inv_1', 'answered'), (7, 1, 'tom@example.com', 12, 2, false, 'created', null, 'inv_2', 'answered'),
	(8, 1, 'ann@example.com', 12, 3, false, null, null, 'inv_3', 'ours'), (9, 1, 'rob@example.com', 12, 6, false, 'rejected', 'form_param_format_invalid', null, 'answered'),
	(10, 1, 'ann@example.com', 13, 1, false, 'created', null, 'inv_4', 'answered'), (11, 1, 'zoe@example.com', 13, 2, true, null, null, null, null);
insert into reconciles (instance_id, worker_id, started_by, started_at, finished_at, complete) values (1, 'w', 'every 15m', '2026-04-04 00:00Z', '2026-04-04 00:01Z', true);
insert into drift (instance_id, kind, clerk_invitation_id, key, status, first_seen, last_seen) values (1, 'unexplained', 'inv_x', 'mia@example.com', 'pending', now(), now());
insert into events (at, instance_id, batch_id, actor, action) values ('2026-03-03 08:00Z', 1, 12, 'maria', 'imported'), ('2026-03-03 08:01Z', 1, 12, 'maria', 'started'),
	('2026-03-03 09:00Z', 1, 12, 'bulkinvite', 'done'), ('2026-04-03 08:00Z', 1, 13, 'maria', 'imported');
insert into certificates values (12, 1, '2026-03-03 09:00Z', 7, '{}', 5, 9, 0, '{}', '\xabcd');
update batches set certificate = 1 where id = 12;
insert into erasures (kind, actor) values ('erase', 'maria');
`

// answers has the expected answers by number of the question: for each row of the result, its first
// columns without times.
var answers = map[int][]string{
	1: {"12 hires.csv 2 maria", "12 hires.csv 6 maria"}, 2: {"imported 12", "started 12", "sweep <nil>"}, 3: {"12 2 tom@example.com"}, 4: {"IT 1 1", "Sales 2 1"},
	5: {"6 bulk", "7 bulk"}, 6: {}, 7: {}, 8: {}, 9: {"ann@example.com 2 [12 13] [revoked pending] false"}, 10: {"7 12 1 jane@example.com invited created", "7 12 2 tom@example.com"},
	11: {"11 create"}, 12: {"6 bulk"}, 13: {"bulk 2", "create 2"}, 15: {"1 sweep maria"}, 16: {"12 1 3", "13 0 1"}, 17: {"12 6 rob@example.com form_param_format_invalid"},
	18: {"unexplained inv_x mia@example.com"}, 19: {"0c [12 13] [maria tom]"}, 20: {"12"}, 21: {"1 erase"},
}

// auditQuestions returns the questions of docs/audit.md. Each has its whole text, its number, its
// title, how bulkinvite answers it, and its SQL.
func auditQuestions(t *testing.T) [][]string {
	t.Helper()
	page, err := os.ReadFile("docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	questions := regexp.MustCompile("(?s)### (\\d+)\\. ([^\n]+)\n\n([^`\n]*`bulkinvite [a-z]+[^\n]*|[^\n]+)\n\n```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if n := strings.Count(string(page), "\n### "); len(questions) != n || n < 20 {
		t.Errorf("%d of %d questions have SQL behind a line of text", len(questions), n)
	}
	return questions
}

// TestQuestionsOfTheAuditPage runs each question's SQL with the auditors' role and compares the
// results with answers.
func TestQuestionsOfTheAuditPage(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	postgrestest.Plant(t, pool, audited)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `set role bulkinvite_auditor; set time zone 'UTC'`); err != nil {
		t.Fatal(err)
	}
	questions := auditQuestions(t)
	for _, q := range questions {
		number, err := strconv.Atoi(q[1])
		if err != nil {
			t.Fatal(err)
		}
		rows, _ := conn.Query(t.Context(), q[4], pgx.QueryExecModeSimpleProtocol)
		got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			values, err := row.Values()
			var text []string
			for _, v := range values {
				if _, isTime := v.(interface{ UnixNano() int64 }); !isTime {
					text = append(text, fmt.Sprint(v))
				}
			}
			return strings.Join(text, " "), err
		})
		if err != nil {
			t.Errorf("%s. %s: %v", q[1], q[2], err)
			continue
		}
		want, known := answers[number]
		if !known {
			continue
		}
		if len(got) != len(want) {
			t.Errorf("%s. %s: %q, want %q", q[1], q[2], got, want)
			continue
		}
		for i := range want {
			if !strings.HasPrefix(got[i]+" ", want[i]+" ") {
				t.Errorf("%s. %s: row %d is %q, want %q", q[1], q[2], i+1, got[i], want[i])
			}
		}
	}
}

// TestAuditorReadsOnly checks that the auditors' role can't read sessions, tokens, uploads, the hash
// key and jobs, and can't write.
func TestAuditorReadsOnly(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `set role bulkinvite_auditor`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`select * from web_sessions`, `select * from api_tokens`, `select * from uploads`, `select * from upload_chunks`, `select * from hash_key`, `select * from river_job`,
		`insert into events (actor, action) values ('x', 'x')`, `update results set reason = 'x'`, `delete from attempts`, `truncate events`, `select grant_auditor()`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// TestAuditorIsNotNeeded checks that a migration as a user who may not create roles succeeds
// without the auditors' role. The server of the tests has that role, so a view of the same name,
// which comes first in the search path, hides it.
func TestAuditorIsNotNeeded(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	role := fmt.Sprintf("plain_%d", os.Getpid())
	acquired, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := acquired.Hijack() // no other test may get a connection with that role
	defer conn.Close(t.Context())
	for _, sql := range []string{`create role ` + role + ` nologin`, `create schema hides`, `create view hides.pg_roles as select rolname from pg_catalog.pg_roles where false`,
		`grant usage on schema hides to ` + role, `grant select on hides.pg_roles to ` + role, `grant execute on function grant_auditor() to ` + role,
		`set search_path = hides, public, pg_catalog`, `set role ` + role} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	t.Cleanup(func() {
		for _, sql := range []string{`drop schema hides cascade`, `drop owned by ` + role, `drop role ` + role} {
			if _, err := pool.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	if _, err := conn.Exec(t.Context(), `select grant_auditor()`); err != nil {
		t.Errorf("who may not create roles: %v", err)
	}
}
