package report_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

func TestResults(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	columns, err := report.Columns(t.Context(), pool, 1)
	if err != nil || !slices.Equal(columns, []string{"Name", "Email", ""}) { // row 4 has a cell more
		t.Errorf("%q, %v", columns, err)
	}
	if _, err := report.Columns(t.Context(), pool, 99); !errors.Is(err, invitation.ErrNoBatch) {
		t.Errorf("no batch: %v", err)
	}
	for outcome, want := range map[invitation.Outcome][]int{
		"": {1, 2, 3, 4, 5}, invitation.Invited: {1, 2}, invitation.Invalid: {4}, invitation.Failed: nil,
	} {
		var got []int
		err := report.Results(t.Context(), pool, 1, outcome, func(row *report.Result) error {
			if row.Outcome == nil || (outcome != "" && *row.Outcome != outcome) {
				t.Errorf("row %d has outcome %v", row.RowNumber, row.Outcome)
			}
			if row.RowNumber == 4 && (row.Email != nil || len(row.Original) != 3) { // nothing is left over from row 3
				t.Errorf("%+v", row)
			}
			got = append(got, row.RowNumber)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("outcome %q: rows %v, %v; want %v", outcome, got, err, want)
		}
	}
	stop := errors.New("enough")
	n := 0
	if err := report.Results(t.Context(), pool, 1, "", func(*report.Result) error { n++; return stop }); err != stop || n != 1 {
		t.Errorf("after an error of yield: %d rows, %v", n, err)
	}
}

// TestSpreadsheetSafe: cells that Excel, LibreOffice or Google Sheets take for a
// formula, also those whose sign is full-width or stands behind what nobody sees.
func TestSpreadsheetSafe(t *testing.T) {
	t.Parallel()
	for _, cell := range []string{
		"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\x00=1", "\x01x", "\x7f=1", "\u0085=1",
		"＝1+1", "＋1", "－1", "＠SUM(A1)", "\ufeff=1", "\u200b＝1", "\u200e\u200b@x",
	} {
		expect.Equal(t, fmt.Sprintf("%q is written as", cell), report.SpreadsheetSafe(cell), "'"+cell)
	}
	for _, cell := range []string{"", "Jane", "jane@example.com", "1-2", "'=1", "Ａ＝1", "\ufeffJane", "\u200b"} {
		expect.Equal(t, fmt.Sprintf("%q is written as", cell), report.SpreadsheetSafe(cell), cell)
	}
}
