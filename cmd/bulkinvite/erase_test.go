package main

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/proof"
	"bulkinvite/internal/report"
)

func TestEraseCommand(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_erase", "BULKINVITE_SETTLE=1ms")
	batch := decode[report.Report](t, b.run("send", "--yes", "--json", b.file("all.csv", listOf(0, 4))).want(t, exitOK))
	if batch.Certificate == nil {
		t.Fatal("the batch has ended without a certificate")
	}
	head := batch.Certificate.Head.String()
	b.run("erase", "nobody@example.com", "--json").want(t, exitUsage)

	kept := decode[erasureDocument](t, b.run("erase", "P000@Example.com", "--yes", "--json", "--actor", "maria").want(t, exitOK))
	if kept.ID != 1 || kept.Rows != 1 || kept.Pending != 1 || kept.Revoked != 0 || !slices.Equal(kept.Batches, []int64{1}) {
		t.Errorf("%+v", kept)
	}
	gone := decode[erasureDocument](t, b.run("erase", "p001@example.com", "--revoke", "--yes", "--json").want(t, exitOK))
	if gone.Rows != 1 || gone.Revoked != 1 || gone.Pending != 0 {
		t.Errorf("%+v", gone)
	}
	s.wantOpen(t, "p000@example.com", "p002@example.com", "p003@example.com")
	b.run("why", "p000@example.com").want(t, exitUsage)
	b.run("verify", "1", "--head", head).want(t, exitOK)
	for _, format := range []string{"table", "csv", "json"} {
		if o := b.run("results", "1", "--format", format).want(t, exitOK); strings.Contains(o.out, "p000@") || strings.Contains(o.out, "p001@") || !strings.Contains(o.out, "p002@") {
			t.Errorf("results as %s: %s", format, o.out)
		}
	}

	// A later file does not invite them, and what it says of them is not kept, unless it is sent so.
	later := b.file("later.csv", listOf(1, 2)+"new@example.com\n")
	again := decode[report.Report](t, b.run("send", "--yes", "--json", later).want(t, exitOK))
	if again.Outcomes["cancelled"] != 1 || again.Outcomes["invited"] != 1 {
		t.Errorf("%+v", again.Outcomes)
	}
	rows := decode[[]map[string]any](t, b.run("audit", "--batch", "2", "--outcome", "cancelled", "--json").want(t, exitOK))
	if len(rows) != 1 || rows[0]["reason"] != "erased" || rows[0]["email"] != nil {
		t.Errorf("%v", rows)
	}
	back := decode[report.Report](t, b.run("send", "--yes", "--json", "--again", "--include-erased", later).want(t, exitOK))
	if back.Outcomes["invited"] != 1 || back.Outcomes["already_invited"] != 1 {
		t.Errorf("%+v", back.Outcomes)
	}
	b.run("why", "p001@example.com").want(t, exitOK)

	b.run("purge", "--older-than", "1h", "--json").want(t, exitOK) // nothing is as old
	b.run("purge", "--older-than", "0d").want(t, exitUsage)
}

// TestEraseWhoIsKeptOutOfADraft erases a person who has no row left, and was rescinded from a draft whose file
// was then read again without them.
func TestEraseWhoIsKeptOutOfADraft(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("import", "--sandbox", "--yes", "--draft", b.file("draft.csv", listOf(0, 2))).want(t, exitOK)
	pool := open(t, b.url)
	_, err := pool.Exec(t.Context(), `
		with s as (insert into sweeps (instance_id, started_by, older_than, apply, kind, finished_at)
			select instance_id, 'maria', '0', true, 'rescind', clock_timestamp() from batches returning id)
		insert into draft_withdrawals (batch_id, key, sweep_id) select b.id, 'kept@example.com', s.id from batches b, s`)
	must.OK(t, err)
	b.run("erase", "kept@example.com", "--yes", "--json").want(t, exitOK)
	var left int
	if err := pool.QueryRow(t.Context(), `select count(*) from draft_withdrawals`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d are kept out of drafts by their address, want none (%v)", left, err)
	}
	b.run("erase", "kept@example.com", "--yes", "--json").want(t, exitUsage)
}

func TestPurgeCommand(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("send", "--sandbox", "--yes", b.file("all.csv", listOf(0, 4))).want(t, exitOK)
	b.run("purge", "--older-than", "1ms").want(t, exitHeld)
	done := decode[purgeDocument](t, b.run("purge", "--older-than", "1ms", "--yes", "--json").want(t, exitOK))
	if done.Erasure != 1 || done.Rows != 4 || !slices.Equal(done.Batches, []int64{1}) {
		t.Errorf("%+v", done)
	}
	expect.Text(t, b.run("why", "p000@example.com").want(t, exitOK).out, "A purge removed")
	b.run("verify", "1").want(t, exitOK)
	if d := decode[purgeDocument](t, b.run("purge", "--older-than", "1ms", "--json").want(t, exitOK)); d.Erasure != 0 || d.Rows != 0 {
		t.Errorf("once more: %+v", d)
	}
}

