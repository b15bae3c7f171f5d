package invitation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// AuditFilter says which rows an audit wants. Zero fields do not narrow it.
type AuditFilter struct {
	Key     string // the person, as [Key] gives it
	Batch   int64
	Outcome Outcome
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
	rows, err := r.pool.Query(ctx, `
		select `+resultColumns+`, b.actor, b.file_name, i.environment
		from results r join batches b on b.id = r.batch_id join instances i on i.id = r.instance_id
		where (@key = '' or r.key = @key) and (@batch::bigint = 0 or r.batch_id = @batch) and (@outcome = '' or r.outcome = @outcome)
		order by r.batch_id, r.row_number`,
		pgx.NamedArgs{"key": f.Key, "batch": f.Batch, "outcome": f.Outcome})
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
