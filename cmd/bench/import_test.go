package main

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The table says how the import compares with the loop of the same run, and
// where that is too little.
func TestImportPage(t *testing.T) {
	t.Parallel()
	const s = time.Second
	b := &imports{
		runs: 3,
		bare: map[int][]spent{100_000: {{all: 10 * s, peak: 20 << 20}, {all: 20 * s}, {all: 40 * s}}, 1_000_000: {{all: 80 * s}}},
		ours: map[int][]spent{10_000: {{all: s, load: s}}, 100_000: {{all: 10 * s, load: 8 * s, peak: 50 << 20}, {all: 20 * s, load: 10 * s}, {all: 10 * s, load: 8 * s}}, 1_000_000: {{all: 100 * s, load: 100 * s, peak: 80 << 20}}},
		csv:  []spent{{all: s}}, check: []spent{{all: 2 * s}},
	}
	page := strings.Join(strings.Fields(b.page("2 cores", "go run ./cmd/bench import")), " ")
	for _, want := range []string{
		"| the bare loop | 100,000 | 20.00 s | 5,000 | |",
		"| bulkinvite import | 100,000 | 10.00 s | 10,000 | 1.00 (at least 0.90) |", // the runs' ratios are 1, 1 and 4
		"| of that, the transaction alone | 100,000 | 8.00 s | 12,500 | 2.00 |",
		"| bulkinvite import | 1,000,000 | 100.00 s | 10,000 | 0.80, and should be 0.90 |",
		"| 1,000,000 | 100.00 s | 100.0 ms | 80 MiB | 86 MiB | 0 MiB |",
		"| bulkinvite check | 1,000,000 | 2.00 s | 500,000 | 0.50 (at least 0.25) |",
		"go run ./cmd/bench import 2 cores.",
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
