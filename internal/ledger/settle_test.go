package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/ledger/ledgertest"
	"bulkinvite/internal/must"
)

// decides says how a row ended; close is how its open attempt is closed by that.
func decides(id invitation.RowID, name string, outcome invitation.Outcome, close string) ledger.Verdict {
	return ledger.Verdict{RowID: id, Key: ledgertest.Key(name), Action: invitation.Action{Kind: invitation.Decide, Outcome: outcome, Close: close}}
}

func TestNote(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c")
	id := l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 1, "a"), ledgertest.Person(batch, 2, "b"), ledgertest.Person(batch, 3, "c")))
	open := l.Note(id, ledger.Reply{Status: 200, TraceID: "trace", People: map[string]ledger.Said{
		ledgertest.Key("a"): {Answer: invitation.AnswerCreated, InvitationID: "inv_1"},
		ledgertest.Key("b"): {Answer: invitation.AnswerRejected, Code: "not_allowed_access"},
	}})
	if !open {
		t.Error("the first answer came too late")
	}
	l.Is("200 trace", `select http_status || ' ' || trace_id from attempts where answered_at is not null and read_after is null and error_code is null and resolved_at is null`)
	l.Is("{created:inv_1,rejected:not_allowed_access,NULL}",
		`select array_agg(answer || ':' || coalesce(clerk_invitation_id, error_code) order by key) from attempt_people where open`)
	l.Is("3", `select count(*) from results where outcome is null and tries = 0 and not_before is null`)
}

// When what an answer leaves unknown can be read.
func TestNoteReadAfter(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c")
	for i, tt := range []struct {
		name  string
		reply ledger.Reply
		from  string
		want  string // seconds after it
	}{
		{"a", ledger.Reply{Status: 200}, "answered_at", "null"},
		{"b", ledger.Reply{Status: 500, Read: true}, "deadline", "15"},
		{"c", ledger.Reply{Status: 400, Read: true, Soon: true}, "answered_at", "0"},
	} {
		id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, i+1, tt.name)))
		l.Note(id, tt.reply)
		l.Is(tt.want, `select round(extract(epoch from read_after - `+tt.from+`)) from attempts where id = $1`, id)
	}
}

// An answer that comes after the attempt was resolved, or a second one, is kept
// and changes nothing.
func TestNoteLate(t *testing.T) {
	t.Parallel()
	answer := ledger.Reply{Status: 200, Code: "late", TraceID: "trace", Backoff: time.Hour, People: map[string]ledger.Said{
		ledgertest.Key("a"): {Answer: invitation.AnswerCreated, InvitationID: "inv_1"}}}
	for name, before := range map[string]func(*bundle, int64, int64){
		"resolved by reading": func(l *bundle, batch, id int64) {
			l.Settle(ledgertest.Closes(ledgertest.Row(batch, 1), "a", invitation.ClosedNotThere))
		},
		"answered": func(l *bundle, _, id int64) { l.Note(id, ledger.Reply{Status: 500, Read: true}) },
		"resolved, and the row claimed again": func(l *bundle, batch, id int64) {
			l.Settle(ledgertest.Closes(ledgertest.Row(batch, 1), "a", invitation.ClosedNotThere))
			l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
		},
		"resolved, and the row decided": func(l *bundle, batch, id int64) {
			l.Settle(decides(ledgertest.Row(batch, 1), "a", invitation.AlreadyInvited, invitation.ClosedExists))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newBundle(t)
			batch := l.Batch("a")
			id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
			before(l, batch, id)
			state := func() string {
				return must.Read[string](l, l.Pool, `select (select json_agg(a order by id) from attempts a)::text || (select json_agg(p order by attempt_id) from attempt_people p)::text || (select json_agg(r) from results r)::text`)
			}
			was := state()
			if l.Note(id, answer) {
				t.Error("the answer was taken for the first")
			}
			expect.Equal(t, "after a late answer", state(), was)
			l.Is("200 late trace {inv_1}", `select http_status || ' ' || error_code || ' ' || trace_id || ' ' || clerk_invitation_ids::text from late_answers where attempt_id = $1`, id)
		})
	}
}

// A transient answer puts off the people that it does not name.
func TestNoteBacksOff(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c")
	id := l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 1, "a"), ledgertest.Person(batch, 2, "b"), ledgertest.Person(batch, 3, "c")))
	l.Exec(`update results set outcome = 'cancelled', decided_at = clock_timestamp() where row_number = 3`)
	l.Note(id, ledger.Reply{Status: 503, Code: "internal_clerk_error", Read: true, Backoff: time.Minute, People: map[string]ledger.Said{ledgertest.Key("b"): {Answer: invitation.AnswerRejected}}})
	l.Is("{1}", `select array_agg(row_number) from results where tries = 1 and last_error = 'internal_clerk_error' and transient_since is not null
		and not_before - clock_timestamp() between interval '50 s' and interval '60 s'`)
	l.Is("2", `select count(*) from results where tries = 0 and not_before is null and transient_since is null`)
	if yes, err := l.Picker.Waits(t.Context(), ledgertest.Row(batch, 1)); err != nil || yes {
		t.Errorf("a row that backs off waits: %v", err)
	}
}

