// Package revocation has the runs that revoke invitations: sweep, rescind, undo, correct and the revokes
// of a resend. It owns sweeps, revocations and schedules. Package jobs sends the requests.
//
// It may import ledger and the packages below it, and event. Start reading at [BeginSweep]; revoke.go
// has one revocation, withdraw.go the rows of people who are withdrawn.
package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/event"
	"bulkinvite/internal/lease"
	"bulkinvite/internal/ledger"
)

// SweepKind says why invitations are revoked. sweeps.kind stores it.
type SweepKind string

// The kinds of sweeps.
const (
	KindSweep   SweepKind = "sweep"   // stale invitations
	KindRescind SweepKind = "rescind" // the invitations of listed people
	KindUndo    SweepKind = "undo"    // the invitations that a batch sent
	KindCorrect SweepKind = "correct" // the invitation of a mistyped address
)

// Sweep is one run that revokes invitations, no matter who asked for it. It begins with
// [BeginSweep], which records each invitation as a revocation. It ends when the last of these
// is decided, by any process; see [FinishSweeps].
type Sweep struct {
	ID          int64
	InstanceID  int64
	Environment string // of the instance: production, development or sandbox
	Kind        SweepKind
	Batch       int64 // the batch that it concerns; 0: no single batch
	StartedBy   string
	OlderThan   time.Duration // for KindSweep: the age from which an invitation is stale; 0: age does not matter
	Scope       string        // "ours", or "all": every invitation at the instance
	Apply       bool          // false: a dry run, which is recorded and revokes nothing
	Allow       bool          // StartedBy allows it to exceed its threshold
	Night       time.Time     // the scheduled time that it was started for; zero: a person asked for it

	Scanned   int            // pending invitations that were considered; the threshold is a share of them
	Stale     int            // invitations to revoke: revoked, failed and skipped together
	Revoked   int            // revoked by this sweep
	Skipped   map[string]int // left alone, by reason; includes already_revoked, accepted and gone
	Failed    int
	Cancelled int // undecided rows that ended as cancelled
	Undecided int // of a running or held sweep
	Threshold int
	Held      bool // it exceeds its threshold and waits for a person

	AllowedBy  string
	StartedAt  time.Time
	AllowedAt  time.Time
	FinishedAt time.Time // zero: running or held
}

// ErrSwept says that the night already has a sweep.
var ErrSwept = errors.New("this night was swept already")

// ErrNoSweep says that no sweep has this number.
var ErrNoSweep = errors.New("no such sweep")

// thresholdFloor is how many invitations a sweep may always revoke. Above it, a sweep may revoke 30
// % of the pending ones unless a person allows more.
const thresholdFloor = 20

// Threshold returns how many of the pending invitations may be revoked without a person's
// permission: 30 %, but at least 20.
func Threshold(pending int) int { return max(thresholdFloor, pending*3/10) }

// LockSweeps makes transactions that choose what to revoke wait for each other until the
// transaction ends, so that concurrent sweeps see each other.
func LockSweeps(ctx context.Context, tx pgx.Tx, instance int64) error {
	return lease.Exclude(ctx, tx, instance, "sweeps")
}

// CountPending returns how many invitations of an instance's rows are pending, as far as the
// results say.
func CountPending(ctx context.Context, tx pgx.Tx, instance int64) (n int, err error) {
	err = tx.QueryRow(ctx, `select count(*) from results where instance_id = $1 and outcome = 'invited' and status = 'pending'
		and (expires_at is null or expires_at > clock_timestamp())`, instance).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count pending invitations of instance %d: %w", instance, err)
	}
	return n, nil
}

