package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"bulkinvite/internal/metrics"
	"bulkinvite/jobs"
)

// workerFlags are what processes have in common that stay workers.
type workerFlags struct {
	WebhookURL     string        `name:"webhook-url" env:"BULKINVITE_WEBHOOK_URL" placeholder:"URL" help:"Tell this URL when a batch ends or pauses itself and when a sweep is held, signed with $$BULKINVITE_WEBHOOK_SECRET. Default: nobody is told."`
	ReconcileEvery time.Duration `default:"15m" env:"BULKINVITE_RECONCILE_EVERY" placeholder:"TIME" help:"How often a worker holds everything at Clerk against our rows; 0: never. Default: 15m."`
}

// webhookVariable holds the secret that a webhook's receiver shares with us.
const webhookVariable = "BULKINVITE_WEBHOOK_SECRET"

// webhook reads where notices go; nil: nobody is told. It refuses a flag of these
// that can't be followed.
func (f *workerFlags) webhook() (*jobs.Webhook, error) {
	if f.ReconcileEvery < 0 {
		return nil, usage(fmt.Errorf("--reconcile-every=%s must be a time such as 15m, or 0 for never", f.ReconcileEvery))
	}
	if f.WebhookURL == "" {
		return nil, nil
	}
	h, err := jobs.NewWebhook(f.WebhookURL, os.Getenv(webhookVariable))
	if err != nil {
		return nil, fail(exitUsage, "webhook", "--webhook-url https://host/path, and "+webhookVariable+"=whsec_... as the receiver has it; see docs/notices.md", "%w", err)
	}
	return h, nil
}

type workCmd struct {
	workerFlags

	UntilIdle      bool   `help:"End when nothing is left to do. Default: off."`
	SweepAt        string `placeholder:"CRON" help:"Sweep at these times: \"0 2 * * *\" is each night at two. Default: never."`
	SweepOlderThan age    `default:"14d" placeholder:"AGE" help:"How old a pending invitation must be then, where its batch says nothing. Default: 14d."`
	SweepScope     string `enum:"ours,all" default:"ours" placeholder:"ours|all" help:"Take back what we invited, or all at the instance. Default: ours."`
	PurgeOlderThan age    `env:"BULKINVITE_PURGE_OLDER_THAN" placeholder:"AGE" help:"Remove addresses and original rows of batches that ended longer ago, such as 365d, as purge does. Default: never."`
	MetricsListen  string `env:"BULKINVITE_METRICS_LISTEN" placeholder:"ADDRESS" help:"Serve /metrics for Prometheus here, to whoever asks: 127.0.0.1:9090. Default: nowhere."`
	TZ             string `name:"tz" placeholder:"ZONE" help:"Time zone of --sweep-at, such as Europe/Berlin. Default: the machine's."`
}

// Help is shown before the flags.
func (workCmd) Help() string {
	return `Examples:

    bulkinvite work
    bulkinvite work --until-idle
    bulkinvite work --sweep-at "0 2 * * *" --tz Europe/Berlin

Works on batches of the instance that the key belongs to. At SIGTERM or Ctrl-C it records what is in flight and exits with 0; a second signal ends it at once.`
}

// Run works until a signal comes or, if so asked, until nothing is left.
func (c *workCmd) Run(ctx context.Context, p *program) error {
	if c.SweepAt != "" {
		if _, err := jobs.ParseSchedule(c.SweepAt, c.TZ); err != nil {
			return usage(fmt.Errorf("--sweep-at, --tz: %w", err))
		}
	}
	webhook, err := c.webhook()
	if err != nil {
		return err
	}
	at, err := p.connection(ctx)
	if err != nil {
		return err
	}
	config := p.workerConfig(at.instance)
	config.Webhook, config.ReconcileEvery = webhook, c.ReconcileEvery
	config.SweepOlderThan, config.SweepScope = time.Duration(c.SweepOlderThan), c.SweepScope
	config.SweepAt, config.TZ = c.SweepAt, c.TZ
	config.PurgeOlderThan = time.Duration(c.PurgeOlderThan)
	worker, err := jobs.New(at.pool, at.target.api, config)
	if err != nil {
		return err
	}
	if c.MetricsListen != "" {
		address, err := p.listen("the metrics", c.MetricsListen, at.metricsServer())
		if err != nil {
			return err
		}
		p.log.Info("serving metrics", "address", address.String())
	}
	p.log.Info("working", "instance", at.target.clerkID, "environment", at.target.environment)
	var idle func(context.Context) (bool, error)
	if c.UntilIdle {
		idle = func(ctx context.Context) (bool, error) { return jobs.Idle(ctx, at.pool, at.instance.ID) }
	}
	return workerEnded(ctx, worker.Run(ctx, idle))
}

// workerEnded is what the end of a worker comes to that was to go on until it was told to end.
func workerEnded(told context.Context, err error) error {
	if told.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // that was before it had begun
	}
	return keyRefused(err, "nothing is lost: start it again with a good key in "+keyVariable, "")
}

// metricsServer serves what Prometheus asks of a worker, and what a scheduler
// of containers asks: whether the process still answers.
func (c *connection) metricsServer() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", c.metrics())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

// metrics serves what Prometheus asks of any process.
func (c *connection) metrics() http.Handler {
	return metrics.Handler(metrics.New(c.pool, c.requests, metrics.Config{Instance: c.instance, Limits: c.limits,
		RequestTimeout: c.settings.RequestTimeout, Version: built().Version, Log: c.log}))
}
