package report_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/report"
)

// oneConnection is a pool of one connection, and a context that ends where somebody
// waits for a second one in vain.
func oneConnection(t *testing.T) (context.Context, *pgxpool.Pool) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgrestest.URL(t)+"&pool_max_conns=1")
	must.OK(t, err)
	t.Cleanup(pool.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx, pool
}

// plantRows makes a batch of rows whose cells are so many bytes each.
func plantRows(t *testing.T, pool *pgxpool.Pool, state string, rows, bytes int) {
	t.Helper()
	for _, sql := range []string{
		`insert into instances (clerk_id, environment) values ('ins_test', 'production')`,
		fmt.Sprintf(`insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state, rows)
			values (1, 'a.csv', '', 1, 'UTF-8', ',', '{email}', 'test', '%s', %d)`, state, rows),
		fmt.Sprintf(`insert into results (batch_id, row_number, instance_id, line, original, email, key)
			select 1, n, 1, n + 1, array[repeat('x', %d)], 'p' || n || '@example.com', 'p' || n || '@example.com'
			from generate_series(1, %d) n`, bytes, rows),
	} {
		must.Exec(t, pool, sql)
	}
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i + 1
	}
	return all
}

// TestResultsHoldNoConnection: with a pool of one connection, rows are decided while
// they are read, before and behind the reader. Each row still comes once, in order.
func TestResultsHoldNoConnection(t *testing.T) {
	t.Parallel()
	ctx, pool := oneConnection(t)
	const rows = 6000
	plantRows(t, pool, "running", rows, 10)
	var got []int
	err := report.Results(ctx, pool, 1, "", func(row *report.Result) error {
		got = append(got, row.RowNumber)
		if row.RowNumber%1000 != 1 {
			return nil
		}
		_, err := pool.Exec(ctx, `update results set outcome = 'invited', decided_at = now(), status = 'pending', clerk_invitation_id = 'inv_' || row_number
			where batch_id = 1 and row_number in ($1, 6001 - $1)`, row.RowNumber)
		return err
	})
	if err != nil || !slices.Equal(got, upTo(rows)) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	got = nil
	err = report.Results(ctx, pool, 1, invitation.Invited, func(row *report.Result) error {
		got = append(got, row.RowNumber)
		_, err := pool.Exec(ctx, `update results set status = 'accepted' where batch_id = 1 and row_number = $1`, row.RowNumber)
		return err
	})
	if err != nil || len(got) != 12 || !slices.IsSorted(got) {
		t.Errorf("rows %v, %v", got, err)
	}
}

// TestResultsOfWideRows: rows that fill a page by their size alone.
func TestResultsOfWideRows(t *testing.T) {
	t.Parallel()
	ctx, pool := oneConnection(t)
	const rows = 700
	plantRows(t, pool, "running", rows, 100<<10)
	var got []int
	err := report.Results(ctx, pool, 1, "", func(row *report.Result) error {
		got = append(got, row.RowNumber)
		if len(row.Original) != 1 || len(row.Original[0]) != 100<<10 {
			return errors.New("a cell is not whole")
		}
		return nil
	})
	if err != nil || !slices.Equal(got, upTo(rows)) {
		t.Errorf("%d rows, %v", len(got), err)
	}
}

// TestResultsOfChangedDraft: a draft whose file is read again meanwhile has other
// rows. They are not mixed with those from before.
func TestResultsOfChangedDraft(t *testing.T) {
	t.Parallel()
	ctx, pool := oneConnection(t)
	plantRows(t, pool, "draft", 6000, 10)
	n := 0
	err := report.Results(ctx, pool, 1, "", func(*report.Result) error {
		if n++; n > 1 {
			return nil
		}
		_, err := pool.Exec(ctx, `with gone as (delete from results where row_number > 50) update batches set columns = '{Email}' where id = 1`)
		return err
	})
	if !errors.Is(err, report.ErrDraftChanged) {
		t.Errorf("%d rows, %v", n, err)
	}
	n = 0
	if err := report.Results(ctx, pool, 1, "", func(*report.Result) error { n++; return nil }); err != nil || n != 50 {
		t.Errorf("read again: %d rows, %v", n, err)
	}
}

// TestDriftHoldsNoConnection: drift ends, and other drift is found, while it is
// read: what stood all the time comes once, in order.
func TestDriftHoldsNoConnection(t *testing.T) {
	t.Parallel()
	ctx, pool := oneConnection(t)
	const all = 4000
	for _, sql := range []string{
		`insert into instances (clerk_id, environment) values ('ins_test', 'production')`,
		fmt.Sprintf(`insert into drift (instance_id, kind, clerk_invitation_id, key, status, first_seen, last_seen)
			select 1, case when n %% 2 = 0 then 'gone' else 'unexplained' end, 'inv_' || lpad(n::text, 5, '0'), 'p' || n, 'pending', '2026-01-01Z', now()
			from generate_series(1, %d) n`, all),
	} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := report.EachDrift(ctx, pool, report.DriftFilter{}, func(d *report.Drift) error {
		got = append(got, d.ClerkInvitationID)
		if len(got) != 1 {
			return nil
		}
		_, err := pool.Exec(ctx, `
			with ended as (update drift set ended_at = now() where clerk_invitation_id = 'inv_00001')
			insert into drift (instance_id, kind, clerk_invitation_id, key, first_seen, last_seen) values (1, 'gone', 'inv_new', 'new', now(), now())`)
		return err
	})
	if err != nil || len(got) != all-1 || got[0] != "inv_04000" || got[len(got)-1] != "inv_00002" {
		t.Fatalf("%d drift, %v", len(got), err)
	}
	if slices.Reverse(got); !slices.IsSorted(got) || len(slices.Compact(got)) != all-1 {
		t.Error("the order is another, or one came twice")
	}
	n := 0
	if err := report.EachDrift(ctx, pool, report.DriftFilter{Limit: 2500}, func(*report.Drift) error { n++; return nil }); err != nil || n != 2500 {
		t.Errorf("a limit of 2500: %d, %v", n, err)
	}
}
