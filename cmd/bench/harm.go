package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// showKill kills every process when half of a window's requests have arrived,
// each of which takes 100 ms, so that some are always under way: what the
// ledger then knows is that they may have been sent.
func showKill(ctx context.Context, s *show) error {
	const times, rows = 5, 6 * perWindow
	return each([]int{4}, func(mode string, processes int) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("it did not end within 5 m"))
		defer cancel()
		c := conditions{mode: mode, window: scaled,
			sandbox: []string{`--fault={"call":"create","every":1,"kind":"slow","delay":"100ms"}`, `--fault={"call":"bulk","every":1,"kind":"slow","delay":"100ms"}`},
			worker:  []string{"--settle=2s", "--request-timeout=5s", "--recover-after=5s"}}
		return s.on(ctx, c, func(st *stage) error {
			if err := st.importFile(ctx, crowd("person", rows)); err != nil {
				return err
			}
			if err := st.work(ctx, processes); err != nil {
				return err
			}
			for i := range times {
				if err := st.standin.await(ctx, i*(singles+bulks)+(singles+bulks)/2); err != nil {
					return err
				}
				if err := st.kill(); err != nil {
					return err
				}
				if err := st.work(ctx, processes); err != nil {
					return err
				}
			}
			if err := st.wait(ctx); err != nil {
				return err
			}
			return s.judgeKill(ctx, st, place(mode, processes), rows)
		})
	})
}

func (s *show) judgeKill(ctx context.Context, st *stage, where string, rows int) error {
	seen, err := st.standin.record(ctx)
	if err != nil {
		return err
	}
	lost, err := st.lost(ctx, seen, rows)
	if err != nil {
		return err
	}
	var unknown int
	err = st.pool.QueryRow(ctx, "select count(*) from attempts where answered_at is null").Scan(&unknown)
	if err != nil {
		return fmt.Errorf("count lost answers: %w", err)
	}
	s.verdict(seen.answered(429) == 0, where, "0 answers of 429", fmt.Sprint(seen.answered(429)))
	got := fmt.Sprintf("%s invited once, %d requests were under way at a kill", grouped(rows), unknown)
	if lost != "" {
		got = lost
	}
	s.verdict(lost == "", where, "nothing lost or doubled", got)
	return nil
}

// showKnown mixes 200 users and 200 pending invitations into a file.
func showKnown(ctx context.Context, s *show) error {
	const fresh, users, pending = 600, 200, 200
	return each(sizes, func(mode string, processes int) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("it did not end within 3 m"))
		defer cancel()
		return s.on(ctx, conditions{mode: mode, window: scaled}, func(st *stage) error {
			known := [][]string{crowd("user", users), crowd("pending", pending)}
			if err := st.standin.Post(ctx, "/sandbox/users", known[0]); err != nil {
				return err
			}
			if err := st.standin.Post(ctx, "/sandbox/invitations", known[1]); err != nil {
				return err
			}
			var people []string
			for i, email := range crowd("person", fresh) {
				people = append(people, email)
				if i < users {
					people = append(people, known[0][i], known[1][i])
				}
			}
			if err := st.importFile(ctx, people); err != nil {
				return err
			}
			if err := st.work(ctx, processes); err != nil {
				return err
			}
			if err := st.wait(ctx); err != nil {
				return err
			}
			return s.judgeKnown(ctx, st, place(mode, processes), fresh, users, pending)
		})
	})
}

func (s *show) judgeKnown(ctx context.Context, st *stage, where string, fresh, users, pending int) error {
	r, err := st.report(ctx)
	if err != nil {
		return err
	}
	var spent int
	err = st.pool.QueryRow(ctx, "select count(*) from attempt_people where key like 'user.%' or key like 'pending.%'").Scan(&spent)
	if err != nil {
		return fmt.Errorf("count creates: %w", err)
	}
	got := fmt.Sprintf("%d; invited %d, already registered %d, already invited %d",
		spent, r.Outcomes["invited"], r.Outcomes["already_registered"], r.Outcomes["already_invited"])
	right := r.Outcomes["invited"] == fresh && r.Outcomes["already_registered"] == users && r.Outcomes["already_invited"] == pending
	s.verdict(spent == 0 && right, where, "0 creates on the 400", got)
	return nil
}

// showOtherClient lets another client spend half of each limit all the while.
func showOtherClient(ctx context.Context, s *show) error {
	const rows = 1000
	return each(sizes, func(mode string, processes int) error {
		ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("it did not end within 5 m"))
		defer cancel()
		return s.on(ctx, conditions{mode: mode, window: scaled}, func(st *stage) error {
			if err := st.importFile(ctx, crowd("person", rows)); err != nil {
				return err
			}
			began := time.Now()
			stop := st.standin.spend(ctx, scaled)
			err := st.work(ctx, processes)
			if err == nil {
				err = st.wait(ctx)
			}
			if err = errors.Join(err, stop()); err != nil {
				return err
			}
			return s.judgeOtherClient(ctx, st, processes, rows, time.Since(began))
		})
	})
}

func (s *show) judgeOtherClient(ctx context.Context, st *stage, processes, rows int, took time.Duration) error {
	r, err := st.report(ctx)
	if err != nil {
		return err
	}
	seen, err := st.standin.record(ctx)
	if err != nil {
		return err
	}
	where := place(st.mode, processes)
	s.verdict(r.Undecided == 0 && r.Outcomes["invited"] == rows, where, "all rows decided",
		fmt.Sprintf("%s invited, %d undecided, in %.0f s", grouped(r.Outcomes["invited"]), r.Undecided, took.Seconds()))
	for _, bucket := range []struct {
		name  string
		limit int
	}{{"create", singles}, {"bulk", bulks}} {
		ours, err := st.throttled(ctx, bucket.name)
		if err != nil {
			return err
		}
		var of []request
		for _, q := range seen.requests {
			if q.Call == bucket.name {
				of = append(of, q)
			}
		}
		const inFlight = 4 // a bucket and process
		episodes := throttle{st.mode, scaled, bucket.limit}.episodes(of, ours)
		beyond := spared(episodes, inFlight*processes)
		s.verdict(beyond == 0, where+", "+bucket.name, "429s: in flight, probes",
			fmt.Sprintf("%d, %d beyond that; in each Retry-After %v", len(ours), beyond, episodes))
	}
	return nil
}

// throttled are the trace ids of our own requests that were answered with 429.
func (s *stage) throttled(ctx context.Context, bucket string) (map[string]bool, error) {
	rows, err := s.pool.Query(ctx, "select trace_id from attempts where bucket = $1 and http_status = 429", bucket)
	if err != nil {
		return nil, fmt.Errorf("list the answers of 429: %w", err)
	}
	traces, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the answers of 429: %w", err)
	}
	ours := map[string]bool{}
	for _, trace := range traces {
		ours[strings.TrimSpace(trace)] = true
	}
	return ours, nil
}
