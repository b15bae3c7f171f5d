package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"bulkinvite/internal/rig"
)

// questions are asked of the API, each time about another row. Each answer must contain says, so
// that an error does not count as a fast answer.
var questions = []struct {
	what       string
	path, says func(row int) string
}{
	{"status", func(int) string { return "/batches/1" }, func(int) string { return `"undecided":` }},
	{"why", func(row int) string { return "/people/" + personOf(row) }, personOf},
	{"a page of results",
		func(row int) string { return fmt.Sprintf("/batches/1/rows?after=%d", row) },
		func(row int) string { return personOf(row + 1) }},
	{"the rows that were invited",
		func(row int) string { return fmt.Sprintf("/batches/1/rows?outcome=invited&after=%d", row%100+1) },
		func(int) string { return `"invited"` }},
}

// measureScale imports the largest file, invites some people, and measures answers of the API.
func measureScale(ctx context.Context, b *bench) (figures []figure, err error) {
	rows := b.scaled(10_000_000)
	err = b.onFile(rows, func(file string) error {
		return b.onStage(ctx, hourly, func(s *rig.Stage) error {
			m, err := b.importFile(ctx, s, file, rows)
			if err != nil {
				return err
			}
			n := grouped(rows)
			figures = append(figures,
				figure{Work: "import " + n + " rows", Unit: "s", Runs: []float64{m.took.Seconds()}},
				figure{Work: "memory of that import", Unit: "MiB", Runs: []float64{float64(m.peak) / (1 << 20)}})
			// PostgreSQL does this by itself some time after such an import.
			if _, err := s.Pool.Exec(ctx, "vacuum analyze"); err != nil {
				return fmt.Errorf("vacuum after the import: %w", err)
			}
			if err := inviteSome(ctx, s); err != nil {
				return err
			}
			asked, err := b.ask(ctx, s, rows)
			figures = append(figures, asked...)
			return err
		})
	})
	return figures, err
}

// inviteSome lets a worker invite as many people as the limits allow.
func inviteSome(ctx context.Context, s *rig.Stage) error {
	if err := s.Work(ctx, 1); err != nil {
		return err
	}
	late := errors.New("the worker did not use its budget in time")
	waiting, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, late)
	defer cancel()
	return errors.Join(s.Sandbox.Await(waiting, rig.Singles+rig.Bulks, rig.Creates...), s.Kill())
}

// ask measures the API's answers to each question.
func (b *bench) ask(ctx context.Context, s *rig.Stage, rows int) ([]figure, error) {
	page, err := s.Serve(ctx, 1)
	if err != nil {
		return nil, err
	}
	// Garbage collection of this program must not count as the server's delay.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var figures []figure
	for _, q := range questions {
		put := func(row int) (float64, error) {
			took, body, err := page.Get(ctx, "/api/v1"+q.path(row))
			if err == nil && !strings.Contains(body, q.says(row)) {
				err = fmt.Errorf("%s of row %d does not say %q", q.what, row, q.says(row))
			}
			return 1000 * took.Seconds(), err
		}
		first, err := put(1)
		if err != nil {
			return nil, err
		}
		var slow []float64
		for range b.runs {
			var took []float64
			for n := range 100 {
				row := 1 + n*7919%(rows-1)
				if n%2 == 0 {
					row = 1 + n%rig.PerWindow // a row that was invited
				}
				one, err := put(row)
				if err != nil {
					return nil, err
				}
				took = append(took, one)
			}
			slow = append(slow, percentile(took, 99))
		}
		what := fmt.Sprintf("%s at %s rows", q.what, grouped(rows))
		fmt.Printf("%-50s %s; the first %s ms\n", what, spread(slow, "ms"), number(first))
		figures = append(figures,
			figure{Work: what + ", 99 of 100", Unit: "ms", Runs: slow, AtMost: floor(25)},
			figure{Work: what + ", the first answer", Unit: "ms", Runs: []float64{first}})
	}
	return figures, nil
}
