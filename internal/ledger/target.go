package ledger

import (
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/db"
)

// Target is an invitation for a sweep to revoke.
type Target struct {
	Person              // InvitationID is required; the row is zero if no row explains the invitation
	InvitedAt time.Time // by Clerk's clock; if an answer is lost, lists are read back to this time
	ExpiresAt time.Time
}

// TargetColumns are the columns of a row r that [ScanTarget] reads.
const TargetColumns = `r.batch_id, r.row_number, r.key, r.clerk_invitation_id,
	coalesce(r.invited_at, r.decided_at), r.expires_at`

// SentPending says that row r made an invitation that may still be pending.
const SentPending = `r.outcome = 'invited' and coalesce(r.status, 'pending') = 'pending'
	and r.clerk_invitation_id is not null`

// ScanTarget reads a row of [TargetColumns].
func ScanTarget(row pgx.CollectableRow) (t Target, err error) {
	var invited, expires *time.Time
	err = row.Scan(&t.Batch, &t.Row, &t.Key, &t.InvitationID, &invited, &expires)
	t.InvitedAt, t.ExpiresAt = db.Time(invited), db.Time(expires)
	return t, err
}
