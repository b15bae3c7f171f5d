package invitation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// AuditFilter says which rows an audit wants. Zero fields do not narrow it.
type AuditFilter struct {
	Key     string // the person, as [Key] gives it
	Batch   int64
	Outcome Outcome
	Status  Status
	Actor   string    // who sent the file
	Since   time.Time // decided at this time or later; of undecided rows: imported
	Until   time.Time // and before this one
	Trace   string    // Clerk's trace id of a request that was made for the row
}

// where is the filter as SQL, with only what narrows it: so PostgreSQL plans for
// that alone.
func (f AuditFilter) where() (string, pgx.NamedArgs) {
	args := pgx.NamedArgs{}
	conditions := []string{"true"}
	narrow := func(set bool, condition, name string, value any) {
		if set {
			conditions, args[name] = append(conditions, condition), value
		}
	}
	narrow(f.Key != "", `r.key = @key`, "key", f.Key)
	narrow(f.Batch != 0, `r.batch_id = @batch`, "batch", f.Batch)
	narrow(f.Outcome != "", `r.outcome = @outcome`, "outcome", f.Outcome)
	narrow(f.Status != "", `r.status = @status`, "status", f.Status)
	narrow(f.Actor != "", `b.actor = @actor`, "actor", f.Actor)
	// What the batch's own times tell spares the rows of all others.
	narrow(!f.Since.IsZero(), `coalesce(r.decided_at, b.created_at) >= @since and coalesce(b.finished_at, 'infinity') >= @since`, "since", f.Since)
	narrow(!f.Until.IsZero(), `coalesce(r.decided_at, b.created_at) < @until and b.created_at < @until`, "until", f.Until)
	narrow(f.Trace != "", `(r.batch_id, r.row_number) in (
		select p.batch_id, p.row_number from attempt_people p where p.attempt_id in (
			select id from attempts where trace_id = @trace union all select attempt_id from late_answers where trace_id = @trace))`, "trace", f.Trace)
	return strings.Join(conditions, " and "), args
}

// AuditRow is a row as an audit shows it, with who sent its file and whom to.
type AuditRow struct {
	Result
	Actor       string `json:"actor"`
	FileName    string `json:"file_name"`
	Environment string `json:"environment"` // production, development or sandbox
}

// Audit calls yield with each row of any batch that the filter lets through, by
// batch and row. It reads as yield takes, and reuses the AuditRow, as
// [Reader.Results] does.
func (r *Reader) Audit(ctx context.Context, f AuditFilter, yield func(*AuditRow) error) error {
	where, args := f.where()
	rows, err := r.pool.Query(ctx, `
		select `+resultColumns+`, b.actor, b.file_name, i.environment
		from results r join batches b on b.id = r.batch_id join instances i on i.id = r.instance_id
		where `+where+` order by r.batch_id, r.row_number`, args)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer rows.Close()
	var row AuditRow
	for rows.Next() {
		row = AuditRow{}
		if err := rows.Scan(append(row.fields(), &row.Actor, &row.FileName, &row.Environment)...); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		if err := yield(&row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
