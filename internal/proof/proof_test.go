package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
	"bulkinvite/internal/proof"
	"bulkinvite/internal/report"
)

// bundle is a ledger for tests.
type bundle struct{ *ledgertest.Bundle }

func newBundle(t *testing.T) *bundle { return &bundle{ledgertest.New(t)} }

// ended makes a batch of as many people that has ended: of each ten, nine were
// invited by a bulk call, and the tenth failed. Its first retry is still to come.
func (l *bundle) ended(n int) int64 {
	l.Helper()
	batch := l.Batch()
	l.Exec(`insert into results (batch_id, row_number, instance_id, line, original, email, key, public_metadata, notes)
		select $1, n, $2, n + 1, array['P' || n || '@Example.com', 'Name ' || n], 'p' || n || '@example.com', 'p' || n || '@example.com', '{"n": 1}', array['trimmed']
		from generate_series(1, $3::int) n`, batch, l.Instance, n)
	l.Exec(`insert into attempts (instance_id, bucket, call, worker_id, deadline, answered_at, http_status, trace_id, resolved_at, resolution)
		select $1, 'bulk', 'bulk', 'w', now(), now(), 200, 'trace-' || n, now(), 'answered' from generate_series(1, ($2::int + 9) / 10) n`, l.Instance, n)
	l.Exec(`insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, clerk_invitation_id, closed_at, resolution)
		select (row_number + 9) / 10, instance_id, key, batch_id, row_number, false, case when row_number % 10 = 0 then null else 'created' end,
		       case when row_number % 10 = 0 then null else 'inv_' || row_number end, now(), case when row_number % 10 = 0 then 'not_there' else 'answered' end
		from results where batch_id = $1`, batch)
	l.Exec(`update results set outcome = case when row_number % 10 = 0 then 'failed' else 'invited' end, reason = case when row_number % 10 = 0 then 'timeout' end,
		clerk_invitation_id = case when row_number % 10 <> 0 then 'inv_' || row_number end, status = case when row_number % 10 <> 0 then 'pending' end,
		decided_at = clock_timestamp(), attempt_id = (row_number + 9) / 10 where batch_id = $1`, batch)
	l.Exec(`update batches set state = 'done', rows = $2, finished_at = clock_timestamp(), certificate = null where id = $1`, batch, n)
	return batch
}

func (l *bundle) certify(batch int64) *proof.Certificate {
	l.Helper()
	if _, err := proof.Certify(l.Context(), l.Pool, l.Instance); err != nil {
		l.Fatal(err)
	}
	c, err := proof.ReadCertificate(l.Context(), l.Pool, batch)
	if err != nil || c == nil {
		l.Fatalf("no certificate: %v", err)
	}
	return c
}

func (l *bundle) verify(batch int64, head *invitation.Hash) *proof.Verification {
	l.Helper()
	v, err := proof.Verify(l.Context(), l.Pool, batch, head)
	must.OK(l, err)
	if v.Holds != (len(v.Differences) == 0) {
		l.Errorf("holds: %v, with %v", v.Holds, v.Differences)
	}
	return v
}

