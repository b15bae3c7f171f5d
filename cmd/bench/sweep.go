package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"bulkinvite/cmd/internal/rig"
	"bulkinvite/jobs"
)

// sweepLines are those of sweeps, in the order in which they run.
var sweepLines = []line{
	{"mixed-age", "10,000 pending of mixed age, 20 % accept meanwhile: exactly the stale are revoked, none accepted, no 429, the sum is right", showMixedAge},
	{"kill", "the same, with kill -9 in the middle three times: the same end", showSweepKilled},
	{"twice", "two schedulers ask at one moment: each invitation is asked for once", showTwice},
	{"downtime", "three days of downtime, two workers start: one sweep makes up for them", showDowntime},
	{"summer-time", "clocks go forward and back: one sweep a night, two years in four zones", showSummerTime},
	{"threshold", "too much at a time: nothing is revoked until a person allows it", showThreshold},
}

// The invitations of a show: every i-th person's age, spread over twenty-eight
// days and never near the fourteen from which a sweep takes them back.
const (
	pendingShown = 10_000
	staleAfter   = 14 * 24 * time.Hour
)

func age(i int) time.Duration {
	return time.Duration(i%28)*24*time.Hour + 12*time.Hour
}

func stale(i int) bool { return age(i) > staleAfter }

// pending makes n pending invitations at the sandbox, of which a batch of ours
// knows, as if it had sent them.
func (s *stage) pending(ctx context.Context, n int) error {
	people := crowd("pending", n)
	seeds := make([]seed, n)
	for i, p := range people {
		seeds[i] = seed{Email: p, Age: age(i).String()}
	}
	ids, err := s.plant(ctx, seeds)
	if err != nil {
		return err
	}
	if err := s.adopt(ctx, people, ids, nil); err != nil {
		return err
	}
	_, err = s.pool.Exec(ctx, `update results set invited_at = now() - (row_number - 1) % 28 * interval '1 day' - interval '12 hours'`)
	return err
}

// swept is what bulkinvite says of a sweep.
type swept struct {
	Sweep, Scanned, Stale, Revoked, Failed, Undecided int
	State                                             string
	Skipped                                           map[string]int
}

func (w swept) adds() bool {
	n := w.Revoked + w.Failed
	for _, skipped := range w.Skipped {
		n += skipped
	}
	return n == w.Stale && w.Undecided == 0 && w.State == "done"
}

func (s *stage) sweep(ctx context.Context, id int) (w swept, err error) {
	out, err := s.call(ctx, "sweep", strconv.Itoa(id), "--json")
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(out, &w)
}

// revokes is how many revokes have been answered by the sandbox.
func (s *standin) revokes(ctx context.Context) (int, error) {
	var stats struct {
		Requests map[string]map[string]int
	}
	err := s.Get(ctx, "/sandbox/stats", &stats)
	n := 0
	for _, answered := range stats.Requests["revoke"] {
		n += answered
	}
	return n, err
}

