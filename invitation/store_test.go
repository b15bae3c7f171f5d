package invitation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/clerk"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/invitation"
	"bulkinvite/postgres/postgrestest"
)

// bundle is a database with an instance and a worker, w, that lives.
type bundle struct {
	*testing.T
	pool     *pgxpool.Pool
	store    *invitation.Store
	picker   *invitation.Picker
	instance int64
}

func newBundle(t *testing.T) *bundle {
	t.Helper()
	l := &bundle{T: t, pool: postgrestest.New(t)}
	l.store, l.picker = invitation.NewStore(l.pool), invitation.NewPicker(l.pool, 0)
	l.instance = l.newInstance("ins_one")
	l.beat("w")
	return l
}

func (l *bundle) newInstance(name string) int64 {
	l.Helper()
	in, err := l.store.EnsureInstance(l.Context(), name, "production")
	must.OK(l, err)
	return in.ID
}

func (l *bundle) beat(worker string) (since time.Time) {
	l.Helper()
	since, err := l.store.Beat(l.Context(), invitation.WorkerInfo{ID: worker, InstanceID: l.instance, Host: "host", PID: 1, Version: "v", Lives: 20 * time.Second})
	must.OK(l, err)
	return since
}

func (l *bundle) tx(f func(context.Context, pgx.Tx) error) {
	l.Helper()
	ctx := l.Context()
	must.OK(l, pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error { return f(ctx, tx) }))
}

func (l *bundle) exec(sql string, args ...any) {
	l.Helper()
	postgrestest.Plant(l, l.pool, sql, args...)
}

// get reads one value.
func get[T any](l *bundle, sql string, args ...any) T {
	l.Helper()
	return must.Read[T](l, l.pool, sql, args...)
}

func (l *bundle) is(want string, sql string, args ...any) {
	l.Helper()
	if got := get[string](l, `select coalesce((`+sql+`)::text, 'null')`, args...); got != want {
		l.Errorf("%s: got %s, want %s", sql, got, want)
	}
}

// batch imports people as rows 1 to n and starts them.
func (l *bundle) batch(people ...string) int64 {
	l.Helper()
	return l.batchOf(invitation.Batch{Preflight: true}, people...)
}

func (l *bundle) batchOf(b invitation.Batch, people ...string) (id int64) {
	l.Helper()
	if b.InstanceID == 0 {
		b.InstanceID = l.instance
	}
	b.FileName, b.Encoding, b.Delimiter, b.Columns, b.Actor = "hires.csv", "UTF-8", ",", []string{"email"}, "maria"
	l.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		if id, err = l.store.CreateBatch(ctx, tx, b); err != nil {
			return err
		}
		for i, p := range people {
			_, err := tx.Exec(ctx, `insert into results (batch_id, row_number, instance_id, line, original, email, key) values ($1, $2, $3, $2 + 1, array[$4], $4, $5)`,
				id, i+1, b.InstanceID, address(p), key(p))
			if err != nil {
				return err
			}
		}
		return l.store.StartBatch(ctx, tx, id, "maria", len(people), 0)
	})
	return id
}

func address(person string) string { return person + "@Example.com" }
func key(person string) string     { return person + "@example.com" }

func row(batch int64, number int) invitation.RowID {
	return invitation.RowID{Batch: batch, Row: number}
}

func person(batch int64, number int, name string) invitation.Person {
	return invitation.Person{RowID: row(batch, number), Key: key(name)}
}

func bulk(people ...invitation.Person) invitation.Request {
	return invitation.Request{Call: "bulk", Bucket: "bulk", People: people}
}

func single(p invitation.Person) invitation.Request {
	return invitation.Request{Call: "create", Bucket: "create", People: []invitation.Person{p}}
}

// open claims people for requests that are about to be sent.
func (l *bundle) open(requests ...invitation.Request) (claimed []invitation.Claimed) {
	l.Helper()
	l.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		claimed, err = l.store.Open(ctx, tx, l.instance, "w", 20*time.Second, requests)
		return err
	})
	return claimed
}

