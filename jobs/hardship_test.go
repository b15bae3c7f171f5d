package jobs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// unlimited is a Clerk that refuses nothing for a limit.
var unlimited = sandbox.Limits{Create: sandbox.Limit{N: -1}, Bulk: sandbox.Limit{N: -1}, General: sandbox.Limit{N: -1}}

// One person whom Clerk fails over keeps neither the others of the batch waiting nor a batch that needs no read. Their
// row backs off as after a transient answer, and is failed after a day of it.
func TestUnreadablePersonBeforeClaims(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "users", Address: person(3), Kind: sandbox.FaultStatus, Status: 500}}})
	first := b.batch(20, person)
	second := b.batch(20, func(i int) string { return "other" + person(i) })
	b.exec(`update batches set preflight = false where id = $1`, second)
	b.whenUndecided(b.worker(quick), first, 1)
	b.run(b.worker(quick), second)
	for batch, want := range map[int64]int{first: 19, second: 20} {
		b.want(batch, tally{"invited": want})
	}
	one := `select count(*) from results where batch_id = $1 and key = $2`
	b.counts(1, "unreadable ones that back off with the code",
		one+` and tries > 0 and last_error = 'internal_clerk_error' and not_before is not null and users_read_id is null`, first, person(3))
	b.counts(0, "requests for the unreadable one", `select count(*) from attempt_people where key = $1`, person(3))
	b.exec(`update results set transient_since = now() - interval '25 h' where batch_id = $1 and key = $2`, first, person(3))
	b.run(b.worker(quick), first)
	if n := b.count(one+` and outcome = 'failed' and reason = 'internal_clerk_error'`, first, person(3)); n != 1 {
		t.Errorf("outcomes %v, want the unreadable one failed with the code", b.outcomes(first))
	}
	b.proven(first, second)
}

// Where Clerk can't say of one to three people whether they are users, they are not taken for none: nobody is asked for
// before it does, and no read is complete.
func TestUsersOutageIsNoAnswer(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]sandbox.Fault{
		"500":          {Kind: sandbox.FaultStatus, Status: 500},
		"proxy's page": {Kind: sandbox.FaultStatus, Status: 403, HTML: true},
		"cut":          {Kind: sandbox.FaultCutBefore},
		"unknown code": {Kind: sandbox.FaultStatus, Status: 400, Code: "a_code_of_tomorrow"},
	} {
		for n := 1; n <= 3; n++ {
			t.Run(fmt.Sprintf("%s, %d people", name, n), func(t *testing.T) {
				t.Parallel()
				fault.Call = "users"
				b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{fault}})
				b.sandbox.Tell("users", fmt.Sprintf(`[%q]`, person(0)))
				batch := b.batch(n, person)
				must.OK(t, b.worker(quick).Run(t.Context(), func(ctx context.Context) (bool, error) {
					return b.count(`select count(*) from reads where call = 'users' and ended_at is not null`) >= 3 || b.outcomes(batch)[""] == 0, nil
				}))
				if got := b.outcomes(batch); got[""] != n || b.count(`select count(*) from attempts`) != 0 {
					t.Errorf("outcomes %v and %d requests during the outage, want %d undecided and none", got, b.count(`select count(*) from attempts`), n)
				}
				b.counts(0, "reads of users are complete", `select count(*) from reads where call = 'users' and complete`)
				b.sandbox.Tell("faults", "[]")
				b.run(b.worker(quick), batch)
				b.want(batch, tally{"already_registered": 1, "invited": n - 1})
				b.proven(batch)
			})
		}
	}
}

// Where Clerk refuses an address as no parameter of the question, that is an answer: the person counts as read, and
// the read says what it was.
func TestRefusedAddressIsRead(t *testing.T) {
	t.Parallel()
	refused := refuse("users", 422, "form_param_format_invalid")
	refused.Address = person(3)
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{refused}})
	batch := b.batch(20, person)
	b.run(b.worker(quick), batch)
	b.want(batch, tally{"invited": 20})
	b.counts(1, "reads that say that Clerk refused the address",
		`select count(*) from reads d join results r on r.users_read_id = d.id
		where r.key = $1 and d.complete and d.http_status = 422 and d.error_code = 'form_param_format_invalid'`, person(3))
	b.proven(batch)
}

