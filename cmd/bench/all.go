package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot/plotter"
)

// scale is how much is measured.
type scale struct {
	files   []int // rows of the files to import
	huge    int   // rows of a file that is imported once; 0: none
	people  int   // who are invited, by each number of processes
	alone   []int // and by one process, once
	few     int   // and where answers take 200 ms
	results int   // rows whose results are written
	windows int   // of the general limit, that a sweep goes on for
	asked   int   // how often each question is asked in a round
}

var (
	wholeScale = scale{importSizes, hugeSize, 20_000, []int{1_000, 200_000}, 5_000, 1_000_000, 3, 300}
	quickScale = scale{[]int{1_000, 10_000}, 100_000, 2_000, []int{1_000}, 1_000, 100_000, 1, 100}
)

// measurement is a part of the whole that has no page of its own.
type measurement interface {
	measure(ctx context.Context, b *bench) error
	figures() []figure
}

// everything is all that is measured, in one report.
type everything struct {
	runs  int
	scale scale
	only  string // the name of the part that is to be measured; empty: all

	starts    *starts
	sweeps    *sweeps
	exports   *exports
	invites   *invites
	imports   *imports
	questions *questions
}

// allBench measures everything and writes docs/bench/README.md, with its
// pictures and the pages of the import and of inviting.
func allBench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("all", flag.ContinueOnError)
	runs := flags.Int("runs", 3, "how often each runs; medians are reported")
	huge := flags.Int("huge", wholeScale.huge, "the rows of the largest file, which is imported once and then asked about; 10,000,000 take 20 GB of disk")
	windows := flags.Int("windows", wholeScale.windows, "for how many windows of the general limit a sweep goes on; 100 are 100,000 revocations")
	quick := flags.Bool("quick", false, "measure a tenth or less of everything, to see that it works")
	only := flags.String("only", "", "measure one part alone, and write no report: start, sweep, results, invite, import")
	return publish(ctx, flags, args, func() (part, map[string]string, error) {
		s := wholeScale
		if *quick {
			s = quickScale
		}
		flags.Visit(func(f *flag.Flag) { // what is asked for wins over what is quick
			switch f.Name {
			case "huge":
				s.huge = *huge
			case "windows":
				s.windows = *windows
			}
		})
		w := newEverything(*runs, s)
		w.only = *only
		if known := slices.Collect(maps.Keys(w.parts())); *runs < 1 || s.windows < 1 || *only != "" && !slices.Contains(known, *only) {
			return nil, nil, fmt.Errorf("-runs and -windows are 1 at least, and -only one of %s", strings.Join(known, ", "))
		}
		return w, nil, nil
	})
}

func newEverything(runs int, s scale) *everything {
	w := &everything{runs: runs, scale: s,
		starts:    &starts{runs: runs},
		sweeps:    &sweeps{runs: runs, windows: s.windows},
		exports:   &exports{runs: runs, rows: s.results},
		invites:   &invites{runs: runs, people: s.people, few: s.few, alone: s.alone},
		imports:   &imports{runs: runs, sizes: s.files, huge: s.huge},
		questions: &questions{runs: runs, times: s.asked},
	}
	w.imports.questions = w.questions
	return w
}

// parts are those that are measured, by name.
func (w *everything) parts() map[string]measurement {
	return map[string]measurement{"start": w.starts, "sweep": w.sweeps, "results": w.exports, "invite": w.invites, "import": w.imports}
}

