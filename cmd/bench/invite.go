package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"bulkinvite/cmd/internal/rig"
	"bulkinvite/jobs"
	"bulkinvite/postgres"
)

// What inviting is to keep to beside a limit that is measured in the same run.
const (
	leastBulk   = 0.5  // of the jobs a second of River's worker that does nothing
	leastSingle = 0.25 // of the same, without bulk calls
	leastSlow   = 0.9  // of what the requests under way allow, where Clerk takes its time
)

// slowAnswer is how long the sandbox takes where that is the point.
const slowAnswer = 200 * time.Millisecond

// way is one way to invite.
type way struct {
	name      string
	processes int
	people    int
	flags     []string // of import and work, for the ways to invite
	slow      bool
}

// invites is the comparison of inviting with what it can't be faster than.
type invites struct {
	bench   *bench
	profile bool
	rates   map[string][]float64 // people or jobs a second by way, in the order of the runs
	weights map[string]weight    // by way, of its last run
}

const noop = "River's worker that does nothing"

// inviteBench measures how fast people are invited where no limit is in the way.
func inviteBench(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("invite", flag.ContinueOnError)
	runs := flags.Int("runs", 3, "how often each runs; medians are reported")
	rows := flags.Int("rows", 200_000, "how many people are invited in a run")
	only := flags.String("only", "", "run the ways with this in their name alone, and write no report")
	profile := flags.Bool("profile", false, "print which statements PostgreSQL was busy with, after each run; it costs some speed")
	dir := flags.String("out", filepath.Join("docs", "bench"), "the directory for invite.md")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *runs < 1 || *rows < 1000 {
		return usageError{errors.New("invite takes flags alone, at least one run and 1,000 rows")}
	}
	b := &invites{rates: map[string][]float64{}, weights: map[string]weight{}, profile: *profile}
	var settings map[string]string
	if b.profile {
		settings = map[string]string{"shared_preload_libraries": "pg_stat_statements"}
	}
	if b.bench, err = newBench(ctx, settings); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.bench.Close()) }()
	machine, err := b.bench.Machine(ctx)
	if err != nil {
		return err
	}
	ways := waysOf(*rows)
	for range *runs {
		if err := b.run(ctx, ways, *rows, *only); err != nil {
			return err
		}
	}
	if *only != "" {
		return nil
	}
	page := b.page(ways, *rows, *runs, machine)
	fmt.Print("\n", page)
	return os.WriteFile(filepath.Join(*dir, "invite.md"), []byte(page), 0o644)
}

// waysOf are the ways to invite. Where answers take their time a tenth of the
// people is enough.
func waysOf(rows int) []way {
	bulk, single := []string{"--limit-create=off", "--limit-bulk=none"}, []string{"--limit-create=none", "--limit-bulk=off"}
	return []way{
		{name: "bulk calls, 1 process", processes: 1, people: rows, flags: bulk},
		{name: "bulk calls, 4 processes", processes: 4, people: rows, flags: bulk},
		{name: "single calls, 1 process", processes: 1, people: rows, flags: single},
		{name: "single calls, 4 processes", processes: 4, people: rows, flags: single},
		{name: "single calls answered in 200 ms, 1 process", processes: 1, people: rows / 10, flags: single, slow: true},
	}
}

func (b *invites) run(ctx context.Context, ways []way, rows int, only string) error {
	note := func(name string, n int, took time.Duration) {
		rate := float64(n) / took.Seconds()
		b.rates[name] = append(b.rates[name], rate)
		fmt.Printf("%-44s %8.2f s  %9s/s\n", name, took.Seconds(), grouped(int(rate)))
	}
	if strings.Contains(noop, only) {
		took, err := b.idle(ctx, rows)
		if err != nil {
			return err
		}
		note(noop, rows, took)
	}
	for _, r := range ways {
		if !strings.Contains(r.name, only) {
			continue
		}
		took, left, err := b.invite(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		b.weights[r.name] = left
		note(r.name, r.people, took)
		fmt.Printf("%-44s %s\n", "", left)
	}
	return nil
}

// invite has people imported and invited, checks that each got one mail, and
// returns the time from the first attempt in the ledger to the last outcome, and
// what all that leaves on the disk.
func (b *invites) invite(ctx context.Context, r way) (took time.Duration, left weight, err error) {
	c := conditions{mode: "sliding", free: true, worker: append([]string{"--no-preflight"}, r.flags...)}
	s, err := b.bench.stage(ctx, c)
	if err != nil {
		return 0, left, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	began, err := s.written(ctx)
	if err != nil {
		return 0, left, err
	}
	if err := s.importFile(ctx, crowd("invite", r.people)); err != nil {
		return 0, left, err
	}
	if err := b.prepare(ctx, s, r); err != nil {
		return 0, left, err
	}
	s.conditions.worker = r.flags
	if err := s.work(ctx, r.processes); err != nil {
		return 0, left, err
	}
	if err := s.wait(ctx); err != nil {
		return 0, left, err
	}
	if took, err = b.check(ctx, s, r); err != nil {
		return 0, left, err
	}
	if left, err = s.weigh(ctx, began, r.people); err == nil && b.profile {
		err = s.largest(ctx, r.people)
	}
	return took, left, err
}

// prepare makes the sandbox slow and has PostgreSQL count its statements, where
// that is asked for.
func (b *invites) prepare(ctx context.Context, s *stage, r way) error {
	if r.slow {
		if err := s.standin.Post(ctx, "/sandbox/faults", []map[string]string{{"call": "create", "kind": "slow", "delay": slowAnswer.String()}}); err != nil {
			return err
		}
	}
	if b.profile {
		if _, err := s.pool.Exec(ctx, `create extension pg_stat_statements; select pg_stat_statements_reset()`); err != nil {
			return fmt.Errorf("have PostgreSQL count its statements: %w", err)
		}
	}
	return nil
}

// check looks that everybody is invited and has one mail, and says how long it
// took.
func (b *invites) check(ctx context.Context, s *stage, r way) (took time.Duration, err error) {
	var invited int
	err = s.pool.QueryRow(ctx, `select (select count(*) from results where outcome = 'invited'),
		(select max(decided_at) from results) - (select min(started_at) from attempts)`).Scan(&invited, &took)
	if err != nil {
		return 0, fmt.Errorf("look who was invited: %w", err)
	}
	if b.profile {
		if err := s.busiest(ctx); err != nil {
			return 0, err
		}
	}
	var box struct{ Mails int }
	if err := s.standin.Get(ctx, "/sandbox/mailbox", &box); err != nil {
		return 0, err
	}
	if invited != r.people || box.Mails != r.people {
		return 0, fmt.Errorf("%d invited and %d mails, want %d", invited, box.Mails, r.people)
	}
	return took, nil
}

// busiest prints what PostgreSQL was busy with.
func (s *stage) busiest(ctx context.Context) error {
	rows, _ := s.pool.Query(ctx, `select total_exec_time / 1000, calls, rows, wal_bytes::bigint, regexp_replace(query, '\s+', ' ', 'g') from pg_stat_statements
		where dbid = (select oid from pg_database where datname = current_database()) order by total_exec_time desc limit 20`)
	var spent float64
	var calls, n, wal int
	var text string
	_, err := pgx.ForEachRow(rows, []any{&spent, &calls, &n, &wal, &text}, func() error {
		fmt.Printf("    %8.2f s %9s calls %9s rows %12s bytes of WAL  %.110s\n", spent, grouped(calls), grouped(n), grouped(wal), text)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look what PostgreSQL was busy with: %w", err)
	}
	return nil
}

// idle has River's worker do nothing, with a job for each row, on a database of
// the same kind, with as many workers in one process as ours has.
func (b *invites) idle(ctx context.Context, rows int) (took time.Duration, err error) {
	const name = "noop"
	database, err := b.bench.Database(ctx, name, "")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.bench.Drop(context.WithoutCancel(ctx), name)) }()
	if _, err := rig.Call(ctx, b.bench.Binary, rig.Environment(b.bench.Dir, database, ""), "migrate"); err != nil {
		return 0, err
	}
	program, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	out, err := rig.Call(ctx, program, os.Environ(), "noop", database, strconv.Itoa(rows))
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(string(out)))
}