// Only what was spent on trying counts towards giving up: not what passed
// between the end of a backoff and the next attempt, in a pause, say.
func TestNoteCountsTries(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a")
	transient := ledger.Reply{Status: 500, Code: "internal_clerk_error", Read: true, Backoff: time.Minute}
	try := func() {
		t.Helper()
		id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
		l.Note(id, transient)
		l.Settle(ledgertest.Closes(ledgertest.Row(batch, 1), "a", invitation.ClosedNotThere))
	}
	try()
	l.Exec(`update results set transient_since = clock_timestamp() - interval '30 hours', not_before = clock_timestamp() - interval '29 hours'`)
	if c := l.Load(ledgertest.Row(batch, 1)); c.Next().Kind == invitation.Decide {
		t.Errorf("after a pause: %+v", c.Next())
	}
	try()
	l.Is("1", `select round(extract(epoch from clock_timestamp() - transient_since) / 3600) from results`)
	l.Is("2", `select tries from results`)
	l.Exec(`update results set not_before = clock_timestamp() + interval '2 hours'`)
	try() // an attempt before the backoff ends, which should not be, adds nothing
	l.Is("1", `select round(extract(epoch from clock_timestamp() - transient_since) / 3600) from results`)

	// PostgreSQL was away for five hours while the answer waited to be written down.
	id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
	l.Exec(`update attempts set started_at = started_at - interval '5 hours', deadline = deadline - interval '5 hours' where id = $1`, id)
	l.Exec(`update results set transient_since = clock_timestamp() - interval '7 hours', not_before = clock_timestamp() - interval '5 hours'`)
	l.Note(id, transient)
	l.Is("2", `select round(extract(epoch from clock_timestamp() - transient_since) / 3600) from results`)
}

func TestSettleDecides(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a")
	id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
	read := l.Read("w", ledger.ReadAll, ledger.ReadEnd{})
	l.Exec(`update results set not_before = clock_timestamp()`)
	freed := l.Settle(ledger.Verdict{RowID: ledgertest.Row(batch, 1), Key: ledgertest.Key("a"), Action: invitation.Action{
		Kind: invitation.Decide, Outcome: invitation.Invited, Reason: "found_by_reading", Status: invitation.Accepted, InvitationID: "inv_1", UserID: "user_1",
		InvitedAt: ledgertest.At(1), ExpiresAt: ledgertest.At(2), AttemptID: id, ReadID: read.ID, Close: invitation.ClosedOurs}})
	if len(freed) != 0 {
		t.Errorf("freed %+v", freed)
	}
	l.Is("1", `select count(*) from results where outcome = 'invited' and reason = 'found_by_reading' and status = 'accepted' and status_at is not null and clerk_invitation_id = 'inv_1'
		and clerk_user_id = 'user_1' and invited_at = $1 and expires_at = $2 and attempt_id = $3 and read_id = $4 and decided_at is not null and not_before is null`, ledgertest.At(1), ledgertest.At(2), id, read.ID)
	l.Is("ours inv_1", `select resolution || ' ' || clerk_invitation_id from attempt_people where not open and closed_at is not null`)
	l.Is("read", `select resolution from attempts where resolved_at is not null`)
}

// A row is decided once: later decisions of any process change nothing.
func TestSettleOnce(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b")
	l.Settle(decides(ledgertest.Row(batch, 1), "a", invitation.AlreadyInvited, ""))
	was := must.Read[string](l, l.Pool, `select row(r)::text from results r where row_number = 1`)
	l.Settle(decides(ledgertest.Row(batch, 1), "a", invitation.Failed, ""))
	l.Settle(decides(ledgertest.Row(batch, 1), "a", invitation.Cancelled, invitation.ClosedNotThere))
	l.Is(was, `select row(r) from results r where row_number = 1`)

	// What was concluded before somebody claimed the row is void.
	id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 2, "b")))
	l.Settle(decides(ledgertest.Row(batch, 2), "b", invitation.AlreadyRegistered, ""))
	l.Is("null", `select outcome from results where row_number = 2`)
	l.Is("1", `select count(*) from attempt_people where attempt_id = $1 and open`, id)
}

