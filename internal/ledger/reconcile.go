package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/lease"
)

// The values of reads.call for reconciling. These reads guard no claim, and what they show of
// people is not kept as new sightings.
const (
	ReadReconcile        = "reconcile"         // the default list: every status except revoked
	ReadReconcileRevoked = "reconcile_revoked" // status=revoked
	ReadByID             = "by_id"             // one invitation by its id, in every status except revoked
	ReadByIDRevoked      = "by_id_revoked"     // the same with status=revoked
)

// DriftKind says how Clerk and the results differ. drift.kind stores it.
type DriftKind string

// The kinds of drift.
const (
	Unexplained  DriftKind = "unexplained"   // an invitation at Clerk that no row explains
	Gone         DriftKind = "gone"          // a row's invitation that Clerk's lists do not show
	PendingAgain DriftKind = "pending_again" // pending at Clerk, but over according to the row
)

// Reconcile is one comparison of everything at Clerk with the results.
type Reconcile struct {
	ID        int64     `json:"reconcile"`
	StartedBy string    `json:"-"`
	StartedAt time.Time `json:"-"`
	Complete  bool      `json:"complete"` // it read everything
	Error     string    `json:"-"`        // why it is not complete
	Requests  int       `json:"requests"` // GETs that it sent
	Scanned   int       `json:"scanned"`  // invitations that it read, each counted once
	Learned
	Drift DriftCounts `json:"drift"`
}

// Learned counts the rows whose status a reconcile updated.
type Learned struct {
	Accepted int `json:"accepted"`
	Expired  int `json:"expired"`
	Revoked  int `json:"revoked"` // by somebody else
	Deleted  int `json:"deleted"` // deleted at Clerk
}

// DriftCounts counts the current drift of each kind.
type DriftCounts struct {
	Unexplained  int `json:"unexplained"`
	Gone         int `json:"gone"`
	PendingAgain int `json:"pending_again"`
}

// Sum returns the total.
func (d DriftCounts) Sum() int { return d.Unexplained + d.Gone + d.PendingAgain }

// ReconcileDue returns after how long the next reconcile of an instance is due. every is the
// interval. It counts from the begin of the last reconcile that ended or, if there was none, from
// when the instance was first met. Zero or less means now.
func ReconcileDue(ctx context.Context, pool *pgxpool.Pool, instance int64, every time.Duration) (time.Duration, error) {
	var due time.Duration
	err := pool.QueryRow(ctx, `
		select coalesce((select max(r.started_at) from reconciles r where r.instance_id = i.id and r.finished_at is not null), i.created_at)
		       + $2::interval - clock_timestamp()
		from instances i where i.id = $1`, instance, every).Scan(&due)
	if err != nil {
		return 0, fmt.Errorf("look when instance %d was reconciled: %w", instance, err)
	}
	return due, nil
}

// BeginReconcile records that a reconcile begins. It sets r.ID and r.StartedAt.
func BeginReconcile(ctx context.Context, pool *pgxpool.Pool, instance int64, worker string, r *Reconcile) error {
	err := pool.QueryRow(ctx, `insert into reconciles (instance_id, worker_id, started_by) values ($1, $2, $3) returning id, started_at`,
		instance, worker, r.StartedBy).Scan(&r.ID, &r.StartedAt)
	if err != nil {
		return fmt.Errorf("begin to reconcile instance %d: %w", instance, err)
	}
	return nil
}

// shown are the invitations of a page as a table. Each statement that compares them with the
// results begins with it. Rows are looked up one by one through their indexes, with an offset as a
// fence, for the reason that keysOf states.
const shown = `with shown as (
	select * from unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[]) as d (id, key, status, created, expires)) `

