package jobs

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/invitation"
)

// until runs a worker until the batch is in a state.
func (b *bundle) until(w *Worker, batch int64, state invitation.State) *invitation.Batch {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var one *invitation.Batch
	err := w.Run(ctx, func(ctx context.Context) (_ bool, err error) {
		one, err = b.store.Batch(ctx, batch)
		return err == nil && one.State == state, err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if one == nil || one.State != state {
		b.t.Fatalf("batch %d did not become %s: %v", batch, state, b.outcomes(batch))
	}
	return one
}

func (b *bundle) jobs(batch int64) int {
	b.t.Helper()
	var n int
	err := b.pool.QueryRow(b.t.Context(), `select count(*) from river_job where kind = 'invite' and state in ('available', 'scheduled', 'retryable')
		and (args->>'batch')::bigint = $1`, batch).Scan(&n)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
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
		if err := w.tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	state := func() invitation.State {
		t.Helper()
		one, err := b.store.Batch(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
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
	if got := state(); got != invitation.Paused {
		t.Errorf("with 10 of 20 rows rejected the batch is %s, want paused", got)
	}
}

func TestCanary(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(60, person)
	if _, err := b.pool.Exec(t.Context(), `update batches set canary = 7, canary_row = 7 where id = $1`, batch); err != nil {
		t.Fatal(err)
	}
	one := b.until(b.worker(quick), batch, invitation.Paused)
	if got := b.outcomes(batch); got["invited"] != 7 {
		t.Errorf("outcomes %v after the canary, want 7 invited", got)
	}
	if err := Resume(t.Context(), b.pool, one, "maria"); err != nil {
		t.Fatal(err)
	}
	b.run(b.worker(quick), batch)
	if got := b.outcomes(batch); got["invited"] != 60 {
		t.Errorf("outcomes %v after the resume, want 60 invited", got)
	}
	b.proven(batch)
}

// Cancel decides what has no open attempt at once, and the rest when it is read.
func TestCancelWhileWorking(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}},
		Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultCutAfter, Every: 2}, {Call: "create", Kind: sandbox.FaultCutBefore, Every: 2}}})
	batch := b.batch(800, person)
	one, err := b.store.Batch(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	cancelled := false
	err = b.worker(quick).Run(ctx, func(ctx context.Context) (bool, error) {
		if got := b.outcomes(batch); !cancelled && got["invited"] > 30 {
			cancelled = true
			if err := Cancel(ctx, b.pool, one, "maria"); err != nil {
				return false, err
			}
		}
		return cancelled && b.outcomes(batch)[""] == 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := b.outcomes(batch)
	if got["cancelled"] == 0 || got["invited"] == 0 || got["cancelled"]+got["invited"] != 800 {
		t.Errorf("outcomes %v, want some invited and the rest cancelled", got)
	}
	if n := b.jobs(batch); n != 0 {
		t.Errorf("%d jobs of a cancelled batch are left", n)
	}
	b.proven(batch)
}
