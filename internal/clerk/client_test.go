package clerk_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// request is one request as the server received it.
type request struct {
	method, path, query, body string
	header                    http.Header
	length                    int64
}

// fake answers every request with the same handler and records what it received.
type fake struct {
	*clerk.Client
	mu   sync.Mutex
	seen []request
}

func newFake(t *testing.T, config clerk.Config, handle http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		f.mu.Lock()
		f.seen = append(f.seen, request{r.Method, r.URL.Path, r.URL.RawQuery, string(body), r.Header, r.ContentLength})
		f.mu.Unlock()
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	config.URL = server.URL + "/v1"
	f.Client = newClient(t, config)
	return f
}

func newClient(t *testing.T, config clerk.Config) *clerk.Client {
	t.Helper()
	if config.Key == "" {
		config.Key = testKey
	}
	c, err := clerk.New(config)
	must.OK(t, err)
	return c
}

func (f *fake) requests() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Clerk-Trace-Id", "trace_1")
		w.WriteHeader(status)
		if _, err := io.WriteString(w, body); err != nil {
			panic(err)
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

const ticket = "https://accounts.example.com/v1/tickets/accept?ticket=eyJhbGciOi"

func wireInvitation(id, email string) string {
	return fmt.Sprintf(`{"object":"invitation","id":%q,"email_address":%q,"public_metadata":{},"revoked":false,"status":"pending",
		"url":%q,"expires_at":1766402190123,"created_at":1763810190123,"updated_at":1763810190124}`, id, email, ticket)
}

func invitation(id, email string) clerk.Invitation {
	return clerk.Invitation{
		ID: id, Email: email, Status: "pending",
		CreatedAt: time.UnixMilli(1763810190123).UTC(), UpdatedAt: time.UnixMilli(1763810190124).UTC(), ExpiresAt: time.UnixMilli(1766402190123).UTC(),
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	no := false
	full := clerk.Invite{
		Email: "a+b@example.com", RedirectURL: "https://app.example.com/?a=1&b=2", ExpiresInDays: 7,
		PublicMetadata: json.RawMessage(`{"team":"x"}`), Template: "waitlist_invitation", Notify: &no,
	}
	for name, tt := range map[string]struct {
		call func(context.Context, *clerk.Client) clerk.Answer
		want request
	}{
		"create": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer {
				return c.Create(ctx, clerk.Invite{Email: "a@example.com"})
			},
			request{method: "POST", path: "/v1/invitations", body: `{"email_address":"a@example.com"}`},
		},
		"create with all": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer { return c.Create(ctx, full) },
			request{method: "POST", path: "/v1/invitations", body: `{"email_address":"a+b@example.com","public_metadata":{"team":"x"},"redirect_url":"https://app.example.com/?a=1\u0026b=2","notify":false,"expires_in_days":7,"template_slug":"waitlist_invitation"}`},
		},
		"bulk": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer {
				return c.Bulk(ctx, []clerk.Invite{{Email: "a@example.com"}, {Email: "b@example.com", ExpiresInDays: 1}})
			},
			request{method: "POST", path: "/v1/invitations/bulk", body: `[{"email_address":"a@example.com"},{"email_address":"b@example.com","expires_in_days":1}]`},
		},
		"revoke": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer { return c.Revoke(ctx, "inv_1") },
			request{method: "POST", path: "/v1/invitations/inv_1/revoke", body: "null"},
		},
		"invitations": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer {
				return c.Invitations(ctx, clerk.ListQuery{}).Answer
			},
			request{method: "GET", path: "/v1/invitations", query: "limit=500&offset=0&order_by=-created_at&paginated=true"},
		},
		"invitations by status": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer {
				return c.Invitations(ctx, clerk.ListQuery{Status: "revoked", Offset: 40, Limit: 20}).Answer
			},
			request{method: "GET", path: "/v1/invitations", query: "limit=20&offset=40&order_by=-created_at&paginated=true&status=revoked"},
		},
		"users": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer {
				return c.Users(ctx, []string{"a+b@example.com", "c@example.com"}).Answer
			},
			request{method: "GET", path: "/v1/users", query: "email_address=a%2Bb%40example.com&email_address=c%40example.com&limit=500"},
		},
		"instance": {
			func(ctx context.Context, c *clerk.Client) clerk.Answer { return c.Instance(ctx).Answer },
			request{method: "GET", path: "/v1/instance"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, clerk.Config{}, answering(http.StatusTeapot, ""))
			a := tt.call(within(t, 10*time.Second), f.Client)
			seen := f.requests()
			if len(seen) != 1 || !a.Sent {
				t.Fatalf("%d requests, sent %t: %v", len(seen), a.Sent, a.Err)
			}
			got := seen[0]
			if got.method != tt.want.method || got.path != tt.want.path || got.query != tt.want.query || got.body != tt.want.body {
				t.Errorf("sent %s %s?%s %s", got.method, got.path, got.query, got.body)
			}
			if got.header.Get("Authorization") != "Bearer "+testKey || got.length != int64(len(tt.want.body)) {
				t.Errorf("authorization %t, length %d", got.header.Get("Authorization") != "", got.length)
			}
			for name := range got.header {
				expect.NoText(t, strings.ToLower(name), "idempotency")
			}
		})
	}
}

