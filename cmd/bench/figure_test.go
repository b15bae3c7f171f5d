package main

import (
	"slices"
	"strings"
	"testing"
)

func TestMedianAndPercentile(t *testing.T) {
	t.Parallel()
	if got := median([]int{9, 1, 5}); got != 5 {
		t.Errorf("median %d, want 5", got)
	}
	if got := median([]int{4, 2}); got != 2 {
		t.Errorf("median of two %d, want the lower", got)
	}
	var hundred []int
	for i := range 100 {
		hundred = append(hundred, 100-i)
	}
	for of, want := range map[int]int{0: 1, 1: 1, 50: 50, 99: 99, 100: 100} {
		if got := percentile(hundred, of); got != want {
			t.Errorf("of %d in a hundred: %d, want %d", of, got, want)
		}
	}
	if got := percentile([]int{3, 1, 2}, 99); got != 3 {
		t.Errorf("of three: %d, want the most", got)
	}
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 3500: "3,500", 100_000: "100,000", 1_000_005: "1,000,005"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestFigure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		figure figure
		want   string
		met    bool
	}{
		{"of the same runs", figure{ours: []float64{10, 20, 90}, limit: []float64{20, 20, 30}, least: 0.9}, "|20 (10 to 90)|x: 20 (20 to 30)|1.00|at least 0.90|yes", true},
		{"just too little, and not rounded up", figure{ours: []float64{8999}, limit: []float64{10_000}, least: 0.9}, "|8,999|x: 10,000|0.89|at least 0.90|**no**", false},
		{"just enough", figure{ours: []float64{9000}, limit: []float64{10_000}, least: 0.9}, "|9,000|x: 10,000|0.90|at least 0.90|yes", true},
		{"one limit for all", figure{ours: []float64{1, 2, 3}, limit: []float64{2}, most: 1}, "|2 (1 to 3)|x: 2|1.00|at most 1.00|yes", true},
		{"just too much, and not rounded down", figure{ours: []float64{1001}, limit: []float64{1000}, most: 1}, "|1,001|x: 1,000|1.01|at most 1.00|**no**", false},
		{"without a target", figure{ours: []float64{1}, limit: []float64{3}}, "|1|x: 3|0.33||", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := c.figure
			f.beside, f.unit = "x", plain
			if got := strings.Join(f.cells(), "|"); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if f.met() != c.met {
				t.Errorf("met: %t", f.met())
			}
		})
	}
}

func TestMissed(t *testing.T) {
	t.Parallel()
	one := []float64{1}
	figures := []figure{{work: "slow", ours: one, limit: []float64{2}, least: 0.9}, {work: "fast", ours: one, limit: one, least: 0.9}, {work: "big", ours: one, limit: one, most: 0.5}}
	if got := missed(figures); !slices.Equal(got, []string{"slow", "big"}) {
		t.Errorf("%q", got)
	}
}

func TestFootprint(t *testing.T) {
	t.Parallel()
	before := footprint{log: 1000, tables: map[string]int64{"results": 8, "jobs": 16}}
	after := footprint{log: 5000, tables: map[string]int64{"results": 108, "jobs": 16, "attempts": 50}}
	grown := after.since(before)
	if grown.log != 4000 || grown.disk() != 150 || grown.tables["jobs"] != 0 {
		t.Errorf("%+v, %g", grown, grown.disk())
	}
}

// What comes after the windows does not count, nor what came before the first
// revocation, nor creates; what was refused is told.
func TestWithin(t *testing.T) {
	t.Parallel()
	var seen []request
	for _, more := range [][]request{
		at("invitations", 200, "", 0), at("revoke", 200, "", 1000, 1500), at("invitations", 200, "", 5000), at("bulk", 200, "", 5001),
		at("revoke", 429, "", 10_999), at("revoke", 200, "", 11_000),
	} {
		seen = append(seen, more...)
	}
	if n, refused := within(seen, generalWindow); n != 4 || refused != 1 {
		t.Errorf("%d, of which %d were refused", n, refused)
	}
}
