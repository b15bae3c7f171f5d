package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"gonum.org/v1/plot/plotter"

	"bulkinvite/cmd/internal/rig"
	"bulkinvite/jobs"
	"bulkinvite/postgres"
)

// What inviting is to keep to beside a limit that is measured in the same run.
const (
	leastBulk      = 0.5  // of the jobs a second of River's worker that does nothing
	leastSingle    = 0.25 // of the same, without bulk calls
	leastSlow      = 0.9  // of what the requests under way allow, where Clerk takes its time
	leastProcesses = 1    // of one process's speed
	mostFootprint  = 0.5  // of the disk and log a row that the first measurement found
)

// slowAnswer is how long the sandbox takes where that is the point.
const slowAnswer = 200 * time.Millisecond

// The calls that people are invited by.
const (
	bulkCalls   = "bulk"
	singleCalls = "single"
)

// limitsOf are the limits that leave one call alone, as flags of import and work.
var limitsOf = map[string][]string{
	bulkCalls:   {"--limit-create=off", "--limit-bulk=none"},
	singleCalls: {"--limit-create=none", "--limit-bulk=off"},
}

// way is one way to invite.
type way struct {
	calls     string
	processes int
	people    int
	slow      bool // the sandbox takes its time
}

func (w way) String() string {
	text := fmt.Sprintf("invite %s people by %s calls", grouped(w.people), w.calls)
	if w.slow {
		text += " answered in " + slowAnswer.String()
	}
	if w.processes > 1 {
		text += fmt.Sprintf(", %d processes", w.processes)
	}
	return text
}

// fleets are how many processes invite.
var fleets = []int{1, 2, 4}

// invites is the comparison of inviting with what it can't be faster than.
type invites struct {
	bench   *bench
	runs    int
	people  int    // in each run
	few     int    // in each run where answers take their time
	alone   []int  // numbers of people that are invited by bulk calls of one process, once
	only    string // what the names of ways must have in them to be run
	profile bool

	idle    []float64 // jobs a second of River's worker that does nothing, in the order of the runs
	invited map[way][]invited
}

// invited is what one run came to.
type invited struct {
	rate  float64 // people a second
	took  float64 // seconds from the first attempt in the ledger to the last outcome
	peak  int64   // bytes of memory of the worker; of the first, where there are several
	grown footprint
}

func (m invited) speed() float64   { return m.rate }
func (m invited) seconds() float64 { return m.took }
func (m invited) memory() float64  { return float64(m.peak) }

const noop = "River's worker that does nothing"

// inviteBench measures how fast people are invited where no limit is in the way.
func inviteBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("invite", flag.ContinueOnError)
	runs := flags.Int("runs", 3, "how often each runs; medians are reported")
	rows := flags.Int("rows", 200_000, "how many people are invited in a run")
	only := flags.String("only", "", "run the ways with this in their name alone, and write no report")
	profile := flags.Bool("profile", false, "print which statements PostgreSQL was busy with, after each run; it costs some speed")
	return publish(ctx, flags, args, func() (part, map[string]string, error) {
		if *runs < 1 || *rows < 1000 {
			return nil, nil, errors.New("invite needs at least one run and 1,000 rows")
		}
		var settings map[string]string
		if *profile {
			settings = map[string]string{"shared_preload_libraries": "pg_stat_statements"}
		}
		return &invites{runs: *runs, people: *rows, few: *rows / 10, only: *only, profile: *profile}, settings, nil
	})
}

// ways are the ways that run as often as all.
func (b *invites) ways() []way {
	var ways []way
	for _, calls := range []string{bulkCalls, singleCalls} {
		for _, n := range fleets {
			ways = append(ways, way{calls: calls, processes: n, people: b.people})
		}
	}
	return append(ways, way{calls: singleCalls, processes: 1, people: b.few, slow: true})
}

func (b *invites) measure(ctx context.Context, bench *bench) error {
	b.bench, b.invited = bench, map[way][]invited{}
	for range b.runs {
		if strings.Contains(noop, b.only) {
			if err := b.doNothing(ctx); err != nil {
				return err
			}
		}
		if err := b.run(ctx, b.ways()); err != nil {
			return err
		}
	}
	var once []way
	for _, people := range b.alone {
		once = append(once, way{calls: bulkCalls, processes: 1, people: people})
	}
	return b.run(ctx, once)
}

