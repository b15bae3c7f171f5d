package report_test

import (
	"slices"
	"testing"
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/report"
)

func TestWhy(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	s, err := report.Why(t.Context(), pool, "jane@example.com")
	must.OK(t, err)
	if len(s.Rows) != 4 || len(s.Attempts) != 1 || len(s.LateAnswers) != 1 || len(s.Reads) != 1 || len(s.Sightings) != 1 || len(s.Events) != 2 {
		t.Errorf("%d rows, %d attempts, %d late answers, %d reads, %d sightings, %d events",
			len(s.Rows), len(s.Attempts), len(s.LateAnswers), len(s.Reads), len(s.Sightings), len(s.Events))
	}
	if a := s.Attempts[0]; a.Others != 1 || a.Open || *a.Resolution != "ours" || *a.ErrorCode != "connection_closed" {
		t.Errorf("%+v", a)
	}
	live, sandbox := s.Summary[0], s.Summary[1]
	if !slices.Equal(live.Sent, []string{"inv_1"}) || live.Open != 0 || live.Late != 0 || !slices.Equal(live.AttemptIDs, []int64{1}) {
		t.Errorf("live: %+v", live)
	}
	if len(sandbox.Sent) != 0 || sandbox.Environment != "sandbox" || len(sandbox.AttemptIDs) != 0 {
		t.Errorf("sandbox: %+v", sandbox)
	}
}

// TestWhyProvesWhatItSays: an open attempt, and one that Clerk refused, are no
// invitation.
func TestWhyProvesWhatItSays(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	for key, open := range map[string]int{"b@example.com": 1, "max@example.com": 0} {
		s, err := report.Why(t.Context(), pool, key)
		must.OK(t, err)
		if len(s.Attempts) != 2 || len(s.Summary) != 1 || len(s.Summary[0].Sent) != 0 || s.Summary[0].Open != open {
			t.Errorf("%s: %d attempts, %+v", key, len(s.Attempts), s.Summary)
		}
	}
	s, err := report.Why(t.Context(), pool, "stranger@example.com")
	if err != nil || len(s.Rows)+len(s.Attempts)+len(s.Summary) != 0 {
		t.Errorf("a stranger: %+v, %v", s, err)
	}
}

// TestWhyNamesTheRead: of a request that a read showed to have made nothing, the
// story names that read; not one that began too early, or reached not far enough.
func TestWhyNamesTheRead(t *testing.T) {
	t.Parallel()
	l := ledgertest.New(t)
	batch := l.Batch("jane", "joe")
	id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "jane")))
	second := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 2, "joe")))
	early := l.Read("w", ledger.ReadAll, ledger.ReadEnd{})
	l.Exec(`update attempts set started_at = clock_timestamp() - interval '40 s', deadline = clock_timestamp() - interval '20 s' where id = any($1)`, []int64{id, second})
	l.Exec(`update reads set begun_at = begun_at - interval '30 s', pass_begun_at = pass_begun_at - interval '30 s' where id = $1`, early.ID)
	l.Settle(ledgertest.Closes(ledgertest.Row(batch, 2), "joe", invitation.ClosedNotThere)) // which nothing does
	proof := l.Read("w", ledger.ReadAll, ledger.ReadEnd{})
	l.Read("w", ledger.ReadAll, ledger.ReadEnd{Reached: time.Now()})
	l.Settle(ledgertest.Closes(ledgertest.Row(batch, 1), "jane", invitation.ClosedNotThere))
	l.Read("w", ledger.ReadAll, ledger.ReadEnd{})
	s, err := report.Why(t.Context(), l.Pool, ledgertest.Key("jane"))
	must.OK(t, err)
	if len(s.Attempts) != 1 || s.Attempts[0].SettledBy == nil || *s.Attempts[0].SettledBy != proof.ID || len(s.Reads) != 1 || s.Reads[0].ReadID != proof.ID {
		t.Errorf("attempts %+v and reads %+v, want read %d", s.Attempts, s.Reads, proof.ID)
	}
	if s, err = report.Why(t.Context(), l.Pool, ledgertest.Key("joe")); err != nil || s.Attempts[0].SettledBy != nil {
		t.Errorf("attempts %+v, want none settled by a read: %v", s.Attempts, err)
	}
}

// TestWhyGoesOnToOtherAddresses: a story has all that there is by the addresses
// that corrections gave the person, whichever of them is asked for.
func TestWhyGoesOnToOtherAddresses(t *testing.T) {
	t.Parallel()
	pool := planted(t)
	postgrestest.Plant(t, pool, `update batches set corrects = 1, corrects_row = 5 where id = 3`)
	for asked, other := range map[string]string{"max@example.com": "c@example.com", "c@example.com": "max@example.com"} {
		s, err := report.Why(t.Context(), pool, asked)
		must.OK(t, err)
		if !slices.Equal(s.Keys, []string{asked, other}) || len(s.Rows) != 2 || len(s.Attempts) != 2 || len(s.Summary) != 1 || len(s.Summary[0].AttemptIDs) != 2 {
			t.Errorf("%s: %v with %d rows and %d attempts, %+v", asked, s.Keys, len(s.Rows), len(s.Attempts), s.Summary)
		}
	}
}

// TestWhyPlansOnce: the parts of a story are planned for each person while there
// are few rows, lest a plan for few stays when many come, and once when there are
// many.
func TestWhyPlansOnce(t *testing.T) {
	t.Parallel()
	shared := planted(t)
	pool, err := postgres.Open(t.Context(), shared.Config().ConnString()+"&pool_max_conns=1")
	must.OK(t, err)
	defer pool.Close()
	ask := func(times int) (once, each int) {
		for range times {
			if _, err := report.Why(t.Context(), pool, "jane@example.com"); err != nil {
				t.Fatal(err)
			}
		}
		must.OK(t, pool.QueryRow(t.Context(),
			`select sum(generic_plans), sum(custom_plans) from pg_prepared_statements where statement like $1`, "%from results%").Scan(&once, &each))
		return once, each
	}
	once, each := ask(10)
	if once != 0 || each == 0 {
		t.Errorf("of few rows: planned once for %d, and for each of %d", once, each)
	}
	postgrestest.Plant(t, shared, `
		insert into results (batch_id, instance_id, row_number, line, original, email, key)
		select 2, 1, 100 + n, 100 + n, array[repeat('x', 600)], n || '@example.com', n || '@example.com' from generate_series(1, 15000) n`)
	if once, now := ask(10); once == 0 || now != each {
		t.Errorf("of many rows: planned once for %d, and for each of %d more", once, now-each)
	}
}
