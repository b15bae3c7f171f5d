// Package db has what packages with SQL share: a snapshot, what a pool and a transaction have in
// common, and times that may be NULL. It imports nothing of the program. Start reading at
// [Queryer].
package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Queryer is a pool or a transaction. Code in a transaction must use the transaction for every
// query: if the pool is small, a second connection may never be free.
type Queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Snapshot runs f over one state of the database, so that sums are consistent while workers write.
func Snapshot(ctx context.Context, pool *pgxpool.Pool, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

// NullTime returns nil, which is NULL, for the zero time.
func NullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Time returns the zero time for nil.
func Time(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
