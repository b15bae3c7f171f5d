package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/invitation"
)

// CloseRevoke closes an open revoke for one person and records the status of the invitation. An
// empty status leaves it unchanged. CloseRevoke returns the rows that can be claimed again. The
// person need not have a row.
func CloseRevoke(ctx context.Context, tx pgx.Tx, instance, attempt int64, p Person, status invitation.Status, how string) ([]Freed, error) {
	if status != "" {
		if err := standing(ctx, tx, instance, p, status); err != nil {
			return nil, err
		}
	}
	_, err := tx.Exec(ctx, `
		update attempt_people set open = false, closed_at = clock_timestamp(), resolution = $3 where attempt_id = $1 and key = $2 and closed_at is null`, attempt, p.Key, how)
	if err != nil {
		return nil, fmt.Errorf("close attempt %d: %w", attempt, err)
	}
	_, err = tx.Exec(ctx, `
		update attempts set resolved_at = clock_timestamp(), resolution = case when $2 in ('answered', 'not_sent', 'refused') then $2 else 'read' end
		where id = $1 and resolved_at is null and not exists (select from attempt_people p where p.attempt_id = $1 and p.closed_at is null)`, attempt, how)
	if err != nil {
		return nil, fmt.Errorf("close attempt %d: %w", attempt, err)
	}
	return freed(ctx, tx, instance, []string{p.Key})
}

// standing records the status of an invitation in all rows that carry it, and in its sighting and
// drift.
func standing(ctx context.Context, tx pgx.Tx, instance int64, p Person, status invitation.Status) error {
	_, err := tx.Exec(ctx, `update results set status = $4, status_at = clock_timestamp(), status_read_id = null
		where instance_id = $1 and key = $2 and clerk_invitation_id = $3 and status is distinct from $4`, instance, p.Key, p.InvitationID, string(status))
	if err != nil {
		return fmt.Errorf("record where invitation %s stands: %w", p.InvitationID, err)
	}
	// The sighting is older than this status.
	_, err = tx.Exec(ctx, `update sightings set status = $3 where instance_id = $1 and clerk_id = $2 and kind = 'invitation'`, instance, p.InvitationID, string(status))
	if err != nil {
		return fmt.Errorf("record where invitation %s stands: %w", p.InvitationID, err)
	}
	_, err = tx.Exec(ctx, `update drift set status = $3 where instance_id = $1 and clerk_invitation_id = $2 and kind in ('unexplained', 'pending_again')`, instance, p.InvitationID, string(status))
	if err != nil {
		return fmt.Errorf("record where invitation %s stands: %w", p.InvitationID, err)
	}
	return nil
}

// LastStatus returns the status in which reads last showed an invitation, and the last of these
// reads. It considers passes that began at since or later, and also older ones that showed accepted
// or revoked, because these are final. It returns "" if there is no such read.
func LastStatus(ctx context.Context, tx pgx.Tx, instance int64, invitation string, since time.Time) (status invitation.Status, read int64, err error) {
	err = tx.QueryRow(ctx, `select coalesce(status, ''), last_read from sightings where instance_id = $1 and clerk_id = $2 and kind = 'invitation' and (last_seen >= $3 or status in ('accepted', 'revoked'))
		order by last_seen desc limit 1`, instance, invitation, since).Scan(&status, &read)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("look up invitation %s: %w", invitation, err)
	}
	return status, read, nil
}