// attempt opens one request and returns its number.
func (l *bundle) attempt(r invitation.Request) int64 {
	l.Helper()
	claimed := l.open(r)
	if len(claimed) != 1 || len(claimed[0].People) != len(r.People) {
		l.Fatalf("claimed %+v of %+v", claimed, r)
	}
	return claimed[0].AttemptID
}

func (l *bundle) decide(id invitation.RowID, outcome invitation.Outcome) {
	l.Helper()
	l.exec(`update results set outcome = $3, decided_at = clock_timestamp() where batch_id = $1 and row_number = $2`, id.Batch, id.Row, outcome)
}

func (l *bundle) setState(batch int64, s invitation.State) {
	l.Helper()
	l.exec(`update batches set state = $2 where id = $1`, batch, string(s))
}

// awaitBlocked waits until a session of the test's database waits for a lock.
func (l *bundle) awaitBlocked() {
	l.Helper()
	for began := time.Now(); get[int](l, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 0; {
		if time.Since(began) > 2*time.Minute {
			l.Fatal("nobody waits for a lock")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestEnsureInstance(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	expect.Equal(t, "the same instance", l.newInstance("ins_one"), l.instance)
	if other := l.newInstance("ins_two"); other == l.instance {
		t.Error("two instances are one")
	}
	l.is("6", `select count(*) from buckets`)
}

func TestBeat(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	since := l.beat("a")
	l.exec(`update workers set heartbeat_at = heartbeat_at - interval '1 hour', lives_until = lives_until - interval '1 hour'`)
	if again := l.beat("a"); !again.Equal(since) {
		t.Error("a registered worker was registered again")
	}
	l.is("true", `select heartbeat_at > clock_timestamp() - interval '1 min' and lives_until = heartbeat_at + interval '20 s' from workers where id = 'a'`)
	must.OK(t, l.store.Leave(t.Context(), "a"))
	if again := l.beat("a"); !again.After(since) {
		t.Error("a worker that had left was not registered again")
	}
}

// A process is dead that was not heard of in time, whatever locks it holds: it may
// be stopped. One of an older version says nothing of how long it lives.
func TestReap(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	for _, w := range []string{"late", "in_time", "claims", "patient"} {
		l.beat(w)
	}
	l.exec(`update workers set lives_until = clock_timestamp() - interval '1 ms' where id in ('late', 'claims')`)
	l.exec(`update workers set heartbeat_at = clock_timestamp() - interval '1 hour', lives_until = clock_timestamp() + interval '1 min' where id = 'patient'`)
	l.exec(`insert into workers (id, instance_id, host, pid, version, lock_key, heartbeat_at)
		select 'other', $1, 'host', 1, 'v', 99, clock_timestamp() - interval '1 hour'`, l.newInstance("ins_two"))
	l.exec(`insert into workers (id, instance_id, host, pid, version, lock_key, heartbeat_at)
		select 'old_' || n, $1, 'host', 1, 'v', n, clock_timestamp() - n * interval '1 s' from unnest(array[19, 21]) n`, l.instance)
	l.tx(func(ctx context.Context, tx pgx.Tx) error { // nor is one that is in the middle of a claim
		if err := invitation.Alive(ctx, tx, "claims"); err != nil {
			return err
		}
		if dead, err := l.store.Reap(ctx, l.instance, 20*time.Second); err != nil || dead != 2 {
			t.Errorf("%d are dead, want 2: %v", dead, err)
		}
		return nil
	})
	l.is("{claims,in_time,old_19,other,patient,w}", `select array_agg(id order by id) from workers`)
	if dead, err := l.store.Reap(t.Context(), l.instance, 20*time.Second); err != nil || dead != 1 {
		t.Errorf("%d more are dead, want 1: %v", dead, err)
	}
}

// A process that was declared dead can't claim.
func TestAlive(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := invitation.Alive(ctx, tx, "w"); err != nil {
			t.Errorf("a worker that lives: %v", err)
		}
		if err := invitation.Alive(ctx, tx, "dead"); !errors.Is(err, invitation.ErrDeclaredDead) {
			t.Errorf("a worker that was declared dead: %v", err)
		}
		return nil
	})
}

// A process that stands still within a claim does not hold the buckets for ever.
func TestClaimMayNotStandStill(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	conn, err := l.pool.Acquire(t.Context())
	must.OK(t, err)
	defer conn.Release()
	limit := func() (text string) {
		must.OK(t, conn.QueryRow(t.Context(), `show idle_in_transaction_session_timeout`).Scan(&text))
		return text
	}
	before := limit()
	err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if err := invitation.Alive(t.Context(), tx, "w"); err != nil {
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

// TestBatchByFile: a newer batch of the same file does not hide an older one that still runs, as
// after a retry.
func TestBatchByFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		states      string // of the batches of the file, the oldest first; discarded: a cancelled draft
		once, again int64  // the batch that is found, without again and with it; 0: none
	}{
		{"", 0, 0},
		{"discarded", 0, 0},
		{"draft", 1, 1},
		{"running", 1, 1},
		{"paused", 1, 1},
		{"done", 1, 0},
		{"cancelled", 1, 0},
		{"done done", 2, 0},
		{"done cancelled", 2, 0},
		{"done draft", 2, 2},
		{"done discarded", 1, 0},
		{"running discarded", 1, 1},
		{"running done", 1, 1},
		{"paused cancelled", 1, 1},
		{"running draft", 1, 1},
		{"running paused", 2, 2},
	} {
		l := newBundle(t)
		for _, state := range strings.Fields(c.states) {
			id := l.batchOf(invitation.Batch{FileSHA256: [32]byte{1}}, "jane")
			stored, started := state, state != "draft" && state != "discarded"
			if state == "discarded" {
				stored = "cancelled"
			}
			l.exec(`update batches set state = $2, started_at = case when $3 then now() end where id = $1`, id, stored, started)
		}
		for again, want := range map[bool]int64{false: c.once, true: c.again} {
			b, err := invitation.BatchByFile(t.Context(), l.pool, l.instance, [32]byte{1}, 0, again)
			must.OK(t, err)
			var got int64
			if b != nil {
				got = b.ID
			}
			expect.Equal(t, fmt.Sprintf("%q, again %t: the batch", c.states, again), got, want)
		}
	}
}

func TestBatchIsKept(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	want := invitation.Batch{
		InstanceID: l.instance, FileSHA256: [32]byte{1, 2, 3}, FileBytes: 42, Priority: 1, Preflight: true,
		Options: invitation.Options{RedirectURL: "https://app.example.com", ExpiresInDays: 7, Template: "invitation"},
	}
	id := l.batchOf(want, "jane", "joe")
	got, err := l.store.Batch(t.Context(), id)
	must.OK(t, err)
	if got.FileSHA256 != want.FileSHA256 || got.FileBytes != 42 || got.Priority != 1 || !got.Preflight || got.Options != want.Options || got.FileName != "hires.csv" ||
		got.State != invitation.Running || got.Rows != 2 || got.StartedAt.Before(got.CreatedAt) || !got.FinishedAt.IsZero() || !slices.Equal(got.Columns, []string{"email"}) {
		t.Errorf("got %+v", got)
	}
	if got, err := invitation.BatchByFile(t.Context(), l.pool, l.instance, want.FileSHA256, 0, false); err != nil || got == nil || got.ID != id {
		t.Errorf("by its file: %+v, %v", got, err)
	}
	again := l.batchOf(want, "jane")
	if got, err := invitation.BatchByFile(t.Context(), l.pool, l.instance, want.FileSHA256, 0, false); err != nil || got == nil || got.ID != again {
		t.Errorf("by its file, the newest: %+v, %v", got, err)
	}
	if got, err := invitation.BatchByFile(t.Context(), l.pool, l.newInstance("ins_two"), want.FileSHA256, 0, false); err != nil || got != nil {
		t.Errorf("at another instance: %+v, %v", got, err)
	}
	if _, err := l.store.Batch(t.Context(), 99); !errors.Is(err, invitation.ErrNoBatch) {
		t.Errorf("no such batch: %v", err)
	}
	l.is("{imported,started}", `select array_agg(action order by id) from events where batch_id = $1 and actor = 'maria'`, id)
	l.is("2", `select priority from batches where id = $1`, l.batch("max"))
}

// Two imports of one file wait for each other; others don't.
func TestLockFile(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	done := make(chan error, 1)
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := invitation.LockFile(ctx, tx, l.instance, [32]byte{1}); err != nil {
			return err
		}
		l.tx(func(ctx context.Context, tx pgx.Tx) error {
			return invitation.LockFile(ctx, tx, l.instance, [32]byte{2})
		})
		l.tx(func(ctx context.Context, tx pgx.Tx) error {
			return invitation.LockFile(ctx, tx, l.instance+1, [32]byte{1})
		})
		go func() {
			done <- pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error { return invitation.LockFile(ctx, tx, l.instance, [32]byte{1}) })
		}()
		l.awaitBlocked()
		return nil
	})
	must.OK(t, <-done)
}

