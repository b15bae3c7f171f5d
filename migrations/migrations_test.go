package migrations_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/migrations"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// clone returns another pool on the pool's database, as another process would have it.
func clone(t *testing.T, pool *pgxpool.Pool, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	change(config)
	other, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return other
}

func migrator(t *testing.T, pool *pgxpool.Pool) *rivermigrate.Migrator[pgx.Tx] {
	t.Helper()
	m, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// complete sees that every migration is applied once, River's among them, and after began.
func complete(t *testing.T, pool *pgxpool.Pool, began time.Time) {
	t.Helper()
	list, err := migrations.Status(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if !m.Applied || m.AppliedAt.Before(began) || m.AppliedAt.After(time.Now().Add(time.Minute)) {
			t.Errorf("%+v", m)
		}
	}
	valid, err := migrator(t, pool).Validate(t.Context(), nil)
	if err != nil || !valid.OK {
		t.Errorf("River's tables: %v, %v", valid, err)
	}
	var twice int
	err = pool.QueryRow(t.Context(), "select count(*) - count(distinct version_id) from goose_db_version").Scan(&twice)
	if err != nil || twice != 0 {
		t.Errorf("%d migrations are recorded twice (%v)", twice, err)
	}
}

func TestPending(t *testing.T) {
	t.Parallel()
	pool := postgrestest.Empty(t)
	if pending, err := migrations.Pending(t.Context(), pool); err != nil || !pending {
		t.Errorf("an empty database: %v, %v", pending, err)
	}
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if pending, err := migrations.Pending(t.Context(), pool); err != nil || pending {
		t.Errorf("after Up: %v, %v", pending, err)
	}
}

func TestUpAtOnce(t *testing.T) {
	t.Parallel()
	began := time.Now().Add(-time.Minute)
	pool := postgrestest.Empty(t)
	small := func(config *pgxpool.Config) { config.MaxConns = 1 }
	pools := []*pgxpool.Pool{pool, pool, pool} // in one process
	for range 7 {
		pools = append(pools, clone(t, pool, small))
	}
	var group sync.WaitGroup
	for _, p := range pools {
		group.Go(func() {
			if err := migrations.Up(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	complete(t, pool, began)
}

// counter counts the statements that are sent.
type counter struct{ queries atomic.Int32 }

// TraceQueryStart counts.
func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(strings.TrimSpace(data.SQL), "select") {
		c.queries.Add(1)
	}
	return ctx
}

// TraceQueryEnd does nothing.
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestUpToDate(t *testing.T) {
	t.Parallel()
	var count counter
	pool := clone(t, postgrestest.New(t), func(config *pgxpool.Config) { config.ConnConfig.Tracer = &count })
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if n := count.queries.Load(); n != 1 {
		t.Errorf("it took %d queries to see that nothing is to be done", n)
	}
	complete(t, pool, time.Time{}.Add(time.Hour)) // whenever the template was made
}

// A crash may come between River's commits and ours.
func TestUpAfterCrash(t *testing.T) {
	t.Parallel()
	began := time.Now().Add(-time.Minute)
	pool := postgrestest.Empty(t)
	opts := &rivermigrate.MigrateOpts{TargetVersion: 4}
	if _, err := migrator(t, pool).Migrate(t.Context(), rivermigrate.DirectionUp, opts); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	complete(t, pool, began)
}

// upTo brings an empty database to a version.
func upTo(t *testing.T, pool *pgxpool.Pool, version int64) {
	t.Helper()
	river := goose.NewGoMigration(2, &goose.GoFunc{RunDB: func(ctx context.Context, _ *sql.DB) error {
		_, err := migrator(t, pool).Migrate(ctx, rivermigrate.DirectionUp, nil)
		return err
	}}, nil)
	db := stdlib.OpenDBFromPool(pool)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("."), goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(river))
	if err == nil {
		_, err = provider.UpTo(t.Context(), version)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Workers of the version before are at work meanwhile: what they began comes to
// its end, and so does the migration.
func TestUpBesideWorkers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		of                    int64 // the version that the workers know
		begins, waits, goesOn string
	}{
		"a claim":              {15, "select from attempt_people", "attempt_people", "lock table attempt_people in row exclusive mode"},
		"an import":            {15, "lock table results in row exclusive mode", "results", "lock table events in row exclusive mode"},
		"a claim that decides": {17, "lock table results in row exclusive mode", "results", "lock table attempts in row exclusive mode"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := postgrestest.Empty(t)
			upTo(t, pool, test.of)
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.Background()) // it is committed
			if _, err := tx.Exec(t.Context(), test.begins); err != nil {
				t.Fatal(err)
			}
			up := make(chan error, 1)
			go func() { up <- migrations.Up(t.Context(), pool) }()
			for waits := false; !waits; {
				if err := pool.QueryRow(t.Context(), `select exists (select from pg_locks where relation = $1::regclass and not granted)`, test.waits).Scan(&waits); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := tx.Exec(t.Context(), test.goesOn); err != nil {
				t.Error(err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-up; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	if _, err := pool.Exec(t.Context(), "insert into goose_db_version (version_id, is_applied) values (9999, true)"); err != nil {
		t.Fatal(err)
	}
	err := migrations.Up(t.Context(), pool)
	if !errors.Is(err, migrations.ErrNewer) || !strings.Contains(err.Error(), "9999") {
		t.Errorf("error %v", err)
	}
	if _, err := migrations.Pending(t.Context(), pool); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("pending: %v", err)
	}
	list, err := migrations.Status(t.Context(), pool)
	if err != nil || list[len(list)-1].Version != 9999 {
		t.Errorf("status %+v, %v", list, err)
	}
}

func TestStatusOfNothing(t *testing.T) {
	t.Parallel()
	list, err := migrations.Status(t.Context(), postgrestest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(list))
	for _, m := range list {
		names = append(names, m.Name)
		if m.Applied || !m.AppliedAt.IsZero() {
			t.Errorf("%+v", m)
		}
	}
	if want := []string{"0001_house.sql", "0002_river.go"}; !slices.Equal(names[:2], want) {
		t.Errorf("the migrations are %v; want %v first", names, want)
	}
}

func TestUpIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pool := postgrestest.Empty(t)
	if err := migrations.Up(ctx, pool); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Where River has newer migrations than ours brings it to, it needs another one here.
func TestRiverVersion(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	m := migrator(t, pool)
	existing, err := m.ExistingVersions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := m.AllVersions()
	if got, want := existing[len(existing)-1].Version, all[len(all)-1].Version; got != want {
		t.Errorf("River's tables are at version %d, River has %d", got, want)
	}
}

// TestUpEndsWithdrawnRows migrates a database with rows that sweeps withdrew and a retry of an earlier version opened
// again. Those of an ended sweep are cancelled, those of a stopped one wait again, and the others stay as they are.
func TestUpEndsWithdrawnRows(t *testing.T) {
	t.Parallel()
	pool := postgrestest.Empty(t)
	upTo(t, pool, 30)
	_, err := pool.Exec(t.Context(), `
		insert into instances (clerk_id, environment) values ('ins_1', 'production');
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
			values (1, 'a.csv', '', 1, 'UTF-8', ',', '{email}', 'maria', 'running');
		insert into sweeps (instance_id, kind, started_by, apply, finished_at)
			values (1, 'rescind', 'maria', true, now()), (1, 'undo', 'maria', true, now()), (1, 'rescind', 'maria', true, null);
		insert into events (instance_id, actor, action, details) values (1, 'maria', 'sweep_stopped', '{"sweep": 2}');
		insert into results (batch_id, row_number, instance_id, line, original, email, key, withdrawn_by, outcome, decided_at)
		select 1, n, 1, n, '{x}', 'x', 'x' || n, by, outcome, case when outcome is not null then now() end
		from (values (1, 1, null), (2, 2, null), (3, 3, null), (4, null, null), (5, 1, 'rejected'), (6, 1, null))
			as r (n, by, outcome);
		insert into attempts (instance_id, bucket, call, worker_id, deadline) values (1, 'create', 'create', 'w', now());
		insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open)
			values (1, 1, 'x6', 1, 6, true)`)
	if err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	rows, _ := pool.Query(t.Context(), `
		select concat_ws(' ', row_number, coalesce(outcome, 'undecided'), reason, 'by ' || withdrawn_by)
		from results order by row_number`)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	want := []string{"1 cancelled withdrawn by 1", "2 undecided", "3 undecided by 3", "4 undecided",
		"5 rejected by 1", "6 undecided by 1"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("rows %q, %v; want %q", got, err, want)
	}
}