// Two whom Clerk fails over are told apart from an outage by the others, and back off each.
func TestTwoUnreadablePeople(t *testing.T) {
	t.Parallel()
	fails := func(i int) sandbox.Fault {
		return sandbox.Fault{Call: "users", Address: person(i), Kind: sandbox.FaultStatus, Status: 500}
	}
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{fails(3), fails(16)}})
	batch := b.batch(20, person)
	b.whenUndecided(b.worker(quick), batch, 2)
	b.exec(`update results set transient_since = now() - interval '25 h' where batch_id = $1 and outcome is null`, batch)
	b.run(b.worker(quick), batch)
	b.want(batch, tally{"invited": 18, "failed": 2})
	b.proven(batch)
}

// The same holds where a refused bulk call named nobody, and its people are read
// to find out who stood in its way.
func TestUnreadablePersonOfRefusedCall(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Blocked: []string{person(3)}, Switches: sandbox.Switches{Offenders: "none"},
		Faults: []sandbox.Fault{{Call: "users", Address: person(6), Kind: sandbox.FaultStatus, Status: 500}}})
	batch := b.batch(20, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	cfg := quick
	cfg.Create = ratelimit.Limit{Off: true}
	b.run(b.worker(cfg), batch)
	b.want(batch, tally{"invited": 19, "rejected": 1})
	b.proven(batch)
}

// Where users can't be read at all, what needs only the lists is settled.
func TestUnreadableUsersKeepOnlyTheirOwnOpen(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Blocked: []string{person(3)}, Switches: sandbox.Switches{Offenders: "none"},
		Faults: []sandbox.Fault{{Call: "users", Kind: sandbox.FaultStatus, Status: 500}, {Call: "create", Kind: sandbox.FaultCutAfter}}})
	batch := b.batch(15, person)
	b.exec(`update batches set preflight = false where id = $1`, batch)
	b.whenUndecided(b.worker(quick), batch, 10)
	b.want(batch, tally{"invited": 5})
	b.counts(10, "people of the refused call are open",
		`select count(*) from attempt_people p join results r using (batch_id, row_number) where p.open and r.outcome is null`)
}

// People who must go alone wait for a single without keeping the others from the
// bulk calls, and without being woken in vain.
func TestAloneWaitQuietly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ alone, bulk, undecided int }{
		"ahead of others": {40, 3, 69},
		"nobody else":     {100, 0, 99},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited})
			batch := b.batch(100, person)
			b.exec(`update results set alone = true where batch_id = $1 and row_number <= $2`, batch, test.alone)
			cfg := quick
			cfg.Create, cfg.Bulk = ratelimit.Limit{N: 1, Window: time.Hour}, ratelimit.Limit{N: 3, Window: time.Hour}
			w := b.worker(cfg)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx, nil) }()
			b.await("the budget is spent", func() bool {
				_, closed := w.gate.closed()
				return closed && b.outcomes(batch)[""] == test.undecided
			})
			// Nothing is to happen from now on.
			snoozes := `select coalesce(sum((metadata->>'snoozes')::int), 0) from river_job`
			must.OK(t, sleep(t.Context(), 3*time.Second))
			stop()
			expect.OK(t, <-ended)
			if n := b.count(snoozes); n > limitedWorkers+3*inFlight {
				t.Errorf("jobs snoozed %d times, want at most %d", n, limitedWorkers+3*inFlight)
			}
			if n := b.count(`select count(*) from attempts where call = 'bulk'`); n != test.bulk || b.outcomes(batch)[""] != test.undecided {
				t.Errorf("%d bulk calls and outcomes %v, want %d calls and %d undecided", n, b.outcomes(batch), test.bulk, test.undecided)
			}
		})
	}
}

// A Clerk that takes more than half of what a request may take loses no answer.
func TestSlowClerkLosesNoAnswer(t *testing.T) {
	t.Parallel()
	slow := sandbox.Fault{Call: "bulk", Kind: sandbox.FaultSlow, After: true,
		Delay: sandbox.Duration(5500 * time.Millisecond)}
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{slow}})
	batch := b.batch(1500, person)
	none := ratelimit.Limit{None: true}
	b.run(b.worker(Config{Create: none, Bulk: none, General: none,
		RequestTimeout: 10 * time.Second, Settle: time.Second}), batch)
	if n := b.count(`select count(*) from attempts where resolution <> 'answered'`); n > 0 {
		t.Errorf("%d of %d requests have lost their answers, want none", n, b.count(`select count(*) from attempts`))
	}
}

