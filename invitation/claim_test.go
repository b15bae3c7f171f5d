package invitation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/must"
	"bulkinvite/invitation"
)

func (l *bundle) pick(n int) (ids []invitation.RowID) {
	l.Helper()
	l.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		ids, err = l.picker.Pick(ctx, tx, l.instance, n, true)
		return err
	})
	return ids
}

// Which rows wait, and in which order they are taken.
func TestPick(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	late := l.batch("a", "b", "c", "d", "e")
	urgent := l.batchOf(invitation.Batch{Priority: 1}, "f", "g")
	paused, draft, cancelled := l.batch("h"), l.batch("i"), l.batch("j")
	l.setState(paused, invitation.Paused)
	l.setState(draft, invitation.Draft)
	l.setState(cancelled, invitation.StateCancelled)
	l.batchOf(invitation.Batch{InstanceID: l.newInstance("ins_two")}, "k")
	same := l.batch("b") // the same person in a later batch
	l.decide(row(late, 1), invitation.AlreadyInvited)
	l.attempt(single(person(late, 2, "b")))
	l.exec(`update results set not_before = clock_timestamp() + interval '1 hour' where (batch_id, row_number) = ($1, 3)`, late)
	l.exec(`update results set not_before = clock_timestamp() where (batch_id, row_number) = ($1, 4)`, late)

	want := []invitation.RowID{row(urgent, 1), row(urgent, 2), row(late, 4), row(late, 5)}
	if got := l.pick(10); !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
	if got := l.pick(3); !slices.Equal(got, want[:3]) {
		t.Errorf("picked three: %v, want %v", got, want[:3])
	}
	if got, err := l.picker.Peek(t.Context(), l.instance, 10, true); err != nil || !slices.Equal(got, want) {
		t.Errorf("peeked at %v, want %v: %v", got, want, err)
	}
	if got, err := l.picker.LastWaiting(t.Context(), l.instance, 3); err != nil || !slices.Equal(got, []invitation.RowID{row(late, 5), row(late, 4), row(urgent, 2)}) {
		t.Errorf("the last in line are %v: %v", got, err)
	}
	for _, id := range []invitation.RowID{row(late, 1), row(late, 2), row(late, 3), row(paused, 1), row(draft, 1), row(cancelled, 1), row(same, 1)} {
		if yes, err := l.picker.Waits(t.Context(), id); err != nil || yes {
			t.Errorf("row %v waits: %v", id, err)
		}
	}
	for _, id := range want {
		if yes, err := l.picker.Waits(t.Context(), id); err != nil || !yes {
			t.Errorf("row %v does not wait: %v", id, err)
		}
	}
}

// A row that another claim has picked is passed over, not waited for.
func TestPickPassesOver(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.batch("a", "b", "c")
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		first, err := l.picker.Pick(ctx, tx, l.instance, 2, true)
		if err != nil || !slices.Equal(first, []invitation.RowID{row(batch, 1), row(batch, 2)}) {
			t.Errorf("first: %v, %v", first, err)
		}
		if second := l.pick(2); !slices.Equal(second, []invitation.RowID{row(batch, 3)}) {
			t.Errorf("second: %v", second)
		}
		return nil
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.batch("a", "b", "c")
	claimed := l.open(single(person(batch, 3, "c")), bulk(person(batch, 2, "b"), person(batch, 1, "a")))
	if len(claimed) != 2 || len(claimed[0].People) != 1 || len(claimed[1].People) != 2 || claimed[0].Call != "create" || claimed[1].Call != "bulk" {
		t.Fatalf("claimed %+v", claimed)
	}
	for _, c := range claimed {
		l.is(c.Call+" "+c.Bucket+" w 20 open", `select call || ' ' || bucket || ' ' || worker_id || ' ' || round(extract(epoch from deadline - started_at)) || case when answered_at is null and resolved_at is null then ' open' end
			from attempts where id = $1`, c.AttemptID)
		for _, p := range c.People {
			l.is("1", `select count(*) from attempt_people where attempt_id = $1 and key = $2 and (batch_id, row_number) = ($3, $4) and open`, c.AttemptID, p.Key, p.Batch, p.Row)
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
			one, two := l.batch("jane", "joe"), l.batch("max", "jane")
			rolledBack := errors.New("rolled back")
			var second []invitation.Claimed
			done := make(chan error, 1)
			err := pgx.BeginFunc(t.Context(), l.pool, func(tx pgx.Tx) error {
				ctx := t.Context()
				first, err := l.store.Open(ctx, tx, l.instance, "w", time.Minute, []invitation.Request{bulk(person(one, 1, "jane"), person(one, 2, "joe"))})
				if err != nil || len(first) != 1 || len(first[0].People) != 2 {
					return fmt.Errorf("the first claimed %+v: %w", first, err)
				}
				go func() {
					done <- pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) (err error) {
						second, err = l.store.Open(ctx, tx, l.instance, "v", time.Minute, []invitation.Request{bulk(person(two, 1, "max")), single(person(two, 2, "jane"))})
						return err
					})
				}()
				l.awaitBlocked()
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
			if len(second) != want || second[0].People[0] != person(two, 1, "max") {
				t.Errorf("the second claimed %+v, want %d requests", second, want)
			}
			l.is("1", `select count(*) from attempt_people where key = 'jane@example.com' and open`)
			l.is("0", `select count(*) from attempts a where not exists (select from attempt_people p where p.attempt_id = a.id)`)
		})
	}
}

