package jobs

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// resume lets a paused batch go on.
func (b *bundle) resume(batch int64) {
	b.t.Helper()
	must.OK(b.t, Resume(b.t.Context(), b.pool, b.read(batch), "maria"))
}

// pauses is how often a batch was paused.
func (b *bundle) pauses(batch int64) int {
	return b.count(`select count(*) from events where batch_id = $1 and action = 'paused'`, batch)
}

// refuse is a fault that answers a call with a status and a code of Clerk's.
func refuse(call string, status int, code string) sandbox.Fault {
	return sandbox.Fault{Call: call, Kind: sandbox.FaultStatus, Status: status, Code: code}
}

// A refusal that speaks of the instance or of how the program calls Clerk ends nobody as rejected. The batches of the
// instance pause with the code and what to do, and everybody is invited once the reason is gone.
func TestInstanceRefusalPausesAndRejectsNobody(t *testing.T) {
	t.Parallel()
	for code, status := range map[string]int{
		"dev_monthly_email_limit_exceeded": 400, "request_invalid_for_instance": 400, "api_version_invalid": 400,
		"feature_requires_email_address_enabled": 422, "unsupported_content_type": 415, "operation_deprecated": 410,
		"invitations_not_supported": 400, "user_quota_exceeded": 403,
	} {
		for _, call := range []string{"create", "bulk"} {
			t.Run(call+" "+code, func(t *testing.T) {
				t.Parallel()
				b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{refuse(call, status, code)}})
				batch, other := b.batch(30, person), b.batch(1, func(int) string { return "other@example.com" })
				b.exec(`update batches set start_at = now() + interval '1 day' where id = $1`, other)
				cfg := quick
				if call == "bulk" {
					cfg.Create = ratelimit.Limit{Off: true}
				} else {
					cfg.Bulk = ratelimit.Limit{Off: true}
				}
				one := b.until(b.worker(cfg), batch, invitation.Paused)
				if one.PausedBy != invitation.ByClerk || !strings.Contains(one.Reason, code) || !strings.Contains(one.Reason, "resume") {
					t.Errorf("paused by %q: %q, want the code and what to do", one.PausedBy, one.Reason)
				}
				expect.Equal(t, "the other batch of the instance", b.read(other).State, invitation.Paused)
				b.want(batch, tally{"": 30})
				b.sandbox.Tell("faults", "[]")
				b.resume(batch)
				b.run(b.worker(cfg), batch)
				b.want(batch, tally{"invited": 30})
				b.counts(0, "people must go alone for what had nothing to do with them", `select count(*) from results where alone`)
				b.proven(batch)
			})
		}
	}
}

// A code that nobody knows pauses the batch of those who got it. A person who gets it again, alone and after a resume,
// ends as failed; nobody else does.
func TestUnknownRefusalPausesThenFails(t *testing.T) {
	t.Parallel()
	for _, only := range []string{"create", "bulk", "both"} {
		t.Run(only, func(t *testing.T) {
			t.Parallel()
			const code = "a_code_of_tomorrow"
			var faults []sandbox.Fault
			for _, call := range []string{"create", "bulk"} {
				f := refuse(call, 422, code)
				f.Address = person(3)
				faults = append(faults, f)
			}
			b := setup(t, sandbox.Config{Limits: unlimited, Faults: faults})
			cfg := quick
			switch only {
			case "create":
				cfg.Bulk = ratelimit.Limit{Off: true}
			case "bulk":
				cfg.Create = ratelimit.Limit{Off: true}
			}
			batch, other := b.batch(20, person), b.batch(1, func(int) string { return "other@example.com" })
			b.exec(`update batches set start_at = now() + interval '1 day' where id = $1`, other)
			one := b.until(b.worker(cfg), batch, invitation.Paused)
			if one.PausedBy != invitation.ByClerk || !strings.Contains(one.Reason, code) {
				t.Errorf("paused by %q: %q, want the code", one.PausedBy, one.Reason)
			}
			b.want(batch, tally{"rejected": 0, "failed": 0})
			b.resume(batch)
			b.run(b.worker(cfg), batch)
			b.want(batch, tally{"invited": 19, "failed": 1})
			b.counts(1, "failed rows with the code and the attempt that proves it",
				`select count(*) from results where outcome = 'failed' and key = $1 and reason = $2 and attempt_id is not null`, person(3), code)
			if b.pauses(batch) != 1 || b.read(other).State != invitation.Running {
				t.Errorf("paused %d times and the other batch is %s, want once, and running", b.pauses(batch), b.read(other).State)
			}
			b.proven(batch)
			// Once the reason is gone a retry invites them.
			b.sandbox.Tell("faults", "[]")
			b.retry(batch)
			b.run(b.worker(cfg), batch)
			b.want(batch, tally{"invited": 20})
		})
	}
}