func TestSuccess(t *testing.T) {
	t.Parallel()
	a, b := wireInvitation("inv_a", "a@example.com"), wireInvitation("inv_b", "b@example.com")
	both := []clerk.Invitation{invitation("inv_b", "b@example.com"), invitation("inv_a", "a@example.com")}
	invites := []clerk.Invite{{Email: "a@example.com"}, {Email: "b@example.com"}}
	for name, tt := range map[string]struct {
		call  func(context.Context, *clerk.Client) (clerk.Answer, int)
		body  string
		want  []clerk.Invitation
		total int
	}{
		"create": {func(ctx context.Context, c *clerk.Client) (clerk.Answer, int) { return c.Create(ctx, invites[0]), 0 }, a, both[1:], 0},
		"revoke": {func(ctx context.Context, c *clerk.Client) (clerk.Answer, int) { return c.Revoke(ctx, "inv_a"), 0 }, a, both[1:], 0},
		"bulk in another order": {
			func(ctx context.Context, c *clerk.Client) (clerk.Answer, int) { return c.Bulk(ctx, invites), 0 }, "[" + b + "," + a + "]", both, 0,
		},
		"bulk in part": {
			func(ctx context.Context, c *clerk.Client) (clerk.Answer, int) { return c.Bulk(ctx, invites), 0 }, "[" + b + "]", both[:1], 0,
		},
		"bulk of none": {
			func(ctx context.Context, c *clerk.Client) (clerk.Answer, int) { return c.Bulk(ctx, invites), 0 }, " []\n", []clerk.Invitation{}, 0,
		},
		"bulk as the organizations' one": {
			func(ctx context.Context, c *clerk.Client) (clerk.Answer, int) { return c.Bulk(ctx, invites), 0 }, `{"data":[` + b + "," + a + `],"total_count":2}`, both, 0,
		},
		"list":               {list, `{"data":[` + b + "," + a + `],"total_count":7}`, both, 7},
		"list without pages": {list, "[" + b + "," + a + "]", both, -1},
		"empty list":         {list, `{"data":[],"total_count":0}`, []clerk.Invitation{}, 0},
		"empty list as null": {list, `{"data":null,"total_count":0}`, []clerk.Invitation{}, 0},
		"no end, no times": {
			list, `[{"id":"inv_c","email_address":"c@example.com","status":"revoked","revoked":true,"expires_at":null}]`,
			[]clerk.Invitation{{ID: "inv_c", Email: "c@example.com", Status: "revoked", Revoked: true}}, -1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, clerk.Config{}, answering(http.StatusOK, tt.body))
			a, total := tt.call(within(t, 10*time.Second), f.Client)
			if a.Class != clerk.Success || a.Err != nil || !a.Sent || a.Status != 200 || a.Code != "" || a.TraceID != "trace_1" {
				t.Errorf("answer %+v", a)
			}
			if !reflect.DeepEqual(a.Invitations, tt.want) || total != tt.total {
				t.Errorf("%d in all: %+v", total, a.Invitations)
			}
			if a.Date.IsZero() || a.Begun.IsZero() || a.Ended.Before(a.Begun) {
				t.Errorf("date %v, begun %v, ended %v", a.Date, a.Begun, a.Ended)
			}
			expect.NoText(t, fmt.Sprintf("%#v %+v", a, a), "ticket")
		})
	}
}

