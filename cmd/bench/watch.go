package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// What idle means while the budget is spent.
const (
	settled        = 2 * time.Second // until the last answers are recorded and the processes have left the queue
	idleFor        = time.Minute
	idleCPU        = 2.0 // percent of a core, for each process
	idleStatements = 10  // a second, of the fleet
	maxWorkers     = 100 // jobs of a queue that a process works at a time: each may snooze once
)

// sample is what the fleet has used and done so far.
type sample struct {
	at  time.Time
	cpu []time.Duration // of each process
	queue
}

// queue is what became of the jobs.
type queue struct {
	attempts, snoozes int // of all jobs together
	rescued           int // jobs
	lost              int // rows that wait without a job
}

// showHour runs 400 rows against Clerk's own hour, and looks for 3 minutes.
func showHour(ctx context.Context, s *show) error {
	const rows, watched = 400, 3 * time.Minute
	c := conditions{mode: "sliding", window: time.Hour}
	return s.on(ctx, c, func(st *stage) error {
		began := time.Now()
		where := place(c.mode, 1)
		if err := s.fill(ctx, st, where, 1, rows); err != nil {
			return err
		}
		return s.watch(ctx, st, where, time.Until(began.Add(watched))-settled)
	})
}

// showIdle has 100,000 rows wait for a window that opens soon after the watch.
func showIdle(ctx context.Context, s *show) error {
	const rows = 100_000
	for _, processes := range sizes {
		c := conditions{mode: "sliding", window: idleFor + 30*time.Second}
		err := s.on(ctx, c, func(st *stage) error {
			where := place(c.mode, processes)
			if err := s.fill(ctx, st, where, processes, rows); err != nil {
				return err
			}
			if err := s.watch(ctx, st, where, idleFor); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(ctx, 2*c.window, errors.New("the window did not open"))
			defer cancel()
			if err := st.standin.await(ctx, singles+bulks+1); err != nil {
				return err
			}
			seen, err := st.standin.record(ctx)
			if err != nil {
				return err
			}
			late := seen.late(st.weight())
			s.verdict(late < time.Second, where, "window used within 1 s", fmt.Sprintf("%d ms", late.Milliseconds()))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fill imports rows, starts processes, and returns when the budget is spent.
func (s *show) fill(ctx context.Context, st *stage, where string, processes, rows int) error {
	if err := st.importFile(ctx, crowd("person", rows)); err != nil {
		return err
	}
	began := time.Now()
	if err := st.work(ctx, processes); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the budget was not spent within 2 m"))
	defer cancel()
	if err := st.standin.await(waiting, singles+bulks); err != nil {
		return err
	}
	took := time.Since(began)
	seen, err := st.standin.record(ctx)
	if err != nil {
		return err
	}
	s.verdict(took < time.Minute && seen.answered(429) == 0, where, "350 within 60 s, no 429",
		fmt.Sprintf("%d within %.1f s, %d", seen.invited(time.Minute), took.Seconds(), seen.answered(429)))
	return nil
}

// watch judges whether the fleet is idle for so long.
func (s *show) watch(ctx context.Context, st *stage, where string, long time.Duration) error {
	if err := sleep(ctx, settled); err != nil {
		return err
	}
	before, err := st.sample(ctx)
	if err != nil {
		return err
	}
	if err := st.forgetStatements(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, long); err != nil {
		return err
	}
	ran, most, err := st.statements(ctx) // first: the sample runs some too
	if err != nil {
		return err
	}
	after, err := st.sample(ctx)
	if err != nil {
		return err
	}
	s.judgeIdle(st, where, before, after, ran, most)
	return nil
}

// judgeIdle compares what the fleet had used and done before the watch and after.
func (s *show) judgeIdle(st *stage, where string, before, after sample, ran int, most string) {
	seconds := after.at.Sub(before.at).Seconds()
	var cpu []float64
	for i := range after.cpu {
		cpu = append(cpu, 100*(after.cpu[i]-before.cpu[i]).Seconds()/seconds)
	}
	statements := float64(ran) / seconds
	got := fmt.Sprintf("%.1f", statements)
	if statements >= idleStatements {
		got += "; most often " + most
	}
	where = fmt.Sprintf("%s, %.0f s", where, seconds)
	s.verdict(slices.Max(cpu) < idleCPU, where, "under 2 % of a core", fmt.Sprintf("%.2f %% at the most", slices.Max(cpu)))
	s.verdict(statements < idleStatements, where, "under 10 SQL a second", got)
	grown := after.attempts - before.attempts
	s.verdict(grown == 0, where, "no job's attempts grow", fmt.Sprintf("%d more", grown))
	limit := maxWorkers * len(st.workers)
	s.verdict(after.snoozes <= limit, where, fmt.Sprintf("at most %d snoozes", limit), fmt.Sprintf("%d, %d of them in the watch", after.snoozes, after.snoozes-before.snoozes))
	s.verdict(after.rescued == 0 && after.lost == 0, where, "no job rescued or lost", fmt.Sprintf("%d rescued, %d lost", after.rescued, after.lost))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sample looks at the fleet.
func (s *stage) sample(ctx context.Context) (m sample, err error) {
	for _, p := range s.workers {
		select {
		case <-p.Over():
			return m, fmt.Errorf("%s ended too soon (%v): %s", p.Name, p.Err(), rig.Tail(p.Log))
		default:
		}
		used, err := cpuTime(p.PID())
		if err != nil {
			return m, err
		}
		m.cpu = append(m.cpu, used)
	}
	m.at = time.Now()
	m.queue, err = s.queue(ctx)
	return m, err
}

// forgetStatements begins the count of the stage's statements anew.
func (s *stage) forgetStatements(ctx context.Context) error {
	_, err := s.bench.Admin.Exec(ctx, "create extension if not exists pg_stat_statements")
	if err == nil {
		_, err = s.bench.Admin.Exec(ctx, "select pg_stat_statements_reset(0, oid, 0) from pg_database where datname = $1", s.name)
	}
	if err != nil {
		return fmt.Errorf("count statements (pg_stat_statements comes with PostgreSQL's contrib modules): %w", err)
	}
	return nil
}

// statements is how many the stage's database has run, begin and commit among
// them, and the beginnings of those that ran most often.
func (s *stage) statements(ctx context.Context) (n int, most string, err error) {
	err = s.bench.Admin.QueryRow(ctx, `
		with ran as (select regexp_replace(trim(s.query), '\s+', ' ', 'g') as query, sum(s.calls) as calls
		             from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1 group by 1),
		     most as (select * from ran order by calls desc limit 5)
		select coalesce((select sum(calls) from ran), 0)::int,
		       coalesce((select string_agg(calls || ' × ' || left(query, 40), ', ' order by calls desc) from most), 'nothing')`, s.name).Scan(&n, &most)
	if err != nil {
		return 0, "", fmt.Errorf("count statements: %w", err)
	}
	return n, most, nil
}

// queue reads River's table. A row that waits must have a job that is not over.
func (s *stage) queue(ctx context.Context) (q queue, err error) {
	err = s.pool.QueryRow(ctx, `
		select coalesce(sum(attempt), 0), coalesce(sum((metadata->>'snoozes')::int), 0),
		       count(*) filter (where exists (select from unnest(errors) e where e->>'error' like '%rescued%')),
		       (select count(*) from results r where r.outcome is null and not exists (
		            select from river_job j
		            where j.kind = 'invite' and j.state in ('available', 'scheduled', 'retryable', 'running')
		              and (j.args->>'batch')::bigint = r.batch_id and (j.args->>'row')::int = r.row_number))
		from river_job where kind = 'invite'`).Scan(&q.attempts, &q.snoozes, &q.rescued, &q.lost)
	if err != nil {
		return q, fmt.Errorf("look at the queue: %w", err)
	}
	return q, nil
}

// tick is the unit of the times in /proc: the kernel shows programs 100 a
// second, whatever it counts itself (proc(5), USER_HZ).
const tick = time.Second / 100

// cpuTime is the processor time that a process has used, in its own code and in
// the kernel.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time: %w", err)
	}
	// The second field, the name, is in brackets and may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const user, system = 11, 12 // fields 14 and 15, after the first two
	if len(fields) <= system {
		return 0, fmt.Errorf("read the processor time: %q", text)
	}
	u, err := strconv.ParseInt(string(fields[user]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the processor time: %w", err)
	}
	k, err := strconv.ParseInt(string(fields[system]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the processor time: %w", err)
	}
	return time.Duration(u+k) * tick, nil
}
