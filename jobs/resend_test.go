package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// sent is a batch that everybody of whom was invited.
func (b *bundle) sent(n int) *invitation.Batch {
	b.t.Helper()
	id := b.batch(n, person)
	b.run(b.worker(quick), id)
	return b.read(id)
}

// resend makes a batch of those of another who have not accepted.
func (b *bundle) resend(of *invitation.Batch, change ...func(*invitation.Batch)) (id int64, rows int) {
	b.t.Helper()
	batch := invitation.Batch{Actor: "test", Priority: invitation.DefaultPriority}
	for _, f := range change {
		f(&batch)
	}
	must.OK(b.t, pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		id, rows, err = InsertResend(b.t.Context(), tx, batch, of, 0)
		return err
	}))
	return id, rows
}

// sentAgain checks what must hold of people whose resend is over: two mails at
// most, and one door that is open.
func (b *bundle) sentAgain(of int64, resends ...int64) {
	b.t.Helper()
	mails, doors := b.mails(), b.clerks()
	rows, _ := b.pool.Query(b.t.Context(), `
		select o.key, coalesce(o.status, ''), coalesce(r.outcome, ''), coalesce(r.status, '') from results o join results r on r.batch_id = any($2) and r.key = o.key
		where o.batch_id = $1 and r.outcome is distinct from 'already_invited'`, of, resends)
	var key, before, outcome, status string
	seen := map[string]int{}
	_, err := pgx.ForEachRow(rows, []any{&key, &before, &outcome, &status}, func() error {
		seen[key]++
		if mails[key] != 2 || doors[key]["pending"] != 1 || outcome != "invited" || status != "pending" || before != "revoked" {
			b.t.Errorf("%s got %d mails, has %v at Clerk, and is %q, %q here, %q before", key, mails[key], doors[key], outcome, status, before)
		}
		return nil
	})
	must.OK(b.t, err)
	if len(seen) == 0 {
		b.t.Error("nobody was invited again")
	}
	for key, n := range seen {
		if n != 1 {
			b.t.Errorf("%s was invited again by %d batches", key, n)
		}
	}
	b.counts(0, "attempts are open", `select count(*) from attempts where resolved_at is null`)
}

func TestResendInvitesWhoHasNotAccepted(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(12)
	b.accept(person(3), person(4))
	second, n := b.resend(first)
	if n != 12 {
		t.Fatalf("%d people in the resend, want all 12: nothing has told yet that two have accepted", n)
	}
	b.run(b.worker(quick), second)
	b.want(second, tally{"invited": 10, "already_registered": 2})
	b.exec(`delete from results where batch_id = $1 and outcome <> 'invited'`, second) // who has accepted is not to be looked at
	b.sentAgain(first.ID, second)
	if mails := b.mails(); mails[person(3)] != 1 || mails[person(4)] != 1 {
		t.Errorf("who has accepted got %d and %d mails, want one each", mails[person(3)], mails[person(4)])
	}
	if got := b.read(second); got.ResendOf != first.ID {
		t.Errorf("it points to batch %d, want %d", got.ResendOf, first.ID)
	}
}

// Whoever accepts between the plan and the revocation is not invited again.
func TestResendAcceptedAtTheRevocation(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(3)
	second, _ := b.resend(first)
	b.exec(`update batches set preflight = false where id = $1`, second)
	b.accept(person(1))
	b.run(b.worker(quick), second)
	b.want(second, tally{"invited": 2, "already_registered": 1})
	b.counts(1, "rows that the answer to a revocation proves to have accepted",
		`select count(*) from results r join attempts a on a.id = r.attempt_id and a.call = 'revoke' and a.sweep_id is null where r.outcome = 'already_registered'`)
	b.counts(2, "creates were claimed",
		`select count(*) from attempt_people p join attempts a on a.id = p.attempt_id and a.call <> 'revoke' where p.batch_id = $1`, second)
}

