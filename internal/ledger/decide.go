package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// The functions of this file change the outcomes of many rows at once, without loading the evidence
// of each row. Each states the rule that it applies. TestBulkDecisions compares the rules with
// [invitation.Next].

// CancelRows decides the rows of an instance's cancelled batches, except those with an open attempt
// and those that are owed an invitation. It returns how many rows it cancelled. A row with an open
// attempt is decided when the attempt is resolved, and an owed row when it has its invitation. A row
// of a file of links whose last create made an invitation ends as invited, reason link_lost.
// CancelRows ends the batches that have no undecided row left.
func CancelRows(ctx context.Context, pool *pgxpool.Pool, instance int64) (int64, error) {
	var n int64
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// An invitation whose link was lost exists all the same.
		_, err := tx.Exec(ctx, `
			update results r set outcome = 'invited', reason = 'link_lost', clerk_invitation_id = p.clerk_invitation_id, status = 'pending', status_at = clock_timestamp(),
			       attempt_id = p.attempt_id, decided_at = clock_timestamp(), not_before = null
			from batches b, attempt_people p
			where b.instance_id = $1 and b.state = 'cancelled' and b.finished_at is null and b.links_file is not null and r.batch_id = b.id and r.outcome is null and r.revoke_sent is null
			  and (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.resolution = 'ours'
			  and p.attempt_id = (
			      select max(o.attempt_id) from attempt_people o join attempts a on a.id = o.attempt_id and a.call <> 'revoke'
			                    where (o.batch_id, o.row_number) = (r.batch_id, r.row_number))`, instance)
		if err != nil {
			return err
		}
		// Lock rows in their order, as other statements that lock several rows do.
		tag, err := tx.Exec(ctx, `
			with waiting as (
				select r.batch_id, r.row_number from results r join batches b on b.id = r.batch_id
				where b.instance_id = $1 and b.state = 'cancelled' and b.finished_at is null and r.outcome is null and r.revoke_sent is null
				  and not exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)
				order by r.batch_id, r.row_number for no key update of r)
			update results r set outcome = 'cancelled', decided_at = clock_timestamp(), not_before = null
			from waiting w where r.batch_id = w.batch_id and r.row_number = w.row_number`, instance)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
		_, err = tx.Exec(ctx, `
			update batches b set finished_at = clock_timestamp()
			where instance_id = $1 and state = 'cancelled' and finished_at is null
			  and not exists (select from results r where r.batch_id = b.id and r.outcome is null)`, instance)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("cancel rows of instance %d: %w", instance, err)
	}
	return n, nil
}

// CancelListed decides the undecided rows of ids as cancelled because of what a person did: they
// corrected the row, or erased the person. It returns how many rows it cancelled. It applies to each
// undecided row, whatever the state of its batch. The caller must have locked the rows, and then
// checked in a new statement that none of them has an open attempt or is owed an invitation.
func CancelListed(ctx context.Context, tx pgx.Tx, ids []invitation.RowID, reason string) (int64, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	batches, numbers := invitation.Split(ids)
	tag, err := tx.Exec(ctx, `
		update results r set outcome = 'cancelled', reason = $3, decided_at = clock_timestamp(), not_before = null
		from unnest($1::bigint[], $2::int[]) as d (batch, number)
		where r.batch_id = d.batch and r.row_number = d.number and r.outcome is null`, batches, numbers, reason)
	if err != nil {
		return 0, fmt.Errorf("cancel %d rows that were %s: %w", len(ids), reason, err)
	}
	return tag.RowsAffected(), nil
}

// MarkWithdrawn marks undecided rows as withdrawn by a sweep, so that no worker claims them. It keeps
// the marks of other sweeps that have not ended. It decides no row: see [CancelWithdrawn]. The caller
// must hold the instance's create and bulk buckets, so that no claim slips in between.
func MarkWithdrawn(ctx context.Context, tx pgx.Tx, sweep int64, ids []invitation.RowID) error {
	batches, numbers := invitation.Split(ids)
	_, err := tx.Exec(ctx, `
		update results r set withdrawn_by = coalesce(o.id, $1),
		       also_withdrawn_by = case when o.id is not null then array_append(r.also_withdrawn_by, $1) end
		from unnest($2::bigint[], $3::int[]) as w (batch, number)
		join results h on h.batch_id = w.batch and h.row_number = w.number
		left join sweeps o on o.id = h.withdrawn_by and o.finished_at is null
		where r.batch_id = w.batch and r.row_number = w.number and r.outcome is null`, sweep, batches, numbers)
	if err != nil {
		return fmt.Errorf("withdraw %d rows: %w", len(ids), err)
	}
	return nil
}

