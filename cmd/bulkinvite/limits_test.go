package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// TestDifferentLimits runs two workers that were given different limits: both
// keep the smaller one, so that Clerk refuses nothing, and status and doctor name them.
func TestDifferentLimits(t *testing.T) {
	t.Parallel()
	const window = 4 * time.Second
	s := newStand(t, sandbox.Config{
		Limits: sandbox.Limits{Create: sandbox.Limit{N: 10, Window: window}}, WindowMode: "sliding",
	})
	b := newBench(t, keyVariable+"=sk_live_differ", "CLERK_API_URL="+s.url, "BULKINVITE_LIMIT_BULK=off")
	loose := b.start("work", "--limit-create", "14/4s")
	strict := b.start("work", "--limit-create", "10/4s")
	pool := open(t, b.url)
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
		ours := w.PID == loose.Process.Pid || w.PID == strict.Process.Pid
		ours = ours && strings.Contains(w.Worker, fmt.Sprint(w.PID))
		if w.Bulk != "off" || w.General == "" || w.Host == "" || !ours {
			t.Errorf("%+v", w)
		}
	}
	if slices.Sort(created); !slices.Equal(created, []string{"10/4s", "14/4s"}) {
		t.Errorf("status --json has the limits %v", created)
	}
	text := b.run("status", "1").want(t, exitOK).out
	expect.Text(t, text, "10/4s", "14/4s", fmt.Sprint(strict.Process.Pid))
	awaitCount(t, pool, 45, `select count(*) from results where outcome = 'invited'`)
	if done := b.status("1"); *done.Limited != 0 {
		t.Errorf("Clerk answered %d requests with 429", *done.Limited)
	}
	// A worker of the version before states nothing.
	postgrestest.Plant(t, pool, `insert into workers (id, instance_id, host, pid, version, lock_key)
		select 'old_7', id, 'h', 7, 'v', 1 from instances`)
	decode[diagnosis](t, b.run("doctor", "--json")).has(t, "limits of workers", verdictWarning, "old_7")
	for _, w := range []*started{loose, strict} {
		must.OK(t, w.Process.Signal(os.Interrupt))
		w.endsWith(t, exitOK)
	}
	postgrestest.Plant(t, pool, `delete from workers`)
	decode[diagnosis](t, b.run("doctor", "--json").want(t, exitOK)).has(t, "limits of workers", verdictOK, "")
	same := decode[map[string]json.RawMessage](t, b.run("status", "1", "--json").want(t, exitOK))
	if string(same["differing_limits"]) != "[]" {
		t.Errorf("with no worker differing_limits is %s", same["differing_limits"])
	}
}

// frozenFor is how long a bucket's freeze still lasts by the database, in seconds; negative: it is over, or none is.
func frozenFor(t *testing.T, b *bench, bucket string) float64 {
	t.Helper()
	return must.Read[float64](t, open(t, b.url), `
		select coalesce(extract(epoch from max(frozen_until) - clock_timestamp()), -1)
		from buckets where name = $1`, bucket)
}

// TestAbsurdRetryAfter has Clerk answer 429 with a Retry-After of centuries: a
// freeze lasts one window of its limit at most, then one request probes.
func TestAbsurdRetryAfter(t *testing.T) {
	t.Parallel()
	for call, retry := range map[string]string{
		"create": "9000000000000",
		"bulk":   "9223372036854775807",
		"users":  "Fri, 01 Jan 2319 00:00:00 GMT",
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			bucket := call
			if call == "users" {
				bucket = "general"
			}
			s := newStand(t, sandbox.Config{Faults: []sandbox.Fault{
				{Call: call, Kind: sandbox.FaultStatus, Status: 429, RetryAfter: retry, First: 1}}})
			b := newBench(t, keyVariable+"=sk_live_absurd", "CLERK_API_URL="+s.url,
				"BULKINVITE_LIMIT_CREATE=5/3s", "BULKINVITE_LIMIT_BULK=5/3s", "BULKINVITE_LIMIT_GENERAL=50/3s")
			if call == "create" {
				b.env = append(b.env, "BULKINVITE_LIMIT_BULK=off")
			} else {
				b.env = append(b.env, "BULKINVITE_LIMIT_CREATE=off")
			}
			b.run("import", "--yes", "--no-preflight", b.file("people.csv", people(4))).want(t, exitOK)
			pool := open(t, b.url)
			if call == "users" { // only claims with preflight read
				postgrestest.Plant(t, pool, `update batches set preflight = true`)
			}
			c := b.start("work", "--until-idle")
			awaitCount(t, pool, 1, `select count(*) from buckets where freezes > 0 or frozen_at is not null`)
			if left := frozenFor(t, b, bucket); left > 3 {
				t.Fatalf("%s is frozen for another %.0f s; one window is 3 s", bucket, left)
			}
			if exit := c.ends(); exit != exitOK {
				t.Fatalf("exit status %d: %s", exit, c.errs.String())
			}
			s.mailed(t, 4)
		})
	}
}

