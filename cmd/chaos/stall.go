package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"bulkinvite/internal/postgres"
	"bulkinvite/internal/rig"
)

const (
	// stalledFor is how long a fleet may make no progress while it has work and budget. It is
	// longer than every intended wait of the program with a run's settings, except the backoff
	// after an outage. For that one see [stall.bound].
	stalledFor = 25 * time.Second
	// longestBackoff is the longest wait of a process after failures in a row.
	longestBackoff = time.Minute
)

// sample is what the fleet has done and has left to do at a moment.
type sample struct {
	at     time.Time
	done   int  // requests at Clerk, decided rows and resolved attempts; only grows
	work   bool // a row or an attempt can continue now
	budget bool // no limit is frozen
	excuse bool // the fault keeps every process from working
}

// stall finds times in which the fleet made no progress.
type stall struct {
	last    sample
	since   time.Time     // the last moment with progress, or at which progress was impossible
	outage  time.Time     // when the excuse began; zero if there is none
	grace   time.Duration // how long a backoff after the last outage may take
	longest time.Duration // the longest time without progress
	found   []string
	told    bool // the present stall is in found
}

// bound returns how long the fleet may make no progress now. A process that cannot reach a server
// waits longer after each failure. So its wait may be as long as the outage was, but not longer
// than longestBackoff.
func (s *stall) bound() time.Duration { return stalledFor + s.grace }

func (s *stall) see(now sample) {
	if s.last.at.IsZero() {
		s.last, s.since = now, now.at
	}
	switch {
	case now.excuse && s.outage.IsZero():
		s.outage = now.at
	case !now.excuse && !s.outage.IsZero():
		s.grace, s.outage = min(now.at.Sub(s.outage), longestBackoff), time.Time{}
	}
	if now.done != s.last.done && !now.excuse {
		s.grace = 0
	}
	if now.done != s.last.done || !now.work || !now.budget || now.excuse {
		s.since, s.told = now.at, false
	}
	s.last = now
	gap := now.at.Sub(s.since)
	s.longest = max(s.longest, gap)
	if gap > s.bound() && !s.told {
		s.told = true
		s.found = append(s.found, fmt.Sprintf("no progress for %s although there were work and budget", s.bound()))
	}
}

// watch samples the fleet until end is called.
type watch struct {
	mu      sync.Mutex
	excused bool
	stall   stall
	end     func()
}

// excuse sets whether the fault keeps every process from working now.
func (w *watch) excuse(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.excused = yes
}

// overlook begins to watch the run's fleet, on its own connection.
func (r *run) overlook() (*watch, error) {
	var err error
	if r.watched, err = postgres.Open(r.ctx, rig.WithParameter(r.URL, "pool_max_conns=1")); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	w := &watch{}
	var loop sync.WaitGroup
	loop.Go(func() {
		for rig.Sleep(ctx, 250*time.Millisecond) == nil {
			now, err := r.sample(ctx)
			if ctx.Err() != nil {
				return
			}
			w.mu.Lock()
			// The watch connects to the database and to Clerk directly. While it gets no answer, no
			// worker does.
			now.excuse = now.excuse || w.excused || err != nil
			w.stall.see(now)
			w.mu.Unlock()
		}
	})
	w.end = func() {
		cancel()
		loop.Wait()
	}
	return w, nil
}

// judge adds the stalls to the verdict.
func (w *watch) judge(v *verdict) {
	v.idle = w.stall.longest
	for _, what := range w.stall.found {
		v.add(stalled, rowID{}, "%s", what)
	}
}

// sample reads from the database and Clerk what was done and what is left.
func (r *run) sample(ctx context.Context) (sample, error) {
	now := sample{at: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	stats, err := r.Sandbox.Stats(ctx)
	if err != nil {
		return now, err
	}
	now.done = stats.Of("create", "bulk", "revoke")
	var done int
	var unread bool // Clerk's lists can't be read, so no row may be claimed
	err = r.watched.QueryRow(ctx, `
		select (select count(*) from results where outcome is not null) + (select count(*) from attempts where resolved_at is not null),
		       exists (select from results r join batches b on b.id = r.batch_id
		               where b.state = 'running' and r.outcome is null and r.withdrawn_by is null
		               and (r.not_before is null or r.not_before <= clock_timestamp()))
		       or exists (select from attempts where resolved_at is null and deadline < clock_timestamp()),
		       not exists (select from buckets where frozen_until > clock_timestamp()),
		       coalesce((select coalesce(http_status, 0) <> 200 and ended_at > clock_timestamp() - interval '10 s'
		                 from reads where ended_at is not null order by id desc limit 1), false)`).
		Scan(&done, &now.work, &now.budget, &unread)
	now.done += done
	now.excuse = unread
	return now, err
}
