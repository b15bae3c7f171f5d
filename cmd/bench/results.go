package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// leastResults is what results --format csv is to keep to beside \copy.
const leastResults = 0.5

// copied selects what the file of results has, of batch 2.
const copied = `select original[1], original[2], outcome, reason, email, status, clerk_invitation_id, decided_at, row_number, line, duplicate_of
	from results where batch_id = 2 order by row_number`

// exports is the comparison of results --format csv with psql's \copy.
type exports struct {
	bench      *bench
	runs, rows int
	ours, psql []spent
}

func (e *exports) measure(ctx context.Context, bench *bench) (err error) {
	e.bench = bench
	psql, err := exec.LookPath("psql")
	if err != nil {
		return fmt.Errorf("find psql, which results are measured beside (Debian has it in postgresql-client): %w", err)
	}
	s, err := bench.stage(ctx, conditions{mode: "sliding", window: time.Hour})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.million(ctx, e.rows); err != nil {
		return err
	}
	for run := range e.runs {
		ways := []func() error{
			func() error {
				return e.to(ctx, s, &e.ours, "results --format csv", s.bench.Binary, "results", "2", "--format=csv")
			},
			func() error {
				return e.to(ctx, s, &e.psql, `psql's \copy`, psql, "--no-psqlrc", "--command", `\copy (`+strings.Join(strings.Fields(copied), " ")+`) to stdout (format csv)`, s.database)
			},
		}
		if run%2 == 1 {
			slices.Reverse(ways)
		}
		for _, way := range ways {
			if err := way(); err != nil {
				return err
			}
		}
	}
	return nil
}

// to has a program write the rows to a file, and looks that they are all there.
func (e *exports) to(ctx context.Context, s *stage, runs *[]spent, what, program string, args ...string) (err error) {
	file, err := os.CreateTemp(s.dir, "results-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	m, err := spend(ctx, filepath.Join(s.dir, "results.log"), file, program, s.env, args...)
	if err != nil {
		return err
	}
	m.rows = e.rows
	*runs = append(*runs, m)
	m.print(what)
	if n, err := bareParse(file.Name()); err != nil || n < e.rows-1 { // \copy writes no header
		return fmt.Errorf("%s wrote %s rows of %s: %w", what, grouped(n), grouped(e.rows), err)
	}
	return nil
}

func (e *exports) figures() []figure {
	return []figure{
		{work: "results --format csv of " + grouped(e.rows) + " rows", ours: across(e.ours, spent.rate), beside: "psql's `\\copy`", limit: across(e.psql, spent.rate), unit: perSecond("rows"), least: leastResults},
		{work: "memory of that", ours: across(e.ours, spent.memory), beside: "set", limit: []float64{mostMemory}, unit: inMebibytes, most: 1},
	}
}
