package ledger_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
)

// situations are the rows that the bulk decisions meet, with the SQL that plants each in row $2 of
// batch $1. Sweeps 1 and 2 are running.
var situations = []struct {
	name    string
	sql     string
	open    bool // a create for the row is open
	revokes bool // a revoke for the row is open
	other   bool // a create for another row of the person is open
}{
	{name: "waits"},
	{name: "open", open: true},
	{name: "other", other: true},
	{name: "owed", sql: `revoke_sent = clock_timestamp()`},
	{name: "revokes", revokes: true},
	{name: "backsoff", sql: backsOff},
	{name: "givenup", sql: `last_error = 'internal_clerk_error', ` + triedLong},
	{name: "invited", sql: `outcome = 'invited', decided_at = clock_timestamp()`},
	{name: "failed", sql: `outcome = 'failed', reason = 'timeout', decided_at = clock_timestamp(), ` + triedLong},
	{name: "rejected", sql: `outcome = 'rejected', decided_at = clock_timestamp()`},
	{name: "swept", sql: `withdrawn_by = 1`},
	{name: "swepttwice", sql: `withdrawn_by = 1, also_withdrawn_by = array[2]`},
	{name: "sweptopen", sql: `withdrawn_by = 1`, open: true},
	{name: "sweptowed", sql: `withdrawn_by = 1, revoke_sent = clock_timestamp()`},
	{name: "sweptfailed", sql: `withdrawn_by = 1, outcome = 'failed', decided_at = clock_timestamp()`},
}

const (
	backsOff = `tries = 1, last_error = 'internal_clerk_error', transient_since = clock_timestamp(),
		not_before = clock_timestamp() + interval '1 hour'`
	triedLong = `tries = 9, transient_since = clock_timestamp() - interval '2 days',
		not_before = clock_timestamp() - interval '1 hour'`
)

// planted is a row in one of the situations.
type planted struct {
	invitation.RowID
	name  string
	state invitation.State
	was   string // its outcome and reason
}

func (p planted) String() string { return fmt.Sprintf("%s in a %s batch", p.name, p.state) }

// plantSituations makes one batch for each state, with a row in each situation.
func plantSituations(l *bundle) (rows []planted) {
	l.Helper()
	l.Exec(`insert into sweeps (instance_id, started_by, scope, kind, apply)
		select $1, 'maria', 'ours', 'rescind', true from generate_series(1, 2)`, l.Instance)
	for _, state := range []invitation.State{invitation.Draft, invitation.Running, invitation.Paused, invitation.StateCancelled} {
		var people []string
		for _, s := range situations {
			people = append(people, s.name+string(state))
		}
		batch := l.Batch(people...)
		for i, s := range situations {
			p := ledgertest.Person(batch, i+1, people[i])
			if s.sql != "" {
				l.Exec(`update results set `+s.sql+` where batch_id = $1 and row_number = $2`, batch, i+1)
			}
			if s.open {
				l.Attempt(ledgertest.Single(p))
			}
			if s.revokes {
				p.InvitationID = "inv_" + people[i]
				l.Attempt(ledger.Request{Call: ledger.CallRevoke, Bucket: "general", People: []ledger.Person{p}})
				l.Exec(`update results set revoke_sent = clock_timestamp()
					where batch_id = $1 and row_number = $2`, batch, i+1)
			}
			if s.other {
				l.Attempt(ledgertest.Single(ledgertest.Person(l.Batch(people[i]), 1, people[i])))
			}
			rows = append(rows, planted{RowID: p.RowID, name: s.name, state: state, was: ended(l, p.RowID)})
		}
		l.SetState(batch, state)
	}
	return rows
}

// ended is the outcome of a row with its reason, or "undecided".
func ended(l *bundle, id invitation.RowID) string {
	return must.Read[string](l, l.Pool, `select coalesce(outcome || ' ' || coalesce(reason, ''), 'undecided')
		from results where batch_id = $1 and row_number = $2`, id.Batch, id.Row)
}

// says is what Next does with a row in one step: how the row ends, or what it was.
func says(p planted, a invitation.Action) string {
	if a.Kind != invitation.Decide {
		return p.was
	}
	return string(a.Outcome) + " " + a.Reason
}