func (w *everything) measure(ctx context.Context, b *bench) error {
	for _, name := range slices.Sorted(maps.Keys(w.parts())) {
		if w.only != "" && name != w.only {
			continue
		}
		began := time.Now()
		fmt.Printf("== %s\n", name)
		if err := w.parts()[name].measure(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Printf("== %s took %s\n", name, time.Since(began).Round(time.Second))
	}
	return nil
}

func (w *everything) figures() []figure {
	if w.only != "" {
		return w.parts()[w.only].figures()
	}
	var figures []figure
	for _, p := range []measurement{w.imports, w.invites, w.sweeps, w.exports, w.starts} {
		figures = append(figures, p.figures()...)
	}
	return figures
}

// pages are docs/bench/README.md, its pictures, and the parts' own pages.
func (w *everything) pages(made string) (map[string]string, error) {
	if w.only != "" {
		return nil, nil
	}
	pages := map[string]string{"README.md": w.page(made)}
	for _, p := range []part{w.imports, w.invites} {
		more, err := p.pages(made)
		if err != nil {
			return nil, err
		}
		maps.Copy(pages, more)
	}
	for name, d := range w.drawings() {
		svg, err := d.svg()
		if err != nil {
			return nil, err
		}
		pages[name+".svg"] = svg
	}
	return pages, nil
}

// drawings are the pictures of the report, by name.
func (w *everything) drawings() map[string]drawing {
	imports := func(of func(spent) float64, by float64) plotter.XYs { return grow(w.imports.ours, of, by) }
	inviting := func(of func(invited) float64) plotter.XYs {
		var points plotter.XYs
		for _, way := range w.invites.grown() {
			points = append(points, plotter.XY{X: float64(way.people), Y: median(across(w.invites.invited[way], of))})
		}
		return points
	}
	const mebibyte = 1 << 20
	return map[string]drawing{
		"time": {title: "Time", x: "rows", y: "seconds", log: true, curves: []curve{
			{"import", imports(spent.seconds, 1)},
			{"check", grow(w.imports.check, spent.seconds, 1)},
			{"invite, bulk calls, no limits", inviting(invited.seconds)},
		}},
		"memory": {title: "Memory of the process", x: "rows", y: "MiB", log: true, curves: []curve{
			{"import", imports(spent.memory, mebibyte)},
			{"check", grow(w.imports.check, spent.memory, mebibyte)},
			{"invite, bulk calls, no limits", inviting(func(m invited) float64 { return m.memory() / mebibyte })},
		}},
		"disk": {title: "What comes to the database", x: "rows", y: "MiB", log: true, curves: []curve{
			{"import, write-ahead log", imports(spent.logBytes, mebibyte)},
			{"import, disk", imports(spent.disk, mebibyte)},
			{"import and invite, write-ahead log", inviting(func(m invited) float64 { return m.grown.wal() / mebibyte })},
			{"import and invite, disk", inviting(func(m invited) float64 { return m.grown.disk() / mebibyte })},
		}},
		"processes": {title: "People invited a second", x: "processes", y: "people/s", ticks: fleets, curves: w.invites.byFleet()},
	}
}

// grow are the medians of the runs, by the number of rows.
func grow(runs map[int][]spent, of func(spent) float64, by float64) plotter.XYs {
	var points plotter.XYs
	for _, rows := range slices.Sorted(maps.Keys(runs)) {
		points = append(points, plotter.XY{X: float64(rows), Y: median(across(runs[rows], of)) / by})
	}
	return points
}

// page is docs/bench/README.md.
func (w *everything) page(made string) string {
	verdict := "Everything is as it should be."
	if works := missed(w.figures()); len(works) > 0 {
		verdict = "Not as it should be: " + strings.Join(works, "; ") + "."
	}
	return fmt.Sprintf(`# How fast bulkinvite is, and how what it costs grows

%s
`+"`make bench`"+` measures all of this, beside what it can't be faster than, on a PostgreSQL with its defaults that it starts for that.
Programs, sandbox and PostgreSQL share the machine. Other machines have other numbers: compare the ratios.

%s
%s %s

- The bare loop parses the file, copies its rows and inserts the same jobs, in one transaction, and checks nothing: [import](import.md).
- People are invited without limits and by a sandbox that answers at once, each attempt committed before its request and the outcome
  after it; River's worker that does nothing has the same database and as many workers: [invite](invite.md).
- A sweep is counted from its first revocation on, over whole windows: revocations and reads, since both weigh on the limit.
- Questions are put to `+"`serve`"+`'s API, of one running batch with all of the rows; the limit is a round trip to PostgreSQL and %s.
- The results go to a file, as does what `+"`\\copy`"+` selects: the same columns of the same rows.
- `+"`send`"+` starts with a PostgreSQL of its own that was set up before and has to start too.

## How it grows with the rows

Log is PostgreSQL's write-ahead log and disk all tables with their indexes, jobs among them, both in bytes a row.

%s
Inviting, by bulk calls of one process; log and disk include the import:

%s
![Time by rows](time.svg)

![Memory by rows](memory.svg)

![Log and disk by rows](disk.svg)

## How it grows with processes

%s
![People invited a second by processes](processes.svg)

## What a row takes on disk

Of %s people, once all is done; by table, with its indexes, beside the first measurement:

%s
%s

## First answers and whole commands

Of the batch with %s rows. The server counts the rows of a large batch when it is first asked, and gives everybody that count for as
long as counting again would take more than a hundredth of the time: its answers say how old it is. A command starts, connects to the
database, and counts for itself.

%s
## What is smaller here

%s

What of Clerk's budget is used when its limits count: [budget](budget.md).
`, made, figureTable(w.figures()), verdict, runsText(w.runs), mostQuestion,
		w.imports.growth(), w.invites.growth(), w.invites.processes(),
		grouped(w.invites.people), w.invites.byTable(), firstText,
		grouped(w.questions.rows), w.questions.whole(), w.smaller())
}

// smaller says what is measured with less than it was meant for, and how to
// measure that whole.
func (w *everything) smaller() string {
	lines := []string{
		fmt.Sprintf("- Inviting is measured with %s people, and %s where answers take %s; `make bench-invite` has 200,000 and 20,000, in three quarters of an hour.", grouped(w.invites.people), grouped(w.invites.few), slowAnswer),
		fmt.Sprintf("- A sweep goes on for %s revocations; `make bench-sweep` for 100,000, in 17 minutes.", grouped(w.sweeps.windows*generalLimit)),
		fmt.Sprintf("- %s rows are imported once, and %s people invited once.", grouped(w.imports.huge), grouped(slices.Max(w.scale.alone))),
		"- How a single row's time grows with what is there already is not in it: each file comes to an empty database.",
	}
	return strings.Join(lines, "\n")
}
