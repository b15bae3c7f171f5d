package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The page says how the import compares with the loop of the same run, and
// where that is too little.
func TestImportPage(t *testing.T) {
	t.Parallel()
	const s = time.Second
	m := func(all, load time.Duration, peak int64) spent {
		return spent{rows: 100_000, all: all, load: load, peak: peak << 20, grown: footprint{log: 100_000_000, tables: map[string]int64{"results": 50_000_000}}}
	}
	b := &imports{
		runs: 3, sizes: []int{10_000, 100_000}, huge: 1_000_000,
		bare:  []spent{m(10*s, 0, 20), m(20*s, 0, 20), m(40*s, 0, 20)},
		ours:  map[int][]spent{10_000: {{rows: 10_000, all: s, load: s}}, 100_000: {m(10*s, 8*s, 60), m(40*s, 10*s, 67), m(80*s, 8*s, 68)}, 1_000_000: {m(800*s, 1, 86)}},
		csv:   []spent{m(s, 0, 1), m(s, 0, 1), m(s, 0, 1)},
		check: map[int][]spent{10_000: {m(s, 0, 1)}, 100_000: {m(2*s, 0, 70), m(2*s, 0, 70), m(2*s, 0, 70)}, 1_000_000: {m(s, 0, 1)}},
	}
	pages, err := b.pages("made so")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(pages["import.md"]), " ")
	for _, want := range []string{
		"| import 100,000 rows, a job for each | 2,500 rows/s (1,250 to 10,000) | the bare loop: 5,000 rows/s (2,500 to 10,000) | 0.50 | at least 0.90 | **no** |", // the runs' ratios are 1, 0.5 and 0.5
		"| memory of that import | 67 MiB (60 to 68) | 64 MiB and 24 bytes a row: 66 MiB | 1.02 | at most 1.00 | **no** |",
		"| memory of importing 1,000,000 rows | 86 MiB | 64 MiB and 24 bytes a row: 87 MiB | 0.99 | at most 1.00 | yes |",
		"| check 100,000 rows, nothing written | 50,000 rows/s | encoding/csv alone: 100,000 rows/s | 0.50 | at least 0.25 | yes |",
		"| 100,000 | 3 | 40.00 s | 400.0 ms | 67 MiB | 2.00 s | 70 MiB | 1,000 | 500 |",
		"made so",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in:\n%s", want, page)
		}
	}
}

func TestBetween(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "import.log")
	text := `{"time":"2026-11-22T20:11:00.5Z","level":"INFO","msg":"plan","rows":3}
{"time":"2026-11-22T20:11:02.75Z","level":"INFO","msg":"imported","batch":1}
`
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if took, err := between(log, "plan", "imported"); err != nil || took != 2250*time.Millisecond {
		t.Errorf("%v, %v", took, err)
	}
	if took, err := between(log, "plan", "done"); err == nil {
		t.Errorf("what was never said came after %v", took)
	}
}

// The file has as many rows as it is asked for, of the length that the page says.
func TestWritePeople(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "people.csv")
	if err := writePeople(path, 1000); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil || len(records) != 1001 || records[1000][2] != "jane.doe.0001000@example.com" {
		t.Errorf("%d records, the last of %q, %v", len(records), records[len(records)-1], err)
	}
	if n := (len(text) - strings.IndexByte(string(text), '\n') - 1) / 1000; n != rowBytes {
		t.Errorf("a row has %d bytes", n)
	}
	if rows, err := bareParse(path); err != nil || rows != 1000 {
		t.Errorf("encoding/csv counts %d rows, %v", rows, err)
	}
}
