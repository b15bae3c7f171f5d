// Package proof makes the certificates of ended batches and verifies them. It also erases and purges
// personal data, in a way that leaves certificates valid.
package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/event"
	"bulkinvite/internal/invitation"
)

// Certificate says how a batch ended. Its head is the end of a hash chain over the batch, its rows
// and their attempts; docs/audit.md specifies the chain. If the head is kept outside the database,
// it proves that none of these was changed later. See [Verify].
type Certificate struct {
	Batch    int64             `json:"batch"`
	Number   int               `json:"number"` // 1 for the batch's first end; each end after a retry gets the next number
	MadeAt   time.Time         `json:"made_at"`
	Rows     int               `json:"rows"`
	Outcomes invitation.Counts `json:"outcomes"`
	Attempts int               `json:"attempts"` // records in the chain: one for each attempt and person
	Head     invitation.Hash   `json:"head"`

	// Format says what the chain covers. 1: the batch, its rows and attempts. 2: also the reads
	// that prove outcomes, and the sightings of those people. 3: also the revokes that a row sends
	// by itself.
	Format    int `json:"format"`
	Reads     int `json:"reads"`     // records in the chain
	Sightings int `json:"sightings"` // records in the chain

	lastAttempt, lastRetry int64
	checkpoints            []invitation.Hash // after the header, the attempts, the reads, the sightings, and then after each thousand row numbers
}

// The formats of certificates.
const (
	formatAttempts = 1
	formatReads    = 2
	formatRevokes  = 3 // also the revokes that a row sends by itself, not under a create
)

// span is the number of row numbers from one checkpoint of a chain to the next.
const span = 1000

// The indexes of checkpoints.
const (
	afterHeader = iota
	afterAttempts
	afterReads     // from formatReads on
	afterSightings // from formatReads on
)

// afterRows returns the index of the first checkpoint after rows. More follow.
func (c *Certificate) afterRows() int {
	if c.Format == formatAttempts {
		return afterAttempts + 1
	}
	return afterSightings + 1
}

// ReadCertificate returns the certificate of a batch's last end. It returns nil if the batch has not
// ended, a retry opened it again, or its certificate is not made yet.
func ReadCertificate(ctx context.Context, pool *pgxpool.Pool, batch int64) (*Certificate, error) {
	var c *Certificate
	err := db.Snapshot(ctx, pool, func(tx pgx.Tx) (err error) {
		c, err = CertificateIn(ctx, tx, batch)
		return err
	})
	return c, err
}

// CertificateIn is [ReadCertificate] in a transaction.
func CertificateIn(ctx context.Context, tx pgx.Tx, batch int64) (*Certificate, error) {
	all, err := certificates(ctx, tx, `c.batch_id = $1 and c.number = (select certificate from batches where id = $1)`, batch)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

func certificates(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]*Certificate, error) {
	rows, _ := tx.Query(ctx, `select batch_id, number, made_at, rows, outcomes, attempts, head, last_attempt, last_retry,
		       checkpoints, format, reads, sightings
		from certificates c where `+where+` order by number desc`, args...)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Certificate, error) {
		c := &Certificate{Outcomes: invitation.Counts{}}
		var head []byte
		var checkpoints [][]byte
		var outcomes []byte
		if err := row.Scan(&c.Batch, &c.Number, &c.MadeAt, &c.Rows, &outcomes, &c.Attempts, &head, &c.lastAttempt, &c.lastRetry,
			&checkpoints, &c.Format, &c.Reads, &c.Sightings); err != nil {
			return nil, err
		}
		copy(c.Head[:], head)
		for _, b := range checkpoints {
			var h invitation.Hash
			copy(h[:], b)
			c.checkpoints = append(c.checkpoints, h)
		}
		return c, json.Unmarshal(outcomes, &c.Outcomes)
	})
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return all, nil
}

