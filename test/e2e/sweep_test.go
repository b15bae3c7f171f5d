//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"bulkinvite/internal/rig"
)

func stale(i int) bool { return rig.Age(i) > rig.StaleAfter }

// staleOf returns how many of the first n invitations are stale.
func staleOf(n int) (count int) {
	for i := range n {
		if stale(i) {
			count++
		}
	}
	return count
}

// swept is what the command sweep prints about a sweep.
type swept struct {
	Stale, Revoked, Failed, Undecided int
	State                             string
	Skipped                           map[string]int
}

// adds reports whether the sweep is done and each stale invitation has exactly one result.
func (w swept) adds() bool {
	n := w.Revoked + w.Failed
	for _, skipped := range w.Skipped {
		n += skipped
	}
	return n == w.Stale && w.Undecided == 0 && w.State == "done"
}

func (s *stage) sweep(id string) (w swept) {
	s.t.Helper()
	must(s.t, s.Read(s.ctx, &w, "sweep", id))
	return w
}

// revokes returns how many revocations the sandbox has answered.
func (s *stage) revokes() (int, error) {
	stats, err := s.Sandbox.Stats(s.ctx)
	return stats.Of("revoke"), err
}

// TestSweepOfMany sweeps 10,000 invitations of mixed age while every fifth person accepts, and
// kills the process three times. The sweep must revoke exactly the stale invitations that are not
// accepted.
func TestSweepOfMany(t *testing.T) {
	t.Parallel()
	const people, kills = 10_000, 3
	s := on(t, rig.Conditions{Mode: "sliding", Window: window})
	must(t, s.Pending(s.ctx, people))
	want := staleOf(people)
	accepting := make(chan error, 1)
	go func() { accepting <- s.acceptAlong(people, want) }()
	args := []string{
		"sweep", "--apply", "--allow", "--json", "--log-level=warn",
		"--settle=5s", "--request-timeout=5s", "--recover-after=4s",
	}
	for kill := range kills + 1 {
		p, err := s.Launch(s.ctx, args...)
		must(t, err)
		if kill == 0 { // the next process continues the sweep
			args = append([]string{"sweep", "1", "--apply"}, args[3:]...)
		}
		if kill == kills {
			must(t, p.Wait(s.ctx))
			break
		}
		must(t, s.Sandbox.Await(s.ctx, want*(kill+1)/(kills+2), "revoke"))
		must(t, p.Kill())
	}
	s.Workers = nil
	must(t, <-accepting)
	seen := s.record()
	s.unthrottled(seen)
	statuses := map[string]string{}
	for _, in := range seen.Invitations {
		statuses[in.Email] = in.Status
	}
	wrong, accepted := 0, 0
	for i, p := range rig.Crowd("pending", people) {
		switch {
		case statuses[p] == "accepted" && stale(i):
			accepted++
		case statuses[p] != "accepted" && stale(i) != (statuses[p] == "revoked"):
			wrong++
		}
	}
	if wrong > 0 {
		t.Errorf("%d people have another status than their age says", wrong)
	}
	w := s.sweep("1")
	if w.Stale != want || w.Revoked != want-accepted || w.Skipped["accepted"] != accepted || !w.adds() {
		t.Errorf("%+v, want %d stale, %d of them accepted", w, want, accepted)
	}
	if n := s.count(`select count(*) from revocations v join results r using (batch_id, row_number)
		where r.status is distinct from case when v.outcome in ('revoked', 'accepted') then v.outcome end`); n > 0 {
		t.Errorf("%d rows have another status than their revocation", n)
	}
	if n := s.count(`select count(*) from attempts where resolved_at is null`); n > 0 {
		t.Errorf("%d attempts are open", n)
	}
}

