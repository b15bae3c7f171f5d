package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// Reply is the result of a request as the ledger keeps it.
type Reply struct {
	NotSent bool // proven: the request was never written to the network
	Status  int  // HTTP status; 0: no answer
	Code    string
	TraceID string
	Read    bool          // only a read can show what the request did
	Soon    bool          // that read may begin at once; if false, a settle time after the answer and the deadline
	Backoff time.Duration // how long its people back off; 0: not at all
	People  map[string]Said
}

// Said is what an answer said about one person.
type Said struct {
	Answer       invitation.Answer
	Code         string
	InvitationID string
	CreatedAt    time.Time
	ExpiresAt    time.Time
}

// Noted is the answer to an attempt.
//
// The id alone does not identify an attempt. A standby that was promoted without the last commits
// assigns ids again, while live workers still wait for answers to attempts that the standby has
// forgotten.
type Noted struct {
	Attempt int64
	Started time.Time // attempts.started_at
	Reply
}

// Note writes answers into the ledger and returns which attempts were still open. An answer to an
// attempt that was answered or resolved before goes to late_answers and changes nothing. settle is
// the settle time.
func Note(ctx context.Context, tx pgx.Tx, settle time.Duration, answers ...Noted) (open map[int64]bool, err error) {
	var ids, named []int64
	var started []time.Time
	var statuses []int32
	var codes, traces []string
	var reads, soon []bool
	var keys, said, errs, invitations []string
	for _, n := range answers {
		ids, statuses, codes, traces = append(ids, n.Attempt), append(statuses, int32(n.Status)), append(codes, n.Code), append(traces, n.TraceID)
		reads, soon, started = append(reads, n.Read), append(soon, n.Soon), append(started, n.Started)
		for key, one := range n.People {
			named, keys, said = append(named, n.Attempt), append(keys, key), append(said, string(one.Answer))
			errs, invitations = append(errs, one.Code), append(invitations, one.InvitationID)
		}
	}
	rows, _ := tx.Query(ctx, `
		update attempts a set answered_at = clock_timestamp(), http_status = nullif(d.status, 0), error_code = nullif(d.code, ''), trace_id = nullif(d.trace, ''),
		       read_after = case when not d.read then null when d.soon then clock_timestamp() else greatest(clock_timestamp(), a.deadline) + $7::interval end
		from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::bool[], $6::bool[], $8::timestamptz[])
			as d (id, status, code, trace, read, soon, started)
		where a.id = d.id and a.started_at = d.started and a.answered_at is null and a.resolved_at is null returning a.id`,
		ids, statuses, codes, traces, reads, soon, settle, started)
	open = map[int64]bool{}
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { open[id] = true; return nil }); err != nil {
		return nil, fmt.Errorf("note the answers to attempts %v: %w", ids, err)
	}
	_, err = tx.Exec(ctx, `
		update attempt_people p set answer = d.answer, error_code = nullif(d.code, ''), clerk_invitation_id = coalesce(nullif(d.invitation, ''), p.clerk_invitation_id)
		from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[]) as d (id, key, answer, code, invitation)
		where p.attempt_id = d.id and p.key = d.key and d.id = any($1)`, slices.Collect(maps.Keys(open)), named, keys, said, errs, invitations)
	if err != nil {
		return nil, fmt.Errorf("note what the answers to attempts %v say: %w", ids, err)
	}
	for _, n := range answers {
		switch {
		case !open[n.Attempt]:
			err = late(ctx, tx, n)
		case n.Backoff > 0:
			err = backOff(ctx, tx, n)
		}
		if err != nil {
			return nil, err
		}
	}
	return open, nil
}

// backOff makes the people back off that an answer did not decide.
func backOff(ctx context.Context, tx pgx.Tx, n Noted) error {
	// The time between the end of a backoff and the next attempt was spent waiting for something
	// else, and the time between an attempt's deadline and this note was spent waiting for
	// PostgreSQL. Neither counts.
	_, err := tx.Exec(ctx, `
		update results r set tries = tries + 1,
		       transient_since = coalesce(transient_since + greatest(a.started_at - r.not_before, '0 s') + greatest(clock_timestamp() - a.deadline, '0 s'), clock_timestamp()),
		       last_error = $3, not_before = clock_timestamp() + $2::interval
		from attempt_people p join attempts a on a.id = p.attempt_id
		where p.attempt_id = $1 and p.open and (p.answer is null or r.revoke_sent is not null) and (r.batch_id, r.row_number) = (p.batch_id, p.row_number) and r.outcome is null`,
		n.Attempt, n.Backoff, n.Code)
	if err != nil {
		return fmt.Errorf("back off after attempt %d: %w", n.Attempt, err)
	}
	return nil
}