// TestBulkDecisions checks that each decision in bulk does to each row what Next says for it.
func TestBulkDecisions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// plant prepares what the rule goes by.
		plant func(l *bundle, rows []planted)
		run   func(ctx context.Context, l *bundle, tx pgx.Tx, rows []planted) error
		// want is what becomes of a row. next is what Next says for it before.
		want func(p planted, c *ledger.Case, next func() string) string
	}{
		{
			name: "CancelRows",
			run: func(ctx context.Context, l *bundle, _ pgx.Tx, _ []planted) error {
				_, err := ledger.CancelRows(ctx, l.Pool, l.Instance)
				return err
			},
			want: func(p planted, c *ledger.Case, next func() string) string {
				switch {
				case p.state != invitation.StateCancelled: // the rule is about cancelled batches only
					return p.was
				case p.name == "swept" || p.name == "swepttwice":
					return "cancelled " // Next names the sweep first; both reasons are true
				case p.name == "sweptowed":
					return p.was // CancelWithdrawn decides it
				}
				return next()
			},
		},
		{
			name: "CancelWithdrawn",
			run: func(ctx context.Context, l *bundle, tx pgx.Tx, _ []planted) error {
				return ledger.CancelWithdrawn(ctx, tx, l.Instance)
			},
			want: func(p planted, c *ledger.Case, next func() string) string {
				if !c.Withdrawn { // the rule is about withdrawn rows only
					return p.was
				}
				return next()
			},
		},
		{
			name: "CancelRescinded",
			plant: func(l *bundle, rows []planted) {
				for _, p := range rows {
					if p.state == invitation.Draft {
						l.Exec(`insert into draft_withdrawals (batch_id, key, sweep_id)
							select batch_id, key, 2 from results
							where batch_id = $1 and row_number = $2 and row_number % 2 = 1`, p.Batch, p.Row)
					}
				}
			},
			run: func(ctx context.Context, l *bundle, tx pgx.Tx, rows []planted) error {
				for _, p := range rows {
					if p.Row == 1 && p.state == invitation.Draft {
						return ledger.CancelRescinded(ctx, tx, p.Batch)
					}
				}
				return nil
			},
			want: func(p planted, c *ledger.Case, next func() string) string {
				switch {
				case p.state != invitation.Draft || p.Row%2 == 0: // nobody was rescinded
					return p.was
				case p.name == "sweptopen" || p.name == "revokes" || p.name == "open":
					return "cancelled withdrawn" // no row of a draft has an open attempt, so the rule looks for none
				}
				c.Withdrawn = true
				return next()
			},
		},
		{
			// Next knows neither corrections nor erasures.
			name: "CancelListed",
			run: func(ctx context.Context, l *bundle, tx pgx.Tx, rows []planted) error {
				var ids []invitation.RowID
				for _, p := range rows {
					if p.Row%2 == 0 {
						ids = append(ids, p.RowID)
					}
				}
				_, err := ledger.CancelListed(ctx, tx, ids, "corrected")
				return err
			},
			want: func(p planted, c *ledger.Case, _ func() string) string {
				if p.Row%2 == 0 && c.Outcome == "" {
					return "cancelled corrected"
				}
				return p.was
			},
		},
		{
			// Next says nothing about decided rows. A retry is a person's decision.
			name: "Reopen",
			run: func(ctx context.Context, l *bundle, tx pgx.Tx, rows []planted) error {
				for _, p := range rows {
					if p.Row > 1 {
						continue
					}
					also := []invitation.Outcome{invitation.Rejected}
					if p.state == invitation.Paused {
						also = nil
					}
					if _, err := ledger.Reopen(ctx, tx, p.Batch, also...); err != nil {
						return err
					}
				}
				return nil
			},
			want: func(p planted, _ *ledger.Case, _ func() string) string {
				if p.name == "failed" || p.name == "rejected" && p.state != invitation.Paused {
					return "undecided"
				}
				return p.was
			},
		},
		{
			// It decides nothing.
			name: "MarkWithdrawn",
			run: func(ctx context.Context, l *bundle, tx pgx.Tx, rows []planted) error {
				return ledger.MarkWithdrawn(ctx, tx, 2, ids(rows))
			},
			want: func(p planted, _ *ledger.Case, _ func() string) string { return p.was },
		},
		{
			// It decides nothing.
			name: "UnmarkWithdrawn",
			run: func(ctx context.Context, l *bundle, tx pgx.Tx, _ []planted) error {
				return ledger.UnmarkWithdrawn(ctx, tx, 1)
			},
			want: func(p planted, _ *ledger.Case, _ func() string) string { return p.was },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newBundle(t)
			rows := plantSituations(l)
			if tt.plant != nil {
				tt.plant(l, rows)
			}
			wants := map[invitation.RowID]string{}
			for _, p := range rows {
				c := l.Load(p.RowID)
				wants[p.RowID] = tt.want(p, c, func() string { return says(p, c.Next()) })
			}
			l.Tx(func(ctx context.Context, tx pgx.Tx) error { return tt.run(ctx, l, tx, rows) })
			for _, p := range rows {
				if got := ended(l, p.RowID); got != wants[p.RowID] {
					t.Errorf("%s, %s: got %q, want %q", tt.name, p, got, wants[p.RowID])
				}
			}
			l.Is("0", `select count(*) from results where (outcome is null) <> (decided_at is null)`)
			l.Is("0", `select count(*) from results where outcome = 'cancelled' and not_before is not null`)
		})
	}
}