// BeginSweep records a sweep and its targets. It sets ID, StartedAt, Stale, Threshold and Held. The
// caller sets Scanned, and Skipped for what it left out. Stale is the number of targets plus the
// sum of Skipped.
//
// An applied sweep with more targets than its threshold is held unless Allow is set. A held sweep
// sends nothing: no job is inserted for it before [AllowSweep]. A new sweep of stale
// invitations replaces held sweeps of the same kind. A dry run ends at once. BeginSweep fails with
// [ErrSwept] if the night already has a sweep.
//
// BeginSweep inserts no jobs. Use jobs.BeginSweep, which does both.
func BeginSweep(ctx context.Context, tx pgx.Tx, sw *Sweep, targets []ledger.Target) error {
	if sw.Skipped == nil {
		sw.Skipped = map[string]int{}
	}
	if sw.Scope == "" {
		sw.Scope = "ours"
	}
	sw.Stale, sw.Undecided = len(targets), len(targets)
	for _, n := range sw.Skipped {
		sw.Stale += n
	}
	sw.Threshold = Threshold(sw.Scanned)
	over := sw.Apply && len(targets) > sw.Threshold
	sw.Held = over && !sw.Allow
	if over && sw.Allow {
		sw.AllowedBy = sw.StartedBy
	}
	if sw.Kind == KindSweep && sw.Apply {
		if err := supersede(ctx, tx, sw.InstanceID); err != nil {
			return err
		}
	}
	var older *time.Duration
	if sw.OlderThan != 0 {
		older = &sw.OlderThan
	}
	var finished *time.Time
	err := tx.QueryRow(ctx, `
		insert into sweeps (instance_id, kind, batch_id, started_by, older_than, scope, apply, night, scanned, stale, skipped, threshold, held, allowed_by, allowed_at, finished_at)
		values ($1, $2, nullif($3, 0), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, nullif($14, ''), case when $14 <> '' then clock_timestamp() end, case when not $7 then clock_timestamp() end)
		on conflict (instance_id, night) do nothing returning id, started_at, finished_at`,
		sw.InstanceID, sw.Kind, sw.Batch, sw.StartedBy, older, sw.Scope, sw.Apply, db.NullTime(sw.Night), sw.Scanned, sw.Stale, sw.Skipped, sw.Threshold, sw.Held, sw.AllowedBy).
		Scan(&sw.ID, &sw.StartedAt, &finished)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrSwept
	}
	if err != nil {
		return fmt.Errorf("begin a sweep: %w", err)
	}
	sw.FinishedAt = db.Time(finished)
	if !sw.Apply {
		sw.Undecided = 0 // a dry run is over
		return nil
	}
	if err := insertTargets(ctx, tx, sw, targets); err != nil {
		return err
	}
	action := "sweep_started"
	if sw.Held {
		action = "sweep_held"
	}
	return event.Record(ctx, tx, sw.InstanceID, sw.Batch, sw.StartedBy, action, map[string]any{"sweep": sw.ID, "kind": sw.Kind, "invitations": len(targets)})
}

func insertTargets(ctx context.Context, tx pgx.Tx, sw *Sweep, targets []ledger.Target) error {
	rows := make([][]any, len(targets))
	for i, t := range targets {
		var batch, number any
		if t.Row != 0 {
			batch, number = t.Batch, t.Row
		}
		rows[i] = []any{sw.ID, t.InvitationID, sw.InstanceID, t.Key, batch, number, db.NullTime(t.InvitedAt), db.NullTime(t.ExpiresAt)}
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"revocations"},
		[]string{"sweep_id", "clerk_invitation_id", "instance_id", "key", "batch_id", "row_number", "invited_at", "expires_at"}, pgx.CopyFromRows(rows))
	if err != nil {
		return fmt.Errorf("record what sweep %d is to take back: %w", sw.ID, err)
	}
	return nil
}

// supersede ends the held sweeps of stale invitations, because a newer one considers the same
// invitations.
func supersede(ctx context.Context, tx pgx.Tx, instance int64) error {
	rows, _ := tx.Query(ctx, `select id from sweeps where instance_id = $1 and held and kind = 'sweep' and finished_at is null order by id for update`, instance)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("look for held sweeps: %w", err)
	}
	for _, id := range ids {
		if err := drop(ctx, tx, id, SkipSuperseded); err != nil {
			return err
		}
	}
	return nil
}

