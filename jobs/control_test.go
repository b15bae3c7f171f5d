package jobs

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// until runs a worker until the batch is in a state.
func (b *bundle) until(w *Worker, id int64, state invitation.State) *invitation.Batch {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var one *invitation.Batch
	must.OK(b.t, w.Run(ctx, func(ctx context.Context) (_ bool, err error) {
		one, err = batch.Batch(ctx, b.pool, id)
		return err == nil && one.State == state, err
	}))
	if one == nil || one.State != state {
		b.t.Fatalf("batch %d did not become %s: %v", id, state, b.outcomes(id))
	}
	return one
}

func TestBreakerPauses(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Blocked: []string{"*@bad.example"}})
	batch := b.batch(300, func(i int) string {
		if i%3 == 0 {
			return fmt.Sprintf("p%d@bad.example", i)
		}
		return person(i)
	})
	one := b.until(b.worker(quick), batch, invitation.Paused)
	got := b.outcomes(batch)
	if got[""] == 0 || got["rejected"] < 4 {
		t.Errorf("outcomes %v when the breaker paused, want some rejected and some undecided", got)
	}
	if one.Reason == "" || b.jobs(batch) != 0 {
		t.Errorf("paused with reason %q and %d jobs, want a reason and none", one.Reason, b.jobs(batch))
	}
}

// The breaker looks on while it is in doubt: many of the first rows were rejected
// before there were enough to tell, and then only good ones follow.
func TestBreakerInDoubt(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(100, person)
	w := b.worker(quick)
	decide := func(outcome string, from, to int) {
		t.Helper()
		b.exec(`update results set outcome = $2, decided_at = clock_timestamp() where batch_id = $1 and row_number between $3 and $4`, batch, outcome, from, to)
		must.OK(t, w.tidy(t.Context()))
	}
	state := func() invitation.State {
		t.Helper()
		one := b.read(batch)
		return one.State
	}
	w.suspect.Store(true) // as whoever records a rejection says
	decide("rejected", 1, 10)
	if got := state(); got != invitation.Running {
		t.Fatalf("with 10 rows decided the batch is %s, want running", got)
	}
	decide("invited", 11, 19)
	if got := state(); got != invitation.Running {
		t.Fatalf("with 19 rows decided the batch is %s, want running", got)
	}
	decide("invited", 20, 20)
	expect.Equal(t, "with 10 of 20 rows rejected the batch", state(), invitation.Paused)
}

func TestCanary(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(60, person)
	must.Exec(t, b.pool, `update batches set canary = 7, canary_row = 7 where id = $1`, batch)
	one := b.until(b.worker(quick), batch, invitation.Paused)
	b.want(batch, tally{"invited": 7})
	must.OK(t, Resume(t.Context(), b.pool, one, "maria"))
	b.run(b.worker(quick), batch)
	b.want(batch, tally{"invited": 60})
	b.proven(batch)
}

// Cancel decides what has no open attempt at once, and the rest when it is read.
func TestCancelWhileWorking(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}},
		Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultCutAfter, Every: 2}, {Call: "create", Kind: sandbox.FaultCutBefore, Every: 2}}})
	batch := b.batch(800, person)
	one := b.read(batch)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	cancelled := false
	must.OK(t, b.worker(quick).Run(ctx, func(ctx context.Context) (bool, error) {
		if got := b.outcomes(batch); !cancelled && got["invited"] > 30 {
			cancelled = true
			if err := Cancel(ctx, b.pool, one, "maria"); err != nil {
				return false, err
			}
		}
		return cancelled && b.outcomes(batch)[""] == 0, nil
	}))
	got := b.outcomes(batch)
	if got["cancelled"] == 0 || got["invited"] == 0 || got["cancelled"]+got["invited"] != 800 {
		t.Errorf("outcomes %v, want some invited and the rest cancelled", got)
	}
	b.wantJobs(batch, 0)
	b.proven(batch)
}

// A cancel that comes while a claim is being made waits for it, and then leaves
// alone whoever was claimed. The claim is held between its last statement and its
// commit, while the cancel is under way: one that did not ask for the buckets
// first would wait for the rows instead, go on with what it saw before, and write
// "cancelled" over a mail that goes out.
func TestCancelRacesClaim(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(3, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	one := b.read(batch)
	cfg := quick
	cfg.Bulk, cfg.RequestTimeout = ratelimit.Limit{Off: true}, 20*time.Second
	w := b.worker(cfg)
	must.OK(t, w.presence.register(t.Context()))
	cancelled := make(chan error, 1)
	var r round
	began := time.Now()
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		if r, err = w.claimer.claimIn(t.Context(), tx, 1); err != nil {
			return err
		}
		go func() { cancelled <- Cancel(t.Context(), b.pool, one, "maria") }()
		b.await("the cancel waits", func() bool {
			return b.waiting() > 0
		})
		return nil
	}))
	must.OK(t, <-cancelled)
	if got := b.outcomes(batch); got[""] != 1 || got["cancelled"] != 2 || len(r.tickets) != 1 {
		t.Fatalf("outcomes %v and %d requests, want the claimed one undecided and the others cancelled", got, len(r.tickets))
	}
	r.tickets[0].deadline = began.Add(cfg.RequestTimeout)
	w.sender.send(t.Context(), r.tickets[0])
	b.want(batch, tally{"invited": 1, "cancelled": 2})
	b.proven(batch)
}

