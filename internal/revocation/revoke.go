// Package revocation stores runs that revoke invitations: sweeps, rescinds, undos and corrections. It
// stores one revocation for each invitation, and how the revocation ended.
package revocation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// Revoking says how a revocation ended. revocations.outcome stores it. The empty Revoking means
// undecided.
type Revoking string

// The ends of a revocation.
const (
	RevokeDone     Revoking = "revoked"         // this sweep revoked it
	RevokeBefore   Revoking = "already_revoked" // somebody else had revoked it
	RevokeAccepted Revoking = "accepted"        // the person accepted meanwhile: an accepted invitation is never revoked
	RevokeGone     Revoking = "gone"            // Clerk does not know the invitation
	RevokeFailed   Revoking = "failed"          // Clerk refused it, or the program gave up
	RevokeSkipped  Revoking = "skipped"         // left alone; the reason says why
)

// The reasons for which a sweep leaves an invitation alone.
const (
	SkipExpired     = "expired"          // it has expired, so its link opens nothing
	SkipOwnExpiry   = "own_expiry"       // its batch or row set an expiry, and it may live until then
	SkipOpenAttempt = "open_attempt"     // a request for the person is under way, or its answer was lost
	SkipWaitingRow  = "waiting_row"      // the person has an undecided row in an unfinished batch, for example a resend
	SkipOtherSweep  = "in_another_sweep" // another sweep is revoking it
	SkipGone        = "gone"             // Clerk did not know it when it was last to be revoked
	SkipSuperseded  = "superseded"       // the sweep was held, and a newer one replaced it
	SkipStopped     = "stopped"          // a person stopped the sweep
)

// RevocationID identifies a revocation. A job carries nothing else.
type RevocationID struct {
	Sweep      int64  `json:"sweep"`
	Invitation string `json:"invitation"` // Clerk's id
}

// Revocation is an invitation that a sweep revokes, and its state.
type Revocation struct {
	RevocationID
	ledger.Person
	Kind      SweepKind
	Held      bool // the sweep waits for a person
	Outcome   Revoking
	Dropped   string // why it is not to be tried again, if it is undecided: its sweep was stopped
	ExpiresAt time.Time
	NotBefore time.Time
	Begun     time.Time // when the sweep began or was allowed
	Tries     int
	Now       time.Time // PostgreSQL's clock
}

const revocationColumns = `v.sweep_id, v.clerk_invitation_id, coalesce(v.batch_id, 0), coalesce(v.row_number, 0), v.key,
	s.kind, s.held, coalesce(v.outcome, ''), case when v.outcome is null then coalesce(v.reason, '') else '' end,
	v.expires_at, v.not_before, coalesce(s.allowed_at, s.started_at), v.tries, clock_timestamp()`

func scanRevocation(row pgx.Row) (*Revocation, error) {
	var r Revocation
	var expires, notBefore *time.Time
	err := row.Scan(&r.Sweep, &r.Invitation, &r.Batch, &r.Row, &r.Key, &r.Kind, &r.Held, &r.Outcome, &r.Dropped,
		&expires, &notBefore, &r.Begun, &r.Tries, &r.Now)
	if err != nil {
		return nil, err
	}
	r.InvitationID, r.ExpiresAt, r.NotBefore = r.Invitation, db.Time(expires), db.Time(notBefore)
	return &r, nil
}

// Waits reports whether the revocation may be tried now.
func (r *Revocation) Waits() bool {
	return !r.Held && r.Outcome == "" && !r.NotBefore.After(r.Now)
}

// ReadRevocation returns a revocation. It fails if the revocation does not exist.
func ReadRevocation(ctx context.Context, pool *pgxpool.Pool, id RevocationID) (*Revocation, error) {
	r, err := scanRevocation(pool.QueryRow(ctx, `select `+revocationColumns+` from revocations v join sweeps s on s.id = v.sweep_id
		where v.sweep_id = $1 and v.clerk_invitation_id = $2`, id.Sweep, id.Invitation))
	if err != nil {
		return nil, fmt.Errorf("look up invitation %s of sweep %d: %w", id.Invitation, id.Sweep, err)
	}
	return r, nil
}

// LockRevocation returns a revocation and locks it until the transaction ends. Its sweep cannot be
// stopped meanwhile.
func LockRevocation(ctx context.Context, tx pgx.Tx, id RevocationID) (*Revocation, error) {
	// Lock the sweep first, in a separate statement: a transaction that stops it locks in the same
	// order.
	if _, err := tx.Exec(ctx, `select from sweeps where id = $1 for key share`, id.Sweep); err != nil {
		return nil, fmt.Errorf("lock sweep %d: %w", id.Sweep, err)
	}
	r, err := scanRevocation(tx.QueryRow(ctx, `select `+revocationColumns+` from revocations v join sweeps s on s.id = v.sweep_id
		where v.sweep_id = $1 and v.clerk_invitation_id = $2 for update of v`, id.Sweep, id.Invitation))
	if err != nil {
		return nil, fmt.Errorf("lock invitation %s of sweep %d: %w", id.Invitation, id.Sweep, err)
	}
	return r, nil
}

