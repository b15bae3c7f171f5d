package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/lease"
	"bulkinvite/internal/ledger"
)

// process is what the parts of a worker share. Its fields do not change after [New].
type process struct {
	pool     *pgxpool.Pool
	picker   *ledger.Picker
	api      *clerk.Client
	cfg      Config
	log      *slog.Logger
	id       string
	resolve  chan struct{} // wakes the resolver
	active   chan struct{} // wakes the goroutine that watches progress
	fatal    chan error    // ends Run
	stopping chan struct{} // closed when the run ends
	over     chan struct{} // closed when no job runs any more
}

func newProcess(pool *pgxpool.Pool, api *clerk.Client, cfg Config) *process {
	id := processID()
	var links int64
	if cfg.Links != nil {
		links = cfg.Links.Batch
	}
	return &process{
		pool: pool, picker: ledger.NewPicker(pool, links), api: api, cfg: cfg, log: cfg.Log.With("worker", id), id: id,
		resolve: make(chan struct{}, 1), active: make(chan struct{}, 1), fatal: make(chan error, 1),
		stopping: make(chan struct{}), over: make(chan struct{}),
	}
}

// take takes the lease of a task that one process of the instance does at a time. It returns nil
// while another process has it.
func (p *process) take(ctx context.Context, task string) (*lease.Lease, error) {
	held, err := lease.TakeFor(ctx, p.cfg.paced(lease.TTL), p.pool, p.cfg.Instance.ID, task, p.id)
	if held != nil {
		failpoint("hold_" + task)
	}
	return held, err
}

// persist repeats a write until it succeeds, because PostgreSQL may be away for minutes. If the
// process ends before, the attempt stays open and is resolved by reading. persist logs the first
// failure.
func (p *process) persist(ctx context.Context, write func(context.Context) error) {
	waits := p.cfg.doubling(100*time.Millisecond, 5*time.Second)
	for first := true; ; first = false {
		within, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := write(within)
		cancel()
		if err == nil || errors.Is(err, lease.ErrLost) { // another process must record it
			return
		}
		if first {
			p.log.Warn("the ledger can't be written; it is tried until it can", "error", err)
		}
		select {
		case <-time.After(waits.NextBackOff()):
		case <-p.over:
			return
		}
	}
}

// stop ends Run with an error. Only the first error counts.
func (p *process) stop(err error) {
	select {
	case p.fatal <- err:
	default:
	}
}

// poke wakes the receiver of c once, no matter how often it is called meanwhile.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
