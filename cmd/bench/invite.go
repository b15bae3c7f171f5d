package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"bulkinvite/internal/postgres"
	"bulkinvite/internal/rig"
	"bulkinvite/jobs"
)

// Flags of import and work that allow only one kind of call, without a limit.
var (
	bulkCalls   = []string{"--limit-create=off", "--limit-bulk=none"}
	singleCalls = []string{"--limit-create=none", "--limit-bulk=off"}
)

// invited is the result of one run.
type invited struct {
	rate      float64 // people per second
	log, disk float64 // bytes per row
}

func rates(runs []invited) (rates []float64) {
	for _, one := range runs {
		rates = append(rates, one.rate)
	}
	return rates
}

// measureInvite measures how fast the program invites people without limits, compared with a River
// worker that does nothing.
func measureInvite(ctx context.Context, b *bench) ([]figure, error) {
	people := b.scaled(20_000)
	noop := []float64{}
	ways := []struct {
		name      string
		calls     []string
		processes int
		runs      []invited
	}{
		{"bulk calls", bulkCalls, 1, nil},
		{"single calls", singleCalls, 1, nil},
		{"bulk calls, 4 processes", bulkCalls, 4, nil},
	}
	for range b.runs {
		rate, err := b.doNothing(ctx, people)
		if err != nil {
			return nil, err
		}
		noop = append(noop, rate)
		fmt.Printf("%-40s %9s/s\n", "River's worker that does nothing", number(rate))
		for i, w := range ways {
			one, err := b.invite(ctx, people, w.calls, w.processes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			ways[i].runs = append(w.runs, one)
			fmt.Printf("%-40s %9s/s; %s bytes of log and %s of disk per row\n",
				w.name, number(one.rate), number(one.log), number(one.disk))
		}
	}
	bulk, single, four := ways[0].runs, ways[1].runs, ways[2].runs
	const river, each = "River's worker that does nothing", "people/s"
	work := "invite " + grouped(people) + " people by "
	figures := []figure{
		{Work: work + "bulk calls", Unit: each, Runs: rates(bulk), Peer: river, Limit: noop, AtLeast: floor(0.25)},
		{Work: work + "single calls", Unit: each, Runs: rates(single), Peer: river, Limit: noop},
		{Work: work + "bulk calls, 4 processes", Unit: each, Runs: rates(four), Peer: "1 process", Limit: rates(bulk)},
	}
	for _, w := range ways[:2] {
		log, disk := []float64{}, []float64{}
		for _, one := range w.runs {
			log, disk = append(log, one.log), append(disk, one.disk)
		}
		figures = append(figures,
			figure{Work: "log a row, " + w.name, Unit: "bytes", Runs: log},
			figure{Work: "disk a row, " + w.name, Unit: "bytes", Runs: disk})
	}
	old, err := b.oldConnections(ctx, b.scaled(100_000))
	if err != nil {
		return nil, err
	}
	pools, err := b.smallPools(ctx, b.scaled(20_000)/10)
	return append(append(figures, old), pools...), err
}

// invite measures how fast people are invited, and checks that each person got one mail.
func (b *bench) invite(ctx context.Context, people int, calls []string, processes int) (m invited, err error) {
	err = b.onStage(ctx, rig.Conditions{Mode: "sliding"}, func(s *rig.Stage) error {
		before, err := footprint(ctx, s.Pool, "")
		if err != nil {
			return err
		}
		if err := b.work(ctx, s, people, calls, processes); err != nil {
			return err
		}
		var took time.Duration
		err = s.Pool.QueryRow(ctx, `
			select (select max(decided_at) from results) - (select min(started_at) from attempts)`).Scan(&took)
		if err != nil {
			return fmt.Errorf("read how long it took: %w", err)
		}
		after, err := footprint(ctx, s.Pool, "vacuum")
		if err != nil {
			return err
		}
		n := float64(people)
		m = invited{n / took.Seconds(), float64(after.log-before.log) / n, float64(after.disk-before.disk) / n}
		return nil
	})
	return m, err
}

// work imports people and invites them with the given number of processes.
func (b *bench) work(ctx context.Context, s *rig.Stage, people int, calls []string, processes int) error {
	s.Worker = append(slices.Clone(calls), "--no-preflight")
	if err := s.Import(ctx, rig.Crowd("invite", people)); err != nil {
		return err
	}
	s.Worker = calls
	if err := errors.Join(s.Work(ctx, processes), s.Wait(ctx)); err != nil {
		return err
	}
	return s.Whole(ctx, people)
}

// printed is the position of PostgreSQL's write-ahead log and the size of all tables of a database
// with their indexes, both in bytes.
type printed struct{ log, disk int64 }

// footprint reads the position of the log, runs a statement, and reads the size of the tables. The
// log belongs to the whole server, so nothing else may run on the server during a measurement. A
// vacuum must run after the log is read, because what it writes does not belong to the rows.
func footprint(ctx context.Context, pool *pgxpool.Pool, between string) (p printed, err error) {
	err = pool.QueryRow(ctx, `select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`).Scan(&p.log)
	if err == nil && between != "" {
		_, err = pool.Exec(ctx, between)
	}
	if err == nil {
		err = pool.QueryRow(ctx, `
			select sum(pg_total_relation_size(oid))::bigint from pg_class
			where relnamespace = 'public'::regnamespace and relkind = 'r'`).Scan(&p.disk)
	}
	if err != nil {
		return p, fmt.Errorf("read the size of log and tables: %w", err)
	}
	return p, nil
}

// oldConnections measures a worker that invites people one by one on connections that it opened
// when the ledger was empty. It compares the last tenth of the claims with the second.
func (b *bench) oldConnections(ctx context.Context, people int) (f figure, err error) {
	err = b.onStage(ctx, rig.Conditions{Mode: "sliding"}, func(s *rig.Stage) error {
		_, err := s.Pool.Exec(ctx, `
			alter table attempts set (autovacuum_enabled = off);
			alter table attempt_people set (autovacuum_enabled = off)`)
		if err != nil {
			return fmt.Errorf("turn autovacuum off: %w", err)
		}
		args := append([]string{"work", "--log-level=warn"}, s.Limits()...)
		if _, err := s.Launch(ctx, append(args, singleCalls...)...); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("the worker did not end in time"))
		defer cancel()
		if err := await(waiting, s.Pool, `select exists (select from workers)`); err != nil {
			return err
		}
		s.Worker = append(slices.Clone(singleCalls), "--no-preflight")
		if err := s.Import(ctx, rig.Crowd("old", people)); err != nil {
			return err
		}
		if err := await(waiting, s.Pool, `select not exists (select from results where outcome is null)`); err != nil {
			return err
		}
		if err := s.Whole(ctx, people); err != nil {
			return err
		}
		tenth := people / 10
		var second, last float64
		err = s.Pool.QueryRow(ctx, `
			with tenths as (
				select (n - 1) / $1 as tenth, extract(epoch from max(started_at) - min(started_at))::float8 as took
				from (select started_at, row_number() over (order by id) as n from attempts) ordered group by 1)
			select (select took from tenths where tenth = 1), (select took from tenths where tenth = 9)`, tenth).
			Scan(&second, &last)
		if err != nil {
			return fmt.Errorf("read how fast the claims were: %w", err)
		}
		f = figure{
			Work: fmt.Sprintf("claims on old connections, up to %s attempts", grouped(people)), Unit: "people/s",
			Runs: []float64{float64(tenth) / last},
			Peer: fmt.Sprintf("up to %s", grouped(2*tenth)), Limit: []float64{float64(tenth) / second}, AtLeast: floor(0.5),
		}
		return nil
	})
	return f, err
}

