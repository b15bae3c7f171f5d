package invitation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/lease"
)

// SweepKind says why invitations are taken back; sweeps.kind holds these words.
type SweepKind string

// The kinds of sweeps.
const (
	KindSweep   SweepKind = "sweep"   // what is stale
	KindRescind SweepKind = "rescind" // the people of a list
	KindUndo    SweepKind = "undo"    // what a batch sent
	KindCorrect SweepKind = "correct" // a mistyped address
)

// Sweep is one run of taking invitations back, whoever asks for it. It begins
// with [Store.BeginSweep], which records each invitation as a revocation, and
// ends when the last of those is decided, by whichever process: see
// [Store.FinishSweeps].
type Sweep struct {
	ID          int64
	InstanceID  int64
	Environment string // of the instance; production, development or sandbox
	Kind        SweepKind
	Batch       int64 // the batch that it concerns; 0: no single one
	StartedBy   string
	OlderThan   time.Duration // for a sweep: the age from which an invitation is stale; 0: age does not matter
	Scope       string        // ours, or all: every invitation at the instance
	Apply       bool          // false: a dry run, which is recorded and revokes nothing
	Allow       bool          // StartedBy lets it pass its threshold
	Night       time.Time     // the moment of the schedule that it stands for; zero: somebody asked for it

	Scanned   int            // pending invitations that were looked at: the threshold is a share of them
	Stale     int            // those that are to go: revoked, failed and skipped together
	Revoked   int            // revoked by this sweep
	Skipped   map[string]int // left alone, by reason; also already_revoked, accepted and gone
	Failed    int
	Cancelled int // rows that still waited and ended as cancelled
	Undecided int // of a sweep that goes on or is held
	Threshold int
	Held      bool // it stopped at its threshold and waits for a person

	AllowedBy  string
	StartedAt  time.Time
	AllowedAt  time.Time
	FinishedAt time.Time // zero: it goes on, or is held
}

// Target is an invitation that a sweep is to take back.
type Target struct {
	Person              // InvitationID is required; the row is zero for an invitation that no row explains
	InvitedAt time.Time // when Clerk made it; how far back lists are read should an answer be lost
	ExpiresAt time.Time
}

// ErrSwept says that a night has had its sweep.
var ErrSwept = errors.New("this night was swept already")

// ErrNoSweep says that there is no sweep of that number.
var ErrNoSweep = errors.New("no such sweep")

// thresholdFloor is how many invitations a sweep may always revoke; beyond, it
// may revoke 30 % of the pending ones before a person has to allow it.
const thresholdFloor = 20

// Threshold is how many of the pending invitations may be revoked without a
// word of a person: 30 %, and 20 at least.
func Threshold(pending int) int { return max(thresholdFloor, pending*3/10) }

// LockSweeps makes those who choose what to take back wait for each other until
// the transaction ends, so that two sweeps at one moment see one another.
func LockSweeps(ctx context.Context, tx pgx.Tx, instance int64) error {
	return lease.Exclude(ctx, tx, instance, "sweeps")
}

// CountPending returns how many invitations of ours stand open at an instance,
// as far as we know.
func (s *Store) CountPending(ctx context.Context, tx pgx.Tx, instance int64) (n int, err error) {
	err = tx.QueryRow(ctx, `select count(*) from results where instance_id = $1 and outcome = 'invited' and status = 'pending'
		and (expires_at is null or expires_at > clock_timestamp())`, instance).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count pending invitations of instance %d: %w", instance, err)
	}
	return n, nil
}

// BeginSweep records a sweep and what it is to take back, and fills in its ID,
// StartedAt, Stale, Threshold and Held. Scanned is the caller's, and so is
// Skipped for what it left out, whose sum and the targets are Stale.
//
// An applied sweep of more targets than its threshold is held unless Allow says
// otherwise. A held one sends nothing: no job is inserted for it before
// [Store.AllowSweep]. A newer sweep of what is stale takes the place of those of
// its kind that are still held. A dry run ends at once. A night that was swept
// already is [ErrSwept].
//
// Jobs are the caller's: use jobs.BeginSweep, which does both.
func (s *Store) BeginSweep(ctx context.Context, tx pgx.Tx, sw *Sweep, targets []Target) error {
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
		if err := s.supersede(ctx, tx, sw.InstanceID); err != nil {
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
		sw.InstanceID, sw.Kind, sw.Batch, sw.StartedBy, older, sw.Scope, sw.Apply, nullTime(sw.Night), sw.Scanned, sw.Stale, sw.Skipped, sw.Threshold, sw.Held, sw.AllowedBy).
		Scan(&sw.ID, &sw.StartedAt, &finished)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrSwept
	}
	if err != nil {
		return fmt.Errorf("begin a sweep: %w", err)
	}
	sw.FinishedAt = deref(finished)
	if !sw.Apply {
		sw.Undecided = 0 // it is over
		return nil
	}
	if err := s.insertTargets(ctx, tx, sw, targets); err != nil {
		return err
	}
	action := "sweep_started"
	if sw.Held {
		action = "sweep_held"
	}
	return event(ctx, tx, sw.InstanceID, sw.Batch, sw.StartedBy, action, map[string]any{"sweep": sw.ID, "kind": sw.Kind, "invitations": len(targets)})
}

