//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/rig"
)

// each runs a test with both modes of window and with each number of processes, all in parallel. No
// other test runs at the same time, because these tests measure time.
func each(t *testing.T, processes []int, test func(t *testing.T, mode string, processes int)) {
	for _, mode := range []string{"sliding", "fixed"} {
		for _, n := range processes {
			t.Run(fmt.Sprintf("%s, %d processes", mode, n), func(t *testing.T) {
				t.Parallel()
				test(t, mode, n)
			})
		}
	}
}

// TestBudget invites as many people as one window, and ten windows, allow. Each window must be used
// fully within a second of its opening, and the sandbox must refuse nothing.
func TestBudget(t *testing.T) {
	each(t, []int{1, 4}, func(t *testing.T, mode string, processes int) {
		for _, windows := range []int{1, 10} {
			s := on(t, rig.Conditions{Mode: mode, Window: window})
			people := windows * rig.PerWindow
			must(t, s.Import(s.ctx, rig.Crowd("person", people)))
			must(t, s.Work(s.ctx, processes))
			must(t, s.Wait(s.ctx))
			must(t, s.Whole(s.ctx, people))
			seen := s.record()
			s.unthrottled(seen)
			if n := seen.Invited(window); n != rig.PerWindow {
				t.Errorf("%d people invited in the first window, want %d", n, rig.PerWindow)
			}
			if late := late(seen, s.Weight()); late >= time.Second {
				t.Errorf("a window was used %s after it opened", late)
			}
			ideal := time.Duration(windows-1) * s.Weight()
			took := seen.Invitations[len(seen.Invitations)-1].CreatedAt.Sub(seen.Begin())
			if windows > 1 && took > ideal+ideal/20 {
				t.Errorf("%d windows took %s, want at most 5 %% more than %s", windows, took, ideal)
			}
		}
	})
}

// late returns the longest delay of a window's first request. That request may leave once the first
// request of the window before no longer counts, which is weight after that request arrived.
func late(seen *rig.Record, weight time.Duration) (late time.Duration) {
	const requests = rig.Singles + rig.Bulks
	creates := seen.Sent(rig.Creates...)
	for i := requests; i < len(creates); i += requests {
		late = max(late, creates[i].At.Sub(creates[i-requests].At)-weight)
	}
	return late
}

// TestKilledInTheWindow kills every process five times, each time when half of a window's requests
// have arrived. Each request takes 100 ms, so some are always in flight. The ledger then knows that
// they may have been sent.
func TestKilledInTheWindow(t *testing.T) {
	each(t, []int{4}, func(t *testing.T, mode string, processes int) {
		const times, people, requests = 5, 6 * rig.PerWindow, rig.Singles + rig.Bulks
		s := on(t, rig.Conditions{
			Mode: mode, Window: window,
			Sandbox: []string{
				`--fault={"call":"create","every":1,"kind":"slow","delay":"100ms"}`,
				`--fault={"call":"bulk","every":1,"kind":"slow","delay":"100ms"}`,
			},
			Worker: []string{"--settle=2s", "--request-timeout=5s", "--recover-after=5s"},
		})
		must(t, s.Import(s.ctx, rig.Crowd("person", people)))
		must(t, s.Work(s.ctx, processes))
		for i := range times {
			must(t, s.Sandbox.Await(s.ctx, i*requests+requests/2, rig.Creates...))
			must(t, s.Kill())
			must(t, s.Work(s.ctx, processes))
		}
		must(t, s.Wait(s.ctx))
		must(t, s.Whole(s.ctx, people))
		s.unthrottled(s.record())
		if s.count("select count(*) from attempts where answered_at is null") == 0 {
			t.Error("no request was under way at a kill")
		}
	})
}

// TestAnotherClient runs another client that uses half of each limit all the time. Our own 429
// answers may only be those of requests in flight at the first 429, and then one probe for each
// Retry-After.
func TestAnotherClient(t *testing.T) {
	each(t, []int{1, 4}, func(t *testing.T, mode string, processes int) {
		const people = 1000
		s := on(t, rig.Conditions{Mode: mode, Window: window})
		must(t, s.Import(s.ctx, rig.Crowd("person", people)))
		stop := s.spend()
		defer stop()
		must(t, s.Work(s.ctx, processes))
		must(t, s.Wait(s.ctx))
		stop()
		if n := s.count("select count(*) from results where outcome = 'invited'"); n != people {
			t.Errorf("%d of %d invited", n, people)
		}
		seen := s.record()
		for call, limit := range map[string]int{"create": rig.Singles, "bulk": rig.Bulks} {
			rows, _ := s.Pool.Query(s.ctx, `select trace_id from attempts where bucket = $1 and http_status = 429`, call)
			traces, err := pgx.CollectRows(rows, pgx.RowTo[string])
			must(t, err)
			ours := map[string]bool{}
			for _, trace := range traces {
				ours[strings.TrimSpace(trace)] = true
			}
			const inFlight = 4 // per bucket and process
			episodes := throttle{mode, window, limit}.episodes(seen.Sent(call), ours)
			if n := spared(episodes, inFlight*processes); n > 0 {
				t.Errorf("%s: %d answers of 429 beyond those in flight and the probes; in each Retry-After %v", call, n, episodes)
			}
		}
	})
}

