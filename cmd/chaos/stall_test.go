package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/rig"
)

// TestStall checks that stall finds a fleet that makes no progress although it has work and budget,
// and accepts a fleet that waits for a reason.
func TestStall(t *testing.T) {
	t.Parallel()
	busy := sample{work: true, budget: true}
	for _, c := range []struct {
		name  string
		span  time.Duration
		each  func(second int, s *sample)
		found int
	}{
		{"something is done", 5 * time.Minute, func(second int, s *sample) { s.done = second / 20 }, 0},
		{"nothing is done", time.Minute, func(int, *sample) {}, 1},
		{"nothing is done, twice", 2 * time.Minute, func(second int, s *sample) { s.done = min(1, second/60) }, 2},
		{"for a moment", stalledFor, func(int, *sample) {}, 0},
		{"no work", 5 * time.Minute, func(_ int, s *sample) { s.work = false }, 0},
		{"a limit is frozen", 5 * time.Minute, func(_ int, s *sample) { s.budget = false }, 0},
		{"an outage", 5 * time.Minute, func(_ int, s *sample) { s.excuse = true }, 0},
		{"a backoff after an outage", 100 * time.Second, func(second int, s *sample) { s.excuse = second < 40 }, 0},
		{"an outage, and nothing after it", 3 * time.Minute, func(second int, s *sample) { s.excuse = second < 40 }, 1},
		{"a stall long after an outage", 3 * time.Minute, func(second int, s *sample) {
			s.excuse = second < 60
			s.done = min(second, 120)
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var s stall
			began := time.Now()
			for second := range int(c.span/time.Second) + 1 {
				now := busy
				now.at = began.Add(time.Duration(second) * time.Second)
				c.each(second, &now)
				s.see(now)
			}
			if len(s.found) != c.found {
				t.Errorf("found %q, want %d", s.found, c.found)
			}
			v := &verdict{}
			(&watch{stall: s}).judge(v)
			if v.count(stalled) != c.found || v.bad() != (c.found > 0) {
				t.Errorf("the verdict has %d stalls, want %d", v.count(stalled), c.found)
			}
		})
	}
}

// TestJudgeSeesLateRequests checks that the judge finds a request after its deadline, by the trace
// id of its answer or by the invitation that it made.
func TestJudgeSeesLateRequests(t *testing.T) {
	t.Parallel()
	began := time.Now()
	deadline := began.Add(requestTimeout)
	for _, c := range []struct {
		name string
		came time.Time
		make func(x *truth, a *attempt, key string)
		late int
		slow string
	}{
		{"in time", began.Add(time.Second), func(*truth, *attempt, string) {}, 0, ""},
		{"as its deadline passed", deadline.Add(deadlineSlack / 2), func(*truth, *attempt, string) {}, 0, ""},
		{"a minute later", began.Add(time.Minute), func(*truth, *attempt, string) {}, 2, ""},
		{"a minute later, refused", began.Add(time.Minute), func(x *truth, _ *attempt, key string) { delete(x.made, key) }, 1, ""},
		{"a minute later, without an answer", began.Add(time.Minute), func(_ *truth, a *attempt, _ string) { a.Traces = nil }, 1, ""},
		{"by another program", began.Add(time.Minute), func(x *truth, a *attempt, key string) {
			a.Traces = nil
			x.made[key][0].Metadata = map[string]string{"by": "another"}
		}, 0, ""},
		{"before any attempt that is known", began.Add(-time.Minute), func(_ *truth, a *attempt, _ string) { a.Traces = nil }, 0, ""},
		{"by nobody that is known", began.Add(time.Minute), func(_ *truth, a *attempt, _ string) { a.Traces, a.Keys = nil, nil }, 0, ""},
		{"made by a slow Clerk", deadline.Add(3 * time.Second), func(_ *truth, a *attempt, _ string) { a.Traces = nil }, 0, "4s"},
		{"made later than Clerk is slow", deadline.Add(6 * time.Second), func(_ *truth, a *attempt, _ string) { a.Traces = nil }, 1, "4s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := at(harm{})
			x, _, _ := good(r)
			if c.slow != "" {
				r.faults = append(r.faults, fault{"kind": "slow", "delay": c.slow})
			}
			key := r.crowd.keys[slices.Index(r.crowd.kinds, fresh)]
			x.made[key][0].CreatedAt = c.came
			x.requests = []rig.Request{{At: c.came, Trace: "trace"}}
			a := attempt{ID: 1, Started: began, Deadline: deadline, Traces: []string{"trace"}, Keys: []string{key}, Creates: true}
			c.make(x, &a, key)
			v := &verdict{}
			r.judgeDeadlines(v, x, []attempt{a})
			if v.count(late) != c.late || len(v.wrongs) != c.late {
				t.Errorf("got %v, want %d late", v.wrongs, c.late)
			}
			for _, w := range v.wrongs {
				if strings.Contains(w.what, "@") {
					t.Errorf("an address in %q", w.what)
				}
			}
		})
	}
}

// TestSkippedRunsAreSaid checks that a run that the machine does not permit counts only as not
// made.
func TestSkippedRunsAreSaid(t *testing.T) {
	t.Parallel()
	x := newTally()
	h := harms[slices.IndexFunc(harms, func(h harm) bool { return h.name == "disk_full" })]
	x.skip(scenario{h, bulk, answers[0]})
	if x.total.runs != 0 || !strings.Contains(x.notMade(), "1 of `disk_full`") {
		t.Errorf("%d runs, and %q", x.total.runs, x.notMade())
	}
}
