package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// line is a promise, and how to see whether it is kept.
type line struct {
	name string
	what string
	show func(context.Context, *show) error
}

// budgetLines are those of the budget, in the order in which they run.
var budgetLines = []line{
	{"settings", "limits that are none are refused, with the form that is expected", showSettings},
	{"first-window", "files of exactly 350 and of 1,000 clean rows: 350 people in the first window", showFirstWindow},
	{"ideal", "3,500 clean rows: within 5 % of nine windows and the margin; each window is used within a second", showIdeal},
	{"throttled", "no 429 answer in any run of the two lines above", showThrottled},
	{"kill", "kill -9 of every process in the middle of a window, 5 times: no 429, nothing lost, no double mail", showKill},
	{"known", "1,000 rows of which 400 are users or already invited: no create is spent on those", showKnown},
	{"other-client", "another client spends half the budget: all rows decided, few 429s", showOtherClient},
	{"hour", "the real window of 1 h: 350 people within 60 s, then idle", showHour},
	{"idle", "100,000 rows queued and the budget spent: idle for 60 s, then the first request within 1 s", showIdle},
}

// The windows of the sandbox, and how many processes work.
var (
	modes = []string{"sliding", "fixed"}
	sizes = []int{1, 4}
)

// scaled is what an hour becomes where the hour is not the point.
const scaled = 6 * time.Second

// show is a run of the lines.
type show struct {
	bench  *bench
	out    io.Writer
	line   string
	passed int
	failed int
	clean  map[cleanCase]*cleanRun
}

// showLines runs those of all lines that are named, or all, and prints what came
// of each.
func showLines(ctx context.Context, command string, all []line, args []string) (err error) {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	list := flags.Bool("list", false, "print the lines' names alone")
	if err := parse(flags, args); err != nil {
		return err
	}
	chosen, err := choose(all, flags.Args())
	if err != nil {
		return err
	}
	if *list {
		for _, l := range chosen {
			fmt.Printf("%-13s %s\n", l.name, l.what)
		}
		return nil
	}
	r, err := newBench(ctx, map[string]string{"shared_preload_libraries": "pg_stat_statements"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	machine, err := r.Machine(ctx)
	if err != nil {
		return err
	}
	s := &show{bench: r, out: os.Stdout, clean: map[cleanCase]*cleanRun{}}
	fmt.Fprintf(s.out, "%s\n%-4s  %-13s %-36s %-24s %s\n", machine, "", "line", "case", "must be", "is") //nolint:errcheck // standard output
	return s.run(ctx, chosen)
}

func choose(all []line, names []string) ([]line, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []line
	for _, name := range names {
		i := slices.IndexFunc(all, func(l line) bool { return l.name == name })
		if i < 0 {
			return nil, usageError{fmt.Errorf("no line is called %q; -list names them", name)}
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// run goes on after a line that broke down: it counts as failed.
func (s *show) run(ctx context.Context, chosen []line) error {
	for _, l := range chosen {
		s.line = l.name
		if err := l.show(ctx, s); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.verdict(false, "", "to be measured", err.Error())
		}
	}
	fmt.Fprintf(s.out, "%d of %d passed\n", s.passed, s.passed+s.failed) //nolint:errcheck // standard output
	if s.failed > 0 {
		return errFailed
	}
	return nil
}

// verdict prints a line of the table.
func (s *show) verdict(ok bool, where, want, got string) {
	word := "FAIL"
	if ok {
		word = "pass"
		s.passed++
	} else {
		s.failed++
	}
	fmt.Fprintf(s.out, "%s  %-13s %-36s %-24s %s\n", word, s.line, where, want, got) //nolint:errcheck // standard output
}

// on runs f on a stage of its own.
func (s *show) on(ctx context.Context, c conditions, f func(*stage) error) (err error) {
	st, err := s.bench.stage(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	return f(st)
}

// each runs f in both window modes, and with each number of processes.
func each(processes []int, f func(mode string, processes int) error) error {
	for _, mode := range modes {
		for _, n := range processes {
			if err := f(mode, n); err != nil {
				return fmt.Errorf("%s: %w", place(mode, n), err)
			}
		}
	}
	return nil
}

// place names the case of a run.
func place(mode string, processes int) string {
	if processes == 1 {
		return mode + ", 1 process"
	}
	return fmt.Sprintf("%s, %d processes", mode, processes)
}
