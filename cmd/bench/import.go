package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bulkinvite/internal/rig"
)

// spent is what one run of a program used.
type spent struct {
	took time.Duration
	peak int64 // resident memory, in bytes
}

// spend runs a program to its end and measures it.
func (b *bench) spend(ctx context.Context, program string, env []string, args ...string) (m spent, err error) {
	began := time.Now()
	p, err := rig.Launch(ctx, program, env, filepath.Join(b.Dir, args[0]+".log"), nil, args...)
	if err != nil {
		return m, err
	}
	m.peak, err = rig.PeakMemory(p)
	m.took = time.Since(began)
	err = errors.Join(err, p.Wait(ctx))
	fmt.Printf("%-12s %8.2f s %6d MiB\n", args[0], m.took.Seconds(), m.peak>>20)
	return m, err
}

// self runs this program with a command and measures it.
func (b *bench) self(ctx context.Context, args ...string) (spent, error) {
	program, err := os.Executable()
	if err != nil {
		return spent{}, fmt.Errorf("find this program: %w", err)
	}
	return b.spend(ctx, program, os.Environ(), args...)
}

// onStage runs f on a new stage. It makes a checkpoint first, so that PostgreSQL does not write
// what earlier runs left in its memory during the measurement.
func (b *bench) onStage(ctx context.Context, c rig.Conditions, f func(*rig.Stage) error) (err error) {
	s, err := b.Stage(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := b.Admin.Exec(ctx, "checkpoint"); err != nil {
		return fmt.Errorf("write a checkpoint: %w", err)
	}
	return f(s)
}

// hourly has Clerk's own window of an hour.
var hourly = rig.Conditions{Mode: "sliding", Window: time.Hour}

// onFile writes a file with the given number of rows, calls use, and removes the file.
func (b *bench) onFile(rows int, use func(file string) error) (err error) {
	path := filepath.Join(b.Dir, fmt.Sprintf("people-%d.csv", rows))
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	if err := writePeople(path, rows); err != nil {
		return err
	}
	return use(path)
}

// importFile runs bulkinvite import, measures it, and checks that nothing is missing.
func (b *bench) importFile(ctx context.Context, s *rig.Stage, file string, rows int) (spent, error) {
	m, err := b.spend(ctx, b.Binary, s.Env, "import", file, "--yes", "--json", "--no-preflight")
	if err != nil {
		return m, err
	}
	return m, counted(ctx, s.Pool, rows)
}

// measureImport compares the import with a bare loop, and the check with encoding/csv. The ways run
// one after the other, in reverse order in every second run.
func measureImport(ctx context.Context, b *bench) ([]figure, error) {
	rows := b.scaled(1_000_000)
	rate := func(m spent) float64 { return float64(rows) / m.took.Seconds() }
	var ours, bare, memory, check, csv []float64
	err := b.onFile(rows, func(file string) error {
		ways := []func() error{
			func() error {
				return b.onStage(ctx, hourly, func(s *rig.Stage) error {
					m, err := b.importFile(ctx, s, file, rows)
					ours, memory = append(ours, rate(m)), append(memory, float64(m.peak)/(1<<20))
					return err
				})
			},
			func() error {
				return b.onStage(ctx, hourly, func(s *rig.Stage) error {
					m, err := b.self(ctx, "bare-import", file, s.URL)
					bare = append(bare, rate(m))
					return errors.Join(err, counted(ctx, s.Pool, rows))
				})
			},
			func() error {
				m, err := b.spend(ctx, b.Binary, rig.Environment(b.Dir, "", ""), "check", file, "--json")
				check = append(check, rate(m))
				return err
			},
			func() error {
				m, err := b.self(ctx, "bare-parse", file)
				csv = append(csv, rate(m))
				return err
			},
		}
		for range b.runs {
			for _, way := range ways {
				if err := way(); err != nil {
					return err
				}
			}
			slices.Reverse(ways)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	const each = "rows/s"
	n := grouped(rows)
	return []figure{
		{Work: "import " + n + " rows", Unit: each, Runs: ours, Peer: "the bare loop", Limit: bare, AtLeast: floor(0.8)},
		{Work: "memory of importing " + n + " rows", Unit: "MiB", Runs: memory, AtMost: floor(256)},
		{Work: "check " + n + " rows", Unit: each, Runs: check, Peer: "encoding/csv", Limit: csv, AtLeast: floor(0.05)},
	}, nil
}
