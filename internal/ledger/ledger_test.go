package ledger_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
)

// bundle is a ledger for tests.
type bundle struct{ *ledgertest.Bundle }

func newBundle(t *testing.T) *bundle { return &bundle{ledgertest.New(t)} }

func TestBeat(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	since := l.Beat("a")
	l.Exec(`update workers set heartbeat_at = heartbeat_at - interval '1 hour', lives_until = lives_until - interval '1 hour'`)
	if again := l.Beat("a"); !again.Equal(since) {
		t.Error("a registered worker was registered again")
	}
	l.Is("true", `select heartbeat_at > clock_timestamp() - interval '1 min' and lives_until = heartbeat_at + interval '20 s' from workers where id = 'a'`)
	must.OK(t, ledger.Leave(t.Context(), l.Pool, "a"))
	if again := l.Beat("a"); !again.After(since) {
		t.Error("a worker that had left was not registered again")
	}
}

// A process is dead that was not heard of in time, whatever locks it holds: it may
// be stopped. One of an older version says nothing of how long it lives.
func TestReap(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	for _, w := range []string{"late", "in_time", "claims", "patient"} {
		l.Beat(w)
	}
	l.Exec(`update workers set lives_until = clock_timestamp() - interval '1 ms' where id in ('late', 'claims')`)
	l.Exec(`update workers set heartbeat_at = clock_timestamp() - interval '1 hour', lives_until = clock_timestamp() + interval '1 min' where id = 'patient'`)
	l.Exec(`insert into workers (id, instance_id, host, pid, version, lock_key, heartbeat_at)
		select 'other', $1, 'host', 1, 'v', 99, clock_timestamp() - interval '1 hour'`, l.NewInstance("ins_two"))
	l.Exec(`insert into workers (id, instance_id, host, pid, version, lock_key, heartbeat_at)
		select 'old_' || n, $1, 'host', 1, 'v', n, clock_timestamp() - n * interval '1 s' from unnest(array[19, 21]) n`, l.Instance)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error { // nor is one that is in the middle of a claim
		if err := ledger.Alive(ctx, tx, "claims"); err != nil {
			return err
		}
		if dead, err := ledger.Reap(ctx, l.Pool, l.Instance, 20*time.Second); err != nil || dead != 2 {
			t.Errorf("%d are dead, want 2: %v", dead, err)
		}
		return nil
	})
	l.Is("{claims,in_time,old_19,other,patient,w}", `select array_agg(id order by id) from workers`)
	if dead, err := ledger.Reap(t.Context(), l.Pool, l.Instance, 20*time.Second); err != nil || dead != 1 {
		t.Errorf("%d more are dead, want 1: %v", dead, err)
	}
}

// A process that was declared dead can't claim.
func TestAlive(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := ledger.Alive(ctx, tx, "w"); err != nil {
			t.Errorf("a worker that lives: %v", err)
		}
		if err := ledger.Alive(ctx, tx, "dead"); !errors.Is(err, ledger.ErrDeclaredDead) {
			t.Errorf("a worker that was declared dead: %v", err)
		}
		return nil
	})
}

// A process that stands still within a claim does not hold the buckets for ever.
func TestClaimMayNotStandStill(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	conn, err := l.Pool.Acquire(t.Context())
	must.OK(t, err)
	defer conn.Release()
	limit := func() (text string) {
		must.OK(t, conn.QueryRow(t.Context(), `show idle_in_transaction_session_timeout`).Scan(&text))
		return text
	}
	before := limit()
	err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if err := ledger.Alive(t.Context(), tx, "w"); err != nil {
			return err
		}
		if got := limit(); got != "10s" || got == before {
			t.Errorf("a claim may stand still for %s, want 10s; before it was %s", got, before)
		}
		return nil
	})
	if got := limit(); err != nil || got != before {
		t.Errorf("after the claim the limit is %s, want %s as before: %v", got, before, err)
	}
}