// Whatever is lost between the halves, everybody ends with one open door and two
// mails.
func TestFaultsBetweenTheHalves(t *testing.T) {
	t.Parallel()
	faults := map[string]sandbox.Fault{
		"revoke refused":     {Call: "revoke", Kind: sandbox.FaultRefuse, Every: 3},
		"revoke cut before":  {Call: "revoke", Kind: sandbox.FaultCutBefore, Every: 3},
		"revoke cut after":   {Call: "revoke", Kind: sandbox.FaultCutAfter, Every: 3},
		"revoke 500":         {Call: "revoke", Kind: sandbox.FaultStatus, Status: 500, Every: 3},
		"revoke 500 after":   {Call: "revoke", Kind: sandbox.FaultStatus, Status: 500, After: true, Every: 3},
		"revoke 429":         {Call: "revoke", Kind: sandbox.FaultStatus, Status: 429, First: 1},
		"revoke slow":        {Call: "revoke", Kind: sandbox.FaultSlow, Delay: sandbox.Duration(1300 * time.Millisecond), Every: 4},
		"revoke slow answer": {Call: "revoke", Kind: sandbox.FaultSlow, After: true, Delay: sandbox.Duration(1300 * time.Millisecond), Every: 4},
		"create refused":     {Call: "create", Kind: sandbox.FaultRefuse, Every: 3},
		"create cut before":  {Call: "create", Kind: sandbox.FaultCutBefore, Every: 3},
		"create cut after":   {Call: "create", Kind: sandbox.FaultCutAfter, Every: 3},
		"create 500 after":   {Call: "create", Kind: sandbox.FaultStatus, Status: 500, After: true, Every: 3},
		"create 429":         {Call: "create", Kind: sandbox.FaultStatus, Status: 429, RetryAfter: "1", First: 2},
		"create slow answer": {Call: "create", Kind: sandbox.FaultSlow, After: true, Delay: sandbox.Duration(1300 * time.Millisecond), Every: 4},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Switches: sandbox.Switches{ListLag: sandbox.Duration(100 * time.Millisecond)}})
			first := b.sent(8)
			second, _ := b.resend(first)
			body, err := json.Marshal([]sandbox.Fault{fault})
			must.OK(t, err)
			b.sandbox.Tell("faults", string(body))
			cfg := quick
			if fault.Kind == sandbox.FaultSlow {
				cfg.Settle = time.Second
			}
			b.run(b.worker(cfg), second)
			b.sentAgain(first.ID, second)
		})
	}
}

// Nobody is invited again twice in a cooldown, whichever batches ask, and
// whether they know of each other when they begin.
func TestResendCooldown(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(5)
	one, _ := b.resend(first)
	two, _ := b.resend(first)
	b.run(b.worker(quick), one)
	b.run(b.worker(quick), two)
	// Whichever comes first to a person, the other leaves them alone.
	a, z := b.outcomes(one), b.outcomes(two)
	if a["invited"]+z["invited"] != 5 || a["already_invited"]+z["already_invited"] != 5 {
		t.Errorf("two resends that began together: %v and %v, want 5 invited and 5 already invited", a, z)
	}
	if _, n := b.resend(first); n != 0 {
		t.Errorf("a third resend takes %d people, want none: they cool down", n)
	}
	// A file whose duplicates are to be sent again meets the cooldown in the claim.
	file := b.batch(5, person)
	b.exec(`update batches set on_duplicate = 'resend' where id = $1`, file)
	b.run(b.worker(quick), file)
	b.counts(5, "people of the file who cool down",
		`select count(*) from results where batch_id = $1 and outcome = 'already_invited' and reason = 'invited_again_recently'`, file)
	b.sentAgain(first.ID, one, two)
	later, n := b.resend(first, func(b *invitation.Batch) { b.Cooldown = time.Millisecond })
	if n != 5 {
		t.Fatalf("%d people after the cooldown, want all 5", n)
	}
	b.run(b.worker(quick), later)
	b.want(later, tally{"invited": 5})
}

// On a duplicate, a file that asks for it invites again, and others for the first time.
func TestOnDuplicateResend(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.sandbox.Tell("invitations", fmt.Sprintf(`[{"email":%q,"age":"1h"}]`, person(11)))
	b.sent(6)
	file := b.batch(12, person)
	b.exec(`update batches set on_duplicate = 'resend' where id = $1`, file)
	b.run(b.worker(quick), file)
	b.want(file, tally{"invited": 12})
	mails, doors := b.mails(), b.clerks()
	for i := range 12 {
		want := 1
		if i < 6 {
			want = 2
		}
		if mails[person(i)] != want || doors[person(i)]["pending"] != 1 {
			t.Errorf("%s got %d mails, want %d, and has %v at Clerk", person(i), mails[person(i)], want, doors[person(i)])
		}
	}
}

// What was taken back after the resend began is not invited again by it.
func TestResendLeavesWhatWasTakenBack(t *testing.T) {
	t.Parallel()
	for name, preflight := range map[string]bool{"before a read": true, "at the revocation": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited})
			first := b.sent(2)
			second, _ := b.resend(first)
			b.exec(`update batches set preflight = $2 where id = $1`, second, preflight)
			id := must.Read[string](t, b.pool,
				`select clerk_invitation_id from results where batch_id = $1 and key = $2`, first.ID, person(0))
			api := b.worker(quick).api
			api.Revoke(t.Context(), id)
			b.run(b.worker(quick), second)
			b.want(second, tally{"invited": 1, "cancelled": 1})
			if mails := b.mails(); mails[person(0)] != 1 {
				t.Errorf("whose invitation was taken back got %d mails, want the first alone", mails[person(0)])
			}
		})
	}
}

