package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// Reconciled reports whether any instance has had a complete reconcile.
func Reconciled(ctx context.Context, pool *pgxpool.Pool) (found bool, err error) {
	err = pool.QueryRow(ctx, `select exists (select from reconciles where complete)`).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look for a reconciling that read everything: %w", err)
	}
	return found, nil
}

// LastReconcile returns the last reconcile of an instance that ended, or nil if there was none.
func LastReconcile(ctx context.Context, pool *pgxpool.Pool, instance int64) (*ledger.Reconcile, error) {
	var last ledger.Reconcile
	err := pool.QueryRow(ctx, `
		select id, started_by, started_at, complete, coalesce(error, ''), requests, scanned, accepted, expired, revoked, unexplained, gone, pending_again, deleted
		from reconciles where instance_id = $1 and finished_at is not null order by started_at desc limit 1`, instance).
		Scan(&last.ID, &last.StartedBy, &last.StartedAt, &last.Complete, &last.Error, &last.Requests, &last.Scanned, &last.Accepted, &last.Expired, &last.Revoked,
			&last.Drift.Unexplained, &last.Drift.Gone, &last.Drift.PendingAgain, &last.Deleted)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the last reconciling of instance %d: %w", instance, err)
	}
	return &last, nil
}

// Drift is one invitation about which Clerk and the results disagree.
type Drift struct {
	Kind              ledger.DriftKind   `json:"kind"`
	ClerkInvitationID string             `json:"clerk_invitation_id"`
	Email             string             `json:"email"`
	Status            *invitation.Status `json:"status"` // at Clerk; for gone: in the row
	CreatedAt         *time.Time         `json:"created_at"`
	BatchID           *int64             `json:"batch_id"` // of the row, for gone and pending_again
	RowNumber         *int               `json:"row_number"`
	FirstSeen         time.Time          `json:"first_seen"`
	LastSeen          time.Time          `json:"last_seen"`
	Environment       string             `json:"environment"`
	InstanceID        int64              `json:"-"`
}

// DriftFilter says which drift to return. Of After, only FirstSeen, ClerkInvitationID, Kind and
// InstanceID count.
type DriftFilter struct {
	Kind  ledger.DriftKind // empty: any kind
	After *Drift           // last item of the page before; nil: from the newest
	Limit int              // 0: no limit
}

// EachDrift calls yield with the current drift of all instances, newest first. It reads in pages, so it
// holds no connection while yield runs. Drift that lasts for the whole call is returned once, in
// order. Drift that begins or ends meanwhile may be missing. yield may keep the Drift. If yield
// returns an error, Drift stops and returns that error.
func EachDrift(ctx context.Context, pool *pgxpool.Pool, f DriftFilter, yield func(*Drift) error) error {
	after := f.After
	for done := 0; ; {
		limit := driftRows
		if f.Limit > 0 {
			limit = min(limit, f.Limit-done)
		}
		page, err := driftPage(ctx, pool, f.Kind, after, limit)
		if err != nil {
			return fmt.Errorf("list the drift: %w", err)
		}
		for _, d := range page {
			if err := yield(d); err != nil {
				return err
			}
		}
		done += len(page)
		if len(page) < limit || done == f.Limit {
			return nil
		}
		after = page[len(page)-1]
	}
}

// driftRows is the number of items in a page: a few hundred kilobytes.
const driftRows = 1000

// driftPage reads the drift after an item, or from the newest if after is nil.
func driftPage(ctx context.Context, pool *pgxpool.Pool, kind ledger.DriftKind, after *Drift, limit int) ([]*Drift, error) {
	from := pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true} // newer than any time
	if after == nil {
		after = &Drift{}
	} else {
		from = pgtype.Timestamptz{Time: after.FirstSeen, Valid: true}
	}
	rows, _ := pool.Query(ctx, `
		select d.kind, d.clerk_invitation_id, d.key, d.status, d.created_at, d.batch_id, d.row_number, d.first_seen, d.last_seen, i.environment, i.id
		from drift d join instances i on i.id = d.instance_id
		where d.ended_at is null and ($1 = '' or d.kind = $1) and (d.first_seen, d.clerk_invitation_id, d.kind, d.instance_id) < ($2, $3, $4, $5)
		order by d.first_seen desc, d.clerk_invitation_id desc, d.kind desc, d.instance_id desc limit $6`,
		kind, from, after.ClerkInvitationID, after.Kind, after.InstanceID, limit)
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Drift])
}
