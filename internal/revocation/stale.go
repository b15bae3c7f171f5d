package revocation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/ledger"
)

// Policy says which pending invitations are stale.
type Policy struct {
	OlderThan time.Duration // for rows whose batch and row say nothing else
	Today     time.Time     // today's date where the sweep runs; a revoke_on before it is past
	Listed    []ledger.Seen // pending at Clerk, each once; empty: only invitations of rows count
}

// Stale returns the stale invitations, oldest first, and the number of pending ones: those of rows
// and, if the policy lists them, the others. skipped counts the old invitations that are left
// alone, by reason: they have expired, their row or batch set an expiry, a request for their person
// is open, their person has an undecided row, another sweep is revoking them, or Clerk did not know
// them the last time.
//
// A row's date (revoke_on) takes precedence over its batch's age (revoke_after), and that over the
// policy's age. Stale waits for other transactions that choose what to revoke; see [LockSweeps].
func Stale(ctx context.Context, tx pgx.Tx, instance int64, p Policy) (targets []ledger.Target, pending int, skipped map[string]int, err error) {
	if err := LockSweeps(ctx, tx, instance); err != nil {
		return nil, 0, nil, err
	}
	if pending, err = CountPending(ctx, tx, instance); err != nil {
		return nil, 0, nil, err
	}
	if targets, skipped, err = staleOurs(ctx, tx, instance, p); err != nil || len(p.Listed) == 0 {
		return targets, pending, skipped, err
	}
	theirs, n, err := staleTheirs(ctx, tx, instance, p, skipped)
	if err != nil {
		return nil, 0, nil, err
	}
	targets = append(targets, theirs...)
	slices.SortStableFunc(targets, func(a, b ledger.Target) int { return a.InvitedAt.Compare(b.InvitedAt) })
	return targets, pending + n, skipped, nil
}

// whyLeft says why a stale invitation t of instance $1 is left alone.
const whyLeft = `
	when exists (select from attempt_people p where p.instance_id = $1 and p.key = t.key and p.open) then 'open_attempt'
	when exists (select from results w join batches b on b.id = w.batch_id and b.state in ('running', 'paused') where w.key = t.key and w.instance_id = $1 and w.outcome is null) then 'waiting_row'
	when exists (select from revocations v join sweeps s on s.id = v.sweep_id where v.instance_id = $1 and v.clerk_invitation_id = t.id and v.outcome is null and not s.held) then 'in_another_sweep'
	when exists (select from revocations v where v.instance_id = $1 and v.clerk_invitation_id = t.id and v.outcome = 'gone') then 'gone'`

