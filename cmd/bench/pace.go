package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// leastSweep is what a sweep is to use of the general limit.
const leastSweep = 0.97

// The general limit of a production instance of Clerk.
const (
	generalLimit  = 1000
	generalWindow = 10 * time.Second
)

// sweeps is how much of the general limit a sweep uses.
type sweeps struct {
	runs, windows int
	used          []float64 // requests a second, of revokes and reads, within the windows from the first revoke on
}

// measure has all runs sweep at one time, each with a sandbox and a database of
// its own: they mostly wait.
func (b *sweeps) measure(ctx context.Context, bench *bench) (err error) {
	var stages []*stage
	defer func() {
		for _, s := range stages {
			err = errors.Join(err, s.close())
		}
	}()
	limit := fmt.Sprintf("--limit-general=%d/%s", generalLimit, generalWindow)
	for range b.runs {
		s, err := bench.stage(ctx, conditions{mode: "sliding", window: time.Hour, sandbox: []string{limit}})
		if err != nil {
			return err
		}
		stages = append(stages, s)
		if err := s.pending(ctx, b.windows*generalLimit+generalLimit/10); err != nil { // some are left for later
			return err
		}
	}
	for _, s := range stages {
		args := []string{"sweep", "--older-than=1h", "--apply", "--allow", "--json", "--log-level=warn", limit}
		p, err := rig.Launch(ctx, s.bench.Binary, s.env, filepath.Join(s.dir, "sweep.log"), nil, args...)
		if err != nil {
			return err
		}
		s.workers = append(s.workers, p)
	}
	for _, s := range stages {
		if err := s.wait(ctx); err != nil {
			return err
		}
		seen, err := s.standin.record(ctx)
		if err != nil {
			return err
		}
		used, refused := within(seen.requests, time.Duration(b.windows)*generalWindow)
		if refused > 0 {
			return fmt.Errorf("the sandbox refused %d requests of a sweep: it went over its limit", refused)
		}
		b.used = append(b.used, float64(used)/(float64(b.windows)*generalWindow.Seconds()))
		fmt.Printf("sweep: %s requests in %d windows of %s\n", grouped(used), b.windows, generalWindow)
	}
	return nil
}

// within counts the requests of the general limit that come so long from the
// first revoke on, and those of all that were refused.
func within(requests []request, span time.Duration) (n, refused int) {
	var begin time.Time
	for _, q := range requests {
		if q.Status == 429 {
			refused++
		}
		if begin.IsZero() && q.Call == "revoke" {
			begin = q.At
		}
		if !begin.IsZero() && !q.creates() && q.At.Before(begin.Add(span)) {
			n++
		}
	}
	return n, refused
}

func (b *sweeps) figures() []figure {
	work := fmt.Sprintf("sweep for %d windows, %s revocations", b.windows, grouped(b.windows*generalLimit))
	return []figure{{work: work, ours: b.used, beside: fmt.Sprintf("the general limit, %s/%s", grouped(generalLimit), generalWindow),
		limit: []float64{generalLimit / generalWindow.Seconds()}, unit: perSecond("requests"), least: leastSweep}}
}
