// Command chaos breaks things while bulkinvite works, and looks whether anybody
// was lost, mailed twice, or told something untrue. It builds bulkinvite with its
// fail points, starts a PostgreSQL of its own and, for each run, the sandbox as a
// server and three workers:
//
//	go run ./cmd/chaos                                  the whole matrix, until 500 runs are made
//	go run ./cmd/chaos -short                           a part in which each harm and each answer comes
//	go run ./cmd/chaos -seed 7 -run '^stop/bulk/none$'  one run again, with the same dice
//	go run ./cmd/chaos -list                            the names
//
// It runs in the module's directory. Exit status: 0 all is well, 1 something was
// wrong or a run could not be made, 2 wrong usage.
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
	"strings"
	"syscall"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// options are the flags.
type options struct {
	short, list bool
	seed        uint64
	only        string
	runs        int
	duration    time.Duration
	report      string
}

func main() {
	var o options
	flag.BoolVar(&o.short, "short", false, "a part of the matrix, each scenario once")
	flag.BoolVar(&o.list, "list", false, "print the names of the scenarios")
	flag.Uint64Var(&o.seed, "seed", 1, "where the dice begin; each round adds one")
	flag.StringVar(&o.only, "run", "", "only scenarios whose name this regular expression matches")
	flag.IntVar(&o.runs, "runs", 0, "go through the scenarios again until so many runs are made; 0: once")
	flag.DurationVar(&o.duration, "duration", 0, "begin no run after this time; 0: no end")
	flag.StringVar(&o.report, "report", "", "the page whose table of results is written anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := chaos(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(1)
	}
}

// house is what all runs share.
type house struct {
	*rig.Rig
	runs int
	keep string // where failed runs are kept; made when there is one
}

// template is the database that each run gets a copy of.
const template = "chaos_template"

// errBroken says that something was wrong; what and how was printed.
var errBroken = errors.New("not all is well")

func chaos(ctx context.Context, o options) (err error) {
	chosen, err := choose(o)
	if err != nil || o.list {
		return err
	}
	h := &house{}
	// A crash of PostgreSQL alone loses nothing that the kernel has: fsync only
	// matters when the machine dies.
	h.Rig, err = rig.New(ctx, rig.Config{Name: "chaos", Tags: "failpoints", Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	url, err := h.Database(ctx, template, "")
	if err != nil {
		return err
	}
	if _, err := rig.Call(ctx, h.Binary, rig.Environment(h.Dir, url, key), "migrate"); err != nil {
		return err
	}
	t, failed := h.playAll(ctx, o, chosen)
	fmt.Print("\n", t.text(), "\n")
	if o.report != "" && t.total.runs > 0 {
		machine, err := h.Machine(ctx)
		if err != nil {
			return err
		}
		if err := t.write(o.report, machine, o); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d runs", errBroken, failed)
	}
	return ctx.Err()
}

// choose lists the scenarios to play.
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
		return nil, fmt.Errorf("-run %s: no scenario has such a name; -list prints them", o.only)
	}
	return chosen, nil
}

// playAll plays the scenarios, round after round, and says how many runs failed.
func (h *house) playAll(ctx context.Context, o options, chosen []scenario) (*tally, int) {
	t, failed := newTally(), 0
	began := time.Now()
	for made, round := 0, uint64(0); round == 0 || made < o.runs; round++ {
		for _, s := range chosen {
			late := o.duration > 0 && time.Since(began) > o.duration
			if ctx.Err() != nil || late || round > 0 && made >= o.runs {
				if round == 0 {
					fmt.Printf("%d of %d scenarios were not played\n", len(chosen)-made, len(chosen))
				}
				return t, failed
			}
			made++
			if !h.one(ctx, t, s, o.seed+round, made) {
				failed++
			}
		}
	}
	return t, failed
}

// one plays a scenario and prints a line; false: something was wrong.
func (h *house) one(ctx context.Context, t *tally, s scenario, seed uint64, n int) bool {
	began := time.Now()
	v, err := h.play(ctx, s, seed)
	took := time.Since(began).Seconds()
	if v != nil {
		t.add(s, v)
	}
	switch {
	case err != nil:
		fmt.Printf("%4d  %-36s seed %-4d %5.1f s  NOT JUDGED: %v\n", n, s.name(), seed, took, err)
	case v.bad():
		fmt.Printf("%4d  %-36s seed %-4d %5.1f s  WRONG: %d lost, %d doubled, %d wrong, %d over\n", n, s.name(), seed, took,
			v.count(lostOnes), v.count(doubled), v.count(untrue), v.count(over))
	default:
		fmt.Printf("%4d  %-36s seed %-4d %5.1f s  ok, %d deaths, done in %.1f s\n", n, s.name(), seed, took, v.deaths, v.done.Seconds())
		return true
	}
	fmt.Printf("  again: go run ./cmd/chaos -seed %d -run '^%s$'\n", seed, s.name())
	return false
}

// kept is the directory for what is left of a run.
func (h *house) kept(s scenario, seed uint64) string {
	if h.keep == "" {
		h.keep = filepath.Join(os.TempDir(), fmt.Sprintf("bulkinvite-chaos-failed-%d", os.Getpid()))
	}
	return filepath.Join(h.keep, strings.ReplaceAll(s.name(), "/", "-")+fmt.Sprintf("-%d", seed))
}
