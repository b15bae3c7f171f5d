// Package metrics tells Prometheus how an instance and its workers are.
//
// What the fleet has in common comes from the database, which any process may be
// asked for; what a process does itself, the requests that it sends to Clerk, it
// counts. Labels are words of the program alone: no id, address or name.
package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bulkinvite/clerk"
	"bulkinvite/invitation"
)

// Config says what is told.
type Config struct {
	Instance       invitation.Instance
	Limits         invitation.Limits
	RequestTimeout time.Duration // how long a request may take: until then a lease weighs that was not settled
	Version        string        // of the program
	Log            *slog.Logger
}

// Requests counts the requests that this process sends to Clerk.
type Requests struct {
	answers *prometheus.CounterVec
	took    *prometheus.HistogramVec
}

// NewRequests returns counters that nothing was counted in.
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
	// An alert goes by the first of these: a counter that begins with 1 has not
	// increased as far as Prometheus can tell.
	for _, call := range clerk.Calls {
		r.answers.WithLabelValues(call, clerk.Unauthorized.String())
	}
	return r
}

// Answered counts an answer. It is what clerk.Config.Answered takes.
func (r *Requests) Answered(a clerk.Answer) {
	r.answers.WithLabelValues(a.Call, a.Class.String()).Inc()
	if a.Sent {
		r.took.WithLabelValues(a.Call).Observe(a.Ended.Sub(a.Begun).Seconds())
	}
}

// New returns a registry of all that there is to tell.
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

// Handler serves a registry.
func Handler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r, EnableOpenMetrics: true})
}