func TestFinish(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	empty := l.batch()
	l.is("done", `select state from batches where id = $1`, empty)
	decided, half, paused, draft := l.batch("a", "b"), l.batch("c", "d"), l.batch("e"), l.batch("f")
	other := l.batchOf(invitation.Batch{InstanceID: l.newInstance("ins_two")}, "a")
	for _, id := range []invitation.RowID{row(decided, 1), row(decided, 2), row(half, 1), row(paused, 1), row(draft, 1), row(other, 1)} {
		l.decide(id, invitation.Invited)
	}
	l.setState(paused, invitation.Paused)
	l.setState(draft, invitation.Draft)
	for _, want := range []int{2, 0} {
		if n, err := l.store.Finish(t.Context(), l.instance); err != nil || n != want {
			t.Errorf("%d batches were done, want %d: %v", n, want, err)
		}
	}
	l.is(fmt.Sprintf("{%d,%d,%d}", empty, decided, paused), `select array_agg(id order by id) from batches where state = 'done' and finished_at is not null`)
	l.is("1", `select count(*) from events where action = 'done' and batch_id = $1`, decided)
}

func TestPauseInstance(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	one, two, draft, done := l.batch("a"), l.batch("b"), l.batch("c"), l.batch()
	l.setState(draft, invitation.Draft)
	other := l.batchOf(invitation.Batch{InstanceID: l.newInstance("ins_two")}, "a")
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		ids, err := l.store.PauseInstance(ctx, tx, l.instance, "user_quota_exceeded")
		if slices.Sort(ids); err == nil && !slices.Equal(ids, []int64{one, two}) {
			t.Errorf("paused %v, want %v", ids, []int64{one, two})
		}
		return err
	})
	l.is("2", `select count(*) from batches where state = 'paused' and state_reason = 'user_quota_exceeded' and id = any($1)`, []int64{one, two})
	l.is("2", `select count(*) from events where action = 'paused' and details->>'reason' = 'user_quota_exceeded'`)
	for id, want := range map[int64]string{draft: "draft", done: "done", other: "running"} {
		l.is(want, `select state from batches where id = $1`, id)
	}
}

