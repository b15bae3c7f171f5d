package invitation_test

import (
	"slices"
	"testing"

	"bulkinvite/invitation"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	r, _ := reader(t)
	for _, tt := range []struct {
		name   string
		filter invitation.AuditFilter
		want   []invitation.RowID
	}{
		{"a person", invitation.AuditFilter{Key: "jane@example.com"}, []invitation.RowID{{Batch: 1, Row: 1}, {Batch: 1, Row: 3}, {Batch: 2, Row: 3}, {Batch: 4, Row: 1}}},
		{"a batch", invitation.AuditFilter{Batch: 2}, []invitation.RowID{{Batch: 2, Row: 1}, {Batch: 2, Row: 2}, {Batch: 2, Row: 3}}},
		{"an outcome", invitation.AuditFilter{Outcome: invitation.Invited}, []invitation.RowID{{Batch: 1, Row: 1}, {Batch: 1, Row: 2}, {Batch: 2, Row: 1}}},
		{"all three", invitation.AuditFilter{Key: "jane@example.com", Batch: 1, Outcome: invitation.Invited}, []invitation.RowID{{Batch: 1, Row: 1}}},
		{"nobody", invitation.AuditFilter{Key: "stranger@example.com"}, nil},
		{"a batch that no integer holds", invitation.AuditFilter{Batch: 1 << 40}, nil},
	} {
		var got []invitation.RowID
		err := r.Audit(t.Context(), tt.filter, func(row *invitation.AuditRow) error {
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
	if err := r.Audit(t.Context(), invitation.AuditFilter{}, func(*invitation.AuditRow) error { n++; return nil }); err != nil || n != 10 {
		t.Errorf("no filter: %d rows, %v; want 10", n, err)
	}
}
