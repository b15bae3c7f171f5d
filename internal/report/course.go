package report

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// Course is how the numbers of a batch's invited and accepted people grew over time.
type Course struct {
	From, To time.Time // from the first invitation until now; zero: nobody was invited
	Steps    []Step    // as many as asked for, in order, all of the same length
}

// Step has the totals at the end of one part of the time.
type Step struct {
	Invited  int `json:"invited"`
	Accepted int `json:"accepted"` // as far as reads of Clerk have shown, at the time the program learned it
}

// ReadCourse returns the course of a batch in the given number of steps. It reads all rows of the
// batch: a few hundred milliseconds for a million rows.
func ReadCourse(ctx context.Context, pool *pgxpool.Pool, batch int64, steps int) (Course, error) {
	c := Course{Steps: make([]Step, steps)}
	rows, _ := pool.Query(ctx, `
		with sent as materialized (
			select coalesce(invited_at, decided_at) as invited, case when status = 'accepted' then status_at end as accepted from results where batch_id = $1 and outcome = 'invited'),
		span as (select min(invited) as first, greatest(clock_timestamp(), max(invited)) as last from sent),
		counted as (
			select width_bucket(extract(epoch from s.invited), extract(epoch from first), extract(epoch from last) + 0.001, $2) as step, count(*) as invited, 0 as accepted from sent s, span group by 1
			union all
			select width_bucket(extract(epoch from s.accepted), extract(epoch from first), extract(epoch from last) + 0.001, $2), 0, count(*) from sent s, span where s.accepted is not null group by 1)
		select first, last, step, invited, accepted from counted, span`, batch, steps)
	var step, invited, accepted int
	_, err := pgx.ForEachRow(rows, []any{&c.From, &c.To, &step, &invited, &accepted}, func() error {
		at := &c.Steps[min(max(step, 1), steps)-1]
		at.Invited += invited
		at.Accepted += accepted
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("look how batch %d went: %w", batch, err)
	}
	for i := 1; i < steps; i++ {
		c.Steps[i].Invited += c.Steps[i-1].Invited
		c.Steps[i].Accepted += c.Steps[i-1].Accepted
	}
	return c, nil
}

// InvitedLately returns how many people of a batch were invited within the last since.
func InvitedLately(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, since time.Duration) (n int, err error) {
	err = pool.QueryRow(ctx, `
		select count(*) from attempts a join attempt_people p on p.attempt_id = a.id
		where a.instance_id = $1 and a.bucket in ('create', 'bulk') and a.resolution is distinct from 'not_sent' and coalesce(a.answered_at, a.deadline) > (select clock_timestamp() - $3::interval)
		  and p.batch_id = $2 and (p.answer = 'created' or p.resolution = 'ours')`, b.InstanceID, b.ID, since).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count who of batch %d was invited lately: %w", b.ID, err)
	}
	return n, nil
}