// PutOff makes a waiting row back off as after a transient answer, because a read that it needs
// fails for its person alone with this code. backoff returns for how long, given the number of
// earlier tries. PutOff returns the person's rows that need a job.
func PutOff(ctx context.Context, tx pgx.Tx, instance int64, id invitation.RowID, key, code string, backoff func(tries int) time.Duration) ([]Freed, error) {
	var tries int
	err := tx.QueryRow(ctx, `select tries from results where batch_id = $1 and row_number = $2 for update`, id.Batch, id.Row).Scan(&tries)
	if err == nil {
		_, err = tx.Exec(ctx, `
			update results r set tries = tries + 1, transient_since = coalesce(transient_since + greatest(clock_timestamp() - not_before, '0 s'), clock_timestamp()),
			       last_error = $3, not_before = clock_timestamp() + $4::interval
			where batch_id = $1 and row_number = $2 and outcome is null and coalesce(not_before, '-infinity') <= clock_timestamp()
			  and not exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)`, id.Batch, id.Row, code, backoff(tries))
	}
	if err != nil {
		return nil, fmt.Errorf("put off row %d of batch %d: %w", id.Row, id.Batch, err)
	}
	return freed(ctx, tx, instance, []string{key})
}

// late keeps an answer to an attempt that is answered or resolved already. A database that was
// restored, or a standby that was promoted, may not know the attempt. Then nothing is kept, and
// reads find what the request did.
func late(ctx context.Context, tx pgx.Tx, n Noted) error {
	var ids []string
	for _, said := range n.People {
		if said.InvitationID != "" {
			ids = append(ids, said.InvitationID)
		}
	}
	_, err := tx.Exec(ctx, `insert into late_answers (attempt_id, http_status, error_code, trace_id, clerk_invitation_ids)
		select $1, nullif($2, 0), nullif($3, ''), nullif($4, ''), $5
		where exists (select from attempts where id = $1 and started_at = $6)
		and not exists (select from attempts where id = $1 and answered_at is not null
			and (coalesce(http_status, 0), coalesce(error_code, ''), coalesce(trace_id, '')) = ($2, $3, $4))`,
		n.Attempt, n.Status, n.Code, n.TraceID, ids, n.Started)
	if err != nil {
		return fmt.Errorf("keep the late answer to attempt %d: %w", n.Attempt, err)
	}
	return nil
}

// Verdict is an action on a row.
type Verdict struct {
	invitation.RowID
	invitation.Action
	Key string
}

// Settle records the decisions about rows and closes their open attempts. It returns the rows that
// can be claimed again and need a job. It does nothing to a row that is decided already or was
// claimed meanwhile.
func Settle(ctx context.Context, tx pgx.Tx, instance int64, verdicts []Verdict) ([]Freed, error) {
	var decided, closed []Verdict
	for _, v := range verdicts {
		if v.Kind == invitation.Decide {
			decided = append(decided, v)
		}
		if v.Close != "" {
			closed = append(closed, v)
		}
	}
	if err := decide(ctx, tx, decided); err != nil {
		return nil, err
	}
	return close(ctx, tx, instance, closed)
}

