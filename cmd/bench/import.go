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

	"bulkinvite/cmd/internal/rig"
)

// What the import is to keep to, at any number of rows.
const (
	leastRatio   = 0.9      // of the bare loop's speed
	mostMemory   = 64 << 20 // bytes of the importing process, PostgreSQL apart
	memoryPerRow = 24       // bytes beyond that, to know duplicates by
	leastCheck   = 0.25     // of encoding/csv's speed
)

// The sizes of files. The bare loop runs beside the larger ones; the huge one
// runs once, if asked for.
var (
	importSizes = []int{10_000, 100_000, 1_000_000}
	pairSizes   = []int{100_000, 1_000_000}
)

const hugeSize = 10_000_000

// imports is the comparison of the import with a bare loop, under way.
type imports struct {
	bench    *bench
	runs     int
	sandbox  *rig.Standin
	template string // a database with the program's tables, and nobody connected
	made     int    // databases

	bare, ours map[int][]spent // by the number of rows, in the order of the runs
	csv, check []spent
}

// spent is what one run took.
type spent struct {
	all  time.Duration // from the start of the process to its end
	load time.Duration // of that, the transaction alone; 0: the process doesn't say
	peak int64         // bytes of memory
}

// importBench runs bulkinvite import beside a bare loop and writes the report.
func importBench(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("import", flag.ContinueOnError)
	runs := flags.Int("runs", 3, "how often each runs; medians are reported")
	huge := flags.Bool("huge", false, "import 10,000,000 rows too, once; it takes 20 GB of disk")
	dir := flags.String("out", filepath.Join("docs", "bench"), "the directory for import.md")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *runs < 1 {
		return usageError{errors.New("import takes flags alone, and at least one run")}
	}
	b := &imports{runs: *runs, bare: map[int][]spent{}, ours: map[int][]spent{}}
	if b.bench, err = newBench(ctx, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	machine, err := b.bench.Machine(ctx)
	if err != nil {
		return err
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx, *huge); err != nil {
		return err
	}
	command := "go run ./cmd/bench import"
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "out" { // it says nothing about the numbers
			command += fmt.Sprintf(" -%s=%s", f.Name, f.Value)
		}
	})
	page := b.page(machine, command)
	fmt.Print("\n", page)
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*dir, "import.md"), []byte(page), 0o644)
}

