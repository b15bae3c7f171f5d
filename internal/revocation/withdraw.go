package revocation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// Withdrawal says what withdrawing people would change.
type Withdrawal struct {
	People  int                // number of people to withdraw
	Targets []ledger.Target    // their pending invitations, no matter who made them
	Waiting []invitation.RowID // their undecided rows
	Joined  []string           // keys of the people who have accepted or are users
	Unknown int                // people with nothing to revoke or cancel who have not joined
	Open    int                // pending invitations and undecided rows of the whole instance
}

// Takes returns how many invitations are revoked and rows cancelled.
func (w *Withdrawal) Takes() int { return len(w.Targets) + len(w.Waiting) }

// Over reports whether that is more than is allowed without a person's permission; see [Threshold].
func (w *Withdrawal) Over() bool { return w.Takes() > Threshold(w.Open) }

// Withdrawing returns what withdrawing the people with these keys would change. It also finds
// people whose keys a purge or an erasure replaced. With lock, it first waits for answers that are
// being recorded for their undecided rows, and locks these rows until the transaction ends.
func Withdrawing(ctx context.Context, tx pgx.Tx, instance int64, keys []string, lock bool) (*Withdrawal, error) {
	w := &Withdrawal{People: len(keys)}
	if err := withdrawing(ctx, tx, instance, keys, lock, w); err != nil {
		return nil, fmt.Errorf("look what there is to take back of %d people: %w", len(keys), err)
	}
	return w, nil
}

func withdrawing(ctx context.Context, tx pgx.Tx, instance int64, keys []string, lock bool, w *Withdrawal) error {
	of, err := erased.Former(ctx, tx, keys)
	if err != nil {
		return err
	}
	asked := slices.Clone(keys) // and the replacements of these keys
	for hash, key := range of {
		if hash != key {
			asked = append(asked, hash)
		}
	}
	person := func(key string) string { return cmp.Or(of[key], key) }
	waiting := `select r.batch_id, r.row_number, r.key from results r where r.instance_id = $1 and r.key = any($2) and r.outcome is null order by r.batch_id, r.row_number`
	if lock {
		waiting += ` for update`
	}
	known := map[string]bool{}
	var key string
	rows, _ := tx.Query(ctx, waiting, instance, asked)
	var id invitation.RowID
	if _, err := pgx.ForEachRow(rows, []any{&id.Batch, &id.Row, &key}, func() error {
		known[person(key)] = true
		w.Waiting = append(w.Waiting, id)
		return nil
	}); err != nil {
		return err
	}
	// This is a new statement: it sees what the transactions that it waited for have recorded.
	rows, _ = tx.Query(ctx, `
		select distinct on (t.id) t.batch, t.number, t.key, t.id, t.invited, t.expires from (
			select r.batch_id as batch, r.row_number as number, r.key, r.clerk_invitation_id as id, coalesce(r.invited_at, r.decided_at) as invited, r.expires_at as expires, r.outcome <> 'invited' as other
			from results r where r.instance_id = $1 and r.key = any($2) and r.outcome in ('invited', 'already_invited') and r.status = 'pending'
			  and r.clerk_invitation_id is not null and (r.expires_at is null or r.expires_at > clock_timestamp())
			union all
			select 0, 0, d.key, d.clerk_invitation_id, d.created_at, null, true from drift d
			where d.instance_id = $1 and d.key = any($2) and d.kind in ('unexplained', 'pending_again') and d.ended_at is null and d.status = 'pending') t
		order by t.id, t.other, t.batch desc, t.number`, instance, asked)
	var t ledger.Target
	var invited, expires *time.Time
	if _, err := pgx.ForEachRow(rows, []any{&t.Batch, &t.Row, &t.Key, &t.InvitationID, &invited, &expires}, func() error {
		known[person(t.Key)] = true
		t.InvitedAt, t.ExpiresAt = db.Time(invited), db.Time(expires)
		w.Targets = append(w.Targets, t)
		return nil
	}); err != nil {
		return err
	}
	rows, _ = tx.Query(ctx, `
		select r.key from results r where r.instance_id = $1 and r.key = any($2) and (r.status = 'accepted' or r.outcome = 'already_registered')
		union select d.key from drift d where d.instance_id = $1 and d.key = any($2) and d.kind = 'unexplained' and d.ended_at is null and d.status = 'accepted'
		order by 1`, instance, asked)
	if _, err := pgx.ForEachRow(rows, []any{&key}, func() error {
		known[person(key)] = true
		w.Joined = append(w.Joined, person(key))
		return nil
	}); err != nil {
		return err
	}
	slices.Sort(w.Joined)
	w.Joined = slices.Compact(w.Joined)
	w.Unknown = len(keys) - len(known)
	pending, err := CountPending(ctx, tx, instance)
	if err != nil {
		return err
	}
	err = tx.QueryRow(ctx, `select count(*) from batches b join results r on r.batch_id = b.id
		where b.instance_id = $1 and b.state not in ('done', 'cancelled') and r.outcome is null`, instance).Scan(&w.Open)
	w.Open += pending
	return err
}

// TakeAway marks undecided rows as withdrawn by a sweep; see [ledger.MarkWithdrawn]. The caller must
// hold the instance's create and bulk buckets. [FollowWithdrawn] does the rest.
func TakeAway(ctx context.Context, tx pgx.Tx, sweep int64, rows []invitation.RowID) error {
	if err := ledger.MarkWithdrawn(ctx, tx, sweep, rows); err != nil {
		return err
	}
	// The preview of a draft counts the withdrawn people.
	batches, _ := invitation.Split(rows)
	if _, err := tx.Exec(ctx, `delete from previews where batch_id = any($1)`, batches); err != nil {
		return fmt.Errorf("withdraw %d rows: %w", len(rows), err)
	}
	return nil
}

