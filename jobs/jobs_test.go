package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/ratelimit"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// bundle is a database, a stand-in for Clerk, and an instance in the one that
// stands for the other.
type bundle struct {
	t        *testing.T
	pool     *pgxpool.Pool
	sandbox  *sandboxtest.Server
	url      string
	instance invitation.Instance
}

func setup(t *testing.T, cfg sandbox.Config) *bundle {
	t.Helper()
	b := &bundle{t: t, pool: postgrestest.New(t)}
	b.sandbox = sandboxtest.New(t, cfg)
	b.url = b.sandbox.URL
	var err error
	if b.instance, err = batch.EnsureInstance(t.Context(), b.pool, "ins_test", "production"); err != nil {
		t.Fatal(err)
	}
	return b
}

// batch imports n rows and starts them.
func (b *bundle) batch(n int, email func(int) string) int64 {
	b.t.Helper()
	return b.batchWhile(n, email, func() {})
}

// batchWhile is batch, and does something before the import commits.
func (b *bundle) batchWhile(n int, email func(int) string, do func()) int64 {
	b.t.Helper()
	var id int64
	must.OK(b.t, pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		id, err = batch.CreateBatch(b.t.Context(), tx, invitation.Batch{InstanceID: b.instance.ID, FileName: "people.csv", Columns: []string{"email"}, Actor: "test", Preflight: true})
		if err != nil {
			return err
		}
		rows := make([]int, n)
		source := make([][]any, n)
		for i := range rows {
			rows[i] = i + 1
			source[i] = []any{id, i + 1, b.instance.ID, i + 2, []string{email(i)}, email(i), email(i)}
		}
		_, err = tx.CopyFrom(b.t.Context(), pgx.Identifier{"results"}, []string{"batch_id", "row_number", "instance_id", "line", "original", "email", "key"}, pgx.CopyFromRows(source))
		if err != nil {
			return err
		}
		if err := InsertInvites(b.t.Context(), tx, b.instance.ID, invitation.DefaultPriority, id, rows); err != nil {
			return err
		}
		if err := batch.StartBatch(b.t.Context(), tx, id, "test", n, 0); err != nil {
			return err
		}
		do()
		return nil
	}))
	return id
}

// worker returns a worker that logs to the test.
func (b *bundle) worker(cfg Config) *Worker {
	b.t.Helper()
	api, err := clerk.New(clerk.Config{Key: "sk_test_secret", URL: b.url})
	must.OK(b.t, err)
	cfg.Instance = b.instance
	cfg.Log = slog.New(slog.NewTextHandler(b.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	w, err := New(b.pool, api, cfg)
	must.OK(b.t, err)
	return w
}

// run works until the batch is done.
func (b *bundle) run(w *Worker, id int64) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	must.OK(b.t, w.Run(ctx, func(ctx context.Context) (bool, error) {
		one, err := batch.Batch(ctx, b.pool, id)
		return err == nil && one.State == invitation.Done, err
	}))
	if ctx.Err() != nil {
		b.t.Fatal("the batch was not done in time: ", b.outcomes(id))
	}
}

// A tally is how many rows have each outcome; "" is undecided.
type tally map[string]int

// outcomes counts the rows of a batch by outcome.
func (b *bundle) outcomes(batch int64) tally {
	b.t.Helper()
	rows, _ := b.pool.Query(context.Background(), `select coalesce(outcome, ''), count(*) from results where batch_id = $1 group by 1`, batch)
	counts := tally{}
	var outcome string
	var n int
	_, err := pgx.ForEachRow(rows, []any{&outcome, &n}, func() error { counts[outcome] = n; return nil })
	must.OK(b.t, err)
	return counts
}

// want fails the test unless a batch has these outcomes, each so often. It may have others.
func (b *bundle) want(batch int64, want tally) {
	b.t.Helper()
	got := b.outcomes(batch)
	for outcome, n := range want {
		if got[outcome] != n {
			b.t.Errorf("outcomes of batch %d: %v, want %v", batch, got, want)
			return
		}
	}
}

// read is a batch as it is now.
func (b *bundle) read(id int64) *invitation.Batch {
	b.t.Helper()
	batch, err := batch.Batch(b.t.Context(), b.pool, id)
	must.OK(b.t, err)
	return batch
}

// count is the one number that a query returns.
func (b *bundle) count(sql string, args ...any) (n int) {
	b.t.Helper()
	must.OK(b.t, b.pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

// counts fails the test unless a query returns this number; what says of which things.
func (b *bundle) counts(want int, what, sql string, args ...any) {
	b.t.Helper()
	expect.Equal(b.t, what, b.count(sql, args...), want)
}

// is fails the test unless a query returns this text.
func (b *bundle) is(want, sql string, args ...any) {
	b.t.Helper()
	if got := must.Read[string](b.t, b.pool, `select coalesce((`+sql+`)::text, 'null')`, args...); got != want {
		b.t.Errorf("%s: got %s, want %s", sql, got, want)
	}
}

// jobs counts the jobs of a batch that wait.
func (b *bundle) jobs(batch int64) int {
	b.t.Helper()
	return b.count(
		`select count(*) from river_job where kind = 'invite' and state in ('available', 'scheduled', 'retryable')
		and (args->>'batch')::bigint = $1`, batch)
}

// wantJobs fails the test unless so many jobs of a batch wait.
func (b *bundle) wantJobs(batch int64, want int) {
	b.t.Helper()
	if n := b.jobs(batch); n != want {
		b.t.Errorf("%d jobs of batch %d wait, want %d", n, batch, want)
	}
}

// waiting counts the connections that wait for a lock.
func (b *bundle) waiting() int {
	b.t.Helper()
	return b.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
}

// exec runs a statement with the triggers off that keep evidence from being changed.
func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	postgrestest.Plant(b.t, b.pool, sql, args...)
}

// await looks until something holds.
func (b *bundle) await(what string, holds func() bool) {
	b.t.Helper()
	for began := time.Now(); !holds(); {
		if time.Since(began) > 2*time.Minute {
			b.t.Fatalf("%s: not after two minutes", what)
		}
		must.OK(b.t, sleep(b.t.Context(), 10*time.Millisecond))
	}
}

// clerks are the invitations at Clerk, by address and status.
func (b *bundle) clerks() map[string]map[string]int {
	b.t.Helper()
	var all []struct{ Email, Status string }
	b.sandbox.Ask("invitations", &all)
	found := map[string]map[string]int{}
	for _, one := range all {
		if found[one.Email] == nil {
			found[one.Email] = map[string]int{}
		}
		found[one.Email][one.Status]++
	}
	return found
}

// pendingAtClerk are the addresses that have a pending invitation at Clerk.
func (b *bundle) pendingAtClerk() map[string]bool {
	b.t.Helper()
	pending := map[string]bool{}
	for address, doors := range b.clerks() {
		if doors["pending"] > 0 {
			pending[address] = true
		}
	}
	return pending
}

// accept has people accept their invitations.
func (b *bundle) accept(people ...string) {
	b.t.Helper()
	text, err := json.Marshal(map[string]any{"addresses": people})
	must.OK(b.t, err)
	b.sandbox.Tell("accept", string(text))
}

func person(i int) string { return fmt.Sprintf("person%d@example.com", i) }

func TestManyWithoutLimits(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}, General: sandbox.Limit{N: -1}}})
	batch := b.batch(2000, person)
	none := ratelimit.Limit{None: true}
	start := time.Now()
	b.run(b.worker(Config{Create: none, Bulk: none, General: none}), batch)
	t.Log(time.Since(start))
	b.want(batch, tally{"invited": 2000})
}