// spend runs another client, which shares no ledger with us and ignores 429 answers. It uses half
// of each limit, evenly, until stop is called.
func (s *stage) spend() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	steady := func(name string, bulk bool, limit, size int) {
		tick := time.NewTicker(window / time.Duration(limit/2))
		defer tick.Stop()
		for i := 0; ; i++ {
			if _, err := s.Sandbox.Create(s.ctx, rig.Key, bulk, rig.Crowd(fmt.Sprintf("%s.%d", name, i), size)); err != nil {
				s.t.Errorf("the other client: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}
	wg.Go(func() { steady("other", false, rig.Singles, 1) })
	wg.Go(func() { steady("others", true, rig.Bulks, rig.BulkSize) })
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// throttle computes how a bucket of the sandbox refuses requests.
type throttle struct {
	mode   string
	window time.Duration
	limit  int
}

// episodes counts the 429 answers to our requests of one call. A new episode begins with the first
// 429 after every earlier Retry-After has passed.
func (t throttle) episodes(requests []rig.Request, ours map[string]bool) (episodes []int) {
	var counted []time.Time
	var until time.Time
	for _, q := range requests {
		if q.Status != 429 {
			counted = append(counted, q.At)
			continue
		}
		if !ours[q.Trace] {
			continue
		}
		if !q.At.Before(until) {
			episodes = append(episodes, 0)
		}
		episodes[len(episodes)-1]++
		if again := q.At.Add(t.retryAfter(counted, q.At)); again.After(until) {
			until = again
		}
	}
	return episodes
}

// retryAfter returns the Retry-After that the sandbox sends at a time, given the requests that
// counted before it. It is the wait in whole seconds, rounded up.
func (t throttle) retryAfter(counted []time.Time, at time.Time) time.Duration {
	wait := t.window - time.Duration(at.UnixNano()%int64(t.window))
	if t.mode == "sliding" && len(counted) >= t.limit {
		wait = counted[len(counted)-t.limit].Add(t.window).Sub(at)
	}
	return time.Duration(math.Ceil(wait.Seconds())) * time.Second
}

// spared returns how many 429 answers a client could have avoided: in the first episode those
// beyond the requests in flight, in each later episode all but the probe.
func spared(episodes []int, inFlight int) (n int) {
	for i, together := range episodes {
		if i == 0 {
			n += max(0, together-inFlight)
		} else {
			n += together - 1
		}
	}
	return n
}

// TestWaiting lets 100,000 rows wait for a window. Until it opens, the processes must use almost no
// CPU and SQL. Then they must use it within a second.
func TestWaiting(t *testing.T) {
	for _, processes := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d processes", processes), func(t *testing.T) {
			t.Parallel()
			const watched, requests = 45 * time.Second, rig.Singles + rig.Bulks
			s := on(t, rig.Conditions{Mode: "sliding", Window: watched + 30*time.Second})
			must(t, s.Import(s.ctx, rig.Crowd("person", 100_000)))
			must(t, s.CountStatements(s.ctx))
			began := time.Now()
			must(t, s.Work(s.ctx, processes))
			must(t, s.Sandbox.Await(s.ctx, requests, rig.Creates...))
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the budget was used after %s", took)
			}
			s.sleep(5 * time.Second) // time to record the last answers
			before := s.queue()
			idle, err := s.WatchIdle(s.ctx, watched)
			must(t, err)
			after := s.queue()
			t.Logf("%.2f %% of a core, %.1f statements a second: %s", idle.CPU, idle.Statements, idle.Most)
			if idle.CPU >= 1 {
				t.Errorf("%.2f %% of a core, want less than 1", idle.CPU)
			}
			if idle.Statements >= 5 {
				t.Errorf("%.1f statements a second and process, want less than 5: %s", idle.Statements, idle.Most)
			}
			const workers = 100 // jobs that a process works at a time; each may snooze once
			if after.attempts != before.attempts || after.snoozes > workers*processes || after.rescued > 0 || after.lost > 0 {
				t.Errorf("the jobs were %+v, and are %+v", before, after)
			}
			must(t, s.Sandbox.Await(s.ctx, requests+1, rig.Creates...))
			seen := s.record()
			s.unthrottled(seen)
			if late := late(seen, s.Weight()); late >= time.Second {
				t.Errorf("the window was used %s after it opened", late)
			}
		})
	}
}

// queue is the state of the jobs.
type queue struct {
	attempts, snoozes int // of all jobs together
	rescued           int // number of jobs
	lost              int // undecided rows without a job
}

// queue reads River's table. It compares rows and jobs with EXCEPT, for which PostgreSQL hashes or
// sorts both sides even without statistics, as right after an import. For NOT EXISTS it would then
// choose a nested loop.
func (s *stage) queue() (q queue) {
	s.t.Helper()
	err := s.Pool.QueryRow(s.ctx, `
		select coalesce(sum(attempt), 0), coalesce(sum((metadata->>'snoozes')::int), 0),
		       count(*) filter (where exists (select from unnest(errors) e where e->>'error' like '%rescued%')),
		       (select count(*) from (
		            select batch_id, row_number from results where outcome is null
		            except
		            select (args->>'batch')::bigint, (args->>'row')::int from river_job
		            where kind = 'invite' and state in ('available', 'scheduled', 'retryable', 'running')) l)
		from river_job where kind = 'invite'`).Scan(&q.attempts, &q.snoozes, &q.rescued, &q.lost)
	must(s.t, err)
	return q
}
