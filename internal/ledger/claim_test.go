package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
)

func (l *bundle) pick(n int) (ids []invitation.RowID) {
	l.Helper()
	l.Tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		ids, err = l.Picker.Pick(ctx, tx, l.Instance, n, true)
		return err
	})
	return ids
}

// Which rows wait, and in which order they are taken.
func TestPick(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	late := l.Batch("a", "b", "c", "d", "e")
	urgent := l.BatchOf(invitation.Batch{Priority: 1}, "f", "g")
	paused, draft, cancelled := l.Batch("h"), l.Batch("i"), l.Batch("j")
	l.SetState(paused, invitation.Paused)
	l.SetState(draft, invitation.Draft)
	l.SetState(cancelled, invitation.StateCancelled)
	l.BatchOf(invitation.Batch{InstanceID: l.NewInstance("ins_two")}, "k")
	same := l.Batch("b") // the same person in a later batch
	l.Decide(ledgertest.Row(late, 1), invitation.AlreadyInvited)
	l.Attempt(ledgertest.Single(ledgertest.Person(late, 2, "b")))
	l.Exec(`update results set not_before = clock_timestamp() + interval '1 hour' where (batch_id, row_number) = ($1, 3)`, late)
	l.Exec(`update results set not_before = clock_timestamp() where (batch_id, row_number) = ($1, 4)`, late)

	want := []invitation.RowID{ledgertest.Row(urgent, 1), ledgertest.Row(urgent, 2), ledgertest.Row(late, 4), ledgertest.Row(late, 5)}
	if got := l.pick(10); !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
	if got := l.pick(3); !slices.Equal(got, want[:3]) {
		t.Errorf("picked three: %v, want %v", got, want[:3])
	}
	if got, err := l.Picker.Peek(t.Context(), l.Instance, 10, true); err != nil || !slices.Equal(got, want) {
		t.Errorf("peeked at %v, want %v: %v", got, want, err)
	}
	if got, err := l.Picker.LastWaiting(t.Context(), l.Instance, 3); err != nil || !slices.Equal(got, []invitation.RowID{ledgertest.Row(late, 5), ledgertest.Row(late, 4), ledgertest.Row(urgent, 2)}) {
		t.Errorf("the last in line are %v: %v", got, err)
	}
	for _, id := range []invitation.RowID{ledgertest.Row(late, 1), ledgertest.Row(late, 2), ledgertest.Row(late, 3), ledgertest.Row(paused, 1), ledgertest.Row(draft, 1), ledgertest.Row(cancelled, 1), ledgertest.Row(same, 1)} {
		if yes, err := l.Picker.Waits(t.Context(), id); err != nil || yes {
			t.Errorf("row %v waits: %v", id, err)
		}
	}
	for _, id := range want {
		if yes, err := l.Picker.Waits(t.Context(), id); err != nil || !yes {
			t.Errorf("row %v does not wait: %v", id, err)
		}
	}
}

// A row that another claim has picked is passed over, not waited for.
func TestPickPassesOver(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c")
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		first, err := l.Picker.Pick(ctx, tx, l.Instance, 2, true)
		if err != nil || !slices.Equal(first, []invitation.RowID{ledgertest.Row(batch, 1), ledgertest.Row(batch, 2)}) {
			t.Errorf("first: %v, %v", first, err)
		}
		if second := l.pick(2); !slices.Equal(second, []invitation.RowID{ledgertest.Row(batch, 3)}) {
			t.Errorf("second: %v", second)
		}
		return nil
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c")
	claimed := l.Open(ledgertest.Single(ledgertest.Person(batch, 3, "c")), ledgertest.Bulk(ledgertest.Person(batch, 2, "b"), ledgertest.Person(batch, 1, "a")))
	if len(claimed) != 2 || len(claimed[0].People) != 1 || len(claimed[1].People) != 2 || claimed[0].Call != "create" || claimed[1].Call != "bulk" {
		t.Fatalf("claimed %+v", claimed)
	}
	for _, c := range claimed {
		l.Is(c.Call+" "+c.Bucket+" w 20 open", `select call || ' ' || bucket || ' ' || worker_id || ' ' || round(extract(epoch from deadline - started_at)) || case when answered_at is null and resolved_at is null then ' open' end
			from attempts where id = $1`, c.AttemptID)
		for _, p := range c.People {
			l.Is("1", `select count(*) from attempt_people where attempt_id = $1 and key = $2 and (batch_id, row_number) = ($3, $4) and open`, c.AttemptID, p.Key, p.Batch, p.Row)
		}
	}
}

