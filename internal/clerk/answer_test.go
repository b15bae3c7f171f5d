package clerk_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/expect"
)

// calls makes each call once, to see how all of them treat an answer.
var calls = map[string]func(context.Context, *clerk.Client) clerk.Answer{
	"create": func(ctx context.Context, c *clerk.Client) clerk.Answer {
		return c.Create(ctx, clerk.Invite{Email: "jane@example.com"})
	},
	"bulk": func(ctx context.Context, c *clerk.Client) clerk.Answer {
		return c.Bulk(ctx, []clerk.Invite{{Email: "jane@example.com"}, {Email: "john@example.com"}})
	},
	"revoke": func(ctx context.Context, c *clerk.Client) clerk.Answer { return c.Revoke(ctx, "inv_1") },
	"invitations": func(ctx context.Context, c *clerk.Client) clerk.Answer {
		return c.Invitations(ctx, clerk.ListQuery{}).Answer
	},
	"users": func(ctx context.Context, c *clerk.Client) clerk.Answer {
		return c.Users(ctx, []string{"jane@example.com"}).Answer
	},
	"instance": func(ctx context.Context, c *clerk.Client) clerk.Answer { return c.Instance(ctx).Answer },
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		call   string
		status int
		code   string
		meta   string
		class  clerk.Class
		named  []string
		// nothing is the expected NothingDone: the answer proves that nothing was done for any
		// person.
		nothing bool
	}{
		{"create", 400, "duplicate_record", `{"email_addresses":["jane@example.com"]}`, clerk.Exists, []string{"jane@example.com"}, true},
		{"bulk", 400, "duplicate_record", `{"email_addresses":["jane@example.com","john@example.com"]}`, clerk.Exists, []string{"jane@example.com", "john@example.com"}, false},
		{"create", 422, "form_identifier_exists", `{"param_name":"email_address"}`, clerk.UserExists, nil, true},
		{"bulk", 422, "form_identifier_exists", `{"param_name":"email_address"}`, clerk.UserExists, nil, false},
		{"create", 422, "form_param_format_invalid", `{"param_name":"email_address"}`, clerk.Rejected, nil, true},
		{"bulk", 422, "form_param_format_invalid", `{"param_name":"email_address"}`, clerk.Rejected, nil, false},
		{"create", 422, "form_param_missing", `{"param_name":"email_address"}`, clerk.Rejected, nil, true},
		{"create", 422, "form_param_unknown", `{"param_name":"x"}`, clerk.Rejected, nil, true},
		{"create", 422, "form_param_value_invalid", `{"param_name":"public_metadata"}`, clerk.Rejected, nil, true},
		{"create", 422, "form_param_exceeds_allowed_size", `{"param_name":"public_metadata"}`, clerk.Rejected, nil, true},
		{"create", 400, "request_body_invalid", `{}`, clerk.Rejected, nil, true},
		{"bulk", 400, "request_body_invalid", `null`, clerk.BadCall, nil, true},
		{"bulk", 400, "bulk_size_exceeded", `{}`, clerk.BadCall, nil, true},
		{"create", 403, "not_allowed_access", `{"identifiers":["jane@example.com"]}`, clerk.Rejected, []string{"jane@example.com"}, true},
		{"bulk", 403, "not_allowed_access", `{"identifiers":["jane@example.com"]}`, clerk.Rejected, []string{"jane@example.com"}, false},
		{"create", 400, "invitations_not_supported", `{}`, clerk.Stopped, nil, true},
		{"create", 403, "user_quota_exceeded", `{}`, clerk.Stopped, nil, true},
		{"bulk", 403, "quota_exceeded", `{}`, clerk.Stopped, nil, false},
		{"create", 422, "user_quota_exceeded", `{}`, clerk.Stopped, nil, true},
		{"create", 400, "quota_exceeded", `{}`, clerk.Stopped, nil, true},
		{"create", 400, "insufficient_seats", `{}`, clerk.Stopped, nil, true},
		{"create", 401, "clerk_key_invalid", `{}`, clerk.Unauthorized, nil, true},
		{"bulk", 401, "clerk_key_invalid", `{}`, clerk.Unauthorized, nil, true},
		{"create", 409, "resource_locked", `{}`, clerk.Transient, nil, false},
		{"create", 429, "too_many_requests", `{}`, clerk.Throttled, nil, true},
		{"bulk", 429, "too_many_requests", `{}`, clerk.Throttled, nil, true},
		{"create", 500, "internal_clerk_error", `{}`, clerk.Transient, nil, false},
		{"create", 503, "internal_clerk_error", `{}`, clerk.Transient, nil, false},
		{"create", 500, "duplicate_record", `{}`, clerk.Transient, nil, false},
		{"revoke", 400, "invitation_already_accepted", `{}`, clerk.AlreadyAccepted, nil, true},
		{"revoke", 400, "invitation_already_revoked", `{}`, clerk.AlreadyRevoked, nil, true},
		{"revoke", 404, "resource_not_found", `{}`, clerk.Gone, nil, true},
		{"revoke", 404, "organization_invitation_not_pending", `{}`, clerk.Gone, nil, true},
		{"create", 404, "resource_not_found", `{}`, clerk.Stopped, nil, true},
		{"create", 400, "already_a_member_in_organization", `{}`, clerk.UserExists, nil, true},
		{"create", 402, "insufficient_seats", `{}`, clerk.Stopped, nil, true},
		// Codes that are not in the table.
		{"create", 400, "some_new_code", `{}`, clerk.Unexplained, nil, true},
		{"create", 422, "some_new_code", `{}`, clerk.Unexplained, nil, true},
		{"create", 402, "some_new_code", `{}`, clerk.Unexplained, nil, true},
		{"create", 403, "some_new_code", `{}`, clerk.Unexplained, nil, true},
		{"create", 405, "some_new_code", `{}`, clerk.Unexplained, nil, true},
		{"create", 410, "some_new_code", `{}`, clerk.Unexplained, nil, true},
		{"create", 413, "some_new_code", `{}`, clerk.Unexplained, nil, true},
		{"bulk", 400, "some_new_code", `{}`, clerk.Unexplained, nil, false},
		{"bulk", 400, "some_new_code", `{"email_addresses":["jane@example.com"]}`, clerk.Rejected, []string{"jane@example.com"}, false},
		{"create", 422, "some_new_code", `{"identifiers":["jane@example.com"]}`, clerk.Rejected, []string{"jane@example.com"}, true},
		{"users", 422, "some_new_code", `{"identifiers":["jane@example.com"]}`, clerk.Unexplained, []string{"jane@example.com"}, true},
		{"bulk", 400, "invitations_not_supported", `{}`, clerk.Stopped, nil, true},
		{"bulk", 400, "dev_monthly_email_limit_exceeded", `{}`, clerk.Stopped, nil, false},
		{"bulk", 413, "request_body_too_large", `{}`, clerk.BadCall, nil, true},
		{"create", 423, "some_new_code", `{}`, clerk.Transient, nil, false},
		// A meta in another form than the published one.
		{"create", 400, "duplicate_record", `{"email_addresses":"jane@example.com","identifiers":7}`, clerk.Exists, []string{"jane@example.com"}, true},
		{"create", 400, "duplicate_record", `{"email_addresses":[1,{}],"identifiers":null}`, clerk.Exists, nil, true},
		{"create", 400, "duplicate_record", `{"email_addresses":["jane@example.com"],"identifiers":["jane@example.com"]}`, clerk.Exists, []string{"jane@example.com"}, true},
	} {
		t.Run(fmt.Sprint(tt.call, tt.status, tt.code), func(t *testing.T) {
			t.Parallel()
			body := fmt.Sprintf(`{"errors":[{"message":"jane@example.com is","long_message":"jane@example.com is","code":%q,"meta":%s}],"clerk_trace_id":"trace_b"}`, tt.code, tt.meta)
			f := newFake(t, clerk.Config{}, answering(tt.status, body))
			a := calls[tt.call](within(t, 10*time.Second), f.Client)
			if a.Call != tt.call || a.Class != tt.class || a.Code != tt.code || a.Status != tt.status || a.TraceID != "trace_1" || !a.Sent {
				t.Errorf("%s %s %s %d %s sent %t", a.Call, a.Class, a.Code, a.Status, a.TraceID, a.Sent)
			}
			if a.NothingDone() != tt.nothing || !slices.Equal(a.Offenders, tt.named) {
				t.Errorf("nothing done %t, offenders %v", a.NothingDone(), a.Offenders)
			}
			if a.Err == nil || strings.Contains(a.Err.Error(), "@") {
				t.Errorf("error %v", a.Err)
			}
		})
	}
}