// Which open attempts a read that begins now can settle.
func TestDue(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.batch("a", "b", "c", "d", "e", "f", "g")
	attempt := func(n int, name, set string) int64 {
		id := l.attempt(single(person(batch, n, name)))
		if set != "" {
			l.exec(`update attempts set `+set+` where id = $1`, id)
		}
		return id
	}
	lost := attempt(1, "a", `deadline = clock_timestamp() - interval '16 s'`)
	attempt(2, "b", `deadline = clock_timestamp() - interval '14 s'`)
	attempt(3, "c", ``) // under way
	exists := attempt(4, "d", `http_status = 400, read_after = clock_timestamp()`)
	l.exec(`update attempt_people set answer = 'exists' where attempt_id = $1`, exists)
	unnamed := attempt(5, "e", `http_status = 422, read_after = clock_timestamp() - interval '1 s'`)
	attempt(6, "f", `read_after = clock_timestamp() + interval '1 hour'`)
	attempt(7, "g", `deadline = clock_timestamp() - interval '1 hour', resolved_at = clock_timestamp(), resolution = 'read'`)

	due, next, err := l.store.Due(t.Context(), l.instance, 15*time.Second)
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
	if want := get[time.Time](l, `select deadline + interval '15 s' from attempts order by deadline desc offset 4 limit 1`); !next.Equal(want) {
		t.Errorf("the next is due at %v, want %v", next, want)
	}

	later := time.Now().Add(time.Hour)
	l.tx(func(ctx context.Context, tx pgx.Tx) error { return l.store.ReadAgain(ctx, tx, lost, later) })
	if due, _, err := l.store.Due(t.Context(), l.instance, 15*time.Second); err != nil || len(due) != 2 {
		t.Errorf("after one was put off %d are due: %v", len(due), err)
	}
	if due, next, err := l.store.Due(t.Context(), l.newInstance("ins_two"), 0); err != nil || len(due) != 0 || !next.IsZero() {
		t.Errorf("another instance: %v, %v, %v", due, next, err)
	}
}

