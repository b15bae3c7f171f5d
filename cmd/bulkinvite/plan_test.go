package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"bulkinvite/importer"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/jobs"
)

// planDocument is what check prints with --json, and status in its plan.
type planDocument struct {
	AlreadyInvited    int `json:"already_invited"`
	AlreadyRegistered int `json:"already_registered"`
	Plan              *struct {
		ToSend  int     `json:"to_send"`
		Bulk    int     `json:"bulk"`
		Create  int     `json:"create"`
		Windows int     `json:"windows"`
		Seconds float64 `json:"seconds"`
	} `json:"plan"`
	ETA        *time.Time       `json:"eta"`
	StartedAt  time.Time        `json:"started_at"`
	FinishedAt time.Time        `json:"finished_at"`
	Seconds    float64          `json:"seconds"`
	Frozen     []map[string]any `json:"frozen"`
	Ceilings   []map[string]any `json:"ceilings"`
}

// scaled are limits whose hours pass in seconds: 30 people each.
var scaled = []string{"--limit-create", "10/2s", "--limit-bulk", "2/2s"}

func scaledStand(t *testing.T, config sandbox.Config) *stand {
	t.Helper()
	config.Limits = sandbox.Limits{Create: sandbox.Limit{N: 10, Window: 2 * time.Second}, Bulk: sandbox.Limit{N: 2, Window: 2 * time.Second}}
	return newStand(t, config)
}

