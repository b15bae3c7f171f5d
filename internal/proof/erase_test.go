package proof_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/erased"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
	"bulkinvite/internal/proof"
)

func (l *bundle) erase(keys ...string) (e *proof.Erasure, err error) {
	err = pgx.BeginFunc(l.Context(), l.Pool, func(tx pgx.Tx) error {
		e, err = proof.Erase(l.Context(), tx, keys, "maria")
		return err
	})
	return e, err
}

// holds lists the tables' rows that hold a text, in any column.
func (l *bundle) holds(text string) (tables []string) {
	l.Helper()
	rows, _ := l.Pool.Query(l.Context(), `select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' order by 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(l, err)
	for _, table := range all {
		if must.Read[bool](l, l.Pool, `select exists (select from `+pgx.Identifier{table}.Sanitize()+` t where t::text ilike '%' || $1 || '%')`, text) {
			tables = append(tables, table)
		}
	}
	return tables
}

func TestErase(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	id := l.ended(20)
	c := l.certify(id)
	waits := l.Batch("p7", "b")
	l.Exec(`insert into drift (instance_id, kind, clerk_invitation_id, key, first_seen, last_seen) values ($1, 'gone', 'inv_7', 'p7@example.com', now(), now())`, l.Instance)
	sight := func(key string) {
		t.Helper()
		read, err := ledger.BeginRead(t.Context(), l.Pool, l.Instance, "w", ledger.ReadPending, nil)
		must.OK(t, err)
		_, err = ledger.EndRead(t.Context(), l.Pool, l.Instance, read, ledger.ReadEnd{Status: 200, Complete: true, Seen: []ledger.Seen{{ID: "inv_7", Key: key, Status: invitation.Pending, CreatedAt: time.Now()}}})
		must.OK(t, err)
	}
	sight("p7@example.com")
	if got := l.holds("p7@example.com"); !slices.Equal(got, []string{"attempt_people", "drift", "results", "sightings"}) {
		t.Fatalf("before: %v", got)
	}

	open := l.Attempt(ledgertest.Single(ledgertest.Person(waits, 1, "p7")))
	if _, err := l.erase("p7@example.com"); !errors.Is(err, batch.ErrUnderWay) {
		t.Errorf("with a request under way: %v", err)
	}
	l.Exec(`update attempts set resolved_at = now(), resolution = 'not_sent' where id = $1`, open)
	l.Exec(`update attempt_people set open = false, closed_at = now(), resolution = 'not_sent' where attempt_id = $1`, open)
	e, err := l.erase("p7@example.com")
	if err != nil || e.Rows != 2 || e.Cancelled != 1 || !slices.Equal(e.Batches, []int64{id, waits}) {
		t.Fatalf("%+v, %v", e, err)
	}
	sight("p7@example.com") // Clerk still shows it
	for _, text := range []string{"p7@example.com", "Name 7\""} {
		if got := l.holds(text); len(got) > 0 {
			t.Errorf("%s is left in %v", text, got)
		}
	}
	l.Is("cancelled erased", `select outcome || ' ' || reason from results where batch_id = $1 and row_number = 1`, waits)
	l.Is("invited inv_7", `select outcome || ' ' || clerk_invitation_id from results where batch_id = $1 and row_number = 7`, id)
	l.Is("1", `select count(distinct key) from results where erased_by is not null`)
	l.Is("2", `select count(*) from events where action = 'erased' and actor = 'maria'`)
	if v := l.verify(id, &c.Head); !v.Holds {
		t.Errorf("the certificate of before: %+v", v)
	}

	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		gone, err := erased.LoadErased(ctx, tx)
		if err != nil {
			return err
		}
		if gone.Row("b@example.com", nil) != nil || gone.Row("p7@example.com", nil) == nil {
			t.Error("not the one who was erased")
		}
		if err := gone.Lift(ctx, tx, waits, []string{gone.Row("p7@example.com", nil).Key}); err != nil {
			return err
		}
		gone, err = erased.LoadErased(ctx, tx)
		if gone != nil {
			t.Error("erased again though they were included")
		}
		return err
	})
}

func TestPurge(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	old, young := l.ended(2500), l.Batch("a")
	c := l.certify(old)
	l.Exec(`update batches set finished_at = now() - interval '400 days' where id = $1`, old)
	l.Exec(`insert into sightings (instance_id, clerk_id, key, kind, first_read, first_seen, last_read, last_seen) values ($1, 'inv_5', 'p5@example.com', 'invitation', 1, now(), 1, now())`, l.Instance)
	year := 365 * 24 * time.Hour
	e, err := proof.Purge(t.Context(), l.Pool, year, "maria", nil)
	if err != nil || e.Rows != 2500 || !slices.Equal(e.Batches, []int64{old}) {
		t.Fatalf("%+v, %v", e, err)
	}
	if got := l.holds("p5@example.com"); len(got) > 0 {
		t.Errorf("left in %v", got)
	}
	l.Is("a@example.com", `select key from results where batch_id = $1`, young)
	l.Is("2250", `select count(*) from results where batch_id = $1 and outcome = 'invited'`, old)
	if v := l.verify(old, &c.Head); !v.Holds {
		t.Errorf("the certificate of before: %+v", v)
	}
	l.Is("1", `select count(*) from events where action = 'purged' and batch_id = $1 and details->>'rows' = '2500'`, old)
	if again, err := proof.Purge(t.Context(), l.Pool, year, "maria", nil); err != nil || again.ID != 0 {
		t.Errorf("once more: %+v, %v", again, err)
	}
	l.Is("1", `select count(*) from erasures`)
}
