package main

import (
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
)

// TestRetryRejected takes up a row that Clerk rejected once Clerk takes it, on the record: the certificate of the first
// end still holds.
func TestRetryRejected(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{Blocked: []string{"person3@example.com"}}, "CLERK_SECRET_KEY=sk_live_rejected")
	type ended struct {
		document
		Certificate struct {
			Head string `json:"head"`
		} `json:"certificate"`
	}
	first := decode[ended](t, b.run("send", "--yes", "--json", b.file("some.csv", people(8))).want(t, exitRows))
	if first.Outcomes["rejected"] != 1 || first.Certificate.Head == "" {
		t.Fatalf("%+v", first)
	}
	if o := b.run("retry", "1", "--json"); !strings.Contains(o.err, "0 rows are taken up again") || decode[document](t, o.want(t, exitOK)).State != "done" {
		t.Errorf("a retry of the failed rows: %s", o.err)
	}
	pool := open(t, b.url)
	if _, err := pool.Exec(t.Context(), `update results set outcome = null, decided_at = null, reason = null, attempt_id = null where outcome = 'rejected'`); err == nil {
		t.Error("a rejected row opens again off the record")
	}
	s.Tell("config", `{"blocked":[]}`)
	if o := b.run("retry", "1", "--rejected", "--json", "--actor", "ann"); !strings.Contains(o.err, "1 row is taken up again") || decode[document](t, o.want(t, exitOK)).Undecided != 1 {
		t.Errorf("a retry of the rejected ones: %s", o.err)
	}
	b.run("work", "--until-idle").want(t, exitOK)
	if d := b.status("1"); d.Outcomes["invited"] != 8 || d.State != "done" {
		t.Errorf("%+v, want 8 invited", d)
	}
	var kept, told int
	err := pool.QueryRow(t.Context(), `select
		(select count(*) from retries where row_number = 4 and outcome = 'rejected' and reason = 'not_allowed_access' and attempt_id is not null),
		(select count(*) from events where action = 'retried' and actor = 'ann' and details->'also' = '["rejected"]')`).Scan(&kept, &told)
	if err != nil || kept != 1 || told != 1 {
		t.Errorf("%d retries keep how the row had ended, and %d events tell, want 1 each (%v)", kept, told, err)
	}
	b.run("verify", "1").want(t, exitOK)
	b.run("verify", "1", "--head", first.Certificate.Head).want(t, exitOK)
}
