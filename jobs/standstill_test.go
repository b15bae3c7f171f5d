package jobs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// notThere plants an attempt for the first row of a batch that was read and not
// found, an instant ago.
func (b *bundle) notThere(batch int64, key string) {
	b.t.Helper()
	b.exec(`with a as (insert into attempts (instance_id, bucket, call, worker_id, started_at, deadline, resolved_at, resolution)
			values ($1, 'create', 'create', 'w', clock_timestamp() - interval '1 s', clock_timestamp() + interval '1 s', clock_timestamp(), 'read') returning id)
		insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, closed_at, resolution)
			select id, $1, $3, $2, 1, false, clock_timestamp(), 'not_there' from a`, b.instance.ID, batch, key)
}

// claim has a worker that does not run claim so many requests.
func (b *bundle) claim(w *Worker, n int) []*ticket {
	b.t.Helper()
	must.OK(b.t, w.presence.register(b.t.Context()))
	r, err := w.claimer.round(b.t.Context(), n)
	if err != nil || len(r.tickets) != n {
		b.t.Fatalf("%d requests, want %d: %v", len(r.tickets), n, err)
	}
	return r.tickets
}

// ada is the only person of a batch.
func ada(int) string { return "ada@example.com" }

// Two rows of one person may both find that an invitation is theirs, where Clerk's
// lists lag for long. One carries it; nobody else waits for that.
func TestTwoRowsOneInvitation(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	one, two := b.batch(1, ada), b.batch(1, ada)
	strangers := b.batch(20, person)
	w := b.worker(quick)
	if made := w.api.Create(t.Context(), clerk.Invite{Email: ada(1)}); made.Class != clerk.Success {
		t.Fatal(made)
	}
	b.notThere(one, ada(1))
	b.notThere(two, ada(1))
	for _, batch := range []int64{one, two, strangers} {
		b.run(b.worker(quick), batch)
	}
	b.counts(1, "rows that carry the invitation",
		`select count(*) from results where key = $1 and outcome = 'invited'`, ada(1))
	expect.Equal(t, "mails", b.mails()[ada(1)], 1)
}

// A row of a batch that wants no preflight may have to be read all the same.
func TestReadWithoutPreflight(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	one := b.batch(1, ada)
	b.exec(`update batches set preflight = false where id = $1`, one)
	strangers := b.batch(20, person)
	b.notThere(one, ada(1))
	// A read for another batch has shown that they are a user now.
	b.exec(`with r as (insert into reads (instance_id, worker_id, call, pass_begun_at, ended_at, complete) values ($1, 'w', 'users', clock_timestamp(), clock_timestamp(), true) returning id, ended_at)
		insert into sightings (instance_id, clerk_id, key, kind, first_read, first_seen, last_read, last_seen) select $1, 'user_1', $2, 'user', id, ended_at, id, ended_at from r`, b.instance.ID, ada(1))
	b.run(b.worker(quick), strangers)
	b.run(b.worker(quick), one)
}

// With no budget left, both rows of people whom Clerk knows are decided at once.
func TestSurveyOfTwoBatches(t *testing.T) {
	t.Parallel()
	var users []string
	for i := range 20 {
		users = append(users, fmt.Sprintf("%q", person(i)))
	}
	seeds := filepath.Join(t.TempDir(), "seeds.json")
	must.OK(t, os.WriteFile(seeds, []byte(`{"users":[`+strings.Join(users, ",")+`]}`), 0o600))
	b := setup(t, sandbox.Config{Limits: unlimited, SeedFile: seeds})
	w := Config{Create: ratelimit.Limit{N: 1, Window: time.Hour}, Bulk: ratelimit.Limit{Off: true}}
	b.run(b.worker(w), b.batch(1, ada))
	one, two := b.batch(20, person), b.batch(20, person)
	b.run(b.worker(w), two)
	b.want(one, tally{"already_registered": 20})
}

// However many must go alone and wait for a single: others go by bulk meanwhile.
func TestManyWhoGoAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	alone := b.batch(readAhead+50, person)
	b.exec(`update results set alone = true where batch_id = $1`, alone)
	others := b.batch(50, func(i int) string { return "new" + person(i) })
	b.run(b.worker(Config{Create: ratelimit.Limit{N: 3, Window: time.Hour}, Bulk: ratelimit.Limit{N: 25, Window: time.Hour}}), others)
	if got := b.outcomes(alone)["invited"]; got > 3 {
		t.Errorf("%d of those who go alone were invited by 3 requests", got)
	}
}

// A commit that was done and not heard of is tried again; that makes no late
// answer.
func TestRecordedTwice(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(10, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	w := b.worker(quick)
	ticket := b.claim(w, 1)[0]
	answer := w.sender.ask(t.Context(), ticket)
	for range 2 {
		a := answered{ticket: ticket, answer: answer, said: w.cfg.reply(ticket, answer)}
		must.OK(t, w.answers.record(t.Context(), []answered{a}))
	}
	if n := b.count(`select count(*) from late_answers`); n != 0 || b.outcomes(batch)["invited"] != 10 {
		t.Errorf("%d late answers, outcomes %v", n, b.outcomes(batch))
	}
}

// How often somebody was tried is nothing to those who are asked for beside them.
func TestTriesOfEachRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(2, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	b.exec(`update results set alone = true, tries = 9 * (row_number - 1) where batch_id = $1`, batch)
	for _, ticket := range b.claim(b.worker(quick), 2) {
		if want := 9 * (ticket.People[0].Row - 1); ticket.tries() != want || len(ticket.cases) != 1 {
			t.Errorf("row %d was tried %d times, want %d; %d cases", ticket.People[0].Row, ticket.tries(), want, len(ticket.cases))
		}
	}
}

// One person for whom Clerk's answer is always lost keeps nobody else from being
// asked for, before claims and after a bulk call that was refused for somebody unnamed.
func TestLostForOnePerson(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{sandbox.FaultCutBefore, sandbox.FaultGarbage} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "users", Address: person(3), Kind: kind}}})
			b.whenUndecided(b.worker(quick), b.batch(20, person), 1)
		})
	}
	t.Run("after a refused call", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{Limits: unlimited, Blocked: []string{person(3)}, Switches: sandbox.Switches{Offenders: "none"},
			Faults: []sandbox.Fault{{Call: "users", Address: person(6), Kind: sandbox.FaultCutBefore}}})
		batch := b.batch(20, person)
		b.exec(`update batches set preflight = false where id = $1`, batch)
		cfg := quick
		cfg.Create = ratelimit.Limit{Off: true}
		b.run(b.worker(cfg), batch)
	})
}

// An answer that comes after a read has settled one of its people still decides all
// of them, and closes the attempt.
func TestAnswerAfterOneWasSettled(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(2, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	w := b.worker(Config{Create: ratelimit.Limit{Off: true}, Bulk: ratelimit.Limit{None: true}})
	ticket := b.claim(w, 1)[0]
	b.exec(`update attempt_people set open = false, closed_at = clock_timestamp(), resolution = 'not_there' where row_number = 1`)
	w.sender.send(t.Context(), ticket)
	b.want(batch, tally{"invited": 2})
	b.counts(0, "attempts are open", `select count(*) from attempts where resolved_at is null`)
	b.counts(0, "people are claimed", `select count(*) from attempt_people where open`)
}
