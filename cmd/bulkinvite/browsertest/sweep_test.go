package browsertest

import (
	"errors"
	"os/exec"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
	"bulkinvite/internal/rig"
)

// TestHeldSweep: a sweep that would revoke too much waits on top of its page for
// an operator, who looks, and lets it; an auditor looks. What Clerk has and no
// row explains is listed, and stays.
func TestHeldSweep(t *testing.T) {
	t.Parallel()
	clerk := sandboxtest.New(t, sandbox.Config{})
	s := newSite(t, "--clerk-url="+clerk.URL)
	s.serve("--work")
	p := s.as("maria")
	p.still()
	p.open("/")
	p.send(s.file("seasonal.csv", people("seasonal", 24)), 24)
	p.state("done")

	clerk.Tell("invitations", `[{"email":"stray.one@example.com","age":"72h"},{"email":"stray.two@example.com","age":"48h"}]`)
	s.call("reconcile")
	p.open("/drift")
	p.sees("stray.one@example.com", "at Clerk, but no row explains it")
	p.inspect("drift-found")
	p.choose("What", "of a row, but gone at Clerk")
	p.press("Show")
	p.sees("No drift of this kind.")

	s.exec(`update results set invited_at = invited_at - interval '20 days'`)
	_, err := rig.Call(t.Context(), shared.binary, s.env, append([]string{"sweep", "--apply"}, s.flags...)...)
	if held := (*exec.ExitError)(nil); !errors.As(err, &held) || held.ExitCode() != 4 {
		t.Fatalf("the sweep is not held: %v", err)
	}
	p.open("/sweeps")
	p.sees("Sweep 1 is held", "It would revoke 24 of 24 pending invitations.", "More than 20 at a time ask for a person.")
	p.inspect("sweeps-held")
	alex := s.as("alex")
	alex.open("/sweeps")
	alex.sees("Sweep 1 is held")
	alex.lacks("Allow…", "Leave them all")
	alex.press("Look")
	alex.at("/sweeps/1")
	alex.sees("Nothing has been revoked.", "not decided yet")
	alex.lacks("Allow…", "Leave them all")

	p.press("Look")
	p.at("/sweeps/1")
	p.sees("seasonal.001@example.com", "24 stale", "Nothing has been revoked.")
	p.inspect("sweep-held")
	p.press("Allow…")
	p.sees("24 invitations are then revoked at Clerk: their links work no more.")
	p.press("Revoke 24")
	p.sees("allowed by maria")
	s.until(`select count(*) = 24 from results where status = 'revoked'`)
	p.open("/sweeps/1")
	p.sees("Sweep 1 is done", "24 revoked")
	p.inspect("sweep")
	p.open("/sweeps")
	p.lacks("is held")
}
