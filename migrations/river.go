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

	// riverVersion is the newest of River's own migrations in River v0.51.1. When River adds one,
	// add a migration here that applies it. A test fails until then.
	riverVersion = 8
)

// river creates River's tables as one step of this program's sequence. River commits each of its
// migrations separately, because some cannot share a transaction, and records them in its own
// table. So the next run completes a run that crashed halfway.
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
