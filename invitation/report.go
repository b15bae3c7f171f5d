package invitation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Reader answers questions about batches, rows and people. It changes nothing,
// and is safe for use by many goroutines.
type Reader struct {
	pool *pgxpool.Pool
}

// NewReader returns a reader over a migrated database.
func NewReader(pool *pgxpool.Pool) *Reader { return &Reader{pool: pool} }

// Counts holds how many rows ended with each outcome.
type Counts map[Outcome]int

// Sum is how many rows are decided.
func (c Counts) Sum() int {
	n := 0
	for _, count := range c {
		n += count
	}
	return n
}

// Trouble is how many rows need a person's attention: failed, rejected and
// invalid ones.
func (c Counts) Trouble() int { return c[Failed] + c[Rejected] + c[Invalid] }

// MarshalJSON writes every outcome, also those that no row has, in the order
// of [Outcomes].
func (c Counts) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, o := range Outcomes {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%d", o, c[o])
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Requests counts the requests that were sent to Clerk, by kind.
type Requests struct {
	Create int `json:"create"`
	Bulk   int `json:"bulk"`
	Read   int `json:"read"`
	Revoke int `json:"revoke"`
}

// Report says where a batch stands. Every row is in it: Rows is the sum of
// Outcomes and Undecided.
type Report struct {
	Batch       int64        `json:"batch"`
	State       State        `json:"state"`
	Rows        int          `json:"rows"`
	Outcomes    Counts       `json:"outcomes"`
	Undecided   int          `json:"undecided"`
	Requests    Requests     `json:"requests"`     // those that carried people of this batch; reads: those of its instance while it ran, but for reconciling
	RateLimited int          `json:"rate_limited"` // 429 answers among them
	StartedAt   *time.Time   `json:"started_at"`
	FinishedAt  *time.Time   `json:"finished_at"`
	Seconds     float64      `json:"seconds"` // from the start to the end, or until now
	ETA         *time.Time   `json:"eta"`     // when the last row goes out, by the budget; nil when nothing is to be sent
	StateReason *string      `json:"state_reason"`
	PausedBy    *Pauser      `json:"paused_by"` // nil: it is not paused
	Unknown     *Unknown     `json:"unknown"`   // nil: there is no request whose answer was lost
	FileName    string       `json:"file_name"`
	Environment string       `json:"environment"` // production, development or sandbox
	Certificate *Certificate `json:"certificate"` // of the batch's end; nil: it has not ended, or it is still to be made
	InstanceID  int64        `json:"-"`
	Priority    int          `json:"-"`
	Now         time.Time    `json:"-"` // the database's clock when it was asked
}

// Unknown are undecided rows of a batch that Clerk was asked for, and whose answer
// was lost or did not decide: only reading Clerk tells what became of them.
type Unknown struct {
	Rows     int         `json:"rows"`
	Since    time.Time   `json:"since"`     // when the first of their requests left
	Workers  int         `json:"workers"`   // processes that live and could read
	LastRead *FailedRead `json:"last_read"` // nil: the last read since then, if there was one, did not fail
}

// FailedRead is a GET that Clerk did not answer as it should.
type FailedRead struct {
	At         time.Time `json:"at"`
	HTTPStatus *int      `json:"http_status"` // nil: there was no answer
	ErrorCode  *string   `json:"error_code"`
}

// Report says where a batch stands, or [ErrNoBatch].
func (r *Reader) Report(ctx context.Context, batch int64) (*Report, error) {
	var report *Report
	err := r.snapshot(ctx, func(tx pgx.Tx) (err error) {
		report, err = readReport(ctx, tx, batch)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("report on batch %d: %w", batch, err)
	}
	return report, nil
}

// snapshot runs f over one state of the database, so that sums add up while
// workers write.
func (r *Reader) snapshot(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, r.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, f)
}

func readReport(ctx context.Context, tx pgx.Tx, batch int64) (*Report, error) {
	r := &Report{Batch: batch}
	err := tx.QueryRow(ctx, `
		select b.state, b.rows, b.started_at, b.finished_at, b.state_reason, b.paused_by, b.file_name, i.environment, b.instance_id, b.priority, now()
		from batches b join instances i on i.id = b.instance_id where b.id = $1`, batch).
		Scan(&r.State, &r.Rows, &r.StartedAt, &r.FinishedAt, &r.StateReason, &r.PausedBy, &r.FileName, &r.Environment, &r.InstanceID, &r.Priority, &r.Now)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoBatch
	}
	if err != nil {
		return nil, err
	}
	if r.Outcomes, r.Undecided, err = readCounts(ctx, tx, batch); err != nil {
		return nil, err
	}
	if r.State == Draft { // its rows are counted when it starts
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
	if r.Certificate, err = readCertificate(ctx, tx, batch); err != nil {
		return nil, err
	}
	return r, readRequests(ctx, tx, r)
}

// readUnknown looks for requests of a batch that are open past their deadline, or
// past an answer that did not decide, and for what keeps them from being settled.
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
			where instance_id = $1 and begun_at >= $2 and ended_at is not null order by begun_at desc limit 1) last
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