// UnmarkWithdrawn removes a sweep's marks from undecided rows. A row that no other sweep has
// withdrawn continues with its batch, also if a request for it is under way.
func UnmarkWithdrawn(ctx context.Context, tx pgx.Tx, sweep int64) error {
	_, err := tx.Exec(ctx, `
		with marks as (
			select r.batch_id, r.row_number,
			       array_remove(array_prepend(r.withdrawn_by, r.also_withdrawn_by), $1::bigint) as rest
			from results r
			where (r.withdrawn_by = $1 or r.also_withdrawn_by @> array[$1::bigint]) and r.outcome is null
			order by r.batch_id, r.row_number for no key update of r)
		update results r set withdrawn_by = m.rest[1], also_withdrawn_by = nullif(m.rest[2:], '{}')
		from marks m where r.batch_id = m.batch_id and r.row_number = m.row_number`, sweep)
	if err != nil {
		return fmt.Errorf("give back the rows that sweep %d withdrew: %w", sweep, err)
	}
	return nil
}

// CancelWithdrawn decides the rows that running sweeps of an instance have withdrawn as cancelled,
// reason withdrawn, except those with an open attempt. It applies whatever the state of their batch,
// and also to rows that are owed an invitation. The caller must hold the locks of the sweeps.
func CancelWithdrawn(ctx context.Context, tx pgx.Tx, instance int64) error {
	_, err := tx.Exec(ctx, `
		with taken as (
			select r.batch_id, r.row_number from results r join sweeps s on s.id = r.withdrawn_by
			where s.instance_id = $1 and s.apply and s.finished_at is null and r.outcome is null and not exists (
				select from attempt_people p
				where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)
			order by r.batch_id, r.row_number for no key update of r)
		update results r
		set outcome = 'cancelled', reason = 'withdrawn', decided_at = clock_timestamp(), not_before = null
		from taken t where r.batch_id = t.batch_id and r.row_number = t.row_number`, instance)
	if err != nil {
		return fmt.Errorf("cancel withdrawn rows of instance %d: %w", instance, err)
	}
	return nil
}

// CancelRescinded decides the rows of people who were rescinded from a draft before its file was read
// again. They end as cancelled, reason withdrawn, by the sweep that withdrew the person. Nothing of a
// draft was sent, so none of its rows has an open attempt.
func CancelRescinded(ctx context.Context, tx pgx.Tx, draft int64) error {
	_, err := tx.Exec(ctx, `
		update results r
		set outcome = 'cancelled', reason = 'withdrawn', withdrawn_by = d.sweep_id, decided_at = clock_timestamp(),
		    not_before = null
		from draft_withdrawals d
		where d.batch_id = $1 and r.batch_id = d.batch_id and r.key = d.key and r.outcome is null`, draft)
	if err != nil {
		return fmt.Errorf("keep who was rescinded out of draft %d: %w", draft, err)
	}
	return nil
}

// Reopen opens the rows of a batch again that ended as failed, and those with the outcomes in also.
// It records in retries how they ended, clears what decided them and starts their tries anew. It
// leaves out these rows:
//   - rows that were corrected, in this batch or in the batch that this one resends,
//   - rows that a sweep has withdrawn, unless each such sweep was stopped: no worker claims them,
//   - rows of erased people, because their address is gone.
//
// Reopen returns the numbers of the rows. The caller must have locked the batch, because its
// certificate may be in the making.
func Reopen(ctx context.Context, tx pgx.Tx, batch int64, also ...invitation.Outcome) ([]int, error) {
	// The database opens only rows that are recorded in retries.
	rows, _ := tx.Query(ctx, `
		insert into retries (batch_id, row_number, outcome, reason, attempt_id, read_id, decided_at)
		select batch_id, row_number, outcome, reason, attempt_id, read_id, decided_at from results
		where batch_id = $1 and outcome = any($2) and erased_by is null and not exists (
			select from unnest(array_prepend(withdrawn_by, also_withdrawn_by)) as w (sweep)
			where w.sweep is not null and not exists (
				select from events where action = 'sweep_stopped' and (details->>'sweep')::bigint = w.sweep))
		  and not exists (
			select from batches c join results o on o.batch_id = c.corrects and o.row_number = c.corrects_row
			where c.corrects in ($1, (select resend_of from batches where id = $1)) and c.state <> 'cancelled'
			  and o.key = results.key)
		order by row_number for update
		returning row_number`, batch, append([]invitation.Outcome{invitation.Failed}, also...))
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("record the rows of batch %d that are retried: %w", batch, err)
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	_, err = tx.Exec(ctx, `
		update results set outcome = null, decided_at = null, reason = null, attempt_id = null, read_id = null,
		       tries = 0, transient_since = null, not_before = null,
		       withdrawn_by = null, also_withdrawn_by = null
		where batch_id = $1 and row_number = any($2)`, batch, numbers)
	if err != nil {
		return nil, fmt.Errorf("open %d rows of batch %d again: %w", len(numbers), batch, err)
	}
	return numbers, nil
}