// An attempt that is being settled is locked against its answer.
func TestLockAttempt(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.batch("a", "b")
	id := l.attempt(bulk(person(batch, 2, "b"), person(batch, 1, "a")))
	done := make(chan error, 1)
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		people, err := l.store.LockAttempt(ctx, tx, id)
		if err != nil || len(people) != 2 || people[0] != person(batch, 1, "a") || people[1] != person(batch, 2, "b") {
			t.Errorf("people: %+v, %v", people, err)
		}
		go func() {
			done <- pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
				_, err := l.store.Note(ctx, tx, time.Second, l.noted(id, invitation.Reply{Status: 200}))
				return err
			})
		}()
		l.awaitBlocked()
		_, err = l.store.Settle(ctx, tx, l.instance, []invitation.Verdict{
			{RowID: row(batch, 1), Key: key("a"), Action: invitation.Action{Kind: invitation.Claim, Close: invitation.ClosedNotThere}},
			{RowID: row(batch, 2), Key: key("b"), Action: invitation.Action{Kind: invitation.Claim, Close: invitation.ClosedNotThere}},
		})
		return err
	})
	must.OK(t, <-done)
	l.is("1", `select count(*) from late_answers where attempt_id = $1`, id)
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		people, err := l.store.LockAttempt(ctx, tx, id)
		if len(people) != 0 {
			t.Errorf("a resolved attempt has open people: %+v", people)
		}
		return err
	})
}

// read makes a complete read.
func (l *bundle) read(worker, call string, end invitation.ReadEnd) invitation.GET {
	l.Helper()
	g, err := l.store.BeginRead(l.Context(), l.instance, worker, call, nil)
	must.OK(l, err)
	end.Complete = true
	if _, err := l.store.EndRead(l.Context(), l.instance, g, end); err != nil {
		l.Fatal(err)
	}
	return g
}

// load returns what is known of a row.
func (l *bundle) load(id invitation.RowID) (c *invitation.Case) {
	l.Helper()
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		rules := invitation.Rules{Settle: settle, GiveUp: giveUp, Fresh: fresh, Slack: slack, NamesNobody: clerk.NamesNobody}
		cases, err := l.store.Load(ctx, tx, l.instance, []invitation.RowID{id}, rules, invitation.Coverage{})
		if err != nil {
			return err
		}
		if len(cases) != 1 {
			return fmt.Errorf("%d cases", len(cases))
		}
		c = cases[0]
		return nil
	})
	return c
}

func TestLoadRow(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.batchOf(invitation.Batch{Preflight: true, Options: invitation.Options{RedirectURL: "https://batch.example", ExpiresInDays: 30, Template: "invitation"}}, "jane", "joe")
	l.exec(`update results set redirect_url = 'https://row.example', expires_in_days = 7, public_metadata = '{"team": "a"}', alone = true, tries = 3,
		last_error = 'internal_clerk_error', not_before = '2026-01-01', transient_since = '2025-01-01' where row_number = 2`)
	one, two := l.load(row(batch, 1)), l.load(row(batch, 2))
	if one.Email != "jane@Example.com" || one.Key != "jane@example.com" || one.Options != (invitation.Options{RedirectURL: "https://batch.example", ExpiresInDays: 30, Template: "invitation"}) {
		t.Errorf("the batch's options: %+v", one.Row)
	}
	if two.Options != (invitation.Options{RedirectURL: "https://row.example", ExpiresInDays: 7, Template: "invitation"}) || string(two.PublicMetadata) != `{"team": "a"}` {
		t.Errorf("the row's own options: %+v", two.Row)
	}
	if !two.Alone || two.Tries != 3 || two.LastError != "internal_clerk_error" || two.NotBefore.Year() != 2026 || two.Since.Year() != 2025 {
		t.Errorf("what was tried: %+v", two.Row)
	}
	if one.BatchState != invitation.Running || one.BatchStarted.IsZero() || !one.Preflight || one.Now.IsZero() || one.Settle != settle || one.GiveUp != giveUp || one.Fresh != fresh || one.Slack != slack {
		t.Errorf("the case: %+v", one)
	}
}

