package batch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
)

func TestEnsureInstance(t *testing.T) {
	t.Parallel()
	l := ledgertest.New(t)
	expect.Equal(t, "the same instance", l.NewInstance("ins_one"), l.Instance)
	if other := l.NewInstance("ins_two"); other == l.Instance {
		t.Error("two instances are one")
	}
	l.Is("6", `select count(*) from buckets`)
}

// TestBatchByFile: a newer batch of the same file does not hide an older one that still runs, as
// after a retry.
func TestBatchByFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		states      string // of the batches of the file, the oldest first; discarded: a cancelled draft
		once, again int64  // the batch that is found, without again and with it; 0: none
	}{
		{"", 0, 0},
		{"discarded", 0, 0},
		{"draft", 1, 1},
		{"running", 1, 1},
		{"paused", 1, 1},
		{"done", 1, 0},
		{"cancelled", 1, 0},
		{"done done", 2, 0},
		{"done cancelled", 2, 0},
		{"done draft", 2, 2},
		{"done discarded", 1, 0},
		{"running discarded", 1, 1},
		{"running done", 1, 1},
		{"paused cancelled", 1, 1},
		{"running draft", 1, 1},
		{"running paused", 2, 2},
	} {
		l := ledgertest.New(t)
		for _, state := range strings.Fields(c.states) {
			id := l.BatchOf(invitation.Batch{FileSHA256: [32]byte{1}}, "jane")
			stored, started := state, state != "draft" && state != "discarded"
			if state == "discarded" {
				stored = "cancelled"
			}
			l.Exec(`update batches set state = $2, started_at = case when $3 then now() end where id = $1`, id, stored, started)
		}
		for again, want := range map[bool]int64{false: c.once, true: c.again} {
			b, err := batch.BatchByFile(t.Context(), l.Pool, l.Instance, [32]byte{1}, 0, again)
			must.OK(t, err)
			var got int64
			if b != nil {
				got = b.ID
			}
			expect.Equal(t, fmt.Sprintf("%q, again %t: the batch", c.states, again), got, want)
		}
	}
}

func TestBatchIsKept(t *testing.T) {
	t.Parallel()
	l := ledgertest.New(t)
	want := invitation.Batch{
		InstanceID: l.Instance, FileSHA256: [32]byte{1, 2, 3}, FileBytes: 42, Priority: 1, Preflight: true,
		Options: invitation.Options{RedirectURL: "https://app.example.com", ExpiresInDays: 7, Template: "invitation"},
	}
	id := l.BatchOf(want, "jane", "joe")
	got, err := batch.Batch(t.Context(), l.Pool, id)
	must.OK(t, err)
	if got.FileSHA256 != want.FileSHA256 || got.FileBytes != 42 || got.Priority != 1 || !got.Preflight || got.Options != want.Options || got.FileName != "hires.csv" ||
		got.State != invitation.Running || got.Rows != 2 || got.StartedAt.Before(got.CreatedAt) || !got.FinishedAt.IsZero() || !slices.Equal(got.Columns, []string{"email"}) {
		t.Errorf("got %+v", got)
	}
	if got, err := batch.BatchByFile(t.Context(), l.Pool, l.Instance, want.FileSHA256, 0, false); err != nil || got == nil || got.ID != id {
		t.Errorf("by its file: %+v, %v", got, err)
	}
	again := l.BatchOf(want, "jane")
	if got, err := batch.BatchByFile(t.Context(), l.Pool, l.Instance, want.FileSHA256, 0, false); err != nil || got == nil || got.ID != again {
		t.Errorf("by its file, the newest: %+v, %v", got, err)
	}
	if got, err := batch.BatchByFile(t.Context(), l.Pool, l.NewInstance("ins_two"), want.FileSHA256, 0, false); err != nil || got != nil {
		t.Errorf("at another instance: %+v, %v", got, err)
	}
	if _, err := batch.Batch(t.Context(), l.Pool, 99); !errors.Is(err, invitation.ErrNoBatch) {
		t.Errorf("no such batch: %v", err)
	}
	l.Is("{imported,started}", `select array_agg(action order by id) from events where batch_id = $1 and actor = 'maria'`, id)
	l.Is("2", `select priority from batches where id = $1`, l.Batch("max"))
}

// Two imports of one file wait for each other; others don't.
func TestLockFile(t *testing.T) {
	t.Parallel()
	l := ledgertest.New(t)
	done := make(chan error, 1)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := batch.LockFile(ctx, tx, l.Instance, [32]byte{1}); err != nil {
			return err
		}
		l.Tx(func(ctx context.Context, tx pgx.Tx) error {
			return batch.LockFile(ctx, tx, l.Instance, [32]byte{2})
		})
		l.Tx(func(ctx context.Context, tx pgx.Tx) error {
			return batch.LockFile(ctx, tx, l.Instance+1, [32]byte{1})
		})
		go func() {
			done <- pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error { return batch.LockFile(ctx, tx, l.Instance, [32]byte{1}) })
		}()
		l.AwaitBlocked()
		return nil
	})
	must.OK(t, <-done)
}

func TestFinish(t *testing.T) {
	t.Parallel()
	l := ledgertest.New(t)
	empty := l.Batch()
	l.Is("done", `select state from batches where id = $1`, empty)
	decided, half, paused, draft := l.Batch("a", "b"), l.Batch("c", "d"), l.Batch("e"), l.Batch("f")
	other := l.BatchOf(invitation.Batch{InstanceID: l.NewInstance("ins_two")}, "a")
	for _, id := range []invitation.RowID{ledgertest.Row(decided, 1), ledgertest.Row(decided, 2), ledgertest.Row(half, 1), ledgertest.Row(paused, 1), ledgertest.Row(draft, 1), ledgertest.Row(other, 1)} {
		l.Decide(id, invitation.Invited)
	}
	l.SetState(paused, invitation.Paused)
	l.SetState(draft, invitation.Draft)
	for _, want := range []int{2, 0} {
		if n, err := batch.Finish(t.Context(), l.Pool, l.Instance); err != nil || n != want {
			t.Errorf("%d batches were done, want %d: %v", n, want, err)
		}
	}
	l.Is(fmt.Sprintf("{%d,%d,%d}", empty, decided, paused), `select array_agg(id order by id) from batches where state = 'done' and finished_at is not null`)
	l.Is("1", `select count(*) from events where action = 'done' and batch_id = $1`, decided)
}

func TestPauseInstance(t *testing.T) {
	t.Parallel()
	l := ledgertest.New(t)
	one, two, draft, done := l.Batch("a"), l.Batch("b"), l.Batch("c"), l.Batch()
	l.SetState(draft, invitation.Draft)
	other := l.BatchOf(invitation.Batch{InstanceID: l.NewInstance("ins_two")}, "a")
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		ids, err := batch.PauseInstance(ctx, tx, l.Instance, "user_quota_exceeded")
		if slices.Sort(ids); err == nil && !slices.Equal(ids, []int64{one, two}) {
			t.Errorf("paused %v, want %v", ids, []int64{one, two})
		}
		return err
	})
	l.Is("2", `select count(*) from batches where state = 'paused' and state_reason = 'user_quota_exceeded' and id = any($1)`, []int64{one, two})
	l.Is("2", `select count(*) from events where action = 'paused' and details->>'reason' = 'user_quota_exceeded'`)
	for id, want := range map[int64]string{draft: "draft", done: "done", other: "running"} {
		l.Is(want, `select state from batches where id = $1`, id)
	}
}
