package invitation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Reply is what came of a request, as the ledger keeps it.
type Reply struct {
	NotSent bool // proven: never written to the network
	Status  int  // HTTP status; 0: no answer
	Code    string
	TraceID string
	Read    bool          // what it did can only be learned by reading
	Soon    bool          // such a read may begin at once; otherwise a settle time after the answer
	Backoff time.Duration // for its people, before they are asked for again; 0: none
	People  map[string]Said
}

// Said is what an answer said of one person.
type Said struct {
	Answer       Answer
	Code         string
	InvitationID string
	CreatedAt    time.Time
	ExpiresAt    time.Time
}

// Note writes the answer to an attempt into the ledger and reports whether the
// attempt was still open. An answer that comes after that is kept apart and
// changes nothing.
func (s *Store) Note(ctx context.Context, tx pgx.Tx, attempt int64, r Reply, settle time.Duration) (open bool, err error) {
	err = tx.QueryRow(ctx, `
		update attempts set answered_at = clock_timestamp(), http_status = nullif($2, 0), error_code = nullif($3, ''), trace_id = nullif($4, ''),
		       read_after = case when not $5 then null when $6 then clock_timestamp() else clock_timestamp() + $7::interval end
		where id = $1 and answered_at is null and resolved_at is null returning true`,
		attempt, r.Status, r.Code, r.TraceID, r.Read, r.Soon, settle).Scan(&open)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, s.late(ctx, tx, attempt, r)
	}
	if err != nil {
		return false, fmt.Errorf("note the answer to attempt %d: %w", attempt, err)
	}
	var keys, answers, codes, invitations []string
	for key, said := range r.People {
		keys, answers = append(keys, key), append(answers, string(said.Answer))
		codes, invitations = append(codes, said.Code), append(invitations, said.InvitationID)
	}
	_, err = tx.Exec(ctx, `
		update attempt_people p set answer = d.answer, error_code = nullif(d.code, ''), clerk_invitation_id = coalesce(nullif(d.invitation, ''), p.clerk_invitation_id)
		from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as d (key, answer, code, invitation)
		where p.attempt_id = $1 and p.key = d.key`, attempt, keys, answers, codes, invitations)
	if err != nil {
		return false, fmt.Errorf("note what the answer to attempt %d says: %w", attempt, err)
	}
	if r.Backoff > 0 {
		// What passed between the end of a backoff and the next attempt was waiting for something else, and what passed
		// between an attempt's deadline and this note was waiting for PostgreSQL: neither counts.
		_, err = tx.Exec(ctx, `
			update results r set tries = tries + 1,
			       transient_since = coalesce(transient_since + greatest(a.started_at - r.not_before, '0 s') + greatest(clock_timestamp() - a.deadline, '0 s'), clock_timestamp()),
			       last_error = $3, not_before = clock_timestamp() + $2::interval
			from attempt_people p join attempts a on a.id = p.attempt_id
			where p.attempt_id = $1 and p.open and (p.answer is null or r.revoke_sent is not null) and (r.batch_id, r.row_number) = (p.batch_id, p.row_number) and r.outcome is null`,
			attempt, r.Backoff, r.Code)
	}
	if err != nil {
		return false, fmt.Errorf("back off after attempt %d: %w", attempt, err)
	}
	return true, nil
}

func (s *Store) late(ctx context.Context, tx pgx.Tx, attempt int64, r Reply) error {
	var ids []string
	for _, said := range r.People {
		if said.InvitationID != "" {
			ids = append(ids, said.InvitationID)
		}
	}
	_, err := tx.Exec(ctx, `insert into late_answers (attempt_id, http_status, error_code, trace_id, clerk_invitation_ids)
		values ($1, nullif($2, 0), nullif($3, ''), nullif($4, ''), $5)`, attempt, r.Status, r.Code, r.TraceID, ids)
	if err != nil {
		return fmt.Errorf("keep the late answer to attempt %d: %w", attempt, err)
	}
	return nil
}

// Verdict is an action on a row.
type Verdict struct {
	RowID
	Action
	Key string
}

// Settle records what was decided of rows, closes their open attempts, and
// returns the rows that this frees: undecided ones in running batches, which
// need a job. With a row that is decided already, or claimed meanwhile, nothing
// happens.
func (s *Store) Settle(ctx context.Context, tx pgx.Tx, instance int64, verdicts []Verdict) ([]Freed, error) {
	var decided, closed []Verdict
	for _, v := range verdicts {
		if v.Kind == Decide {
			decided = append(decided, v)
		}
		if v.Close != "" {
			closed = append(closed, v)
		}
	}
	if err := s.decide(ctx, tx, decided); err != nil {
		return nil, err
	}
	return s.close(ctx, tx, instance, closed)
}