// A bulk call that is too large is made smaller: each of its people goes alone. Who is too large alone pauses the batch
// as any unknown code does.
func TestTooLargeBulkGoesAlone(t *testing.T) {
	t.Parallel()
	single := refuse("create", 413, "request_body_too_large")
	single.Address = person(3)
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{refuse("bulk", 413, "request_body_too_large"), single}})
	batch := b.batch(20, person)
	one := b.until(b.worker(quick), batch, invitation.Paused)
	expect.Text(t, one.Reason, "request_body_too_large")
	b.resume(batch)
	b.run(b.worker(quick), batch)
	b.want(batch, tally{"invited": 19, "failed": 1})
	b.proven(batch)
}

// A refused revoke under a resend, and a create that is refused between the two halves, lose nobody: neither rejects,
// both pause, and the person has one new invitation at the end.
func TestInstanceRefusalDuringResend(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]sandbox.Fault{
		"revoke":              {refuse("revoke", 400, "api_version_invalid")},
		"create":              {refuse("create", 400, "dev_monthly_email_limit_exceeded")},
		"create, not known":   {refuse("create", 400, "a_code_of_tomorrow")},
		"revoke, not known":   {refuse("revoke", 418, "a_code_of_tomorrow")},
		"create, bad request": {refuse("create", 400, "bad_request")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited})
			first := b.sent(3)
			for _, f := range faults {
				b.sandbox.Tell("faults", fmt.Sprintf(`[{"call":%q,"kind":"status","status":%d,"code":%q}]`, f.Call, f.Status, f.Code))
			}
			second, _ := b.resend(first)
			one := b.until(b.worker(quick), second, invitation.Paused)
			if one.PausedBy != invitation.ByClerk || !strings.Contains(one.Reason, faults[0].Code) {
				t.Errorf("paused by %q: %q, want the code", one.PausedBy, one.Reason)
			}
			b.want(second, tally{"": 3})
			// It is resumed once more in vain: who is owed an invitation is never given up.
			b.resume(second)
			tried := b.count(`select count(*) from attempts where http_status >= 400`)
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			err := b.worker(quick).Run(ctx, func(ctx context.Context) (bool, error) {
				one, err := batch.Batch(ctx, b.pool, second)
				return err == nil && (one.State == invitation.Paused || b.count(`select count(*) from attempts where http_status >= 400`) >= tried+3), err
			})
			stop()
			must.OK(t, err)
			b.sandbox.Tell("faults", "[]")
			if b.read(second).State == invitation.Paused {
				b.resume(second)
			}
			b.run(b.worker(quick), second)
			b.want(second, tally{"invited": 3})
			b.sentAgain(first.ID, second)
		})
	}
}

// A list that Clerk refuses to show for what the instance is pauses too: nothing can be claimed without it.
func TestRefusedReadPauses(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"list", "users"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{refuse(call, 400, "api_version_invalid")}})
			batch := b.batch(20, person)
			one := b.until(b.worker(quick), batch, invitation.Paused)
			if one.PausedBy != invitation.ByClerk || !strings.Contains(one.Reason, "api_version_invalid") {
				t.Errorf("paused by %q: %q, want the code", one.PausedBy, one.Reason)
			}
			b.sandbox.Tell("faults", "[]")
			b.resume(batch)
			b.run(b.worker(quick), batch)
			b.want(batch, tally{"invited": 20})
		})
	}
}

