package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// bench is a sandbox behind an HTTP server, with its own clock.
type bench struct {
	*testing.T
	clock  *clock
	server *Server
	url    string
	client *http.Client
	key    string
}

func setup(t *testing.T, c Config) *bench {
	t.Helper()
	b := &bench{T: t, client: &http.Client{Transport: &http.Transport{}}, clock: &clock{at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}, key: "sk_test_bench"}
	if c.Now == nil {
		c.Now = b.clock.now
	}
	var err error
	b.server, err = New(c)
	must.OK(t, err)
	srv := httptest.NewServer(b.server.Handler())
	b.url = srv.URL
	t.Cleanup(func() {
		expect.OK(t, b.server.Close())
		b.client.CloseIdleConnections()
		srv.Close()
	})
	return b
}

// reply is an answer as a client sees it.
type reply struct {
	status int
	header http.Header
	body   string
}

func (b *bench) try(method, path, body string) (reply, error) {
	req, err := http.NewRequestWithContext(b.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if b.key != "" {
		req.Header.Set("Authorization", "Bearer "+b.key)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(data)}, err
}

func (b *bench) do(method, path, body string) reply {
	b.Helper()
	r, err := b.try(method, path, body)
	must.OK(b, err)
	return r
}

func (b *bench) get(path string) reply        { b.Helper(); return b.do("GET", path, "") }
func (b *bench) post(path, body string) reply { b.Helper(); return b.do("POST", path, body) }

// ok sends a request that must succeed and decodes its answer.
func (b *bench) ok(method, path, body string, into any) {
	b.Helper()
	r := b.do(method, path, body)
	if r.status != http.StatusOK {
		b.Fatalf("%s %s: %d %s", method, path, r.status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), into); err != nil {
		b.Fatalf("%s %s: %v in %s", method, path, err, r.body)
	}
}

func (b *bench) invite(email string) invitationBody {
	b.Helper()
	var in invitationBody
	b.ok("POST", "/v1/invitations", item(email), &in)
	return in
}

func (b *bench) list(query string) []invitationBody {
	b.Helper()
	var list []invitationBody
	b.ok("GET", "/v1/invitations?"+query, "", &list)
	return list
}

type box struct {
	Mails     int
	Addresses map[string]int
	Doubled   []string
}

func (b *bench) mailbox() box {
	b.Helper()
	var m box
	b.ok("GET", "/sandbox/mailbox", "", &m)
	return m
}

func (b *bench) configure(body string) {
	b.Helper()
	if r := b.post("/sandbox/config", body); r.status != http.StatusOK {
		b.Fatalf("configure: %d %s", r.status, r.body)
	}
}

// failure is an error answer.
type failure struct {
	status int
	code   string
	meta   map[string]any
}

func (r reply) failure(t *testing.T) failure {
	t.Helper()
	var body struct {
		Errors []struct {
			Message     string
			LongMessage string `json:"long_message"`
			Code        string
			Meta        map[string]any
		}
		Trace string `json:"clerk_trace_id"`
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	if len(body.Errors) != 1 || body.Errors[0].Message == "" || body.Errors[0].LongMessage == "" {
		t.Fatalf("%d %s: want one error with both messages", r.status, r.body)
	}
	if body.Trace == "" || body.Trace != r.header.Get("Clerk-Trace-Id") {
		t.Errorf("trace id %q in the body, %q in the header", body.Trace, r.header.Get("Clerk-Trace-Id"))
	}
	return failure{r.status, body.Errors[0].Code, body.Errors[0].Meta}
}

func (r reply) wants(t *testing.T, status int, code string) failure {
	t.Helper()
	f := r.failure(t)
	if f.status != status || f.code != code {
		t.Fatalf("answer %d %s, want %d %s", f.status, f.code, status, code)
	}
	return f
}

func item(email string) string { return fmt.Sprintf(`{"email_address":%q}`, email) }

func items(emails ...string) string {
	var list []string
	for _, email := range emails {
		list = append(list, item(email))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func emails(list []invitationBody) []string {
	found := []string{}
	for _, in := range list {
		found = append(found, in.EmailAddress)
	}
	return found
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"environment":  {Environment: "staging"},
		"window mode":  {WindowMode: "leaky"},
		"switch":       {Switches: Switches{Bulk: "sometimes"}},
		"limit":        {Limits: Limits{Create: Limit{N: 5}}},
		"lag":          {Switches: Switches{ListLag: -1}},
		"acceptance":   {Acceptance: Acceptance{Fraction: 2}},
		"fault kind":   {Faults: []Fault{{Kind: "explode"}}},
		"fault call":   {Faults: []Fault{{Kind: FaultRefuse, Call: "creates"}}},
		"fault status": {Faults: []Fault{{Kind: FaultStatus}}},
		"fault delay":  {Faults: []Fault{{Kind: FaultSlow}}},
		"fault share":  {Faults: []Fault{{Kind: FaultRefuse, Probability: 1.5}}},
		"fault after":  {Faults: []Fault{{Kind: FaultCutBefore, After: true}}},
		"seed":         {Users: []string{"nobody"}},
		"seed file":    {SeedFile: "there-is-none.json"},
	} {
		if s, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
			expect.OK(t, s.Close())
		}
	}
}

func TestLimitText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Limit{
		"100/1h":    {100, time.Hour},
		"100/3.6s":  {100, 3600 * time.Millisecond},
		"25/1h30m":  {25, 90 * time.Minute},
		"1000/10s":  {1000, 10 * time.Second},
		"none":      {N: -1},
		"":          {},
		"5/20m":     {5, 20 * time.Minute},
		"1000/10ms": {1000, 10 * time.Millisecond},
	} {
		var l Limit
		if err := l.UnmarshalText([]byte(text)); err != nil || l != want {
			t.Errorf("%q: %v, %v", text, l, err)
		}
		same(t, "written back", l.String(), text)
	}
	for _, text := range []string{"100", "0/1h", "x/1h", "100/x", "100/-1s", "100/0s"} {
		var l Limit
		if err := l.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestClosedServerCutsRequests(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	must.OK(t, b.server.Close())
	if r, err := b.try("POST", "/v1/invitations", item("a@example.com")); err == nil {
		t.Errorf("answer %d after Close", r.status)
	}
	if r := b.get("/sandbox/mailbox"); r.status != http.StatusBadRequest {
		t.Errorf("mailbox after Close: %d", r.status)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{
		StateFile: filepath.Join(t.TempDir(), "state"),
		Limits:    Limits{Create: Limit{100, time.Hour}, Bulk: Limit{N: -1}},
	})
	var mu sync.Mutex
	statuses := map[int]int{}
	var callers sync.WaitGroup
	for caller := range 20 {
		callers.Go(func() {
			for i := range 10 {
				// Two callers send each address.
				r, err := b.try("POST", "/v1/invitations", item(fmt.Sprintf("n%d.%d@example.com", caller/2, i)))
				expect.OK(t, err)
				mu.Lock()
				statuses[r.status]++
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	same(t, "throttled", statuses[429], 100)
	same(t, "let in", statuses[200]+statuses[400], 100)
	m := b.mailbox()
	same(t, "mails", m.Mails, statuses[200])
	same(t, "doubled", m.Doubled, []string{})
}

func TestLogHoldsNoAddresses(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var log strings.Builder
	b := setup(t, Config{
		Log:    slog.New(slog.NewTextHandler(locked{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Faults: []Fault{{Kind: FaultCutAfter, Address: "cut@example.com"}},
	})
	b.invite("ann@example.com")
	b.post("/v1/invitations", item("ann@example.com"))
	b.get("/v1/users?email_address=ann@example.com")
	if _, err := b.try("POST", "/v1/invitations", item("cut@example.com")); err == nil {
		t.Error("not cut")
	}
	var requests []entry
	b.ok("GET", "/sandbox/requests", "", &requests)
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "sandbox request"); n < 3 {
		t.Errorf("%d lines in the log", n)
	}
	expect.NoText(t, log.String(), "@", "example.com", b.key)
}

// locked is a writer for several goroutines.
type locked struct {
	mu *sync.Mutex
	to io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}