// Which reads guard a claim: complete ones, by a process that lives.
func TestLoadCoverage(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	l.beat("dead")
	batch := l.batch("jane", "joe")
	began := l.load(row(batch, 1)).BatchStarted
	covered := func() invitation.Coverage { l.Helper(); return l.load(row(batch, 1)).Coverage }
	see := func() {
		t.Helper()
		must.OK(t, l.store.SeeBatches(t.Context(), l.instance))
	}

	for _, call := range []string{invitation.ReadPending, invitation.ReadAll, invitation.ReadRevoked} {
		l.read("w", call, invitation.ReadEnd{})
	}
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("with reads from before the batch's rows were seen: %+v", got)
	}
	see()
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("with reads from before the batch's rows were seen, which they are now: %+v", got)
	}
	users := l.read("w", invitation.ReadUsers, invitation.ReadEnd{Covers: []invitation.RowID{row(batch, 1)}})
	if got := covered(); !got.Users.Equal(users.Begun) || !got.Invitations.IsZero() {
		t.Errorf("after a read of users: %+v", got)
	}
	if got := l.load(row(batch, 2)).Coverage; !got.Users.IsZero() {
		t.Errorf("a read of users covers whom it did not ask for: %+v", got)
	}

	pending := l.read("w", invitation.ReadPending, invitation.ReadEnd{})
	l.read("w", invitation.ReadAll, invitation.ReadEnd{Reached: began.Add(-slack)})
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("without the revoked ones: %+v", got)
	}
	l.read("w", invitation.ReadRevoked, invitation.ReadEnd{Reached: began.Add(-slack + time.Millisecond)})
	if got := covered(); !got.Invitations.IsZero() {
		t.Errorf("with revoked ones that don't reach back to the batch's beginning: %+v", got)
	}
	l.read("w", invitation.ReadRevoked, invitation.ReadEnd{})
	if got := covered(); !got.Invitations.Equal(pending.Begun) {
		t.Errorf("with all three lists: %+v; want since %v, when the first began", got, pending.Begun)
	}
	again := l.read("w", invitation.ReadPending, invitation.ReadEnd{Reached: began})
	if got := covered(); got.Invitations.Equal(again.Begun) {
		t.Error("a read of some pending invitations counts as one of all")
	}
	if g, err := l.store.BeginRead(t.Context(), l.instance, "w", invitation.ReadPending, nil); err != nil {
		t.Fatal(err)
	} else if got := covered(); !got.Invitations.Equal(pending.Begun) {
		t.Errorf("a read that has not ended, %d, counts: %+v", g.ID, got)
	}

	must.OK(t, l.store.Leave(t.Context(), "w"))
	if got := covered(); !got.Users.IsZero() || !got.Invitations.IsZero() {
		t.Errorf("reads of a process that is gone count: %+v", got)
	}
}

