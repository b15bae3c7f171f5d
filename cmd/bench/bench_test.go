package main

import (
	"encoding/csv"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/rig"
)

func TestMedianAndPercentile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values   []int
		of, want int
	}{
		{[]int{9, 1, 5}, 50, 5}, {[]int{4, 2}, 50, 2},
		{[]int{3, 1, 2}, 99, 3}, {[]int{3, 1, 2}, 0, 1}, {[]int{3, 1, 2}, 100, 3},
	} {
		if got := percentile(c.values, c.of); got != c.want {
			t.Errorf("%d in a hundred of %v: %d, want %d", c.of, c.values, got, c.want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 0.0215: "0.0215", 69.94: "69.9", 999: "999", 3499.6: "3,500", 1_000_005: "1,000,005",
	} {
		if got := number(v); got != want {
			t.Errorf("%g: %s, want %s", v, got, want)
		}
	}
}

func TestFigure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		figure figure
		want   string // ours, peer, ratio, floor, kept
	}{
		{"of the same runs", figure{Runs: []float64{10, 20, 90}, Limit: []float64{20, 20, 30}, AtLeast: floor(0.9)},
			"20 x (10 to 90)|it: 20 x (20 to 30)|1.00|at least 0.90|yes"},
		{"just too little, and not rounded up", figure{Runs: []float64{8999}, Limit: []float64{10_000}, AtLeast: floor(0.9)},
			"8,999 x|it: 10,000 x|0.89|at least 0.90|**no**"},
		{"just enough", figure{Runs: []float64{9000}, Limit: []float64{10_000}, AtLeast: floor(0.9)},
			"9,000 x|it: 10,000 x|0.90|at least 0.90|yes"},
		{"just too much, and not rounded down", figure{Runs: []float64{1001}, Limit: []float64{1000}, AtMost: floor(1)},
			"1,001 x|it: 1,000 x|1.01|at most 1.00|**no**"},
		{"one limit for all", figure{Runs: []float64{1, 2, 3}, Limit: []float64{2}, AtMost: floor(1)},
			"2 x (1 to 3)|it: 2 x|1.00|at most 1.00|yes"},
		{"no peer", figure{Runs: []float64{257, 100, 300}, AtMost: floor(256)},
			"257 x (100 to 300)|||at most 256 x|**no**"},
		{"none of them", figure{Runs: []float64{0}, AtMost: floor(0)}, "0 x|||at most 0 x|yes"},
		{"one of none", figure{Runs: []float64{1}, AtMost: floor(0)}, "1 x|||at most 0 x|**no**"},
		{"without a floor", figure{Runs: []float64{1}, Limit: []float64{3}}, "1 x|it: 3 x|0.33||"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := c.figure
			f.Unit, f.Peer = "x", "it"
			cells := f.judged().cells()
			got := strings.Join(append(cells[1:4:4], cells[5:]...), "|")
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestReport checks that a report names the missed floors and has the values of the report before.
func TestReport(t *testing.T) {
	t.Parallel()
	dir, one := t.TempDir(), []float64{1}
	report := func(day string, ours float64) *report {
		return &report{Command: "go run ./cmd/bench", Machine: day, Took: "1m", Figures: []figure{
			{Work: "slow", Runs: []float64{ours}, Limit: []float64{2}, AtLeast: floor(0.9)},
			{Work: "fast", Runs: one, Limit: one, AtLeast: floor(0.9)}, {Work: "free", Runs: one},
		}}
	}
	must.OK(t, report("monday", 1.5).write(dir))
	must.OK(t, report("tuesday", 1).write(dir))
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	must.OK(t, err)
	page := strings.Join(strings.Fields(string(text)), " ")
	expect.Text(t, page, "1 of 2 floors are kept. Missed: slow.", "| 0.50 | 0.75 | at least 0.90 | **no** |",
		"tuesday; it took 1m", "monday")
}

var update = flag.Bool("update", false, "write docs/bench/README.md anew from bench.json")

// TestPageIsWritten checks that docs/bench/README.md is what the command writes for bench.json.
func TestPageIsWritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "..", "docs", "bench")
	report, err := readReport(dir)
	must.OK(t, err)
	path := filepath.Join(dir, "README.md")
	if *update {
		must.OK(t, os.WriteFile(path, []byte(report.page()), 0o644))
	}
	page, err := os.ReadFile(path)
	must.OK(t, err)
	if string(page) != report.page() {
		t.Error("README.md is not what its bench.json says; go test -run TestPageIsWritten -update writes it")
	}
}

// TestWithin checks that within ignores creates and requests outside the windows that begin with
// the first revocation.
func TestWithin(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1_700_000_000, 0)
	var seen []rig.Request
	for _, q := range []struct {
		call string
		ms   int
	}{
		{"list", 0}, {"revoke", 1000}, {"revoke", 1500}, {"list", 5000},
		{"bulk", 5001}, {"revoke", 10_999}, {"revoke", 11_000},
	} {
		seen = append(seen, rig.Request{Call: q.call, At: begin.Add(time.Duration(q.ms) * time.Millisecond)})
	}
	if n := within(seen, generalWindow); n != 4 {
		t.Errorf("%d, want 4", n)
	}
}

// TestWritePeople checks the number of rows and their length, which docs/bench/README.md states.
func TestWritePeople(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "people.csv")
	must.OK(t, writePeople(path, 1000))
	text, err := os.ReadFile(path)
	must.OK(t, err)
	records, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil || len(records) != 1001 || records[1000][2] != personOf(1000) {
		t.Errorf("%d records, the last of %q, %v", len(records), records[len(records)-1], err)
	}
	if n := (len(text) - strings.IndexByte(string(text), '\n') - 1) / 1000; n != rowBytes {
		t.Errorf("a row has %d bytes", n)
	}
	if rows, err := bareParse(path); err != nil || rows != 1000 {
		t.Errorf("encoding/csv counts %d rows, %v", rows, err)
	}
}
