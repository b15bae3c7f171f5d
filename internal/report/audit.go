package report

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/erased"
	"bulkinvite/internal/invitation"
)

// AuditFilter says which rows an audit returns. Zero fields do not restrict it.
type AuditFilter struct {
	Key     string // the person, as [invitation.Key] returns it; also finds rows that a purge emptied
	Batch   int64
	Outcome invitation.Outcome
	Status  invitation.Status
	Actor   string    // who sent the file
	Since   time.Time // decided at this time or later; for undecided rows: imported
	Until   time.Time // the same, before this time
	Trace   string    // Clerk's trace id of a request for the row
}

// conditions are the conditions of a query. Only those that restrict it are in the SQL, so
// PostgreSQL plans for exactly these.
type conditions struct {
	sql  []string
	args pgx.NamedArgs
}

func (c *conditions) narrow(set bool, condition, name string, value any) {
	if set {
		c.sql, c.args[name] = append(c.sql, condition), value
	}
}

func (c *conditions) where() string { return strings.Join(append([]string{"true"}, c.sql...), " and ") }

// ofBatches returns the conditions that concern whole batches. They spare the query the rows of all
// other batches.
func (f AuditFilter) ofBatches() conditions {
	c := conditions{args: pgx.NamedArgs{}}
	c.narrow(f.Actor != "", `actor = @actor`, "actor", f.Actor)
	c.narrow(!f.Since.IsZero(), `coalesce(finished_at, 'infinity') >= @since`, "since", f.Since)
	c.narrow(!f.Until.IsZero(), `created_at < @until`, "until", f.Until)
	return c
}

// ofRows returns the conditions on rows r of batches b. hash is the key that replaces the person's
// own in rows that a purge emptied. It is empty if there are no such rows.
func (f AuditFilter) ofRows(hash string) conditions {
	c := conditions{args: pgx.NamedArgs{}}
	c.narrow(f.Key != "" && hash == "", `r.key = @key`, "key", f.Key)
	c.narrow(hash != "", `r.key = any(@keys)`, "keys", []string{f.Key, hash})
	c.narrow(f.Batch != 0, `r.batch_id = @batch`, "batch", f.Batch)
	c.narrow(f.Outcome != "", `r.outcome = @outcome`, "outcome", f.Outcome)
	c.narrow(f.Status != "", `r.status = @status`, "status", f.Status)
	c.narrow(!f.Since.IsZero(), `coalesce(r.decided_at, b.created_at) >= @since`, "since", f.Since)
	c.narrow(!f.Until.IsZero(), `coalesce(r.decided_at, b.created_at) < @until`, "until", f.Until)
	c.narrow(f.Trace != "", `(r.batch_id, r.row_number) in (
		select p.batch_id, p.row_number from attempt_people p where p.attempt_id in (
			select id from attempts where trace_id = @trace union all select attempt_id from late_answers where trace_id = @trace))`, "trace", f.Trace)
	return c
}

// AuditRow is a row as an audit shows it, with who sent its file and in which environment.
type AuditRow struct {
	Result
	Actor       string `json:"actor"`
	FileName    string `json:"file_name"`
	Environment string `json:"environment"` // production, development or sandbox
}

// auditReadAhead sets how many pages of the audit's rows PostgreSQL may read from disk at once. For
// rows that are far apart this is several times as fast as PostgreSQL's 1, which waits for each
// page before it asks for the next. If the setting is 0, the server's operating system does not
// support it, or an administrator has turned it off, so it stays 0.
const auditReadAhead = `
	select set_config('effective_io_concurrency', greatest(64, setting)::text, true)
	from (select current_setting('effective_io_concurrency')::int) now (setting) where setting > 0`

// Audit calls yield with each row of any batch that the filter selects, by batch and row. It reads
// as fast as yield consumes rows. It reuses the AuditRow, as [Results] does. The row's
// original cells are not included.
func Audit(ctx context.Context, pool *pgxpool.Pool, f AuditFilter, yield func(*AuditRow) error) (err error) {
	hash := ""
	if f.Key != "" {
		if hash, err = erased.PurgedAs(ctx, pool, f.Key); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	of := f.ofRows(hash)
	if batches := f.ofBatches(); len(batches.sql) > 0 {
		// The number of batches decides how to read their rows, and PostgreSQL would estimate it
		// wrongly: the sender and the time of a file are not independent.
		rows, _ := pool.Query(ctx, `select id from batches where `+batches.where(), batches.args)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return fmt.Errorf("audit: look for batches: %w", err)
		}
		of.narrow(true, `r.batch_id = any(@batches)`, "batches", ids)
	}
	var b pgx.Batch // an implicit transaction; it does not wait idle for a slow reader
	b.Queue(auditReadAhead)
	b.Queue(`
		select r.batch_id, r.row_number, r.line, r.email, r.outcome, r.reason, r.duplicate_of, r.status, r.status_at, r.status_read_id,
		       r.clerk_invitation_id, r.clerk_user_id, r.decided_at, r.invited_at, r.expires_at, r.attempt_id, r.read_id,
		       r.redirect_url, r.expires_in_days, r.public_metadata, r.notes, b.actor, b.file_name, i.environment
		from results r join batches b on b.id = r.batch_id join instances i on i.id = r.instance_id
		where `+of.where()+` order by r.batch_id, r.row_number`, of.args)
	answers := pool.SendBatch(ctx, &b)
	defer func() {
		if closing := answers.Close(); err == nil && closing != nil {
			err = fmt.Errorf("audit: %w", closing)
		}
	}()
	if _, err := answers.Exec(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	rows, err := answers.Query()
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer rows.Close()
	var row AuditRow
	var l lacking
	fields := []any{&row.BatchID, &row.RowNumber, &row.Line, &l.email, &l.outcome, &l.reason, &l.duplicateOf, &l.status, &l.statusAt, &l.statusReadID,
		&l.invitation, &l.user, &l.decidedAt, &l.invitedAt, &l.expiresAt, &l.attemptID, &l.readID,
		&l.redirectURL, &l.expiresInDays, &row.PublicMetadata, &row.Notes, &row.Actor, &row.FileName, &row.Environment}
	for rows.Next() {
		if err := rows.Scan(fields...); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		l.fill(&row.Result)
		if err := yield(&row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