// Taken lists the rows that sweep s has taken away. More than one sweep may have taken a row. Each of
// them follows it by itself, as if there were no other.
const Taken = `(select * from results where withdrawn_by = s.id
	union all select * from results where also_withdrawn_by @> array[s.id])`

// Unfollowed says that row r, which sweep s has taken away, needs work: it is undecided without an
// open request, or it carries a pending invitation that has no revocation yet. An undo revokes only
// what its batch made. All other sweeps name people, so they also revoke an invitation that the
// row's request met, no matter who made it.
const Unfollowed = `(r.outcome is null and not exists (
		select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)
	or (r.outcome = 'invited' or r.outcome = 'already_invited' and s.kind <> 'undo')
	   and r.status = 'pending' and r.clerk_invitation_id is not null
	   and not exists (select from revocations v where v.sweep_id = s.id and v.clerk_invitation_id = r.clerk_invitation_id))`

// following says that sweep s has rows that need work or are undecided.
const following = `exists (select from ` + Taken + ` r where r.outcome is null or ` + Unfollowed + `)`

// FollowWithdrawn follows the rows that sweeps of an instance have taken away. It cancels them as
// [ledger.CancelWithdrawn] says. It records revocations for rows whose request made an invitation
// or, except for an undo, met one. It returns these revocations, which need jobs.
func FollowWithdrawn(ctx context.Context, tx pgx.Tx, instance int64) ([]RevocationID, error) {
	_, err := tx.Exec(ctx, `select from sweeps s where s.instance_id = $1 and s.apply and s.finished_at is null order by s.id for update`, instance)
	if err != nil {
		return nil, fmt.Errorf("lock the sweeps of instance %d: %w", instance, err)
	}
	if err := ledger.CancelWithdrawn(ctx, tx, instance); err != nil {
		return nil, err
	}
	ids, err := insertFollowed(ctx, tx, `s.instance_id = $1`, instance)
	if err != nil {
		return nil, fmt.Errorf("take back what withdrawn rows of instance %d made: %w", instance, err)
	}
	return ids, nil
}

// insertFollowed records revocations for the decided rows that the sweeps which selects have
// withdrawn and that need one. The caller must hold the lock of these sweeps (for update).
func insertFollowed(ctx context.Context, tx pgx.Tx, which string, arg int64) ([]RevocationID, error) {
	rows, _ := tx.Query(ctx, `
		with late as (
			insert into revocations (sweep_id, clerk_invitation_id, instance_id, key, batch_id, row_number, invited_at, expires_at)
			select s.id, r.clerk_invitation_id, r.instance_id, r.key, r.batch_id, r.row_number, coalesce(r.invited_at, r.decided_at), r.expires_at
			from sweeps s cross join lateral `+Taken+` r
			where `+which+` and s.apply and s.finished_at is null and r.outcome is not null and `+Unfollowed+`
			on conflict do nothing returning sweep_id, clerk_invitation_id),
		counted as (update sweeps s set stale = s.stale + l.n from (select sweep_id, count(*) as n from late group by 1) l where l.sweep_id = s.id)
		select sweep_id, clerk_invitation_id from late`, arg)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[RevocationID])
}

// Roster returns the people of a batch: those of its rows that could be sent. Each entry has the
// key of the row's address, followed by the keys of its corrections. If a purge replaced a key, the
// entry has the replacement; see [erased.Former].
func Roster(ctx context.Context, pool *pgxpool.Pool, batch int64) (people [][]string, err error) {
	err = db.Snapshot(ctx, pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			with recursive fix (number, batch) as (
				select c.corrects_row, c.id from batches c where c.corrects = $1 and c.state <> 'cancelled'
				union all
				select fix.number, c.id from fix join batches c on c.corrects = fix.batch and c.state <> 'cancelled')
			select fix.number, r.key from fix join results r on r.batch_id = fix.batch
			where r.erased_by is null or `+erased.Purged+` order by fix.batch`, batch)
		right := map[int][]string{}
		var number int
		var key string
		if _, err := pgx.ForEachRow(rows, []any{&number, &key}, func() error {
			right[number] = append(right[number], key)
			return nil
		}); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, `
			select r.row_number, r.key from results r
			where r.batch_id = $1 and r.key is not null and (r.erased_by is null or `+erased.Purged+`)
			and coalesce(r.outcome, '') not in ('invalid', 'duplicate_row') order by r.row_number`, batch)
		_, err := pgx.ForEachRow(rows, []any{&number, &key}, func() error {
			people = append(people, append([]string{key}, right[number]...))
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the people of batch %d: %w", batch, err)
	}
	return people, nil
}

// LastRescind returns the number of the newest applied rescind of a batch's people, or 0 if there
// is none.
func LastRescind(ctx context.Context, pool *pgxpool.Pool, instance, batch int64) (id int64, err error) {
	err = pool.QueryRow(ctx, `select coalesce(max(id), 0) from sweeps where instance_id = $1 and batch_id = $2 and kind = 'rescind' and apply`, instance, batch).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("look for who was taken back of batch %d: %w", batch, err)
	}
	return id, nil
}
