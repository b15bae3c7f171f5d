// Package report reads what people and auditors see: the progress of batches, pages of rows, the
// audit, budgets and drift. It changes nothing.
package report

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/proof"
)

// Requests counts the requests that were sent to Clerk, by kind.
type Requests struct {
	Create int `json:"create"`
	Bulk   int `json:"bulk"`
	Read   int `json:"read"`
	Revoke int `json:"revoke"`
}

// Report is the state of a batch. It covers every row: Rows is the sum of Outcomes and Undecided.
// Requests counts the creates, bulk calls and revokes that included people of the batch, and the
// reads of its instance while it ran, except for reconciling.
type Report struct {
	Batch       int64              `json:"batch"`
	State       invitation.State   `json:"state"`
	Rows        int                `json:"rows"`
	Outcomes    invitation.Counts  `json:"outcomes"`
	Undecided   int                `json:"undecided"`
	Requests    Requests           `json:"requests"`     // of the batch, and reads of its instance while it ran
	RateLimited int                `json:"rate_limited"` // 429 answers to these requests
	StartedAt   *time.Time         `json:"started_at"`
	FinishedAt  *time.Time         `json:"finished_at"`
	Seconds     float64            `json:"seconds"` // from the start to the end, or until now
	ETA         *time.Time         `json:"eta"`     // when the last row will be sent; nil if nothing will be sent
	StateReason *string            `json:"state_reason"`
	PausedBy    *invitation.Pauser `json:"paused_by"` // nil: not paused
	Unknown     *Unknown           `json:"unknown"`   // nil: no answer was lost
	FileName    string             `json:"file_name"`
	Environment string             `json:"environment"` // production, development or sandbox
	Certificate *proof.Certificate `json:"certificate"` // of the batch's end; nil: there is none yet
	InstanceID  int64              `json:"-"`
	Priority    int                `json:"-"`
	Now         time.Time          `json:"-"` // the database's clock when the report was made
}

// Unknown has the undecided rows of a batch whose request got no answer, or one that did not
// decide. Only a read of Clerk can tell what the requests did.
type Unknown struct {
	Rows     int         `json:"rows"`
	Since    time.Time   `json:"since"`     // when the first of their requests was sent
	Workers  int         `json:"workers"`   // live processes, any of which could read
	LastRead *FailedRead `json:"last_read"` // the last read since then, if it failed; nil: it did not, or there was none
}

// FailedRead is a GET that Clerk did not answer with 200.
type FailedRead struct {
	At         time.Time `json:"at"`
	HTTPStatus *int      `json:"http_status"` // nil: no answer
	ErrorCode  *string   `json:"error_code"`
}

// ReadReport returns the state of a batch. It fails with [invitation.ErrNoBatch] if the batch does not exist.
func ReadReport(ctx context.Context, pool *pgxpool.Pool, batch int64) (*Report, error) {
	var report *Report
	err := db.Snapshot(ctx, pool, func(tx pgx.Tx) (err error) {
		report, err = readReport(ctx, tx, batch)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report on batch %d: %w", batch, err)
	}
	return report, nil
}

func readReport(ctx context.Context, tx pgx.Tx, batch int64) (*Report, error) {
	r := &Report{Batch: batch}
	err := tx.QueryRow(ctx, `
		select b.state, b.rows, b.started_at, b.finished_at, b.state_reason, b.paused_by, b.file_name, i.environment, b.instance_id, b.priority, now()
		from batches b join instances i on i.id = b.instance_id where b.id = $1`, batch).
		Scan(&r.State, &r.Rows, &r.StartedAt, &r.FinishedAt, &r.StateReason, &r.PausedBy, &r.FileName, &r.Environment, &r.InstanceID, &r.Priority, &r.Now)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, invitation.ErrNoBatch
	}
	if err != nil {
		return nil, err
	}
	if r.Outcomes, r.Undecided, err = readCounts(ctx, tx, batch); err != nil {
		return nil, err
	}
	if r.State == invitation.Draft { // a draft's rows are counted when it starts
		r.Rows = r.Outcomes.Sum() + r.Undecided
	}
	if sum := r.Outcomes.Sum() + r.Undecided; sum != r.Rows {
		return nil, fmt.Errorf("%d rows were imported, but %d are there", r.Rows, sum)
	}
	if r.StartedAt != nil {
		end := r.Now
		if r.FinishedAt != nil {
			end = *r.FinishedAt
		}
		r.Seconds = max(0, end.Sub(*r.StartedAt).Round(time.Millisecond).Seconds())
	}
	if r.Unknown, err = readUnknown(ctx, tx, r); err != nil {
		return nil, err
	}
	if r.Certificate, err = proof.CertificateIn(ctx, tx, batch); err != nil {
		return nil, err
	}
	return r, readRequests(ctx, tx, r)
}

