package metrics

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/jobs"
	"bulkinvite/ratelimit"
)

// fresh is how long values from the database are reused, so that many scrapers cost as much as one.
// patience is how long a scrape waits for the database.
const (
	fresh    = 10 * time.Second
	patience = 8 * time.Second
)

// state collects the metrics that come from the database.
type state struct {
	pool *pgxpool.Pool
	cfg  Config
	now  func() time.Time

	mu      sync.Mutex
	last    []prometheus.Metric
	lastAt  time.Time
	lastErr error
	over    map[int64]counted // batches that have ended
}

// counted are the final outcomes of a batch that has ended. They change only if a retry opens the
// batch again, which clears its finished time.
type counted struct {
	finished time.Time
	outcomes invitation.Counts
}

func newState(pool *pgxpool.Pool, cfg Config) *state {
	return &state{pool: pool, cfg: cfg, now: time.Now, over: map[int64]counted{}}
}

// gauge describes a gauge whose value comes from the database.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("bulkinvite_"+name, help, labels, nil)
}

var (
	up            = gauge("database_up", "1: the database was asked within the last seconds; 0: it does not answer, and what it says is missing here.")
	rows          = gauge("rows", "Rows of all batches, by outcome; undecided ones too.", "outcome")
	waiting       = gauge("rows_waiting", "Undecided rows of running batches.")
	oldest        = gauge("oldest_waiting_seconds", "How long ago the oldest batch began that has undecided rows, runs, and may send at this hour; 0: there is none.")
	batches       = gauge("batches", "Batches, by state: running and paused.", "state")
	queue         = gauge("jobs", "Jobs of the queue that are not over, by kind and by River's state.", "kind", "state")
	budgetLimit   = gauge("budget_limit", "Requests that may be made in a window.", "bucket")
	budgetUsed    = gauge("budget_used", "Requests that weigh on a limit now.", "bucket")
	budgetFree    = gauge("budget_free", "Requests that may start now.", "bucket")
	budgetRefill  = gauge("budget_refill_seconds", "How long until a request may start; 0: now.", "bucket")
	budgetCeiling = gauge("budget_ceiling", "The limit that was set; earlier versions showed what Clerk seemed to allow where that was less.", "bucket")
	frozen        = gauge("budget_frozen", "1: a 429 closed the bucket for the whole fleet.", "bucket")
	unknown       = gauge("attempts_unknown", "Requests of which it is not known what they did at Clerk, since their answer was lost or did not say.")
	lost          = gauge("oldest_unknown_seconds", "How long ago the oldest of them began; 0: there is none.")
	workers       = gauge("workers", "Worker processes that were heard of within a minute.")
	sweeps        = gauge("sweeps", "Sweeps that are not over: running, or held until a person allows them.", "state")
	swept         = gauge("sweep_last_success_timestamp_seconds", "When the last sweep of stale invitations came to its end; 0: never.")
	taken         = gauge("revocations", "Invitations that sweeps were to take back, by what came of them, as of each sweep's end.", "outcome")
	reconciled    = gauge("reconcile_last_success_timestamp_seconds", "When the last complete reading of all invitations at Clerk began; 0: never.")
	lag           = gauge("reconcile_lag_seconds", "How long ago that was, or that the instance was first watched.")
	drift         = gauge("drift", "Invitations of which Clerk and our rows tell different stories, by kind.", "kind")

	lists = gauge("lists_read_seconds", "How long the last reading of the lists of invitations took that guards claims, "+
		"during which nobody is invited; 0: none ended within an hour.")

	all = []*prometheus.Desc{up, rows, waiting, oldest, batches, queue, budgetLimit, budgetUsed, budgetFree, budgetRefill, budgetCeiling, frozen,
		unknown, lost, workers, sweeps, swept, taken, reconciled, lag, drift, lists}
)

// Describe sends the description of each metric. It is part of prometheus.Collector.
func (s *state) Describe(c chan<- *prometheus.Desc) {
	for _, d := range all {
		c <- d
	}
}

// Collect sends values from the database that are at most 10 s old. If the database does not
// answer, it sends only database_up with 0. It is part of prometheus.Collector.
func (s *state) Collect(c chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(s.lastAt) >= fresh || s.lastErr != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.last, s.lastErr = s.read(ctx)
		s.lastAt = s.now()
		if s.lastErr != nil {
			s.cfg.Log.Warn("read the database for metrics", "error", s.lastErr)
		}
	}
	if s.lastErr != nil {
		c <- value(up, 0)
		return
	}
	c <- value(up, 1)
	for _, m := range s.last {
		c <- m
	}
}