// The attempts of a row, and what they say of it.
func TestLoadAttempts(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch, other := l.batch("a", "b", "c"), l.batch("a")
	id := l.attempt(bulk(person(batch, 1, "a"), person(batch, 2, "b")))
	a := l.load(row(batch, 1)).Attempts
	if len(a) != 1 || a[0].ID != id || !a[0].Open || a[0].Alone || a[0].Refused || !a[0].Answered.IsZero() || !a[0].Deadline.Equal(get[time.Time](l, `select deadline from attempts`)) {
		t.Fatalf("under way: %+v", a)
	}
	if got := l.load(row(batch, 3)); len(got.Attempts) != 0 || len(got.Others) != 0 {
		t.Errorf("somebody else: %+v", got)
	}
	if got := l.load(row(other, 1)); len(got.Attempts) != 0 || len(got.Others) != 1 || !got.Others[0].Open || got.Others[0].RowID != row(batch, 1) {
		t.Errorf("the person's other row: %+v", got)
	}

	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := l.store.Note(ctx, tx, settle, l.noted(id, invitation.Reply{Status: 422, Code: "form_identifier_exists", Read: true, Soon: true}))
		return err
	})
	a = l.load(row(batch, 1)).Attempts
	if !a[0].Refused || a[0].Answered.IsZero() || a[0].Code != "form_identifier_exists" || a[0].Answer != invitation.NoAnswer {
		t.Errorf("refused for somebody unnamed: %+v", a)
	}
	l.exec(`update attempt_people set open = false, resolution = 'user' where key = $1`, key("b"))
	if a = l.load(row(batch, 1)).Attempts; a[0].Refused {
		t.Error("a read found for whom it was refused, and the others are still suspected")
	}
	l.exec(`update attempt_people set open = false, resolution = 'not_there' where key = $1`, key("a"))
	l.attempt(invitation.Request{Call: "revoke", Bucket: "general", People: []invitation.Person{person(batch, 1, "a")}})
	if a = l.load(row(batch, 1)).Attempts; len(a) != 1 || a[0].Open || a[0].Resolution != invitation.ClosedNotThere {
		t.Errorf("a revoke is none of the attempts to invite: %+v", a)
	}
	alone := l.attempt(bulk(person(batch, 3, "c")))
	if a = l.load(row(batch, 3)).Attempts; len(a) != 1 || a[0].ID != alone || !a[0].Alone {
		t.Errorf("alone in a bulk call: %+v", a)
	}
}

