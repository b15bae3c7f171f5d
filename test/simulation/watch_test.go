package simulation

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
)

// flying counts a node's requests in flight that change something.
func (r *run) flying(n *node, call string, by int) {
	if call != "create" && call != "bulk" && call != "revoke" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flight[n] += by
}

func (r *run) inFlight(n *node) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flight[n] > 0
}

func (r *run) anyFlying() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.flight {
		if n > 0 {
			return true
		}
	}
	return false
}

// failed records an error of a check, unless the run is over. It reports whether there was an
// error.
func (r *run) failed(what string, err error) bool {
	if err != nil && r.ctx.Err() == nil {
		r.wrong("%s: %v", what, err)
	}
	return err != nil
}

// wake makes due jobs available, as River's leader does every five seconds.
func (r *run) wake() {
	_, err := r.pool.Exec(r.ctx, `update river_job set state = 'available' where id in (
		select id from river_job where state in ('scheduled', 'retryable')
			and scheduled_at <= clock_timestamp() for update skip locked)`)
	r.failed("wake jobs", err)
}

// idle reports whether nothing is left to do. If only paused batches are left, it resumes one of
// them.
func (r *run) idle() bool {
	var open, batches, sweeps, owed, uncertified int
	var paused []int64
	err := r.pool.QueryRow(r.ctx, `
		select (select count(*) from attempts where resolved_at is null),
		       (select count(*) from batches where state in ('draft', 'running') or state = 'cancelled'
		       	and finished_at is null),
		       (select count(*) from sweeps where apply and finished_at is null and not held),
		       (select count(*) from results where outcome is null and revoke_sent is not null),
		       (select count(*) from batches where state in ('done', 'cancelled') and certificate is null),
		       array(select id from batches where state = 'paused' order by id)`).Scan(&open, &batches, &sweeps,
		&owed, &uncertified, &paused)
	if r.failed("look whether anything is left", err) || open+batches+sweeps+owed+uncertified > 0 {
		return false
	}
	if len(paused) == 0 {
		return true
	}
	b, err := batch.Batch(r.ctx, r.pool, paused[0])
	if err == nil {
		r.note(nil, "resumes batch %d (%s)", b.ID, b.PausedBy)
		err = r.resume(b)
	}
	if err != nil && !refused(err) {
		r.wrong("resume: %v", err)
	}
	return false
}

// left describes what is left to do.
func (r *run) left() string {
	var b strings.Builder
	for _, sql := range []string{
		`select format('batch %s is %s (%s), ended %s, undecided %s',
			id, state, coalesce(state_reason, ''), finished_at, (select count(*) from results r
			where r.batch_id = b.id and outcome is null)) from batches b where state <> 'done'`,
		`select format('row %s of batch %s waits, not before %s, tries %s, revoke sent %s, alone %s, withdrawn %s',
			row_number, batch_id, not_before, tries, revoke_sent, alone, withdrawn_by) from results
			where outcome is null limit 5`,
		`select format('attempt %s, a %s, is open; %s; answered %s, read after %s',
			id, call, deadline, answered_at, read_after) from attempts where resolved_at is null limit 5`,
		`select format('sweep %s goes on', id) from sweeps where apply and finished_at is null and not held`,
		`select format('%s revocations are undecided, the first of attempt %s, not before %s, tries %s, %s',
			count(*), min(attempt_id), min(not_before), max(tries), max(last_error)) from revocations
			where outcome is null`,
		`select format('%s jobs %s %s', count(*), kind, state) from river_job where state <> 'completed'
			group by kind, state`,
		`select format('bucket %s frozen until %s, probe %s, 429 at %s', name, frozen_until, probe_attempt, frozen_at)
			from buckets`,
		`select format('lease %s of %s until %s', name, holder, until) from task_leases`,
		`select format('worker %s until %s, now %s', id, lives_until, clock_timestamp()) from workers`,
	} {
		rows, _ := r.pool.Query(r.ctx, sql)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			lines = []string{err.Error()}
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "\n\t%s", line)
		}
	}
	return b.String()
}

// registered returns a node's id in workers. If the row is gone, it returns the id of the last
// look.
func (r *run) registered(n *node) string {
	var id string
	err := r.pool.QueryRow(r.ctx, `select id from workers where version = $1 order by heartbeat_at desc limit 1`,
		n.name()).Scan(&id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.id = id
	}
	return n.id
}

// leases returns the leases that a node holds.
func (r *run) leases(n *node) map[string]string {
	id := r.registered(n)
	rows, _ := r.pool.Query(r.ctx, `select name, holder from task_leases where holder = $1
		and until > clock_timestamp()`, id)
	held := map[string]string{}
	var name, holder string
	if _, err := pgx.ForEachRow(rows, []any{&name, &holder},
		func() error { held[name] = holder; return nil }); err != nil {
		return nil
	}
	return held
}

// taken reports whether the lease that a guard is about to check was taken since, by another process or by the same one
// in a later term.
func (r *run) taken(g guard) bool {
	var taken bool
	err := r.pool.QueryRow(r.ctx, `select (holder, term) <> ($2, $3) from task_leases where name = $1`,
		g.task, g.holder, g.term).Scan(&taken)
	if r.failed("look at a lease", err) || !taken {
		return false
	}
	r.rare.count("a guard came after another had taken the lease")
	return true
}

// lostLeases counts the leases that others took from a node while it stood still, and whether it
// was declared dead. flying says that a request of its was under way when it stopped: from its side
// the request still is.
func (r *run) lostLeases(n *node, held map[string]string, flying bool) {
	for name, holder := range held {
		var other bool
		err := r.pool.QueryRow(r.ctx, `select holder <> $2 from task_leases where name = $1`, name, holder).Scan(&other)
		if err == nil && other {
			r.rare.count("a worker that stood still lost the lease of " + name)
			if flying {
				r.rare.count("a worker lost a lease while a request of its was under way")
			}
		}
	}
	n.mu.Lock()
	id := n.id
	n.mu.Unlock()
	var lives bool
	if err := r.pool.QueryRow(r.ctx, `select exists (select from workers where id = $1)`,
		id).Scan(&lives); err == nil && !lives && id != "" {
		r.rare.count("a worker was declared dead and went on")
	}
}

// sample looks for states that only last for some time.
func (r *run) sample() {
	rows, _ := r.pool.Query(r.ctx, `
		select 'a bucket was frozen after a 429: ' || name from buckets where frozen_until > clock_timestamp()
		union select 'a probe tried a frozen bucket: ' || name from buckets where probe_attempt is not null
		union select 'a batch was paused by ' || paused_by from batches where state = 'paused'
			and paused_by is not null`)
	seen, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if r.failed("look at states", err) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range seen {
		r.kinds[s] = 1 // counted once in a run
	}
}

// backsOff reports whether only rows that back off are left. It ignores paused batches.
func (r *run) backsOff() bool {
	var so bool
	err := r.pool.QueryRow(r.ctx, `
		select count(*) > 0 and bool_and(not_before > clock_timestamp() and tries > 5)
		   and not exists (select from attempts where resolved_at is null)
		from results r join batches b on b.id = r.batch_id and b.state <> 'paused' where outcome is null`).Scan(&so)
	return !r.failed("look for rows that back off", err) && so
}