// Where no singles are sent, a person alone goes in a bulk call of one; if Clerk
// can't read that one, the person is the reason.
func TestUnreadableBulkOfOneIsRejected(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "bulk", Address: person(3), Kind: sandbox.FaultStatus, Status: 400, Code: "request_body_invalid"}}})
	batch := b.batch(30, person)
	cfg := quick
	cfg.Create = ratelimit.Limit{Off: true}
	b.run(b.worker(cfg), batch)
	b.want(batch, tally{"invited": 29, "rejected": 1})
	b.counts(2, "requests for the rejected one, once with others and once alone",
		`select count(*) from attempt_people where key = $1`, person(3))
	b.proven(batch)
}

// Ten people held up by one of them over whom Clerk fails get through alone.
func TestFailingBulkIsTakenApart(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "bulk", Address: person(3), Kind: sandbox.FaultStatus, Status: 500}}})
	batch := b.batch(10, person)
	b.run(b.worker(quick), batch)
	b.want(batch, tally{"invited": 10})
	if n := b.count(`select count(*) from attempts where call = 'bulk'`); n > 3 {
		t.Errorf("%d bulk calls, want at most 3", n)
	}
	b.proven(batch)
}

// A retry that opens rows while a batch is being finished wins: no batch is done
// with undecided rows.
func TestFinishRacesRetry(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	id := b.batch(3, person)
	b.exec(`update results set outcome = 'failed', decided_at = now() where batch_id = $1`, id)
	one := b.read(id)
	finished := make(chan error, 1)
	must.OK(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		if err := ratelimit.Lock(t.Context(), tx, b.instance.ID, ratelimit.Create, ratelimit.Bulk); err != nil {
			return err
		}
		if _, err := batch.RetryBatch(t.Context(), tx, one, "maria"); err != nil {
			return err
		}
		go func() {
			_, err := batch.Finish(t.Context(), b.pool, b.instance.ID)
			finished <- err
		}()
		b.await("the finish waits for the retry", func() bool {
			return b.waiting() > 0
		})
		return nil
	}))
	must.OK(t, <-finished)
	b.want(id, tally{"": 3})
	b.is("running", `select state from batches where id = $1`, id)
}

// A batch of which nothing is left to hold back is done, even if its last rows
// were rejected past the breaker.
func TestBreakerDoesNotKeepDecidedBatch(t *testing.T) {
	t.Parallel()
	t.Run("all decided", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{})
		batch := b.batch(20, person)
		b.exec(`update results set outcome = 'rejected', decided_at = clock_timestamp() where batch_id = $1`, batch)
		w := b.worker(quick)
		w.suspect.Store(true)
		b.run(w, batch)
		b.counts(0, "pauses of a decided batch",
			`select count(*) from events where batch_id = $1 and action = 'paused'`, batch)
	})
	t.Run("the last one under way", func(t *testing.T) {
		t.Parallel()
		b := setup(t, sandbox.Config{Limits: unlimited, Blocked: []string{"*@example.com"},
			Faults: []sandbox.Fault{{Call: "create", Address: person(0), Kind: sandbox.FaultSlow, Delay: sandbox.Duration(3 * time.Second)}}})
		batch := b.batch(21, person)
		cfg := quick
		cfg.Bulk, cfg.RequestTimeout = ratelimit.Limit{Off: true}, 10*time.Second
		b.run(b.worker(cfg), batch)
		b.want(batch, tally{"rejected": 21})
		b.counts(1, "pauses while the last row was under way",
			`select count(*) from events where batch_id = $1 and action = 'paused'`, batch)
	})
}

// A database restored from a backup names processes of its time as alive. Their
// reads, from before what happened since, guard no claim.
func TestReadsOfTheDeadGuardNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	batch := b.batch(1, person)
	w := b.worker(quick)
	leave, err := w.presence.attend(t.Context())
	must.OK(t, err)
	must.OK(t, w.preflighter.read(t.Context(), true, false))
	leave()
	// The backup was taken here. Then the process invited, and somebody revoked.
	b.exec(`insert into workers (id, instance_id, host, pid, version, lives_until) values ($1, $2, 'host', 1, '', now() + interval '1 min')`, w.id, b.instance.ID)
	made := w.api.Create(t.Context(), clerk.Invite{Email: person(0)})
	if made.Class != clerk.Success {
		t.Fatal(made)
	}
	if a := w.api.Revoke(t.Context(), made.Invitations[0].ID); a.Class != clerk.Success {
		t.Fatal(a)
	}
	b.run(b.worker(quick), batch)
	expect.Equal(t, "mails", b.mails()[person(0)], 1)
}