func value(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s *state) read(ctx context.Context) ([]prometheus.Metric, error) {
	health, err := s.health(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, read := range []func(context.Context) ([]prometheus.Metric, error){s.outcomes, s.jobs, s.budget} {
		more, err := read(ctx)
		health, errs = append(health, more...), append(errs, err)
	}
	return health, errors.Join(errs...)
}

func (s *state) health(ctx context.Context) ([]prometheus.Metric, error) {
	h, err := report.ReadHealth(ctx, s.pool, s.cfg.Instance.ID)
	if err != nil {
		return nil, err
	}
	told := []prometheus.Metric{
		value(waiting, float64(h.Waiting)), value(oldest, h.Oldest.Seconds()),
		value(unknown, float64(h.Unknown)), value(lost, h.Lost.Seconds()),
		value(workers, float64(h.Workers)), value(lists, h.Lists.Seconds()),
		value(sweeps, float64(h.Held), "held"), value(sweeps, float64(h.Sweeping), "running"),
		value(swept, seconds(h.Swept)), value(reconciled, seconds(h.Read)), value(lag, h.Unread.Seconds()),
		value(drift, float64(h.Drift.Unexplained), "unexplained"), value(drift, float64(h.Drift.Gone), "gone"), value(drift, float64(h.Drift.PendingAgain), "pending_again"),
	}
	for state, n := range h.Batches {
		told = append(told, value(batches, float64(n), string(state)))
	}
	for what, n := range h.Taken {
		told = append(told, value(taken, float64(n), what))
	}
	return told, nil
}

// seconds returns a time in Prometheus's form, Unix seconds. Zero means never.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// outcomes counts the rows of all batches. It counts the rows of an ended batch once, since they
// don't change, and those of other batches with an index.
func (s *state) outcomes(ctx context.Context) ([]prometheus.Metric, error) {
	ends, err := report.Ends(ctx, s.pool, s.cfg.Instance.ID)
	if err != nil {
		return nil, err
	}
	sum, undecided := invitation.Counts{}, 0
	for _, b := range ends {
		counts, known := s.over[b.ID]
		if b.FinishedAt == nil || !known || !counts.finished.Equal(*b.FinishedAt) {
			tally, err := report.Tally(ctx, s.pool, b.ID)
			if err != nil {
				return nil, err
			}
			counts.outcomes = tally.Outcomes
			undecided += tally.Undecided
			if b.FinishedAt != nil && tally.Undecided == 0 {
				counts.finished = *b.FinishedAt
				s.over[b.ID] = counts
			}
		}
		for outcome, n := range counts.outcomes {
			sum[outcome] += n
		}
	}
	told := []prometheus.Metric{value(rows, float64(undecided), "undecided")}
	for _, outcome := range invitation.Outcomes {
		told = append(told, value(rows, float64(sum[outcome]), string(outcome)))
	}
	return told, nil
}

func (s *state) jobs(ctx context.Context) ([]prometheus.Metric, error) {
	depths, err := jobs.Depths(ctx, s.pool, s.cfg.Instance.ID)
	if err != nil {
		return nil, err
	}
	var told []prometheus.Metric
	for _, d := range depths {
		told = append(told, value(queue, float64(d.Jobs), d.Kind, d.State))
	}
	return told, nil
}

func (s *state) budget(ctx context.Context) ([]prometheus.Metric, error) {
	var told []prometheus.Metric
	for name, limit := range map[string]ratelimit.Limit{
		ratelimit.Create: s.cfg.Limits.Create, ratelimit.Bulk: s.cfg.Limits.Bulk, ratelimit.GeneralCall: s.cfg.Limits.General,
	} {
		if limit.Off {
			continue
		}
		b, err := ratelimit.Count(ctx, s.pool, s.cfg.Instance.ID, name, limit)
		if err != nil {
			return nil, err
		}
		closed := 0.0
		if !b.Frozen.IsZero() {
			closed = 1
		}
		told = append(told, value(frozen, closed, name))
		if limit = b.Limit; name == ratelimit.GeneralCall {
			limit = ratelimit.Strictest(b.Obeyed)
		}
		if limit.None {
			continue
		}
		if name == ratelimit.GeneralCall {
			if b.Weighs, err = ratelimit.Leased(ctx, s.pool, s.cfg.Instance.ID, limit, s.cfg.RequestTimeout); err != nil {
				return nil, err
			}
			b.Free = min(b.Free, max(0, limit.N-b.Weighs))
		}
		refill := 0.0
		if b.Free == 0 {
			refill = max(0, b.Opens.Sub(b.Now).Seconds())
		}
		told = append(told, value(budgetLimit, float64(limit.N), name), value(budgetUsed, float64(b.Weighs), name),
			value(budgetFree, float64(b.Free), name), value(budgetRefill, refill, name), value(budgetCeiling, float64(limit.N), name))
	}
	return told, nil
}
