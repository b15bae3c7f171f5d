package jobs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// quick are settings under which an unknown answer is settled within a second.
var quick = Config{
	Create: ratelimit.Limit{N: 1000, Window: time.Second}, Bulk: ratelimit.Limit{N: 1000, Window: time.Second},
	Settle: 300 * time.Millisecond, RequestTimeout: time.Second, RecoverAfter: 2 * time.Second,
}

// mails returns how many e-mails each address got.
func (b *bundle) mails() map[string]int { return b.sandbox.Mailbox().Addresses }

// proven checks what must hold of every batch that is done: each row has an
// outcome, each mail goes to a row that says invited and has an attempt, nobody
// got two, and nothing is left open.
func (b *bundle) proven(batches ...int64) {
	b.t.Helper()
	mails := b.mails()
	for address, n := range mails {
		if n > 1 {
			b.t.Errorf("%s got %d mails", address, n)
		}
	}
	rows, _ := b.pool.Query(b.t.Context(), `
		select r.key, coalesce(r.outcome, ''), exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.resolution in ('answered', 'ours'))
		from results r where r.batch_id = any($1)`, batches)
	invited := map[string]int{}
	for rows.Next() {
		var key, outcome string
		var attempt bool
		must.OK(b.t, rows.Scan(&key, &outcome, &attempt))
		if outcome == "" {
			b.t.Errorf("%s has no outcome", key)
		}
		if outcome == "invited" {
			invited[key]++
			if !attempt {
				b.t.Errorf("%s is invited without an attempt that proves it", key)
			}
		}
	}
	must.OK(b.t, rows.Err())
	for address := range mails {
		if invited[address] != 1 {
			b.t.Errorf("%s got a mail and is invited by %d rows", address, invited[address])
		}
	}
	for key := range invited {
		if mails[key] != 1 {
			b.t.Errorf("%s is invited and got %d mails", key, mails[key])
		}
	}
	open := must.Read[int](b.t, b.pool, `select count(*) from attempt_people where open`)
	if open > 0 {
		b.t.Errorf("%d people are still in an open attempt", open)
	}
}

func TestFaultsLoseAndDoubleNobody(t *testing.T) {
	t.Parallel()
	wide := sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}, General: sandbox.Limit{N: -1}}
	faults := map[string]sandbox.Fault{
		"refused":            {Kind: sandbox.FaultRefuse, Every: 4},
		"cut before":         {Kind: sandbox.FaultCutBefore, Every: 4},
		"cut after":          {Kind: sandbox.FaultCutAfter, Every: 4},
		"500":                {Kind: sandbox.FaultStatus, Status: 500, Every: 4},
		"500 after":          {Kind: sandbox.FaultStatus, Status: 500, After: true, Every: 4},
		"502 page":           {Kind: sandbox.FaultStatus, Status: 502, HTML: true, After: true, Every: 4},
		"409":                {Kind: sandbox.FaultStatus, Status: 409, Every: 4},
		"429 without a time": {Kind: sandbox.FaultStatus, Status: 429, First: 2},
		"garbage":            {Kind: sandbox.FaultGarbage, Every: 4},
		"slow":               {Kind: sandbox.FaultSlow, Delay: sandbox.Duration(1500 * time.Millisecond), Every: 8},
		"slow answer":        {Kind: sandbox.FaultSlow, After: true, Delay: sandbox.Duration(1500 * time.Millisecond), Every: 8},
	}
	for name, fault := range faults {
		for _, call := range []string{"create", "bulk"} {
			t.Run(name+" "+call, func(t *testing.T) {
				t.Parallel()
				fault := fault
				fault.Call = call
				b := setup(t, sandbox.Config{Limits: wide, Faults: []sandbox.Fault{fault}, Switches: sandbox.Switches{BulkOrder: "shuffled"}})
				cfg, n := quick, 30
				if call == "bulk" {
					cfg.Create = ratelimit.Limit{Off: true}
					n = 80
				} else {
					cfg.Bulk = ratelimit.Limit{Off: true}
				}
				if fault.Kind == sandbox.FaultSlow {
					cfg.Settle = time.Second
				}
				batch := b.batch(n, person)
				b.run(b.worker(cfg), batch)
				b.want(batch, tally{"invited": n})
				b.proven(batch)
			})
		}
	}
	t.Run("partial bulk", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{Limits: wide, Faults: []sandbox.Fault{{Call: "bulk", Kind: sandbox.FaultPartialBulk, Every: 2}}})
		batch := b.batch(60, person)
		b.run(b.worker(quick), batch)
		b.proven(batch)
		b.want(batch, tally{"invited": 60})
	})
}