// drop decides the revocations of a sweep without an open attempt as skipped. The others keep the
// reason: they are skipped for it if their attempt proves to have revoked nothing. drop ends the
// sweep if no revocation is left. The caller must hold the sweep's lock (for update).
func drop(ctx context.Context, tx pgx.Tx, sweep int64, reason string) error {
	_, err := tx.Exec(ctx, `update revocations set reason = $2 where sweep_id = $1 and outcome is null`, sweep, reason)
	if err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	_, err = tx.Exec(ctx, `
		update revocations v set outcome = 'skipped', decided_at = clock_timestamp(), not_before = null
		where v.sweep_id = $1 and v.outcome is null and not exists (
			select from attempts a join attempt_people p on p.attempt_id = a.id
			where a.sweep_id = $1 and p.clerk_invitation_id = v.clerk_invitation_id and p.open
			  and p.key = v.key and p.instance_id = v.instance_id)`, sweep)
	if err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	if _, err := tx.Exec(ctx, `update sweeps set held = false where id = $1`, sweep); err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	return finishSweeps(ctx, tx, `s.id = $1`, sweep)
}

// AllowSweep allows a held sweep to exceed its threshold. It returns the revocations, which need
// jobs. For a sweep that is not held it does nothing and returns none.
func AllowSweep(ctx context.Context, tx pgx.Tx, sweep int64, actor string) ([]RevocationID, error) {
	var instance, batch int64
	err := tx.QueryRow(ctx, `update sweeps set held = false, allowed_by = $2, allowed_at = clock_timestamp()
		where id = $1 and held and finished_at is null returning instance_id, coalesce(batch_id, 0)`, sweep, actor).Scan(&instance, &batch)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("allow sweep %d: %w", sweep, err)
	}
	rows, _ := tx.Query(ctx, `select sweep_id, clerk_invitation_id from revocations where sweep_id = $1 and outcome is null order by invited_at, clerk_invitation_id`, sweep)
	ids, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RevocationID])
	if err != nil {
		return nil, fmt.Errorf("allow sweep %d: %w", sweep, err)
	}
	return ids, event.Record(ctx, tx, instance, batch, actor, "sweep_allowed", map[string]any{"sweep": sweep, "invitations": len(ids)})
}

// StopSweep ends a held or running sweep. Revocations without an open attempt are skipped. An
// answer or a read decides the others, and none is tried again. It does nothing to a sweep that has
// ended.
func StopSweep(ctx context.Context, tx pgx.Tx, sweep int64, actor string) error {
	var instance, batch int64
	err := tx.QueryRow(ctx, `select instance_id, coalesce(batch_id, 0) from sweeps where id = $1 and apply and finished_at is null for update`, sweep).Scan(&instance, &batch)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	if err := ledger.UnmarkWithdrawn(ctx, tx, sweep); err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	// What its other rows made is counted as skipped, and nothing is left to follow. This is a new
	// statement: it sees the rows that were decided while the statement before waited for them.
	if _, err := insertFollowed(ctx, tx, `s.id = $1`, sweep); err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	if err := drop(ctx, tx, sweep, SkipStopped); err != nil {
		return err
	}
	return event.Record(ctx, tx, instance, batch, actor, "sweep_stopped", map[string]any{"sweep": sweep})
}

// FinishSweeps ends the sweeps of an instance whose revocations are all decided, and records their
// results.
func FinishSweeps(ctx context.Context, pool *pgxpool.Pool, instance int64) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return finishSweeps(ctx, tx, `s.instance_id = $1`, instance)
	})
}

// sweepCounts counts the results of sweep s so far. It includes what was skipped when the sweep
// began.
const sweepCounts = `
	select coalesce(sum(n) filter (where why = 'revoked'), 0)::int as revoked, coalesce(sum(n) filter (where why = 'failed'), 0)::int as failed,
	       coalesce(sum(n) filter (where why is null), 0)::int as undecided, coalesce(jsonb_object_agg(why, n) filter (where why not in ('revoked', 'failed')), '{}') as skipped
	from (select why, sum(n) as n from (
		select case v.outcome when 'skipped' then v.reason else v.outcome end as why, count(*) as n from revocations v where v.sweep_id = s.id group by 1
		union all select key, value::bigint from jsonb_each_text(s.skipped)) w group by why) t`

