package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	riverMigration = 2
	riverName      = "0002_river.go"

	// riverVersion is the newest of River's own migrations that River v0.51.1 has. A River that has more needs a
	// migration here that brings it there; a test tells.
	riverVersion = 8
)

// river makes River's tables, as a step of our own sequence. River commits each of its migrations by itself (some can't
// share a transaction) and remembers them in its own table, so that a crash half way is made good by the next run.
func river(pool *pgxpool.Pool) *goose.Migration {
	up := func(ctx context.Context, _ *sql.DB) error {
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return fmt.Errorf("make River's tables: %w", err)
		}
		opts := &rivermigrate.MigrateOpts{TargetVersion: riverVersion}
		if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, opts); err != nil {
			return fmt.Errorf("make River's tables: %w", err)
		}
		return nil
	}
	return goose.NewGoMigration(riverMigration, &goose.GoFunc{RunDB: up}, nil)
}

func sortByVersion(list []Migration) {
	slices.SortFunc(list, func(a, b Migration) int { return cmp.Compare(a.Version, b.Version) })
}

func sortedKeys[V any](m map[int64]V) []int64 { return slices.Sorted(maps.Keys(m)) }
