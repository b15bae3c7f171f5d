package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/cmd/internal/rig"
	"bulkinvite/postgres"
)

// What the import is to keep to, at any number of rows.
const (
	leastImport  = 0.9      // of the bare loop's speed
	mostMemory   = 64 << 20 // bytes of the importing process, PostgreSQL apart
	memoryPerRow = 24       // bytes beyond that, to know duplicates by
	leastCheck   = 0.25     // of encoding/csv's speed
)

// The sizes of files. The bare loop runs beside the largest; the huge one runs
// once.
var importSizes = []int{1_000, 10_000, 100_000, 1_000_000}

const hugeSize = 10_000_000

// imports is the comparison of the import with a bare loop, under way.
type imports struct {
	bench    *bench
	runs     int
	sizes    []int // the last is the largest
	huge     int   // rows that are imported once; 0: none
	sandbox  *rig.Standin
	template string // a database with the program's tables, and nobody connected
	made     int    // databases

	ours, check map[int][]spent // by the number of rows, in the order of the runs
	bare, csv   []spent         // of the largest file

	questions *questions // put to the database with the huge file's rows; nil: none
}

// spent is what one run took.
type spent struct {
	rows  int
	all   time.Duration // from the start of the process to its end
	load  time.Duration // of that, the transaction alone; 0: the process doesn't say
	peak  int64         // bytes of memory
	grown footprint     // what came to the database; empty: there is none
}

func (m spent) rate() float64     { return float64(m.rows) / m.all.Seconds() }
func (m spent) loadRate() float64 { return float64(m.rows) / m.load.Seconds() }
func (m spent) seconds() float64  { return m.all.Seconds() }
func (m spent) memory() float64   { return float64(m.peak) }
func (m spent) logBytes() float64 { return m.grown.wal() }
func (m spent) disk() float64     { return m.grown.disk() }

// importBench runs bulkinvite import beside a bare loop and writes its page.
func importBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("import", flag.ContinueOnError)
	runs := flags.Int("runs", 3, "how often each runs; medians are reported")
	huge := flags.Bool("huge", false, "import 10,000,000 rows too, once; it takes 20 GB of disk")
	return publish(ctx, flags, args, func() (part, map[string]string, error) {
		i := &imports{runs: *runs, sizes: importSizes}
		if *huge {
			i.huge = hugeSize
		}
		return i, nil, nil
	})
}

// largest is how many rows the file has that the bare loop runs on.
func (b *imports) largest() int { return slices.Max(b.sizes) }

// prepare starts the sandbox, which the import asks which instance it is for,
// and makes the template.
func (b *imports) prepare(ctx context.Context, bench *bench) (err error) {
	b.bench, b.ours, b.check = bench, map[int][]spent{}, map[int][]spent{}
	b.template = "template_import"
	database, err := b.bench.Database(ctx, b.template, "")
	if err != nil {
		return err
	}
	env := rig.Environment(b.bench.Dir, database, benchKey)
	if _, err := rig.Call(ctx, b.bench.Binary, env, "migrate"); err != nil {
		return err
	}
	b.sandbox, err = rig.OpenStandin(ctx, b.bench.Binary, env, filepath.Join(b.bench.Dir, "sandbox.log"))
	return err
}

// measure runs one way after the other, and in each run another way first, so
// that what else the machine does meets both.
func (b *imports) measure(ctx context.Context, bench *bench) (err error) {
	if err := b.prepare(ctx, bench); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.sandbox.Kill()) }()
	for _, rows := range b.sizes {
		if err := b.onFile(ctx, rows, func(file string) error { return b.size(ctx, rows, file) }); err != nil {
			return err
		}
	}
	if b.huge == 0 {
		return nil
	}
	return b.onFile(ctx, b.huge, func(file string) error {
		return errors.Join(b.checkFile(ctx, b.huge, file), b.importFile(ctx, b.huge, file))
	})
}

// size runs everything on a file.
func (b *imports) size(ctx context.Context, rows int, file string) error {
	for run := range b.runs {
		ways := []func(context.Context, int, string) error{b.importFile, b.checkFile}
		if rows == b.largest() {
			ways = append(ways, b.bareLoop, b.parseFile)
		}
		if run%2 == 1 {
			slices.Reverse(ways)
		}
		for _, way := range ways {
			if err := way(ctx, rows, file); err != nil {
				return err
			}
		}
	}
	return nil
}

// onFile makes a file of so many people for as long as use needs it.
func (b *imports) onFile(ctx context.Context, rows int, use func(file string) error) (err error) {
	path := filepath.Join(b.bench.Dir, fmt.Sprintf("people-%d.csv", rows))
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	if err := writePeople(path, rows); err != nil {
		return err
	}
	return use(path)
}