// explained says that a row, or an attempt of a row, explains the invitation, or that a pending
// answer may: an attempt that makes an invitation stays open until a row carries the invitation's
// id.
const explained = `(exists (select from results r where r.instance_id = $1 and r.outcome = 'invited' and r.clerk_invitation_id = d.id offset 0)
	or exists (select from results r where r.key = d.key and r.instance_id = $1 and r.clerk_invitation_id = d.id offset 0)
	or exists (select from results r join attempt_people p on (p.batch_id, p.row_number) = (r.batch_id, r.row_number)
	           where r.key = d.key and r.instance_id = $1 and p.clerk_invitation_id = d.id offset 0)
	or exists (select from attempt_people p where p.instance_id = $1 and p.key = d.key and p.open offset 0))`

// Learn compares a page of Clerk's lists with the results. It updates the status of rows to
// Clerk's, except that only gone can become pending again, and it records the drift that the page
// shows. settle is the minimum age of a row's status before it counts against Clerk's lists, which
// may lag. anything reports whether the page showed anything new.
func Learn(ctx context.Context, pool *pgxpool.Pool, instance int64, r *Reconcile, read int64, page []Seen,
	settle time.Duration, guard lease.Guard) (anything bool, err error) {
	if len(page) == 0 {
		return false, nil
	}
	if err := Veil(ctx, pool, instance, page); err != nil {
		return false, fmt.Errorf("hold read %d against our rows: %w", read, err)
	}
	var ids, keys, statuses []string
	var created, expires []*time.Time
	for _, one := range page {
		ids, keys, statuses = append(ids, one.ID), append(keys, one.Key), append(statuses, string(one.Status))
		created, expires = append(created, db.NullTime(one.CreatedAt)), append(expires, db.NullTime(one.ExpiresAt))
	}
	var b pgx.Batch
	b.Queue(learnStatus, instance, ids, keys, statuses, created, expires, read).Query(func(rows pgx.Rows) error {
		var status invitation.Status
		_, err := pgx.ForEachRow(rows, []any{&status}, func() error {
			anything = true
			r.count(status)
			return nil
		})
		return err
	})
	news := func(rows pgx.Rows) error {
		var first bool
		_, err := pgx.ForEachRow(rows, []any{&first}, func() error { anything = anything || first; return nil })
		return err
	}
	b.Queue(learnSightings, instance, ids, keys, statuses, created, expires, read, r.StartedAt).Query(news)
	b.Queue(learnUnexplained, instance, ids, keys, statuses, created, expires, r.StartedAt).Query(news)
	b.Queue(learnPendingAgain, instance, ids, keys, statuses, created, expires, r.StartedAt, settle).Query(news)
	err = guard.Begin(ctx, pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, &b).Close() })
	if err != nil {
		return false, fmt.Errorf("hold read %d against our rows: %w", read, err)
	}
	return anything, nil
}

func (l *Learned) count(s invitation.Status) {
	switch s {
	case invitation.Accepted:
		l.Accepted++
	case invitation.Expired:
		l.Expired++
	case invitation.Revoked:
		l.Revoked++
	}
}

// learnStatus checks the transition again in the update itself, because the answer to a revoke may
// have been recorded meanwhile. An expired invitation can still be revoked, or turn out to be
// accepted. Accepted and revoked are final. An invitation that a list shows is not gone.
const learnStatus = shown + `
	update results r set status = m.status, status_at = clock_timestamp(), status_read_id = $7,
	       invited_at = coalesce(r.invited_at, m.created), expires_at = coalesce(m.expires, r.expires_at)
	from (
		select r.batch_id, r.row_number, d.status, d.created, d.expires
		from shown d cross join lateral (
			select r.batch_id, r.row_number, r.status from results r
			where r.instance_id = $1 and r.outcome = 'invited' and r.clerk_invitation_id = d.id offset 0) r
		where d.status <> '' and d.status is distinct from r.status
		union
		select r.batch_id, r.row_number, d.status, d.created, d.expires
		from shown d cross join lateral (
			select r.batch_id, r.row_number, r.status, r.outcome, r.clerk_invitation_id from results r
			where r.key = d.key and r.instance_id = $1 offset 0) r
		where r.outcome = 'already_invited' and r.clerk_invitation_id = d.id and d.status <> '' and d.status is distinct from r.status) m
	where (r.batch_id, r.row_number) = (m.batch_id, m.row_number)
	  and (r.status is null or r.status = 'gone' or r.status = 'pending' and m.status <> 'pending' or r.status = 'expired' and m.status in ('accepted', 'revoked'))
	returning r.status`