// await waits until a query returns true.
func await(ctx context.Context, pool *pgxpool.Pool, query string) error {
	for {
		var yes bool
		if err := pool.QueryRow(ctx, query).Scan(&yes); err != nil || yes {
			return err
		}
		if err := rig.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// smallPools measures a worker with few connections.
func (b *bench) smallPools(ctx context.Context, people int) ([]figure, error) {
	var rates []float64
	for _, n := range []int{0, 2, 3, 4} {
		err := b.onStage(ctx, rig.Conditions{Mode: "sliding"}, func(s *rig.Stage) error {
			if n > 0 {
				s.Env = append(s.Env, "DATABASE_URL="+rig.WithParameter(s.URL, fmt.Sprintf("pool_max_conns=%d", n)))
			}
			began := time.Now()
			waiting, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			err := b.work(waiting, s, people, singleCalls, 1)
			rate := float64(people) / time.Since(began).Seconds()
			if waiting.Err() != nil && ctx.Err() == nil {
				rate, err = 0, nil // the worker hangs, which counts as 0
			}
			rates = append(rates, rate)
			fmt.Printf("%-40s %9s/s\n", fmt.Sprintf("pool_max_conns=%d (0: the default)", n), number(rate))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var figures []figure
	for i, rate := range rates[1:] {
		figures = append(figures, figure{
			Work: fmt.Sprintf("import and invite %s people, pool of %d connections", grouped(people), i+2), Unit: "people/s",
			Runs: []float64{rate}, Peer: "the default pool", Limit: rates[:1], AtLeast: floor(0.1),
		})
	}
	return figures, nil
}

// doNothing returns how many jobs per second River works if its worker does nothing. There is a job
// for each person, and as many workers as the program has.
func (b *bench) doNothing(ctx context.Context, people int) (rate float64, err error) {
	program, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	err = b.onStage(ctx, rig.Conditions{Mode: "sliding"}, func(s *rig.Stage) error {
		out, err := rig.Call(ctx, program, os.Environ(), "noop", s.URL, strconv.Itoa(people))
		if err != nil {
			return err
		}
		took, err := time.ParseDuration(strings.TrimSpace(string(out)))
		rate = float64(people) / took.Seconds()
		return err
	})
	return rate, err
}

// noopArgs has the arguments of the program's own jobs.
type noopArgs jobs.InviteArgs

func (noopArgs) Kind() string { return "noop" }

// runNoop inserts jobs, and prints how long River takes to work all of them.
func runNoop(ctx context.Context, database, people string) error {
	n, err := strconv.Atoi(people)
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[noopArgs]) error { return nil }))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Workers: workers, Queues: map[string]river.QueueConfig{river.QueueDefault: jobs.Unlimited},
	})
	if err != nil {
		return err
	}
	for done := 0; done < n; {
		var params []river.InsertManyParams
		for ; done < n && len(params) < bareChunk; done++ {
			params = append(params, river.InsertManyParams{Args: noopArgs{Batch: 1, Row: done + 1}})
		}
		if _, err := client.InsertManyFast(ctx, params); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := client.Start(ctx); err != nil {
		return err
	}
	if err := await(ctx, pool, `select not exists (select from river_job where state <> 'completed')`); err != nil {
		return err
	}
	fmt.Println(time.Since(began))
	return client.Stop(ctx)
}
