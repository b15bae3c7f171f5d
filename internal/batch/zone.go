package batch

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// KnowsZone reports whether PostgreSQL knows a time zone. Workers ask PostgreSQL for the hour.
func KnowsZone(ctx context.Context, pool *pgxpool.Pool, name string) (known bool, err error) {
	if err = pool.QueryRow(ctx, `select wall_clock($1) is not null`, name).Scan(&known); err != nil {
		err = fmt.Errorf("look for the time zone: %w", err)
	}
	return known, err
}

// Zone returns a time zone for plans. If this program does not know the zone, because another
// machine has a newer list, Zone returns PostgreSQL's current offset of it.
func Zone(ctx context.Context, pool *pgxpool.Pool, name string) (*time.Location, error) {
	if zone, err := invitation.LoadZone(name); err == nil {
		return zone, nil
	}
	var seconds int
	err := pool.QueryRow(ctx, `
		select coalesce(60 * round(extract(epoch from wall_clock($1) - clock_timestamp() at time zone 'UTC') / 60), 0)::int`,
		name).Scan(&seconds)
	if err != nil {
		return nil, fmt.Errorf("look for the time zone: %w", err)
	}
	return time.FixedZone(name, seconds), nil
}

// HasUnknownZone says that batch b has hours whose time zone PostgreSQL does not know.
const HasUnknownZone = `b.hours is not null and wall_clock(b.tz) is null`

// Zoneless is a batch whose time zone PostgreSQL does not know.
type Zoneless struct {
	Batch int64
	TZ    string
}

// ReadZoneless lists the draft, running and paused batches of an instance whose time zone PostgreSQL
// does not know.
func ReadZoneless(ctx context.Context, pool *pgxpool.Pool, instance int64) ([]Zoneless, error) {
	rows, _ := pool.Query(ctx, `select b.id, b.tz from batches b
		where b.instance_id = $1 and b.state in ('draft', 'running', 'paused') and `+HasUnknownZone+` order by b.id`, instance)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Zoneless])
	if err != nil {
		return nil, fmt.Errorf("look for batches whose time zone is not known: %w", err)
	}
	return all, nil
}

// PauseZoneless pauses the running batches of an instance whose time zone PostgreSQL does not know,
// and returns them. They send nothing in any case. The caller must hold the create and bulk
// buckets.
func PauseZoneless(ctx context.Context, tx pgx.Tx, instance int64) ([]*invitation.Batch, error) {
	rows, _ := tx.Query(ctx, `select b.id, b.tz from batches b
		where b.instance_id = $1 and b.state = 'running' and `+HasUnknownZone+` order by b.id`, instance)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Zoneless])
	if err != nil {
		return nil, fmt.Errorf("look for batches whose time zone is not known: %w", err)
	}
	var paused []*invitation.Batch
	for _, z := range found {
		b := &invitation.Batch{ID: z.Batch, InstanceID: instance, State: invitation.Paused, PausedBy: invitation.ByZone,
			Reason: "PostgreSQL does not know the time zone " + z.TZ}
		pause := change{action: "pause", to: invitation.Paused, by: invitation.ByZone, reason: b.Reason}
		if err := move(ctx, tx, b, "bulkinvite", pause); err != nil {
			return nil, err
		}
		paused = append(paused, b)
	}
	return paused, nil
}