// readUnknown looks for requests of a batch that are open past their deadline, or past an answer
// that did not decide, and for the reason why they are not resolved.
func readUnknown(ctx context.Context, tx pgx.Tx, r *Report) (*Unknown, error) {
	var u Unknown
	var since *time.Time
	err := tx.QueryRow(ctx, `
		select count(*), min(a.started_at),
		       (select count(*) from workers where instance_id = $1 and heartbeat_at > now() - interval '1 minute')
		from attempts a join attempt_people p on p.attempt_id = a.id
		where a.instance_id = $1 and a.resolved_at is null and (a.answered_at is not null or a.deadline < now())
		  and p.open and p.batch_id = $2 and a.call in ('create', 'bulk')`, r.InstanceID, r.Batch).Scan(&u.Rows, &since, &u.Workers)
	if err != nil {
		return nil, fmt.Errorf("look for lost answers: %w", err)
	}
	if u.Rows == 0 {
		return nil, nil
	}
	u.Since = *since
	rows, _ := tx.Query(ctx, `
		select ended_at, http_status, error_code from (
			select ended_at, http_status, error_code from reads
			where instance_id = $1 and begun_at >= $2 and ended_at is not null
			  and error_code is distinct from 'canceled' -- broken off by a process that stopped
			order by begun_at desc limit 1) last
		where http_status is distinct from 200`, r.InstanceID, u.Since)
	failed, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[FailedRead])
	if err != nil {
		return nil, fmt.Errorf("look for failed reads: %w", err)
	}
	if len(failed) > 0 {
		u.LastRead = failed[0]
	}
	return &u, nil
}

// Progress is the progress of a batch.
type Progress struct {
	State     invitation.State
	Rows      int
	Undecided int
	Open      int // for a paused batch: undecided rows with an open attempt
}

// ReadProgress returns the progress of a batch. It reads less than [ReadReport], so it can be called
// once a second.
func ReadProgress(ctx context.Context, pool *pgxpool.Pool, batch int64) (Progress, error) {
	var p Progress
	err := pool.QueryRow(ctx, `
		select state, rows, (select count(*) from results where batch_id = $1 and outcome is null),
		       case when state = 'paused' then (
		           select count(*) from attempts a join attempt_people p on p.attempt_id = a.id
		           where a.instance_id = b.instance_id and a.resolved_at is null and p.open and p.batch_id = $1) else 0 end
		from batches b where id = $1`, batch).Scan(&p.State, &p.Rows, &p.Undecided, &p.Open)
	if err != nil {
		return p, fmt.Errorf("look how far batch %d is: %w", batch, err)
	}
	return p, nil
}

func readCounts(ctx context.Context, q pgx.Tx, batch int64) (invitation.Counts, int, error) {
	rows, err := q.Query(ctx, `select coalesce(outcome, ''), count(*) from results where batch_id = $1 group by 1`, batch)
	if err != nil {
		return nil, 0, err
	}
	counts, undecided := invitation.Counts{}, 0
	var outcome invitation.Outcome
	var n int
	_, err = pgx.ForEachRow(rows, []any{&outcome, &n}, func() error {
		if outcome == "" {
			undecided = n
		} else {
			counts[outcome] = n
		}
		return nil
	})
	return counts, undecided, err
}

// readRequests counts the requests for a batch. An attempt that was never written to the network
// does not count.
func readRequests(ctx context.Context, tx pgx.Tx, r *Report) error {
	err := tx.QueryRow(ctx, `
		with sent as (
			select call, http_status from attempts a
			where a.resolution is distinct from 'not_sent'
			  and a.id in (select attempt_id from attempt_people where batch_id = $1)
		), got as (
			select http_status from reads
			where instance_id = $2 and call not like 'reconcile%'
			  and begun_at >= (select created_at from batches where id = $1)
			  and begun_at <= coalesce((select finished_at from batches where id = $1), now())
		)
		select (select count(*) from sent where call = 'create'), (select count(*) from sent where call = 'bulk'),
		       (select count(*) from sent where call = 'revoke'), (select count(*) from got),
		       (select count(*) from sent where http_status = 429) + (select count(*) from got where http_status = 429)`,
		r.Batch, r.InstanceID).Scan(&r.Requests.Create, &r.Requests.Bulk, &r.Requests.Revoke, &r.Requests.Read, &r.RateLimited)
	if err != nil {
		return fmt.Errorf("count its requests: %w", err)
	}
	return nil
}

