package browsertest

import (
	"fmt"
	"net/http"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
)

// TestRiver: an operator looks at River's page, where no arguments are shown, and
// deletes the job of a row there: the row is sent all the same. An auditor is
// not shown the way, and finds nothing there.
func TestRiver(t *testing.T) {
	t.Parallel()
	clerk := sandboxtest.New(t, sandbox.Config{})
	s := newSite(t, "--clerk-url="+clerk.URL)
	s.serve()
	p := s.as("maria")
	batch := p.send(s.file("hires.csv", people("hire", 3)), 3)
	p.sees("0 of 3 decided")
	p.press("Jobs")
	p.sees("Available 3")
	p.press("Available 3")
	p.sees("invite_1")
	p.lacks("batch", "row", "hire.")
	// Its colours, its motion and its width are River's own: of a number in a badge
	// the contrast is 4.48, where 4.5 is asked for.
	p.axe("river", "light", `{ rules: { "color-contrast": { enabled: false } } }`)
	p.photograph("river")
	p.media("dark")
	p.until(`document.documentElement.classList.contains("dark")`)
	p.axe("river", "dark", `{ runOnly: ["color-contrast"] }`)
	p.media("light")

	// River's page forgets what is selected when it receives a list of jobs that it asked for before.
	// On a busy machine that may be between any two of these clicks.
	next := fmt.Sprintf(`const confirm = %s; (confirm ?? %s ?? %s)?.click(); return !!confirm;`,
		named("Delete job"), named("Delete"), labelled("Select job 2"))
	p.until("(() => { " + next + " })()")
	p.sees("Available 2")
	s.until(`select count(*) = 2 and not bool_or(id = 2) from river_job where kind = 'invite'`)
	p.open("/events")
	p.sees("maria river_jobs_delete")
	s.launch("work")
	p.open(batch)
	p.sees("3 of 3 decided", "3 invited")
	if mails := clerk.Mailbox().Addresses; len(mails) != 3 || mails["hire.002@example.com"] != 1 {
		t.Errorf("mails went to %v", mails)
	}

	alex := s.as("alex")
	alex.lacks("Jobs")
	alex.expect("status of 403")
	alex.open("/river/")
	alex.sees("You may look at everything here, but not change anything.")
	for _, path := range []string{"/river/api/jobs?state=available", "/river/api/jobs/delete"} {
		status := eval[int](alex, fmt.Sprintf(`fetch(%q, { method: %q.endsWith("delete") ? "POST" : "GET", body: null }).then((r) => r.status)`, path, path), await)
		if status != http.StatusForbidden {
			t.Errorf("an auditor gets %d from %s", status, path)
		}
	}
}
