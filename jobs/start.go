package jobs

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/ratelimit"
)

// StartDraft starts a draft if terms allow it. It sets b to the draft as it is under its lock. It
// fails with a [batch.StateError], or with the error of terms.
func StartDraft(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string, terms batch.Terms) error {
	return retryDeadlock(ctx, pool, func(tx pgx.Tx) error {
		if err := batch.HoldDraft(ctx, tx, b, actor, terms); err != nil {
			return err
		}
		return Start(ctx, tx, b, actor)
	})
}

// Start sets a draft to running that the transaction has made or locked. It inserts the jobs of its
// rows first and locks the create and bulk buckets last: a million jobs take a minute, and claims
// wait for the buckets.
func Start(ctx context.Context, tx pgx.Tx, b *invitation.Batch, actor string) error {
	rows, err := batch.UndecidedRows(ctx, tx, b.ID)
	if err != nil {
		return err
	}
	if err := InsertInvites(ctx, tx, b.InstanceID, b.Priority, b.ID, rows); err != nil {
		return err
	}
	if err := ratelimit.Lock(ctx, tx, b.InstanceID, ratelimit.Create, ratelimit.Bulk); err != nil {
		return err
	}
	return batch.StartBatch(ctx, tx, b.ID, actor, b.Rows, b.Blank)
}
