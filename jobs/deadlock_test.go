package jobs

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/postgres/postgrestest"
)

// TestRetryDeadlock: a transaction that PostgreSQL ends because of a deadlock is made again, five times at most; one that
// fails otherwise is not.
func TestRetryDeadlock(t *testing.T) {
	t.Parallel()
	pool := postgrestest.Empty(t)
	for _, c := range []struct {
		code         string
		fails, tries int // how often it fails, how often it is made
	}{{"40P01", 0, 1}, {"40P01", 2, 3}, {"40P01", 9, 5}, {"40001", 9, 1}} {
		tries := 0
		err := retryDeadlock(t.Context(), pool, func(tx pgx.Tx) error {
			if tries++; tries > c.fails {
				return nil
			}
			_, err := tx.Exec(t.Context(), `do $$ begin raise exception using errcode = '`+c.code+`'; end $$`)
			return err
		})
		if tries != c.tries || (err == nil) != (c.tries > c.fails) {
			t.Errorf("%s, %d times: made %d times, %v", c.code, c.fails, tries, err)
		}
	}
}