// onDatabase makes a database with the program's tables for as long as use needs
// it, and has PostgreSQL write down first what earlier ones left in its memory.
func (b *imports) onDatabase(ctx context.Context, use func(url string, pool *pgxpool.Pool) error) (err error) {
	b.made++
	name := fmt.Sprintf("import_%d", b.made)
	url, err := b.bench.Database(ctx, name, b.template)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.bench.Drop(context.WithoutCancel(ctx), name)) }()
	pool, err := postgres.Open(ctx, url+"&pool_max_conns=1")
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := b.bench.Admin.Exec(ctx, "checkpoint"); err != nil {
		return fmt.Errorf("have PostgreSQL write everything down: %w", err)
	}
	return use(url, pool)
}

// importFile runs bulkinvite import.
func (b *imports) importFile(ctx context.Context, rows int, file string) error {
	return b.onDatabase(ctx, func(url string, pool *pgxpool.Pool) error {
		env := append(rig.Environment(b.bench.Dir, url, benchKey), "CLERK_API_URL="+b.sandbox.URL+"/v1")
		log := filepath.Join(b.bench.Dir, "import.log")
		before, err := footprintOf(ctx, pool, false)
		if err != nil {
			return err
		}
		m, err := b.spend(ctx, rows, log, b.bench.Binary, env, "import", file, "--yes", "--json", "--no-preflight", "--log-format=json")
		if err != nil {
			return err
		}
		if m.load, err = between(log, "plan", "imported"); err != nil {
			return err
		}
		after, err := footprintOf(ctx, pool, false)
		if err != nil {
			return err
		}
		m.grown = after.since(before)
		b.ours[rows] = append(b.ours[rows], m)
		m.print("bulkinvite import")
		if err := counted(ctx, pool, rows); err != nil || rows != b.huge || b.questions == nil {
			return err
		}
		return b.questions.measure(ctx, b.bench, rows, url, env, &standin{b.sandbox})
	})
}

// bareLoop runs the loop that does as little as can be.
func (b *imports) bareLoop(ctx context.Context, rows int, file string) error {
	return b.onDatabase(ctx, func(url string, pool *pgxpool.Pool) error {
		m, err := b.self(ctx, rows, "bare-import", file, url)
		if err != nil {
			return err
		}
		b.bare = append(b.bare, m)
		m.print("the bare loop")
		return counted(ctx, pool, rows)
	})
}

// checkFile runs bulkinvite check.
func (b *imports) checkFile(ctx context.Context, rows int, file string) error {
	m, err := b.spend(ctx, rows, filepath.Join(b.bench.Dir, "check.log"), b.bench.Binary, rig.Environment(b.bench.Dir, "", ""), "check", file, "--json")
	if err != nil {
		return err
	}
	b.check[rows] = append(b.check[rows], m)
	m.print("bulkinvite check")
	return nil
}

// parseFile has encoding/csv parse the file and do nothing else.
func (b *imports) parseFile(ctx context.Context, rows int, file string) error {
	m, err := b.self(ctx, rows, "bare-parse", file)
	if err != nil {
		return err
	}
	b.csv = append(b.csv, m)
	m.print("encoding/csv")
	return nil
}

// self runs a command of this program.
func (b *imports) self(ctx context.Context, rows int, args ...string) (spent, error) {
	program, err := os.Executable()
	if err != nil {
		return spent{}, fmt.Errorf("find this program: %w", err)
	}
	return b.spend(ctx, rows, filepath.Join(b.bench.Dir, args[0]+".log"), program, os.Environ(), args...)
}

// spend runs a program to its end and measures it. Its log begins anew.
func (b *imports) spend(ctx context.Context, rows int, log, program string, env []string, args ...string) (spent, error) {
	if err := os.RemoveAll(log); err != nil {
		return spent{}, err
	}
	m, err := spend(ctx, log, nil, program, env, args...)
	m.rows = rows
	if err != nil {
		return m, fmt.Errorf("%s rows: %w", grouped(rows), err)
	}
	return m, nil
}

// spend runs a program to its end and measures it.
func spend(ctx context.Context, log string, out *os.File, program string, env []string, args ...string) (m spent, err error) {
	began := time.Now()
	p, err := rig.Launch(ctx, program, env, log, out, args...)
	if err != nil {
		return m, err
	}
	m.peak, err = rig.PeakMemory(p)
	m.all = time.Since(began)
	return m, errors.Join(err, p.Wait(ctx))
}

