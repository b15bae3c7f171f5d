package web

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/must"
)

// restart ends the server, as SIGTERM does, and starts another one on the same
// database. It tells how long the end took.
func (b *bench) restart() time.Duration {
	b.t.Helper()
	begun := time.Now()
	b.server.end()
	b.server.work.Wait()
	took := time.Since(begun)
	var err error
	b.server, err = New(b.pool, b.server.cfg)
	must.OK(b.t, err)
	web := httptest.NewServer(b.server.Handler())
	server := b.server
	b.t.Cleanup(func() {
		web.Close()
		server.end()
		server.work.Wait()
	})
	b.url = web.URL
	return took
}

// holdResults lets no check write rows, until release is called.
func (b *bench) holdResults() (release func()) {
	b.t.Helper()
	tx, err := b.pool.Begin(b.t.Context())
	must.OK(b.t, err)
	must.Exec(b.t, tx, `lock table results in exclusive mode`)
	release = func() {
		if err := tx.Rollback(context.WithoutCancel(b.t.Context())); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			b.t.Error(err)
		}
	}
	b.t.Cleanup(release)
	return release
}

// TestChecksWithoutEnd: a file whose check comes to no end twice, since the server
// ends meanwhile, is not read a third time. Its page says why, and what to do.
func TestChecksWithoutEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	release := b.holdResults()
	b.exec(`insert into uploads (instance_id, actor, file_name, bytes, sha256, received_at) select id, 'olga', 'long.csv', 20, 'x', clock_timestamp() from instances`)
	b.exec(`insert into upload_chunks (upload_id, number, data) values (1, 0, convert_to('email' || chr(10) || 'a@example.com' || chr(10), 'UTF8'))`)
	w := b.as("olga")
	for n := range maxChecks {
		w.get("/uploads/1").want(http.StatusOK).says("long.csv")
		b.until("the check has begun", func() bool {
			return b.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 1
		})
		if took := b.restart(); took > stopTime/2 {
			t.Errorf("the server took %v to end", took)
		}
		if got := b.count(`select checks from uploads`); got != n+1 {
			t.Errorf("%d checks came to no end, want %d", got, n+1)
		}
		b.exec(`update uploads set check_at = check_at - $1::interval`, checkGap) // as time goes by
	}
	release()
	b.until("the file is refused", func() bool {
		w.get("/uploads/1")
		return b.count(`select count(*) from uploads where failure is not null`) == 1
	})
	w.get("/uploads/1").says("The server ended or was stopped 2 times while it read this file", "upload the file again")
	b.until("it is refused in another way too", func() bool {
		w.post("/uploads/1", url.Values{"encoding": {"utf-8"}, "delimiter": {""}})
		w.get("/uploads/1")
		return b.count(`select checks from uploads where failure is not null`) == maxChecks+2
	})
	if b.count(`select count(*) from batches`) != 0 {
		t.Error("a batch came of it")
	}
	// A file of its own is another matter, and one check that ended is forgotten.
	w.follow(w.upload("short.csv", "email\nb@example.com\n")).want(http.StatusOK)
	b.until("a batch comes of another file", func() bool {
		return b.count(`select count(*) from uploads where batch_id is not null and checks = 0`) == 1
	})
}

// TestChecksWaitForNoTurn: a server that ends does not wait for files that wait for
// their turn, and no check of those is counted.
func TestChecksWaitForNoTurn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for range checksAtOnce {
		b.server.checks.turns <- struct{}{}
	}
	w := b.as("olga")
	w.upload("hires.csv", "email\na@example.com\n")
	if took := b.restart(); took > stopTime/2 {
		t.Errorf("the server took %v to end", took)
	}
	if got := b.count(`select checks from uploads`); got != 0 {
		t.Errorf("%d checks were counted", got)
	}
}