// TestRetention: a worker that is told how long addresses are kept removes those
// of the batch that ended longer ago, records it, and leaves all others: one that
// ended a day later, one whose request is open, one that has not ended.
func TestRetention(t *testing.T) {
	t.Parallel()
	b := newBench(t, "BULKINVITE_PURGE_OLDER_THAN=365d")
	for i, name := range []string{"old", "younger", "open"} {
		b.run("send", "--sandbox", "--yes", b.file(name+".csv", listOf(10*i, 10*i+4))).want(t, exitOK)
	}
	b.run("import", "--sandbox", "--yes", "--draft", b.file("draft.csv", listOf(30, 34))).want(t, exitOK)
	pool := open(t, b.url)
	for _, sql := range []string{
		`update batches set finished_at = clock_timestamp() - case when id = 2 then interval '364 days' else interval '366 days' end where finished_at is not null`,
		`update attempt_people set open = true, closed_at = null where batch_id = 3 and row_number = 2`,
	} {
		postgrestest.Plant(t, pool, sql)
	}
	w := b.start("work", "--sandbox")
	awaitCount(t, pool, 1, `select count(*) from batches where purged_by is not null`)
	must.OK(t, w.Process.Signal(syscall.SIGTERM))
	w.endsWith(t, exitOK)
	rows, _ := pool.Query(t.Context(), `
		select concat_ws(' ', batch_id, count(email), count(key) filter (where key like '%@%'), count(*) filter (where original <> '{}'), count(private_hash)) from results group by batch_id order by batch_id`)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if want := []string{"1 0 0 0 4", "2 4 4 4 0", "3 4 4 4 0", "4 4 4 4 0"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("batch, addresses, keys, original rows, hashes: %v, want %v (%v)", left, want, err)
	}
	rows, _ = pool.Query(t.Context(), `select concat_ws(' ', batch_id, actor, details->>'rows') from events where action = 'purged'`)
	if events, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || !slices.Equal(events, []string{"1 bulkinvite 4"}) {
		t.Errorf("events: %v, %v", events, err)
	}
	b.run("verify", "1").want(t, exitOK)
}

