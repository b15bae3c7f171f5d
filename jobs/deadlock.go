package jobs

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// deadlock is the SQLSTATE of a transaction that PostgreSQL ended because it and
// another waited for each other.
const deadlock = "40P01"

// retryDeadlock runs f in a transaction, and again if PostgreSQL ends it because of a
// deadlock: five times at most. Workers record answers for the same rows meanwhile.
func retryDeadlock(ctx context.Context, pool *pgxpool.Pool, f func(pgx.Tx) error) (err error) {
	for range 5 {
		err = pgx.BeginFunc(ctx, pool, f)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != deadlock {
			break
		}
	}
	return err
}