// Progress is how far a batch is.
type Progress struct {
	State     State
	Rows      int
	Undecided int
	Open      int // of a paused batch: undecided rows whose request is under way, or whose answer was lost
}

// Progress tells how far a batch is. It reads less than [Reader.Report], so
// that it may be asked once a second.
func (r *Reader) Progress(ctx context.Context, batch int64) (Progress, error) {
	var p Progress
	err := r.pool.QueryRow(ctx, `
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

func readCounts(ctx context.Context, q pgx.Tx, batch int64) (Counts, int, error) {
	rows, err := q.Query(ctx, `select coalesce(outcome, ''), count(*) from results where batch_id = $1 group by 1`, batch)
	if err != nil {
		return nil, 0, err
	}
	counts, undecided := Counts{}, 0
	var outcome Outcome
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

// readRequests counts what was sent for a batch. An attempt that was never
// written to the network is no request.
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

// MailedThisMonth returns how many invitations of an instance were made in the
// current calendar month (UTC), of those in this database.
func (r *Reader) MailedThisMonth(ctx context.Context, instance int64) (int, error) {
	var n int
	err := r.pool.QueryRow(ctx, `
		select count(*) from results r join batches b on b.id = r.batch_id and b.links_file is null where r.instance_id = $1 and outcome = 'invited'
		  and invited_at >= date_trunc('month', now(), 'UTC')`, instance).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count this month's mails of instance %d: %w", instance, err)
	}
	return n, nil
}

// InstanceByClerkID returns the number of the instance with a Clerk id, and
// false where this database has not met it.
func (r *Reader) InstanceByClerkID(ctx context.Context, clerkID string) (int64, bool, error) {
	var id int64
	err := r.pool.QueryRow(ctx, `select id from instances where clerk_id = $1`, clerkID).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for instance %s: %w", clerkID, err)
	}
	return id, true, nil
}

// FormerInstance returns the number of the instance that an earlier version made under a former
// id, and 0 where there is none. It fails with [*TwoInstancesError] where that instance holds
// batches or attempts and there is one with the Clerk id too.
func (r *Reader) FormerInstance(ctx context.Context, clerkID, former string) (int64, error) {
	var id int64
	var both bool
	err := r.pool.QueryRow(ctx, `
		select id, exists (select from instances where clerk_id = $1) and
		           (exists (select from batches where instance_id = f.id)
		            or exists (select from attempts where instance_id = f.id))
		from instances f where clerk_id = $2`, clerkID, former).Scan(&id, &both)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("look for instance %s: %w", former, err)
	case both:
		return 0, &TwoInstancesError{ClerkID: clerkID, Former: former, FormerID: id}
	}
	return id, nil
}

// BatchLine is a batch as the list of batches shows it.
type BatchLine struct {
	Batch       int64      `json:"batch"`
	FileName    string     `json:"file_name"`
	Actor       string     `json:"actor"`
	Environment string     `json:"environment"`
	State       State      `json:"state"`
	StateReason *string    `json:"state_reason"`
	Rows        int        `json:"rows"`
	Undecided   int        `json:"undecided"`
	Outcomes    Counts     `json:"outcomes"`
	Accepted    int        `json:"accepted"` // invitations of the batch known to be accepted
	CreatedAt   time.Time  `json:"created_at"`
	StartedAt   *time.Time `json:"started_at"`
	FinishedAt  *time.Time `json:"finished_at"`
}

// Batches returns every batch, the newest first.
func (r *Reader) Batches(ctx context.Context) ([]BatchLine, error) {
	lines, err := r.BatchLines(ctx, 0, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(lines))
	for i, l := range lines {
		ids[i] = l.Batch
	}
	tallies, err := r.Tallies(ctx, ids)
	for i := range lines {
		lines[i].Count(tallies[lines[i].Batch])
	}
	return lines, err
}

// BatchLines returns batches without their counts, the newest first: those before
// one, or 0 for all, at most so many. Rows is how many their imports found.
func (r *Reader) BatchLines(ctx context.Context, before int64, limit int) ([]BatchLine, error) {
	lines := []BatchLine{}
	rows, _ := r.pool.Query(ctx, `
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

// Count fills in the counts of a line.
func (l *BatchLine) Count(t Tally) {
	l.Rows, l.Undecided, l.Outcomes, l.Accepted = t.Rows(), t.Undecided, t.Outcomes, t.Statuses[Accepted]
	if l.Outcomes == nil {
		l.Outcomes = Counts{}
	}
}

// RunningBatches lists the running batches of an instance.
func (r *Reader) RunningBatches(ctx context.Context, instance int64) ([]int64, error) {
	rows, _ := r.pool.Query(ctx, `select id from batches where instance_id = $1 and state = 'running' order by id`, instance)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("list the running batches of instance %d: %w", instance, err)
	}
	return ids, nil
}