func (s *Store) insertTargets(ctx context.Context, tx pgx.Tx, sw *Sweep, targets []Target) error {
	rows := make([][]any, len(targets))
	for i, t := range targets {
		var batch, number any
		if t.Row != 0 {
			batch, number = t.Batch, t.Row
		}
		rows[i] = []any{sw.ID, t.InvitationID, sw.InstanceID, t.Key, batch, number, nullTime(t.InvitedAt), nullTime(t.ExpiresAt)}
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"revocations"},
		[]string{"sweep_id", "clerk_invitation_id", "instance_id", "key", "batch_id", "row_number", "invited_at", "expires_at"}, pgx.CopyFromRows(rows))
	if err != nil {
		return fmt.Errorf("record what sweep %d is to take back: %w", sw.ID, err)
	}
	return nil
}

// supersede ends the sweeps of what is stale that are held: a newer one has
// looked at the same invitations.
func (s *Store) supersede(ctx context.Context, tx pgx.Tx, instance int64) error {
	rows, _ := tx.Query(ctx, `select id from sweeps where instance_id = $1 and held and kind = 'sweep' and finished_at is null order by id for update`, instance)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("look for held sweeps: %w", err)
	}
	for _, id := range ids {
		if err := s.drop(ctx, tx, id, SkipSuperseded); err != nil {
			return err
		}
	}
	return nil
}

// drop decides the revocations of a sweep that have no open attempt as skipped,
// and ends the sweep if none is left. The caller holds the sweep for update.
func (s *Store) drop(ctx context.Context, tx pgx.Tx, sweep int64, reason string) error {
	_, err := tx.Exec(ctx, `
		update revocations v set outcome = 'skipped', reason = $2, decided_at = clock_timestamp(), not_before = null
		where v.sweep_id = $1 and v.outcome is null and not exists (
			select from attempts a join attempt_people p on p.attempt_id = a.id
			where a.sweep_id = $1 and p.clerk_invitation_id = v.clerk_invitation_id and p.open and p.key = v.key and p.instance_id = v.instance_id)`, sweep, reason)
	if err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	if _, err := tx.Exec(ctx, `update sweeps set held = false where id = $1`, sweep); err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	return finishSweeps(ctx, tx, `s.id = $1`, sweep)
}

// AllowSweep lets a held sweep pass its threshold and returns what is to be
// revoked: each needs a job. A sweep that is not held has none.
func (s *Store) AllowSweep(ctx context.Context, tx pgx.Tx, sweep int64, actor string) ([]RevocationID, error) {
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
	return ids, event(ctx, tx, instance, batch, actor, "sweep_allowed", map[string]any{"sweep": sweep, "invitations": len(ids)})
}

// StopSweep ends a sweep that is held or goes on: what has no open attempt is
// left alone, and the rest is decided by its answer.
func (s *Store) StopSweep(ctx context.Context, tx pgx.Tx, sweep int64, actor string) error {
	var instance, batch int64
	err := tx.QueryRow(ctx, `select instance_id, coalesce(batch_id, 0) from sweeps where id = $1 and apply and finished_at is null for update`, sweep).Scan(&instance, &batch)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	// Whose request is under way goes on with its batch.
	if _, err := tx.Exec(ctx, `update results set withdrawn_by = null where withdrawn_by = $1 and outcome is null`, sweep); err != nil {
		return fmt.Errorf("stop sweep %d: %w", sweep, err)
	}
	if err := s.drop(ctx, tx, sweep, SkipStopped); err != nil {
		return err
	}
	return event(ctx, tx, instance, batch, actor, "sweep_stopped", map[string]any{"sweep": sweep})
}

// FinishSweeps ends the sweeps of an instance of which every revocation is
// decided, and records what came of them.
func (s *Store) FinishSweeps(ctx context.Context, instance int64) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		return finishSweeps(ctx, tx, `s.instance_id = $1`, instance)
	})
}