// What reads showed is kept of people who are in a file, and no older read
// takes back what a newer one showed.
func TestSightings(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch, other := l.batch("a"), l.batch("a")
	show := func(st invitation.Status) []invitation.Seen {
		return []invitation.Seen{{ID: "inv_1", Key: key("a"), Status: st, CreatedAt: at(1), ExpiresAt: at(2)}, {ID: "inv_2", Key: key("stranger"), Status: st, CreatedAt: at(1)}}
	}
	older, err := l.store.BeginRead(t.Context(), l.instance, "w", invitation.ReadAll, nil)
	must.OK(t, err)
	first := l.read("w", invitation.ReadPending, invitation.ReadEnd{Seen: show(invitation.Pending)})
	l.is("1", `select count(*) from sightings`)
	s := l.load(row(batch, 1)).Sightings
	ended := get[time.Time](l, `select ended_at from reads where id = $1`, first.ID)
	if len(s) != 1 || s[0].ID != "inv_1" || s[0].Status != invitation.Pending || s[0].User || s[0].Taken || s[0].ReadID != first.ID ||
		!s[0].CreatedAt.Equal(at(1)) || !s[0].ExpiresAt.Equal(at(2)) || !s[0].FirstSeen.Equal(ended) || !s[0].LastSeen.Equal(first.Begun) {
		t.Fatalf("seen: %+v", s)
	}

	if _, err := l.store.EndRead(t.Context(), l.instance, older, invitation.ReadEnd{Seen: show(invitation.Expired)}); err != nil {
		t.Fatal(err)
	}
	if s = l.load(row(batch, 1)).Sightings; s[0].Status != invitation.Pending {
		t.Errorf("a read that began before changed it: %+v", s)
	}
	second := l.read("w", invitation.ReadAll, invitation.ReadEnd{Seen: show(invitation.Accepted)})
	if s = l.load(row(batch, 1)).Sightings; s[0].Status != invitation.Accepted || !s[0].FirstSeen.Equal(ended) || !s[0].LastSeen.Equal(second.Begun) || s[0].ReadID != second.ID {
		t.Errorf("seen again: %+v", s)
	}

	l.exec(`update results set outcome = 'invited', decided_at = clock_timestamp(), clerk_invitation_id = 'inv_1' where batch_id = $1`, other)
	if c := l.load(row(batch, 1)); !c.Sightings[0].Taken || len(c.Others) != 1 || c.Others[0].InvitationID != "inv_1" || c.Others[0].Outcome != invitation.Invited {
		t.Errorf("another row carries it: %+v", c)
	}
	if c := l.load(row(batch, 1)); c.Sightings[0].Guessed {
		t.Errorf("another row was told that it made it: %+v", c)
	}
	if c := l.load(row(other, 1)); c.Sightings[0].Taken {
		t.Errorf("the row that carries it: %+v", c)
	}
	l.read("w", invitation.ReadUsers, invitation.ReadEnd{Seen: []invitation.Seen{{ID: "user_1", Key: key("a"), User: true}}})
	if s = l.load(row(batch, 1)).Sightings; len(s) != 2 || !slices.ContainsFunc(s, func(s invitation.Sighting) bool { return s.User && s.ID == "user_1" }) {
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
				batch := l.batch("a")
				calls := []string{invitation.ReadRevoked, invitation.ReadPending}
				statuses := []invitation.Status{final, invitation.Pending}
				begins, ends := []int{0, 1}, []int{0, 1}
				if strings.Contains(order, "begins last") {
					begins = []int{1, 0}
				}
				if strings.Contains(order, "ends last") {
					ends = []int{1, 0}
				}
				gets := make([]invitation.GET, 2)
				for _, i := range begins {
					var err error
					if gets[i], err = l.store.BeginRead(t.Context(), l.instance, "w", calls[i], nil); err != nil {
						t.Fatal(err)
					}
				}
				for _, i := range ends {
					seen := []invitation.Seen{{ID: "inv_1", Key: key("a"), Status: statuses[i], CreatedAt: at(1)}}
					if _, err := l.store.EndRead(t.Context(), l.instance, gets[i], invitation.ReadEnd{Complete: true, Seen: seen}); err != nil {
						t.Fatal(err)
					}
				}
				s := l.load(row(batch, 1)).Sightings
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
	batch := l.batch("a", "b")
	l.decide(row(batch, 2), invitation.Invited)
	g, err := l.store.BeginRead(t.Context(), l.instance, "w", invitation.ReadUsers, nil)
	must.OK(t, err)
	covers := []invitation.RowID{row(batch, 1), row(batch, 2)}
	if _, err := l.store.EndRead(t.Context(), l.instance, g, invitation.ReadEnd{Status: 502, Code: "bad_gateway", Covers: covers}); err != nil {
		t.Fatal(err)
	}
	l.is("2", `select count(*) from results where users_read_id is null`)
	l.is("502 bad_gateway", `select http_status || ' ' || error_code from reads`)
	done := l.read("w", invitation.ReadUsers, invitation.ReadEnd{Covers: covers})
	l.is("1", `select count(*) from results where users_read_id = $1 and row_number = 1`, done.ID)
	l.is("1", `select count(*) from results where users_read_id is null and row_number = 2`)

	page, err := l.store.BeginRead(t.Context(), l.instance, "w", invitation.ReadAll, &g)
	must.OK(t, err)
	if page.Pass != g.ID || !page.Begun.Equal(g.Begun) {
		t.Errorf("a page of a pass: %+v, want that of %+v", page, g)
	}
}

func TestStarts(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	if got, err := l.store.Starts(t.Context(), l.instance); err != nil || !got.IsZero() {
		t.Errorf("without batches: %v, %v", got, err)
	}
	l.batchOf(invitation.Batch{}, "a") // without preflight
	first := l.batch("b")
	l.batch("c")
	want := get[time.Time](l, `select started_at from batches where id = $1`, first)
	if got, err := l.store.Starts(t.Context(), l.instance); err != nil || !got.Equal(want) {
		t.Errorf("the earliest start is %v, want %v: %v", got, want, err)
	}
}

// Errors name numbers, never a person.
func TestErrorsNameNobody(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	err := pgx.BeginFunc(t.Context(), l.pool, func(tx pgx.Tx) error {
		_, err := l.store.Open(t.Context(), tx, l.instance, "w", time.Second, []invitation.Request{single(person(99, 1, "secret"))}) // no such row
		return err
	})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error: %v", err)
	}
}
