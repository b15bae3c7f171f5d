package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// contender is one way to invite people.
type contender struct {
	name string
	run  func(ctx context.Context, s *stage, people []string, over time.Duration) error
}

var contenders = []contender{
	{"a loop of single requests", func(ctx context.Context, s *stage, people []string, over time.Duration) error {
		return s.standin.loop(ctx, people, 1, over)
	}},
	{"a loop of bulk requests", func(ctx context.Context, s *stage, people []string, over time.Duration) error {
		return s.standin.loop(ctx, people, bulkSize, over)
	}},
	{"bulkinvite, 1 process", fleet(1)},
	{"bulkinvite, 4 processes", fleet(4)},
}

// fleet is so many processes on a file. They get twice the time: what they do
// too late shows in the numbers.
func fleet(processes int) func(context.Context, *stage, []string, time.Duration) error {
	return func(ctx context.Context, s *stage, people []string, over time.Duration) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 2*over+time.Minute, errors.New("it did not end in time"))
		defer cancel()
		if err := s.importFile(ctx, people); err != nil {
			return err
		}
		if err := s.work(ctx, processes); err != nil {
			return err
		}
		return s.wait(ctx)
	}
}

// measured is what one run of a contender came to.
type measured struct {
	first, all                         int // people invited in the first window, and in all
	throttled, singles, bulks, general int // requests
	curve                              []time.Duration
}

// race is the comparison to make.
type race struct {
	mode    string
	window  time.Duration
	windows int
	runs    int
}

// over is when the last window ends.
func (b race) over() time.Duration { return time.Duration(b.windows) * b.window }

// budget runs the contenders and writes the report.
func budget(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("budget", flag.ContinueOnError)
	var b race
	flags.StringVar(&b.mode, "mode", "sliding", "how the sandbox counts: sliding or fixed")
	flags.DurationVar(&b.window, "window", 6*time.Second, "what an hour of Clerk's becomes")
	flags.IntVar(&b.windows, "windows", 10, "how many windows each runs")
	flags.IntVar(&b.runs, "runs", 3, "how often each runs; medians are reported")
	dir := flags.String("out", filepath.Join("docs", "bench"), "the directory for budget.md and budget.svg")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 || b.windows < 1 || b.runs < 1 || b.window <= 0 {
		return usageError{errors.New("budget takes flags alone, and numbers above zero")}
	}
	r, err := newBench(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	machine, err := r.Machine(ctx)
	if err != nil {
		return err
	}
	results, err := b.measure(ctx, r)
	if err != nil {
		return err
	}
	table := b.table(results)
	fmt.Print("\n", table, "\n", machine, "\n")
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	command := "go run ./cmd/bench budget"
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "out" { // it says nothing about the numbers
			command += fmt.Sprintf(" -%s %s", f.Name, f.Value)
		}
	})
	if err := os.WriteFile(filepath.Join(*dir, "budget.md"), []byte(b.page(table, machine, command)), 0o644); err != nil {
		return err
	}
	return b.draw(results, filepath.Join(*dir, "budget.svg"))
}

// measure runs every contender so often, in turn, so that what else the machine
// does meets all of them.
func (b race) measure(ctx context.Context, r *bench) ([][]measured, error) {
	results := make([][]measured, len(contenders))
	for run := range b.runs {
		for i, c := range contenders {
			m, err := b.one(ctx, r, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Printf("run %d of %d  %-26s %6s invited in %d windows\n", run+1, b.runs, c.name, grouped(m.all), b.windows)
			results[i] = append(results[i], m)
		}
	}
	return results, nil
}

// one runs a contender on as many people as the limits allow in the windows.
func (b race) one(ctx context.Context, r *bench, c contender) (m measured, err error) {
	s, err := r.stage(ctx, conditions{mode: b.mode, window: b.window})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := c.run(ctx, s, crowd("person", b.windows*perWindow), b.over()); err != nil {
		return m, err
	}
	seen, err := s.standin.record(ctx)
	if err != nil {
		return m, err
	}
	if n := len(seen.mailbox.Doubled); n > 0 {
		return m, fmt.Errorf("%d people got two mails", n)
	}
	return b.sum(seen), nil
}

// sum counts what lies within the windows.
func (b race) sum(seen *record) measured {
	end := seen.begin().Add(b.over())
	within := &record{invitations: seen.invitations}
	within.requests = slices.DeleteFunc(slices.Clone(seen.requests), func(q request) bool { return !q.At.Before(end) })
	m := measured{
		first: within.invited(b.window), all: within.invited(b.over()), throttled: within.answered(429),
		singles: within.sent("create"), bulks: within.sent("bulk"),
	}
	m.general = len(within.requests) - m.singles - m.bulks
	for _, in := range seen.invitations[:m.all] {
		m.curve = append(m.curve, max(0, in.CreatedAt.Sub(seen.begin())))
	}
	return m
}

// table is the result in Markdown.
func (b race) table(results [][]measured) string {
	rows := [][]string{
		{"", "first window", fmt.Sprintf("%d windows", b.windows), "of the limit", "429 answers", "single", "bulk", "other"},
		{"---", "--:", "--:", "--:", "--:", "--:", "--:", "--:"},
	}
	limit := b.windows * perWindow
	for i, c := range contenders {
		of := func(field func(measured) int) int {
			var values []int
			for _, m := range results[i] {
				values = append(values, field(m))
			}
			return median(values)
		}
		all := of(func(m measured) int { return m.all })
		rows = append(rows, []string{
			c.name,
			grouped(of(func(m measured) int { return m.first })),
			grouped(all),
			fmt.Sprintf("%.0f %%", 100*float64(all)/float64(limit)),
			grouped(of(func(m measured) int { return m.throttled })),
			grouped(of(func(m measured) int { return m.singles })),
			grouped(of(func(m measured) int { return m.bulks })),
			grouped(of(func(m measured) int { return m.general })),
		})
	}
	rows = append(rows, []string{"the limit", grouped(perWindow), grouped(limit), "", "", "", "", ""})
	var out strings.Builder
	rig.WriteTable(&out, rows)
	return out.String()
}

// page is docs/bench/budget.md.
func (b race) page(table, machine, command string) string {
	runs := "One run of each."
	if b.runs > 1 {
		runs = fmt.Sprintf("Medians of %d runs of each, in turn.", b.runs)
	}
	return fmt.Sprintf(`# How much of Clerk's budget is used

Clerk allows %d single and %d bulk creates of %d people an hour: %d people at once, then %d an hour.
Here an hour is %s, counted by the sandbox in %s windows, in a process of its own; each way has %s people to
invite and %d windows, which begin with its first create. The loops send one request after another and, told to slow
down, wait for Retry-After and send the same again. Bulkinvite keeps its ledger in PostgreSQL with its defaults.
%s

%s
"Other" requests are reads: who is a user or invited already, before a create is spent on them, and which instance it is.

![People invited over time, beside the limit's own line](budget.svg)

    %s

%s.
`, singles, bulks, bulkSize, perWindow, perWindow, b.window, b.mode, grouped(b.windows*perWindow), b.windows, runs, table, command, machine)
}

// typical is the run whose number of people is the median: the one to draw.
func typical(runs []measured) measured {
	sorted := slices.SortedStableFunc(slices.Values(runs), func(x, y measured) int { return cmp.Compare(x.all, y.all) })
	return sorted[(len(sorted)-1)/2]
}
