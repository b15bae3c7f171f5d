package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/proof"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
)

// Run works until ctx is done. Then it lets requests under way end and be recorded, for 30 s at
// most, or for 10 s more than a request may take if that is longer. It also ends when idle returns
// true. It calls idle at most four times a second while something happens, and otherwise every five
// seconds. A nil idle never ends it. Run returns [ErrUnauthorized] if Clerk refuses the key; the
// rows stay undecided. It returns [ErrLinksHeld] if another process has taken over the file of
// links.
func (w *Worker) Run(ctx context.Context, idle func(context.Context) (bool, error)) error {
	leave, err := w.presence.attend(ctx)
	if err != nil {
		return err
	}
	defer leave()
	// The loops are cancelled when the run ends, for whatever reason. River's client and the
	// claimer continue until running jobs are done.
	working, stop := context.WithCancel(ctx)
	defer stop()
	if err := w.river.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the queue: %w", err)
	}
	var loops sync.WaitGroup
	begun := []func(context.Context){w.resolver.run, w.keeper.run, w.sweeps.run, w.reconciler.run, w.purgeLoop}
	if !w.cfg.OnlyRevokes {
		begun = append(begun, w.claimer.run, func(ctx context.Context) { w.gate.run(ctx, w.claimer.survey) })
	}
	for _, loop := range begun {
		loops.Go(func() { loop(working) })
	}
	err = w.watch(working, idle)
	stop()
	close(w.stopping)
	return errors.Join(err, w.shutDown(&loops))
}

// watch waits for the end of the run.
func (w *Worker) watch(ctx context.Context, idle func(context.Context) (bool, error)) error {
	often, seldom := w.cfg.paced(250*time.Millisecond), w.cfg.paced(5*time.Second)
	tick := time.NewTicker(often)
	defer tick.Stop()
	var asked time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.fatal:
			return err
		case <-w.cfg.Links.taken():
			return ErrLinksHeld
		case <-tick.C:
		}
		select {
		case <-w.active:
		default:
			if time.Since(asked) < seldom {
				continue
			}
		}
		asked = time.Now()
		err := w.tidy(ctx)
		if idle != nil {
			done, idleErr := idle(ctx)
			if done {
				return w.tidy(ctx) // what was decided after the last tidy
			}
			err = errors.Join(err, idleErr)
		}
		if err != nil && ctx.Err() == nil {
			w.log.Warn("look whether the work is done", "error", err)
		}
	}
}

// tidy does the housekeeping of batches and sweeps: it pauses batches that must be paused, finishes
// those whose rows are all decided, and completes cancels and sweeps.
func (w *Worker) tidy(ctx context.Context) error {
	chores, err := report.ReadChores(ctx, w.pool, w.cfg.Instance.ID)
	if err != nil {
		return err
	}
	if w.suspect.Swap(false) || chores.Canary {
		if err := w.judge(ctx); err != nil {
			w.suspect.Store(true)
			return err
		}
	}
	if chores.Zone {
		if err := w.pauseThose(ctx, "whose time zone is not known", batch.PauseZoneless); err != nil {
			return err
		}
	}
	if chores.Cancel {
		if _, err := ledger.CancelRows(ctx, w.pool, w.cfg.Instance.ID); err != nil {
			return err
		}
	}
	if chores.Follow {
		if err := follow(ctx, w.pool, w.cfg.Instance.ID); err != nil {
			return err
		}
	}
	if chores.Sweep {
		if err := revocation.FinishSweeps(ctx, w.pool, w.cfg.Instance.ID); err != nil {
			return err
		}
	}
	finished := 0
	if chores.Finish {
		if finished, err = batch.Finish(ctx, w.pool, w.cfg.Instance.ID); err != nil {
			return err
		}
	}
	if chores.Certify || chores.Cancel || finished > 0 {
		_, err = proof.Certify(ctx, w.pool, w.cfg.Instance.ID)
	}
	return err
}

func (w *Worker) shutDown(loops *sync.WaitGroup) error {
	ctx, cancel := context.WithTimeout(context.Background(), w.cfg.stopWithin())
	defer cancel()
	err := w.river.Stop(ctx)
	if err != nil {
		within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = w.river.StopAndCancel(within)
	}
	close(w.over)
	loops.Wait()
	if err != nil {
		return fmt.Errorf("stop the worker: %w", err)
	}
	return nil
}

// Idle reports whether an instance has nothing left to do: no running batch, no running sweep, no
// owed row, and no open attempt. It ignores held sweeps, and batches and owed rows whose links go
// to a file.
func Idle(ctx context.Context, pool *pgxpool.Pool, instance int64) (bool, error) {
	var idle bool
	var b pgx.Batch
	b.Queue(`
		select not exists (select from batches where instance_id = $1 and state = 'running' and links_file is null)
		   and not exists (select from sweeps where instance_id = $1 and apply and finished_at is null and not held)
		   and not exists (select from results r join batches b on b.id = r.batch_id and b.links_file is null where r.instance_id = $1 and r.revoke_sent is not null and r.outcome is null)
		   and not exists (select from attempts where instance_id = $1 and resolved_at is null)`, instance).QueryRow(func(row pgx.Row) error { return row.Scan(&idle) })
	if err := pool.SendBatch(ctx, &b).Close(); err != nil {
		return false, fmt.Errorf("look whether instance %d is idle: %w", instance, err)
	}
	return idle, nil
}