// Two who settle one row at the same time: the second sees what the first did.
func TestSettleTogether(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a")
	done := make(chan error, 1)
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		if _, err := ledger.Settle(ctx, tx, l.Instance, []ledger.Verdict{decides(ledgertest.Row(batch, 1), "a", invitation.AlreadyInvited, "")}); err != nil {
			return err
		}
		go func() {
			done <- pgx.BeginFunc(ctx, l.Pool, func(tx pgx.Tx) error {
				_, err := ledger.Settle(ctx, tx, l.Instance, []ledger.Verdict{decides(ledgertest.Row(batch, 1), "a", invitation.Cancelled, "")})
				return err
			})
		}()
		l.AwaitBlocked()
		return nil
	})
	must.OK(t, <-done)
	l.Is("already_invited", `select outcome from results`)
}

// One invitation is one row's.
func TestSettleOneInvitation(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	one, two := decides(ledgertest.Row(l.Batch("a"), 1), "a", invitation.Invited, ""), decides(ledgertest.Row(l.Batch("a"), 1), "a", invitation.Invited, "")
	one.InvitationID, two.InvitationID = "inv_1", "inv_1"
	l.Settle(one)
	err := pgx.BeginFunc(t.Context(), l.Pool, func(tx pgx.Tx) error {
		_, err := ledger.Settle(t.Context(), tx, l.Instance, []ledger.Verdict{two})
		return err
	})
	if err == nil {
		t.Error("two rows are invited by one invitation")
	}
}

// Closing an attempt frees every undecided row of its people in running batches.
func TestSettleFrees(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch, urgent, paused, decided, later := l.Batch("a", "b", "c"), l.BatchOf(invitation.Batch{Priority: 1}, "x", "a"), l.Batch("a"), l.Batch("a", "z"), l.Batch("a")
	l.SetState(paused, invitation.Paused)
	l.Decide(ledgertest.Row(decided, 1), invitation.AlreadyInvited)
	l.Exec(`update results set not_before = clock_timestamp() + interval '1 hour' where batch_id = $1`, later)
	until := must.Read[time.Time](l, l.Pool, `select not_before from results where batch_id = $1`, later)
	one := l.Instance
	l.Instance = l.NewInstance("ins_two")
	l.Batch("a")
	l.Instance = one

	l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 1, "a"), ledgertest.Person(batch, 2, "b")))
	freed := l.Settle(ledgertest.Closes(ledgertest.Row(batch, 1), "a", invitation.ClosedNotThere))
	var got []string
	for _, f := range freed {
		got = append(got, fmt.Sprint(f.RowID, f.Priority, f.At != nil && f.At.Equal(until)))
	}
	want := []string{fmt.Sprint(ledgertest.Row(batch, 1), 2, false), fmt.Sprint(ledgertest.Row(urgent, 2), 1, false), fmt.Sprint(ledgertest.Row(later, 1), 2, true)}
	if !slices.Equal(got, want) {
		t.Errorf("freed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	l.Is("1", `select count(*) from attempts where resolved_at is null`) // b is still open
	if freed := l.Settle(decides(ledgertest.Row(batch, 2), "b", invitation.Invited, invitation.ClosedAnswered)); len(freed) != 0 {
		t.Errorf("freed by a decision about the only row of a person: %+v", freed)
	}
	l.Is("1", `select count(*) from attempts where resolved_at is not null`)
	l.Attempt(ledgertest.Single(ledgertest.Person(urgent, 2, "a"))) // can be claimed again
}

// What becomes of an attempt when the last of its people is closed.
func TestSettleResolves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		hows []string // of a bulk call's people
		want string
	}{
		{[]string{"answered", "answered"}, "answered"},
		{[]string{"refused", "refused"}, "refused"},
		{[]string{"not_sent", "not_sent"}, "not_sent"},
		{[]string{"answered", "refused"}, "answered"},
		{[]string{"answered", "not_there"}, "read"},
		{[]string{"ours", "not_there"}, "read"},
		{[]string{"exists", "answered"}, "read"},
		{[]string{"user", "refused"}, "read"},
		{[]string{"not_there", "not_there"}, "read"},
		{[]string{"not_there", ""}, "null"}, // one is still open
	} {
		t.Run(strings.Join(tt.hows, " and "), func(t *testing.T) {
			t.Parallel()
			l := newBundle(t)
			batch := l.Batch("a", "b")
			id := l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 1, "a"), ledgertest.Person(batch, 2, "b")))
			for i, how := range tt.hows {
				if how != "" {
					l.Settle(ledgertest.Closes(ledgertest.Row(batch, i+1), []string{"a", "b"}[i], how))
				}
			}
			l.Is(tt.want, `select resolution from attempts where id = $1 and (resolved_at is null) = (resolution is null)`, id)
		})
	}
}

