package main

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// laterTables changes each of our tables as a later version may: a column that
// may be empty, and an index on it. River's own are changed by River's rules.
const laterTables = `
	select format('alter table %1$I add column later text; create index later_%1$s on %1$I (later)', tablename)
	from pg_tables where schemaname = 'public' and tablename !~ '^(river|goose)_' order by tablename`

// laterValues are a table, and values that this version has no word for.
const laterValues = `
	create table later_notes (id bigint generated always as identity primary key, batch_id bigint not null references batches, note text);
	insert into later_notes (batch_id, note) values (2, 'x');
	insert into events (instance_id, batch_id, actor, action, details) values (1, 2, 'maria', 'later', '{"later": [1]}');
	alter table drift drop constraint drift_kind_check;
	insert into drift (instance_id, kind, clerk_invitation_id, key, first_seen, last_seen) values (1, 'later', 'inv_later', 'later@example.com', clock_timestamp(), clock_timestamp());
	insert into goose_db_version (version_id, is_applied) values (9999, true)`

// TestLaterSchema brings the schema to where a later version might, while this
// one's workers and its server run and have their statements prepared: a column
// and an index more on every table, a table, values that are not known here.
// They end the batch, though one worker is killed; a file is uploaded, started
// and sent, all of it after the change; a sweep that was held is let go and
// revokes; every page and metric is told. What is started after that is refused.
func TestLaterSchema(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{Limits: sandbox.Limits{Bulk: sandbox.Limit{N: -1}, General: sandbox.Limit{N: -1}}})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_later", "BULKINVITE_SETTLE=300ms", "BULKINVITE_REQUEST_TIMEOUT=2s",
		"BULKINVITE_RECOVER_AFTER=2s", "BULKINVITE_LIMIT_CREATE=off", "BULKINVITE_LIMIT_BULK=5/1s")
	pool := open(t, b.url)
	b.run("send", "--yes", "--limit-bulk", "1000/1s", b.file("stale.csv", listOf(0, 40))).want(t, exitOK)
	b.run("sweep", "--older-than", "1ms", "--apply", "--yes").want(t, exitHeld)
	b.run("import", "--yes", b.file("running.csv", listOf(100, 400))).want(t, exitOK)
	upload := func(serve *serving, batch, from, to int) {
		t.Helper()
		status, text := serve.ask(http.MethodPost, fmt.Sprintf("/api/v1/batches?file_name=%d.csv", batch), "text/csv", listOf(from, to))
		if status != http.StatusCreated {
			t.Fatalf("upload: %d %s", status, text)
		}
		status, text = serve.ask(http.MethodPost, fmt.Sprintf("/api/v1/batches/%d/start", batch), "application/json", fmt.Sprintf(`{"people":%d}`, to-from))
		if status != http.StatusOK {
			t.Fatalf("start: %d %s", status, text)
		}
	}
	look := func(serve *serving) {
		t.Helper()
		for _, path := range []string{"/", "/batches/2", "/batches/2/rows", "/batches/2/rows/1", "/batches/2/course", "/batches/2/results.csv", "/people?q=p1", "/sweeps", "/sweeps/1",
			"/drift", "/budget", "/events", "/metrics", "/api/v1/batches/2", "/api/v1/people/p100@example.com", "/api/v1/drift"} {
			serve.get(path)
		}
	}
	serve := b.serve()
	upload(serve, 3, 400, 410)
	look(serve)
	killed, worker := b.start("work"), b.start("work")
	awaitCount(t, pool, 2, `select count(distinct worker_id) from attempts where started_at > (select max(created_at) from batches where id = 2)`)

	count := func(sql string) int {
		t.Helper()
		return must.Read[int](t, pool, sql)
	}
	rows, _ := pool.Query(t.Context(), laterTables)
	changes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(t, err)
	for _, sql := range append(changes, laterValues) {
		must.Exec(t, pool, sql)
	}
	look(serve)
	killed.kill(t)
	upload(serve, 4, 410, 510)
	if status, text := serve.ask(http.MethodPost, "/api/v1/sweeps/1/allow", "application/json", ""); status != http.StatusOK {
		t.Errorf("allow the sweep: %d %s", status, text)
	}
	awaitCount(t, pool, 4, `select count(*) from batches where state = 'done' and certificate is not null`)
	awaitCount(t, pool, 1, `select count(*) from sweeps where finished_at is not null`)
	look(serve)
	log := serve.stop()
	must.OK(t, worker.Process.Signal(syscall.SIGTERM))
	worker.endsWith(t, exitOK)
	expect.NoText(t, worker.errs.String()+log, `"level":"ERROR"`, "cached plan")
	expect.Equal(t, "rows invited", count(`select count(*) from results where outcome = 'invited'`), 450)
	if m := s.mailbox(t); m.Mails != 450 || len(m.Addresses) != 450 || len(m.Doubled) != 0 {
		t.Errorf("%d mails to %d people, twice: %v", m.Mails, len(m.Addresses), m.Doubled)
	}
	expect.Equal(t, "invitations revoked",
		count(`select count(*) from results where batch_id = 1 and status = 'revoked'`), 40)
	for _, args := range [][]string{{"work"}, {"serve"}, {"status", "2"}, {"import", "--yes", b.file("more.csv", listOf(510, 511))}, {"migrate"}} {
		o := b.run(append(args, "--json")...).want(t, exitFailed)
		if f := decode[errorDocument](t, o); f.Error.Code != "database_newer" || f.Error.Remedy == "" {
			t.Errorf("%s: %s", args[0], o.out)
		}
	}
	expect.Text(t, b.run("migrate", "--status").want(t, exitOK).out, "9999  of a newer program")
	expect.Equal(t, "batches after what was refused", count(`select count(*) from batches`), 4)
}
