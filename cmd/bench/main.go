// Command bench compares bulkinvite with its limits and with peers, and says which floors are kept.
// It builds bulkinvite, starts its own PostgreSQL and the sandbox as a server, and runs real
// processes against them:
//
//	go run ./cmd/bench                  measure everything; writes docs/bench
//	go run ./cmd/bench import budget    measure some parts; writes nothing
//	go run ./cmd/bench -quick           measure a hundredth of everything, to see that it works
//
// Run it in the module's directory. The parts are import, invite, budget and scale.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"bulkinvite/internal/rig"
)

// bench has what all parts share.
type bench struct {
	*rig.Rig
	runs  int
	quick bool
}

// scaled returns n, or a hundredth of it with -quick.
func (b *bench) scaled(n int) int {
	if b.quick {
		return n / 100
	}
	return n
}

// part is something that can be measured by itself.
type part struct {
	name    string
	measure func(context.Context, *bench) ([]figure, error)
}

var parts = []part{
	{"import", measureImport},
	{"invite", measureInvite},
	{"budget", measureBudget},
	{"scale", measureScale},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		err = nil
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	// The peers run in separate processes of this program.
	switch {
	case len(args) == 2 && args[0] == "bare-parse":
		_, err := bareParse(args[1])
		return err
	case len(args) == 3 && args[0] == "bare-import":
		return bareImport(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "noop":
		return runNoop(ctx, args[1], args[2])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	runs := flags.Int("runs", 5, "number of runs of each measurement, in turn with its peer")
	quick := flags.Bool("quick", false, "measure a hundredth of everything; write nothing without -out")
	out := flags.String("out", "", "directory for bench.json and README.md; default docs/bench if everything is measured")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, name := range flags.Args() {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("no part %q; the parts are import, invite, budget and scale", name)
		}
	}
	if *out == "" && flags.NArg() == 0 && !*quick {
		*out = filepath.Join("docs", "bench")
	}
	command := strings.TrimSpace("go run ./cmd/bench " + strings.Join(args, " "))
	return measure(ctx, *runs, *quick, flags.Args(), *out, command)
}

// measure measures the named parts, or all parts, and reports them.
func measure(ctx context.Context, runs int, quick bool, names []string, out, command string) (err error) {
	began := time.Now()
	r, err := rig.New(ctx, rig.Config{Name: "bench", Settings: rig.Settings})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	machine, err := r.Machine(ctx)
	if err != nil {
		return err
	}
	report := report{Command: command, Machine: machine}
	b := &bench{Rig: r, runs: max(1, runs), quick: quick}
	for _, p := range parts {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		began := time.Now()
		figures, err := p.measure(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Printf("== %s took %s\n", p.name, time.Since(began).Round(time.Second))
		report.Figures = append(report.Figures, figures...)
	}
	report.Took = time.Since(began).Round(time.Second).String()
	fmt.Printf("\n%s; %s\n%s\n%s\n", machine, report.Took, report.table(), report.verdict())
	if out == "" {
		return nil
	}
	return report.write(out)
}
