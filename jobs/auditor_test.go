package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// login is a connection of somebody who may read as bulkinvite_auditor, and nothing
// else.
func (b *bundle) login() *pgx.Conn {
	b.t.Helper()
	name := "nora_" + strings.ToLower(rand.Text())
	b.exec(`create role ` + name + ` login in role bulkinvite_auditor`)
	config := b.pool.Config().ConnConfig.Copy()
	config.User = name
	conn, err := pgx.ConnectConfig(b.t.Context(), config)
	must.OK(b.t, err)
	b.t.Cleanup(func() {
		ctx := context.WithoutCancel(b.t.Context())
		expect.OK(b.t, conn.Close(ctx))
		if _, err := b.pool.Exec(ctx, `drop role `+name); err != nil {
			b.t.Error(err)
		}
	})
	return conn
}

// TestReadOnlyLoginStopsNobody: an auditor notifies River's channels, holds advisory
// locks of every kind, and has a transaction open that has read every table. The
// fleet sends a batch meanwhile.
func TestReadOnlyLoginStopsNobody(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	const people = 1000
	id := b.batch(people, person)
	auditor, notifier := b.login(), b.login()

	// What would keep others out is refused.
	for _, sql := range []string{
		`select * from results for update`, `select * from results for no key update`, `select * from results for share`, `select * from results for key share`,
		`select * from task_leases for key share`, `select * from river_queue`,
		`lock table results in row share mode`, `lock table results in row exclusive mode`, `lock table results in share mode`,
		`lock table batches in share row exclusive mode`, `lock table attempts in exclusive mode`, `lock table attempts in access exclusive mode`,
		`lock table task_leases in row share mode`, `lock table river_job in access share mode`, `lock table river_leader in access share mode`,
	} {
		if strings.HasPrefix(sql, "lock ") { // which wants to be in a transaction
			sql = `do $$ begin ` + sql + `; end $$`
		}
		var denied *pgconn.PgError
		if _, err := auditor.Exec(t.Context(), sql); !errors.As(err, &denied) || denied.Code != "42501" { // insufficient_privilege
			t.Errorf("%s: %v", sql, err)
		}
	}

	// What is allowed is held until the test ends.
	for _, sql := range []string{
		`select pg_advisory_lock(n) from generate_series(-500, 500) n`,
		`select pg_advisory_lock_shared(n) from generate_series(501, 600) n`,
		`select pg_advisory_lock(n, m) from generate_series(-3, 3) n, generate_series(-100, 100) m`,
		`select pg_advisory_lock(hashtext(relname)), pg_advisory_lock(hashtextextended(relname, 0)), pg_advisory_lock(oid::bigint)
			from pg_class where relnamespace = 'public'::regnamespace`,
		`select pg_advisory_lock(instance_id), pg_advisory_lock(lock_key) from workers`,
		`begin isolation level repeatable read`,
		`select pg_advisory_xact_lock(n), pg_advisory_xact_lock_shared(n + 1000) from generate_series(2000, 2500) n`,
	} {
		must.Exec(t, auditor, sql)
	}
	rows, _ := auditor.Query(t.Context(), `select oid::regclass::text from pg_class
		where relnamespace = 'public'::regnamespace and relkind = 'r' and has_table_privilege(oid, 'select')`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatalf("tables that auditors read: %v, %v", tables, err)
	}
	for _, table := range tables {
		must.Exec(t, auditor, `lock table `+table+` in access share mode`)
	}

	// River is told to pause, to cancel every job and to give up its leader, again and again.
	notify := func(ctx context.Context) error {
		for channel, payloads := range map[string][]string{
			"river_control": {
				`{"action":"pause","queue":"*"}`, `{"action":"pause","queue":"invite_1"}`, `{"action":"pause","queue":"revoke_1"}`,
				`{"action":"cancel","job_id":1,"queue":"invite_1"}`, `{"action":"metadata_changed","queue":"*","metadata":{}}`, `no JSON`,
			},
			"river_leadership": {`{"action":"request_resign"}`, `{"action":"resigned","leader_id":"nora"}`},
			"river_insert":     {`{"queue":"invite_1"}`},
		} {
			for _, payload := range payloads {
				if _, err := notifier.Exec(ctx, `select pg_notify(current_schema() || '.' || $1, $2), pg_notify($1, $2)`, channel, payload); err != nil {
					return fmt.Errorf("notify: %w", err)
				}
			}
		}
		return nil
	}
	slow := quick // so that jobs are fetched again and again
	slow.Bulk, slow.Create = ratelimit.Limit{N: 20, Window: time.Second}, ratelimit.Limit{Off: true}
	locked, listening := 0, 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = b.worker(slow).Run(ctx, func(ctx context.Context) (bool, error) {
		if err := notify(ctx); err != nil {
			return false, err
		}
		locked += b.count(`select count(*) from pg_locks l join pg_stat_activity a using (pid)
			where l.locktype = 'advisory' and a.datname = current_database() and a.usename = current_user`)
		listening += b.count(`select count(*) from pg_stat_activity
			where datname = current_database() and usename = current_user and query ilike 'listen%'`)
		one, err := batch.Batch(ctx, b.pool, id)
		return err == nil && one.State == invitation.Done, err
	})
	if err != nil || ctx.Err() != nil {
		t.Fatal("the batch was not done: ", err, ctx.Err(), b.outcomes(id))
	}
	b.want(id, tally{"invited": people})
	if listening > 0 {
		t.Error("the fleet listens to notifications, which any login can send")
	}
	if locked > 0 {
		t.Error("the fleet takes advisory locks, which any login can hold")
	}
}