// acceptAlong has every fifth person accept, in fifty lots that are spread over
// the time that so many revokes take.
func (s *stage) acceptAlong(ctx context.Context, revokes int) error {
	var lots [50][]string
	for i, p := range crowd("pending", pendingShown) {
		if i%5 == 0 {
			lots[i/5%len(lots)] = append(lots[i/5%len(lots)], p)
		}
	}
	for i, lot := range lots {
		for {
			n, err := s.standin.revokes(ctx)
			if err != nil {
				return err
			}
			if n >= i*revokes/len(lots)*4/5 { // the last of them before the last revoke
				break
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
		if err := s.standin.Post(ctx, "/sandbox/accept", map[string]any{"addresses": lot}); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func showMixedAge(ctx context.Context, s *show) error { return s.mixedAge(ctx, 0) }

func showSweepKilled(ctx context.Context, s *show) error { return s.mixedAge(ctx, 3) }

// mixedAge sweeps while people accept, and kills the sweeping process so often.
func (s *show) mixedAge(ctx context.Context, kills int) error {
	return s.on(ctx, conditions{mode: "sliding", window: scaled}, func(st *stage) error {
		if err := st.pending(ctx, pendingShown); err != nil {
			return err
		}
		want := 0
		for i := range pendingShown {
			if stale(i) {
				want++
			}
		}
		began := time.Now()
		accepting := make(chan error, 1)
		go func() { accepting <- st.acceptAlong(ctx, want) }()
		if err := st.sweepThrough(ctx, kills, want); err != nil {
			return err
		}
		if err := <-accepting; err != nil {
			return err
		}
		return s.judgeMixed(ctx, st, want, time.Since(began))
	})
}

// sweepThrough runs a sweep to its end, and kills its process so often on the
// way; a new process goes on with it.
func (st *stage) sweepThrough(ctx context.Context, kills, revokes int) error {
	args := []string{"sweep", "--apply", "--allow", "--json", "--log-level=warn", "--settle=2s", "--request-timeout=5s", "--recover-after=4s"}
	for k := range kills + 1 {
		p, err := rig.Launch(ctx, st.bench.Binary, st.env, filepath.Join(st.dir, "sweep.log"), nil, args...)
		if err != nil {
			return err
		}
		args = append([]string{"sweep", "1", "--apply"}, args[3:]...)
		for n := 0; k < kills && n < revokes*(k+1)/(kills+2); {
			if n, err = st.standin.revokes(ctx); err != nil {
				return err
			}
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
		if k < kills {
			if err := p.Kill(); err != nil {
				return err
			}
			continue
		}
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// judgeMixed holds what the sandbox has against what was to be done, and against
// what bulkinvite says of it.
func (s *show) judgeMixed(ctx context.Context, st *stage, want int, took time.Duration) error {
	w, err := st.sweep(ctx, 1)
	if err != nil {
		return err
	}
	rec, err := st.standin.record(ctx)
	if err != nil {
		return err
	}
	statuses := map[string]string{}
	for _, in := range rec.invitations {
		statuses[in.Email] = in.Status
	}
	wrong, accepted, left := 0, 0, 0
	for i, p := range crowd("pending", pendingShown) {
		switch {
		case statuses[p] == "accepted":
			accepted++
			if stale(i) {
				left++
			}
		case stale(i) != (statuses[p] == "revoked"):
			wrong++
		}
	}
	throttled := 0
	for _, q := range rec.requests {
		if q.Status == 429 {
			throttled++
		}
	}
	var mismatched, open int
	err = st.pool.QueryRow(ctx, `
		select (select count(*) from revocations v join results r using (batch_id, row_number) where r.status is distinct from case v.outcome when 'revoked' then 'revoked' when 'accepted' then 'accepted' end),
		       (select count(*) from attempts where resolved_at is null)`).Scan(&mismatched, &open)
	if err != nil {
		return err
	}
	revoked := want - left
	s.verdict(wrong == 0, "", "the stale alone are revoked", fmt.Sprintf("%d otherwise; %d accepted, of them %d before they were revoked", wrong, accepted, left))
	s.verdict(w.Revoked == revoked && w.Skipped["accepted"] == left && w.adds() && w.Stale == want, "", fmt.Sprintf("%d = %d + %d", want, revoked, left),
		fmt.Sprintf("stale %d = revoked %d + skipped %v + failed %d", w.Stale, w.Revoked, w.Skipped, w.Failed))
	s.verdict(mismatched == 0 && open == 0, "", "rows say so, nothing is open", fmt.Sprintf("%d rows differ, %d attempts open", mismatched, open))
	s.verdict(throttled == 0, "", "0 answers of 429", fmt.Sprintf("%d; %s for all", throttled, took.Round(time.Second)))
	return nil
}

// showTwice has two processes sweep at one moment, as a scheduler may that runs
// its job twice.
func showTwice(ctx context.Context, s *show) error {
	const n = 560
	return s.on(ctx, conditions{mode: "sliding", window: scaled}, func(st *stage) error {
		if err := st.pending(ctx, n); err != nil {
			return err
		}
		want := 0
		for i := range n {
			if stale(i) {
				want++
			}
		}
		var both []*rig.Process
		for i := range 2 {
			p, err := rig.Launch(ctx, st.bench.Binary, st.env, filepath.Join(st.dir, fmt.Sprintf("sweep-%d.log", i)), nil, "sweep", "--apply", "--allow", "--json", "--log-level=warn")
			if err != nil {
				return err
			}
			both = append(both, p)
		}
		for _, p := range both {
			if err := p.Wait(ctx); err != nil {
				return err
			}
		}
		revokes, err := st.standin.revokes(ctx)
		if err != nil {
			return err
		}
		one, err := st.sweep(ctx, 1)
		if err != nil {
			return err
		}
		other, err := st.sweep(ctx, 2)
		if err != nil {
			return err
		}
		s.verdict(revokes == want && one.Revoked+other.Revoked == want && one.adds() && other.adds(), "", fmt.Sprintf("%d revokes", want),
			fmt.Sprintf("%d; revoked %d and %d, skipped %v and %v", revokes, one.Revoked, other.Revoked, one.Skipped, other.Skipped))
		return nil
	})
}

// showDowntime starts two workers three days after the last sweep, and lets them
// be for a while.
func showDowntime(ctx context.Context, s *show) error {
	return s.on(ctx, conditions{mode: "sliding", window: scaled}, func(st *stage) error {
		if err := st.pending(ctx, 56); err != nil {
			return err
		}
		_, err := st.pool.Exec(ctx, `
			insert into schedules (instance_id, expression, tz, since) select id, '0 2 * * *', 'Europe/Berlin', now() - interval '10 days' from instances`)
		if err != nil {
			return err
		}
		_, err = st.pool.Exec(ctx, `
			insert into sweeps (instance_id, kind, started_by, apply, started_at, finished_at, night)
			select id, 'sweep', 'nightly sweep', true, n, n, n from instances, (select date_trunc('day', now() - interval '4 days') + interval '1 hour' as n) t`)
		if err != nil {
			return err
		}
		st.worker = []string{"--sweep-at=0 2 * * *", "--tz=Europe/Berlin", "--reconcile-every=0"}
		for i := range 2 {
			p, err := rig.Launch(ctx, st.bench.Binary, st.env, filepath.Join(st.dir, fmt.Sprintf("work-%d.log", i)), nil, append([]string{"work", "--log-level=warn"}, st.worker...)...)
			if err != nil {
				return err
			}
			st.workers = append(st.workers, p)
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		var sweeps int
		var night time.Time
		if err := st.pool.QueryRow(ctx, `select count(*) - 1, max(night) from sweeps`).Scan(&sweeps, &night); err != nil {
			return err
		}
		schedule, err := jobs.ParseSchedule("0 2 * * *", "Europe/Berlin")
		if err != nil {
			return err
		}
		next := schedule.Next(night)
		s.verdict(sweeps == 1 && next.After(time.Now()) && !night.After(time.Now()), "", "1, for the last night", fmt.Sprintf("%d, for %s", sweeps, night.UTC().Format(time.DateTime)))
		return nil
	})
}

// showSummerTime counts the nights of two years.
func showSummerTime(_ context.Context, s *show) error {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"} {
		where, err := time.LoadLocation(zone)
		if err != nil {
			return err
		}
		for _, at := range []string{"0 2 * * *", "30 1 * * *"} {
			schedule, err := jobs.ParseSchedule(at, zone)
			if err != nil {
				return err
			}
			begin, end := time.Date(2026, 1, 1, 0, 0, 0, 0, where), time.Date(2028, 1, 1, 0, 0, 0, 0, where)
			days := map[string]int{}
			for t := schedule.Next(begin.Add(-time.Second)); t.Before(end); t = schedule.Next(t) {
				days[t.In(where).Format(time.DateOnly)]++
			}
			most := slices.Max(slices.Collect(maps.Values(days)))
			s.verdict(len(days) == 730 && most == 1, zone+", "+at, "730 nights, one sweep each", fmt.Sprintf("%d nights, at most %d", len(days), most))
		}
	}
	return nil
}

// showThreshold has a nightly sweep meet too much, and a person allow it.
func showThreshold(ctx context.Context, s *show) error {
	const n = 100
	return s.on(ctx, conditions{mode: "sliding", window: scaled}, func(st *stage) error {
		if err := st.pending(ctx, n); err != nil {
			return err
		}
		want := 0
		for i := range n {
			if stale(i) {
				want++
			}
		}
		_, err := st.pool.Exec(ctx, `insert into schedules (instance_id, expression, tz, since) select id, '0 2 * * *', 'UTC', now() - interval '2 days' from instances`)
		if err != nil {
			return err
		}
		p, err := rig.Launch(ctx, st.bench.Binary, st.env, filepath.Join(st.dir, "work.log"), nil, "work", "--log-level=warn", "--sweep-at=0 2 * * *", "--tz=UTC", "--reconcile-every=0")
		if err != nil {
			return err
		}
		st.workers = append(st.workers, p)
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
		revokes, err := st.standin.revokes(ctx)
		if err != nil {
			return err
		}
		w, err := st.sweep(ctx, 1)
		if err != nil {
			return err
		}
		s.verdict(revokes == 0 && w.State == "held" && w.Undecided == want, "at night", "held, nothing revoked", fmt.Sprintf("%s, %d revokes, %d wait", w.State, revokes, w.Undecided))
		if _, err := st.call(ctx, "sweep", "1", "--allow", "--json"); err != nil {
			return err
		}
		if w, err = st.sweep(ctx, 1); err != nil {
			return err
		}
		s.verdict(w.Revoked == want && w.adds(), "allowed", fmt.Sprintf("%d revoked", want), fmt.Sprintf("%d", w.Revoked))
		return nil
	})
}