// finishSweeps ends the sweeps that which selects.
func finishSweeps(ctx context.Context, tx pgx.Tx, which string, arg int64) error {
	_, err := tx.Exec(ctx, `
		update sweeps o set finished_at = clock_timestamp(), revoked = c.revoked, failed = c.failed, skipped = c.skipped,
		       cancelled = (select count(*) from `+Taken+` r where r.outcome = 'cancelled')
		from sweeps s cross join lateral (`+sweepCounts+`) c
		where o.id = s.id and o.finished_at is null and `+which+` and s.apply and not s.held and s.finished_at is null
		  and not exists (select from revocations v where v.sweep_id = s.id and v.outcome is null) and not `+following, arg)
	if err != nil {
		return fmt.Errorf("end sweeps: %w", err)
	}
	return nil
}

// sweepQuery reads sweeps. For a running or held sweep it counts the results so far.
const sweepQuery = `
	select s.id, s.instance_id, s.kind, coalesce(s.batch_id, 0), s.started_by, s.older_than, s.scope, s.apply, s.night, s.scanned, s.stale,
	       coalesce(c.revoked, s.revoked), coalesce(c.skipped, s.skipped), coalesce(c.failed, s.failed), coalesce(c.undecided, 0),
	       coalesce(s.threshold, 0), s.held, coalesce(s.allowed_by, ''), s.started_at, s.allowed_at, s.finished_at, s.cancelled, i.environment
	from sweeps s join instances i on i.id = s.instance_id
	left join lateral (` + sweepCounts + `) c on s.apply and s.finished_at is null`

func scanSweep(row pgx.Row) (*Sweep, error) {
	var sw Sweep
	var older *time.Duration
	var night, allowed, finished *time.Time
	err := row.Scan(&sw.ID, &sw.InstanceID, &sw.Kind, &sw.Batch, &sw.StartedBy, &older, &sw.Scope, &sw.Apply, &night, &sw.Scanned, &sw.Stale,
		&sw.Revoked, &sw.Skipped, &sw.Failed, &sw.Undecided, &sw.Threshold, &sw.Held, &sw.AllowedBy, &sw.StartedAt, &allowed, &finished, &sw.Cancelled, &sw.Environment)
	if err != nil {
		return nil, err
	}
	if older != nil {
		sw.OlderThan = *older
	}
	sw.Night, sw.AllowedAt, sw.FinishedAt = db.Time(night), db.Time(allowed), db.Time(finished)
	return &sw, nil
}