// What earlier attempts came to is history.
func TestSettleLeavesHistory(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a")
	first := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
	l.Settle(ledgertest.Closes(ledgertest.Row(batch, 1), "a", invitation.ClosedNotSent))
	state := `select (select row(a) from attempts a where id = $1)::text || (select row(p) from attempt_people p where attempt_id = $1)::text`
	was := must.Read[string](l, l.Pool, state, first)
	l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
	v := decides(ledgertest.Row(batch, 1), "a", invitation.Invited, invitation.ClosedOurs)
	v.InvitationID = "inv_1"
	l.Settle(v)
	l.Is(was, state, first)
}

// A row of a call that was refused for somebody unnamed goes alone from then on;
// a decided one stays as it is.
func TestSettleAlone(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a", "b", "c")
	l.Attempt(ledgertest.Bulk(ledgertest.Person(batch, 1, "a"), ledgertest.Person(batch, 2, "b"), ledgertest.Person(batch, 3, "c")))
	alone, decided, crowd := ledgertest.Closes(ledgertest.Row(batch, 1), "a", invitation.ClosedNotThere), decides(ledgertest.Row(batch, 2), "b", invitation.AlreadyRegistered, invitation.ClosedUser), ledgertest.Closes(ledgertest.Row(batch, 3), "c", invitation.ClosedNotThere)
	alone.Alone, decided.Alone = true, true
	l.Settle(alone, decided, crowd)
	l.Is("{1}", `select array_agg(row_number) from results where alone`)
}

// A standby that was promoted, or a restored database, may lack attempts whose answers
// a worker still holds. Such an answer shows nothing that reads do not find again, and
// must not be written again and again.
func TestAnswerToAForgottenAttempt(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	said := map[string]ledger.Said{ledgertest.Key("a"): {Answer: invitation.AnswerCreated, InvitationID: "inv_1"}}
	if l.Note(4711, ledger.Reply{Status: 200, TraceID: "trace", People: said}) {
		t.Error("the attempt is open")
	}
	l.Is("0", `select count(*) from late_answers`)
}

// A standby that was promoted without the last commits gives the numbers of attempts
// out again. An answer to the attempt that it has forgotten says nothing of the one
// that has its number now: were it taken for that one's, reading could begin while
// the request is still under way, and its person would be mailed twice.
func TestAnswerToAnEarlierAttemptOfTheNumber(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a")
	id := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
	for _, r := range []ledger.Reply{
		{Status: 500, Code: "internal_clerk_error", Read: true},
		{NotSent: true, Code: "not_sent"},
		{Status: 200, TraceID: "trace", People: map[string]ledger.Said{ledgertest.Key("b"): {Answer: invitation.AnswerCreated, InvitationID: "inv_b"}}},
	} {
		n := l.Noted(id, r)
		n.Started = n.Started.Add(-time.Minute)
		l.Tx(func(ctx context.Context, tx pgx.Tx) error {
			open, err := ledger.Note(ctx, tx, ledgertest.Settle, n)
			if open[id] {
				t.Errorf("%+v is taken for the answer to another attempt", r)
			}
			return err
		})
	}
	l.Is("1", `select count(*) from attempts where answered_at is null and http_status is null and read_after is null and resolved_at is null`)
	l.Is("0", `select count(*) from late_answers`)
}

// An invitation whose link was lost, and whose revoke Clerk refused, is there all the
// same when its batch is cancelled.
func TestCancelKeepsTheLostLink(t *testing.T) {
	t.Parallel()
	l := newBundle(t)
	batch := l.Batch("a")
	l.Exec(`update batches set links_file = '/links.csv' where id = $1`, batch)
	made := l.Attempt(ledgertest.Single(ledgertest.Person(batch, 1, "a")))
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := ledger.Settle(ctx, tx, l.Instance, []ledger.Verdict{{RowID: ledgertest.Row(batch, 1), Key: ledgertest.Key("a"),
			Action: invitation.Action{Kind: invitation.Claim, Close: invitation.ClosedOurs, InvitationID: "inv_1"}}})
		return err
	})
	p := ledgertest.Person(batch, 1, "a")
	p.InvitationID = "inv_1"
	revoke := l.Attempt(ledger.Request{Call: ledger.CallRevoke, Bucket: "general", People: []ledger.Person{p}})
	l.Tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := ledger.CloseOwnRevoke(ctx, tx, l.Instance, revoke, p, "", invitation.ClosedRefused, false)
		return err
	})
	l.SetState(batch, invitation.StateCancelled)
	if _, err := ledger.CancelRows(t.Context(), l.Pool, l.Instance); err != nil {
		t.Fatal(err)
	}
	l.Is("(invited,link_lost,inv_1,1)", `select (outcome, reason, clerk_invitation_id, attempt_id) from results`)
	expect.Equal(t, "the attempt of the create", made, 1)
}