// A stop does not wait for reads of Clerk: they decide nothing by themselves.
func TestStopDuringSlowPreflight(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{{Call: "list", Kind: sandbox.FaultSlow, Delay: sandbox.Duration(15 * time.Second)}}})
	batch := b.batch(5, person)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.worker(Config{}).Run(ctx, nil) }()
	b.await("a list is being read", func() bool {
		return b.count(`select count(*) from reads where call <> 'users' and ended_at is null`) > 0
	})
	told := time.Now()
	stop()
	expect.OK(t, <-ended)
	if d := time.Since(told); d > 10*time.Second {
		t.Errorf("the stop took %s, want less than the read", d)
	}
	b.want(batch, tally{"": 5})
}

// rewrite puts a proxy before the stand-in that replaces text in the answers of
// GET /invitations.
func (b *bundle) rewrite(text, by string) { b.rewriteCall(http.MethodGet, text, by) }

// rewriteCall does so in the answers of a method of /invitations.
func (b *bundle) rewriteCall(method, text, by string) {
	b.t.Helper()
	target, err := url.Parse(strings.TrimSuffix(b.url, "/v1"))
	must.OK(b.t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method != method || r.Request.URL.Path != "/v1/invitations" {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = bytes.ReplaceAll(body, []byte(text), []byte(by))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Del("Content-Length")
		return nil
	}
	// What is cut on its way is no news here.
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(proxy)
	b.t.Cleanup(server.Close)
	b.url = server.URL + "/v1"
}

// An invitation of a status that we don't know is one nevertheless: it proves
// what was made, and blocks no other.
func TestUnknownStatusBlocksNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{
		{Call: "create", Address: person(0), Kind: sandbox.FaultCutAfter, First: 1},
		{Call: "create", Address: person(1), Kind: sandbox.FaultCutAfter, First: 1}}})
	b.rewrite(`"status":"pending"`, `"status":"delivered"`)
	batch := b.batch(5, person)
	cfg := quick
	cfg.Bulk = ratelimit.Limit{Off: true}
	b.run(b.worker(cfg), batch)
	b.want(batch, tally{"invited": 5})
	if n := b.count(`select count(*) from sightings where status is null or status = ''`); n == 0 {
		t.Error("no sighting of an unknown status, want those that the lists showed")
	}
	b.proven(batch)
}

// Whom we have revoked may be invited by a batch whose reads are from before,
// when the invitation was pending.
func TestSweptPersonIsInvitedDespiteOldSighting(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.batch(1, person)
	b.run(b.worker(quick), first)
	b.exec(`update results set invited_at = invited_at - interval '20 days' where batch_id = $1`, first)
	second := b.batch(1, person)
	w := b.worker(quick)
	leave, err := w.presence.attend(t.Context())
	must.OK(t, err)
	must.OK(t, w.preflighter.lists(t.Context(), time.Time{}))
	leave()
	sw, err := b.worker(sweeper).Finish(t.Context(), b.takeBack(revocation.KindUndo, first))
	must.OK(t, err)
	if sw.Revoked != 1 {
		t.Fatalf("%+v, want 1 revoked", *sw)
	}
	b.run(b.worker(quick), second)
	b.want(second, tally{"invited": 1})
	expect.Equal(t, "mails", b.mails()[person(0)], 2)
}

// The one invitation in the answer to a single request is its person's, however Clerk writes the address.
func TestSingleAnswerIsItsPersons(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.rewriteCall(http.MethodPost, person(1), "person.one@example.com")
	batch := b.batch(3, person)
	cfg := quick
	cfg.Bulk = ratelimit.Limit{Off: true}
	b.run(b.worker(cfg), batch)
	b.counts(3, "rows are invited by their answers",
		`select count(*) from results where outcome = 'invited' and reason is null and clerk_invitation_id is not null`)
	b.proven(batch)
}

// Users are found however their address is typed: Clerk is asked in lower case too, a hundred addresses at a time. So
// no bulk call is refused for them.
func TestMixedCaseUsersAreFound(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Switches: sandbox.Switches{UsersExact: true}})
	b.sandbox.Tell("users", fmt.Sprintf(`[%q,%q]`, person(7), person(133)))
	batch := b.batch(150, person)
	b.exec(`update results set email = 'P' || substr(email, 2) where batch_id = $1`, batch)
	b.run(b.worker(quick), batch)
	b.want(batch, tally{"already_registered": 2, "invited": 148})
	b.counts(0, "requests were refused", `select count(*) from attempts where http_status >= 400`)
	b.counts(0, "questions failed", `select count(*) from reads where call = 'users' and error_code is not null`)
}