// holds checks that a forecast is no promise of too much: nothing is done before
// it but for what may come early, and it is of the right size. How close it comes
// is measured by a script on a quiet machine, not here: a busy one answers late
// in every window.
func holds(t *testing.T, what string, forecast, came, early time.Duration) {
	t.Helper()
	if late := came - forecast; late > forecast+15*time.Second || late < -forecast/20-100*time.Millisecond-early {
		t.Errorf("%s: %s were forecast, it took %s", what, forecast, came)
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// TestPlanHolds sends what was planned, twice: the second file finds the budget
// spent by the first.
func TestPlanHolds(t *testing.T) {
	t.Parallel()
	s := scaledStand(t, sandbox.Config{})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_plan")
	run := func(command, file string, more ...string) planDocument {
		t.Helper()
		return decode[planDocument](t, b.run(append(append([]string{command, "--json", file}, scaled...), more...)...).want(t, exitOK))
	}
	for _, tt := range []struct {
		file, text string
		windows    int
	}{{"first.csv", people(130), 5}, {"second.csv", strings.ReplaceAll(people(50), "person", "another"), 2}} {
		file := b.file(tt.file, tt.text)
		before := run("check", file)
		if p := before.Plan; p.Windows != tt.windows {
			t.Errorf("%s: %+v, want %d windows", tt.file, *p, tt.windows)
		}
		sent := run("send", file, "--yes")
		holds(t, tt.file, seconds(before.Plan.Seconds), seconds(sent.Seconds), 0)
		if sent.Plan != nil || sent.ETA != nil {
			t.Errorf("something is planned of a batch that is done: %+v", sent)
		}
	}
}

// TestEtaHolds asks status of two batches, one of which starts later and then
// comes first.
func TestEtaHolds(t *testing.T) {
	t.Parallel()
	s := scaledStand(t, sandbox.Config{})
	b := newBench(t, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_eta")
	start := time.Now().Add(8 * time.Second).Truncate(time.Second)
	b.run(append([]string{"import", "--yes", b.file("many.csv", people(210))}, scaled...)...).want(t, exitOK)
	b.run(append([]string{"import", "--yes", "--priority", "1", "--start-at", start.Format(time.RFC3339),
		b.file("urgent.csv", strings.ReplaceAll(people(40), "person", "urgent"))}, scaled...)...).want(t, exitOK)
	worker := b.command(append([]string{"work", "--until-idle", "--recover-after", "2s"}, scaled...)...)
	must.OK(t, worker.Start())
	awaitMails(t, s, 30)
	asked := time.Now()
	status := func(batch string) planDocument {
		t.Helper()
		return decode[planDocument](t, b.run(append([]string{"status", "--json", batch}, scaled...)...).want(t, exitOK))
	}
	many, urgent := status("1"), status("2")
	if many.ETA == nil || urgent.ETA == nil || !many.ETA.After(*urgent.ETA) || urgent.ETA.Before(start) {
		t.Fatalf("done at %v and, the urgent one, %v", many.ETA, urgent.ETA)
	}
	must.OK(t, worker.Wait())
	holds(t, "many", many.ETA.Sub(asked), status("1").FinishedAt.Sub(asked), 0)
	// Windows that open late, on a busy machine, may open just after the start
	// instead of just before it: then nobody waits for the next one.
	holds(t, "urgent", urgent.ETA.Sub(asked), status("2").FinishedAt.Sub(asked), 2*time.Second)
	if first := s.firstMail(t, "urgent"); first.Before(start) {
		t.Errorf("an urgent mail at %s, before %s", first, start)
	}
}

// firstMail is when the stand-in made the first invitation of somebody whose
// address begins so.
func (s *stand) firstMail(t *testing.T, prefix string) time.Time {
	t.Helper()
	var first time.Time
	for _, one := range s.invitations(t) {
		if at := one.CreatedAt; strings.HasPrefix(one.Email, prefix) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// TestHours keeps a batch of a few hours from now waiting, in its own zone.
func TestHours(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_hours")
	zone, err := time.LoadLocation("Asia/Kolkata") // half an hour off UTC
	must.OK(t, err)
	now := time.Now().In(zone)
	opens := time.Date(now.Year(), now.Month(), now.Day(), now.Hour()+2, 0, 0, 0, zone)
	hours := fmt.Sprintf("%d-%d", opens.Hour(), opens.Hour()+1)
	file := b.file("later.csv", people(5))
	checked := b.run("check", "--hours", hours, "--tz", "Asia/Kolkata", file).want(t, exitOK)
	expect.Text(t, checked.out, "all of them at "+opens.Format("Mon 2 Jan, 15:04"), "(Asia/Kolkata)")
	d := decode[planDocument](t, b.run("import", "--yes", "--json", "--hours", hours, "--tz", "Asia/Kolkata", file).want(t, exitOK))
	if d.ETA == nil || !d.ETA.Equal(opens) {
		t.Errorf("done at %v, want %s", d.ETA, opens)
	}
	shown := b.run("status", "1", "--tz", "Asia/Kolkata").want(t, exitOK)
	expect.Text(t, shown.out, "goes out about "+opens.Format("Mon 2 Jan, 15:04"))
	c := b.command("work")
	must.OK(t, c.Start())
	awaitWorker(t, b)
	must.OK(t, c.Process.Signal(os.Interrupt))
	expect.OK(t, c.Wait())
	s.mailed(t, 0)
}

// TestFrozen says how long Clerk wants no requests, in words and as JSON, and plans
// with it.
func TestFrozen(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_frozen")
	b.run("import", "--yes", b.file("some.csv", people(300))).want(t, exitOK)
	_, err := open(t, b.url).Exec(t.Context(), `
		update buckets set frozen_until = now() + interval '30 minutes', frozen_reason = 'Clerk answered 429' where name = 'create'`)
	must.OK(t, err)
	d := decode[planDocument](t, b.run("status", "1", "--json").want(t, exitOK))
	if len(d.Frozen) != 1 || d.Frozen[0]["bucket"] != "create" || d.Frozen[0]["until"] == nil || d.Frozen[0]["reason"] != "Clerk answered 429" {
		t.Errorf("frozen: %v", d.Frozen)
	}
	if d.Ceilings == nil || len(d.Ceilings) != 0 {
		t.Errorf("ceilings: %v", d.Ceilings)
	}
	if d.Plan == nil || d.Plan.Bulk != 25 || d.Plan.Create != 50 || d.Plan.Seconds < 1700 || d.Plan.Seconds > 1800 {
		t.Errorf("plan: %+v", d.Plan)
	}
	text := b.run("status", "1").want(t, exitOK).out
	expect.Text(t, text, "Clerk said to slow down: no single requests until ", "Left      25 bulk and 50 single requests")
}

// madeInvitation is an invitation as GET /sandbox/invitations shows it.
type madeInvitation struct {
	Email     string    `json:"email"`
	CreatedAt time.Time `json:"created_at"`
}

func (s *stand) invitations(t *testing.T) []madeInvitation {
	t.Helper()
	var all []madeInvitation
	s.Ask("invitations", &all)
	return all
}

// TestEverybodyIsLookedUp: each person of a file is looked up once, whether the file is short, and its people were
// kept as it was read, or long, and is read once more.
func TestEverybodyIsLookedUp(t *testing.T) {
	t.Parallel()
	const most = jobs.PreflightAtMost
	for _, n := range []int{0, 1, most, most + 1, most + jobs.LookupChunk} {
		p := &program{in: strings.NewReader(people(n) + "nobody\nPERSON0@example.com\n")}
		in, err := p.openInput(t.Context(), "-", importer.Limits{})
		must.OK(t, err)
		pl, err := p.read(t.Context(), in, importer.Options{})
		must.OK(t, err)
		for range 2 { // where Clerk does not answer
			seen := map[string]bool{}
			err := pl.everybody(t.Context(), p)(func(some []invitation.Addressee) error {
				for _, one := range some {
					if seen[one.Key] || one.Key == "" || one.Email == "" {
						t.Errorf("%+v comes once more", one)
					}
					seen[one.Key] = true
				}
				return nil
			})
			if err != nil || len(seen) != pl.summary.Valid {
				t.Errorf("%d people of %d, %v", len(seen), pl.summary.Valid, err)
			}
		}
		expect.OK(t, p.close())
	}
}