func decide(ctx context.Context, tx pgx.Tx, verdicts []Verdict) error {
	if len(verdicts) == 0 {
		return nil
	}
	ids := make([]invitation.RowID, len(verdicts))
	var outcomes, reasons, invitations, users, statuses, closes []string
	var invited, expires []*time.Time
	var attempts, reads []int64
	for i, v := range verdicts {
		ids[i] = v.RowID
		outcomes, reasons, closes = append(outcomes, string(v.Outcome)), append(reasons, v.Reason), append(closes, v.Close)
		invitations, users, statuses = append(invitations, v.InvitationID), append(users, v.UserID), append(statuses, string(v.Status))
		invited, expires = append(invited, db.NullTime(v.InvitedAt)), append(expires, db.NullTime(v.ExpiresAt))
		attempts, reads = append(attempts, v.AttemptID), append(reads, v.ReadID)
	}
	batches, numbers := invitation.Split(ids)
	_, err := tx.Exec(ctx, `
		update results r set outcome = d.outcome, reason = nullif(d.reason, ''), clerk_invitation_id = nullif(d.invitation, ''), clerk_user_id = nullif(d.person, ''),
		       status = nullif(d.status, ''), status_at = case when d.status <> '' then clock_timestamp() end, invited_at = d.invited, expires_at = d.expires,
		       attempt_id = nullif(d.attempt, 0), read_id = nullif(d.read, 0), decided_at = clock_timestamp(), not_before = null
		from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::bigint[], $12::text[])
			as d (batch, number, outcome, reason, invitation, person, status, invited, expires, attempt, read, closes)
		where r.batch_id = d.batch and r.row_number = d.number and r.outcome is null
		  and not (d.closes = '' and exists (select from attempt_people p where p.batch_id = d.batch and p.row_number = d.number and p.open))`,
		batches, numbers, outcomes, reasons, invitations, users, statuses, invited, expires, attempts, reads, closes)
	if err != nil {
		return fmt.Errorf("decide %d rows: %w", len(verdicts), err)
	}
	return nil
}

// Freed is a row that can be claimed again.
type Freed struct {
	invitation.RowID
	Priority int
	At       *time.Time // when it may be claimed; nil: now
	Links    bool       // its link goes to a file: only the process that has the file may claim it
}

func close(ctx context.Context, tx pgx.Tx, instance int64, verdicts []Verdict) ([]Freed, error) {
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
	rows, _ := tx.Query(ctx, `
		update attempt_people p set open = false, closed_at = clock_timestamp(), resolution = d.how,
		       clerk_invitation_id = coalesce(p.clerk_invitation_id, nullif(d.invitation, ''))
		from unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) as d (batch, number, how, invitation)
		where p.batch_id = d.batch and p.row_number = d.number and p.open returning p.attempt_id`, batches, numbers, hows, invitations)
	attempts, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("close %d claims: %w", len(verdicts), err)
	}
	_, err = tx.Exec(ctx, `
		update attempts a set resolved_at = clock_timestamp(), resolution = case
		       when hows = array['not_sent'] then 'not_sent' when hows = array['refused'] then 'refused'
		       when hows <@ array['answered', 'refused'] then 'answered' else 'read' end
		from (select p.attempt_id, array_agg(distinct p.resolution) as hows
			from attempt_people p where p.attempt_id = any($1) group by p.attempt_id having not bool_or(p.open)) ended
		where a.id = ended.attempt_id and a.resolved_at is null`, attempts)
	if err != nil {
		return nil, fmt.Errorf("close %d claims: %w", len(verdicts), err)
	}
	if slices.Contains(alone, true) {
		_, err = tx.Exec(ctx, `
			update results r set alone = true
			from unnest($1::bigint[], $2::int[], $3::bool[]) as d (batch, number, alone)
			where r.batch_id = d.batch and r.row_number = d.number and d.alone and r.outcome is null and not r.alone`, batches, numbers, alone)
		if err != nil {
			return nil, fmt.Errorf("have rows go alone: %w", err)
		}
	}
	return freed(ctx, tx, instance, keys)
}

// freed returns the undecided rows of people in running batches, and their owed rows in any batch.
// It locks the batches for share. So a transaction that pauses or cancels one of them waits for
// this one, and does not miss the jobs that this one inserts.
func freed(ctx context.Context, tx pgx.Tx, instance int64, keys []string) ([]Freed, error) {
	rows, _ := tx.Query(ctx, `
		select r.batch_id, r.row_number, b.priority, case when r.not_before > clock_timestamp() then r.not_before end, b.links_file is not null
		from unnest($2::text[]) as k (key)
		cross join lateral (select * from results r where r.key = k.key and r.instance_id = $1 and r.outcome is null offset 0) r
		join batches b on b.id = r.batch_id and (b.state = 'running' or r.revoke_sent is not null) for share of b`, instance, keys)
	freed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Freed, err error) {
		err = row.Scan(&f.Batch, &f.Row, &f.Priority, &f.At, &f.Links)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for the rows of %d people that wait: %w", len(keys), err)
	}
	return freed, nil
}