// learnSightings updates sightings, so that an older read does not contradict what is known now.
const learnSightings = shown + `
	update sightings s set status = d.status, expires_at = d.expires, last_read = $7, last_seen = $8
	from shown d
	where s.instance_id = $1 and s.clerk_id = d.id and s.kind = 'invitation' and d.status <> '' and s.status is distinct from d.status
	  and d.status <> 'pending' and s.last_seen <= $8
	returning true`

const learnUnexplained = shown + `
	insert into drift as x (instance_id, kind, clerk_invitation_id, key, status, created_at, first_seen, last_seen)
	select distinct on (d.id) $1, 'unexplained', d.id, d.key, nullif(d.status, ''), d.created, $7::timestamptz, $7::timestamptz
	from shown d where not ` + explained + ` order by d.id
	on conflict (instance_id, kind, clerk_invitation_id) do update set status = excluded.status, last_seen = excluded.last_seen, ended_at = null
	returning x.first_seen = x.last_seen`

// learnPendingAgain leaves out invitations past their expiry, because Clerk may list them as
// pending for a while.
const learnPendingAgain = shown + `
	insert into drift as x (instance_id, kind, clerk_invitation_id, key, batch_id, row_number, status, created_at, first_seen, last_seen)
	select distinct on (d.id) $1, 'pending_again', d.id, d.key, r.batch_id, r.row_number, d.status, d.created, $7::timestamptz, $7::timestamptz
	from shown d cross join lateral (
		select r.batch_id, r.row_number, r.status, r.status_at from results r
		where r.instance_id = $1 and r.outcome = 'invited' and r.clerk_invitation_id = d.id offset 0) r
	where d.status = 'pending' and r.status <> 'pending' and r.status_at < $7::timestamptz - $8::interval
	  and (d.expires is null or d.expires > clock_timestamp()) order by d.id
	on conflict (instance_id, kind, clerk_invitation_id) do update set status = excluded.status, last_seen = excluded.last_seen, ended_at = null
	returning x.first_seen = x.last_seen`

// Unlisted is an invitation of a row that Clerk's lists do not show.
type Unlisted struct {
	ID  string
	Key string // the person's key
}

