// Package migrations holds the schema of the database and brings it up to date.
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

// ErrNewer: the database was brought up to date by a newer version of the program, which this one does not know.
var ErrNewer = errors.New("the database is newer than the program")

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string // such as "0001_house.sql"
	Applied   bool
	AppliedAt time.Time // zero where it is not applied
}

// lockSeconds is how long, in seconds, Up waits for another process that migrates; it looks once a second.
const lockSeconds = 300

// Up brings the schema up to date. Any number of processes may call it at once: one migrates while the others wait, five
// minutes at most. Where nothing is to be done it costs one query. A database newer than the program is left alone:
// [ErrNewer].
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
	// A newer program may have migrated while we waited for the lock.
	if _, err := current(ctx, pool); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Pending tells whether [Up] has anything to do. It changes nothing. Of a database newer than the program: [ErrNewer].
func Pending(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	done, err := current(ctx, pool)
	if err != nil {
		return false, fmt.Errorf("migrate: %w", err)
	}
	return !done, nil
}

// Status lists every migration that the program or the database knows, oldest first.
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

// Current returns [ErrNewer] if the database is newer than the program, and nil if it is not. It changes nothing.
func Current(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := current(ctx, pool)
	return err
}

// current tells whether every migration is applied.
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

// undefinedTable is the SQLSTATE of a table that does not exist: nothing was ever migrated.
const undefinedTable = "42P01"

// appliedAt returns when each migration was applied, by its version.
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

// apply runs what is missing under goose's lock. It does so on connections of its own: the lock takes one for as long as
// the migrations take others, and a caller's pool may be too small for that, or full of others who wait for the same lock.
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

// Fingerprint names this state of the schema: it changes whenever a migration does.
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
		panic(err) // the files are part of the program
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