// scaled is Clerk's budget with an hour of 6 s.
var scaled = struct{ create, bulk ratelimit.Limit }{ratelimit.Limit{N: 100, Window: 6 * time.Second}, ratelimit.Limit{N: 25, Window: 6 * time.Second}}

func TestWholeBudgetAndNoMore(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"sliding", "fixed"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{WindowMode: mode, Limits: sandbox.Limits{Create: sandbox.Limit{N: 100, Window: 6 * time.Second}, Bulk: sandbox.Limit{N: 25, Window: 6 * time.Second}}})
			batch := b.batch(1000, person)
			b.run(b.worker(Config{Create: scaled.create, Bulk: scaled.bulk}), batch)
			b.want(batch, tally{"invited": 1000})
			var refused, first int
			// How long a window is used for depends on the machine; cmd/bench measures that.
			err := b.pool.QueryRow(t.Context(), `
				select count(*) filter (where http_status = 429), count(distinct key) filter (where nth <= case call when 'create' then 100 else 25 end)
				from (select id, call, http_status, row_number() over (partition by call order by id) as nth from attempts where call in ('create', 'bulk')) a
				join attempt_people p on p.attempt_id = a.id`).Scan(&refused, &first)
			must.OK(t, err)
			if refused != 0 || first != 350 {
				t.Errorf("%d people refused for the limit, want 0; the first 100 singles and 25 bulk calls invite %d, want 350", refused, first)
			}
		})
	}
}

// A job does not end before all that came of its requests is recorded: a stop
// waits for jobs alone.
func TestJobEndsWhenAllIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "create", Kind: sandbox.FaultSlow, Delay: sandbox.Duration(300 * time.Millisecond)}}})
	batch := b.batch(1, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	none := ratelimit.Limit{None: true}
	w := b.worker(Config{Create: none, Bulk: ratelimit.Limit{Off: true}, General: none})
	must.OK(t, w.presence.register(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go w.claimer.run(ctx)
	ended := make(chan error, 1)
	go func() {
		job := &river.Job[InviteArgs]{JobRow: &rivertype.JobRow{ID: 1}, Args: InviteArgs{Batch: batch, Row: 1}}
		ended <- (&inviteWorker{sender: w.sender, working: &w.working}).Work(ctx, job)
	}()
	b.await("the request is under way", func() bool { return b.count(`select count(*) from attempts`) == 1 })
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `select from attempts for update`); err != nil {
			return err
		}
		b.await("the answer waits to be recorded", func() bool {
			return b.waiting() > 0
		})
		select {
		case err := <-ended:
			t.Error("the job ended before")
			ended <- err
		case <-time.After(300 * time.Millisecond):
		}
		return nil
	}))
	if err := <-ended; err != nil || b.outcomes(batch)["invited"] != 1 {
		t.Errorf("the job ended with %v, and the outcomes are %v", err, b.outcomes(batch))
	}
}
