package invitation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Addressee is a person whom a file names.
type Addressee struct {
	Row   int // in the file
	Email string
	Key   string
}

// Known counts the people of a file of whom something is known already, each
// under the first of these that holds.
type Known struct {
	Registered int `json:"registered"` // users: skipped
	Invited    int `json:"invited"`    // by an earlier batch, and that may stand: skipped
	Pending    int `json:"pending"`    // by somebody else: skipped
	Lapsed     int `json:"lapsed"`     // by an earlier batch, revoked or expired since: invited again
}

// Skipped is how many of them are not invited.
func (k Known) Skipped(on OnDuplicate) int {
	if on == Resend {
		return k.Registered
	}
	return k.Registered + k.Invited + k.Pending
}

// AnyInvited reports whether anybody was invited at an instance.
func (r *Reader) AnyInvited(ctx context.Context, instance int64) (bool, error) {
	var any bool
	err := r.pool.QueryRow(ctx, `select exists (select from results where instance_id = $1 and outcome = 'invited')`, instance).Scan(&any)
	if err != nil {
		return false, fmt.Errorf("look for invitations of instance %d: %w", instance, err)
	}
	return any, nil
}

// Known tells who of the people with these keys was invited at an instance
// already, and of each whether an invitation may stand: then they are not invited
// again, but they are if all were revoked or have expired.
func (r *Reader) Known(ctx context.Context, instance int64, keys []string) (map[string]bool, error) {
	rows, _ := r.pool.Query(ctx, `
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

// OnlyInstance returns the one instance that this database has talked to,
// besides the sandbox inside the program, and false where there are several or
// none.
func (r *Reader) OnlyInstance(ctx context.Context) (int64, bool, error) {
	rows, err := r.pool.Query(ctx, `select id from instances where environment <> 'sandbox' limit 2`)
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
