package report

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// AnyInvited reports whether any row of an instance ended as invited.
func AnyInvited(ctx context.Context, pool *pgxpool.Pool, instance int64) (bool, error) {
	var any bool
	err := pool.QueryRow(ctx, `select exists (select from results where instance_id = $1 and outcome = 'invited')`, instance).Scan(&any)
	if err != nil {
		return false, fmt.Errorf("look for invitations of instance %d: %w", instance, err)
	}
	return any, nil
}

// Known returns the keys of the people that an instance has invited before. The value is true if
// one of their invitations may stand, so that they are not invited again. It is false if all were
// revoked or have expired.
func Known(ctx context.Context, pool *pgxpool.Pool, instance int64, keys []string) (map[string]bool, error) {
	rows, _ := pool.Query(ctx, `
		select key, bool_or(coalesce(status, 'pending') in ('pending', 'accepted') and (expires_at is null or expires_at > now()))
		from results where key = any($2) and instance_id = $1 and outcome = 'invited' group by key`, instance, keys)
	known := map[string]bool{}
	var key string
	var stands bool
	if _, err := pgx.ForEachRow(rows, []any{&key, &stands}, func() error { known[key] = stands; return nil }); err != nil {
		return nil, fmt.Errorf("look for people whom instance %d has invited: %w", instance, err)
	}
	return known, nil
}

// OnlyInstance returns the one instance, besides the sandbox, that this database has talked to. It
// returns false if there are several or none.
func OnlyInstance(ctx context.Context, pool *pgxpool.Pool) (int64, bool, error) {
	rows, err := pool.Query(ctx, `select id from instances where environment <> 'sandbox' limit 2`)
	if err != nil {
		return 0, false, fmt.Errorf("list the instances: %w", err)
	}
	id, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, pgx.ErrTooManyRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("list the instances: %w", err)
	}
	return id, true, nil
}
