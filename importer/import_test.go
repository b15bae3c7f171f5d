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

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// target makes an instance and a batch in a new database.
func target(t testing.TB, pool *pgxpool.Pool) Draft {
	t.Helper()
	var to Draft
	err := pool.QueryRow(t.Context(), `
		with i as (insert into instances (clerk_id, environment) values ('ins_test', 'development') returning id)
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
		select id, 'test.csv', '', 0, '', '', '{}', 'test', 'draft' from i returning id, instance_id`).Scan(&to.ID, &to.InstanceID)
	must.OK(t, err)
	return to
}

// load imports a text and commits, or rolls back.
func load(t testing.TB, pool *pgxpool.Pool, to Draft, text string) (*Summary, error) {
	t.Helper()
	s, _, err := loadInChunks(t, pool, to, text)
	return s, err
}

// loadInChunks is load, and says in how many chunks the rows were written.
func loadInChunks(t testing.TB, pool *pgxpool.Pool, to Draft, text string) (s *Summary, chunks int, err error) {
	t.Helper()
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		s, err = importFile(t.Context(), copies{tx, &chunks}, strings.NewReader(text), &to)
		return err
	})
	return s, chunks, err
}

// copies counts what is copied.
type copies struct {
	pgx.Tx
	n *int
}

func (c copies) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string,
	rows pgx.CopyFromSource) (int64, error) {
	*c.n++
	return c.Tx.CopyFrom(ctx, table, columns, rows)
}

func count(t testing.TB, pool *pgxpool.Pool) int {
	t.Helper()
	return must.Read[int](t, pool, `select count(*) from results`)
}

// texts returns the first column of a query's rows.
func texts(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) []string {
	t.Helper()
	rows, _ := pool.Query(t.Context(), sql, args...) // CollectRows returns the error
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(t, err)
	return got
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
	s, err := load(t, pool, to, text)
	must.OK(t, err)
	if s.Rows != 5 || s.Valid != 2 || s.Invalid != 2 || s.DuplicateRow != 1 {
		t.Errorf("summary %+v", s)
	}
	got := texts(t, pool, `
		select concat_ws(' | ', row_number, line, array_to_string(original, '/'), coalesce(email, '-'), coalesce(key, '-'), coalesce(redirect_url, '-'),
			coalesce(expires_in_days::text, '-'), coalesce(public_metadata::text, '-'), coalesce(array_to_string(notes, '/'), '-'),
			coalesce(outcome, '-'), coalesce(reason, '-'), coalesce(duplicate_of::text, '-'), coalesce((abs(extract(epoch from clock_timestamp() - decided_at)) < 60)::text, '-'))
		from results where batch_id = $1 and instance_id = $2 order by row_number`, to.ID, to.InstanceID)
	want := []string{
		"1 | 2 |  Jane@Example.com/https://app.example.com//7/A/Doe,\nJane | Jane@Example.com | jane@example.com | https://app.example.com/ | 7 | {\"team\": \"A\"} | took off the spaces around it | - | - | - | -",
		"2 | 4 | nobody////\ufffd | - | - | - | - | - | - | invalid | no_at | - | true",
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
	to.Read = Options{RevokeOn: "start date"}
	s, err := load(t, pool, to, text)
	must.OK(t, err)
	if s.Columns.Mapped["revoke_on"] != "Start Date" || len(s.Warnings) != 1 || s.Warnings[0].Code != DifferentOptions {
		t.Errorf("summary %+v, want the column mapped, and a warning that the second row of a@x.com asks for another day", s)
	}
	got := texts(t, pool, `select concat_ws(' ', row_number, coalesce(revoke_on::text, '-'), outcome, reason)
		from results where batch_id = $1 order by row_number`, to.ID)
	if want := []string{"1 2026-12-01", "2 -", "3 - invalid bad_revoke_on", "4 2027-01-01 duplicate_row"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = Read(t.Context(), strings.NewReader(text), Options{RevokeOn: "starts"}, func(*Row) error { return nil })
	var fault *FileError
	if !errors.As(err, &fault) || !strings.Contains(fault.Fix, "--revoke-on \"Start Date\"") {
		t.Errorf("a column that is not there: %v, want the nearest one named", err)
	}
}

// Rows come in chunks. Long rows make these smaller, so that memory stays bounded.
func TestImportInChunks(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	var text strings.Builder
	text.WriteString("email\n")
	const rows = 2*chunkRows + 10
	for i := range rows {
		fmt.Fprintf(&text, "p%d@x.com\n", i%(rows-1))
	}
	s, chunks, err := loadInChunks(t, pool, target(t, pool), text.String())
	must.OK(t, err)
	if chunks != 3 || s.Rows != rows || s.DuplicateRow != 1 || count(t, pool) != rows {
		t.Errorf("%d chunks, %d rows in results, summary %+v", chunks, count(t, pool), s)
	}
	long := strings.Repeat("a@x.com,"+strings.Repeat("x", chunkBytes/8)+"\n", 20)
	pool = postgrestest.New(t)
	s, chunks, err = loadInChunks(t, pool, target(t, pool), "email,note\n"+long)
	if err != nil || s.Rows != 20 || chunks != 3 {
		t.Errorf("%d chunks, summary %+v, err %v", chunks, s, err)
	}
}

// Nothing stays of an import that fails, at whatever point.
func TestImportFails(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	to := target(t, pool)
	many := "email\n" + strings.Repeat("a@x.com\n", 2*chunkRows)
	for _, test := range []struct {
		name, text string
		to         Draft
		is         func(error) bool
	}{
		{"a fault late in the file", many + strings.Repeat("x", DefaultLineBytes+1), to, func(err error) bool {
			var fault *FileError
			return errors.As(err, &fault) && err == error(fault)
		}},
		{"changed", many, Draft{Batch: invitation.Batch{ID: to.ID, InstanceID: to.InstanceID, FileSHA256: [32]byte{1}}}, func(err error) bool { return errors.Is(err, ErrChanged) }},
		{"no such batch", many, Draft{Batch: invitation.Batch{ID: to.ID + 1, InstanceID: to.InstanceID}}, func(err error) bool { return strings.Contains(err.Error(), "write rows 1 to") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := load(t, pool, test.to, test.text); err == nil || !test.is(err) {
				t.Errorf("got %v", err)
			}
			if n := count(t, pool); n != 0 {
				t.Errorf("%d rows are left", n)
			}
		})
	}
}
