package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/lease"
)

// again selects the rows r of a batch that a resend may invite again, with l, the latest invitation
// of the person that this program made. l is pending or has expired. It leaves out people who have
// accepted, people whose invitation was revoked or is being revoked (except by a sweep of stale
// invitations), and corrected addresses.
const again = `
	from results r cross join lateral (
		select l.* from results l where l.key = r.key and l.instance_id = r.instance_id and l.outcome = 'invited'
		order by l.decided_at desc limit 1) l
	where r.batch_id = $1 and r.outcome = 'invited' and r.erased_by is null and coalesce(l.status, 'pending') in ('pending', 'expired')
	  and l.withdrawn_by is null
	  and not exists (
	      select from sweeps s join revocations v on v.sweep_id = s.id and v.clerk_invitation_id = l.clerk_invitation_id
	      where s.instance_id = r.instance_id and s.apply and s.finished_at is null and not s.held
	        and s.kind <> 'sweep' and v.outcome is null)
	  and not exists (
	      select from batches c where c.corrects = r.batch_id and c.corrects_row = r.row_number and c.state <> 'cancelled')
	  and not exists (select from results u where u.key = r.key and u.instance_id = r.instance_id and u.outcome = 'already_registered' and u.decided_at > l.decided_at)`

// Again counts the people that a resend would invite, and those that it leaves out, by reason.
type Again struct {
	People   int `json:"people"`   // invited again
	Expired  int `json:"expired"`  // part of People: their invitation has expired, so nothing is revoked
	Younger  int `json:"younger"`  // pending, but not for long enough
	Cooling  int `json:"cooling"`  // left out: invited again within the cooldown
	Accepted int `json:"accepted"` // of the batch's invited: accepted
	Revoked  int `json:"revoked"`  // of the batch's invited: revoked, or deleted at Clerk
	Erased   int `json:"erased"`   // of the batch's invited, pending or expired: the address was erased or purged
}

// cooling says that the person of row r was invited again less than $3 ago.
const cooling = `exists (select from results o join batches ob on ob.id = o.batch_id
	where o.key = r.key and o.instance_id = r.instance_id and ob.links_file is null
	  and coalesce(o.revoke_sent, case when ob.resend_of is not null and o.outcome = 'invited' then o.decided_at end) > clock_timestamp() - $3::interval)`

// CountAgain counts the people that a resend of a batch would invite again. pendingFor is the
// minimum age of their invitation.
func CountAgain(ctx context.Context, pool *pgxpool.Pool, batch int64, pendingFor, cooldown time.Duration) (Again, error) {
	var a Again
	err := pool.QueryRow(ctx, `
		with pending as (
			select l.decided_at <= clock_timestamp() - $2::interval as old, coalesce(l.expires_at <= clock_timestamp(), false) or l.status = 'expired' as expired, `+cooling+` as cooling `+again+`)
		select count(*) filter (where old and not cooling), count(*) filter (where old and not cooling and expired),
		       count(*) filter (where not old), count(*) filter (where old and cooling),
		       (select count(*) from results r where r.batch_id = $1 and r.outcome = 'invited' and exists (
		           select from results o where o.key = r.key and o.instance_id = r.instance_id and (o.status = 'accepted' or o.outcome = 'already_registered'))),
		       (select count(*) from results r where r.batch_id = $1 and r.outcome = 'invited' and r.status in ('revoked', 'gone') and not exists (
		           select from results o where o.key = r.key and o.instance_id = r.instance_id and o.outcome = 'invited' and coalesce(o.status, 'pending') not in ('revoked', 'gone'))),
		       (select count(*) from results r where r.batch_id = $1 and r.outcome = 'invited' and r.erased_by is not null and coalesce(r.status, 'pending') in ('pending', 'expired'))
		from pending`, batch, pendingFor, cooldown).Scan(&a.People, &a.Expired, &a.Younger, &a.Cooling, &a.Accepted, &a.Revoked, &a.Erased)
	if err != nil {
		return a, fmt.Errorf("count the people of batch %d to invite again: %w", batch, err)
	}
	return a, nil
}

// CreateResend makes a batch of the people of another batch who have not accepted, with their rows
// as they were. It leaves out people in their cooldown, and the claim checks the cooldown again. It
// returns the number of the new batch and its row numbers, which need jobs.
func CreateResend(ctx context.Context, tx pgx.Tx, b invitation.Batch, of *invitation.Batch, pendingFor time.Duration) (int64, []int, error) {
	b.InstanceID, b.FileName, b.Encoding, b.Delimiter, b.Columns = of.InstanceID, of.FileName, of.Encoding, of.Delimiter, of.Columns
	b.Duplicates, b.ResendOf, b.Options, b.Preflight, b.RevokeAfter = invitation.Resend, of.ID, of.Options, true, of.RevokeAfter
	id, err := CreateBatch(ctx, tx, b)
	if err != nil {
		return 0, nil, err
	}
	rows, _ := tx.Query(ctx, `
		insert into results (batch_id, row_number, instance_id, line, original, email, key, redirect_url, expires_in_days, public_metadata, revoke_on, alone)
		select $4, row_number() over (order by r.row_number), r.instance_id, r.line, r.original, r.email, r.key, r.redirect_url, r.expires_in_days, r.public_metadata, r.revoke_on, true `+
		again+` and l.decided_at <= clock_timestamp() - $2::interval and not `+cooling+`
		returning row_number`, of.ID, pendingFor, cmp.Or(b.Cooldown, invitation.DefaultCooldown), id)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return 0, nil, fmt.Errorf("resend batch %d: %w", of.ID, err)
	}
	return id, numbers, nil
}

// ResendUnderWay returns the running or paused resend of a batch, or nil.
func ResendUnderWay(ctx context.Context, q db.Queryer, batch int64) (*invitation.Batch, error) {
	b, err := scanBatch(q.QueryRow(ctx, `select `+batchColumns+` from batches
		where resend_of = $1 and state in ('running', 'paused') order by id desc limit 1`, batch))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a resend of batch %d: %w", batch, err)
	}
	return b, nil
}

// LockResend makes resends of one batch wait for each other until the transaction ends.
func LockResend(ctx context.Context, tx pgx.Tx, of *invitation.Batch) error {
	return lease.Exclude(ctx, tx, of.InstanceID, fmt.Sprintf("resend %d", of.ID))
}
