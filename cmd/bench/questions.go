package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/cmd/internal/rig"
	"bulkinvite/postgres"
)

// mostQuestion is how much longer than a bare round trip to the database 99 of a
// hundred answers may take.
const mostQuestion = 5 * time.Millisecond

// questions is how long a program that is up takes to answer, of a database with
// one batch of so many rows, of which a few hundred have been invited.
type questions struct {
	runs, times int // rounds, and how often each is asked in one
	rows        int
	trip        []float64 // milliseconds, the median of a round
	answers     [][]float64
	first       []float64   // milliseconds of the first answer of each, which nobody had asked for before
	commands    [][]float64 // seconds of the whole command
}

// question is asked of the API, of one row after the other; says must be in each
// answer, so that an error is not taken for a fast one.
type question struct {
	what string
	path func(row int) string
	says func(row int) string
	args []string // the command that asks the same
}

var askedQuestions = []question{
	{"status", func(int) string { return "/batches/1" }, func(int) string { return `"undecided":` }, []string{"status", "1", "--json"}},
	{"why", func(row int) string { return "/people/" + personOf(row) }, personOf, []string{"why", personOf(1), "--json"}},
	{"a page of results", func(row int) string { return fmt.Sprintf("/batches/1/rows?after=%d", row) }, func(row int) string { return personOf(row + 1) }, nil},
}

// put asks the API of a row.
func (q question) put(ctx context.Context, page *webPage, row int) error {
	_, body, err := page.get(ctx, "/api/v1"+q.path(row))
	if err == nil && !strings.Contains(body, q.says(row)) {
		err = fmt.Errorf("%s does not say %q", q.path(row), q.says(row))
	}
	return err
}

// measure asks on a database where the file's rows have just been imported.
func (q *questions) measure(ctx context.Context, bench *bench, rows int, url string, env []string, sandbox *standin) (err error) {
	q.rows = rows
	pool, err := postgres.Open(ctx, url+"&pool_max_conns=1")
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "vacuum analyze"); err != nil { // as PostgreSQL does by itself after such an import
		return fmt.Errorf("vacuum after the import: %w", err)
	}
	if err := inviteSome(ctx, bench, env, sandbox); err != nil {
		return err
	}
	page, err := openPage(ctx, bench.Binary, env, filepath.Join(bench.Dir, "serve.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, page.server.Kill()) }()
	q.answers, q.commands = make([][]float64, len(askedQuestions)), make([][]float64, len(askedQuestions))
	for _, asked := range askedQuestions {
		took, err := timed(1, func(int) error { return asked.put(ctx, page, 1) })
		if err != nil {
			return err
		}
		q.first = append(q.first, took[0])
	}
	for range q.runs {
		if err := q.round(ctx, pool, page, bench, env); err != nil {
			return err
		}
	}
	return nil
}

// inviteSome has a worker invite whom Clerk's limits allow, and ends it then.
func inviteSome(ctx context.Context, bench *bench, env []string, sandbox *standin) error {
	p, err := rig.Launch(ctx, bench.Binary, env, filepath.Join(bench.Dir, "work.log"), nil, "work", "--log-level=warn")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("a worker did not use its budget in time"))
	defer cancel()
	return errors.Join(sandbox.await(ctx, singles+bulks), p.Kill())
}

func (q *questions) round(ctx context.Context, pool *pgxpool.Pool, page *webPage, bench *bench, env []string) error {
	trip, err := timed(q.times, func(int) error {
		_, err := pool.Exec(ctx, "select 1")
		return err
	})
	if err != nil {
		return fmt.Errorf("measure the round trip: %w", err)
	}
	q.trip = append(q.trip, median(trip))
	// What this program leaves to be collected is not the server's delay.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i, asked := range askedQuestions {
		took, err := timed(q.times, func(n int) error {
			row := 1 + n*7919%(q.rows-1)
			if n%2 == 0 {
				row = 1 + n%perWindow // one of those who were invited
			}
			return asked.put(ctx, page, row)
		})
		if err != nil {
			return err
		}
		q.answers[i] = append(q.answers[i], percentile(took, 99))
		fmt.Printf("%s of %s rows: 99 of 100 answers within %.1f ms, half within %.1f; a round trip takes %.2f\n", asked.what, grouped(q.rows), percentile(took, 99), median(took), median(trip))
		if asked.args == nil {
			continue
		}
		whole, err := timed(1, func(int) error {
			_, err := rig.Call(ctx, bench.Binary, env, asked.args...)
			return err
		})
		if err != nil {
			return err
		}
		q.commands[i] = append(q.commands[i], whole[0]/1000)
	}
	return nil
}

// timed does something so often, and returns how many milliseconds each took.
func timed(times int, do func(n int) error) ([]float64, error) {
	took := make([]float64, times)
	for n := range times {
		began := time.Now()
		if err := do(n); err != nil {
			return nil, err
		}
		took[n] = milliseconds(time.Since(began))
	}
	return took, nil
}

func (q *questions) figures() []figure {
	limit := across(q.trip, func(trip float64) float64 { return trip + milliseconds(mostQuestion) })
	var figures []figure
	for i, asked := range askedQuestions {
		figures = append(figures, figure{work: fmt.Sprintf("%s at %s rows, 99 of 100", asked.what, grouped(q.rows)), ours: q.answers[i],
			beside: fmt.Sprintf("`select 1` + %s", mostQuestion), limit: limit, unit: inMilliseconds, most: 1})
	}
	return figures
}

// whole is the table of how long the first answer takes, and commands that ask the
// same.
func (q *questions) whole() string {
	rows := [][]string{{"", "the server's first answer", "command", "from its start to its end"}, {"---", "--:", "---", "--:"}}
	for i, asked := range askedQuestions {
		row := []string{asked.what, inMilliseconds.write(q.first[i]), "", ""}
		if asked.args != nil {
			row[2], row[3] = "`bulkinvite "+strings.Join(asked.args, " ")+"`", spread(q.commands[i], inSeconds)
		}
		rows = append(rows, row)
	}
	return table(rows)
}