// One person in two rows is claimed for one of them: in one request, in two
// requests of one claim, and in two claims.
func TestOpenSamePersonTwice(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(l *bundle, one, two int64) []invitation.Claimed{
		"in one request": func(l *bundle, one, two int64) []invitation.Claimed {
			return l.open(bulk(person(one, 1, "jane"), person(two, 1, "jane"), person(two, 2, "joe")))
		},
		"in two requests": func(l *bundle, one, two int64) []invitation.Claimed {
			return l.open(bulk(person(one, 1, "jane")), bulk(person(two, 1, "jane"), person(two, 2, "joe")))
		},
		"in two claims": func(l *bundle, one, two int64) []invitation.Claimed {
			return append(l.open(bulk(person(one, 1, "jane"))), l.open(bulk(person(two, 1, "jane"), person(two, 2, "joe")))...)
		},
		"as a revoke too": func(l *bundle, one, two int64) []invitation.Claimed {
			return append(l.open(invitation.Request{Call: "revoke", Bucket: "general", People: []invitation.Person{person(one, 1, "jane")}}),
				l.open(bulk(person(two, 1, "jane"), person(two, 2, "joe")))...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newBundle(t)
			asked := map[string]int{}
			for _, c := range ask(l, l.batch("jane"), l.batch("jane", "joe")) {
				for _, p := range c.People {
					asked[p.Key]++
				}
			}
			if asked[key("jane")] != 1 || asked[key("joe")] != 1 {
				t.Errorf("asked for: %v", asked)
			}
			l.is("2", `select count(*) from attempt_people where open`)
		})
	}
}

// At another instance it is another person.
func TestOpenAtAnotherInstance(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	l.attempt(single(person(l.batch("jane"), 1, "jane")))
	l.instance = l.newInstance("ins_two")
	l.attempt(single(person(l.batch("jane"), 1, "jane")))
}

// People are claimed in the order of their keys, over all requests of a claim,
// so that two claims can't wait for each other: while a claim waits for one
// person, it holds those before and none of those after.
func TestOpenInKeyOrder(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch, other := l.batch("z", "a", "m"), l.batch("a", "m", "z")
	done := make(chan error, 1)
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		if _, err := l.store.Open(ctx, tx, l.instance, "w", time.Minute, []invitation.Request{single(person(other, 2, "m"))}); err != nil {
			return err
		}
		go func() {
			done <- pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
				_, err := l.store.Open(ctx, tx, l.instance, "w", time.Minute, []invitation.Request{single(person(batch, 1, "z")), bulk(person(batch, 3, "m"), person(batch, 2, "a"))})
				return err
			})
		}()
		l.awaitBlocked()
		if free := free(t, l.pool, l, person(other, 3, "z")); !free {
			t.Error("z is held by a claim that waits for m")
		}
		if free := free(t, l.pool, l, person(other, 1, "a")); free {
			t.Error("a is not held by a claim that waits for m")
		}
		return nil
	})
	must.OK(t, <-done)
}