// MailedThisMonth returns how many invitations of an instance were mailed in the current calendar
// month (UTC), according to this database.
func MailedThisMonth(ctx context.Context, pool *pgxpool.Pool, instance int64) (int, error) {
	var n int
	err := pool.QueryRow(ctx, `
		select count(*) from results r join batches b on b.id = r.batch_id and b.links_file is null where r.instance_id = $1 and outcome = 'invited'
		  and invited_at >= date_trunc('month', now(), 'UTC')`, instance).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count this month's mails of instance %d: %w", instance, err)
	}
	return n, nil
}

// InstanceByClerkID returns the number of the instance with this Clerk id. It returns false if the
// database does not have it.
func InstanceByClerkID(ctx context.Context, pool *pgxpool.Pool, clerkID string) (int64, bool, error) {
	var id int64
	err := pool.QueryRow(ctx, `select id from instances where clerk_id = $1`, clerkID).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for instance %s: %w", clerkID, err)
	}
	return id, true, nil
}

// BatchLine is a batch in the list of batches.
type BatchLine struct {
	Batch       int64             `json:"batch"`
	FileName    string            `json:"file_name"`
	Actor       string            `json:"actor"`
	Environment string            `json:"environment"`
	State       invitation.State  `json:"state"`
	StateReason *string           `json:"state_reason"`
	Rows        int               `json:"rows"`
	Undecided   int               `json:"undecided"`
	Outcomes    invitation.Counts `json:"outcomes"`
	Accepted    int               `json:"accepted"` // invitations of the batch that are known to be accepted
	CreatedAt   time.Time         `json:"created_at"`
	StartedAt   *time.Time        `json:"started_at"`
	FinishedAt  *time.Time        `json:"finished_at"`
}

// Batches returns every batch with its counts, newest first.
func Batches(ctx context.Context, pool *pgxpool.Pool) ([]BatchLine, error) {
	lines, err := BatchLines(ctx, pool, 0, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(lines))
	for i, l := range lines {
		ids[i] = l.Batch
	}
	tallies, err := Tallies(ctx, pool, ids)
	for i := range lines {
		lines[i].Count(tallies[lines[i].Batch])
	}
	return lines, err
}

// BatchLines returns up to limit batches before a batch number, newest first. before 0 means from
// the newest. The lines have no counts, and Rows is what their imports found.
func BatchLines(ctx context.Context, pool *pgxpool.Pool, before int64, limit int) ([]BatchLine, error) {
	lines := []BatchLine{}
	rows, _ := pool.Query(ctx, `
		select b.id, b.file_name, b.actor, i.environment, b.state, b.state_reason, b.rows, b.created_at, b.started_at, b.finished_at
		from batches b join instances i on i.id = b.instance_id
		where $1::bigint = 0 or b.id < $1 order by b.id desc limit $2`, before, limit)
	var line BatchLine
	_, err := pgx.ForEachRow(rows, []any{&line.Batch, &line.FileName, &line.Actor, &line.Environment, &line.State, &line.StateReason, &line.Rows,
		&line.CreatedAt, &line.StartedAt, &line.FinishedAt}, func() error {
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the batches: %w", err)
	}
	return lines, nil
}

// Count sets the counts of a line.
func (l *BatchLine) Count(t invitation.Tally) {
	l.Rows, l.Undecided, l.Outcomes, l.Accepted = t.Rows(), t.Undecided, t.Outcomes, t.Statuses[invitation.Accepted]
	if l.Outcomes == nil {
		l.Outcomes = invitation.Counts{}
	}
}

// RunningBatches lists the running batches of an instance.
func RunningBatches(ctx context.Context, pool *pgxpool.Pool, instance int64) ([]int64, error) {
	rows, _ := pool.Query(ctx, `select id from batches where instance_id = $1 and state = 'running' order by id`, instance)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list the running batches of instance %d: %w", instance, err)
	}
	return ids, nil
}
