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

	"bulkinvite/postgres/postgrestest"
)

// people of a file that is made while it is read, so that no benchmark holds it:
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
				h.rest = fmt.Appendf(h.rest[:0], "%07d,Jane Example Doe,jane.doe.%07d@example.com,Engineering Platform,2026-12-01\n", h.next, h.next)
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

// BenchmarkRead reports the memory of the whole process at its peak, and
// beside it what encoding/csv alone takes.
func BenchmarkRead(b *testing.B) {
	for _, rows := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			for b.Loop() {
				peak, began := uint64(0), time.Now()
				s, err := Read(context.Background(), &hires{rows: rows}, Options{}, func(row *Row) error {
					if row.Number%20_000 == 0 {
						peak = max(peak, memory())
					}
					return nil
				})
				if err != nil || s.Valid != rows {
					b.Fatal(s, err)
				}
				b.ReportMetric(float64(rows)/time.Since(began).Seconds(), "rows/s")
				b.ReportMetric(float64(peak)/(1<<20), "MiB")
			}
		})
	}
	b.Run("bare", func(b *testing.B) {
		const rows = 1_000_000
		for b.Loop() {
			began := time.Now()
			in := csv.NewReader(&hires{rows: rows})
			in.ReuseRecord = true
			for {
				if _, err := in.Read(); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(rows/time.Since(began).Seconds(), "rows/s")
		}
	})
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

// BenchmarkImport measures Import with a job for each row against a bare loop
// that parses with encoding/csv, copies the same rows into the same table by the
// same chunks, and inserts the same jobs.
func BenchmarkImport(b *testing.B) {
	const rows = 100_000
	jobs, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
	if err != nil {
		b.Fatal(err)
	}
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
		run  func(tx pgx.Tx, to Target) error
	}{
		{"bare", func(tx pgx.Tx, to Target) error {
			return bareImport(b.Context(), tx, to, rows, insert)
		}},
		{"import", func(tx pgx.Tx, to Target) error {
			s, err := Import(b.Context(), tx, &hires{rows: rows}, Options{}, to, func(ctx context.Context, tx pgx.Tx, numbers []int) error {
				return insert(ctx, tx, to.BatchID, numbers)
			})
			if err == nil && s.Valid != rows {
				err = fmt.Errorf("%d rows are valid", s.Valid)
			}
			return err
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				pool := postgrestest.New(b)
				to := target(b, pool)
				b.StartTimer()
				began := time.Now()
				if err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error { return test.run(tx, to) }); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(rows/time.Since(began).Seconds(), "rows/s")
				b.ReportMetric(float64(memory())/(1<<20), "MiB")
			}
		})
	}
}

func bareImport(ctx context.Context, tx pgx.Tx, to Target, rows int, insert func(context.Context, pgx.Tx, int64, []int) error) error {
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
			values = append(values, []any{to.BatchID, to.InstanceID, i, i + 1, cells, cells[2], strings.ToLower(cells[2])})
			numbers = append(numbers, i)
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"results"}, columns, pgx.CopyFromRows(values)); err != nil {
			return err
		}
		if err := insert(ctx, tx, to.BatchID, numbers); err != nil {
			return err
		}
	}
	return nil
}