// free reports whether a person can be claimed without waiting, and leaves it at that.
func free(t *testing.T, pool *pgxpool.Pool, l *bundle, p invitation.Person) bool {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	must.OK(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }() // nothing is to be kept
	must.Exec(t, tx, `set local lock_timeout = '100ms'`)
	_, err = l.store.Open(t.Context(), tx, l.instance, "w", time.Minute, []invitation.Request{single(p)})
	return err == nil
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.batch("a", "b", "c", "d")
	var kept []invitation.Claimed
	l.tx(func(ctx context.Context, tx pgx.Tx) error {
		claimed, err := l.store.Open(ctx, tx, l.instance, "w", time.Minute, []invitation.Request{
			single(person(batch, 1, "a")), bulk(person(batch, 2, "b"), person(batch, 3, "c")), single(person(batch, 4, "d"))})
		if err != nil {
			return err
		}
		kept, err = l.store.Withdraw(ctx, tx, claimed, func(p invitation.Person) bool { return p.Row == 1 || p.Row == 3 })
		return err
	})
	if len(kept) != 2 || kept[0].Call != "bulk" || !slices.Equal(kept[0].People, []invitation.Person{person(batch, 2, "b")}) || !slices.Equal(kept[1].People, []invitation.Person{person(batch, 4, "d")}) {
		t.Errorf("kept %+v", kept)
	}
	l.is(fmt.Sprintf("{%d,%d}", kept[0].AttemptID, kept[1].AttemptID), `select array_agg(id order by id) from attempts`)
	l.is("{b@example.com,d@example.com}", `select array_agg(key order by key) from attempt_people`)
}

// A claim that is cut in the middle leaves nothing.
func TestOpenCut(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	p := person(l.batch("jane"), 1, "jane")
	conn, err := pgx.ConnectConfig(t.Context(), l.pool.Config().ConnConfig.Copy())
	must.OK(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it is cut
	tx, err := conn.Begin(t.Context())
	must.OK(t, err)
	if _, err := l.store.Open(t.Context(), tx, l.instance, "w", time.Minute, []invitation.Request{single(p)}); err != nil {
		t.Fatal(err)
	}
	l.exec(`select pg_terminate_backend($1)`, conn.PgConn().PID())
	l.attempt(single(p))
	l.is("1", `select count(*) from attempts`)
}

// TestCanaryReadsNoRest: while a canary's rows are under way, looking for waiting
// rows reads none of the many behind it. A claim does so with the buckets locked.
func TestCanaryReadsNoRest(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	const rows = 20_000
	batch := l.batchOf(invitation.Batch{Canary: 2}, "a", "b", "c")
	l.exec(`insert into results (batch_id, row_number, instance_id, line, original, email, key)
		select $1, n, $2, n + 1, '{}', 'p' || n || '@example.com', 'p' || n || '@example.com' from generate_series(4, $3) n`, batch, l.instance, rows)
	l.attempt(single(person(batch, 1, "a")))
	l.attempt(single(person(batch, 2, "b")))
	config := l.pool.Config().Copy()
	config.MaxConns = 1 // whose statistics are looked at
	one, err := pgxpool.NewWithConfig(t.Context(), config)
	must.OK(t, err)
	t.Cleanup(one.Close)
	must.Exec(t, one, `vacuum analyze results`)
	picker := invitation.NewPicker(one, 0)
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
				ids, err = picker.Pick(t.Context(), tx, l.instance, 10, true)
				return err
			})
			return ids, err
		},
		"reading ahead": func() ([]invitation.RowID, error) { return picker.Peek(t.Context(), l.instance, 10, true) },
		"the repair":    func() ([]invitation.RowID, error) { return picker.LastWaiting(t.Context(), l.instance, 10) },
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
