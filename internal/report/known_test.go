package report_test

import (
	"maps"
	"testing"

	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/report"
)

func TestKnown(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	keys := []string{"jane@example.com", "joe@example.com", "a@example.com", "max@example.com", "stranger@example.com"}
	for instance, want := range map[int64]map[string]bool{1: {"jane@example.com": true, "joe@example.com": false, "a@example.com": true}, 2: {}} {
		if got, err := report.Known(t.Context(), pool, instance, keys); err != nil || !maps.Equal(got, want) {
			t.Errorf("instance %d: %v, %v; want %v", instance, got, err, want)
		}
		if any, err := report.AnyInvited(t.Context(), pool, instance); err != nil || any != (len(want) > 0) {
			t.Errorf("instance %d: anybody %v, %v", instance, any, err)
		}
	}
	must.Exec(t, pool, "update results set expires_at = now() - interval '1 day' where clerk_invitation_id = 'inv_1'")
	want := map[string]bool{"jane@example.com": false, "joe@example.com": false, "a@example.com": true}
	if got, err := report.Known(t.Context(), pool, 1, keys); err != nil || !maps.Equal(got, want) {
		t.Errorf("after one expired: %v, %v", got, err)
	}
}

func TestOnlyInstance(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	if id, ok, err := report.OnlyInstance(t.Context(), pool); err != nil || !ok || id != 1 {
		t.Errorf("beside the sandbox: %d, %v, %v", id, ok, err)
	}
	must.Exec(t, pool, "insert into instances (clerk_id, environment) values ('ins_other', 'development')")
	if _, ok, err := report.OnlyInstance(t.Context(), pool); err != nil || ok {
		t.Errorf("of two: %v, %v", ok, err)
	}
	if _, ok, err := report.OnlyInstance(t.Context(), postgrestest.New(t)); err != nil || ok {
		t.Errorf("of none: %v, %v", ok, err)
	}
	if id, ok, err := report.InstanceByClerkID(t.Context(), pool, "sandbox"); err != nil || !ok || id != 2 {
		t.Errorf("by id: %d, %v, %v", id, ok, err)
	}
}