// Inserting a person is the claim, and there is no other: of two transactions
// that ask for one person, in different batches, one gets them.
func TestOpenIsTheClaim(t *testing.T) {
	t.Parallel()
	for name, commits := range map[string]bool{"the first commits": true, "the first rolls back": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newBundle(t)
			one, two := l.Batch("jane", "joe"), l.Batch("max", "jane")
			rolledBack := errors.New("rolled back")
			var second []ledger.Claimed
			done := make(chan error, 1)
			err := pgx.BeginFunc(t.Context(), l.Pool, func(tx pgx.Tx) error {
				ctx := t.Context()
				first, err := ledger.Open(ctx, tx, l.Instance, "w", time.Minute, []ledger.Request{ledgertest.Bulk(ledgertest.Person(one, 1, "jane"), ledgertest.Person(one, 2, "joe"))})
				if err != nil || len(first) != 1 || len(first[0].People) != 2 {
					return fmt.Errorf("the first claimed %+v: %w", first, err)
				}
				go func() {
					done <- pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) (err error) {
						second, err = ledger.Open(ctx, tx, l.Instance, "v", time.Minute, []ledger.Request{ledgertest.Bulk(ledgertest.Person(two, 1, "max")), ledgertest.Single(ledgertest.Person(two, 2, "jane"))})
						return err
					})
				}()
				l.AwaitBlocked()
				if !commits {
					return rolledBack
				}
				return nil
			})
			if err != nil && !errors.Is(err, rolledBack) {
				t.Fatal(err)
			}
			must.OK(t, <-done)
			want := 1
			if !commits {
				want = 2
			}
			if len(second) != want || second[0].People[0] != ledgertest.Person(two, 1, "max") {
				t.Errorf("the second claimed %+v, want %d requests", second, want)
			}
			l.Is("1", `select count(*) from attempt_people where key = 'jane@example.com' and open`)
			l.Is("0", `select count(*) from attempts a where not exists (select from attempt_people p where p.attempt_id = a.id)`)
		})
	}
}

// One person in two rows is claimed for one of them: in one request, in two
// requests of one claim, and in two claims.
func TestOpenSamePersonTwice(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(l *bundle, one, two int64) []ledger.Claimed{
		"in one request": func(l *bundle, one, two int64) []ledger.Claimed {
			return l.Open(ledgertest.Bulk(ledgertest.Person(one, 1, "jane"), ledgertest.Person(two, 1, "jane"), ledgertest.Person(two, 2, "joe")))
		},
		"in two requests": func(l *bundle, one, two int64) []ledger.Claimed {
			return l.Open(ledgertest.Bulk(ledgertest.Person(one, 1, "jane")), ledgertest.Bulk(ledgertest.Person(two, 1, "jane"), ledgertest.Person(two, 2, "joe")))
		},
		"in two claims": func(l *bundle, one, two int64) []ledger.Claimed {
			return append(l.Open(ledgertest.Bulk(ledgertest.Person(one, 1, "jane"))), l.Open(ledgertest.Bulk(ledgertest.Person(two, 1, "jane"), ledgertest.Person(two, 2, "joe")))...)
		},
		"as a revoke too": func(l *bundle, one, two int64) []ledger.Claimed {
			return append(l.Open(ledger.Request{Call: "revoke", Bucket: "general", People: []ledger.Person{ledgertest.Person(one, 1, "jane")}}),
				l.Open(ledgertest.Bulk(ledgertest.Person(two, 1, "jane"), ledgertest.Person(two, 2, "joe")))...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newBundle(t)
			asked := map[string]int{}
			for _, c := range ask(l, l.Batch("jane"), l.Batch("jane", "joe")) {
				for _, p := range c.People {
					asked[p.Key]++
				}
			}
			if asked[ledgertest.Key("jane")] != 1 || asked[ledgertest.Key("joe")] != 1 {
				t.Errorf("asked for: %v", asked)
			}
			l.Is("2", `select count(*) from attempt_people where open`)
		})
	}
}

// At another instance it is another person.
func TestOpenAtAnotherInstance(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	l.Attempt(ledgertest.Single(ledgertest.Person(l.Batch("jane"), 1, "jane")))
	l.Instance = l.NewInstance("ins_two")
	l.Attempt(ledgertest.Single(ledgertest.Person(l.Batch("jane"), 1, "jane")))
}

// People are claimed in the order of their keys, over all requests of a claim,
// so that two claims can't wait for each other: while a claim waits for one
// person, it holds those before and none of those after.
func TestOpenInKeyOrder(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch, other := l.Batch("z", "a", "m"), l.Batch("a", "m", "z")
	done := make(chan error, 1)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		if _, err := ledger.Open(ctx, tx, l.Instance, "w", time.Minute, []ledger.Request{ledgertest.Single(ledgertest.Person(other, 2, "m"))}); err != nil {
			return err
		}
		go func() {
			done <- pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
				_, err := ledger.Open(ctx, tx, l.Instance, "w", time.Minute, []ledger.Request{ledgertest.Single(ledgertest.Person(batch, 1, "z")), ledgertest.Bulk(ledgertest.Person(batch, 3, "m"), ledgertest.Person(batch, 2, "a"))})
				return err
			})
		}()
		l.AwaitBlocked()
		if free := free(t, l.Pool, l, ledgertest.Person(other, 3, "z")); !free {
			t.Error("z is held by a claim that waits for m")
		}
		if free := free(t, l.Pool, l, ledgertest.Person(other, 1, "a")); free {
			t.Error("a is not held by a claim that waits for m")
		}
		return nil
	})
	must.OK(t, <-done)
}