// Neither cancel nor pause nor an empty budget stops a row whose person has lost
// an invitation already.
func TestOwedRowsGoOn(t *testing.T) {
	t.Parallel()
	stops := map[string]func(*bundle, *invitation.Batch) error{
		"cancel": func(b *bundle, batch *invitation.Batch) error {
			return Cancel(b.t.Context(), b.pool, batch, "test")
		},
		"pause": func(b *bundle, batch *invitation.Batch) error {
			return Pause(b.t.Context(), b.pool, batch, "test")
		},
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited})
			first := b.sent(40)
			second, _ := b.resend(first)
			// One create an hour: the others wait.
			b.sandbox.Tell("faults", `[{"call":"create","kind":"status","status":500},{"call":"bulk","kind":"status","status":500}]`)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ran := make(chan error, 1)
			w := b.worker(quick)
			go func() { ran <- w.Run(ctx, nil) }()
			b.await("rows are owed an invitation", func() bool {
				return b.count(`select count(*) from results where batch_id = $1 and revoke_sent is not null and outcome is null`, second) > 2
			})
			must.OK(t, stop(b, b.read(second)))
			owed := b.count(`select count(*) from results where batch_id = $1 and revoke_sent is not null`, second)
			b.sandbox.Tell("faults", `[]`)
			b.await("owed rows are decided", func() bool {
				return b.count(`select count(*) from results where batch_id = $1 and revoke_sent is not null and outcome is null`, second) == 0
			})
			cancel()
			must.OK(t, <-ran)
			got := b.outcomes(second)
			if got["invited"] < owed || got["invited"] == 40 {
				t.Errorf("outcomes %v, want the %d that were owed invited, and the others not", got, owed)
			}
			for i, doors := range b.clerks() {
				if doors["pending"] != 1 {
					t.Errorf("%s has %v at Clerk", i, doors)
				}
			}
			for address, n := range b.mails() {
				if n > 2 {
					t.Errorf("%s got %d mails", address, n)
				}
			}
		})
	}
}

// A row that is owed an invitation goes before those of more urgent batches.
func TestOwedRowsGoFirst(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(1)
	second, _ := b.resend(first, func(b *invitation.Batch) { b.Priority = 4 })
	b.sandbox.Tell("faults", `[{"call":"create","kind":"status","status":500,"first":1}]`)
	w := b.worker(quick)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx, nil) }()
	b.await("the row is owed an invitation", func() bool {
		return b.count(`select count(*) from results where batch_id = $1 and revoke_sent is not null and tries > 0`, second) == 1
	})
	cancel()
	must.OK(t, <-ran)
	b.exec(`update attempts set resolved_at = now(), resolution = 'read' where resolved_at is null`)
	b.exec(`update attempt_people set open = false, resolution = 'not_there' where open`)
	b.exec(`update results set not_before = null`)
	urgent := b.batch(5, func(i int) string { return "urgent" + person(i) })
	b.exec(`update batches set priority = 1 where id = $1`, urgent)
	ids, err := ledger.NewPicker(b.pool, 0).Peek(t.Context(), b.instance.ID, 3, true)
	must.OK(t, err)
	if len(ids) != 3 || ids[0].Batch != second || ids[1].Batch != urgent {
		t.Errorf("first in line are %v, want the row of batch %d, then batch %d", ids, second, urgent)
	}
	if ids, err = ledger.NewPicker(b.pool, 0).Peek(t.Context(), b.instance.ID, 3, false); err != nil || ids[0].Batch != urgent {
		t.Errorf("without a single left: %v, %v", ids, err)
	}
}

// Many a resend under Clerk's limits goes over none of them.
func TestResendUnderBudget(t *testing.T) {
	t.Parallel()
	window := 3 * time.Second
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{Create: sandbox.Limit{N: 20, Window: window}, Bulk: sandbox.Limit{N: 5, Window: window}, General: sandbox.Limit{N: 50, Window: time.Second}}})
	cfg := quick
	cfg.Create, cfg.Bulk, cfg.General = ratelimit.Limit{N: 20, Window: window}, ratelimit.Limit{N: 5, Window: window}, ratelimit.Limit{N: 50, Window: time.Second}
	id := b.batch(50, person)
	b.run(b.worker(cfg), id)
	second, _ := b.resend(b.read(id))
	b.run(b.worker(cfg), second)
	b.sentAgain(id, second)
	b.counts(0, "requests were over a limit", `select count(*) from attempts where http_status = 429`)
}