// prepare starts the sandbox, which the import asks which instance it is for,
// and makes the template.
func (b *imports) prepare(ctx context.Context) (err error) {
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

func (b *imports) close() error {
	var err error
	if b.sandbox != nil {
		err = b.sandbox.Kill()
	}
	return errors.Join(err, b.bench.Close())
}

// measure runs one way after the other, and in each run another way first, so
// that what else the machine does meets both.
func (b *imports) measure(ctx context.Context, huge bool) error {
	for _, rows := range importSizes {
		if err := b.onFile(ctx, rows, func(file string) error { return b.size(ctx, rows, file) }); err != nil {
			return err
		}
	}
	if !huge {
		return nil
	}
	return b.onFile(ctx, hugeSize, func(file string) error { return b.importFile(ctx, hugeSize, file) })
}

// size runs everything on a file.
func (b *imports) size(ctx context.Context, rows int, file string) error {
	for run := range b.runs {
		ways := []func(context.Context, int, string) error{b.importFile}
		if slices.Contains(pairSizes, rows) {
			ways = append(ways, b.bareLoop)
		}
		if rows == slices.Max(importSizes) {
			ways = append(ways, b.checkFile, b.parseFile)
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
func (b *imports) onDatabase(ctx context.Context, use func(url string) error) (err error) {
	b.made++
	name := fmt.Sprintf("import_%d", b.made)
	url, err := b.bench.Database(ctx, name, b.template)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.bench.Drop(context.WithoutCancel(ctx), name)) }()
	if _, err := b.bench.Admin.Exec(ctx, "checkpoint"); err != nil {
		return fmt.Errorf("have PostgreSQL write everything down: %w", err)
	}
	return use(url)
}

// importFile runs bulkinvite import.
func (b *imports) importFile(ctx context.Context, rows int, file string) error {
	return b.onDatabase(ctx, func(url string) error {
		env := append(rig.Environment(b.bench.Dir, url, benchKey), "CLERK_API_URL="+b.sandbox.URL+"/v1")
		log := filepath.Join(b.bench.Dir, "import.log")
		m, err := b.spend(ctx, rows, log, b.bench.Binary, env, "import", file, "--yes", "--json", "--no-preflight", "--log-format=json")
		if err != nil {
			return err
		}
		if m.load, err = between(log, "plan", "imported"); err != nil {
			return err
		}
		b.ours[rows] = append(b.ours[rows], m)
		fmt.Printf("%10s rows  %-18s %7.2f s, of which %.2f s for the transaction; %3d MiB\n", grouped(rows), "bulkinvite import", m.all.Seconds(), m.load.Seconds(), m.peak>>20)
		return counted(ctx, url, rows)
	})
}

// bareLoop runs the loop that does as little as can be.
func (b *imports) bareLoop(ctx context.Context, rows int, file string) error {
	return b.onDatabase(ctx, func(url string) error {
		m, err := b.self(ctx, rows, "bare-import", file, url)
		if err != nil {
			return err
		}
		b.bare[rows] = append(b.bare[rows], m)
		fmt.Printf("%10s rows  %-18s %7.2f s; %3d MiB\n", grouped(rows), "bare loop", m.all.Seconds(), m.peak>>20)
		return counted(ctx, url, rows)
	})
}

// checkFile runs bulkinvite check, with no database to ask.
func (b *imports) checkFile(ctx context.Context, rows int, file string) error {
	env := rig.Environment(filepath.Join(b.bench.Dir, "nothing"), "", "")
	m, err := b.spend(ctx, rows, filepath.Join(b.bench.Dir, "check.log"), b.bench.Binary, env, "check", file, "--json")
	b.check = append(b.check, m)
	fmt.Printf("%10s rows  %-18s %7.2f s; %3d MiB\n", grouped(rows), "bulkinvite check", m.all.Seconds(), m.peak>>20)
	return err
}

// parseFile has encoding/csv alone read the file.
func (b *imports) parseFile(ctx context.Context, rows int, file string) error {
	m, err := b.self(ctx, rows, "bare-parse", file)
	b.csv = append(b.csv, m)
	fmt.Printf("%10s rows  %-18s %7.2f s; %3d MiB\n", grouped(rows), "encoding/csv", m.all.Seconds(), m.peak>>20)
	return err
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
func (b *imports) spend(ctx context.Context, rows int, log, program string, env []string, args ...string) (m spent, err error) {
	if err := os.RemoveAll(log); err != nil {
		return m, err
	}
	began := time.Now()
	p, err := rig.Launch(ctx, program, env, log, nil, args...)
	if err != nil {
		return m, err
	}
	m.peak, err = rig.PeakMemory(p)
	m.all = time.Since(began)
	if err = errors.Join(err, p.Wait(ctx)); err != nil {
		return m, fmt.Errorf("%s rows: %w", grouped(rows), err)
	}
	return m, nil
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

// ratio is the median over the runs of how fast ours was, beside what ran in
// the same run: 1 is as fast.
func ratio(bare, ours []spent, took func(spent) time.Duration) float64 {
	var ratios []float64
	for i := range bare {
		ratios = append(ratios, bare[i].all.Seconds()/took(ours[i]).Seconds())
	}
	return median(ratios)
}

// across gives one number of every run.
func across[T any](runs []spent, of func(spent) T) []T {
	var values []T
	for _, m := range runs {
		values = append(values, of(m))
	}
	return values
}

func all(m spent) time.Duration  { return m.all }
func load(m spent) time.Duration { return m.load }
func peak(m spent) int64         { return m.peak }

// page is docs/bench/import.md.
func (b *imports) page(machine, command string) string {
	runs := "One run of each."
	if b.runs > 1 {
		runs = fmt.Sprintf("Medians of %d runs of each, in turn; a ratio is the median of those within a run.", b.runs)
	}
	return fmt.Sprintf(`# How fast a file is imported

The bare loop parses the file with encoding/csv, copies its rows by COPY into the table of results, which has its indexes, and
inserts the same job for each row by River's InsertManyFastTx, %s rows at a time, in one transaction; it checks nothing.
Beside it runs `+"`bulkinvite import --yes --no-preflight`"+`, as a person starts it: it reads the file for its plan, then reads it again,
detects encoding, delimiter and columns, checks every address, finds duplicates, and writes. Each has a process of its own and a
new database on a PostgreSQL with its defaults; a row has %d bytes. Time is from the start of the process to its end.
%s

%s
Memory is the most that the importing process had resident (VmHWM), PostgreSQL apart. It is to stay under %d MiB and %d bytes a
row, by which duplicates are found; time is to grow with the rows and no faster.

%s
Reading alone, without a database: `+"`bulkinvite check`"+` beside a program that has encoding/csv parse the same file and drops what it gets.

%s
    %s

%s.
`, grouped(bareChunk), rowBytes, runs, b.pairs(), mostMemory>>20, memoryPerRow, b.growth(), b.reading(), command, machine)
}

// pairs is the table of the import beside the bare loop.
func (b *imports) pairs() string {
	rows := [][]string{{"", "rows", "time", "rows/s", "of the bare loop's speed"}, {"---", "--:", "--:", "--:", "--:"}}
	line := func(name string, n int, took time.Duration, ratio string) {
		rows = append(rows, []string{name, grouped(n), seconds(took), rate(n, took), ratio})
	}
	for _, n := range pairSizes {
		line("the bare loop", n, median(across(b.bare[n], all)), "")
		line("bulkinvite import", n, median(across(b.ours[n], all)), verdict(ratio(b.bare[n], b.ours[n], all), leastRatio))
		line("of that, the transaction alone", n, median(across(b.ours[n], load)), fmt.Sprintf("%.2f", ratio(b.bare[n], b.ours[n], load)))
	}
	return table(rows)
}

// growth is the table of how time and memory grow.
func (b *imports) growth() string {
	rows := [][]string{{"rows", "time", "for 1,000 rows", "memory", "at most", "the bare loop's"}, {"--:", "--:", "--:", "--:", "--:", "--:"}}
	for _, n := range slices.Sorted(maps.Keys(b.ours)) {
		took, most := median(across(b.ours[n], all)), int64(mostMemory+memoryPerRow*n)
		bare := ""
		if len(b.bare[n]) > 0 {
			bare = mebibytes(median(across(b.bare[n], peak)))
		}
		rows = append(rows, []string{grouped(n), seconds(took), fmt.Sprintf("%.1f ms", 1e6*took.Seconds()/float64(n)),
			mebibytes(median(across(b.ours[n], peak))), mebibytes(most), bare})
	}
	return table(rows)
}

// reading is the table of check beside encoding/csv.
func (b *imports) reading() string {
	n := slices.Max(importSizes)
	rows := [][]string{{"", "rows", "time", "rows/s", "of encoding/csv's speed", "memory"}, {"---", "--:", "--:", "--:", "--:", "--:"}}
	bare, ours := median(across(b.csv, all)), median(across(b.check, all))
	rows = append(rows,
		[]string{"encoding/csv", grouped(n), seconds(bare), rate(n, bare), "", mebibytes(median(across(b.csv, peak)))},
		[]string{"bulkinvite check", grouped(n), seconds(ours), rate(n, ours), verdict(ratio(b.csv, b.check, all), leastCheck), mebibytes(median(across(b.check, peak)))})
	return table(rows)
}

// verdict says how a ratio compares with what it is to be.
func verdict(ratio, least float64) string {
	if ratio < least {
		return fmt.Sprintf("%.2f, and should be %.2f", ratio, least)
	}
	return fmt.Sprintf("%.2f (at least %.2f)", ratio, least)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func rate(rows int, took time.Duration) string { return grouped(int(float64(rows) / took.Seconds())) }

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

func table(rows [][]string) string {
	var out strings.Builder
	rig.WriteTable(&out, rows)
	return out.String()
}