// Which open attempts a read that begins now can ledgertest.Settle.
func TestDue(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c", "d", "e", "f", "g")
	attempt := func(n int, name, set string) int64 {
		id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, n, name)))
		if set != "" {
			l.Exec(`update attempts set `+set+` where id = $1`, id)
		}
		return id
	}
	lost := attempt(1, "a", `deadline = clock_timestamp() - interval '16 s'`)
	attempt(2, "b", `deadline = clock_timestamp() - interval '14 s'`)
	attempt(3, "c", ``) // under way
	exists := attempt(4, "d", `http_status = 400, read_after = clock_timestamp()`)
	l.Exec(`update attempt_people set answer = 'exists' where attempt_id = $1`, exists)
	unnamed := attempt(5, "e", `http_status = 422, read_after = clock_timestamp() - interval '1 s'`)
	attempt(6, "f", `read_after = clock_timestamp() + interval '1 hour'`)
	attempt(7, "g", `deadline = clock_timestamp() - interval '1 hour', resolved_at = clock_timestamp(), resolution = 'read'`)

	due, next, err := ledger.Due(t.Context(), l.Pool, l.Instance, 15*time.Second)
	must.OK(t, err)
	var ids []int64
	for _, a := range due {
		ids = append(ids, a.ID)
		if a.Exists != (a.ID == exists) || a.Unnamed != (a.ID == unnamed) || a.Call != "create" || a.Started.IsZero() {
			t.Errorf("due: %+v", a)
		}
	}
	if !slices.Equal(ids, []int64{lost, exists, unnamed}) {
		t.Errorf("due: %v; want %v", ids, []int64{lost, exists, unnamed})
	}
	if want := must.Read[time.Time](l, l.Pool, `select deadline + interval '15 s' from attempts order by deadline desc offset 4 limit 1`); !next.Equal(want) {
		t.Errorf("the next is due at %v, want %v", next, want)
	}

	later := time.Now().Add(time.Hour)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error { return ledger.ReadAgain(ctx, tx, lost, later) })
	if due, _, err := ledger.Due(t.Context(), l.Pool, l.Instance, 15*time.Second); err != nil || len(due) != 2 {
		t.Errorf("after one was put off %d are due: %v", len(due), err)
	}
	if due, next, err := ledger.Due(t.Context(), l.Pool, l.NewInstance("ins_two"), 0); err != nil || len(due) != 0 || !next.IsZero() {
		t.Errorf("another instance: %v, %v, %v", due, next, err)
	}
}

// An attempt that is being settled is locked against its answer.
func TestLockAttempt(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b")
	id := l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 2, "b"), ledgertest.Person(batch, 1, "a")))
	done := make(chan error, 1)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		people, err := ledger.LockAttempt(ctx, tx, id)
		if err != nil || len(people) != 2 || people[0] != ledgertest.Person(batch, 1, "a") || people[1] != ledgertest.Person(batch, 2, "b") {
			t.Errorf("people: %+v, %v", people, err)
		}
		go func() {
			done <- pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
				_, err := ledger.Note(ctx, tx, time.Second, l.Noted(id, ledger.Reply{Status: 200}))
				return err
			})
		}()
		l.AwaitBlocked()
		_, err = ledger.Settle(ctx, tx, l.Instance, []ledger.Verdict{
			{RowID: ledgertest.Row(batch, 1), Key: ledgertest.Key("a"), Action: invitation.Action{Kind: invitation.Claim, Close: invitation.ClosedNotThere}},
			{RowID: ledgertest.Row(batch, 2), Key: ledgertest.Key("b"), Action: invitation.Action{Kind: invitation.Claim, Close: invitation.ClosedNotThere}},
		})
		return err
	})
	must.OK(t, <-done)
	l.Is("1", `select count(*) from late_answers where attempt_id = $1`, id)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		people, err := ledger.LockAttempt(ctx, tx, id)
		if len(people) != 0 {
			t.Errorf("a resolved attempt has open people: %+v", people)
		}
		return err
	})
}

