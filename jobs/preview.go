package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/revocation"
)

// dropWithin is how long giving up a preview may take after its context has ended.
const dropWithin = 5 * time.Second

// LookUp finds out which of a draft's people need no invitation, and records it. begun is the
// result of [batch.BeginPreview]. LookUp asks Clerk if clerk is not nil, the batch has
// preflight, and there are at most [PreflightAtMost] people. If Clerk does not answer, it uses only
// the results, and the preview says why.
func LookUp(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, begun time.Time, clerk *Preflight) error {
	found, err := lookUp(ctx, pool, b, clerk)
	if err == nil {
		err = batch.EndPreview(ctx, pool, b.ID, begun, found)
	}
	if err != nil {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropWithin)
		defer cancel()
		return errors.Join(err, batch.DropPreview(within, pool, b.ID, begun))
	}
	return nil
}

func lookUp(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, clerk *Preflight) (p invitation.Preview,
	err error) {
	waiting, _, err := revocation.Undecided(ctx, pool, b.ID)
	if err != nil {
		return p, err
	}
	if !b.Preflight {
		clerk = nil
	}
	from := Lookup{Pool: pool, Instance: b.InstanceID, Clerk: clerk, Batch: b.ID}
	known, silent, err := from.Preview(ctx, waiting, func(take func([]invitation.Addressee) error) error {
		for after := 0; ; {
			people, err := batch.Addressees(ctx, pool, b.ID, after, LookupChunk)
			if err != nil || len(people) == 0 {
				return err
			}
			if err := take(people); err != nil {
				return fmt.Errorf("look up the people of batch %d: %w", b.ID, err)
			}
			after = people[len(people)-1].Row
		}
	})
	p.Known, p.AskedClerk = known, clerk != nil && waiting <= PreflightAtMost
	if silent != nil {
		p.Problem = silent.Error()
	}
	return p, err
}