// A key that lacks the right to call stops the process, whatever the status, and says the code.
func TestKeyRefusalStopsTheProcess(t *testing.T) {
	t.Parallel()
	for code, status := range map[string]int{"authorization_header_format_invalid": 401, "authorization_invalid": 403, "authorization_missing_scopes": 403} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{refuse("create", status, code), refuse("bulk", status, code)}})
			id := b.batch(20, person)
			err := b.worker(quick).Run(t.Context(), func(ctx context.Context) (bool, error) {
				one, err := batch.Batch(ctx, b.pool, id)
				return err == nil && one.State != invitation.Running, err
			})
			if err == nil || !strings.Contains(err.Error(), ErrUnauthorized.Error()) || !strings.Contains(err.Error(), code) {
				t.Errorf("Run returned %v, want %v and the code", err, ErrUnauthorized)
			}
			if got := b.outcomes(id); got[""] != 20 || b.read(id).State != invitation.Running {
				t.Errorf("outcomes %v and the batch is %s, want 20 undecided, and running", got, b.read(id).State)
			}
		})
	}
}

// Who is owed an invitation gets it although Clerk no longer says whether they are a user.
func TestOwedDespiteUnreadableUsers(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	first := b.sent(1)
	second, _ := b.resend(first)
	b.sandbox.Tell("faults", `[{"call":"create","kind":"status","status":500,"first":1}]`)
	must.OK(t, b.worker(quick).Run(t.Context(), func(context.Context) (bool, error) {
		return b.count(`select count(*) from results where revoke_sent is not null and outcome is null and tries > 0`) == 1, nil
	}))
	b.sandbox.Tell("faults", `[{"call":"users","kind":"status","status":500}]`)
	b.exec(`update results set tries = 0 where batch_id = $1`, second)
	b.run(b.worker(quick), second) // its reads are its own
	if n := b.count(`select count(*) from reads where call = 'users' and http_status = 500`); n == 0 {
		t.Error("no question failed")
	}
	b.sentAgain(first.ID, second)
}

// A retry takes up no row that was corrected, nor one of a resend of it: its address is the wrong one, whether Clerk
// would take it by now or not.
func TestRetryLeavesCorrectedRows(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Blocked: []string{person(1), person(3)}})
	of := b.sent(5)
	if got := b.outcomes(of.ID)["rejected"]; got != 2 {
		t.Fatalf("%d rows were rejected, want 2", got)
	}
	if _, err := Correct(t.Context(), b.pool, of, 2, "right@example.com", "right@example.com", "maria"); err != nil {
		t.Fatal(err)
	}
	b.sandbox.Tell("config", `{"blocked":[]}`)
	b.retry(of.ID, invitation.Rejected)
	b.run(b.worker(quick), of.ID)
	if pending := b.pendingAtClerk(); pending[person(1)] || !pending[person(3)] {
		t.Errorf("pending after the retry: %v, want all but %s", pending, person(1))
	}

	again, _ := b.resend(b.read(of.ID))
	b.exec(`update results set outcome = 'rejected', reason = 'not_allowed_access', decided_at = clock_timestamp()
		where batch_id = $1 and key = $2`, again, person(2))
	const other = "other@example.com"
	if _, err := Correct(t.Context(), b.pool, b.read(of.ID), 3, other, other, "maria"); err != nil {
		t.Fatal(err)
	}
	b.retry(again, invitation.Rejected)
	open := b.count(`select count(*) from results where batch_id = $1 and key = $2 and outcome is null`, again, person(2))
	expect.Equal(t, "rows of a corrected row's resend that are taken up again", open, 0)
}