func TestLoadRow(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.BatchOf(invitation.Batch{Preflight: true, Options: invitation.Options{RedirectURL: "https://batch.example", ExpiresInDays: 30, Template: "invitation"}}, "jane", "joe")
	l.Exec(`update results set redirect_url = 'https://row.example', expires_in_days = 7, public_metadata = '{"team": "a"}', alone = true, tries = 3,
		last_error = 'internal_clerk_error', not_before = '2026-01-01', transient_since = '2025-01-01' where row_number = 2`)
	one, two := l.Load(ledgertest.Row(batch, 1)), l.Load(ledgertest.Row(batch, 2))
	if one.Email != "jane@Example.com" || one.Key != "jane@example.com" || one.Options != (invitation.Options{RedirectURL: "https://batch.example", ExpiresInDays: 30, Template: "invitation"}) {
		t.Errorf("the batch's options: %+v", one.Row)
	}
	if two.Options != (invitation.Options{RedirectURL: "https://row.example", ExpiresInDays: 7, Template: "invitation"}) || string(two.PublicMetadata) != `{"team": "a"}` {
		t.Errorf("the row's own options: %+v", two.Row)
	}
	if !two.Alone || two.Tries != 3 || two.LastError != "internal_clerk_error" || two.NotBefore.Year() != 2026 || two.Since.Year() != 2025 {
		t.Errorf("what was tried: %+v", two.Row)
	}
	if one.BatchState != invitation.Running || one.BatchStarted.IsZero() || !one.Preflight || one.Now.IsZero() || one.Settle != ledgertest.Settle || one.GiveUp != ledgertest.GiveUp || one.Fresh != ledgertest.Fresh || one.Slack != ledgertest.Slack {
		t.Errorf("the case: %+v", one)
	}
}

// Which reads guard a claim: complete ones, by a process that lives.
func TestLoadCoverage(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	l.Beat("dead")
	batch := l.Batch("jane", "joe")
	began := l.Load(ledgertest.Row(batch, 1)).BatchStarted
	covered := func() invitation.Coverage { l.Helper(); return l.Load(ledgertest.Row(batch, 1)).Coverage }
	see := func() {
		t.Helper()
		must.OK(t, ledger.SeeBatches(t.Context(), l.Pool, l.Instance))
	}

	for _, call := range []string{ledger.ReadPending, ledger.ReadAll, ledger.ReadRevoked} {
		l.Read("w", call, ledger.ReadEnd{})
	}
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("with reads from before the batch's rows were seen: %+v", got)
	}
	see()
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("with reads from before the batch's rows were seen, which they are now: %+v", got)
	}
	users := l.Read("w", ledger.ReadUsers, ledger.ReadEnd{Covers: []invitation.RowID{ledgertest.Row(batch, 1)}})
	if got := covered(); !got.Users.Equal(users.Begun) || !got.Invitations.IsZero() {
		t.Errorf("after a read of users: %+v", got)
	}
	if got := l.Load(ledgertest.Row(batch, 2)).Coverage; !got.Users.IsZero() {
		t.Errorf("a read of users covers people that it did not ask for: %+v", got)
	}

	pending := l.Read("w", ledger.ReadPending, ledger.ReadEnd{})
	l.Read("w", ledger.ReadAll, ledger.ReadEnd{Reached: began.Add(-ledgertest.Slack)})
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("without the revoked ones: %+v", got)
	}
	l.Read("w", ledger.ReadRevoked, ledger.ReadEnd{Reached: began.Add(-ledgertest.Slack + time.Millisecond)})
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("with revoked ones that don't reach back to the batch's beginning: %+v", got)
	}
	l.Read("w", ledger.ReadRevoked, ledger.ReadEnd{})
	if got := covered(); !got.Invitations.Equal(pending.Begun) {
		t.Errorf("with all three lists: %+v; want since %v, when the first began", got, pending.Begun)
	}
	again := l.Read("w", ledger.ReadPending, ledger.ReadEnd{Reached: began})
	if got := covered(); got.Invitations.Equal(again.Begun) {
		t.Error("a read of some pending invitations counts as one of all")
	}
	if g, err := ledger.BeginRead(t.Context(), l.Pool, l.Instance, "w", ledger.ReadPending, nil); err != nil {
		t.Fatal(err)
	} else if got := covered(); !got.Invitations.Equal(pending.Begun) {
		t.Errorf("a read that has not ended, %d, counts: %+v", g.ID, got)
	}

	must.OK(t, ledger.Leave(t.Context(), l.Pool, "w"))
	if got := covered(); !got.Users.IsZero() || !got.Invitations.IsZero() {
		t.Errorf("reads of a process that is gone count: %+v", got)
	}
}