// Missing records as drift the invitations of rows that a complete reconcile did not show, if the
// rows were decided a settle time before the reconcile began. It returns those that are not known
// to be over: they may have been deleted, or the lists may lag. Call it only for a complete
// reconcile.
func Missing(ctx context.Context, pool *pgxpool.Pool, instance int64, r *Reconcile, settle time.Duration,
	shown func(id string) bool, guard lease.Guard) ([]Unlisted, error) {
	rows, err := pool.Query(ctx, `select clerk_invitation_id from results
		where instance_id = $1 and clerk_invitation_id is not null and decided_at < $2::timestamptz - $3::interval`, instance, r.StartedAt, settle)
	if err != nil {
		return nil, fmt.Errorf("list the invitations of instance %d: %w", instance, err)
	}
	missing := []string{}
	var id string
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		if !shown(id) {
			missing = append(missing, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the invitations of instance %d: %w", instance, err)
	}
	err = guard.Begin(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
		insert into drift (instance_id, kind, clerk_invitation_id, key, batch_id, row_number, status, created_at, first_seen, last_seen)
		select distinct on (r.clerk_invitation_id) $1, 'gone', r.clerk_invitation_id, r.key, r.batch_id, r.row_number, r.status, r.invited_at, $2::timestamptz, $2::timestamptz
		from results r where r.instance_id = $1 and r.clerk_invitation_id = any($3)
		order by r.clerk_invitation_id, r.outcome <> 'invited', r.batch_id, r.row_number
		on conflict (instance_id, kind, clerk_invitation_id) do update set status = excluded.status, last_seen = excluded.last_seen, ended_at = null`,
			instance, r.StartedAt, missing)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("note %d invitations as gone: %w", len(missing), err)
	}
	found, _ := pool.Query(ctx, `select distinct clerk_invitation_id, key from results
		where instance_id = $1 and clerk_invitation_id = any($2) and outcome in ('invited', 'already_invited')
		  and coalesce(status, 'pending') in ('pending', 'expired') order by 1`, instance, missing)
	open, err := pgx.CollectRows(found, pgx.RowToStructByPos[Unlisted])
	if err != nil {
		return nil, fmt.Errorf("list which of %d invitations may be deleted: %w", len(missing), err)
	}
	return open, nil
}

// MarkDeleted records that an invitation is gone, as proven by read, the last of the reads by its
// id. A status that is accepted or revoked meanwhile stays. MarkDeleted reports whether it changed
// a row.
func MarkDeleted(ctx context.Context, pool *pgxpool.Pool, instance int64, u Unlisted, read GET, guard lease.Guard) (bool, error) {
	var rows int64
	err := guard.Begin(ctx, pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			update results set status = 'gone', status_at = clock_timestamp(), status_read_id = $4
			where instance_id = $1 and clerk_invitation_id = $2 and key = $3 and outcome in ('invited', 'already_invited')
			  and coalesce(status, 'pending') in ('pending', 'expired')`, instance, u.ID, u.Key, read.ID)
		if err != nil {
			return err
		}
		rows = tag.RowsAffected()
		// An earlier read must not contradict this.
		_, err = tx.Exec(ctx, `
			update sightings set status = 'gone', last_read = $3, last_seen = $4
			where instance_id = $1 and clerk_id = $2 and kind = 'invitation' and last_seen <= $4
			  and coalesce(status, 'pending') in ('pending', 'expired')`,
			instance, u.ID, read.ID, read.Begun)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update drift set status = 'gone'
			where instance_id = $1 and kind = 'gone' and clerk_invitation_id = $2`, instance, u.ID)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("record that invitation %s is gone: %w", u.ID, err)
	}
	return rows > 0, nil
}

// EndReconcile records the result of a reconcile. A complete one ends the drift that it did not
// find. EndReconcile deletes the reads of these passes that showed nothing new; told are the reads
// that stay. guard protects a complete reconcile.
func EndReconcile(ctx context.Context, pool *pgxpool.Pool, instance int64, r *Reconcile, passes, told []int64,
	guard lease.Guard) error {
	if !r.Complete {
		guard = nil // an incomplete one changes only its own records
	}
	err := guard.Begin(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from reads where coalesce(pass_id, id) = any($1) and id <> all($2)`, passes, told); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update drift set ended_at = clock_timestamp() where instance_id = $1 and ended_at is null and last_seen < $2 and $3`,
			instance, r.StartedAt, r.Complete)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `select count(*) filter (where kind = 'unexplained'), count(*) filter (where kind = 'gone'), count(*) filter (where kind = 'pending_again')
			from drift where instance_id = $1 and ended_at is null`, instance).Scan(&r.Drift.Unexplained, &r.Drift.Gone, &r.Drift.PendingAgain)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			update reconciles set finished_at = clock_timestamp(), complete = $2, error = nullif($3, ''), requests = $4, scanned = $5,
			       accepted = $6, expired = $7, revoked = $8, unexplained = $9, gone = $10, pending_again = $11, deleted = $12
			where id = $1`, r.ID, r.Complete, r.Error, r.Requests, r.Scanned, r.Accepted, r.Expired, r.Revoked, r.Drift.Unexplained, r.Drift.Gone, r.Drift.PendingAgain, r.Deleted)
		return err
	})
	if err != nil {
		return fmt.Errorf("end reconciling %d: %w", r.ID, err)
	}
	return nil
}
