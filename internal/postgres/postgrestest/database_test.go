package postgrestest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

func TestMain(m *testing.M) { Main(m) }

func TestNewIsMigratedAndAlone(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			pool := New(t)
			const sql = "insert into instances (clerk_id, environment) values ('ins_1', 'development')"
			if _, err := pool.Exec(t.Context(), sql); err != nil { // a duplicate if tests shared the database
				t.Fatal(err)
			}
			var jobs int
			expect.OK(t, pool.QueryRow(t.Context(), "select count(*) from river_job").Scan(&jobs))
			if got := pool.Config().MaxConns; got != maxConns {
				t.Errorf("the pool has up to %d connections", got)
			}
		})
	}
}

func TestDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("user", func(t *testing.T) {
		url = URL(t)
		conn, err := pgx.Connect(t.Context(), url) // left open, like a child that hangs
		must.OK(t, err)
		must.OK(t, conn.Ping(t.Context()))
	})
	conn, err := pgx.Connect(t.Context(), url)
	if err == nil {
		err = errors.Join(errors.New("the database is still there"), conn.Close(t.Context()))
	}
	if !strings.Contains(err.Error(), "3D000") {
		t.Error(err)
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	tests := []struct {
		name string
		want bool
	}{
		{databaseName(now), false},
		{databaseName(now.Add(-59 * time.Minute)), false},
		{databaseName(now.Add(-61 * time.Minute)), true},
		{"test_", false},
		{"test_database", false},
		{"postgres", false},
		{"template_1_abc", false},
	}
	for _, test := range tests {
		if got := stale(test.name, databasePrefix, now, time.Hour); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestDropStale(t *testing.T) {
	t.Parallel()
	kept := New(t)
	ctx := t.Context()
	old := databaseName(time.Now().Add(-2 * time.Hour))
	must.OK(t, shared.exec(ctx, "create database "+quote(old)+" template template0"))
	must.OK(t, shared.dropStale(ctx, time.Now()))
	err := shared.do(ctx, func(conn *pgx.Conn) error {
		names, err := databases(ctx, conn)
		for _, name := range names {
			if name == old {
				t.Errorf("%s is still there", name)
			}
		}
		return err
	})
	must.OK(t, err)
	expect.OK(t, kept.Ping(context.WithoutCancel(ctx)))
}
