package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// target makes an instance and a batch in a new database.
func target(t testing.TB, pool *pgxpool.Pool) Target {
	t.Helper()
	var to Target
	err := pool.QueryRow(t.Context(), `
		with i as (insert into instances (clerk_id, environment) values ('ins_test', 'development') returning id)
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
		select id, 'test.csv', '', 0, '', '', '{}', 'test', 'draft' from i returning id, instance_id`).Scan(&to.BatchID, &to.InstanceID)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// load imports a text and commits, or rolls back.
func load(t testing.TB, pool *pgxpool.Pool, to Target, text string, insert func(context.Context, pgx.Tx, []int) error) (*Summary, error) {
	t.Helper()
	var s *Summary
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		s, err = Import(t.Context(), tx, strings.NewReader(text), Options{}, to, insert)
		return err
	})
	return s, err
}

func noJobs(context.Context, pgx.Tx, []int) error { return nil }

func count(t testing.TB, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `select count(*) from results`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestImportWritesEachRow(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	to := target(t, pool)
	text := "email,redirect_url,expires_in_days,public_metadata.team,name\n" +
		" Jane@Example.com,https://app.example.com/,7,A,\"Doe,\nJane\"\n" +
		"nobody,,,,\x00\n" +
		"no dot@x,,,,\n" +
		"jane@EXAMPLE.com,,,,Jane\n" +
		"joe@x.com,,,,Joe\n"
	var jobs []int
	s, err := load(t, pool, to, text, func(_ context.Context, _ pgx.Tx, rows []int) error {
		jobs = append(jobs, rows...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Rows != 5 || s.Valid != 2 || s.Invalid != 2 || s.DuplicateRow != 1 || !slices.Equal(jobs, []int{1, 5}) {
		t.Errorf("summary %+v, jobs %v", s, jobs)
	}
	rows, err := pool.Query(t.Context(), `
		select concat_ws(' | ', row_number, line, array_to_string(original, '/'), coalesce(email, '-'), coalesce(key, '-'), coalesce(redirect_url, '-'),
			coalesce(expires_in_days::text, '-'), coalesce(public_metadata::text, '-'), coalesce(array_to_string(notes, '/'), '-'),
			coalesce(outcome, '-'), coalesce(reason, '-'), coalesce(duplicate_of::text, '-'), coalesce((abs(extract(epoch from clock_timestamp() - decided_at)) < 60)::text, '-'))
		from results where batch_id = $1 and instance_id = $2 order by row_number`, to.BatchID, to.InstanceID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"1 | 2 |  Jane@Example.com/https://app.example.com//7/A/Doe,\nJane | Jane@Example.com | jane@example.com | https://app.example.com/ | 7 | {\"team\": \"A\"} | took off the spaces around it | - | - | - | -",
		"2 | 4 | nobody////\ufffd | - | - | - | - | - | - | invalid | bad_encoding | - | true",
		"3 | 5 | no dot@x//// | - | - | - | - | - | - | invalid | bad_local | - | true",
		"4 | 6 | jane@EXAMPLE.com////Jane | jane@EXAMPLE.com | jane@example.com | - | - | - | - | duplicate_row | - | 1 | true",
		"5 | 7 | joe@x.com////Joe | joe@x.com | joe@x.com | - | - | - | - | - | - | - | -",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The day after which an invitation is taken back is kept with the row; one that
// could be two days makes the row invalid.
func TestImportRevokeOn(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	to := target(t, pool)
	text := "email,Start Date\na@x.com,2026-12-01\nb@x.com,\nc@x.com,3/4/2026\na@x.com,2027-01-01\n"
	var s *Summary
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		s, err = Import(t.Context(), tx, strings.NewReader(text), Options{RevokeOn: "start date"}, to, func(context.Context, pgx.Tx, []int) error { return nil })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Columns.Mapped["revoke_on"] != "Start Date" || len(s.Warnings) != 1 || s.Warnings[0].Code != DifferentOptions {
		t.Errorf("summary %+v, want the column mapped, and a warning that the second row of a@x.com asks for another day", s)
	}
	rows, err := pool.Query(t.Context(), `select concat_ws(' ', row_number, coalesce(revoke_on::text, '-'), outcome, reason) from results where batch_id = $1 order by row_number`, to.BatchID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"1 2026-12-01", "2 -", "3 - invalid bad_revoke_on", "4 2027-01-01 duplicate_row"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = Read(t.Context(), strings.NewReader(text), Options{RevokeOn: "starts"}, func(*Row) error { return nil })
	var fault *FileError
	if !errors.As(err, &fault) || !strings.Contains(fault.Fix, "--revoke-on \"Start Date\"") {
		t.Errorf("a column that is not there: %v, want the nearest one named", err)
	}
}

// Rows and jobs come in chunks, and each valid row gets one job.
func TestImportInChunks(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	var text strings.Builder
	text.WriteString("email\n")
	const rows = 4*chunkRows + 10 // more chunks than there are buffers for
	for i := range rows {
		fmt.Fprintf(&text, "p%d@x.com\n", i%(rows-1))
	}
	var calls, jobs int
	s, err := load(t, pool, target(t, pool), text.String(), func(ctx context.Context, tx pgx.Tx, rows []int) error {
		var there int
		if err := tx.QueryRow(ctx, `select count(*) from results where row_number = any($1) and outcome is null`, rows).Scan(&there); err != nil {
			return err
		}
		if there != len(rows) {
			t.Errorf("%d rows are to get jobs, %d are in results", len(rows), there)
		}
		calls, jobs = calls+1, jobs+len(rows)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls != 5 || jobs != rows-1 || s.Rows != rows || s.DuplicateRow != 1 || count(t, pool) != rows {
		t.Errorf("%d calls for %d jobs, %d rows in results, summary %+v", calls, jobs, count(t, pool), s)
	}
}

// Long rows make chunks smaller, so that memory stays bounded.
func TestImportLongRows(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	calls := 0
	s, err := load(t, pool, target(t, pool), "email,note\n"+strings.Repeat("a@x.com,"+strings.Repeat("x", chunkBytes/8)+"\n", 20), func(context.Context, pgx.Tx, []int) error {
		calls++
		return nil
	})
	if err != nil || s.Rows != 20 || calls != 3 {
		t.Errorf("%d calls, summary %+v, err %v", calls, s, err)
	}
}

// Nothing stays of an import that fails, at whatever point.
func TestImportFails(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	to := target(t, pool)
	many := "email\n" + strings.Repeat("a@x.com\n", 5*chunkRows)
	broken := errors.New("no jobs today")
	for _, test := range []struct {
		name, text string
		to         Target
		insert     func(context.Context, pgx.Tx, []int) error
		is         func(error) bool
	}{
		{"jobs", many, to, func(context.Context, pgx.Tx, []int) error { return broken }, func(err error) bool { return errors.Is(err, broken) }},
		{"a fault late in the file", many + strings.Repeat("x", DefaultLineBytes+1), to, noJobs, func(err error) bool {
			var fault *FileError
			return errors.As(err, &fault) && err == error(fault)
		}},
		{"changed", many, Target{BatchID: to.BatchID, InstanceID: to.InstanceID, SHA256: [32]byte{1}}, noJobs, func(err error) bool { return errors.Is(err, ErrChanged) }},
		{"no such batch", many, Target{BatchID: to.BatchID + 1, InstanceID: to.InstanceID}, noJobs, func(err error) bool { return strings.Contains(err.Error(), "write rows 1 to") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := load(t, pool, test.to, test.text, test.insert); err == nil || !test.is(err) {
				t.Errorf("got %v", err)
			}
			if n := count(t, pool); n != 0 {
				t.Errorf("%d rows are left", n)
			}
		})
	}
}

func TestImportSameFile(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	to := target(t, pool)
	text := "email\na@x.com\n"
	_, s, err := read(t, text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	to.SHA256 = s.SHA256
	if _, err := load(t, pool, to, text, noJobs); err != nil || count(t, pool) != 1 {
		t.Errorf("err %v, %d rows", err, count(t, pool))
	}
}
