package batch

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// EnsureInstance returns the instance with this Clerk id. The first time it creates the instance
// and its buckets.
func EnsureInstance(ctx context.Context, pool *pgxpool.Pool, clerkID, environment string) (invitation.Instance, error) {
	in := invitation.Instance{ClerkID: clerkID, Environment: environment}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			insert into instances (clerk_id, environment) values ($1, $2)
			on conflict (clerk_id) do update set environment = excluded.environment returning id`, clerkID, environment).Scan(&in.ID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `insert into buckets (instance_id, name)
			select $1, name from unnest(array['create', 'bulk', 'general']) name on conflict do nothing`, in.ID)
		return err
	})
	if err != nil {
		return in, fmt.Errorf("register instance %s: %w", clerkID, err)
	}
	return in, nil
}

// AdoptInstance gives an instance that an earlier version made under a former id its Clerk id, so
// that its files, people and budgets are kept. It does nothing if there is no such instance. It
// fails with [*invitation.TwoInstancesError] as [FormerInstance] does.
func AdoptInstance(ctx context.Context, pool *pgxpool.Pool, clerkID, former string) error {
	_, err := pool.Exec(ctx, `update instances set clerk_id = $1
		where clerk_id = $2 and not exists (select from instances where clerk_id = $1)`, clerkID, former)
	if err != nil {
		return fmt.Errorf("rename instance %s to %s: %w", former, clerkID, err)
	}
	_, err = FormerInstance(ctx, pool, clerkID, former)
	return err
}

// FormerInstance returns the number of the instance that an earlier version made under a former id,
// or 0 if there is none. It fails with [*invitation.TwoInstancesError] if that instance has batches or
// attempts and an instance with the Clerk id exists too.
func FormerInstance(ctx context.Context, pool *pgxpool.Pool, clerkID, former string) (int64, error) {
	var id int64
	var both bool
	err := pool.QueryRow(ctx, `
		select id, exists (select from instances where clerk_id = $1) and
		           (exists (select from batches where instance_id = f.id)
		            or exists (select from attempts where instance_id = f.id))
		from instances f where clerk_id = $2`, clerkID, former).Scan(&id, &both)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("look for instance %s: %w", former, err)
	case both:
		return 0, &invitation.TwoInstancesError{ClerkID: clerkID, Former: former, FormerID: id}
	}
	return id, nil
}
