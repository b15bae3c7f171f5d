package main

import (
	"html"
	"strings"
	"testing"
)

// filled is a report in which everything has been measured; ours is what a limit
// of 1 is held against.
func filled() *everything {
	w := newEverything(3, scale{files: []int{1_000, 10_000}, huge: 100_000, people: 2_000, alone: []int{1_000}, few: 1_000, results: 10_000, windows: 3, asked: 10})
	three := []float64{900, 1000, 1100}
	w.starts.first, w.starts.create, w.sweeps.used = three, three, []float64{98, 98, 98}
	run := spent{rows: 10_000, all: 1e9, load: 1e9, peak: 50 << 20, grown: footprint{log: 1e7, tables: map[string]int64{"results": 1e7}}}
	runs := []spent{run, run, run}
	w.exports.ours, w.exports.psql = runs, runs
	w.imports.ours, w.imports.check = map[int][]spent{1_000: runs, 10_000: runs, 100_000: {run}}, map[int][]spent{1_000: runs, 10_000: runs, 100_000: {run}}
	w.imports.bare, w.imports.csv = runs, runs
	w.questions.rows, w.questions.trip = 100_000, []float64{1, 1, 1}
	for range askedQuestions {
		w.questions.first = append(w.questions.first, 3000)
		w.questions.answers, w.questions.commands = append(w.questions.answers, []float64{5, 6, 7}), append(w.questions.commands, []float64{1, 1, 1})
	}
	w.invites.idle, w.invites.invited = three, map[way][]invited{}
	one := invited{rate: 1000, took: 2, peak: 60 << 20, grown: footprint{log: 4_000_000, tables: map[string]int64{"results": 1_000_000, "attempts": 500_000}}}
	for _, way := range append(w.invites.ways(), way{calls: bulkCalls, processes: 1, people: 1_000}) {
		w.invites.invited[way] = []invited{one, one, one}
	}
	return w
}

func TestEverythingOnOnePage(t *testing.T) {
	t.Parallel()
	pages, err := filled().pages("on this machine")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(pages["README.md"]), " ")
	for _, want := range []string{
		"on this machine",
		"| status at 100,000 rows, 99 of 100 | 6.0 ms (5.0 to 7.0) | `select 1` + 5ms: 6.0 ms | 1.00 | at most 1.00 | yes |",
		"| sweep for 3 windows, 3,000 revocations | 98 requests/s | the general limit, 1,000/10s: 100 requests/s | 0.98 | at least 0.97 | yes |",
		"| results --format csv of 10,000 rows | 10,000 rows/s | psql's `\\copy`: 10,000 rows/s | 1.00 | at least 0.50 | yes |",
		"| invite 1,000 people by single calls answered in 200ms | 1,000 people/s | 100 under way / 200ms: 500 people/s | 2.00 | at least 0.90 | yes |",
		"| 4 | 1,000 | 1,000 |",
		"| status | 3000.0 ms | `bulkinvite status 1 --json` | 1.00 s |",
		"| `results` | 500 | 896 | 500 | 845 |", "| all tables | 750 | 3,020 | 750 | 3,344 |",
		"| disk a row, all tables, after it is done, bulk calls | 750 bytes | the first measurement: 3,020 bytes | 0.25 | at most 0.50 | yes |",
		"| write-ahead log a row, single calls | 2,000 bytes | the first measurement: 7,749 bytes | 0.26 | at most 0.50 | yes |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in:\n%s", want, pages["README.md"])
		}
	}
	for _, name := range []string{"import.md", "invite.md", "time.svg", "memory.svg", "disk.svg", "processes.svg"} {
		if pages[name] == "" {
			t.Errorf("no %s", name)
		}
		if !strings.Contains(pages["README.md"], "("+name+")") {
			t.Errorf("the page does not lead to %s", name)
		}
	}
}

func TestPictureHasTheCurves(t *testing.T) {
	t.Parallel()
	for name, d := range filled().drawings() {
		svg, err := d.svg()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range d.curves {
			if len(c.points) < 2 || !strings.Contains(html.UnescapeString(svg), ">"+c.name+"<") {
				t.Errorf("%s does not show %q: %v", name, c.name, c.points)
			}
		}
	}
}

func TestDecadesGoAroundAllPoints(t *testing.T) {
	t.Parallel()
	left, right, bottom, top := filled().drawings()["time"].decades()
	if left != 1000 || right != 100_000 || bottom != 1 || top != 10 {
		t.Errorf("%g to %g, %g to %g", left, right, bottom, top)
	}
	var labels []string
	for _, tick := range (decades{}).Ticks(100, 10_000) {
		if tick.Label != "" {
			labels = append(labels, tick.Label)
		}
	}
	if got := strings.Join(labels, " "); got != "100 1,000 10,000" {
		t.Errorf("labels %s", got)
	}
}