// Without a preflight every known person is met by the bulk call itself, under
// each reading of what Clerk leaves open.
func TestRefusedBulkCalls(t *testing.T) {
	t.Parallel()
	seeds := filepath.Join(t.TempDir(), "seeds.json")
	seed := fmt.Sprintf(`{"users":[%q,%q],"invitations":[{"email":%q,"age":"1h"},{"email":%q,"age":"1h"}]}`, person(3), person(27), person(5), person(35))
	must.OK(t, os.WriteFile(seeds, []byte(seed), 0o600))
	for _, bulk := range []string{"all_or_nothing", "partial", "partial_200"} {
		for _, offenders := range []string{"all", "first", "none"} {
			t.Run(bulk+" "+offenders, func(t *testing.T) {
				t.Parallel()
				b := setup(t, sandbox.Config{
					Limits:   sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}, General: sandbox.Limit{N: -1}},
					Switches: sandbox.Switches{Bulk: bulk, Offenders: offenders},
					SeedFile: seeds,
					Blocked:  []string{person(8), person(28)},
				})
				batch := b.batch(40, person)
				must.Exec(t, b.pool, `update batches set preflight = false where id = $1`, batch)
				b.run(b.worker(quick), batch)
				b.proven(batch)
				got := b.outcomes(batch)
				if got["invited"] != 34 || got["already_registered"] != 2 || got["already_invited"] != 2 || got["rejected"] != 2 {
					t.Errorf("outcomes %v, want 34 invited, 2 users, 2 pending, 2 rejected", got)
				}
				twice := must.Read[int](t, b.pool, `select count(*) from (
					select p.key from attempts a join attempt_people p on p.attempt_id = a.id
					where a.call = 'bulk' and a.http_status between 400 and 499 and not exists (select from attempt_people o where o.attempt_id = a.id and (o.answer is not null or o.resolution in ('exists', 'user')))
					group by p.key having count(*) > 1) k`)
				if twice > 0 {
					t.Errorf("%d people were in two bulk calls refused for an unnamed reason", twice)
				}
			})
		}
	}
}

// The same people in two batches, worked by two processes, get one mail each.
func TestTwoBatchesTwoWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}}})
	first, second := b.batch(150, person), b.batch(150, func(i int) string { return person(149 - i) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(b.worker(quick), first)
	}()
	b.run(b.worker(quick), second)
	<-done
	b.run(b.worker(quick), first)
	b.proven(first, second)
	one, two := b.outcomes(first), b.outcomes(second)
	if one["invited"]+two["invited"] != 150 || one["already_invited"]+two["already_invited"] != 150 {
		t.Errorf("outcomes %v and %v, want 150 invited and 150 already invited in all", one, two)
	}
}

// A key that Clerk refuses stops the process and leaves every row undecided.
func TestUnauthorizedStopsTheProcess(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Key: "sk_test_another"})
	batch := b.batch(20, person)
	err := b.worker(quick).Run(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), ErrUnauthorized.Error()) {
		t.Errorf("Run returned %v, want %v", err, ErrUnauthorized)
	}
	b.want(batch, tally{"": 20})
}

// A quota pauses the batches with the reason, and a resumed one goes on.
func TestQuotaPauses(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Switches: sandbox.Switches{Quota: "user_quota_exceeded"}})
	id := b.batch(20, person)
	must.OK(t, b.worker(quick).Run(t.Context(), func(ctx context.Context) (bool, error) {
		one, err := batch.Batch(ctx, b.pool, id)
		return err == nil && one.State == invitation.Paused, err
	}))
	one := b.read(id)
	expect.Text(t, one.Reason, "user_quota_exceeded")
}