// TestErasedWhereverTheyAre erases people where that is hard: whose answer was
// lost, whose address is spelt otherwise, who are in a draft with its file, whose
// row failed and could be taken up again.
func TestErasedWhereverTheyAre(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultCutAfter, First: 1}}},
		"CLERK_SECRET_KEY=sk_live_wherever", "BULKINVITE_REQUEST_TIMEOUT=1s", "BULKINVITE_RECOVER_AFTER=500ms", "BULKINVITE_LIMIT_CREATE=off")
	pool := open(t, b.url)
	number := func(sql string) (n int) {
		t.Helper()
		must.OK(t, pool.QueryRow(t.Context(), sql).Scan(&n))
		return n
	}
	jane := "jane@xn--bcher-kva.example"
	cells := "email,Name\nJANE@BÜCHER.example,Zora\nother@example.com,Tom\nthird@example.com,Ana\nJane@bücher.example,Zora\n"
	b.run("import", "--yes", b.file("first.csv", cells)).want(t, exitOK)
	w := b.start("work", "--settle", "5s")
	awaitCount(t, pool, 3, `select count(*) from attempt_people p join attempts a on a.id = attempt_id where open and deadline < clock_timestamp()`)
	held := b.run("erase", jane, "--wait", "1s", "--yes", "--json").want(t, exitHeld)
	if code := decode[errorDocument](t, held).Error.Code; code != "under_way" || number(`select count(*) from results where email is not null`) != 4 {
		t.Errorf("while it is not known what a request did: %s", held.out)
	}
	w.kill(t)
	b.run("work", "--until-idle", "--settle", "1ms").want(t, exitOK)

	serve := b.serve()
	defer serve.stop()
	status, text := serve.ask(http.MethodPost, "/api/v1/batches?file_name=draft.csv", "text/csv", cells+"fourth@example.com,Kim\n")
	if status != http.StatusCreated {
		t.Fatalf("upload: %d %s", status, text)
	}
	b.run("send", "--yes", "--settle", "1ms", b.file("third.csv", "email\nfifth@example.com\nsixth@example.com\nseventh@example.com\n")).want(t, exitOK)
	postgrestest.Plant(t, pool, `update results set outcome = 'failed', reason = 'no_answer', clerk_invitation_id = null, status = null, invited_at = null where batch_id = 3 and row_number < 3`)

	if e := decode[erasureDocument](t, b.run("erase", "JANE@Bücher.example", "--yes", "--json").want(t, exitOK)); e.Rows != 4 || !slices.Equal(e.Batches, []int64{1, 2}) {
		t.Errorf("%+v", e)
	}
	b.run("erase", "sixth@example.com", "--yes").want(t, exitOK)
	for _, address := range []string{jane, "sixth@example.com", "nobody@example.com"} {
		b.run("erase", address).want(t, exitUsage)
		b.run("why", address).want(t, exitUsage)
		if status, text := serve.ask(http.MethodGet, "/api/v1/people/"+address, "", ""); status != http.StatusNotFound {
			t.Errorf("the story of %s: %d %s", address, status, text)
		}
	}
	b.run("verify", "1").want(t, exitOK)
	rows, _ := pool.Query(t.Context(), `select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(t, err)
	tables = append(tables, `(select convert_from(data, 'utf8') from upload_chunks)`) // files are kept as bytes
	for _, table := range tables {
		for _, mark := range []string{"bücher", "bcher-kva", "zora", "sixth"} {
			if number(`select count(*) from `+table+` t where position('`+mark+`' in lower(t::text)) > 0`) > 0 {
				t.Errorf("%s still has %s", table, mark)
			}
		}
	}

	for _, path := range []string{"/batches/1", "/batches/1/rows", "/batches/1/rows/1", "/batches/2", "/batches/2/rows", "/batches/2/problems", "/batches/2/plan", "/batches/1/results.csv", "/events",
		"/api/v1/batches/1/rows/1", "/api/v1/batches/2/draft", "/api/v1/batches/2/rows"} {
		if text := strings.ToLower(serve.get(path)); strings.Contains(text, "bücher") || strings.Contains(text, "bcher") || strings.Contains(text, "zora") {
			t.Errorf("%s names who was erased: %s", path, text)
		}
	}
	// The draft's file is gone with them: it can't be read in another way, and what was read of it goes out.
	status, text = serve.ask(http.MethodPut, "/api/v1/batches/2/columns", "application/json", `{"map":{"email":"email"}}`)
	if status != http.StatusConflict && status != http.StatusUnprocessableEntity {
		t.Errorf("another way to read a file that is gone: %d %s", status, text)
	}
	expect.Equal(t, "rows left of the draft", number(`select count(*) from results where batch_id = 2`), 5)
	b.run("start", "2", "--yes").want(t, exitOK)
	b.run("retry", "3").want(t, exitOK)
	b.run("work", "--until-idle", "--settle", "1ms").want(t, exitOK)
	b.run("retry", "3").want(t, exitOK) // whoever was erased stays as they were
	rows, _ = pool.Query(t.Context(), `select concat_ws(' ', batch_id, outcome, count(*)) from results group by batch_id, outcome order by 1`)
	ends, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if want := []string{"1 duplicate_row 1", "1 invited 3", "2 already_invited 2", "2 cancelled 1", "2 duplicate_row 1", "2 invited 1", "3 already_invited 1", "3 failed 1", "3 invited 1"}; err != nil || !slices.Equal(ends, want) {
		t.Errorf("%v, want %v (%v)", ends, want, err)
	}
	if m := s.mailbox(t); len(m.Addresses) != 7 || len(m.Doubled) > 0 {
		t.Errorf("%+v", m)
	}
	for _, batch := range []string{"1", "2"} {
		b.run("verify", batch).want(t, exitOK)
	}
}

// TestClaimsGoOnWhileErasuresWait: erase waits for imports, and correct for an
// erasure. Neither holds the budget of the instance meanwhile, so that everybody
// else is invited.
func TestClaimsGoOnWhileErasuresWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hold    func(*testing.T, pgx.Tx) error
		command []string
	}{
		"erase": {func(t *testing.T, tx pgx.Tx) error {
			_, err := erased.LoadErased(t.Context(), tx) // as an import does
			return err
		}, []string{"erase", "p000@example.com", "--yes"}},
		"correct": {func(t *testing.T, tx pgx.Tx) error {
			_, err := proof.Erase(t.Context(), tx, []string{"p001@example.com"}, "maria")
			return err
		}, []string{"correct", "1", "1", "--email", "right@example.com", "--yes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_waits", "BULKINVITE_SETTLE=1ms")
			pool := open(t, b.url)
			b.run("send", "--yes", b.file("sent.csv", listOf(0, 2))).want(t, exitOK)
			b.run("import", "--yes", b.file("waiting.csv", listOf(10, 12))).want(t, exitOK)
			tx, err := pool.Begin(t.Context())
			if err == nil {
				err = c.hold(t, tx)
			}
			must.OK(t, err)
			waiting := b.start(c.command...)
			awaitCount(t, pool, 1, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
			worker := b.start("work", "--until-idle")
			awaitCount(t, pool, 2, `select count(*) from results where batch_id = 2 and outcome = 'invited'`)
			// PostgreSQL ends a transaction that stands still for 20 s.
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatalf("claims went on only when what %s waited for was over: %v", name, err)
			}
			waiting.endsWith(t, exitOK)
			worker.endsWith(t, exitOK)
		})
	}
}