// The attempts of a row, and what they say of it.
func TestLoadAttempts(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch, other := l.Batch("a", "b", "c"), l.Batch("a")
	id := l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 1, "a"), ledgertest.Person(batch, 2, "b")))
	a := l.Load(ledgertest.Row(batch, 1)).Attempts
	if len(a) != 1 || a[0].ID != id || !a[0].Open || a[0].Alone || a[0].Refused || !a[0].Answered.IsZero() || !a[0].Deadline.Equal(must.Read[time.Time](l, l.Pool, `select deadline from attempts`)) {
		t.Fatalf("under way: %+v", a)
	}
	if got := l.Load(ledgertest.Row(batch, 3)); len(got.Attempts) != 0 || len(got.Others) != 0 {
		t.Errorf("somebody else: %+v", got)
	}
	if got := l.Load(ledgertest.Row(other, 1)); len(got.Attempts) != 0 || len(got.Others) != 1 || !got.Others[0].Open || got.Others[0].RowID != ledgertest.Row(batch, 1) {
		t.Errorf("the person's other row: %+v", got)
	}

	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := ledger.Note(ctx, tx, ledgertest.Settle, l.Noted(id, ledger.Reply{Status: 422, Code: "form_identifier_exists", Read: true, Soon: true}))
		return err
	})
	a = l.Load(ledgertest.Row(batch, 1)).Attempts
	if !a[0].Refused || a[0].Answered.IsZero() || a[0].Code != "form_identifier_exists" || a[0].Answer != invitation.NoAnswer {
		t.Errorf("refused for somebody unnamed: %+v", a)
	}
	l.Exec(`update attempt_people set open = false, resolution = 'user' where key = $1`, ledgertest.Key("b"))
	if a = l.Load(ledgertest.Row(batch, 1)).Attempts; a[0].Refused {
		t.Error("a read found the person that Clerk refused, and the others are still suspected")
	}
	l.Exec(`update attempt_people set open = false, resolution = 'not_there' where key = $1`, ledgertest.Key("a"))
	l.Attempt(ledger.Request{Call: "revoke", Bucket: "general", People: []ledger.Person{ledgertest.Person(batch, 1, "a")}})
	if a = l.Load(ledgertest.Row(batch, 1)).Attempts; len(a) != 1 || a[0].Open || a[0].Resolution != invitation.ClosedNotThere {
		t.Errorf("a revoke counts as an attempt to invite: %+v", a)
	}
	alone := l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 3, "c")))
	if a = l.Load(ledgertest.Row(batch, 3)).Attempts; len(a) != 1 || a[0].ID != alone || !a[0].Alone {
		t.Errorf("alone in a bulk call: %+v", a)
	}
}