// acceptAlong accepts every fifth invitation, in fifty groups. The groups are spread over the time
// that the given number of revocations takes.
func (s *stage) acceptAlong(people, revokes int) error {
	var groups [50][]string
	for i, p := range rig.Crowd("pending", people) {
		if i%5 == 0 {
			groups[i/5%len(groups)] = append(groups[i/5%len(groups)], p)
		}
	}
	for i, group := range groups {
		// Accept the last group before the last revocation.
		if err := s.Sandbox.Await(s.ctx, i*revokes/len(groups)*4/5, "revoke"); err != nil {
			return err
		}
		if err := s.Sandbox.Post(s.ctx, "/sandbox/accept", map[string]any{"addresses": group}); err != nil {
			return err
		}
	}
	return nil
}

// TestTwoSweepsAtOnce runs two sweeps at the same time, as a scheduler may that runs its job twice.
// Each stale invitation must be revoked by exactly one of them.
func TestTwoSweepsAtOnce(t *testing.T) {
	t.Parallel()
	const people = 560
	s := on(t, rig.Conditions{Mode: "sliding", Window: window})
	must(t, s.Pending(s.ctx, people))
	want := staleOf(people)
	for range 2 {
		_, err := s.Launch(s.ctx, "sweep", "--apply", "--allow", "--json", "--log-level=warn")
		must(t, err)
	}
	must(t, s.Wait(s.ctx))
	revokes, err := s.revokes()
	must(t, err)
	one, other := s.sweep("1"), s.sweep("2")
	if revokes != want || one.Revoked+other.Revoked != want || !one.adds() || !other.adds() {
		t.Errorf("%d revocations by %+v and %+v, want %d", revokes, one, other, want)
	}
}

// TestRosterKilled sends a new version of a roster of 5,000 people: 300 are gone and 200 are new.
// It kills the process three times during the revocations. Exactly the people who are gone must be
// revoked, and exactly the new ones invited.
func TestRosterKilled(t *testing.T) {
	t.Parallel()
	const before, gone, added, kills = 5_000, 300, 200, 3
	s := on(t, rig.Conditions{Mode: "sliding", Window: window})
	all := rig.Crowd("roster", before+added)
	seeds := make([]rig.Seed, before)
	for i := range seeds {
		seeds[i].Email = all[i]
	}
	ids, err := s.Plant(s.ctx, seeds)
	must(t, err)
	must(t, s.Adopt(s.ctx, all[:before], ids, nil))
	file, err := s.File("roster.csv", append(all[gone:], all[gone:gone+100]...)) // some people are in it twice
	must(t, err)
	send := append([]string{"send", file, "--roster=1", "--yes", "--json"}, s.Limits()...)
	for kill := range kills {
		p, err := s.Launch(s.ctx, send...)
		must(t, err)
		must(t, s.Sandbox.Await(s.ctx, 40*(kill+1), "revoke"))
		must(t, p.Kill())
	}
	s.Workers = nil
	_, err = s.Call(s.ctx, send...)
	must(t, err)
	seen := s.record()
	s.unthrottled(seen)
	statuses := map[string]string{}
	for _, in := range seen.Invitations {
		statuses[in.Email] = in.Status
	}
	wrong := 0
	for i, p := range all {
		want, mails := "pending", 0
		if i < gone {
			want = "revoked"
		}
		if i >= before {
			mails = 1
		}
		if statuses[p] != want || seen.Mailbox.Addresses[p] != mails {
			wrong++
		}
	}
	if wrong > 0 || seen.Mailbox.Mails != added {
		t.Errorf("%d people have another status or other e-mails than the roster says; %d e-mails, want %d",
			wrong, seen.Mailbox.Mails, added)
	}
	if w := s.sweep("1"); w.State != "done" || w.Failed > 0 {
		t.Errorf("the revocations: %+v", w)
	}
}