func ids(rows []planted) (ids []invitation.RowID) {
	for _, p := range rows {
		ids = append(ids, p.RowID)
	}
	return ids
}

// TestMarksStopRows checks what Next says after a sweep has withdrawn rows, and after it has given
// them back.
func TestMarksStopRows(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	rows := plantSituations(l)
	before := map[invitation.RowID]invitation.ActionKind{}
	for _, p := range rows {
		before[p.RowID] = l.Load(p.RowID).Next().Kind
	}
	l.Tx(func(ctx context.Context, tx pgx.Tx) error { return ledger.MarkWithdrawn(ctx, tx, 2, ids(rows)) })
	for _, p := range rows {
		c := l.Load(p.RowID)
		switch a := c.Next(); {
		case p.was != "undecided" && a.Kind != invitation.Nothing,
			p.was == "undecided" && a.Kind == invitation.Claim,
			p.was == "undecided" && a.Kind == invitation.Nothing,
			p.was == "undecided" && a.Kind == invitation.Decide && a.Reason != "withdrawn":
			t.Errorf("%s, withdrawn: %+v", p, a)
		}
	}
	for _, p := range rows {
		want := map[string]string{"waits": "(2,)", "invited": "(,)", "swept": "(1,{2})", "sweptfailed": "(1,)"}[p.name]
		if want != "" { // sweep 1 keeps its marks
			l.Is(want, `select (withdrawn_by, also_withdrawn_by) from results
				where batch_id = $1 and row_number = $2`, p.Batch, p.Row)
		}
	}
	l.Tx(func(ctx context.Context, tx pgx.Tx) error { return ledger.UnmarkWithdrawn(ctx, tx, 2) })
	for _, p := range rows {
		if a := l.Load(p.RowID).Next(); a.Kind != before[p.RowID] {
			t.Errorf("%s, given back: %s, want %s", p, a.Kind, before[p.RowID])
		}
	}
	l.Is("0", `select count(*) from results
		where outcome is null and (withdrawn_by = 2 or also_withdrawn_by @> array[2::bigint])`)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error { return ledger.UnmarkWithdrawn(ctx, tx, 1) })
	l.Is("0", `select count(*) from results where outcome is null and withdrawn_by is not null`)
}

// TestReopenedRowsStartAnew checks that Next treats a row that was opened again as a new one.
func TestReopenedRowsStartAnew(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	for _, p := range plantSituations(l) {
		if p.name != "failed" || p.state != invitation.Running {
			continue
		}
		l.Tx(func(ctx context.Context, tx pgx.Tx) error {
			_, err := ledger.Reopen(ctx, tx, p.Batch)
			return err
		})
		if a := l.Load(p.RowID).Next(); a.Kind != invitation.Read {
			t.Errorf("a row that was opened again: %+v, want a read", a)
		}
	}
}

// TestMarksHaveAFirst checks that nothing can free a row of one sweep and leave the mark of another, as processes of
// the version before would, which know only the first.
func TestMarksHaveAFirst(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	id := l.Batch("a")
	l.Exec(`insert into sweeps (instance_id, kind, started_by, apply, threshold) values
		($1, 'rescind', 'maria', true, 20), ($1, 'rescind', 'maria', true, 20)`, l.Instance)
	rows := []invitation.RowID{ledgertest.Row(id, 1)}
	for _, sweep := range []int64{1, 2} {
		l.Tx(func(ctx context.Context, tx pgx.Tx) error { return ledger.MarkWithdrawn(ctx, tx, sweep, rows) })
	}
	l.Is("(1,{2})", `select (withdrawn_by, also_withdrawn_by) from results`)
	_, err := l.Pool.Exec(t.Context(), `update results set withdrawn_by = null where withdrawn_by = 1 and outcome is null`)
	if err == nil || !strings.Contains(err.Error(), "results_withdrawn_first") {
		t.Errorf("the row is free, although another sweep withdrew it: %v", err)
	}
}