// What reads showed is kept of people who are in a file, and no older read
// takes back what a newer one showed.
func TestSightings(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch, other := l.Batch("a"), l.Batch("a")
	show := func(st invitation.Status) []ledger.Seen {
		return []ledger.Seen{{ID: "inv_1", Key: ledgertest.Key("a"), Status: st, CreatedAt: ledgertest.At(1), ExpiresAt: ledgertest.At(2)}, {ID: "inv_2", Key: ledgertest.Key("stranger"), Status: st, CreatedAt: ledgertest.At(1)}}
	}
	older, err := ledger.BeginRead(t.Context(), l.Pool, l.Instance, "w", ledger.ReadAll, nil)
	must.OK(t, err)
	first := l.Read("w", ledger.ReadPending, ledger.ReadEnd{Seen: show(invitation.Pending)})
	l.Is("1", `select count(*) from sightings`)
	s := l.Load(ledgertest.Row(batch, 1)).Sightings
	ended := must.Read[time.Time](l, l.Pool, `select ended_at from reads where id = $1`, first.ID)
	if len(s) != 1 || s[0].ID != "inv_1" || s[0].Status != invitation.Pending || s[0].User || s[0].Taken || s[0].ReadID != first.ID ||
		!s[0].CreatedAt.Equal(ledgertest.At(1)) || !s[0].ExpiresAt.Equal(ledgertest.At(2)) || !s[0].FirstSeen.Equal(ended) || !s[0].LastSeen.Equal(first.Begun) {
		t.Fatalf("seen: %+v", s)
	}

	if _, err := ledger.EndRead(t.Context(), l.Pool, l.Instance, older, ledger.ReadEnd{Seen: show(invitation.Expired)}); err != nil {
		t.Fatal(err)
	}
	if s = l.Load(ledgertest.Row(batch, 1)).Sightings; s[0].Status != invitation.Pending {
		t.Errorf("a read that began before changed it: %+v", s)
	}
	second := l.Read("w", ledger.ReadAll, ledger.ReadEnd{Seen: show(invitation.Accepted)})
	if s = l.Load(ledgertest.Row(batch, 1)).Sightings; s[0].Status != invitation.Accepted || !s[0].FirstSeen.Equal(ended) || !s[0].LastSeen.Equal(second.Begun) || s[0].ReadID != second.ID {
		t.Errorf("seen again: %+v", s)
	}

	l.Exec(`update results set outcome = 'invited', decided_at = clock_timestamp(), clerk_invitation_id = 'inv_1' where batch_id = $1`, other)
	if c := l.Load(ledgertest.Row(batch, 1)); !c.Sightings[0].Taken || len(c.Others) != 1 || c.Others[0].InvitationID != "inv_1" || c.Others[0].Outcome != invitation.Invited {
		t.Errorf("another row carries it: %+v", c)
	}
	if c := l.Load(ledgertest.Row(batch, 1)); c.Sightings[0].Guessed {
		t.Errorf("another row was told that it made it: %+v", c)
	}
	if c := l.Load(ledgertest.Row(other, 1)); c.Sightings[0].Taken {
		t.Errorf("the row that carries it: %+v", c)
	}
	l.Read("w", ledger.ReadUsers, ledger.ReadEnd{Seen: []ledger.Seen{{ID: "user_1", Key: ledgertest.Key("a"), User: true}}})
	if s = l.Load(ledgertest.Row(batch, 1)).Sightings; len(s) != 2 || !slices.ContainsFunc(s, func(s invitation.Sighting) bool { return s.User && s.ID == "user_1" }) {
		t.Errorf("a user: %+v", s)
	}
}

