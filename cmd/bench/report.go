package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// part is something to measure and to report.
type part interface {
	// measure runs everything, and prints what it is at.
	measure(ctx context.Context, b *bench) error
	// figures are what came of it, beside its limits.
	figures() []figure
	// pages are files of docs/bench by name; made says how and on what they were
	// made.
	pages(made string) (map[string]string, error)
}

// publish measures a part and writes its pages. build makes it, once the flags
// are read, and may give settings to PostgreSQL.
func publish(ctx context.Context, flags *flag.FlagSet, args []string, build func() (part, map[string]string, error)) (err error) {
	dir := flags.String("out", filepath.Join("docs", "bench"), "the directory for the pages")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("%s takes flags alone", flags.Name())}
	}
	p, settings, err := build()
	if err != nil {
		return usageError{err}
	}
	began := time.Now()
	b, err := newBench(ctx, settings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	machine, err := b.Machine(ctx)
	if err != nil {
		return err
	}
	if err := p.measure(ctx, b); err != nil {
		return err
	}
	took := time.Since(began).Round(time.Second)
	pages, err := p.pages(fmt.Sprintf("    %s\n\n%s; all of it took %s.\n", commandLine(flags), machine, took))
	if err != nil {
		return err
	}
	figures := p.figures()
	fmt.Printf("\n%s\n%s\n%d of %d are as they should be; %s.\n", machine, figureTable(figures), len(figures)-len(missed(figures)), len(figures), took)
	return writePages(*dir, pages)
}

func writePages(dir string, pages map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(pages[name]), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// commandLine is how a command was called, but for where its pages went.
func commandLine(flags *flag.FlagSet) string {
	line := "go run ./cmd/bench " + flags.Name()
	flags.Visit(func(f *flag.Flag) {
		if f.Name != "out" {
			line += fmt.Sprintf(" -%s=%s", f.Name, f.Value)
		}
	})
	return line
}

// runsText says what the numbers of so many runs are.
func runsText(runs int) string {
	if runs == 1 {
		return "One run of each."
	}
	return fmt.Sprintf("Medians of %d runs of each, in turn, with the least and the most; a ratio is the median of those within a run.", runs)
}