// Nothing is reserved once a pause is committed, whatever is under way; what was
// reserved before is recorded; and the batch keeps no job.
func TestPauseTakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(3000, person)
	one := b.read(batch)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for range 3 {
		w := b.worker(quick)
		go func() { ended <- w.Run(ctx, nil) }()
	}
	b.await("the workers invite", func() bool { return b.outcomes(batch)["invited"] >= 100 })
	asked := time.Now()
	must.OK(t, Pause(t.Context(), b.pool, one, "maria"))
	took := time.Since(asked)
	b.await("what is under way is recorded", func() bool { return b.count(`select count(*) from attempt_people where open`) == 0 })
	b.await("the queue is empty", func() bool {
		return b.count(`select count(*) from river_job where kind = 'invite' and state in ('available', 'scheduled', 'retryable', 'running')`) == 0
	})
	late := b.count(`select count(*) from attempts where started_at > (select at from events where action = 'paused' and batch_id = $1) + $2::interval`, batch, time.Second)
	if undecided := b.outcomes(batch)[""]; late != 0 || undecided == 0 || took > 5*time.Second {
		t.Errorf("%d requests were reserved a second after the pause, which took %s; %d rows undecided, want some", late, took, undecided)
	}
	stop()
	for range 3 {
		expect.OK(t, <-ended)
	}
}

// A job that comes into the queue as its batch is being paused, from an answer that
// is recorded at the same moment, ends when it is fetched and sends nothing.
func TestJobOfPausedBatchEnds(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	paused := b.batch(2, person)
	b.exec(`update batches set state = 'paused', paused_by = 'person' where id = $1`, paused)
	running := b.batch(2, func(i int) string { return "other" + person(i) })
	b.run(b.worker(quick), running)
	if b.jobs(paused) != 0 || b.outcomes(paused)[""] != 2 {
		t.Errorf("%d jobs of the paused batch are left, outcomes %v", b.jobs(paused), b.outcomes(paused))
	}
	expect.Equal(t, "people mailed", len(b.mails()), 2)
}

// A pause comes while an answer is recorded that frees people for another request:
// their jobs, which are not committed yet, are not left behind.
func TestPauseRacesAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultStatus, Status: 429, First: 1}}})
	batch := b.batch(5, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	one := b.read(batch)
	cfg := quick
	cfg.Create = ratelimit.Limit{Off: true}
	w := b.worker(cfg)
	must.OK(t, w.presence.register(t.Context()))
	r, err := w.claimer.round(t.Context(), 1)
	if err != nil || len(r.tickets) != 1 {
		t.Fatalf("%d requests, %v", len(r.tickets), err)
	}
	// Whoever inserts a job can't commit while this session holds the lock.
	b.exec(`create function stay() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock_shared(4711); return null; end'`)
	b.exec(`create constraint trigger stay after insert on river_job deferrable initially deferred for each row execute function stay()`)
	waiting := func() int {
		return b.waiting()
	}
	paused, sent := make(chan error, 1), make(chan struct{})
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `select pg_advisory_xact_lock(4711)`); err != nil {
			return err
		}
		go func() { w.sender.send(t.Context(), r.tickets[0]); close(sent) }()
		b.await("the answer is all but recorded", func() bool { return waiting() == 1 })
		go func() { paused <- Pause(t.Context(), b.pool, one, "maria") }()
		b.await("the pause waits, or has not waited", func() bool { return waiting() == 2 || len(paused) == 1 })
		return nil
	}))
	<-sent
	must.OK(t, <-paused)
	b.wantJobs(batch, 0)
	b.is("0", `select count(*) from attempt_people where open`)
}

// A batch is paused, resumed, cancelled and retried while three workers run, with
// others beside it; every row is accounted for, and nobody is mailed twice.
func TestControlWhileThreeWork(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{
		{Call: "bulk", Kind: sandbox.FaultCutAfter, Every: 5}, {Call: "create", Kind: sandbox.FaultStatus, Status: 500, Every: 4}}})
	beside := b.batch(200, func(i int) string { return "beside" + person(i) })
	batch := b.batch(900, person)
	b.exec(`update results set outcome = 'failed', decided_at = clock_timestamp(), reason = 'timeout' where batch_id = $1 and row_number <= 40`, batch)
	one := b.read(batch)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for range 3 {
		w := b.worker(quick)
		go func() { ended <- w.Run(ctx, nil) }()
	}
	again := func(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) error {
		_, err := Retry(ctx, pool, b, actor)
		return err
	}
	for step, do := range []func(context.Context, *pgxpool.Pool, *invitation.Batch, string) error{
		Pause, Resume, again, Pause, Resume, Cancel,
	} {
		before := b.outcomes(batch)["invited"]
		if step != 1 && step != 4 { // a resume follows its pause
			b.await("some more are invited", func() bool { return b.outcomes(batch)["invited"] >= before+30 })
		}
		if err := do(t.Context(), b.pool, one, "maria"); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	b.await("every row is decided", func() bool { return b.outcomes(batch)[""]+b.outcomes(beside)[""] == 0 })
	stop()
	for range 3 {
		expect.OK(t, <-ended)
	}
	got := b.outcomes(batch)
	if got["invited"] == 0 || got["cancelled"] == 0 || got["invited"]+got["cancelled"] != 900 {
		t.Errorf("outcomes %v, want some invited and the rest cancelled", got)
	}
	b.want(beside, tally{"invited": 200})
	b.proven(batch, beside)
}