// Known returns the status of the invitation according to the revocation's row, or "" if there is
// no row or it has none. waits reports whether the person has an undecided row in a running or
// paused batch.
func Known(ctx context.Context, tx pgx.Tx, instance int64, r *Revocation) (status invitation.Status, waits bool, err error) {
	err = tx.QueryRow(ctx, `
		select coalesce((select status from results where batch_id = $1 and row_number = $2 and clerk_invitation_id = $3), ''),
		       exists (select from results w join batches b on b.id = w.batch_id and b.state in ('running', 'paused') where w.key = $4 and w.instance_id = $5 and w.outcome is null)`,
		r.Batch, r.Row, r.Invitation, r.Key, instance).Scan(&status, &waits)
	if err != nil {
		return "", false, fmt.Errorf("look up where invitation %s stands: %w", r.Invitation, err)
	}
	return status, waits, nil
}

// UnderWay returns the invitation of the revocation's person for which the same sweep has an open
// revoke. It returns "" if there is none.
func UnderWay(ctx context.Context, tx pgx.Tx, instance int64, r *Revocation) (invitation string, err error) {
	err = tx.QueryRow(ctx, `select p.clerk_invitation_id from attempt_people p join attempts a on a.id = p.attempt_id
		where p.instance_id = $1 and p.key = $2 and p.open and a.sweep_id = $3`, instance, r.Key, r.Sweep).Scan(&invitation)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look whether invitation %s is being revoked: %w", r.Invitation, err)
	}
	return invitation, nil
}

// RevocationEnd is the decision about a revocation.
type RevocationEnd struct {
	Outcome Revoking
	Reason  string
	Attempt int64 // 0: nothing was sent
	Read    int64 // 0: no read decided it
}

// EndRevocation records how a revocation ended. It does not change one that is decided already.
func EndRevocation(ctx context.Context, tx pgx.Tx, id RevocationID, e RevocationEnd) error {
	_, err := tx.Exec(ctx, `
		update revocations set outcome = $3, reason = nullif($4, ''), attempt_id = nullif($5, 0), read_id = nullif($6, 0), decided_at = clock_timestamp(), not_before = null
		where sweep_id = $1 and clerk_invitation_id = $2 and outcome is null`, id.Sweep, id.Invitation, e.Outcome, e.Reason, e.Attempt, e.Read)
	if err != nil {
		return fmt.Errorf("decide invitation %s of sweep %d: %w", id.Invitation, id.Sweep, err)
	}
	return nil
}

// PutOffRevocation postpones a revocation by wait and returns until when. If code is not empty, it
// counts as a transient answer.
func PutOffRevocation(ctx context.Context, tx pgx.Tx, id RevocationID, wait time.Duration, code string) (until time.Time, err error) {
	err = tx.QueryRow(ctx, `
		update revocations set not_before = clock_timestamp() + $3::interval, tries = tries + case when $4 = '' then 0 else 1 end, last_error = coalesce(nullif($4, ''), last_error)
		where sweep_id = $1 and clerk_invitation_id = $2 returning not_before`, id.Sweep, id.Invitation, wait, code).Scan(&until)
	if err != nil {
		return until, fmt.Errorf("put off invitation %s of sweep %d: %w", id.Invitation, id.Sweep, err)
	}
	return until, nil
}

// LostRevocations returns up to n revocations of an instance's running sweeps that may be tried
// now, oldest sweep first. It leaves out people who have an open request.
func LostRevocations(ctx context.Context, pool *pgxpool.Pool, instance int64, n int) ([]RevocationID, error) {
	rows, _ := pool.Query(ctx, `
		select v.sweep_id, v.clerk_invitation_id from sweeps s join revocations v on v.sweep_id = s.id and v.outcome is null
		where s.instance_id = $1 and s.apply and s.finished_at is null and not s.held and (v.not_before is null or v.not_before <= clock_timestamp())
		  and not exists (select from attempt_people p where p.instance_id = v.instance_id and p.key = v.key and p.open)
		order by s.id, v.clerk_invitation_id limit $2`, instance, n)
	ids, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RevocationID])
	if err != nil {
		return nil, fmt.Errorf("look for revocations of instance %d that wait: %w", instance, err)
	}
	return ids, nil
}

// RevocationLine is one invitation of a sweep and its result.
type RevocationLine struct {
	ClerkInvitationID string     `json:"clerk_invitation_id"`
	Key               string     `json:"key"`      // the person's key
	BatchID           *int64     `json:"batch_id"` // of the row; nil: no row explains the invitation
	RowNumber         *int       `json:"row_number"`
	InvitedAt         *time.Time `json:"invited_at"`
	Outcome           *Revoking  `json:"outcome"`    // nil: undecided
	Reason            *string    `json:"reason"`     // why it failed or was skipped
	LastError         *string    `json:"last_error"` // of an undecided one
	DecidedAt         *time.Time `json:"decided_at"`
}

// Revocations returns up to limit revocations of a sweep, ordered by Clerk's ids. after is the last
// id of the page before, or empty for the first page.
func Revocations(ctx context.Context, pool *pgxpool.Pool, sweep int64, after string, limit int) ([]RevocationLine, error) {
	rows, _ := pool.Query(ctx, `
		select clerk_invitation_id, key, batch_id, row_number, invited_at, outcome, reason, last_error, decided_at from revocations
		where sweep_id = $1 and clerk_invitation_id > $2 order by clerk_invitation_id limit $3`, sweep, after, limit)
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RevocationLine])
	if err != nil {
		return nil, fmt.Errorf("list what sweep %d takes back: %w", sweep, err)
	}
	return lines, nil
}
