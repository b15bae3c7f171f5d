package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/clerk/sandbox"
	"bulkinvite/postgres/postgrestest"
)

// TestDifferentLimits runs two workers that were given different limits: both
// keep the smaller one, so that Clerk refuses nothing, and status and doctor name them.
func TestDifferentLimits(t *testing.T) {
	t.Parallel()
	const window = 4 * time.Second
	s := newStand(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: 10, Window: window}}, WindowMode: "sliding"})
	b := newBench(t, keyVariable+"=sk_live_differ", "CLERK_API_URL="+s.url, "BULKINVITE_LIMIT_BULK=off")
	loose := b.start("work", "--limit-create", "14/4s")
	strict := b.start("work", "--limit-create", "10/4s")
	pool := connectTo(t, b.url)
	awaitCount(t, pool, 2, `select count(*) from workers`)
	d := decode[diagnosis](t, b.run("doctor", "--json"))
	d.has(t, "limits of workers", verdictWarning, "10/4s")
	d.has(t, "limits of workers", verdictWarning, "14/4s")
	d.has(t, "limits of workers", verdictWarning, fmt.Sprint(loose.Process.Pid))
	b.run("import", "--yes", b.file("people.csv", people(45))).want(t, exitOK)
	status := decode[struct {
		Differing []struct {
			Worker, Host          string
			PID                   int
			Create, Bulk, General string
		} `json:"differing_limits"`
	}](t, b.run("status", "1", "--json").want(t, exitOK))
	var created []string
	for _, w := range status.Differing {
		created = append(created, w.Create)
		if w.Bulk != "off" || w.General == "" || w.Host == "" || w.PID != loose.Process.Pid && w.PID != strict.Process.Pid || !strings.Contains(w.Worker, fmt.Sprint(w.PID)) {
			t.Errorf("%+v", w)
		}
	}
	if slices.Sort(created); !slices.Equal(created, []string{"10/4s", "14/4s"}) {
		t.Errorf("status --json has the limits %v", created)
	}
	if text := b.run("status", "1").want(t, exitOK).out; !strings.Contains(text, "10/4s") || !strings.Contains(text, "14/4s") || !strings.Contains(text, fmt.Sprint(strict.Process.Pid)) {
		t.Errorf("status does not name who differs:\n%s", text)
	}
	awaitCount(t, pool, 45, `select count(*) from results where outcome = 'invited'`)
	if done := decode[document](t, b.run("status", "1", "--json").want(t, exitOK)); *done.Limited != 0 {
		t.Errorf("Clerk answered %d requests with 429", *done.Limited)
	}
	// A worker of the version before states nothing.
	postgrestest.Plant(t, pool, `insert into workers (id, instance_id, host, pid, version, lock_key) select 'old_7', id, 'h', 7, 'v', 1 from instances`)
	decode[diagnosis](t, b.run("doctor", "--json")).has(t, "limits of workers", verdictWarning, "old_7")
	for _, w := range []*started{loose, strict} {
		if err := w.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if exit := w.ends(); exit != exitOK {
			t.Errorf("exit status %d: %s", exit, w.errs.String())
		}
	}
	postgrestest.Plant(t, pool, `delete from workers`)
	decode[diagnosis](t, b.run("doctor", "--json").want(t, exitOK)).has(t, "limits of workers", verdictOK, "")
	same := decode[map[string]json.RawMessage](t, b.run("status", "1", "--json").want(t, exitOK))
	if string(same["differing_limits"]) != "[]" {
		t.Errorf("with no worker differing_limits is %s", same["differing_limits"])
	}
}