// TestOldAbsurdFreeze starts from a database that an earlier version froze until
// 2319: a window after the 429 it counts no more.
func TestOldAbsurdFreeze(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, keyVariable+"=sk_live_old")
	b.run("import", "--yes", b.file("people.csv", people(4))).want(t, exitOK)
	postgrestest.Plant(t, open(t, b.url), `update buckets set frozen_until = '2319-01-01',
		frozen_at = clock_timestamp() - interval '61 min', freezes = 1, frozen_reason = 'Clerk answered 429'`)
	o := b.run("status", "1", "--json").want(t, exitOK)
	if got := decode[map[string]json.RawMessage](t, o); string(got["frozen"]) != "[]" {
		t.Fatalf("status says that it is frozen: %s", got["frozen"])
	}
	b.run("work", "--until-idle").want(t, exitOK)
	s.mailed(t, 4)
	expect.Equal(t, "limits still frozen",
		must.Read[int](t, open(t, b.url), `select count(*) from buckets where frozen_until is not null`), 0)
}

// TestLimits shows the limits and freezes, and ends a freeze: one request probes.
func TestLimits(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{InstanceID: "ins_limits"},
		keyVariable+"=sk_live_limits", "BULKINVITE_LIMIT_CREATE=5/1h", "BULKINVITE_LIMIT_BULK=off")
	expect.Text(t, b.run("limits").want(t, exitOK).out, "Nothing was sent")
	b.run("import", "--yes", b.file("people.csv", people(3))).want(t, exitOK)
	postgrestest.Plant(t, open(t, b.url), `update buckets set frozen_until = clock_timestamp() + interval '50 min',
		frozen_at = clock_timestamp(), freezes = 1, frozen_reason = 'Clerk answered 429' where name = 'create'`)
	free := func() (all []string) {
		t.Helper()
		for _, one := range decode[[]struct {
			Limits []struct {
				Bucket, Limit string
				Free          *int
			}
		}](t, b.run("limits", "--json").want(t, exitOK))[0].Limits {
			text := one.Bucket + " " + one.Limit
			if one.Free != nil {
				text += fmt.Sprint(" ", *one.Free)
			}
			all = append(all, text)
		}
		return all[:2]
	}
	if got := free(); !slices.Equal(got, []string{"create 5/1h 0", "bulk off"}) {
		t.Errorf("frozen: %q", got)
	}
	text := b.run("limits").want(t, exitOK).out
	expect.Text(t, text, "ins_limits", "5/1h", "frozen until", "Clerk answered 429", "not used", "may go now")
	b.run("limits", "thaw", "create").want(t, exitOK)
	if got := free(); !slices.Equal(got, []string{"create 5/1h 1", "bulk off"}) {
		t.Errorf("after it was thawed: %q; want one request, a probe", got)
	}
	expect.Text(t, b.run("limits", "thaw").want(t, exitOK).out, "Nothing is frozen")
}

// TestThawWakesWorkers ends a freeze of an hour while a worker waits for its end.
func TestThawWakesWorkers(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{Faults: []sandbox.Fault{
		{Call: "create", Kind: sandbox.FaultStatus, Status: 429, RetryAfter: "3600", First: 1}}})
	b := newBench(t, keyVariable+"=sk_live_thaw", "CLERK_API_URL="+s.url, "BULKINVITE_LIMIT_BULK=off")
	b.run("import", "--yes", b.file("people.csv", people(3))).want(t, exitOK)
	c := b.start("work", "--until-idle")
	pool := open(t, b.url)
	awaitCount(t, pool, 1, `select count(*) from buckets
		where name = 'create' and frozen_until > clock_timestamp() + interval '50 min'`)
	expect.Text(t, b.run("limits", "thaw").want(t, exitOK).out, "create of ins_sandbox")
	if exit := c.ends(); exit != exitOK {
		t.Fatalf("exit status %d: %s", exit, c.errs.String())
	}
	s.mailed(t, 3)
}

// TestLimitsOneAtATime says why one request of many that are left may go now.
func TestLimitsOneAtATime(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_careful")
	b.run("import", "--yes", b.file("people.csv", people(3))).want(t, exitOK)
	b.run("limits").want(t, exitOK)
	postgrestest.Plant(t, open(t, b.url), `update buckets set frozen_at = clock_timestamp() - interval '1 hour'
		where name = 'create'`)
	text := b.run("limits").want(t, exitOK).out
	if !strings.Contains(text, "1 may go now · one at a time until ") || strings.Count(text, "one at a time") != 1 {
		t.Error(text)
	}
}