// ReadSweep returns a sweep. Its counts are final once it has ended; until then Undecided says how much
// is left. It fails with [ErrNoSweep] if the sweep does not exist.
func ReadSweep(ctx context.Context, pool *pgxpool.Pool, id int64) (*Sweep, error) {
	sw, err := scanSweep(pool.QueryRow(ctx, sweepQuery+` where s.id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("sweep %d: %w", id, ErrNoSweep)
	}
	if err != nil {
		return nil, fmt.Errorf("read sweep %d: %w", id, err)
	}
	return sw, nil
}

// SweepFilter says which sweeps to return. The zero SweepFilter selects all.
type SweepFilter struct {
	Instance int64 // 0: all instances
	Batch    int64 // 0: all sweeps, including those that concern no single batch
	Held     bool  // only those that wait for a person
	Before   int64 // only those with a lower number; 0: from the newest
	Limit    int   // maximum number; 0: no limit
}

// Sweeps returns sweeps, newest first.
func Sweeps(ctx context.Context, pool *pgxpool.Pool, f SweepFilter) ([]*Sweep, error) {
	return sweeps(ctx, pool, `
		($1::bigint = 0 or s.instance_id = $1) and ($2::bigint = 0 or s.batch_id = $2) and (not $3::bool or s.held and s.apply and s.finished_at is null)
		and ($4::bigint = 0 or s.id < $4) order by s.id desc limit nullif($5::int, 0)`, f.Instance, f.Batch, f.Held, f.Before, f.Limit)
}

// LastNight returns the newest sweep of all instances that a schedule began, or nil if there was
// none.
func LastNight(ctx context.Context, pool *pgxpool.Pool) (*Sweep, error) {
	sweeps, err := sweeps(ctx, pool, `s.night is not null order by s.id desc limit 1`)
	if err != nil || len(sweeps) == 0 {
		return nil, err
	}
	return sweeps[0], nil
}

func sweeps(ctx context.Context, pool *pgxpool.Pool, where string, args ...any) ([]*Sweep, error) {
	rows, _ := pool.Query(ctx, sweepQuery+` where `+where, args...)
	sweeps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Sweep, error) { return scanSweep(row) })
	if err != nil {
		return nil, fmt.Errorf("list sweeps: %w", err)
	}
	return sweeps, nil
}

// SweepState is the state of a sweep.
type SweepState string

// The states of a sweep.
const (
	SweepDry     SweepState = "dry_run" // it only counted
	SweepHeld    SweepState = "held"    // it waits for a person
	SweepRunning SweepState = "running"
	SweepDone    SweepState = "done"
)

// State returns the state of the sweep.
func (s *Sweep) State() SweepState {
	switch {
	case !s.Apply:
		return SweepDry
	case s.Held:
		return SweepHeld
	case s.FinishedAt.IsZero():
		return SweepRunning
	}
	return SweepDone
}

// SweepDocument is a sweep as scripts read it. Fields without a value are null.
type SweepDocument struct {
	Sweep      int64          `json:"sweep"`
	Kind       SweepKind      `json:"kind"`
	State      SweepState     `json:"state"`
	Apply      bool           `json:"apply"`
	Batch      *int64         `json:"batch"`
	StartedBy  string         `json:"started_by"`
	OlderThan  *float64       `json:"older_than"` // in seconds
	Scope      string         `json:"scope"`
	Scanned    int            `json:"scanned"`
	Stale      int            `json:"stale"`
	Revoked    int            `json:"revoked"`
	Skipped    map[string]int `json:"skipped"`
	Failed     int            `json:"failed"`
	Undecided  int            `json:"undecided"`
	Threshold  int            `json:"threshold"`
	Held       bool           `json:"held"`
	AllowedBy  *string        `json:"allowed_by"`
	Night      *time.Time     `json:"night"`
	StartedAt  time.Time      `json:"started_at"`
	AllowedAt  *time.Time     `json:"allowed_at"`
	FinishedAt *time.Time     `json:"finished_at"`
}

// MarshalJSON writes a [SweepDocument].
func (s *Sweep) MarshalJSON() ([]byte, error) {
	d := SweepDocument{Sweep: s.ID, Kind: s.Kind, State: s.State(), Apply: s.Apply, StartedBy: s.StartedBy, Scope: s.Scope,
		Scanned: s.Scanned, Stale: s.Stale, Revoked: s.Revoked, Skipped: s.Skipped, Failed: s.Failed, Undecided: s.Undecided,
		Threshold: s.Threshold, Held: s.Held, Night: db.NullTime(s.Night), StartedAt: s.StartedAt, AllowedAt: db.NullTime(s.AllowedAt), FinishedAt: db.NullTime(s.FinishedAt)}
	if s.Batch != 0 {
		d.Batch = &s.Batch
	}
	if s.OlderThan != 0 {
		seconds := s.OlderThan.Seconds()
		d.OlderThan = &seconds
	}
	if s.AllowedBy != "" {
		d.AllowedBy = &s.AllowedBy
	}
	if d.Skipped == nil {
		d.Skipped = map[string]int{}
	}
	return json.Marshal(d)
}