// TestReconcileMany reconciles 100,000 invitations that differ from the rows in every way. All
// differences must be found and nothing else. It may take one request for each page of 500
// invitations and, in the first reconcile only, two for each invitation that is gone.
func TestReconcileMany(t *testing.T) {
	const atClerk, unexplained, gone, pendingAgain = 100_000, 700, 300, 50
	s := on(t, rig.Conditions{Mode: "sliding", Window: window})
	said := []string{"", "", "accepted", "revoked"} // statuses in turn; empty for pending
	ours, strangers := rig.Crowd("ours", atClerk-unexplained), rig.Crowd("stranger", unexplained)
	seeds := make([]rig.Seed, 0, atClerk)
	for _, group := range [][]string{ours, strangers} {
		for i, p := range group {
			seeds = append(seeds, rig.Seed{Email: p, Status: said[i%len(said)]})
		}
	}
	ids, err := s.Plant(s.ctx, seeds)
	must(t, err)
	planted, truth, statuses := map[string]string{}, map[string]string{}, map[string]string{}
	for _, p := range strangers {
		planted[ids[p]] = "unexplained"
	}
	lost := rig.Crowd("lost", gone)
	for i, p := range lost {
		ids[p] = fmt.Sprintf("inv_gone_%d", i)
		planted[ids[p]], truth[p] = "gone", "gone"
	}
	for i, p := range ours {
		truth[p] = said[i%len(said)]
		if truth[p] == "" {
			truth[p] = "pending"
		}
		if i < pendingAgain*len(said) && i%len(said) == 0 {
			statuses[p], truth[p], planted[ids[p]] = "revoked", "revoked", "pending_again"
		}
	}
	must(t, s.Adopt(s.ctx, append(ours, lost...), ids, statuses))
	for most := atClerk/500 + 10 + 2*gone; most > 0; most -= 2 * gone {
		var done struct {
			Complete          bool
			Requests, Scanned int
		}
		must(t, s.Read(s.ctx, &done, "reconcile"))
		if !done.Complete || done.Requests > most || done.Scanned != atClerk {
			t.Errorf("%+v, want all %d in at most %d requests", done, atClerk, most)
		}
		var drift []struct {
			Kind string
			ID   string `json:"clerk_invitation_id"`
		}
		must(t, s.Read(s.ctx, &drift, "drift"))
		found := map[string]string{}
		for _, one := range drift {
			found[one.ID] = one.Kind
		}
		if n := differences(found, planted); n > 0 {
			t.Errorf("%d of %d differences are found wrongly or not at all", n, len(planted))
		}
	}
	rows, err := s.Pool.Query(s.ctx, `select email, status from results`)
	must(t, err)
	defer rows.Close()
	got := map[string]string{}
	for rows.Next() {
		var email, status string
		must(t, rows.Scan(&email, &status))
		got[email] = status
	}
	must(t, rows.Err())
	if n := differences(got, truth); n > 0 {
		t.Errorf("%d of %d rows have another status than Clerk's", n, len(truth))
	}
}

// differences returns the number of keys whose values differ between two maps.
func differences(a, b map[string]string) (n int) {
	for key, value := range a {
		if b[key] != value {
			n++
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			n++
		}
	}
	return n
}

// TestStart measures send with the program's private PostgreSQL, which an earlier run has set up.
// The first create must leave within 1.5 s of the start.
func TestStart(t *testing.T) {
	const most = 1500 * time.Millisecond
	s := on(t, rig.Conditions{Mode: "sliding", Window: time.Hour})
	s.Env = append(s.Env, "DATABASE_URL=")
	fastest := time.Hour
	for run := range 4 { // the first run sets up the server
		file, err := s.File(fmt.Sprintf("start-%d.csv", run), rig.Crowd(fmt.Sprintf("start.%d", run), 1))
		must(t, err)
		before := len(s.record().Sent(rig.Creates...))
		began := time.Now()
		_, err = s.Call(s.ctx, "send", file, "--yes", "--json")
		must(t, err)
		creates := s.record().Sent(rig.Creates...)
		if len(creates) != before+1 {
			t.Fatalf("%d creates, want 1", len(creates)-before)
		}
		if run > 0 {
			fastest = min(fastest, creates[before].At.Sub(began))
		}
	}
	if fastest > most {
		t.Errorf("the first create left after %s, want at most %s", fastest, most)
	}
}