// TestCertificateFindsWhatWasChanged plays whoever owns the tables, and so can
// get past the triggers.
func TestCertificateFindsWhatWasChanged(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.ended(2500)
	c := l.certify(batch)
	if c.Number != 1 || c.Rows != 2500 || c.Attempts != 2500 || c.Outcomes[invitation.Invited] != 2250 || c.Outcomes[invitation.Failed] != 250 {
		t.Fatalf("%+v", c)
	}
	if v := l.verify(batch, &c.Head); !v.Holds || v.Certificate.Head != c.Head {
		t.Fatalf("untouched: %+v", v)
	}
	if v := l.verify(batch, nil); !v.Holds {
		t.Fatalf("untouched, without its head: %+v", v)
	}
	rows := func(from, to int64) proof.Difference {
		return proof.Difference{What: proof.DiffersRows, From: from, To: to}
	}
	attempts := proof.Difference{What: proof.DiffersAttempts}
	whole := proof.Difference{What: proof.DiffersBatch}
	for _, test := range []struct {
		name, do string
		want     []proof.Difference
	}{
		{"an outcome", `update results set outcome = 'already_invited' where batch_id = $1 and row_number = 7`, []proof.Difference{rows(1, 1000)}},
		{"an address", `update results set email = 'eve@example.com' where batch_id = $1 and row_number = 2500`, []proof.Difference{rows(2001, 3000)}},
		{"a cell", `update results set original[2] = 'Eve' where batch_id = $1 and row_number = 1000`, []proof.Difference{rows(1, 1000)}},
		{"when it was decided", `update results set decided_at = decided_at + interval '1 us' where batch_id = $1 and row_number = 1001`, []proof.Difference{rows(1001, 2000)}},
		{"a row is deleted", `delete from results where batch_id = $1 and row_number = 1500`, []proof.Difference{rows(1001, 2000)}},
		{"the last rows are deleted", `delete from results where batch_id = $1 and row_number > 1999`, []proof.Difference{rows(1001, 2000), rows(2001, 3000)}},
		{"a row is added", `insert into results (batch_id, row_number, instance_id, line, original, outcome, decided_at) values ($1, 3001, 1, 3002, '{}', 'invalid', now())`,
			[]proof.Difference{rows(3001, 4000)}},
		{"two rows are swapped", `update results r set outcome = o.outcome, clerk_invitation_id = o.clerk_invitation_id || 'x', attempt_id = o.attempt_id, decided_at = o.decided_at, reason = o.reason
			from results o where r.batch_id = $1 and o.batch_id = $1 and (r.row_number, o.row_number) in ((9, 10), (10, 9))`, []proof.Difference{rows(1, 1000)}},
		{"two people are swapped", `update results r set email = o.email, key = o.key, original = o.original
			from results o where r.batch_id = $1 and o.batch_id = $1 and (r.row_number, o.row_number) in ((1, 1200), (1200, 1))`, []proof.Difference{rows(1, 1000), rows(1001, 2000)}},
		{"an attempt is changed", `update attempts set trace_id = 'other' where id = 3 and $1 > 0`, []proof.Difference{attempts}},
		{"its person is changed", `update attempt_people set answer = 'created' where attempt_id = 1 and row_number = 10 and batch_id = $1`, []proof.Difference{attempts}},
		{"an attempt is deleted", `delete from attempt_people where attempt_id = 250 and batch_id = $1`, []proof.Difference{attempts}},
		{"an attempt is added", `with a as (insert into attempts (instance_id, bucket, call, worker_id, deadline, resolved_at, resolution) values (1, 'create', 'create', 'w', now(), now(), 'answered') returning id)
			insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open) select id, 1, 'p5@example.com', $1, 5, false from a`,
			[]proof.Difference{{What: proof.DiffersAdded, From: 251, To: 251}}},
		{"an attempt is added in between", `insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open) values (9, 1, 'p5@example.com', $1, 5, false)`, []proof.Difference{attempts}},
		{"another file", `update batches set file_sha256 = '\x00' where id = $1`, []proof.Difference{whole}},
		{"another sender", `update batches set actor = 'eve' where id = $1`, []proof.Difference{whole}},
		{"the certificate's counts", `update certificates set outcomes = '{"invited": 2500}' where batch_id = $1`, []proof.Difference{whole}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &bundle{&ledgertest.Bundle{T: t, Pool: l.Pool, Instance: l.Instance}}
			undo := errors.New("undo")
			err := pgx.BeginFunc(t.Context(), l.Pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `set local session_replication_role = replica`); err != nil {
					return err
				}
				if tag, err := tx.Exec(t.Context(), test.do, batch); err != nil || tag.RowsAffected() == 0 {
					t.Fatalf("%v, %v", tag, err)
				}
				v, err := proof.VerifyIn(t.Context(), tx, batch, &c.Head)
				if err != nil {
					return err
				}
				if !slices.Equal(v.Differences, test.want) {
					t.Errorf("found %+v, want %+v", v.Differences, test.want)
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Fatal(err)
			}
		})
	}

	// Whoever changes a row and has the chain made anew is found by the head alone.
	l.Exec(`update results set outcome = 'already_invited' where batch_id = $1 and row_number = 7`, batch)
	l.Exec(`delete from certificates where batch_id = $1`, batch)
	l.Exec(`update batches set certificate = null where id = $1`, batch)
	anew := l.certify(batch)
	if v := l.verify(batch, nil); !v.Holds {
		t.Errorf("made anew, held against itself: %+v", v)
	}
	if v := l.verify(batch, &c.Head); v.Holds || !slices.Equal(v.Differences, []proof.Difference{{What: proof.DiffersHead}}) || v.Certificate.Head != anew.Head {
		t.Errorf("made anew: %+v", v)
	}
}

