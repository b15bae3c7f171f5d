package browsertest

import (
	"fmt"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
)

// TestTrouble goes through what keeps a batch from its end: Clerk refuses every
// invitation, requests fail for a day, too many people are refused, and a person
// holds it. The page says what is the matter and how to go on, and going on ends well.
func TestTrouble(t *testing.T) {
	t.Parallel()
	clerk := sandboxtest.New(t, sandbox.Config{Blocked: []string{"*@gone.example.com"}})
	s := newSite(t, "--clerk-url="+clerk.URL, "--limit-bulk=off", "--limit-create=60/1h", "--settle=500ms")
	s.serve("--work")
	p := s.as("maria")
	p.still()
	p.open("/")

	clerk.Tell("config", `{"switches":{"quota":"user_quota_exceeded"}}`)
	p.send(s.file("board.csv", people("board", 4)), 4)
	p.state("paused")
	p.sees("It stopped by itself: Clerk refuses every invitation", "then resume. Nothing more is sent.", "0 of 4 decided")
	p.inspect("batch-refused")
	clerk.Tell("config", `{"switches":{"quota":""}}`)
	p.press("Go on")
	p.sees("4 of 4 decided")
	p.state("done")

	// A row fails when its requests have for a day: the day is let pass.
	clerk.Tell("faults", `[{"call":"create","kind":"status","status":409,"code":"resource_locked"}]`)
	p.open("/")
	failed := p.send(s.file("night-shift.csv", people("shift", 3)), 3)
	p.sees("running", "0 of 3 decided")
	s.until(`select count(*) = 3 from results r join batches b on b.id = r.batch_id where b.file_name = 'night-shift.csv' and r.transient_since is not null`)
	s.exec(`update results set transient_since = transient_since - interval '25 hours', not_before = now() where transient_since is not null`)
	s.exec(`update river_job set state = 'available', scheduled_at = now() where state in ('scheduled', 'retryable') and kind = 'invite'`)
	p.state("done")
	p.sees("3 failed", "3 rows need somebody to look", "something else at Clerk had hold of it")
	p.until(`document.querySelectorAll("#rows tbody tr").length === 3`)
	p.inspect("batch-failed")
	clerk.Tell("faults", `[]`)
	p.press("Retry 3 failed rows")
	p.sees("3 of 3 decided", "3 invited")
	p.state("done")
	p.open(failed)
	p.lacks("3 failed", "need somebody")

	// More than a fifth of at least twenty are refused.
	var file strings.Builder
	file.WriteString("Name,Work e-mail\n")
	for i := range 80 {
		domain := "example.com"
		if i%2 == 0 {
			domain = "gone.example.com"
		}
		fmt.Fprintf(&file, "Person %d,person.%d@%s\n", i, i, domain)
	}
	p.open("/")
	p.send(s.file("contractors.csv", file.String()), 80)
	p.state("paused")
	p.sees("It stopped by itself:", "people were rejected or failed. Look at why before it goes on.")
	p.inspect("batch-stopped")
	p.press("Cancel…")
	p.press("Cancel the rest")
	p.sees("80 of 80 decided")
	p.state("cancelled")

	p.open("/")
	p.send(s.file("apprentices.csv", people("apprentice", 70)), 70)
	p.sees("0 of 60 left")
	p.press("Pause")
	p.sees("Paused by a person. Nothing more is sent.")
	p.inspect("batch-paused")
}
