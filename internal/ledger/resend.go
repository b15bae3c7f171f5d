package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// loadRevoked reads the rows' own revokes. An earlier version sent them under a create, and a row
// waits for the end of those too.
const loadRevoked = `
	select r.batch_id, r.row_number, a.id, coalesce(p.clerk_invitation_id, ''), a.resolved_at is null,
	       p.answer is not distinct from 'gone'
	from unnest($1::bigint[], $2::int[]) as w (batch_id, row_number)
	cross join lateral (select * from results r where r.batch_id = w.batch_id and r.row_number = w.row_number and r.revoke_sent is not null offset 0) r
	cross join lateral (select * from attempt_people p where p.batch_id = r.batch_id and p.row_number = r.row_number offset 0) p
	join attempts a on a.id = p.attempt_id
	where ` + OwnRevoke + ` and not ` + Undone + `
	order by a.id`

func scanRevoked(rows pgx.Rows, byRow map[invitation.RowID]*Case) error {
	for rows.Next() {
		var id invitation.RowID
		var r invitation.OwnRevoke
		if err := rows.Scan(&id.Batch, &id.Row, &r.Attempt, &r.InvitationID, &r.Open, &r.Gone); err != nil {
			return err
		}
		if c := byRow[id]; c != nil {
			c.Revoked = append(c.Revoked, r)
		}
	}
	return rows.Err()
}

// loadResent finds when other rows invited the people again: rows for which an invitation was
// revoked, and rows of a resend that needed no revocation because the earlier invitation had
// expired. Batches whose links go to a file do not count, because Clerk mailed nobody and there is
// no cooldown.
const loadResent = `
	select o.key, o.batch_id, o.row_number, coalesce(o.revoke_sent, o.decided_at)
	from (select distinct r.key from unnest($2::bigint[], $3::int[]) as w (batch_id, row_number)
	      join results r using (batch_id, row_number) join batches b on b.id = r.batch_id and b.on_duplicate = 'resend') k
	cross join lateral (select * from results o where o.key = k.key and o.instance_id = $1 offset 0) o
	join batches b on b.id = o.batch_id
	where b.links_file is null and (o.revoke_sent is not null or b.resend_of is not null and o.outcome = 'invited')`

func scanResent(rows pgx.Rows, byKey map[string][]*Case) error {
	for rows.Next() {
		var key string
		var id invitation.RowID
		var at time.Time
		if err := rows.Scan(&key, &id.Batch, &id.Row, &at); err != nil {
			return err
		}
		for _, c := range byKey[key] {
			if c.RowID != id && at.After(c.Resent) {
				c.Resent = at
			}
		}
	}
	return rows.Err()
}

// Undone says that a row's own revoke p is proven to have done nothing.
const Undone = `coalesce(p.resolution, '') in ('not_sent', 'refused', 'not_there')`

// MarkRevoking marks rows for which an invitation is being revoked. Until the result is known their
// people are claimed, and if the revoke is done they are owed another invitation. Call it in the
// transaction of the claim.
func MarkRevoking(ctx context.Context, tx pgx.Tx, ids []invitation.RowID) error {
	if len(ids) == 0 {
		return nil
	}
	batches, numbers := invitation.Split(ids)
	_, err := tx.Exec(ctx, `
		update results r set revoke_sent = coalesce(r.revoke_sent, clock_timestamp())
		from unnest($1::bigint[], $2::int[]) as d (batch, number)
		where r.batch_id = d.batch and r.row_number = d.number`, batches, numbers)
	if err != nil {
		return fmt.Errorf("mark %d rows for which an invitation is revoked: %w", len(ids), err)
	}
	return nil
}

// CloseOwnRevoke closes a row's own revoke and records the status of the invitation, as
// [CloseRevoke] does. If done is true, the row is owed an invitation and is among the
// returned rows. If not, the row starts anew.
func CloseOwnRevoke(ctx context.Context, tx pgx.Tx, instance, attempt int64, p Person,
	status invitation.Status, how string, done bool) ([]Freed, error) {
	if !done {
		_, err := tx.Exec(ctx, `update results set revoke_sent = null
			where batch_id = $1 and row_number = $2 and outcome is null`, p.Batch, p.Row)
		if err != nil {
			return nil, fmt.Errorf("close attempt %d: %w", attempt, err)
		}
	}
	return CloseRevoke(ctx, tx, instance, attempt, p, status, how)
}

// promiseFor is how long after its revoke an owed row reserves budget. Clerk may fail on the row,
// or its process may be gone. After that time the row still goes first.
const promiseFor = 10 * time.Minute

// Promised counts the rows of an instance for which an invitation is being revoked or that are owed
// one, for [promiseFor] after the revoke. Each of them needs a create. Rows whose create is under
// way do not count, because that attempt uses budget already. ready counts the rows whose create
// can be claimed now.
func (p *Picker) Promised(ctx context.Context, q db.Queryer, instance int64) (promised, ready int, err error) {
	err = q.QueryRow(ctx, `
		select count(*) filter (where r.revoke_sent > clock_timestamp() - $2::interval),
		       count(*) filter (where `+owed+` and `+waiting+`
		           and exists (select from batches b where b.id = r.batch_id and `+p.mine()+`))
		from results r where r.instance_id = $1 and r.revoke_sent is not null and r.outcome is null and r.withdrawn_by is null
		  and not exists (
			select from attempt_people p join attempts a on a.id = p.attempt_id and a.call <> 'revoke'
			where p.batch_id = r.batch_id and p.row_number = r.row_number and p.open)`,
		instance, promiseFor).Scan(&promised, &ready)
	if err != nil {
		return 0, 0, fmt.Errorf("count the rows of instance %d that are owed an invitation: %w", instance, err)
	}
	return promised, ready, nil
}

// RevokedBefore reports whether a revoke for the row, earlier than attempt, may have reached Clerk,
// even late.
func RevokedBefore(ctx context.Context, tx pgx.Tx, id invitation.RowID, attempt int64) (bool, error) {
	var yes bool
	err := tx.QueryRow(ctx, `select exists (select from attempt_people p join attempts a on a.id = p.attempt_id
		where p.batch_id = $1 and p.row_number = $2 and `+OwnRevoke+` and a.id < $3
		  and coalesce(p.resolution, '') not in ('not_sent', 'refused'))`,
		id.Batch, id.Row, attempt).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look for revokes before %d: %w", attempt, err)
	}
	return yes, nil
}

// SetAlone makes rows go in calls of their own from now on.
func SetAlone(ctx context.Context, tx pgx.Tx, ids []invitation.RowID) error {
	if len(ids) == 0 {
		return nil
	}
	batches, numbers := invitation.Split(ids)
	_, err := tx.Exec(ctx, `update results r set alone = true from unnest($1::bigint[], $2::int[]) as d (batch, number)
		where r.batch_id = d.batch and r.row_number = d.number`, batches, numbers)
	if err != nil {
		return fmt.Errorf("set %d rows apart: %w", len(ids), err)
	}
	return nil
}