// print says what was just measured.
func (m spent) print(what string) {
	fmt.Printf("%10s rows  %-34s %8.2f s  %9s/s  %4d MiB\n", grouped(m.rows), what, m.all.Seconds(), grouped(int(m.rate())), m.peak>>20)
}

// between is the time from one message of a log in JSON to another.
func between(log, from, to string) (time.Duration, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return 0, err
	}
	times := map[string]time.Time{}
	for line := range strings.Lines(string(text)) {
		var said struct {
			Time time.Time
			Msg  string
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			return 0, fmt.Errorf("read %s: %w", filepath.Base(log), err)
		}
		times[said.Msg] = said.Time
	}
	if times[from].IsZero() || times[to].IsZero() {
		return 0, fmt.Errorf("%s doesn't say when %q and %q were: %s", filepath.Base(log), from, to, text)
	}
	return times[to].Sub(times[from]), nil
}

// figures are the import and the check beside what they can't be faster than.
func (b *imports) figures() []figure {
	n := b.largest()
	most := func(rows int) []float64 { return []float64{float64(mostMemory + memoryPerRow*rows)} }
	allowed := fmt.Sprintf("%d MiB and %d bytes a row", mostMemory>>20, memoryPerRow)
	figures := []figure{
		{work: "import " + grouped(n) + " rows, a job for each", ours: across(b.ours[n], spent.rate), beside: "the bare loop", limit: across(b.bare, spent.rate), unit: perSecond("rows"), least: leastImport},
		{work: "of that, the transaction alone", ours: across(b.ours[n], spent.loadRate), beside: "the bare loop", limit: across(b.bare, spent.rate), unit: perSecond("rows")},
		{work: "memory of that import", ours: across(b.ours[n], spent.memory), beside: allowed, limit: most(n), unit: inMebibytes, most: 1},
	}
	if b.huge > 0 {
		figures = append(figures, figure{work: "memory of importing " + grouped(b.huge) + " rows", ours: across(b.ours[b.huge], spent.memory), beside: allowed, limit: most(b.huge), unit: inMebibytes, most: 1})
	}
	figures = append(figures,
		figure{work: "check " + grouped(n) + " rows, nothing written", ours: across(b.check[n], spent.rate), beside: "encoding/csv alone", limit: across(b.csv, spent.rate), unit: perSecond("rows"), least: leastCheck})
	if b.questions != nil {
		figures = append(figures, b.questions.figures()...)
	}
	return figures
}

// growth is the table of how an import grows with its rows.
func (b *imports) growth() string {
	rows := [][]string{{"rows", "runs", "import", "for 1,000 rows", "memory", "check", "its memory", "log a row", "disk a row"}, {"--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:"}}
	for _, n := range slices.Sorted(maps.Keys(b.ours)) {
		ours, each := b.ours[n], func(of func(spent) float64) string { return plainly(median(across(b.ours[n], of)) / float64(n)) }
		took := median(across(ours, spent.seconds))
		rows = append(rows, []string{grouped(n), grouped(len(ours)), inSeconds.write(took), inMilliseconds.write(1e6 * took / float64(n)), inMebibytes.write(median(across(ours, spent.memory))),
			inSeconds.write(median(across(b.check[n], spent.seconds))), inMebibytes.write(median(across(b.check[n], spent.memory))), each(spent.logBytes), each(spent.disk)})
	}
	return table(rows)
}

// pages is docs/bench/import.md.
func (b *imports) pages(made string) (map[string]string, error) {
	return map[string]string{"import.md": fmt.Sprintf(`# How fast a file is imported

The bare loop parses the file with encoding/csv, copies its rows by COPY into the table of results, which has its indexes, and
inserts the same job for each row by River's InsertManyFastTx, %s rows at a time, in one transaction; it checks nothing.
Beside it runs `+"`bulkinvite import --yes --no-preflight`"+`, as a person starts it: it reads the file for its plan, then reads it again,
detects encoding, delimiter and columns, checks every address, finds duplicates, and writes. Beside `+"`bulkinvite check`"+`, which needs
no database, runs a program that has encoding/csv parse the same file and drops what it gets. Each has a process of its own and a
new database on a PostgreSQL with its defaults; a row has %d bytes. Time is from the start of the process to its end; memory is the
most that the process had resident (VmHWM), PostgreSQL apart. %s

%s
As files grow, time is to grow with the rows and no faster. Log is PostgreSQL's write-ahead log and disk all tables with their
indexes, jobs among them, both in bytes; before anybody is invited.

%s
%s`, grouped(bareChunk), rowBytes, runsText(b.runs), figureTable(b.figures()), b.growth(), made)}, nil
}
