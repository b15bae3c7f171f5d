package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// made makes results up: each contender invites so many a window.
func made(b race) [][]measured {
	var results [][]measured
	for _, perWindow := range []int{100, 250, 350, 350} {
		m := measured{first: perWindow, all: perWindow * b.windows}
		for i := range m.all {
			m.curve = append(m.curve, time.Duration(i/perWindow)*b.window)
		}
		results = append(results, []measured{m, m, {}})
	}
	return results
}

func TestSumLeavesOutWhatComesAfterTheWindows(t *testing.T) {
	t.Parallel()
	seen := &record{requests: at("create", 200, "", 0, 5999, 12_001)}
	seen.requests = append(seen.requests, at("bulk", 429, "", 12_002)...)
	for _, q := range seen.requests[:3] {
		seen.invitations = append(seen.invitations, invitation{CreatedAt: q.At})
	}
	m := race{window: 6 * time.Second, windows: 2}.sum(seen)
	if m.first != 2 || m.all != 2 || m.singles != 2 || m.bulks != 0 || m.throttled != 0 || len(m.curve) != 2 {
		t.Errorf("got %+v", m)
	}
}

func TestTableHasTheLimitAndEachContender(t *testing.T) {
	t.Parallel()
	b := race{mode: "sliding", window: 6 * time.Second, windows: 10, runs: 3}
	table := b.table(made(b))
	for _, want := range []string{
		"| a loop of bulk requests   |          250 |      2,500 |         71 % |",
		"| bulkinvite, 4 processes   |          350 |      3,500 |        100 % |",
		"| the limit                 |          350 |      3,500 |              |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}

func TestDrawWritesALineForEach(t *testing.T) {
	t.Parallel()
	b := race{mode: "sliding", window: 6 * time.Second, windows: 10, runs: 3}
	file := filepath.Join(t.TempDir(), "budget.svg")
	if err := b.draw(made(b), file); err != nil {
		t.Fatal(err)
	}
	picture, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append([]contender{{name: "the limit"}}, contenders...) {
		if !strings.Contains(string(picture), ">"+c.name+"<") {
			t.Errorf("the picture does not name %q", c.name)
		}
	}
}

func TestChooseRefusesWhatIsNoLine(t *testing.T) {
	t.Parallel()
	if chosen, err := choose(budgetLines, []string{"kill", "known"}); err != nil || len(chosen) != 2 || chosen[0].name != "kill" {
		t.Errorf("got %d lines, %v", len(chosen), err)
	}
	if _, err := choose(budgetLines, []string{"nothing"}); !errors.As(err, new(usageError)) {
		t.Errorf("got %v, want a usage error", err)
	}
	if all, err := choose(budgetLines, nil); err != nil || len(all) != len(budgetLines) {
		t.Errorf("got %d lines, %v, want all", len(all), err)
	}
}

func TestCPUTimeOfThisProcess(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Fatal("the bench measures processor time by /proc, which Linux has")
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 10*time.Second; {
		after, err := cpuTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			return
		}
	}
	t.Errorf("busy for 10 s, and still %s", before)
}
