package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/erased"
)

// Veil replaces the keys of erased and purged people in what a read showed, so that their addresses
// do not return to the database. A person whose own key is in a row again keeps it.
func Veil(ctx context.Context, pool *pgxpool.Pool, instance int64, seen []Seen) error {
	var some bool
	if err := pool.QueryRow(ctx, `select exists (select from erasures)`).Scan(&some); err != nil {
		return fmt.Errorf("look whether anybody was erased: %w", err)
	}
	if !some || len(seen) == 0 {
		return nil
	}
	h, err := erased.NewHasher(ctx, pool)
	if err != nil {
		return err
	}
	keys, people := make([]string, len(seen)), make([]string, len(seen))
	for i := range seen {
		keys[i], people[i] = seen[i].Key, h.Person(seen[i].Key)
	}
	rows, _ := pool.Query(ctx, `
		select d.n from unnest($2::text[], $3::text[]) with ordinality as d (key, person, n)
		where exists (select from results r where r.key = d.person and r.instance_id = $1 offset 0)
		  and not exists (select from results r where r.key = d.key and r.instance_id = $1 offset 0)`, instance, keys, people)
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&n}, func() error { seen[n-1].Key = people[n-1]; return nil }); err != nil {
		return fmt.Errorf("look who of what Clerk shows was erased: %w", err)
	}
	return nil
}
