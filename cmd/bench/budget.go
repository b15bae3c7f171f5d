package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/rig"
)

// window is how long an hour of Clerk's limits is in these runs.
const window = 6 * time.Second

// contender is one way to invite people.
type contender struct {
	name string
	ours bool
	run  func(ctx context.Context, s *rig.Stage, people []string, over time.Duration) error
}

var contenders = []contender{
	{"a loop of single requests", false, loop(1)},
	{"a loop of bulk requests", false, loop(rig.BulkSize)},
	{"bulkinvite, 1 process", true, fleet(1)},
	{"bulkinvite, 4 processes", true, fleet(4)},
}

// fleet returns a run with the given number of processes. They may take twice the time, but only
// what they do in time counts.
func fleet(processes int) func(context.Context, *rig.Stage, []string, time.Duration) error {
	return func(ctx context.Context, s *rig.Stage, people []string, over time.Duration) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 2*over+time.Minute, errors.New("the processes did not end in time"))
		defer cancel()
		if err := s.Import(ctx, people); err != nil {
			return err
		}
		return errors.Join(s.Work(ctx, processes), s.Wait(ctx))
	}
}

// loop returns a run that works like a plain program. It sends one request after another, for size
// people each. After a 429 it waits for Retry-After and sends the same request again. It ends when
// all people are invited or the time is over.
func loop(size int) func(context.Context, *rig.Stage, []string, time.Duration) error {
	return func(ctx context.Context, s *rig.Stage, people []string, over time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, over)
		defer cancel()
		for len(people) > 0 {
			n := min(size, len(people))
			after, err := s.Sandbox.Create(ctx, rig.Key, size > 1, people[:n])
			if err == nil && after == 0 {
				people = people[n:]
				continue
			}
			if err == nil {
				err = rig.Sleep(ctx, after)
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// measureBudget measures how much of the limits is used, and what waiting for them costs. All
// contenders run in parallel, because they mostly wait.
func measureBudget(ctx context.Context, b *bench) ([]figure, error) {
	windows, watched, sweepWindows := 10, time.Minute, 3
	if b.quick {
		windows, watched, sweepWindows = 2, 5*time.Second, 1
	}
	used, refused := make([]float64, len(contenders)), make([]float64, len(contenders))
	group, running := errgroup.WithContext(ctx)
	for i, c := range contenders {
		group.Go(func() (err error) {
			used[i], refused[i], err = b.contend(running, c, windows)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Printf("%-40s %6s invited, %s 429 answers\n", c.name, number(used[i]), number(refused[i]))
			return nil
		})
	}
	var swept figure
	group.Go(func() (err error) {
		swept, err = b.sweep(running, sweepWindows)
		return err
	})
	var idle rig.Idle
	group.Go(func() (err error) {
		idle, err = b.idle(running, b.scaled(100_000), watched)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var figures []figure
	for i, c := range contenders {
		f := figure{
			Work: fmt.Sprintf("%s, %d windows", c.name, windows), Unit: "people", Runs: used[i : i+1],
			Peer: "the limit", Limit: []float64{float64(windows * rig.PerWindow)},
		}
		answers := figure{Work: c.name + ", answers of 429", Unit: "answers", Runs: refused[i : i+1]}
		if c.ours {
			f.AtLeast, answers.AtMost = floor(0.97), floor(0)
		}
		figures = append(figures, f, answers)
	}
	cpu, statements := []float64{idle.CPU}, []float64{idle.Statements}
	return append(figures, swept,
		figure{Work: "waiting for budget, processor", Unit: "% of a core", Runs: cpu, AtMost: floor(1)},
		figure{Work: "waiting for budget, SQL", Unit: "statements/s", Runs: statements, AtMost: floor(5)}), nil
}

// contend lets a contender invite as many people as the limits allow in the given number of
// windows. It counts the people who were invited within these windows, and the 429 answers.
func (b *bench) contend(ctx context.Context, c contender, windows int) (used, refused float64, err error) {
	err = b.onStage(ctx, rig.Conditions{Mode: "sliding", Window: window}, func(s *rig.Stage) error {
		over := time.Duration(windows) * window
		if err := c.run(ctx, s, rig.Crowd("person", windows*rig.PerWindow), over); err != nil {
			return err
		}
		seen, err := s.Sandbox.Record(ctx)
		if err != nil {
			return err
		}
		if n := len(seen.Mailbox.Doubled); n > 0 {
			return fmt.Errorf("%d people got two e-mails", n)
		}
		used, refused = float64(seen.Invited(over)), float64(seen.Answered(429))
		return nil
	})
	return used, refused, err
}

// Clerk's general limit for a production instance.
const (
	generalLimit  = 1000
	generalWindow = 10 * time.Second
)

// sweep measures how much of the general limit a sweep uses.
func (b *bench) sweep(ctx context.Context, windows int) (f figure, err error) {
	limit := fmt.Sprintf("--limit-general=%d/%s", generalLimit, generalWindow)
	c := hourly
	c.Sandbox = []string{limit}
	err = b.onStage(ctx, c, func(s *rig.Stage) error {
		if err := s.Pending(ctx, windows*generalLimit+generalLimit/10); err != nil { // more than the windows allow
			return err
		}
		_, err := s.Call(ctx, "sweep", "--older-than=1h", "--apply", "--allow", "--json", "--log-level=warn", limit)
		if err != nil {
			return err
		}
		seen, err := s.Sandbox.Record(ctx)
		if err != nil {
			return err
		}
		if n := seen.Answered(429); n > 0 {
			return fmt.Errorf("the sandbox refused %d requests of a sweep", n)
		}
		span := time.Duration(windows) * generalWindow
		rate := float64(within(seen.Requests, span)) / span.Seconds()
		f = figure{
			Work: fmt.Sprintf("sweep %s invitations", grouped(windows*generalLimit)), Unit: "requests/s",
			Runs: []float64{rate}, Peer: "the general limit", Limit: []float64{generalLimit / generalWindow.Seconds()},
			AtLeast: floor(0.97),
		}
		return nil
	})
	return f, err
}

// within counts the requests of the general limit from the first revocation until span later.
func within(requests []rig.Request, span time.Duration) (n int) {
	var begin time.Time
	for _, q := range requests {
		if begin.IsZero() && q.Call == "revoke" {
			begin = q.At
		}
		if !begin.IsZero() && q.Call != "create" && q.Call != "bulk" && q.At.Before(begin.Add(span)) {
			n++
		}
	}
	return n
}

// idle measures a worker that waits for budget.
func (b *bench) idle(ctx context.Context, rows int, long time.Duration) (idle rig.Idle, err error) {
	err = b.onStage(ctx, hourly, func(s *rig.Stage) error {
		if err := s.Import(ctx, rig.Crowd("person", rows)); err != nil {
			return err
		}
		if err := s.CountStatements(ctx); err != nil {
			return err
		}
		if err := s.Work(ctx, 1); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the budget was not used in time"))
		defer cancel()
		if err := s.Sandbox.Await(waiting, rig.Singles+rig.Bulks, rig.Creates...); err != nil {
			return err
		}
		// Give the worker time to record the last answers.
		if err := rig.Sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		idle, err = s.WatchIdle(ctx, long)
		fmt.Printf("waiting: %s %% of a core, %s statements per second: %s\n",
			number(idle.CPU), number(idle.Statements), idle.Most)
		return err
	})
	return idle, err
}
