// Package event records who did what, in the table events.
package event

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Record adds an event to the log of who did what.
func Record(ctx context.Context, tx pgx.Tx, instance, batch int64, actor, action string, details map[string]any) error {
	if details == nil {
		details = map[string]any{}
	}
	_, err := tx.Exec(ctx, `insert into events (instance_id, batch_id, actor, action, details) values (nullif($1, 0), nullif($2, 0), $3, $4, $5)`,
		instance, batch, actor, action, details)
	if err != nil {
		return fmt.Errorf("record event %s: %w", action, err)
	}
	return nil
}

// RecordGeneral adds an event that concerns no batch and no instance. details may contain only ids and
// numbers.
func RecordGeneral(ctx context.Context, tx pgx.Tx, actor, action string, details map[string]any) error {
	return Record(ctx, tx, 0, 0, actor, action, details)
}