func staleOurs(ctx context.Context, tx pgx.Tx, instance int64, p Policy) (targets []ledger.Target, skipped map[string]int, err error) {
	rows, err := tx.Query(ctx, `
		select t.batch_id, t.row_number, t.key, t.id, t.invited_at, t.expires_at,
		       case when t.expires_at <= clock_timestamp() then 'expired' when t.lives then 'own_expiry' `+whyLeft+` else '' end
		from (
			select r.batch_id, r.row_number, r.key, r.clerk_invitation_id as id, coalesce(r.invited_at, r.decided_at) as invited_at, r.expires_at,
			       r.revoke_on is null and b.revoke_after is null and coalesce(r.expires_in_days, (b.options->>'expires_in_days')::int) is not null as lives
			from results r join batches b on b.id = r.batch_id
			where r.instance_id = $1 and r.outcome = 'invited' and r.status = 'pending' and r.clerk_invitation_id is not null
			  and case when r.revoke_on is not null then r.revoke_on < $3::date
			           else coalesce(r.invited_at, r.decided_at) < clock_timestamp() - coalesce(b.revoke_after, $2::interval) end) t
		order by t.invited_at, t.batch_id, t.row_number`, instance, p.OlderThan, p.Today.Format(time.DateOnly))
	if err != nil {
		return nil, nil, fmt.Errorf("list stale invitations: %w", err)
	}
	skipped = map[string]int{}
	var t ledger.Target
	var why string
	var invited, expires *time.Time
	_, err = pgx.ForEachRow(rows, []any{&t.Batch, &t.Row, &t.Key, &t.InvitationID, &invited, &expires, &why}, func() error {
		if why != "" {
			skipped[why]++
			return nil
		}
		t.InvitedAt, t.ExpiresAt = db.Time(invited), db.Time(expires)
		targets = append(targets, t)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list stale invitations: %w", err)
	}
	return targets, skipped, nil
}

// staleTheirs returns the listed invitations that are stale and that no row made. pending is the
// number of listed invitations that no row made, stale or not.
func staleTheirs(ctx context.Context, tx pgx.Tx, instance int64, p Policy, skipped map[string]int) (targets []ledger.Target, pending int, err error) {
	var ids, keys []string
	var created, expires []*time.Time
	for _, one := range p.Listed {
		ids, keys = append(ids, one.ID), append(keys, one.Key)
		created, expires = append(created, db.NullTime(one.CreatedAt)), append(expires, db.NullTime(one.ExpiresAt))
	}
	rows, err := tx.Query(ctx, `
		select t.id, t.key, t.invited_at, t.expires_at, coalesce(t.invited_at < clock_timestamp() - $2::interval, false),
		       case when t.expires_at <= clock_timestamp() then 'expired' `+whyLeft+` else '' end
		from unnest($3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[]) as t (id, key, invited_at, expires_at)
		where not exists (select from results r where r.instance_id = $1 and r.clerk_invitation_id = t.id and r.outcome = 'invited')`,
		instance, p.OlderThan, ids, keys, created, expires)
	if err != nil {
		return nil, 0, fmt.Errorf("list stale invitations of others: %w", err)
	}
	var t ledger.Target
	var stale bool
	var why string
	var invited, expiring *time.Time
	_, err = pgx.ForEachRow(rows, []any{&t.InvitationID, &t.Key, &invited, &expiring, &stale, &why}, func() error {
		pending++
		switch {
		case stale && why != "":
			skipped[why]++
		case stale:
			t.InvitedAt, t.ExpiresAt = db.Time(invited), db.Time(expiring)
			targets = append(targets, t)
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list stale invitations of others: %w", err)
	}
	return targets, pending, nil
}

// Swept returns the time after which nights of a schedule are due: the last night that was swept,
// or when the schedule was first set if that is later. The first call sets the schedule.
func Swept(ctx context.Context, pool *pgxpool.Pool, instance int64, expression, tz string) (since time.Time, err error) {
	_, err = pool.Exec(ctx, `insert into schedules (instance_id, expression, tz) values ($1, $2, $3) on conflict do nothing`, instance, expression, tz)
	if err != nil {
		return since, fmt.Errorf("keep the schedule %q: %w", expression, err)
	}
	err = pool.QueryRow(ctx, `
		select greatest(since, (select max(night) from sweeps where instance_id = $1)) from schedules
		where instance_id = $1 and expression = $2 and tz = $3`, instance, expression, tz).Scan(&since)
	if err != nil {
		return since, fmt.Errorf("look when instance %d was swept: %w", instance, err)
	}
	return since, nil
}

// Schedule says when workers sweep on their own.
type Schedule struct {
	Expression  string `json:"expression"`  // cron fields: minute hour day month weekday
	TZ          string `json:"tz"`          // IANA name; empty: the worker's own time zone
	Environment string `json:"environment"` // of the instance
	Workers     int    `json:"workers"`     // processes of the instance with a heartbeat in the last minute
}

// Schedules returns the schedules that workers were started with, newest first.
func Schedules(ctx context.Context, pool *pgxpool.Pool) ([]Schedule, error) {
	rows, _ := pool.Query(ctx, `
		select s.expression, s.tz, i.environment, (select count(*) from workers w where w.instance_id = i.id and w.heartbeat_at > clock_timestamp() - interval '1 minute')
		from schedules s join instances i on i.id = s.instance_id order by s.since desc`)
	schedules, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Schedule])
	if err != nil {
		return nil, fmt.Errorf("list the schedules of sweeps: %w", err)
	}
	return schedules, nil
}
