package importer

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// hires is a file that is made while it is read, so that no benchmark holds it:
// 83 bytes a row, as files from personnel systems have.
type hires struct {
	rows, next int
	rest       []byte
}

func (h *hires) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(h.rest) == 0 {
			if h.next > h.rows {
				break
			}
			if h.rest = append(h.rest[:0], "Employee ID,Name,Email,Department,Start\n"...); h.next > 0 {
				h.rest = append(h.number(h.rest[:0]), ",Jane Example Doe,jane.doe."...)
				h.rest = append(h.number(h.rest), "@example.com,Engineering Platform,2026-12-01\n"...)
			}
			h.next++
		}
		copied := copy(p[n:], h.rest)
		h.rest = h.rest[copied:]
		n += copied
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// number writes the row's number with seven digits: fmt takes longer to than
// some of what is measured.
func (h *hires) number(b []byte) []byte {
	for unit := 1_000_000; unit > 0; unit /= 10 {
		b = append(b, '0'+byte(h.next/unit%10))
	}
	return b
}

// BenchmarkRead reads a file, and beside it has encoding/csv alone read the same.
func BenchmarkRead(b *testing.B) {
	const rows = 100_000
	for _, way := range []struct {
		name string
		read func() (int, error)
	}{
		{"importer", func() (int, error) {
			s, err := Read(b.Context(), &hires{rows: rows}, Options{}, func(*Row) error { return nil })
			if err != nil {
				return 0, err
			}
			return s.Valid, nil
		}},
		{"bare", func() (n int, err error) {
			in := csv.NewReader(&hires{rows: rows})
			in.ReuseRecord = true
			for {
				if _, err := in.Read(); err == io.EOF {
					return n - 1, nil
				} else if err != nil {
					return n, err
				}
				n++
			}
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, err := way.read(); err != nil || n != rows {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkClean cleans an address that needs nothing, one that needs mending,
// and one whose domain is in another script.
func BenchmarkClean(b *testing.B) {
	for _, way := range []struct{ name, cell string }{
		{"plain", "jane.doe@example.com"}, {"mended", " Jane Doe <Jane.Doe@Example.com>; "}, {"script", "jane.doe@bücher.example"},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, code := Person(way.cell); code != "" {
					b.Fatal(code)
				}
			}
		})
	}
}

// memory is what the process has from the system and hasn't given back.
func memory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys - m.HeapReleased
}

type benchArgs struct {
	Batch int64 `json:"batch"`
	Row   int   `json:"row"`
}

func (benchArgs) Kind() string { return "bench" }

// BenchmarkImport measures an import with a job for each row against a bare loop
// that parses with encoding/csv, copies the same rows into the same table by the
// same chunks, and inserts the same jobs.
func BenchmarkImport(b *testing.B) {
	const rows = 100_000
	jobs, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
	must.OK(b, err)
	insert := func(ctx context.Context, tx pgx.Tx, batch int64, numbers []int) error {
		params := make([]river.InsertManyParams, len(numbers))
		for i, n := range numbers {
			params[i].Args = benchArgs{batch, n}
		}
		_, err := jobs.InsertManyFastTx(ctx, tx, params)
		return err
	}
	for _, test := range []struct {
		name string
		run  func(tx pgx.Tx, to *Draft) error
	}{
		{"bare", func(tx pgx.Tx, to *Draft) error {
			return bareImport(b.Context(), tx, to, rows, insert)
		}},
		{"import", func(tx pgx.Tx, to *Draft) error {
			s, err := importFile(b.Context(), tx, &hires{rows: rows}, to)
			if err == nil && s.Valid != rows {
				err = fmt.Errorf("%d rows are valid", s.Valid)
			}
			if err != nil {
				return err
			}
			numbers := make([]int, rows)
			for i := range numbers {
				numbers[i] = i + 1
			}
			return insert(b.Context(), tx, to.ID, numbers)
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				pool := postgrestest.New(b)
				to := target(b, pool)
				b.StartTimer()
				began := time.Now()
				must.OK(b, pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error { return test.run(tx, &to) }))
				b.ReportMetric(rows/time.Since(began).Seconds(), "rows/s")
				b.ReportMetric(float64(memory())/(1<<20), "MiB")
			}
		})
	}
}

func bareImport(ctx context.Context, tx pgx.Tx, to *Draft, rows int, insert func(context.Context, pgx.Tx, int64, []int) error) error {
	in := csv.NewReader(&hires{rows: rows})
	if _, err := in.Read(); err != nil {
		return err
	}
	columns := []string{"batch_id", "instance_id", "row_number", "line", "original", "email", "key"}
	for done := 0; done < rows; done += chunkRows {
		var values [][]any
		var numbers []int
		for i := done + 1; i <= min(done+chunkRows, rows); i++ {
			cells, err := in.Read()
			if err != nil {
				return err
			}
			values = append(values, []any{to.ID, to.InstanceID, i, i + 1, cells, cells[2], strings.ToLower(cells[2])})
			numbers = append(numbers, i)
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"results"}, columns, pgx.CopyFromRows(values)); err != nil {
			return err
		}
		if err := insert(ctx, tx, to.ID, numbers); err != nil {
			return err
		}
	}
	return nil
}
