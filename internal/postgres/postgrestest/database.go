// Package postgrestest gives each test its own migrated PostgreSQL database, on a private server
// that all test processes of a user share. It needs no setup.
package postgrestest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/postgres"
)

const (
	maxConns = 8           // of a test's pool
	patience = time.Minute // for the server, and for each database

	// Names of databases begin with one of these prefixes and the time of creation, in seconds
	// since 1970.
	databasePrefix = "test_"
	templatePrefix = "template_"
)

// Main runs the tests of a package without the caller's settings ([ClearEnvironment]). Then it
// calls closes, which close what the tests shared, and releases its share in the server. Call it
// from TestMain. It ends the process.
//
// Unless -parallel is set, two parallel tests run for each processor. They wait most of the time:
// for PostgreSQL, for processes, for a limit's window. With more of them, tests that measure time
// fail.
func Main(m *testing.M, closes ...func() error) {
	err := ClearEnvironment()
	if err == nil {
		err = setParallel(2 * runtime.GOMAXPROCS(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "before the tests:", err)
		os.Exit(1)
	}
	code := m.Run()
	for _, end := range append(closes, shared.release) {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, "after the tests:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// setParallel sets -parallel unless it is on the command line.
func setParallel(n int) error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(n))
}

// New returns a pool of at most 8 connections to a new, migrated database. The database is dropped
// when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return open(t, URL(t))
}

// URL returns the URL of a new, migrated database, for example for a child process. The database is
// dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return create(t, (*server).template)
}

// Plant runs a statement with the database's triggers off, including those that protect evidence.
// Tests use it for states that they can't reach otherwise, and for what an owner of the tables
// could do.
func Plant(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `set local session_replication_role = replica`); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("postgrestest: plant: %v", err)
	}
}

// Empty is like [New], but does not migrate.
func Empty(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return open(t, create(t, func(*server, context.Context) (string, error) { return "template0", nil }))
}

func open(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), fmt.Sprintf("%s&pool_max_conns=%d", url, maxConns))
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	return pool
}

// closePool closes the pool, but waits at most 10 s for connections that the test did not release.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Errorf("postgrestest: %d connections of the pool are still in use at the end of the test", pool.Stat().AcquiredConns())
	}
}

// create makes a database from the template that from returns, and returns its URL.
func create(t testing.TB, from func(*server, context.Context) (string, error)) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	template, err := from(&shared, ctx)
	if err == nil {
		err = shared.start(ctx)
	}
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	name := databaseName(time.Now())
	if err := shared.exec(ctx, "create database "+quote(name)+" template "+quote(template)); err != nil {
		t.Fatalf("postgrestest: create database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := shared.exec(ctx, "drop database "+quote(name)+" with (force)"); err != nil {
			t.Errorf("postgrestest: drop database: %v", err)
		}
	})
	return shared.url(name)
}

// databaseName returns a name with the time and the process that created the database.
func databaseName(now time.Time) string {
	var unique [4]byte
	rand.Read(unique[:]) // never fails
	return fmt.Sprintf("%s%d_%d_%s", databasePrefix, now.Unix(), os.Getpid(), hex.EncodeToString(unique[:]))
}

// stale reports whether a database's name has the prefix and its time is longer ago than age.
func stale(name, prefix string, now time.Time, age time.Duration) bool {
	rest, ours := strings.CutPrefix(name, prefix)
	seconds, _, _ := strings.Cut(rest, "_")
	made, err := strconv.ParseInt(seconds, 10, 64)
	return ours && err == nil && now.Sub(time.Unix(made, 0)) > age
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
