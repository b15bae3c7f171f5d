package report_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/report"
)

// TestPage goes through a batch in pages, there and back, under each filter: no
// row is skipped or shown twice.
func TestPage(t *testing.T) {
	t.Parallel()
	pool := postgrestest.New(t)
	instance, err := batch.EnsureInstance(t.Context(), pool, "ins_test", "production")
	must.OK(t, err)
	_, err = pool.Exec(t.Context(), `insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows)
		values ($1, 'a.csv', '', 1, 'UTF-8', ',', '{email}', 'test', 'running', 30), ($1, 'b.csv', '', 1, 'UTF-8', ',', '{email}', 'test', 'running', 1)`, instance.ID)
	must.OK(t, err)
	_, err = pool.Exec(t.Context(), `
		insert into results (batch_id, row_number, instance_id, line, original, email, key, outcome, decided_at, status, clerk_invitation_id)
		select 1, n, $1::bigint, n + 1, array['x'], 'P' || n || '@example.com', 'p' || n || '@example.com',
		       case when n % 3 = 0 then 'invited' when n % 3 = 1 then 'rejected' end, case when n % 3 < 2 then now() end,
		       case when n % 6 = 0 then 'accepted' when n % 3 = 0 then 'pending' end, case when n % 3 = 0 then 'inv_' || n end
		from generate_series(1, 30) n
		union all select 2, 1, $1, 2, array['x'], 'p_1@example.com', 'p_1@example.com', null, null, null, null`, instance.ID)
	must.OK(t, err)
	for _, c := range []struct {
		filter report.RowFilter
		want   func(n int) bool
	}{
		{report.RowFilter{}, func(int) bool { return true }},
		{report.RowFilter{Outcome: invitation.Invited}, func(n int) bool { return n%3 == 0 }},
		{report.RowFilter{Outcome: report.Undecided}, func(n int) bool { return n%3 == 2 }},
		{report.RowFilter{Status: invitation.Accepted}, func(n int) bool { return n%6 == 0 }},
		{report.RowFilter{Search: "P1"}, func(n int) bool { return n == 1 || n/10 == 1 }},
		{report.RowFilter{Search: "7"}, func(n int) bool { return n == 7 }},
		{report.RowFilter{Search: "inv_9"}, func(n int) bool { return n == 9 }},
		{report.RowFilter{Search: "p%"}, func(int) bool { return false }},
		{report.RowFilter{Search: "p1", Outcome: invitation.Rejected}, func(n int) bool { return (n == 1 || n/10 == 1) && n%3 == 1 }},
		{report.RowFilter{Search: "@"}, func(int) bool { return false }},
	} {
		t.Run(fmt.Sprintf("%+v", c.filter), func(t *testing.T) {
			t.Parallel()
			var want []int
			for n := 1; n <= 30; n++ {
				if c.want(n) {
					want = append(want, n)
				}
			}
			f := c.filter
			f.Limit = 4
			forth, last := walk(t, pool, f, func(f *report.RowFilter, p report.Page) bool {
				f.After = p.Rows[len(p.Rows)-1].RowNumber
				return p.After
			})
			if !slices.Equal(forth, want) {
				t.Errorf("forth: %v, want %v", forth, want)
			}
			if len(want) == 0 {
				return
			}
			f.Before = last + 1
			back, _ := walk(t, pool, f, func(f *report.RowFilter, p report.Page) bool {
				f.Before = p.Rows[0].RowNumber
				return p.Before
			})
			slices.Sort(back)
			if !slices.Equal(back, want) {
				t.Errorf("back: %v, want %v", back, want)
			}
		})
	}
	t.Run("people", func(t *testing.T) {
		t.Parallel()
		people, err := report.People(t.Context(), pool, "P_", "", 10)
		if err != nil || len(people) != 1 || people[0].Key != "p_1@example.com" || people[0].BatchID != 2 {
			t.Errorf("%+v, %v", people, err)
		}
		var keys []string
		for after := ""; ; after = keys[len(keys)-1] {
			people, err := report.People(t.Context(), pool, "p", after, 7)
			must.OK(t, err)
			if len(people) == 0 {
				break
			}
			for _, p := range people {
				keys = append(keys, p.Key)
			}
		}
		if len(keys) != 31 || !slices.IsSorted(keys) || len(slices.Compact(keys)) != 31 {
			t.Errorf("%d people: %v", len(keys), keys)
		}
	})
	t.Run("tally", func(t *testing.T) {
		t.Parallel()
		tally, err := report.Tally(t.Context(), pool, 1)
		if err != nil || tally.Rows() != 30 || tally.Undecided != 10 || tally.Outcomes[invitation.Invited] != 10 || tally.Statuses[invitation.Accepted] != 5 || tally.Statuses[invitation.Pending] != 5 {
			t.Errorf("%+v, %v", tally, err)
		}
	})
}

// walk goes from page to page and returns the rows that it met and the last.
func walk(t *testing.T, pool *pgxpool.Pool, f report.RowFilter, next func(*report.RowFilter, report.Page) bool) (met []int, last int) {
	t.Helper()
	for range 20 {
		p, err := report.ReadPage(t.Context(), pool, 1, f)
		must.OK(t, err)
		for _, row := range p.Rows {
			met, last = append(met, row.RowNumber), max(last, row.RowNumber)
		}
		if len(p.Rows) == 0 || !next(&f, p) {
			return met, last
		}
	}
	t.Fatal("the pages never end")
	return nil, 0
}