// Certify makes the certificates of an instance's batches that have ended and have none. It skips a
// batch while an attempt of its rows is open, for example one that also carries people of another
// batch. It returns how many certificates it made.
func Certify(ctx context.Context, pool *pgxpool.Pool, instance int64) (int, error) {
	rows, _ := pool.Query(ctx, `select id from batches b where instance_id = $1 and finished_at is not null and certificate is null and not `+unsettled+` order by id`, instance)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return 0, fmt.Errorf("look for batches without a certificate: %w", err)
	}
	made := 0
	for _, id := range ids {
		ok, err := CertifyBatch(ctx, pool, id)
		if err != nil {
			return made, err
		}
		if ok {
			made++
		}
	}
	return made, nil
}

// CertifyBatch makes the certificate of one batch. It reports whether it made one; see
// [Certify].
func CertifyBatch(ctx context.Context, pool *pgxpool.Pool, batch int64) (bool, error) {
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		return certify(ctx, tx, batch, formatRevokes)
	})
	if errors.Is(err, pgx.ErrNoRows) || changedMeanwhile(err) { // none is needed, or another process is making it
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("certify batch %d: %w", batch, err)
	}
	return true, nil
}

// changedMeanwhile reports whether a transaction failed because a row was changed after its
// snapshot: SQLSTATE 40001, serialization_failure.
func changedMeanwhile(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "40001"
}

// unsettled says that an attempt for rows of batch b is open.
const unsettled = `exists (select from attempts a join attempt_people p on p.attempt_id = a.id
	where a.instance_id = b.instance_id and a.resolved_at is null and p.batch_id = b.id and ` + own + `)`

// own says that attempt a was made to invite somebody. Revokes of a sweep come later and belong to
// the sweep.
const own = `(a.call <> 'revoke' or a.sweep_id is null)`

