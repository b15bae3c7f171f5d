// Command chaos injects faults while bulkinvite works. It checks that no person is lost, is mailed
// twice, or gets a wrong outcome. It builds bulkinvite with its fail points and starts its own
// PostgreSQL. For each run it starts the sandbox as a server and three workers. Lanes play runs in
// parallel:
//
//	go run ./cmd/chaos                                  every scenario of the matrix once
//	go run ./cmd/chaos -short                           a part of the matrix with each harm and each answer
//	go run ./cmd/chaos -seed 7 -run '^stop/bulk/none$'  one run again, with the same random choices
//	go run ./cmd/chaos -list                            the names of the scenarios
//
// Run it in the module's directory. Its exit status is 0 if all is well, 1 if it found a fault or
// could not make a run, and 2 for wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/rig"
)

// options has the values of the flags.
type options struct {
	short, list bool
	seed        uint64
	only        string
	runs, lanes int
	duration    time.Duration
	report      string
}

func main() {
	var o options
	flag.BoolVar(&o.short, "short", false, "play a part of the matrix, each scenario once")
	flag.BoolVar(&o.list, "list", false, "print the names of the scenarios")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the random choices; each round adds one")
	flag.StringVar(&o.only, "run", "", "play only scenarios whose name matches this regular expression")
	flag.IntVar(&o.runs, "runs", 0, "repeat the scenarios until this number of runs; 0: play each scenario once")
	flag.IntVar(&o.lanes, "lanes", 2, "number of runs at a time; each lane has its own PostgreSQL")
	flag.DurationVar(&o.duration, "duration", 0, "begin no run after this time, and fail if scenarios are left; 0: no limit")
	flag.StringVar(&o.report, "report", "", "Markdown page in which to replace the tables of results")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := chaos(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(1)
	}
}

// house has what the runs of a lane share.
type house struct {
	*rig.Rig
	keep     string // the directory for the files of failed runs
	stepping string // the program whose clock can be stepped, if a scenario needs it
}

// errBroken says that a run found a fault. The details are already printed.
var errBroken = errors.New("faults found")

func chaos(ctx context.Context, o options) (err error) {
	chosen, err := choose(o)
	if err != nil || o.list {
		return err
	}
	dir, err := os.MkdirTemp("", "bulkinvite-chaos-clock-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var stepping string
	if slices.ContainsFunc(chosen, func(s scenario) bool { return s.harm.steps }) {
		if stepping, err = buildStepping(ctx, dir); err != nil {
			return err
		}
	}
	s := newSession(o, chosen)
	group, playing := errgroup.WithContext(ctx)
	for range max(1, o.lanes) {
		group.Go(func() error { return lane(playing, s, stepping) })
	}
	err = group.Wait()
	fmt.Print("\n", s.tally.text(), s.tally.details(), s.tally.notMade(), "\n")
	if o.report != "" && s.tally.total.runs > 0 {
		if err := s.tally.write(o.report, s.machine, o); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case len(s.failed) > 0:
		return fmt.Errorf("%w: %d runs\n%s", errBroken, len(s.failed), strings.Join(s.failed, "\n"))
	case s.left > 0:
		return fmt.Errorf("%d scenarios were not played within %s; use a longer -duration", s.left, o.duration)
	}
	return ctx.Err()
}

// lane plays scenarios, one after the other, until none is left.
func lane(ctx context.Context, s *session, stepping string) (err error) {
	h := &house{stepping: stepping, keep: filepath.Join(os.TempDir(), fmt.Sprintf("bulkinvite-chaos-failed-%d", os.Getpid()))}
	// A crash of PostgreSQL alone loses nothing that the kernel has. fsync matters only if the
	// machine crashes.
	h.Rig, err = rig.New(ctx, rig.Config{Name: "chaos", Tags: "failpoints", Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	machine, err := h.Machine(ctx)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		chosen, seed, n := s.next(machine)
		if n == 0 {
			break
		}
		began := time.Now()
		v, err := h.play(ctx, chosen, seed)
		s.told(chosen, seed, n, time.Since(began), v, err)
	}
	return nil
}

// choose returns the scenarios to play, and prints their names for -list.
func choose(o options) ([]scenario, error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	all := matrix()
	if o.short {
		all = spread()
	}
	var chosen []scenario
	for _, s := range all {
		if only.MatchString(s.name()) {
			chosen = append(chosen, s)
			if o.list {
				fmt.Println(s.name())
			}
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-run %s matches no scenario; -list prints their names", o.only)
	}
	return chosen, nil
}

// session hands out scenarios and counts their results.
type session struct {
	options
	scenarios []scenario
	began     time.Time

	mu      sync.Mutex
	made    int      // runs that began
	left    int      // scenarios that were not played within the time
	failed  []string // one message per failed run
	tally   *tally
	machine string
}

func newSession(o options, chosen []scenario) *session {
	return &session{options: o, scenarios: chosen, began: time.Now(), tally: newTally()}
}

// next returns a scenario, its seed and the number of its run, which is 0 if none is left. Each
// round through the scenarios adds one to the seed.
func (s *session) next(machine string) (_ scenario, seed uint64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machine = machine
	if s.made >= max(s.runs, len(s.scenarios)) {
		return scenario{}, 0, 0
	}
	if s.duration > 0 && time.Since(s.began) > s.duration {
		s.left = max(0, len(s.scenarios)-s.made)
		return scenario{}, 0, 0
	}
	i := s.made
	s.made++
	return s.scenarios[i%len(s.scenarios)], s.seed + uint64(i/len(s.scenarios)), s.made
}

// told counts a run and prints a line about it.
func (s *session) told(chosen scenario, seed uint64, n int, took time.Duration, v *verdict, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v != nil {
		s.tally.add(chosen, v)
	}
	line := fmt.Sprintf("%4d  %-36s seed %-4d %5.1f s", n, chosen.name(), seed, took.Seconds())
	switch {
	case errors.Is(err, errNotHere):
		s.tally.skip(chosen)
		fmt.Printf("%s  NOT MADE: %v\n", line, err)
		return
	case err != nil:
		line = fmt.Sprintf("%s  NOT JUDGED: %v", line, err)
	case v.bad():
		line = fmt.Sprintf("%s  WRONG: %d lost, %d doubled, %d wrong, %d over, %d late, %d stalled", line,
			v.count(lostOnes), v.count(doubled), v.count(untrue), v.count(over), v.count(late), v.count(stalled))
	default:
		fmt.Printf("%s  ok, %d deaths, done in %.1f s\n", line, v.deaths, v.done.Seconds())
		return
	}
	line += fmt.Sprintf("\n  again: go run ./cmd/chaos -seed %d -run '^%s$'", seed, chosen.name())
	s.failed = append(s.failed, line)
	fmt.Println(line)
}

// kept returns the directory for the files of a failed run.
func (h *house) kept(s scenario, seed uint64) string {
	return filepath.Join(h.keep, strings.ReplaceAll(s.name(), "/", "-")+fmt.Sprintf("-%d", seed))
}
