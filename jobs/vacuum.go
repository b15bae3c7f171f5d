package jobs

import (
	"context"
	"sync/atomic"
	"time"
)

// vacuumer has PostgreSQL make room where rows were changed, so that those that
// are changed next are written there and not at the tables' ends. Autovacuum would,
// but looks once a minute, and by then there may be a hundred thousand of them.
type vacuumer struct {
	w     *Worker
	wrote atomic.Int64  // rows that were recorded since
	many  atomic.Int64  // when so many are, it is time
	time  chan struct{} // pokes it
}

// leastVacuum is how many rows make a vacuum worth its while, however few there are.
const leastVacuum = 2000

// vacuumPause is what passes before each at least: after it, every connection
// plans its statements anew.
const vacuumPause = time.Second

func newVacuumer(w *Worker) *vacuumer {
	v := &vacuumer{w: w, time: make(chan struct{}, 1)}
	v.many.Store(leastVacuum)
	return v
}

// note counts rows that were recorded.
func (v *vacuumer) note(rows int) {
	if v.wrote.Add(int64(rows)) >= v.many.Load() {
		poke(v.time)
	}
}

// run vacuums when it is time, until ctx is done.
func (v *vacuumer) run(ctx context.Context) {
	for sleep(ctx, vacuumPause) == nil {
		select {
		case <-ctx.Done():
			return
		case <-v.time:
		}
		v.wrote.Store(0)
		if err := v.vacuum(ctx); err != nil && ctx.Err() == nil {
			v.w.log.Warn("make room for rows", "error", err)
		}
	}
}

// vacuum takes the room alone: it reads the pages that changed, and leaves the
// indexes, of which it would have to read all, and the tables' ends, for which it
// would have to lock them, to autovacuum.
func (v *vacuumer) vacuum(ctx context.Context) error {
	_, err := v.w.pool.Exec(ctx, `vacuum (skip_locked, index_cleanup off, truncate off) results, attempts, attempt_people, river_job`)
	if err != nil {
		return err
	}
	var rows int64
	if err := v.w.pool.QueryRow(ctx, `select reltuples::bigint from pg_class where oid = 'results'::regclass`).Scan(&rows); err != nil {
		return err
	}
	v.many.Store(max(leastVacuum, rows/10))
	return nil
}
