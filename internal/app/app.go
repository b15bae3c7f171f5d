// Package app has the use cases that command, page and API share. Each method checks the policy of
// its use case and makes the change. It returns typed errors, which each front end presents in its
// own words.
package app

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

// App runs use cases against a database.
type App struct {
	Pool     *pgxpool.Pool
	Instance invitation.Instance // of the key; zero without a key: such a command may change a batch of any instance
	Real     bool                // mail reaches people: a production instance, or a live key
}

// OtherInstanceError says that a batch or a sweep belongs to another instance of Clerk than the key.
type OtherInstanceError struct {
	What string // "batch" or "sweep"
	ID   int64
}

// Error names the batch or sweep.
func (e *OtherInstanceError) Error() string {
	return fmt.Sprintf("%s %d belongs to another instance of Clerk than the key", e.What, e.ID)
}

// Owns reports whether the key is for an instance. Without a key it is true for all.
func (a *App) Owns(instance int64) bool { return a.Instance.ID == 0 || a.Instance.ID == instance }

// Batch returns a batch that the key may send, undo or correct. It fails with
// [invitation.ErrNoBatch] or an [OtherInstanceError].
func (a *App) Batch(ctx context.Context, id int64) (*invitation.Batch, error) {
	b, err := batch.Batch(ctx, a.Pool, id)
	if err != nil {
		return nil, err
	}
	return b, a.checkBatch(b)
}

func (a *App) checkBatch(b *invitation.Batch) error {
	if !a.Owns(b.InstanceID) {
		return &OtherInstanceError{"batch", b.ID}
	}
	return nil
}

// CheckSweep returns an [OtherInstanceError] if the key may not let a sweep revoke.
func (a *App) CheckSweep(sw *revocation.Sweep) error {
	if !a.Owns(sw.InstanceID) {
		return &OtherInstanceError{"sweep", sw.ID}
	}
	return nil
}

// Pause stops a running batch until it is resumed. Requests that were claimed before are sent. Like
// Resume, Cancel, Discard and Retry, it changes a batch of any instance, and fails with
// [invitation.ErrNoBatch], or with a [batch.StateError] if the state does not allow it.
func (a *App) Pause(ctx context.Context, id int64, actor string) error {
	return a.change(ctx, id, actor, jobs.Pause)
}

// Resume lets a paused batch run again, no matter who or what paused it.
func (a *App) Resume(ctx context.Context, id int64, actor string) error {
	return a.change(ctx, id, actor, jobs.Resume)
}

// Cancel stops a batch for good, also a draft. People who were invited stay invited.
func (a *App) Cancel(ctx context.Context, id int64, actor string) error {
	return a.change(ctx, id, actor, jobs.Cancel)
}

// Discard stops a draft for good. It refuses a batch that somebody has started meanwhile.
func (a *App) Discard(ctx context.Context, id int64, actor string) error {
	return a.change(ctx, id, actor, jobs.Discard)
}

// Retry opens the failed rows of a batch again, and the rejected ones too if rejected is true. It
// returns how many rows it opened.
func (a *App) Retry(ctx context.Context, id int64, rejected bool, actor string) (rows int, err error) {
	var also []invitation.Outcome
	if rejected {
		also = []invitation.Outcome{invitation.Rejected}
	}
	retry := func(ctx context.Context, pool *pgxpool.Pool, b *invitation.Batch, actor string) (err error) {
		rows, err = jobs.Retry(ctx, pool, b, actor, also...)
		return err
	}
	err = a.change(ctx, id, actor, retry)
	return rows, err
}

func (a *App) change(ctx context.Context, id int64, actor string,
	do func(context.Context, *pgxpool.Pool, *invitation.Batch, string) error) error {
	b, err := batch.Batch(ctx, a.Pool, id)
	if err != nil {
		return err
	}
	return do(ctx, a.Pool, b, actor)
}