func TestSeveralErrors(t *testing.T) {
	t.Parallel()
	f := newFake(t, clerk.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, err := io.WriteString(w, `{"errors":[
			{"code":"duplicate_record","meta":{"email_addresses":["a@example.com"]}},
			{"code":"form_param_format_invalid","meta":{"email_addresses":["b@example.com"]}},
			{"code":"duplicate_record","meta":{"email_addresses":["c@example.com","a@example.com"]}}],"clerk_trace_id":"trace_b"}`)
		expect.OK(t, err)
	})
	a := calls["bulk"](within(t, 10*time.Second), f.Client)
	if a.Class != clerk.Exists || !slices.Equal(a.Offenders, []string{"a@example.com", "c@example.com"}) || a.TraceID != "trace_b" {
		t.Errorf("%s, offenders %v, trace %s", a.Class, a.Offenders, a.TraceID)
	}
}

func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	const html = "<html><body>502 Bad Gateway jane@example.com</body></html>"
	for _, tt := range []struct {
		status int
		body   string
		class  clerk.Class
		code   string
	}{
		{502, html, clerk.Lost, "not_json"},
		{503, "", clerk.Lost, "not_json"},
		{504, `{"errors":[{"code":"internal_cle`, clerk.Lost, "not_json"},
		{500, `{"message":"Internal server error"}`, clerk.Lost, "not_clerk"},
		{500, `{"errors":[]}`, clerk.Lost, "not_clerk"},
		{500, `{"errors":[{"code":""}]}`, clerk.Lost, "not_clerk"},
		{500, `{"errors":"jane@example.com"}`, clerk.Lost, "not_clerk"},
		{500, `"jane@example.com"`, clerk.Lost, "not_clerk"},
		{500, `null`, clerk.Lost, "not_clerk"},
		{500, `{"errors":[{"code":"jane@example.com\u0000"}]}`, clerk.Transient, "unnamed"},
		{400, html, clerk.Lost, "not_json"},
		{403, html, clerk.Lost, "not_json"},
		{404, "404 page not found", clerk.Lost, "not_json"},
		{407, html, clerk.Lost, "not_json"},
		{401, html, clerk.Unauthorized, "not_json"},
		{429, html, clerk.Throttled, "not_json"},
		{429, "", clerk.Throttled, "not_json"},
		{200, html, clerk.Lost, "not_json"},
		{200, "", clerk.Lost, "not_json"},
		{204, "", clerk.Lost, "not_json"},
		{200, `{"id":"inv_1","email_address":"jane@exa`, clerk.Lost, "not_json"},
		{200, `null`, clerk.Lost, "not_clerk"},
		{200, `"ok"`, clerk.Lost, "not_clerk"},
		{200, `{"data":[{"id":7}],"total_count":1}`, clerk.Lost, "not_clerk"},
		{200, `{"data":[null],"total_count":1}`, clerk.Lost, "not_clerk"},
		{200, `{"data":null,"total_count":3}`, clerk.Lost, "not_clerk"},
		{200, `{"data":{"id":"inv_1"}}`, clerk.Lost, "not_clerk"},
		{200, `[null]`, clerk.Lost, "not_clerk"},
		{200, `[{"id":"inv_1"},{"email_address":"jane@example.com"}]`, clerk.Lost, "not_clerk"},
		{200, `{"id":"","email_address":"jane@example.com"}`, clerk.Lost, "not_clerk"},
		{200, `{"id":"jane@example.com"}`, clerk.Lost, "not_clerk"},
		{200, `{"errors":[{"code":"duplicate_record"}]}`, clerk.Lost, "not_clerk"},
	} {
		for name, call := range calls {
			t.Run(fmt.Sprintf("%s %d %s", name, tt.status, tt.body), func(t *testing.T) {
				t.Parallel()
				handler := answering(tt.status, tt.body)
				if tt.body == "" {
					handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) }
				}
				a := call(within(t, 10*time.Second), newFake(t, clerk.Config{}, handler).Client)
				if a.Class != tt.class || a.Code != tt.code || a.Status != tt.status || !a.Sent || a.Err == nil {
					t.Errorf("%s %s %d sent %t: %v", a.Class, a.Code, a.Status, a.Sent, a.Err)
				}
				if a.Err != nil && strings.Contains(a.Err.Error(), "@") || len(a.Invitations) != 0 {
					t.Errorf("error %v, %d invitations", a.Err, len(a.Invitations))
				}
			})
		}
	}
}

