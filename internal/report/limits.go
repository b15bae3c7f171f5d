package report

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/db"
	"bulkinvite/internal/event"
	"bulkinvite/internal/invitation"
	"bulkinvite/ratelimit"
)

// InstanceLimits is the state of an instance's limits, as limits --json prints it.
type InstanceLimits struct {
	Instance    string         `json:"instance"`
	Environment string         `json:"environment"` // production, development or sandbox
	At          time.Time      `json:"at"`          // the database's clock when the limits were read
	Workers     int            `json:"workers"`     // processes with a heartbeat in the last minute
	Limits      []LimitState   `json:"limits"`      // create, bulk, general
	Differing   []WorkerLimits `json:"differing_limits"`
}

// LimitState is the state of one limit.
type LimitState struct {
	Bucket          string          `json:"bucket"`   // create, bulk or general
	Limit           ratelimit.Limit `json:"limit"`    // the strictest of the caller's limit and those of live workers
	Free            *int            `json:"free"`     // requests that may start now; nil: any number, or the call is off
	OpensAt         *time.Time      `json:"opens_at"` // if none may start now: when the next one may
	FrozenUntil     *time.Time      `json:"frozen_until"`
	OneAtATimeUntil *time.Time      `json:"one_at_a_time_until"` // after a 429
	FrozenReason    *string         `json:"frozen_reason"`
	Ceiling         *int            `json:"ceiling"` // always null
}

// LimitsOfAll returns the limits of every instance in the database. limits returns the caller's
// limits for an environment. timeout is the longest that a request can take.
func LimitsOfAll(
	ctx context.Context, pool *pgxpool.Pool, limits func(environment string) invitation.Limits, timeout time.Duration,
) ([]InstanceLimits, error) {
	instances, err := listInstances(ctx, pool)
	if err != nil {
		return nil, err
	}
	all := make([]InstanceLimits, 0, len(instances))
	for _, in := range instances {
		one, err := limitsOf(ctx, pool, in, limits(in.Environment), timeout)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// listInstances returns every instance in the database, in the order in which they were first met.
func listInstances(ctx context.Context, q db.Queryer) ([]invitation.Instance, error) {
	rows, _ := q.Query(ctx, `select id, clerk_id, environment from instances order by id`)
	instances, err := pgx.CollectRows(rows, pgx.RowToStructByPos[invitation.Instance])
	if err != nil {
		return nil, fmt.Errorf("list the instances: %w", err)
	}
	return instances, nil
}

func limitsOf(
	ctx context.Context, pool *pgxpool.Pool, in invitation.Instance, given invitation.Limits, timeout time.Duration,
) (InstanceLimits, error) {
	d := InstanceLimits{Instance: in.ClerkID, Environment: in.Environment}
	budget, err := ReadBudget(ctx, pool, in.ID, given)
	if err != nil {
		return d, err
	}
	d.At, d.Workers, d.Differing = budget.Now, len(budget.Workers), budget.Differing()
	for _, one := range []struct {
		name         string
		given, shown ratelimit.Limit
	}{
		{ratelimit.Create, given.Create, budget.Limits.Create},
		{ratelimit.Bulk, given.Bulk, budget.Limits.Bulk},
		{ratelimit.GeneralCall, given.General, budget.Limits.General},
	} {
		state := LimitState{Bucket: one.name, Limit: one.shown}
		b, err := ratelimit.Count(ctx, pool, in.ID, one.name, one.given)
		if err != nil {
			return d, err
		}
		if one.name == ratelimit.GeneralCall && !one.shown.None {
			leased, err := ratelimit.Leased(ctx, pool, in.ID, one.shown, timeout)
			if err != nil {
				return d, err
			}
			b.Free = min(b.Free, max(0, one.shown.N-leased))
		}
		if !one.shown.Off && (!one.shown.None || !b.Frozen.IsZero()) {
			state.Free = &b.Free
		}
		if b.Free == 0 && !b.Opens.IsZero() {
			state.OpensAt = &b.Opens
		}
		if !b.Careful.IsZero() {
			state.OneAtATimeUntil = &b.Careful
		}
		if !b.Frozen.IsZero() {
			state.FrozenUntil, state.FrozenReason = &b.Frozen, &b.Reason
		}
		d.Limits = append(d.Limits, state)
	}
	return d, nil
}

// Thawed is a freeze that a person ended.
type Thawed struct {
	Instance string    `json:"instance"`
	Bucket   string    `json:"bucket"`       // create, bulk or general
	Until    time.Time `json:"frozen_until"` // when it would have ended
}

// ThawLimits ends the freezes of the named buckets at every instance in the database and records
// who did it. Then one request of each bucket probes. ThawLimits returns the freezes that it ended.
func ThawLimits(ctx context.Context, pool *pgxpool.Pool, buckets []string, actor string) ([]Thawed, error) {
	thawed := []Thawed{}
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		thawed = thawed[:0]
		instances, err := listInstances(ctx, tx)
		if err != nil {
			return err
		}
		for _, in := range instances {
			for _, bucket := range buckets {
				until, frozen, err := ratelimit.EndFreeze(ctx, tx, in.ID, bucket)
				if err != nil {
					return err
				}
				if !frozen {
					continue
				}
				details := map[string]any{"bucket": bucket, "frozen_until": until.UTC()}
				if err := event.Record(ctx, tx, in.ID, 0, actor, "thawed", details); err != nil {
					return err
				}
				thawed = append(thawed, Thawed{in.ClerkID, bucket, until})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("end freezes: %w", err)
	}
	return thawed, nil
}