// Accepted and revoked are for ever: of two passes at a time, the one that shows an
// invitation as it was before does not take that back, in whichever order they
// began and ended.
func TestSightingsOfTwoPasses(t *testing.T) {
	t.Parallel()
	for _, final := range []invitation.Status{invitation.Revoked, invitation.Accepted} {
		for _, order := range []string{"final begins first, ends first", "final begins first, ends last", "final begins last, ends first", "final begins last, ends last"} {
			t.Run(string(final)+" "+order, func(t *testing.T) {
				t.Parallel()
				l := newBundle(t)
				batch := l.Batch("a")
				calls := []string{ledger.ReadRevoked, ledger.ReadPending}
				statuses := []invitation.Status{final, invitation.Pending}
				begins, ends := []int{0, 1}, []int{0, 1}
				if strings.Contains(order, "begins last") {
					begins = []int{1, 0}
				}
				if strings.Contains(order, "ends last") {
					ends = []int{1, 0}
				}
				gets := make([]ledger.GET, 2)
				for _, i := range begins {
					var err error
					if gets[i], err = ledger.BeginRead(t.Context(), l.Pool, l.Instance, "w", calls[i], nil); err != nil {
						t.Fatal(err)
					}
				}
				for _, i := range ends {
					seen := []ledger.Seen{{ID: "inv_1", Key: ledgertest.Key("a"), Status: statuses[i], CreatedAt: ledgertest.At(1)}}
					if _, err := ledger.EndRead(t.Context(), l.Pool, l.Instance, gets[i], ledger.ReadEnd{Complete: true, Seen: seen}); err != nil {
						t.Fatal(err)
					}
				}
				s := l.Load(ledgertest.Row(batch, 1)).Sightings
				if len(s) != 1 || s[0].Status != final || s[0].ReadID != gets[0].ID || !s[0].LastSeen.Equal(gets[0].Begun) {
					t.Errorf("seen: %+v, want %s by read %d", s, final, gets[0].ID)
				}
			})
		}
	}
}

// A read that failed, or is a page of many, covers nobody; and a decided row
// keeps the read that it was decided by.
func TestEndRead(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b")
	l.Decide(ledgertest.Row(batch, 2), invitation.Invited)
	g, err := ledger.BeginRead(t.Context(), l.Pool, l.Instance, "w", ledger.ReadUsers, nil)
	must.OK(t, err)
	covers := []invitation.RowID{ledgertest.Row(batch, 1), ledgertest.Row(batch, 2)}
	if _, err := ledger.EndRead(t.Context(), l.Pool, l.Instance, g, ledger.ReadEnd{Status: 502, Code: "bad_gateway", Covers: covers}); err != nil {
		t.Fatal(err)
	}
	l.Is("2", `select count(*) from results where users_read_id is null`)
	l.Is("502 bad_gateway", `select http_status || ' ' || error_code from reads`)
	done := l.Read("w", ledger.ReadUsers, ledger.ReadEnd{Covers: covers})
	l.Is("1", `select count(*) from results where users_read_id = $1 and row_number = 1`, done.ID)
	l.Is("1", `select count(*) from results where users_read_id is null and row_number = 2`)

	page, err := ledger.BeginRead(t.Context(), l.Pool, l.Instance, "w", ledger.ReadAll, &g)
	must.OK(t, err)
	if page.Pass != g.ID || !page.Begun.Equal(g.Begun) {
		t.Errorf("a page of a pass: %+v, want that of %+v", page, g)
	}
}

func TestStarts(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	if got, err := ledger.Starts(t.Context(), l.Pool, l.Instance); err != nil || !got.IsZero() {
		t.Errorf("without batches: %v, %v", got, err)
	}
	l.BatchOf(invitation.Batch{}, "a") // without preflight
	first := l.Batch("b")
	l.Batch("c")
	want := must.Read[time.Time](l, l.Pool, `select started_at from batches where id = $1`, first)
	if got, err := ledger.Starts(t.Context(), l.Pool, l.Instance); err != nil || !got.Equal(want) {
		t.Errorf("the earliest start is %v, want %v: %v", got, want, err)
	}
}

// Errors name numbers, never a person.
func TestErrorsNameNobody(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	err := pgx.BeginFunc(t.Context(), l.Pool, func(tx pgx.Tx) error {
		_, err := ledger.Open(t.Context(), tx, l.Instance, "w", time.Second, []ledger.Request{ledgertest.Single(ledgertest.Person(99, 1, "secret"))}) // no such row
		return err
	})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error: %v", err)
	}
}