func TestRevokeShowsAnother(t *testing.T) {
	t.Parallel()
	f := newFake(t, clerk.Config{}, answering(200, wireInvitation("inv_2", "a@example.com")))
	if a := f.Revoke(within(t, 10*time.Second), "inv_1"); a.Class != clerk.Lost || a.Code != "not_clerk" {
		t.Errorf("%s %s", a.Class, a.Code)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		for name, call := range calls {
			f := newFake(t, clerk.Config{}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/v1/invitations?email=jane@example.com")
				w.WriteHeader(status)
			})
			a := call(within(t, 10*time.Second), f.Client)
			if a.Class != clerk.Lost || a.Code != "redirect" || a.Status != status || len(f.requests()) != 1 {
				t.Errorf("%s %d: %s %s, %d requests", name, status, a.Class, a.Code, len(f.requests()))
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clerks := now.Add(-10 * time.Minute)
	for _, tt := range []struct {
		value, date string
		want        time.Duration
		ok          bool
	}{
		{"", "", 0, false},
		{"0", "", 0, true},
		{"30", "", 30 * time.Second, true},
		{" 3600 ", "", time.Hour, true},
		{"-1", "", 0, false},
		{"soon", "", 0, false},
		{"1.5", "", 0, false},
		{"99999999999999999999", "", 0, false},
		{strconv.FormatInt(1<<62, 10), "", 9223372036 * time.Second, true},
		{now.Add(90 * time.Second).Format(http.TimeFormat), "-", 90 * time.Second, true},
		{clerks.Add(90 * time.Second).Format(http.TimeFormat), clerks.Format(http.TimeFormat), 90 * time.Second, true},
		{clerks.Add(-time.Hour).Format(http.TimeFormat), clerks.Format(http.TimeFormat), 0, true},
		{now.Add(time.Minute).Format(time.RFC850), "nonsense", time.Minute, true},
	} {
		f := newFake(t, clerk.Config{Now: func() time.Time { return now }}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", tt.value)
			switch tt.date {
			case "":
			case "-":
				w.Header()["Date"] = nil
			default:
				w.Header().Set("Date", tt.date)
			}
			w.WriteHeader(http.StatusTooManyRequests)
		})
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(10*time.Second).AddDate(100, 0, 0))
		a := calls["create"](ctx, f.Client)
		cancel()
		if a.RetryAfter != tt.want || a.HasRetryAfter != tt.ok || a.Class != clerk.Throttled {
			t.Errorf("%q: %v %t, %s", tt.value, a.RetryAfter, a.HasRetryAfter, a.Class)
		}
	}
}