// TestCertificatesOfRetries: each end has its own, and those before hold for ever.
func TestCertificatesOfRetries(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	id2 := l.ended(40)
	first := l.certify(id2)
	retry := func() {
		l.Tx(func(ctx context.Context, tx pgx.Tx) error {
			rows, err := batch.RetryBatch(ctx, tx, &invitation.Batch{ID: id2, InstanceID: l.Instance}, "maria")
			if len(rows) != 4 && len(rows) != 3 {
				t.Errorf("retried %v", rows)
			}
			return err
		})
	}
	retry()
	if c, err := proof.ReadCertificate(t.Context(), l.Pool, id2); c != nil || err != nil {
		t.Errorf("a batch that was opened again has %+v, %v", c, err)
	}
	if v := l.verify(id2, &first.Head); !v.Holds {
		t.Errorf("the first end, while it is retried: %+v", v)
	}
	id := l.Attempt(ledgertest.Single(ledgertest.Person(id2, 10, "p10")))
	if n, err := proof.Certify(t.Context(), l.Pool, l.Instance); n != 0 || err != nil {
		t.Errorf("certified %d, %v, with rows undecided", n, err)
	}
	l.answered(id, ledgertest.Row(id2, 10), invitation.Invited)
	l.Exec(`update results set outcome = 'failed', reason = 'again', decided_at = clock_timestamp() where batch_id = $1 and outcome is null`, id2)
	if n, err := batch.Finish(t.Context(), l.Pool, l.Instance); n != 1 || err != nil {
		t.Fatalf("finished %d, %v", n, err)
	}
	second := l.certify(id2)
	retry()
	l.Exec(`update results set outcome = 'rejected', decided_at = clock_timestamp() where batch_id = $1 and outcome is null`, id2)
	if _, err := batch.Finish(t.Context(), l.Pool, l.Instance); err != nil {
		t.Fatal(err)
	}
	third := l.certify(id2)
	if first.Number != 1 || second.Number != 2 || third.Number != 3 || second.Attempts != first.Attempts+1 || second.Outcomes[invitation.Failed] != 3 || third.Outcomes[invitation.Rejected] != 3 {
		t.Errorf("%+v\n%+v\n%+v", first, second, third)
	}
	for _, c := range []*proof.Certificate{first, second, third} {
		if v := l.verify(id2, &c.Head); !v.Holds || v.Certificate.Number != c.Number {
			t.Errorf("certificate %d: %+v", c.Number, v)
		}
	}
	l.Exec(`update retries set reason = 'other' where batch_id = $1 and row_number = 20 and reason = 'timeout'`, id2)
	if v := l.verify(id2, &first.Head); v.Holds {
		t.Error("what a retry opened again was changed: the end before it holds all the same")
	}
	if v := l.verify(id2, &second.Head); !v.Holds {
		t.Errorf("the end after it: %+v", v)
	}
}

// answered closes an attempt for one person and decides the row.
func (l *bundle) answered(attempt int64, id invitation.RowID, outcome invitation.Outcome) {
	l.Helper()
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		k := must.Read[string](l, l.Pool, `select key from results where batch_id = $1 and row_number = $2`, id.Batch, id.Row)
		said := map[string]ledger.Said{k: {Answer: "created", InvitationID: "inv_of_" + k}}
		if _, err := ledger.Note(ctx, tx, 0, l.Noted(attempt, ledger.Reply{Status: 200, TraceID: "t", People: said})); err != nil {
			return err
		}
		_, err := ledger.Settle(ctx, tx, l.Instance, []ledger.Verdict{{RowID: id, Key: k, Action: invitation.Action{
			Kind: invitation.Decide, Outcome: outcome, InvitationID: "inv_of_" + k, Status: invitation.Pending, AttemptID: attempt, Close: "answered"}}})
		return err
	})
}

