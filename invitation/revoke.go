package invitation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// What an answer to a revoke can say of a person; attempt_people.answer holds
// these words.
const (
	AnswerRevoked  Answer = "revoked"  // it is revoked, by this request or before
	AnswerAccepted Answer = "accepted" // it had been accepted
	AnswerGone     Answer = "gone"     // Clerk does not know it
)

// ClosedRead is the resolution of a revoke that a read settled.
const ClosedRead = "read"

// ErrSwept says that a night has had its sweep.
var ErrSwept = errors.New("this night was swept already")

// Sweep is one run of revoking what is stale.
type Sweep struct {
	ID        int64
	OlderThan time.Duration
	Apply     bool
	StartedBy string
	Night     time.Time      // the moment of the schedule that it stands for; zero: somebody asked for it
	Scanned   int            // pending invitations of ours
	Stale     int            // those older than the duration
	Revoked   int            // revoked by this sweep, or found revoked
	Skipped   map[string]int // by reason
	Failed    int            // refused, or the answer was lost: the next sweep sees to them
}

// BeginSweep records that a sweep begins, and who it is that it would revoke:
// pending invitations of ours at the instance that are older than the duration,
// oldest first. Those past their own expiry are left alone and counted. A night
// that was swept already is [ErrSwept].
func (s *Store) BeginSweep(ctx context.Context, instance int64, sw *Sweep) ([]Person, error) {
	sw.Skipped = map[string]int{}
	err := s.pool.QueryRow(ctx, `insert into sweeps (instance_id, started_by, older_than, apply, night) values ($1, $2, $3, $4, $5)
		on conflict (instance_id, night) do nothing returning id`,
		instance, sw.StartedBy, sw.OlderThan, sw.Apply, nullTime(sw.Night)).Scan(&sw.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrSwept
	}
	if err != nil {
		return nil, fmt.Errorf("begin a sweep: %w", err)
	}
	var expired int
	err = s.pool.QueryRow(ctx, `
		select count(*), count(*) filter (where expires_at <= clock_timestamp() and coalesce(invited_at, decided_at) < clock_timestamp() - $2::interval)
		from results where instance_id = $1 and outcome = 'invited' and status = 'pending'`, instance, sw.OlderThan).Scan(&sw.Scanned, &expired)
	if err != nil {
		return nil, fmt.Errorf("count pending invitations: %w", err)
	}
	if expired > 0 {
		sw.Skipped["expired"] = expired
	}
	rows, _ := s.pool.Query(ctx, `
		select batch_id, row_number, key, clerk_invitation_id from results
		where instance_id = $1 and outcome = 'invited' and status = 'pending' and clerk_invitation_id is not null
		  and coalesce(invited_at, decided_at) < clock_timestamp() - $2::interval and (expires_at is null or expires_at > clock_timestamp())
		order by coalesce(invited_at, decided_at), batch_id, row_number`, instance, sw.OlderThan)
	people, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Person, err error) {
		err = row.Scan(&p.Batch, &p.Row, &p.Key, &p.InvitationID)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list stale invitations: %w", err)
	}
	sw.Stale = len(people)
	return people, nil
}

// EndSweep records what a sweep did.
func (s *Store) EndSweep(ctx context.Context, sw *Sweep) error {
	_, err := s.pool.Exec(ctx, `update sweeps set finished_at = clock_timestamp(), scanned = $2, stale = $3, revoked = $4, skipped = $5, failed = $6 where id = $1`,
		sw.ID, sw.Scanned, sw.Stale, sw.Revoked, sw.Skipped, sw.Failed)
	if err != nil {
		return fmt.Errorf("end sweep %d: %w", sw.ID, err)
	}
	return nil
}

// CloseRevoke closes the open revoke of an invitation and records where the
// invitation stands; an empty status leaves that as it was. It returns the rows
// that this frees.
func (s *Store) CloseRevoke(ctx context.Context, tx pgx.Tx, instance int64, p Person, status Status, how string) ([]Freed, error) {
	if status != "" {
		_, err := tx.Exec(ctx, `update results set status = $4, status_at = clock_timestamp()
			where batch_id = $1 and row_number = $2 and clerk_invitation_id = $3`, p.Batch, p.Row, p.InvitationID, string(status))
		if err != nil {
			return nil, fmt.Errorf("record where invitation %s stands: %w", p.InvitationID, err)
		}
		// What a read showed before is no news any more.
		_, err = tx.Exec(ctx, `update sightings set status = $3 where instance_id = $1 and clerk_id = $2 and kind = 'invitation'`, instance, p.InvitationID, string(status))
		if err != nil {
			return nil, fmt.Errorf("record where invitation %s stands: %w", p.InvitationID, err)
		}
	}
	return s.close(ctx, tx, instance, []Verdict{{RowID: p.RowID, Key: p.Key, Action: Action{Close: how, InvitationID: p.InvitationID}}})
}

// LastStatus returns where reads last saw an invitation; empty: nowhere.
func (s *Store) LastStatus(ctx context.Context, tx pgx.Tx, instance int64, invitation string) (Status, error) {
	var status Status
	err := tx.QueryRow(ctx, `select status from sightings where instance_id = $1 and clerk_id = $2 order by last_seen desc limit 1`, instance, invitation).Scan(&status)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up invitation %s: %w", invitation, err)
	}
	return status, nil
}