// certify makes a batch's certificate over one state of the database. It returns pgx.ErrNoRows if
// the batch needs none or another transaction holds it.
func certify(ctx context.Context, tx pgx.Tx, batch int64, format int) error {
	c := Certificate{Batch: batch, Format: format}
	var instance int64
	err := tx.QueryRow(ctx, `
		select b.instance_id, clock_timestamp(),
		       coalesce((select max(number) from certificates c where c.batch_id = b.id), 0) + 1,
		       coalesce((select max(a.id) from attempt_people p join attempts a on a.id = p.attempt_id where p.batch_id = b.id and `+own+`), 0),
		       coalesce((select max(t.id) from retries t where t.batch_id = b.id), 0)
		from batches b where id = $1 and finished_at is not null and certificate is null and not `+unsettled+` for no key update skip locked`, batch).
		Scan(&instance, &c.MadeAt, &c.Number, &c.lastAttempt, &c.lastRetry)
	if err != nil {
		return err
	}
	if format >= formatReads {
		if _, err := tx.Exec(ctx, keepSightings, batch, c.Number); err != nil {
			return fmt.Errorf("keep what the reads showed: %w", err)
		}
	}
	if _, err := c.follow(ctx, tx, nil); err != nil {
		return err
	}
	checkpoints := make([][]byte, len(c.checkpoints))
	for i := range checkpoints {
		checkpoints[i] = c.checkpoints[i][:]
	}
	_, err = tx.Exec(ctx, `insert into certificates (batch_id, number, made_at, rows, outcomes, attempts, last_attempt, last_retry,
			checkpoints, head, format, reads, sightings)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		c.Batch, c.Number, c.MadeAt, c.Rows, c.Outcomes, c.Attempts, c.lastAttempt, c.lastRetry,
		checkpoints, c.Head[:], c.Format, c.Reads, c.Sightings)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `update batches set certificate = $2 where id = $1`, batch, c.Number); err != nil {
		return err
	}
	return event.Record(ctx, tx, instance, batch, "bulkinvite", "certified", map[string]any{"certificate": c.Number, "head": c.Head})
}

// The records of a chain. Each is an array of texts, so that only PostgreSQL decides how a value is
// written.
const (
	moment = `to_char(%s at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
)

var (
	// headerRecord describes the batch and the certificate. $2 to $5 are the certificate's number,
	// time, last attempt and last retry.
	headerRecord = `select array['batch', b.id::text, $2::text, ` + at("$3::timestamptz") + `, $4::text, $5::text,
		    (select encode(head, 'hex') from certificates c where c.batch_id = b.id and c.number = $2::integer - 1),
		    encode(b.file_sha256, 'hex'), b.file_bytes::text, b.actor, b.rows::text, b.blank::text, ` + at("b.created_at") + `, ` + at("b.started_at") + `]
		from batches b where b.id = $1`

	// rowRecords are the rows before the first retry after $2. The fourth field is the hash of the
	// private cells. The program fills it in if the cells are still there.
	rowRecords = `
		select r.row_number, array['row', r.row_number::text, r.line::text, encode(r.private_hash, 'hex'), r.expires_in_days::text, r.revoke_on::text]
		       || case when t.id is null then array[r.outcome, r.reason, r.duplicate_of::text, r.clerk_invitation_id, r.clerk_user_id, r.attempt_id::text, r.read_id::text, ` + at("r.decided_at") + `]
		          else array[t.outcome, t.reason, null, null, null, t.attempt_id::text, t.read_id::text, ` + at("t.decided_at") + `] end,
		       case when r.private_hash is null then ` + erased.PrivateCells + ` end
		from results r left join (
			select distinct on (row_number) * from retries where batch_id = $1 and id > $2 order by row_number, id) t on t.row_number = r.row_number
		where r.batch_id = $1 order by r.row_number`

	// attemptRecords has one record for each attempt, up to $2, and person of the batch. Before
	// format 3 ($3) it leaves out the revokes that a row sends by itself.
	attemptRecords = `
		select a.id, array['attempt', a.id::text, p.row_number::text, a.call, a.bucket, a.under::text, a.worker_id, ` + at("a.started_at") + `, ` + at("a.deadline") + `,
		       ` + at("a.answered_at") + `, a.http_status::text, a.error_code, a.trace_id, ` + at("a.resolved_at") + `, a.resolution,
		       p.answer, p.error_code, p.clerk_invitation_id, ` + at("p.closed_at") + `, p.resolution]
		from attempt_people p join attempts a on a.id = p.attempt_id
		where p.batch_id = $1 and a.id <= $2 and ` + own + `
		  and ($3 >= 3 or a.call <> 'revoke' or a.under is not null)
		order by a.id, p.row_number`

	// readRecords has each read that proves outcomes once. A row that says what a read showed
	// relies on that GET alone. A row that says that nothing was there relies on the whole pass,
	// which was complete by then.
	readRecords = `
		select g.id, array['read', g.id::text, g.call, g.worker_id, g.pass_id::text,
		       ` + at("g.pass_begun_at") + `, ` + at("g.begun_at") + `,
		       ` + at("g.ended_at") + `, g.http_status::text, g.error_code, g.trace_id,
		       g.items::text, g.complete::text, ` + at("g.reached") + `]
		from reads g where g.id in (` + provingReads + `) order by g.id`

	// sightingRecords are the sightings that certificate $2 kept.
	sightingRecords = `
		select row_number, array['sighting', row_number::text, clerk_id, kind, status,
		       ` + at("created_at") + `, ` + at("expires_at") + `,
		       first_read::text, ` + at("first_seen") + `, last_read::text, ` + at("last_seen") + `]
		from certified_sightings where batch_id = $1 and number = $2 order by row_number, clerk_id`
)

const (
	// provenRows are the rows of batch $1 whose outcomes a read proves, as they were before the
	// first retry after $2.
	provenRows = `
		select r.row_number, r.instance_id, r.key, r.erased_by,
		       case when t.id is null then r.read_id else t.read_id end as read_id,
		       t.id is null and r.outcome <> 'already_registered'
		           and r.clerk_invitation_id is null and r.clerk_user_id is null as whole
		from results r left join (
			select distinct on (row_number) * from retries where batch_id = $1 and id > $2 order by row_number, id) t
		  on t.row_number = r.row_number
		where r.batch_id = $1 and case when t.id is null then r.read_id else t.read_id end is not null`

	// provingReads are the ids of these reads.
	provingReads = `
		with proven as materialized (select distinct read_id, whole from (` + provenRows + `) r)
		select read_id from proven
		union
		select g.id from proven p join reads f on f.id = p.read_id
		join reads g on coalesce(g.pass_id, g.id) = coalesce(f.pass_id, f.id) where p.whole`

	// keepSightings copies the sightings of people whose outcomes a read proves, for certificate $2
	// of batch $1.
	keepSightings = `
		insert into certified_sightings (batch_id, number, row_number, clerk_id, kind, status, created_at, expires_at,
			first_read, first_seen, last_read, last_seen)
		select r.batch_id, $2, r.row_number, s.clerk_id, s.kind, s.status, s.created_at, s.expires_at,
		       s.first_read, s.first_seen, s.last_read, s.last_seen
		from results r
		cross join lateral (select * from sightings s where s.key = r.key and s.instance_id = r.instance_id offset 0) s
		where r.batch_id = $1 and r.read_id is not null and r.erased_by is null`

	// changedSightings looks for sightings that differ from what certificate $3 of batch $1 kept.
	// What a later read showed, and the result of a revoke, do not count as changes. For erased
	// people there is nothing to compare. A sighting that the certificate did not keep was added
	// later if its first read is one that proves an outcome. Each is looked up through its index,
	// for the reason that keysOf states.
	changedSightings = `
		with proven as materialized (select r.* from (` + provenRows + `) r where r.erased_by is null)
		select exists (
			select from proven r
			cross join lateral (
				select * from certified_sightings c where c.batch_id = $1 and c.number = $3 and c.row_number = r.row_number offset 0) c
			left join lateral (
				select * from sightings s
				where s.instance_id = r.instance_id and s.clerk_id = c.clerk_id and s.key = r.key offset 0) s on true
			where s.clerk_id is null
			   or (s.kind, s.created_at, s.first_read, s.first_seen) 
			      is distinct from (c.kind, c.created_at, c.first_read, c.first_seen)
			   or s.last_read = c.last_read and ((s.expires_at, s.last_seen) is distinct from (c.expires_at, c.last_seen)
			      or s.status is distinct from c.status and not exists (
			          select from attempt_people p join attempts a on a.id = p.attempt_id and a.call = 'revoke'
			          where p.instance_id = r.instance_id and p.key = r.key and p.clerk_invitation_id = c.clerk_id
			            and p.resolution is not null and s.status in ('revoked', 'accepted', 'expired'))))
		or exists (
			select from proven r
			cross join lateral (select * from sightings s where s.key = r.key and s.instance_id = r.instance_id offset 0) s
			where not exists (
				select from certified_sightings c
				where c.batch_id = $1 and c.number = $3 and c.row_number = r.row_number and c.clerk_id = s.clerk_id offset 0)
			  and s.first_read in (` + provingReads + `))`
)

// at returns SQL for a time as the chain has it: in UTC, to the microsecond.
func at(expression string) string { return fmt.Sprintf(moment, expression) }

// The fields of a row's record that the program fills in or counts by.
const (
	privateField = 3
	outcomeField = 6
)

// follow computes the chain of a certificate and sets rows, outcomes, attempts, checkpoints and
// head. If against is not nil, follow compares these with it and returns the differences. Memory
// does not grow with the batch, except for 32 bytes for each thousand rows.
func (c *Certificate) follow(ctx context.Context, tx pgx.Tx, against *Certificate) ([]Difference, error) {
	h, err := erased.NewHasher(ctx, tx)
	if err != nil {
		return nil, err
	}
	w := walk{Hasher: h, made: c, against: against}
	c.Outcomes, c.checkpoints = invitation.Counts{}, make([]invitation.Hash, c.afterRows())
	var header []*string
	if err := tx.QueryRow(ctx, headerRecord, c.Batch, strconv.Itoa(c.Number), c.MadeAt, strconv.FormatInt(c.lastAttempt, 10), strconv.FormatInt(c.lastRetry, 10)).Scan(&header); err != nil {
		return nil, fmt.Errorf("read what the batch was made of: %w", err)
	}
	if c.Format >= formatReads {
		header = append(header, erased.Pointers([]string{strconv.Itoa(c.Format)})...)
	}
	w.add(header)
	w.checkpoint(afterHeader, Difference{What: DiffersBatch})
	if err := w.rows(ctx, tx); err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	if c.Attempts, err = w.records(ctx, tx, attemptRecords, c.Batch, c.lastAttempt, c.Format); err != nil {
		return nil, fmt.Errorf("read the attempts: %w", err)
	}
	w.checkpoint(afterAttempts, Difference{What: DiffersAttempts})
	end := []string{"end", strconv.Itoa(c.Rows), strconv.Itoa(c.Attempts)}
	if c.Format >= formatReads {
		if c.Reads, err = w.records(ctx, tx, readRecords, c.Batch, c.lastRetry); err != nil {
			return nil, fmt.Errorf("read the reads: %w", err)
		}
		w.checkpoint(afterReads, Difference{What: DiffersReads})
		if c.Sightings, err = w.records(ctx, tx, sightingRecords, c.Batch, c.Number); err != nil {
			return nil, fmt.Errorf("read the sightings: %w", err)
		}
		w.checkpoint(afterSightings, Difference{What: DiffersSightings})
		end = append(end, strconv.Itoa(c.Reads), strconv.Itoa(c.Sightings))
	}
	for _, o := range invitation.Outcomes {
		end = append(end, strconv.Itoa(c.Outcomes[o]))
	}
	w.add(erased.Pointers(end))
	c.Head = w.chain
	if against != nil && c.Head != against.Head && len(w.differs) == 0 {
		w.differs = append(w.differs, Difference{What: DiffersBatch})
	}
	return w.differs, nil
}

// walk is a chain that is being computed.
type walk struct {
	*erased.Hasher
	made    *Certificate
	against *Certificate // nil: nothing to compare with
	chain   invitation.Hash
	differs []Difference
}

func (w *walk) add(record []*string) { w.chain = w.Next(w.chain, record) }

// checkpoint records the chain at an index. If the chain differs from the expected one, it
// continues from the expected one, so that later differences are found too.
func (w *walk) checkpoint(place int, d Difference) {
	if place == len(w.made.checkpoints) {
		w.made.checkpoints = append(w.made.checkpoints, invitation.Hash{})
	}
	w.made.checkpoints[place] = w.chain
	switch {
	case w.against == nil:
	case place >= len(w.against.checkpoints): // there are rows after the last one
		w.differs = append(w.differs, d)
		w.chain = w.against.checkpoints[len(w.against.checkpoints)-1]
	case w.chain != w.against.checkpoints[place]:
		w.differs = append(w.differs, d)
		w.chain = w.against.checkpoints[place]
	}
}

// rowsThrough sets the checkpoint after a thousand row numbers.
func (w *walk) rowsThrough(last int) {
	w.checkpoint(w.made.afterRows()+last/span-1, Difference{What: DiffersRows, From: int64(last - span + 1), To: int64(last)})
}

func (w *walk) rows(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, rowRecords, w.made.Batch, w.made.lastRetry)
	var number int
	var record, cells []*string
	through := span // the last row number before the next checkpoint
	_, err := pgx.ForEachRow(rows, []any{&number, &record, &cells}, func() error {
		for ; number > through; through += span {
			w.rowsThrough(through)
		}
		if cells != nil {
			text := w.Private(cells).String()
			record[privateField] = &text
		}
		w.made.Rows++
		if o := record[outcomeField]; o != nil {
			w.made.Outcomes[invitation.Outcome(*o)]++
		}
		w.add(record)
		record, cells = nil, nil
		return nil
	})
	w.rowsThrough(through)
	for w.against != nil && len(w.made.checkpoints) < len(w.against.checkpoints) { // rows are missing at the end
		through += span
		w.rowsThrough(through)
	}
	return err
}

// records adds the records of a query in its order and returns how many there are.
func (w *walk) records(ctx context.Context, tx pgx.Tx, sql string, args ...any) (n int, err error) {
	rows, _ := tx.Query(ctx, sql, args...)
	var id int64
	var record []*string
	_, err = pgx.ForEachRow(rows, []any{&id, &record}, func() error {
		n++
		w.add(record)
		record = nil
		return nil
	})
	return n, err
}