func (b *invites) run(ctx context.Context, ways []way) error {
	for _, w := range ways {
		if !strings.Contains(w.String(), b.only) {
			continue
		}
		m, err := b.invite(ctx, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
		b.invited[w] = append(b.invited[w], m)
		each := float64(w.people)
		fmt.Printf("%-60s %9s/s  %4d MiB; a row takes %s bytes of log and %s of disk\n",
			w, grouped(int(m.rate)), m.peak>>20, plainly(m.grown.wal()/each), plainly(m.grown.disk()/each))
	}
	return nil
}

// invite has people invited, and checks that each got one mail. What came to the
// database is from before there was a table in it on, after a vacuum.
func (b *invites) invite(ctx context.Context, w way) (m invited, err error) {
	limits := limitsOf[w.calls]
	s, err := b.bench.stage(ctx, conditions{mode: "sliding", free: true, worker: append([]string{"--no-preflight"}, limits...)})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	empty, err := footprintOf(ctx, s.pool, false)
	if err != nil {
		return m, err
	}
	if err := s.importFile(ctx, crowd("invite", w.people)); err != nil {
		return m, err
	}
	if err := b.prepare(ctx, s, w); err != nil {
		return m, err
	}
	s.conditions.worker = limits
	if err := s.work(ctx, w.processes); err != nil {
		return m, err
	}
	if m.peak, err = rig.PeakMemory(s.workers[0]); err != nil {
		return m, err
	}
	if err := s.wait(ctx); err != nil {
		return m, err
	}
	if m.took, err = s.inviting(ctx, w.people); err != nil {
		return m, err
	}
	m.rate = float64(w.people) / m.took
	after, err := footprintOf(ctx, s.pool, true)
	if err != nil {
		return m, err
	}
	m.grown = after.since(empty)
	if b.profile {
		err = errors.Join(s.busiest(ctx), s.largest(ctx, w.people))
	}
	return m, err
}

// prepare makes the sandbox slow and has PostgreSQL count its statements, where
// that is asked for.
func (b *invites) prepare(ctx context.Context, s *stage, w way) error {
	if w.slow {
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

// inviting checks that everybody was invited and got one mail, and returns how
// many seconds that took.
func (s *stage) inviting(ctx context.Context, people int) (seconds float64, err error) {
	var invited int
	var took time.Duration
	err = s.pool.QueryRow(ctx, `select (select count(*) from results where outcome = 'invited'),
		(select max(decided_at) from results) - (select min(started_at) from attempts)`).Scan(&invited, &took)
	if err != nil {
		return 0, fmt.Errorf("look who was invited: %w", err)
	}
	var box struct{ Mails int }
	if err := s.standin.Get(ctx, "/sandbox/mailbox", &box); err != nil {
		return 0, err
	}
	if invited != people || box.Mails != people {
		return 0, fmt.Errorf("%d invited and %d mails, want %d", invited, box.Mails, people)
	}
	return took.Seconds(), nil
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

// largest prints which tables and indexes are large.
func (s *stage) largest(ctx context.Context, people int) error {
	rows, _ := s.pool.Query(ctx, `select relname, pg_relation_size(oid) from pg_class where relkind in ('r', 'i', 't') and pg_relation_size(oid) > 8 * $1::int order by 2 desc`, people)
	var name string
	var size int64
	_, err := pgx.ForEachRow(rows, []any{&name, &size}, func() error {
		fmt.Printf("    %8s bytes a row  %s\n", grouped(int(size)/people), name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("look which relations are large: %w", err)
	}
	return nil
}

// doNothing has River's worker do nothing, with a job for each person, on a
// database of the same kind, with as many workers in one process as ours has.
func (b *invites) doNothing(ctx context.Context) (err error) {
	const name = "noop"
	database, err := b.bench.Database(ctx, name, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.bench.Drop(context.WithoutCancel(ctx), name)) }()
	if _, err := rig.Call(ctx, b.bench.Binary, rig.Environment(b.bench.Dir, database, ""), "migrate"); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	out, err := rig.Call(ctx, program, os.Environ(), "noop", database, strconv.Itoa(b.people))
	if err != nil {
		return err
	}
	took, err := time.ParseDuration(strings.TrimSpace(string(out)))
	if err != nil {
		return err
	}
	b.idle = append(b.idle, float64(b.people)/took.Seconds())
	fmt.Printf("%-60s %9s/s\n", noop, grouped(int(b.idle[len(b.idle)-1])))
	return nil
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

// slowest is what requests under way allow a second where the sandbox takes its
// time.
var slowest = float64(jobs.Unlimited.MaxWorkers) / slowAnswer.Seconds()

// figures are the ways that ran, beside their limits.
func (b *invites) figures() []figure {
	var figures []figure
	people := perSecond("people")
	for _, w := range b.ways() {
		f := figure{work: w.String(), ours: across(b.invited[w], invited.speed), unit: people}
		if len(f.ours) == 0 {
			continue
		}
		switch {
		case w.slow:
			f.beside, f.limit, f.least = fmt.Sprintf("%d under way / %s", jobs.Unlimited.MaxWorkers, slowAnswer), []float64{slowest}, leastSlow
		case w.processes > 1:
			one := w
			one.processes = 1
			f.beside, f.limit, f.least = "one process", across(b.invited[one], invited.speed), leastProcesses
		default:
			f.beside, f.limit, f.least = noop, b.idle, map[string]float64{bulkCalls: leastBulk, singleCalls: leastSingle}[w.calls]
		}
		if len(f.limit) > 0 {
			figures = append(figures, f)
		}
	}
	for _, calls := range []string{bulkCalls, singleCalls} {
		runs := b.invited[b.plainest(calls)]
		if len(runs) == 0 {
			continue
		}
		each := func(of func(footprint) float64) []float64 {
			return across(runs, func(m invited) float64 { return of(m.grown) / float64(b.people) })
		}
		first, beside := firstMeasured[calls], "the first measurement"
		figures = append(figures,
			figure{work: "disk a row, all tables, after it is done, " + calls + " calls", ours: each(footprint.disk), beside: beside, limit: []float64{first.disk()}, unit: inBytes, most: mostFootprint},
			figure{work: "write-ahead log a row, " + calls + " calls", ours: each(footprint.wal), beside: beside, limit: []float64{first.wal()}, unit: inBytes, most: mostFootprint})
	}
	return figures
}

// plainest is the way that disk and log are told of.
func (b *invites) plainest(calls string) way {
	return way{calls: calls, processes: 1, people: b.people}
}

// growth is the table of how inviting by bulk calls of one process grows with
// the people.
func (b *invites) growth() string {
	rows := [][]string{{"people", "runs", "people/s", "memory", "log a row", "disk a row"}, {"--:", "--:", "--:", "--:", "--:", "--:"}}
	for _, w := range b.grown() {
		runs := b.invited[w]
		each := func(of func(footprint) float64) string {
			return plainly(median(across(runs, func(m invited) float64 { return of(m.grown) })) / float64(w.people))
		}
		rows = append(rows, []string{grouped(w.people), grouped(len(runs)), spread(across(runs, invited.speed), plain), inMebibytes.write(median(across(runs, invited.memory))),
			each(footprint.wal), each(footprint.disk)})
	}
	return table(rows)
}

// processes is the table of how fast so many processes invite.
func (b *invites) processes() string {
	rows := [][]string{{"processes", bulkCalls + " calls, people/s", singleCalls + " calls, people/s"}, {"--:", "--:", "--:"}}
	for _, n := range fleets {
		row := []string{grouped(n)}
		for _, calls := range []string{bulkCalls, singleCalls} {
			row = append(row, spread(across(b.invited[way{calls: calls, processes: n, people: b.people}], invited.speed), plain))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// byFleet are the same as curves, beside River's worker that does nothing.
func (b *invites) byFleet() []curve {
	var curves []curve
	for _, calls := range []string{bulkCalls, singleCalls} {
		c := curve{name: calls + " calls"}
		for _, n := range fleets {
			c.points = append(c.points, plotter.XY{X: float64(n), Y: median(across(b.invited[way{calls: calls, processes: n, people: b.people}], invited.speed))})
		}
		curves = append(curves, c)
	}
	most := median(b.idle)
	return append(curves, curve{noop + ", 1 process", plotter.XYs{{X: float64(slices.Min(fleets)), Y: most}, {X: float64(slices.Max(fleets)), Y: most}}})
}

// byTable is the table of what each row takes in which table, beside the first
// measurement.
func (b *invites) byTable() string {
	rows := [][]string{{"bytes a row", "bulk calls", "at first", "single calls", "at first"}, {"---", "--:", "--:", "--:", "--:"}}
	line := func(name string, of func(footprint) float64) {
		row := []string{name}
		for _, calls := range []string{bulkCalls, singleCalls} {
			now := median(across(b.invited[b.plainest(calls)], func(m invited) float64 { return of(m.grown) })) / float64(b.people)
			row = append(row, plainly(now), plainly(of(firstMeasured[calls])))
		}
		rows = append(rows, row)
	}
	for _, name := range weighed {
		line("`"+name+"`", func(f footprint) float64 { return float64(f.tables[name]) })
	}
	line("all tables", footprint.disk)
	line("write-ahead log", footprint.wal)
	return table(rows)
}

// pages is docs/bench/invite.md.
func (b *invites) pages(made string) (map[string]string, error) {
	if b.only != "" {
		return nil, nil
	}
	return map[string]string{"invite.md": fmt.Sprintf(`# How fast people are invited

Limits are none, and the sandbox answers at once, so that the program itself is what is slow: each person's attempt is committed
before their request, their outcome after it. Beside it, on the same PostgreSQL with its defaults and with as many workers (%d),
River works a job for each row that does nothing, until all are recorded as completed. Workers, sandbox and PostgreSQL share the machine.
Time is from the first attempt to the last outcome. Afterwards everybody must have one mail. %s

%s
By bulk calls of one process, as people grow in number. Log is PostgreSQL's write-ahead log and disk all tables with their indexes,
after a vacuum, with what they take when they are empty; both from before the import until everybody is invited, in bytes a row. A
table's bytes are those of its largest moment: a vacuum makes room within it. Memory is the most that the worker had resident.

%s
Of %s people, by table, beside the first measurement:

%s
%s

%s`, jobs.Unlimited.MaxWorkers, runsText(b.runs), figureTable(b.figures()), b.growth(), grouped(b.people), b.byTable(), firstText, made)}, nil
}

// grown are the ways by bulk calls of one process, the fewest people first.
func (b *invites) grown() []way {
	var ways []way
	for w := range b.invited {
		if w.calls == bulkCalls && w.processes == 1 {
			ways = append(ways, w)
		}
	}
	slices.SortFunc(ways, func(x, y way) int { return cmp.Compare(x.people, y.people) })
	return ways
}
