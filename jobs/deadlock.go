package jobs

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// deadlock is PostgreSQL's SQLSTATE deadlock_detected: PostgreSQL ended the transaction because it
// and another waited for each other.
const deadlock = "40P01"

// retryDeadlock runs f in a transaction and repeats it after a deadlock, five times at most.
// Deadlocks happen because workers record answers for the same rows meanwhile.
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
