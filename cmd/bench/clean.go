package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// cleanCase is a run of clean rows with nothing in the way.
type cleanCase struct {
	mode      string
	processes int
	rows      int
}

func (c cleanCase) String() string {
	return place(c.mode, c.processes) + ", " + grouped(c.rows) + " rows"
}

type cleanRun struct {
	first     int // people invited in the first window
	throttled int
	took      time.Duration // from the first create to the last invitation
	whole     time.Duration // from the start of the processes to their end
	late      time.Duration // see record.late
	lost      string        // what is wrong with the outcomes; empty: nothing
}

// cleanly makes a run, once, for whichever lines want it.
func (s *show) cleanly(ctx context.Context, c cleanCase) (*cleanRun, error) {
	if run := s.clean[c]; run != nil {
		return run, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("it did not end within 3 m"))
	defer cancel()
	run := &cleanRun{}
	err := s.on(ctx, conditions{mode: c.mode, window: scaled}, func(st *stage) error {
		if err := st.importFile(ctx, crowd("person", c.rows)); err != nil {
			return err
		}
		began := time.Now()
		if err := st.work(ctx, c.processes); err != nil {
			return err
		}
		if err := st.wait(ctx); err != nil {
			return err
		}
		run.whole = time.Since(began)
		seen, err := st.standin.record(ctx)
		if err != nil {
			return err
		}
		run.first, run.throttled = seen.invited(scaled), seen.answered(429)
		run.took, run.late = seen.took(), seen.late(st.weight())
		run.lost, err = st.lost(ctx, seen, c.rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	s.clean[c] = run
	return run, nil
}

// lost says whether any of so many new people was not invited, or not just once.
func (s *stage) lost(ctx context.Context, seen *record, people int) (string, error) {
	r, err := s.report(ctx)
	if err != nil {
		return "", err
	}
	if n := r.Outcomes["invited"]; n != people || r.Undecided > 0 {
		return fmt.Sprintf("%s of %s invited, %d undecided: %v", grouped(n), grouped(people), r.Undecided, r.Outcomes), nil
	}
	if n := len(seen.mailbox.Doubled); n > 0 || seen.mailbox.Mails != people {
		return fmt.Sprintf("%s mails to %s people, %d of them with two", grouped(seen.mailbox.Mails), grouped(people), n), nil
	}
	return "", nil
}

// whole adds what is lost to a verdict.
func whole(got, lost string) string {
	if lost == "" {
		return got
	}
	return got + "; " + lost
}

func showFirstWindow(ctx context.Context, s *show) error {
	return each(sizes, func(mode string, processes int) error {
		for _, rows := range []int{perWindow, 1000} {
			c := cleanCase{mode, processes, rows}
			run, err := s.cleanly(ctx, c)
			if err != nil {
				return err
			}
			s.verdict(run.first == perWindow && run.lost == "", c.String(), "350 of 350", whole(fmt.Sprint(run.first), run.lost))
		}
		return nil
	})
}

// idealRows fill ten windows, so that nine pass before the last is invited.
const idealRows = 10 * perWindow

func showIdeal(ctx context.Context, s *show) error {
	ideal := 9 * conditions{window: scaled}.weight()
	return each(sizes, func(mode string, processes int) error {
		c := cleanCase{mode, processes, idealRows}
		run, err := s.cleanly(ctx, c)
		if err != nil {
			return err
		}
		over := 100 * (run.took - ideal).Seconds() / ideal.Seconds()
		got := fmt.Sprintf("%.1f %% over %.2f s (from start to end of the processes %.2f s)", over, ideal.Seconds(), run.whole.Seconds())
		s.verdict(over < 5 && run.lost == "", c.String(), "under 5 % over", whole(got, run.lost))
		s.verdict(run.late < time.Second, c.String(), "a window used within 1 s", fmt.Sprintf("%d ms at the most", run.late.Milliseconds()))
		return nil
	})
}

func showThrottled(ctx context.Context, s *show) error {
	sum, runs := 0, 0
	err := each(sizes, func(mode string, processes int) error {
		for _, rows := range []int{perWindow, 1000, idealRows} {
			run, err := s.cleanly(ctx, cleanCase{mode, processes, rows})
			if err != nil {
				return err
			}
			sum += run.throttled
			runs++
		}
		return nil
	})
	if err == nil {
		s.verdict(sum == 0, fmt.Sprintf("all %d runs", runs), "0 answers of 429", fmt.Sprint(sum))
	}
	return err
}

// showSettings needs no stage: nothing may be reached for before the limits
// are good.
func showSettings(ctx context.Context, s *show) error {
	env := rig.Environment(s.bench.Dir, "postgres://127.0.0.1:1/none", benchKey)
	for _, bad := range []struct {
		flags []string
		says  string
	}{
		{[]string{"--limit-create=0"}, "N/DURATION"},
		{[]string{"--limit-create=10/0s"}, "N/DURATION"},
		{[]string{"--limit-create=abc"}, "N/DURATION"},
		{[]string{"--limit-create=off", "--limit-bulk=off"}, "both off"},
	} {
		_, err := rig.Call(ctx, s.bench.Binary, env, append([]string{"work"}, bad.flags...)...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			s.verdict(false, strings.Join(bad.flags, " "), "exit 2, "+bad.says, fmt.Sprint(err))
			continue
		}
		said := strings.TrimPrefix(err.Error(), filepath.Base(s.bench.Binary)+" work: "+exit.Error()+": ")
		said, _, _ = strings.Cut(said, "\n")
		ok := exit.ExitCode() == 2 && strings.Contains(said, bad.says)
		s.verdict(ok, strings.Join(bad.flags, " "), "exit 2, "+bad.says, fmt.Sprintf("exit %d, %s", exit.ExitCode(), said))
	}
	return nil
}