// noopArgs is a job like ours.
type noopArgs jobs.InviteArgs

func (noopArgs) Kind() string { return "noop" }

// runNoop inserts jobs, and prints how long River takes to work them all.
func runNoop(ctx context.Context, database, rows string) error {
	n, err := strconv.Atoi(rows)
	if err != nil {
		return usageError{err}
	}
	pool, err := postgres.Open(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[noopArgs]) error { return nil }))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Workers: workers,
		Queues: map[string]river.QueueConfig{river.QueueDefault: jobs.Unlimited},
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
	for left := n; left > 0; {
		if err := pool.QueryRow(ctx, `select count(*) from river_job where state <> 'completed'`).Scan(&left); err != nil {
			return err
		}
		if left > 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	fmt.Println(time.Since(began))
	return client.Stop(ctx)
}

// page is docs/bench/invite.md.
func (b *invites) page(ways []way, rows, runs int, machine string) string {
	base := median(b.rates[noop])
	lines := [][]string{{"", "people", "people/s", "spread", "of the limit"}, {"---", "--:", "--:", "--:", "--:"}}
	line := func(name string, people int, verdict string) {
		r := b.rates[name]
		lines = append(lines, []string{name, grouped(people), grouped(int(median(r))), grouped(int(slices.Min(r))) + " to " + grouped(int(slices.Max(r))), verdict})
	}
	line(noop, rows, "")
	for _, r := range ways {
		line(r.name, r.people, b.verdict(r, base))
	}
	return fmt.Sprintf(`# How fast people are invited

Limits are none, and the sandbox answers at once, so that the program itself is what is slow: each person's attempt is committed
before their request, their outcome after it. Beside it, on the same PostgreSQL with its defaults and with as many workers (%d),
River works a job for each row that does nothing, until all are recorded as completed. Worker, sandbox and PostgreSQL share the machine.
Time is from the first attempt to the last outcome. Medians of %d runs. Afterwards everybody must have one mail.

%s
Where the sandbox takes %s for each answer, the limit is requests under way / time: %d / %s = %s/s.

## What it leaves on the disk

WAL is what the server wrote from before the import on; disk is tables with their indexes, after a vacuum, jobs that are completed
included. A table's bytes are those of its largest moment: a vacuum makes room within it.

%s

    go run ./cmd/bench invite -rows %d -runs %d

%s.
`, jobs.Unlimited.MaxWorkers, runs, table(lines), slowAnswer, jobs.Unlimited.MaxWorkers, slowAnswer, grouped(slowest), b.weightTable(), rows, runs, machine)
}

// slowest is what requests under way allow a second where the sandbox takes its
// time.
var slowest = int(float64(jobs.Unlimited.MaxWorkers) / slowAnswer.Seconds())

func (b *invites) verdict(r way, base float64) string {
	rate := median(b.rates[r.name])
	switch {
	case r.slow:
		return verdict(rate/float64(slowest), leastSlow)
	case r.processes > 1:
		one := median(b.rates[strings.Replace(r.name, "4 processes", "1 process", 1)])
		return verdict(rate/one, 1) + " of one process"
	case strings.HasPrefix(r.name, "bulk"):
		return verdict(rate/base, leastBulk)
	}
	return verdict(rate/base, leastSingle)
}
