package report_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/report"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	for _, tt := range []struct {
		name   string
		filter report.AuditFilter
		want   []invitation.RowID
	}{
		{"a person", report.AuditFilter{Key: "jane@example.com"}, []invitation.RowID{{Batch: 1, Row: 1}, {Batch: 1, Row: 3}, {Batch: 2, Row: 3}, {Batch: 4, Row: 1}}},
		{"a batch", report.AuditFilter{Batch: 2}, []invitation.RowID{{Batch: 2, Row: 1}, {Batch: 2, Row: 2}, {Batch: 2, Row: 3}}},
		{"an outcome", report.AuditFilter{Outcome: invitation.Invited}, []invitation.RowID{{Batch: 1, Row: 1}, {Batch: 1, Row: 2}, {Batch: 2, Row: 1}}},
		{"all three", report.AuditFilter{Key: "jane@example.com", Batch: 1, Outcome: invitation.Invited}, []invitation.RowID{{Batch: 1, Row: 1}}},
		{"nobody", report.AuditFilter{Key: "stranger@example.com"}, nil},
		{"a batch that no integer holds", report.AuditFilter{Batch: 1 << 40}, nil},
	} {
		var got []invitation.RowID
		err := report.Audit(t.Context(), pool, tt.filter, func(row *report.AuditRow) error {
			if row.Actor == "" || row.FileName == "" || row.Environment == "" {
				t.Errorf("%s: %+v", tt.name, row)
			}
			got = append(got, invitation.RowID{Batch: row.BatchID, Row: row.RowNumber})
			return nil
		})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
	n := 0
	if err := report.Audit(t.Context(), pool, report.AuditFilter{}, func(*report.AuditRow) error { n++; return nil }); err != nil || n != 10 {
		t.Errorf("no filter: %d rows, %v; want 10", n, err)
	}
}

// TestAuditRowsAreThoseOfThePage: an audit reads rows in another way than a page
// does, and both say the same of each.
func TestAuditRowsAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	postgrestest.Plant(t, pool, `
		update results set reason = 'why', duplicate_of = 11, status = 'expired', status_at = '2026-01-01', status_read_id = 12, clerk_user_id = 'user_1', expires_at = '2026-01-02',
		       read_id = 13, redirect_url = 'https://example.com', expires_in_days = 14, public_metadata = '{"a": 1}', notes = '{spaces}' where batch_id = 1 and row_number = 1`)
	page, err := report.ReadPage(t.Context(), pool, 1, report.RowFilter{Limit: 5})
	must.OK(t, err)
	text := func(row any) string {
		t.Helper()
		b, err := json.Marshal(row)
		must.OK(t, err)
		return string(b)
	}
	n := 0
	err = report.Audit(t.Context(), pool, report.AuditFilter{Batch: 1}, func(row *report.AuditRow) error {
		if got, want := text(row.Result), text(page.Rows[n]); got != want {
			t.Errorf("row %d is\n%s\nto an audit and\n%s\nto a page", n+1, got, want)
		}
		n++
		return nil
	})
	if err != nil || n != 5 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// TestAuditWaitsForWhoTakesRows: somebody who reads slowly, as in a pager, does not
// keep a transaction open, which the server would end. What an audit sets for
// itself ends with it.
func TestAuditWaitsForWhoTakesRows(t *testing.T) {
	t.Parallel()
	shared := planted(t)
	pool, err := postgres.Open(t.Context(), shared.Config().ConnString()+"&pool_max_conns=1")
	must.OK(t, err)
	defer pool.Close()
	ahead := func() (n int) {
		must.OK(t, pool.QueryRow(t.Context(), `select current_setting('effective_io_concurrency')::int`).Scan(&n))
		return n
	}
	before := ahead()
	must.Exec(t, pool, `set idle_in_transaction_session_timeout = '20ms'`)
	err = report.Audit(t.Context(), pool, report.AuditFilter{Batch: 1}, func(*report.AuditRow) error {
		time.Sleep(40 * time.Millisecond)
		return nil
	})
	expect.OK(t, err)
	expect.Equal(t, "pages read ahead after an audit", ahead(), before)
}