// free reports whether a person can be claimed without waiting, and leaves it at that.
func free(t *testing.T, pool *pgxpool.Pool, l *bundle, p ledger.Person) bool {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	must.OK(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }() // nothing is to be kept
	must.Exec(t, tx, `set local lock_timeout = '100ms'`)
	_, err = ledger.Open(t.Context(), tx, l.Instance, "w", time.Minute, []ledger.Request{ledgertest.Single(p)})
	return err == nil
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c", "d")
	var kept []ledger.Claimed
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		claimed, err := ledger.Open(ctx, tx, l.Instance, "w", time.Minute, []ledger.Request{
			ledgertest.Single(ledgertest.Person(batch, 1, "a")), ledgertest.Bulk(ledgertest.Person(batch, 2, "b"), ledgertest.Person(batch, 3, "c")), ledgertest.Single(ledgertest.Person(batch, 4, "d"))})
		if err != nil {
			return err
		}
		kept, err = ledger.Withdraw(ctx, tx, claimed, func(p ledger.Person) bool { return p.Row == 1 || p.Row == 3 })
		return err
	})
	if len(kept) != 2 || kept[0].Call != "bulk" || !slices.Equal(kept[0].People, []ledger.Person{ledgertest.Person(batch, 2, "b")}) || !slices.Equal(kept[1].People, []ledger.Person{ledgertest.Person(batch, 4, "d")}) {
		t.Errorf("kept %+v", kept)
	}
	l.Is(fmt.Sprintf("{%d,%d}", kept[0].AttemptID, kept[1].AttemptID), `select array_agg(id order by id) from attempts`)
	l.Is("{b@example.com,d@example.com}", `select array_agg(key order by key) from attempt_people`)
}

// A claim that is cut in the middle leaves nothing.
func TestOpenCut(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	p := ledgertest.Person(l.Batch("jane"), 1, "jane")
	conn, err := pgx.ConnectConfig(t.Context(), l.Pool.Config().ConnConfig.Copy())
	must.OK(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it is cut
	tx, err := conn.Begin(t.Context())
	must.OK(t, err)
	if _, err := ledger.Open(t.Context(), tx, l.Instance, "w", time.Minute, []ledger.Request{ledgertest.Single(p)}); err != nil {
		t.Fatal(err)
	}
	l.Exec(`select pg_terminate_backend($1)`, conn.PgConn().PID())
	l.Attempt(ledgertest.Single(p))
	l.Is("1", `select count(*) from attempts`)
}

// TestCanaryReadsNoRest: while a canary's rows are under way, looking for waiting
// rows reads none of the many behind it. A claim does so with the buckets locked.
func TestCanaryReadsNoRest(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	const rows = 20_000
	batch := l.BatchOf(invitation.Batch{Canary: 2}, "a", "b", "c")
	l.Exec(`insert into results (batch_id, row_number, instance_id, line, original, email, key)
		select $1, n, $2, n + 1, '{}', 'p' || n || '@example.com', 'p' || n || '@example.com' from generate_series(4, $3) n`, batch, l.Instance, rows)
	l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
	l.Attempt(ledgertest.Single(ledgertest.Person(batch, 2, "b")))
	config := l.Pool.Config().Copy()
	config.MaxConns = 1 // whose statistics are looked at
	one, err := pgxpool.NewWithConfig(t.Context(), config)
	must.OK(t, err)
	t.Cleanup(one.Close)
	must.Exec(t, one, `vacuum analyze results`)
	picker := ledger.NewPicker(one, 0)
	read := func() (n int) {
		t.Helper()
		must.Exec(t, one, `select pg_stat_force_next_flush()`)
		must.OK(t, one.QueryRow(t.Context(),
			`select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relid = 'results'::regclass`).Scan(&n))
		return n
	}
	for name, look := range map[string]func() ([]invitation.RowID, error){
		"a claim": func() (ids []invitation.RowID, err error) {
			err = pgx.BeginFunc(t.Context(), one, func(tx pgx.Tx) error {
				ids, err = picker.Pick(t.Context(), tx, l.Instance, 10, true)
				return err
			})
			return ids, err
		},
		"reading ahead": func() ([]invitation.RowID, error) { return picker.Peek(t.Context(), l.Instance, 10, true) },
		"the repair":    func() ([]invitation.RowID, error) { return picker.LastWaiting(t.Context(), l.Instance, 10) },
	} {
		before := read()
		ids, err := look()
		if err != nil || len(ids) != 0 {
			t.Errorf("%s finds %v, %v", name, ids, err)
		}
		if n := read() - before; n > 100 {
			t.Errorf("%s reads %d of %d rows", name, n, rows)
		}
	}
}