// TestOpenAttemptPutsOffTheCertificate: one that also carries people of another
// batch, whose answer may still be recorded.
func TestOpenAttemptPutsOffTheCertificate(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	one, other := l.Batch("a"), l.Batch("b")
	id := l.Attempt(ledgertest.Bulk(ledgertest.Person(one, 1, "a"), ledgertest.Person(other, 1, "b")))
	l.answered(id, ledgertest.Row(one, 1), invitation.Invited)
	if n, err := batch.Finish(t.Context(), l.Pool, l.Instance); n != 1 || err != nil {
		t.Fatalf("finished %d, %v", n, err)
	}
	if n, err := proof.Certify(t.Context(), l.Pool, l.Instance); n != 0 || err != nil {
		t.Errorf("certified %d, %v, while the attempt is open", n, err)
	}
	l.Exec(`update attempt_people set open = false where attempt_id = $1`, id)
	l.Exec(`update attempts set resolved_at = now(), resolution = 'read' where id = $1`, id)
	c := l.certify(one)
	if v := l.verify(one, &c.Head); !v.Holds {
		t.Errorf("%+v", v)
	}
	if _, err := proof.Verify(t.Context(), l.Pool, other, nil); !errors.Is(err, proof.ErrNoCertificate) {
		t.Errorf("a batch that runs: %v", err)
	}
	if _, err := proof.Verify(t.Context(), l.Pool, 99, nil); !errors.Is(err, invitation.ErrNoBatch) {
		t.Errorf("no batch: %v", err)
	}
	var details string
	if err := l.Pool.QueryRow(t.Context(), `select details::text from events where action = 'certified' and batch_id = $1`, one).Scan(&details); err != nil || !strings.Contains(details, c.Head.String()) {
		t.Errorf("event: %s, %v", details, err)
	}
	if b, err := json.Marshal(c); err != nil || !strings.Contains(string(b), `"head":"`+c.Head.String()+`"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestEvidenceFillsOnce tries as the program's own role what must not be done.
func TestEvidenceFillsOnce(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	id := l.ended(20)
	l.certify(id)
	running := l.Batch("a")
	l.Attempt(ledgertest.Single(ledgertest.Person(running, 1, "a")))
	l.Batch("z")
	l.Exec(`insert into late_answers (attempt_id) values (1)`)
	l.Exec(`insert into attempts (instance_id, bucket, call, worker_id, deadline, resolved_at, resolution) values ($1, 'create', 'create', 'w', now(), now(), 'read')`, l.Instance)
	l.Exec(`insert into erasures (kind, actor) values ('erase', 'maria')`)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := batch.RetryBatch(ctx, tx, &invitation.Batch{ID: id, InstanceID: l.Instance}, "maria")
		return err
	})
	for _, sql := range []string{
		`update events set actor = 'eve'`, `delete from events`, `truncate events`,
		`update attempts set http_status = 201 where id = 1`, `update attempts set trace_id = null where id = 1`, `update attempts set resolution = 'read' where id = 1`,
		`update attempts set started_at = started_at - interval '1 s' where resolved_at is null`, `update attempts set worker_id = 'other' where resolved_at is null`,
		`delete from attempts where id = 1`, `delete from attempts where resolved_at is null`, `truncate attempts cascade`,
		`update attempt_people set open = true where attempt_id = 1`, `update attempt_people set answer = 'exists' where attempt_id = 1 and answer is not null`,
		`update attempt_people set key = 'eve.' || key where attempt_id = 1`, `update attempt_people set clerk_invitation_id = 'inv_x' where attempt_id = 1 and clerk_invitation_id is not null`,
		`update attempt_people set key = 'erased:' || repeat('0', 64) where open`, `delete from attempt_people where attempt_id = 2`,
		`update attempt_people set answer = answer; delete from attempt_people where attempt_id = 2`, `update attempts set read_after = read_after; delete from attempts where resolved_at is null`,
		`update attempt_people set open = false where open`, `update attempts set answered_at = now(), http_status = 200, trace_id = 'x' where resolution = 'read'`,
		`update results set outcome = 'failed' where outcome = 'invited'`, `update results set outcome = null, decided_at = null where outcome = 'invited'`,
		`update results set reason = 'x' where outcome = 'invited'`, `update results set attempt_id = 2 where outcome = 'invited' and row_number = 1`,
		`update results set clerk_invitation_id = 'inv_x' where outcome = 'invited' and row_number = 1`, `update results set decided_at = now() where outcome = 'invited'`,
		`update results set email = 'eve@example.com' where outcome is null`, `update results set key = 'eve@example.com' where row_number = 1`, `update results set original = '{}' where row_number = 1`,
		`update results set row_number = row_number + 100 where batch_id = 3`, `update results set erased_by = 1 where row_number = 1`, `update results set private_hash = '\x00' where row_number = 1`,
		`delete from results where batch_id = 3`, `truncate results cascade`,
		`update batches set file_sha256 = '\x00'`, `update batches set actor = 'eve'`, `update batches set rows = 1`, `update batches set state = 'draft'`, `delete from batches`,
		`update certificates set head = '\x00'`, `delete from certificates`, `update retries set reason = 'x'`, `delete from retries`, `update late_answers set http_status = 200`, `delete from late_answers`,
	} {
		_, err := l.Pool.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "23000" || !strings.Contains(pg.Message, "is refused") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{ // what the program does
		`update attempts set read_after = now() where resolved_at is null`, `update results set status = 'accepted', status_at = now() where outcome = 'invited'`,
		`update results set not_before = now(), tries = 3, last_error = 'x', alone = true where outcome is null`, `update batches set state = 'paused', paused_by = 'person' where state = 'running'`,
	} {
		if tag, err := l.Pool.Exec(t.Context(), sql); err != nil || tag.RowsAffected() == 0 {
			t.Errorf("%s: %v, %v", sql, tag, err)
		}
	}
	// A failed row opens again on the record alone.
	l.Exec(`update results set outcome = 'failed', decided_at = now() where batch_id = $1 and outcome is null`, id)
	if _, err := l.Pool.Exec(t.Context(), `update results set outcome = null, decided_at = null where outcome = 'failed'`); err == nil || !strings.Contains(err.Error(), "on record") {
		t.Errorf("opened again off the record: %v", err)
	}
}

// TestAuditFilters: each narrows, alone and together.
func TestAuditFilters(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.ended(20)
	other := l.Batch("a", "b")
	l.Exec(`update batches set actor = 'tom', created_at = '2026-05-01' where id = $1`, other)
	l.Exec(`update batches set created_at = '2026-03-01', finished_at = '2026-03-31' where id = $1`, batch)
	l.Exec(`update results set decided_at = timestamptz '2026-03-01' + row_number * interval '1 day' where batch_id = $1`, batch)
	l.Exec(`update results set status = 'accepted' where batch_id = $1 and row_number <= 3`, batch)
	l.Exec(`insert into late_answers (attempt_id, trace_id) values (2, 'late')`)
	day := func(month time.Month, day int) time.Time { return time.Date(2026, month, day, 0, 0, 0, 0, time.UTC) }
	for _, test := range []struct {
		name   string
		filter report.AuditFilter
		want   int
	}{
		{"all", report.AuditFilter{}, 22},
		{"key", report.AuditFilter{Key: "p7@example.com"}, 1},
		{"batch", report.AuditFilter{Batch: other}, 2},
		{"outcome", report.AuditFilter{Outcome: invitation.Failed}, 2},
		{"status", report.AuditFilter{Status: invitation.Accepted}, 3},
		{"actor", report.AuditFilter{Actor: "tom"}, 2},
		{"since", report.AuditFilter{Since: day(3, 11)}, 13},
		{"until", report.AuditFilter{Until: day(3, 11)}, 9},
		{"between", report.AuditFilter{Since: day(3, 5), Until: day(3, 7)}, 2},
		{"imported since", report.AuditFilter{Since: day(4, 15)}, 2},
		{"trace", report.AuditFilter{Trace: "trace-1"}, 10},
		{"trace of a late answer", report.AuditFilter{Trace: "late"}, 10},
		{"no such trace", report.AuditFilter{Trace: "x"}, 0},
		{"together", report.AuditFilter{Actor: "maria", Status: invitation.Pending, Since: day(3, 5), Until: day(3, 12), Trace: "trace-1"}, 6},
	} {
		n := 0
		err := report.Audit(t.Context(), l.Pool, test.filter, func(*report.AuditRow) error { n++; return nil })
		if err != nil || n != test.want {
			t.Errorf("%s: %d rows, %v; want %d", test.name, n, err, test.want)
		}
	}
}

// TestCertificateFromBefore: one that does not cover reads holds as what it is,
// and can't be taken for one that does.
func TestCertificateFromBefore(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.ended(2500)
	l.Exec(`insert into reads (instance_id, worker_id, call, pass_begun_at, ended_at) values ($1, 'w', 'users', now(), now())`, l.Instance)
	l.Exec(`update results set outcome = 'already_registered', clerk_invitation_id = null, clerk_user_id = 'user_1', attempt_id = null, read_id = 1, status = null
		where batch_id = $1 and row_number = 3`, batch)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error { return proof.CertifyBefore(ctx, tx, batch) })
	c := l.certify(batch)
	if c.Format != 1 || c.Reads != 0 || c.Rows != 2500 {
		t.Fatalf("%+v", c)
	}
	if v := l.verify(batch, &c.Head); !v.Holds {
		t.Errorf("untouched: %+v", v)
	}
	l.Exec(`update reads set http_status = 500`)
	if v := l.verify(batch, &c.Head); !v.Holds {
		t.Errorf("with a read that it does not cover: %+v", v)
	}
	l.Exec(`update results set outcome = 'rejected' where batch_id = $1 and row_number = 1700`, batch)
	if v := l.verify(batch, &c.Head); !slices.Equal(v.Differences, []proof.Difference{{What: proof.DiffersRows, From: 1001, To: 2000}}) {
		t.Errorf("with a row changed: %+v", v.Differences)
	}
	l.Exec(`update certificates set format = 2`)
	if v := l.verify(batch, &c.Head); v.Holds {
		t.Error("it can be taken for one that covers reads")
	}
}
