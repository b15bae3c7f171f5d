package jobs

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
)

// whileResending makes a resend of a batch, and calls do before it commits. It
// commits once do has returned or waits for it.
func (b *bundle) whileResending(of *invitation.Batch, do func() error) {
	b.t.Helper()
	ended := make(chan error, 1)
	over := false
	must.OK(b.t, pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error {
		batch := invitation.Batch{Actor: "test", Priority: invitation.DefaultPriority}
		if _, _, err := InsertResend(b.t.Context(), tx, batch, of, 0); err != nil {
			return err
		}
		go func() { ended <- do() }()
		b.await("what goes on beside the resend", func() bool {
			select {
			case err := <-ended:
				over = true
				ended <- err
			default:
			}
			return over || b.count(`select count(*) from pg_stat_activity
				where datname = current_database() and wait_event_type = 'Lock'`) > 0
		})
		return nil
	}))
	must.OK(b.t, <-ended)
}

// settled works until nothing is left to do, and returns who has a pending
// invitation. Revocations are late, as after a failure of Clerk.
func (b *bundle) settled() map[string]bool {
	b.t.Helper()
	b.exec(`update revocations set not_before = clock_timestamp() + interval '3 s' where outcome is null`)
	idle := func(ctx context.Context) (bool, error) { return Idle(ctx, b.pool, b.instance.ID) }
	must.OK(b.t, b.worker(quick).Run(b.t.Context(), idle))
	return b.pendingAtClerk()
}

// TestResendWhileABatchIsTakenBack makes a resend at the moment at which its batch
// is undone, or a row of it corrected: nobody is invited again who is to have no
// invitation.
func TestResendWhileABatchIsTakenBack(t *testing.T) {
	t.Parallel()
	t.Run("undo", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{})
		of := b.sent(3)
		b.whileResending(of, func() error {
			_, err := Undo(t.Context(), b.pool, of, "maria")
			return err
		})
		if left := b.settled(); len(left) > 0 {
			t.Errorf("undone, and pending: %v", left)
		}
	})
	t.Run("correct", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{})
		of := b.sent(3)
		b.whileResending(of, func() error {
			_, err := Correct(t.Context(), b.pool, of, 2, "right@example.com", "right@example.com", "maria")
			return err
		})
		if left := b.settled(); left[person(1)] {
			t.Errorf("corrected, and pending: %v", left)
		}
	})
	t.Run("rescind", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{})
		of := b.sent(3)
		b.whileResending(of, func() error {
			sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true}
			_, err := Rescind(t.Context(), b.pool, sw, persons(1))
			return err
		})
		if left := b.settled(); left[person(1)] {
			t.Errorf("rescinded, and pending: %v", left)
		}
	})
	t.Run("undo under way", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{})
		of := b.sent(3)
		if _, err := Undo(t.Context(), b.pool, of, "maria"); err != nil {
			t.Fatal(err)
		}
		b.resend(of)
		if left := b.settled(); len(left) > 0 {
			t.Errorf("undone, and pending: %v", left)
		}
	})
}