// sweepCounts counts what came of the revocations of sweep s so far. What was
// skipped when it began stays in the count.
const sweepCounts = `
	select coalesce(sum(n) filter (where why = 'revoked'), 0)::int as revoked, coalesce(sum(n) filter (where why = 'failed'), 0)::int as failed,
	       coalesce(sum(n) filter (where why is null), 0)::int as undecided, coalesce(jsonb_object_agg(why, n) filter (where why not in ('revoked', 'failed')), '{}') as skipped
	from (select why, sum(n) as n from (
		select case v.outcome when 'skipped' then v.reason else v.outcome end as why, count(*) as n from revocations v where v.sweep_id = s.id group by 1
		union all select key, value::bigint from jsonb_each_text(s.skipped)) w group by why) t`

// finishSweeps ends those of which which says so.
func finishSweeps(ctx context.Context, tx pgx.Tx, which string, arg int64) error {
	_, err := tx.Exec(ctx, `
		update sweeps o set finished_at = clock_timestamp(), revoked = c.revoked, failed = c.failed, skipped = c.skipped,
		       cancelled = (select count(*) from results r where r.withdrawn_by = s.id and r.outcome = 'cancelled')
		from sweeps s cross join lateral (`+sweepCounts+`) c
		where o.id = s.id and o.finished_at is null and `+which+` and s.apply and not s.held and s.finished_at is null
		  and not exists (select from revocations v where v.sweep_id = s.id and v.outcome is null) and not `+following, arg)
	if err != nil {
		return fmt.Errorf("end sweeps: %w", err)
	}
	return nil
}

// sweepQuery reads sweeps; of one that goes on or is held, it counts what came of
// it so far.
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
	sw.Night, sw.AllowedAt, sw.FinishedAt = deref(night), deref(allowed), deref(finished)
	return &sw, nil
}

// Sweep returns a sweep, or [ErrNoSweep]. Its counts are final once it has
// ended; until then Undecided says how much is left.
func (s *Store) Sweep(ctx context.Context, id int64) (*Sweep, error) {
	sw, err := scanSweep(s.pool.QueryRow(ctx, sweepQuery+` where s.id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("sweep %d: %w", id, ErrNoSweep)
	}
	if err != nil {
		return nil, fmt.Errorf("read sweep %d: %w", id, err)
	}
	return sw, nil
}

// SweepFilter says which sweeps are wanted. Its zero value wants all.
type SweepFilter struct {
	Instance int64 // 0: of all
	Batch    int64 // 0: of all, and of none
	Held     bool  // those alone that wait for a person
	Before   int64 // those that are older than this one; 0: from the newest
	Limit    int   // how many at most; 0: all
}

// Sweeps returns sweeps, the newest first.
func (r *Reader) Sweeps(ctx context.Context, f SweepFilter) ([]*Sweep, error) {
	return r.sweeps(ctx, `
		($1::bigint = 0 or s.instance_id = $1) and ($2::bigint = 0 or s.batch_id = $2) and (not $3::bool or s.held and s.apply and s.finished_at is null)
		and ($4::bigint = 0 or s.id < $4) order by s.id desc limit nullif($5::int, 0)`, f.Instance, f.Batch, f.Held, f.Before, f.Limit)
}

// LastNight returns the newest sweep that a schedule began, of all instances;
// nil: there was none.
func (r *Reader) LastNight(ctx context.Context) (*Sweep, error) {
	sweeps, err := r.sweeps(ctx, `s.night is not null order by s.id desc limit 1`)
	if err != nil || len(sweeps) == 0 {
		return nil, err
	}
	return sweeps[0], nil
}

func (r *Reader) sweeps(ctx context.Context, where string, args ...any) ([]*Sweep, error) {
	rows, _ := r.pool.Query(ctx, sweepQuery+` where `+where, args...)
	sweeps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Sweep, error) { return scanSweep(row) })
	if err != nil {
		return nil, fmt.Errorf("list sweeps: %w", err)
	}
	return sweeps, nil
}

// SweepState says what a sweep is doing.
type SweepState string

// The states of a sweep.
const (
	SweepDry     SweepState = "dry_run" // it only counted
	SweepHeld    SweepState = "held"    // it waits for a person
	SweepRunning SweepState = "running"
	SweepDone    SweepState = "done"
)

// State is what the sweep is doing.
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

// SweepDocument is a sweep as scripts read it. What it does not have is null.
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
		Threshold: s.Threshold, Held: s.Held, Night: nullTime(s.Night), StartedAt: s.StartedAt, AllowedAt: nullTime(s.AllowedAt), FinishedAt: nullTime(s.FinishedAt)}
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
