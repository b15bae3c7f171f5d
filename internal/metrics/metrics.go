// Package metrics shows the state of an instance and its workers to Prometheus.
//
// What all processes share comes from the database, so any process shows the same. Each process
// counts its own requests to Clerk. Labels are the program's own terms and never contain an id,
// address or name.
//
// It may import jobs, report, clerk, invitation and ratelimit. Start reading at [New]; state.go reads
// the database.
package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
)

// Config says which instance is shown, and its limits.
type Config struct {
	Instance invitation.Instance // whose batches, budgets and queues are shown
	Limits   invitation.Limits   // the limits of this process
	// RequestTimeout is how long a request to Clerk may take. A lease of the general limit that its
	// process never settled counts as settled this long after the end of its use.
	RequestTimeout time.Duration
	Version        string       // of the program
	Log            *slog.Logger // gets a warning if the database can't be read; must not be nil
}

// Requests counts the requests that this process sends to Clerk.
type Requests struct {
	answers *prometheus.CounterVec
	took    *prometheus.HistogramVec
}

// NewRequests returns counters at zero.
func NewRequests() *Requests {
	r := &Requests{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bulkinvite_clerk_requests_total", Help: "Requests of this process to Clerk, by call and by what the answer means.",
		}, []string{"call", "answer"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "bulkinvite_clerk_request_duration_seconds", Help: "How long requests of this process to Clerk took that were sent, lost answers included.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"call"}),
	}
	// An alert uses this label value. If a counter appears with the value 1, Prometheus sees no
	// increase, so it has to exist with 0 before.
	for _, call := range clerk.Calls {
		r.answers.WithLabelValues(call, clerk.Unauthorized.String())
	}
	return r
}

// Answered counts an answer. It has the type of clerk.Config.Answered.
func (r *Requests) Answered(a clerk.Answer) {
	r.answers.WithLabelValues(a.Call, a.Class.String()).Inc()
	if a.Sent {
		r.took.WithLabelValues(a.Call).Observe(a.Ended.Sub(a.Begun).Seconds())
	}
}

// New returns a registry of all metrics.
func New(pool *pgxpool.Pool, requests *Requests, cfg Config) *prometheus.Registry {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "bulkinvite_build_info", Help: "Always 1; the labels say which program this is, and for which kind of instance it works.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "environment": cfg.Instance.Environment},
	})
	info.Set(1)
	r := prometheus.NewRegistry()
	r.MustRegister(info, requests.answers, requests.took, newState(pool, cfg),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler serves the metrics of a registry over HTTP.
func Handler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r, EnableOpenMetrics: true})
}