func list(ctx context.Context, c *clerk.Client) (clerk.Answer, int) {
	a := c.Invitations(ctx, clerk.ListQuery{})
	return a.Answer, a.Total
}

func TestUsers(t *testing.T) {
	t.Parallel()
	one := `{"object":"user","id":"user_1","first_name":"Jane","email_addresses":[{"id":"idn_1","email_address":"a@example.com"},{"id":"idn_2","email_address":"b@example.com"}]}`
	for _, body := range []string{"[" + one + "]", `{"data":[` + one + `],"total_count":1}`} {
		f := newFake(t, clerk.Config{}, answering(http.StatusOK, body))
		a := f.Users(within(t, 10*time.Second), []string{"a@example.com"})
		want := []clerk.User{{ID: "user_1", Emails: []string{"a@example.com", "b@example.com"}}}
		if a.Class != clerk.Success || !reflect.DeepEqual(a.Users, want) {
			t.Errorf("%s: %s, %+v", body, a.Class, a.Users)
		}
		expect.Equal(t, "requests for one read", len(f.requests()), 1)
	}
}

func TestInstance(t *testing.T) {
	t.Parallel()
	f := newFake(t, clerk.Config{}, answering(http.StatusOK, `{"object":"instance","id":"ins_1","environment_type":"production"}`))
	if a := f.Instance(within(t, 10*time.Second)); a.Class != clerk.Success || a.ID != "ins_1" || a.Environment != "production" {
		t.Errorf("%+v", a)
	}
	f = newFake(t, clerk.Config{}, answering(http.StatusNotFound, `{"errors":[{"code":"resource_not_found"}]}`))
	if a := f.Instance(within(t, 10*time.Second)); a.Class != clerk.Stopped || a.Status != 404 || a.ID != "" {
		t.Errorf("%+v", a)
	}
}

func TestCallsNotWorthSending(t *testing.T) {
	t.Parallel()
	f := newFake(t, clerk.Config{}, answering(http.StatusOK, "[]"))
	ctx := within(t, 10*time.Second)
	for code, a := range map[string]clerk.Answer{
		"no_addresses":       f.Users(ctx, nil).Answer,
		"too_many_addresses": f.Users(ctx, make([]string, clerk.MaxUsers+1)).Answer,
		"invalid_id":         f.Revoke(ctx, "../users/user_1?x="),
		"invalid_call":       f.Create(ctx, clerk.Invite{Email: "a@example.com", PublicMetadata: json.RawMessage(`{"a`)}),
	} {
		if a.Class != clerk.BadCall || a.Code != code || a.Sent || a.Err == nil || !a.NothingDone() {
			t.Errorf("%s: %+v", code, a)
		}
	}
	for _, id := range []string{"", ".", "..", "inv_1/../2"} {
		if a := f.Revoke(ctx, id); a.Code != "invalid_id" {
			t.Errorf("revoke of %q: %+v", id, a)
		}
	}
	if seen := f.requests(); len(seen) != 0 {
		t.Errorf("sent %v", seen)
	}
}
