package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"bulkinvite/clerk"
	"bulkinvite/clerk/sandbox"
	"bulkinvite/clerk/sandbox/sandboxtest"
	"bulkinvite/internal/must"
	"bulkinvite/invitation"
	"bulkinvite/postgres/postgrestest"
	"bulkinvite/ratelimit"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// bundle is a database, a stand-in for Clerk, and an instance in the one that
// stands for the other.
type bundle struct {
	t        *testing.T
	pool     *pgxpool.Pool
	store    *invitation.Store
	sandbox  *sandboxtest.Server
	url      string
	instance invitation.Instance
}

func setup(t *testing.T, cfg sandbox.Config) *bundle {
	t.Helper()
	b := &bundle{t: t, pool: postgrestest.New(t)}
	b.store = invitation.NewStore(b.pool)
	b.sandbox = sandboxtest.New(t, cfg)
	b.url = b.sandbox.URL
	var err error
	if b.instance, err = b.store.EnsureInstance(t.Context(), "ins_test", "production"); err != nil {
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
		id, err = b.store.CreateBatch(b.t.Context(), tx, invitation.Batch{InstanceID: b.instance.ID, FileName: "people.csv", Columns: []string{"email"}, Actor: "test", Preflight: true})
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
		if err := b.store.StartBatch(b.t.Context(), tx, id, "test", n, 0); err != nil {
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
func (b *bundle) run(w *Worker, batch int64) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	must.OK(b.t, w.Run(ctx, func(ctx context.Context) (bool, error) {
		one, err := b.store.Batch(ctx, batch)
		return err == nil && one.State == invitation.Done, err
	}))
	if ctx.Err() != nil {
		b.t.Fatal("the batch was not done in time: ", b.outcomes(batch))
	}
}

// outcomes counts the rows of a batch by outcome; "" is undecided.
func (b *bundle) outcomes(batch int64) map[string]int {
	b.t.Helper()
	rows, _ := b.pool.Query(context.Background(), `select coalesce(outcome, ''), count(*) from results where batch_id = $1 group by 1`, batch)
	counts := map[string]int{}
	var outcome string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&outcome, &n}, func() error { counts[outcome] = n; return nil }); err != nil {
		b.t.Fatal(err)
	}
	return counts
}

func person(i int) string { return fmt.Sprintf("person%d@example.com", i) }

func TestInvitesEverybodyOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(60, person)
	start := time.Now()
	b.run(b.worker(Config{}), batch)
	t.Log(time.Since(start))
	if got := b.outcomes(batch); got["invited"] != 60 {
		t.Fatalf("outcomes %v, want 60 invited", got)
	}
}

func TestManyWithoutLimits(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}, General: sandbox.Limit{N: -1}}})
	batch := b.batch(5000, person)
	none := ratelimit.Limit{None: true}
	start := time.Now()
	b.run(b.worker(Config{Create: none, Bulk: none, General: none}), batch)
	t.Log(time.Since(start))
	if got := b.outcomes(batch); got["invited"] != 5000 {
		t.Fatalf("outcomes %v, want 5000 invited", got)
	}
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
			if got := b.outcomes(batch); got["invited"] != 1000 {
				t.Fatalf("outcomes %v, want 1000 invited", got)
			}
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
	must.OK(t, w.register(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go w.claimer.run(ctx)
	ended := make(chan error, 1)
	go func() {
		job := &river.Job[InviteArgs]{JobRow: &rivertype.JobRow{ID: 1}, Args: InviteArgs{Batch: batch, Row: 1}}
		ended <- (&inviteWorker{w: w}).Work(ctx, job)
	}()
	b.await("the request is under way", func() bool { return b.count(`select count(*) from attempts`) == 1 })
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `select from attempts for update`); err != nil {
			return err
		}
		b.await("the answer waits to be recorded", func() bool {
			return b.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) > 0
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