func TestRetryAfterOfAnOutage(t *testing.T) {
	t.Parallel()
	f := newFake(t, clerk.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if a := calls["create"](within(t, 10*time.Second), f.Client); a.RetryAfter != 7*time.Second || !a.HasRetryAfter || a.Class != clerk.Lost {
		t.Errorf("%v %t, %s", a.RetryAfter, a.HasRetryAfter, a.Class)
	}
}

func TestHugeAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(t, clerk.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		line := bytes.Repeat([]byte(" "), 1<<20)
		for range 64 {
			if _, err := w.Write(line); err != nil {
				return // the client has closed the connection, as expected
			}
		}
		t.Error("64 MiB were read")
	})
	if a := calls["create"](within(t, 30*time.Second), f.Client); a.Class != clerk.Lost || a.Code != "answer_too_large" || a.Status != 200 {
		t.Errorf("%s %s %d", a.Class, a.Code, a.Status)
	}
}

func TestLogAndErrorsNameNobody(t *testing.T) {
	t.Parallel()
	invitation := wireInvitation("inv_1", "jane@example.com")
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, handler := range []http.HandlerFunc{
		answering(200, invitation),
		answering(200, "["+invitation+"]"),
		answering(400, `{"errors":[{"message":"jane@example.com","code":"duplicate_record","meta":{"email_addresses":["jane@example.com"]}}]}`),
		answering(502, "jane@example.com"),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		f := newFake(t, clerk.Config{Log: log}, handler)
		for _, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			a := call(ctx, f.Client)
			cancel()
			if a.Err != nil {
				fmt.Fprintln(&out, a.Err)
			}
			log.Info("again", "answer", a, "users", clerk.UsersAnswer{Answer: a, Users: []clerk.User{{ID: "user_1", Emails: []string{"jane@example.com"}}}})
		}
	}
	for _, secret := range []string{"@", "%40", "jane", "ticket", testKey, "http://"} {
		if i := strings.Index(out.String(), secret); i >= 0 {
			t.Errorf("%q was written: %s", secret, out.String()[max(i-200, 0):i+20])
		}
	}
	expect.Text(t, out.String(), "class=exists")
}

func TestClassNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for c := clerk.Lost; c <= clerk.AlreadyAccepted; c++ {
		if c.String() == "" || c.String() == "unknown" || seen[c.String()] {
			t.Errorf("class %d is called %q", int(c), c)
		}
		seen[c.String()] = true
	}
	if clerk.Class(-1).String() != "unknown" || clerk.Class(99).String() != "unknown" {
		t.Error("a class that is none has a name")
	}
}
