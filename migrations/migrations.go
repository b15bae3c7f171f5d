// Package migrations contains the database schema and brings it up to date.
package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed *.sql
var files embed.FS

// ErrNewer says that a newer version of the program has migrated the database, with migrations that
// this version does not know.
var ErrNewer = errors.New("the database is newer than the program")

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string // the file name, such as "0001_house.sql"
	Applied   bool
	AppliedAt time.Time // zero if not applied
}

// lockSeconds is how many seconds Up waits for another process that migrates. It checks once a
// second.
const lockSeconds = 300

// Up brings the schema up to date. Any number of processes may call it at once: one migrates, and
// the others wait for five minutes at most. If there is nothing to do, Up costs one query. It does
// not change a database that is newer than the program and returns [ErrNewer].
func Up(ctx context.Context, pool *pgxpool.Pool) error {
	done, err := current(ctx, pool)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if done {
		return nil
	}
	if err := apply(ctx, pool); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	// A newer program may have migrated while this one waited for the lock.
	if _, err := current(ctx, pool); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Pending reports whether [Up] has anything to do. It changes nothing. If the database is newer
// than the program, it returns [ErrNewer].
func Pending(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	done, err := current(ctx, pool)
	if err != nil {
		return false, fmt.Errorf("migrate: %w", err)
	}
	return !done, nil
}

// Status lists every migration that the program or the database knows, oldest first. It changes
// nothing.
func Status(ctx context.Context, pool *pgxpool.Pool) ([]Migration, error) {
	known, err := sources()
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	applied, err := appliedAt(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	var list []Migration
	for _, m := range known {
		at, ok := applied[m.Version]
		m.Applied, m.AppliedAt = ok, at
		list = append(list, m)
		delete(applied, m.Version)
	}
	for _, version := range sortedKeys(applied) {
		list = append(list, Migration{Version: version, Name: "of a newer program", Applied: true, AppliedAt: applied[version]})
	}
	return list, nil
}

// Current returns [ErrNewer] if the database is newer than the program, and nil otherwise. It
// changes nothing.
func Current(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := current(ctx, pool)
	return err
}

// current reports whether every migration is applied.
func current(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	known, err := sources()
	if err != nil {
		return false, err
	}
	applied, err := appliedAt(ctx, pool)
	if err != nil {
		return false, err
	}
	newest := known[len(known)-1].Version
	if versions := sortedKeys(applied); len(versions) > 0 && versions[len(versions)-1] > newest {
		return false, fmt.Errorf("%w: it is at version %d, the program knows versions up to %d", ErrNewer, versions[len(versions)-1], newest)
	}
	for _, m := range known {
		if _, ok := applied[m.Version]; !ok {
			return false, nil
		}
	}
	return true, nil
}

// undefinedTable is PostgreSQL's SQLSTATE for a table that does not exist. Here it means that
// nothing was ever migrated.
const undefinedTable = "42P01"

// appliedAt returns when each migration was applied, by version.
func appliedAt(ctx context.Context, pool *pgxpool.Pool) (map[int64]time.Time, error) {
	rows, err := pool.Query(ctx, `
		select version_id, tstamp at time zone 'UTC' -- the session's zone when it was written
		from goose_db_version
		where is_applied and version_id > 0`)
	if err != nil {
		return nil, tableMissing(err)
	}
	applied := make(map[int64]time.Time)
	var version int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
		applied[version] = at
		return nil
	})
	return applied, tableMissing(err)
}

func tableMissing(err error) error {
	var failed *pgconn.PgError
	if errors.As(err, &failed) && failed.Code == undefinedTable {
		return nil
	}
	return err
}

// apply runs the missing migrations under goose's lock, with a pool of its own. The lock holds one
// connection while the migrations use others. The caller's pool may be too small for that, or full
// of callers that wait for the same lock.
func apply(ctx context.Context, pool *pgxpool.Pool) (err error) {
	config := pool.Config()
	config.MaxConns, config.MinConns, config.MinIdleConns = 4, 0, 0
	own, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer own.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockSeconds))
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(own)
	defer func() { err = errors.Join(err, db.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(river(own)),
	)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// sources lists the migrations that the program knows, oldest first.
func sources() ([]Migration, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	known := []Migration{{Version: riverMigration, Name: riverName}}
	for _, entry := range entries {
		version, err := goose.NumericComponent(path.Base(entry.Name()))
		if err != nil {
			return nil, err
		}
		known = append(known, Migration{Version: version, Name: entry.Name()})
	}
	sortByVersion(known)
	return known, nil
}

// Fingerprint identifies the state of the schema. It changes whenever a migration changes.
func Fingerprint() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "river %d\n", riverVersion)
	entries, err := files.ReadDir(".")
	for _, entry := range entries {
		var text []byte
		if text, err = files.ReadFile(entry.Name()); err != nil {
			break
		}
		fmt.Fprintf(sum, "%s %d\n%s", entry.Name(), len(text), text)
	}
	if err != nil {
		panic(err) // the files are embedded in the program
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