func (s *Store) decide(ctx context.Context, tx pgx.Tx, verdicts []Verdict) error {
	if len(verdicts) == 0 {
		return nil
	}
	var b pgx.Batch
	for _, v := range verdicts {
		b.Queue(`
			update results set outcome = $3, reason = nullif($4, ''), clerk_invitation_id = nullif($5, ''), clerk_user_id = nullif($6, ''),
			       status = nullif($7, ''), status_at = case when $7 = '' then null else clock_timestamp() end, invited_at = $8, expires_at = $9,
			       attempt_id = nullif($10, 0), read_id = nullif($11, 0), decided_at = clock_timestamp(), not_before = null
			where batch_id = $1 and row_number = $2 and outcome is null
			  and not exists (select from attempt_people p where p.batch_id = $1 and p.row_number = $2 and p.open and $12 = '')`,
			v.Batch, v.Row, v.Outcome, v.Reason, v.InvitationID, v.UserID, string(v.Status), nullTime(v.InvitedAt), nullTime(v.ExpiresAt), v.AttemptID, v.ReadID, v.Close)
	}
	var batches []int64
	var numbers []int32
	for _, v := range verdicts {
		batches, numbers = append(batches, v.Batch), append(numbers, int32(v.Row))
	}
	// What was revoked to make room is settled with the row that it made room for.
	b.Queue(`
		with room as (
			update attempt_people p set closed_at = clock_timestamp(), resolution = 'answered'
			from unnest($1::bigint[], $2::int[]) as d (batch, number)
			join results r on r.batch_id = d.batch and r.row_number = d.number and r.revoke_sent is not null and r.outcome is not null
			where p.batch_id = r.batch_id and p.row_number = r.row_number and p.closed_at is null and p.answer in ('revoked', 'gone')
			returning p.attempt_id)
		update attempts a set resolved_at = clock_timestamp(), resolution = 'answered' from room where a.id = room.attempt_id and a.under is not null`, batches, numbers)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("decide %d rows: %w", len(verdicts), err)
	}
	return nil
}

// Freed is a row that waits again, and when it may be taken up.
type Freed struct {
	RowID
	Priority int
	At       *time.Time // nil: now
	Links    bool       // its link goes to a file: only the process that has it may take it up
}

func (s *Store) close(ctx context.Context, tx pgx.Tx, instance int64, verdicts []Verdict) ([]Freed, error) {
	if len(verdicts) == 0 {
		return nil, nil
	}
	var batches []int64
	var numbers []int32
	var hows, keys, invitations []string
	var alone []bool
	for _, v := range verdicts {
		batches, numbers = append(batches, v.Batch), append(numbers, int32(v.Row))
		hows, keys, invitations, alone = append(hows, v.Close), append(keys, v.Key), append(invitations, v.InvitationID), append(alone, v.Alone)
	}
	var b pgx.Batch
	b.Queue(`
		update attempt_people p set open = false, closed_at = clock_timestamp(), resolution = d.how,
		       clerk_invitation_id = coalesce(p.clerk_invitation_id, nullif(d.invitation, ''))
		from unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) as d (batch, number, how, invitation)
		where p.batch_id = d.batch and p.row_number = d.number and p.open`, batches, numbers, hows, invitations)
	b.Queue(`
		with touched as (
			select distinct p.attempt_id from attempt_people p join unnest($1::bigint[], $2::int[]) as d (batch, number)
			on p.batch_id = d.batch and p.row_number = d.number),
		ended as (
			select p.attempt_id, array_agg(distinct p.resolution) as hows
			from attempt_people p join touched using (attempt_id) group by p.attempt_id having not bool_or(p.open))
		update attempts a set resolved_at = clock_timestamp(), resolution = case
		       when hows = array['not_sent'] then 'not_sent' when hows = array['refused'] then 'refused'
		       when hows <@ array['answered', 'refused'] then 'answered' else 'read' end
		from ended where a.id = ended.attempt_id and a.resolved_at is null and a.under is null`, batches, numbers)
	b.Queue(`
		update results r set alone = true
		from unnest($1::bigint[], $2::int[], $3::bool[]) as d (batch, number, alone)
		where r.batch_id = d.batch and r.row_number = d.number and d.alone and r.outcome is null and not r.alone`, batches, numbers, alone)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("close %d claims: %w", len(verdicts), err)
	}
	return freed(ctx, tx, instance, keys)
}

// freed returns the undecided rows of people in running batches, and those that
// are halfway in any.
func freed(ctx context.Context, tx pgx.Tx, instance int64, keys []string) ([]Freed, error) {
	rows, _ := tx.Query(ctx, `
		select r.batch_id, r.row_number, b.priority, case when r.not_before > clock_timestamp() then r.not_before end, b.links_file is not null
		from unnest($2::text[]) as k (key)
		cross join lateral (select * from results r where r.key = k.key and r.instance_id = $1 and r.outcome is null offset 0) r
		join batches b on b.id = r.batch_id and (b.state = 'running' or r.revoke_sent is not null)`, instance, keys)
	freed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Freed, err error) {
		err = row.Scan(&f.Batch, &f.Row, &f.Priority, &f.At, &f.Links)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for the rows of %d people that wait: %w", len(keys), err)
	}
	return freed, nil
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
