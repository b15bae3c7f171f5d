package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  Fault
		status int // 0: no answer
		code   string
		mails  int
	}{
		"refuse":           {fault: Fault{Kind: FaultRefuse}},
		"cut before":       {fault: Fault{Kind: FaultCutBefore}},
		"cut after":        {fault: Fault{Kind: FaultCutAfter}, mails: 1},
		"500":              {fault: Fault{Kind: FaultStatus, Status: 500}, status: 500, code: "internal_clerk_error"},
		"503 after":        {fault: Fault{Kind: FaultStatus, Status: 503, After: true}, status: 503, code: "internal_clerk_error", mails: 1},
		"409":              {fault: Fault{Kind: FaultStatus, Status: 409}, status: 409, code: "resource_locked"},
		"400 with a code":  {fault: Fault{Kind: FaultStatus, Status: 400, Code: "odd_thing"}, status: 400, code: "odd_thing"},
		"429":              {fault: Fault{Kind: FaultStatus, Status: 429}, status: 429, code: "too_many_requests"},
		"garbage":          {fault: Fault{Kind: FaultGarbage}, status: 200, mails: 1},
		"502 HTML":         {fault: Fault{Kind: FaultStatus, Status: 502, HTML: true}, status: 502},
		"502 HTML after":   {fault: Fault{Kind: FaultStatus, Status: 502, HTML: true, After: true}, status: 502, mails: 1},
		"partial, no bulk": {fault: Fault{Kind: FaultPartialBulk}, status: 200, mails: 1},
		"slow":             {fault: Fault{Kind: FaultSlow, Delay: 1}, status: 200, mails: 1},
		"slow after":       {fault: Fault{Kind: FaultSlow, Delay: 1, After: true}, status: 200, mails: 1},
		"another call":     {fault: Fault{Kind: FaultRefuse, Call: "bulk"}, status: 200, mails: 1},
		"429, and when": {
			fault: Fault{Kind: FaultStatus, Status: 429, RetryAfter: "7"}, status: 429, code: "too_many_requests",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Config{Faults: []Fault{test.fault}})
			r, err := b.try("POST", "/v1/invitations", item("a@example.com"))
			switch {
			case test.status == 0 && err == nil:
				t.Errorf("answer %d, want none", r.status)
			case test.status != 0 && err != nil:
				t.Error(err)
			case test.status != r.status:
				t.Errorf("answer %d, want %d", r.status, test.status)
			case test.code != "":
				r.wants(t, test.status, test.code)
			}
			same(t, "Retry-After", r.header.Get("Retry-After"), test.fault.RetryAfter)
			same(t, "mails", b.mailbox().Mails, test.mails)
			switch {
			case test.fault.HTML && (!strings.Contains(r.body, "<html>") || r.header.Get("Clerk-Trace-Id") != "" || r.header.Get("Content-Type") != "text/html"):
				t.Errorf("no proxy's page: %v %s", r.header, r.body)
			case test.fault.Kind == FaultGarbage && (json.Valid([]byte(r.body)) || r.body == ""):
				t.Errorf("no garbage: %s", r.body)
			case test.fault.Kind == FaultRefuse && test.status == 0 && !errors.Is(err, syscall.ECONNRESET):
				t.Errorf("refused with %v, want a reset", err)
			case test.fault.Kind == FaultCutAfter && !errors.Is(err, io.EOF):
				t.Errorf("cut with %v, want the end of the connection", err)
			}
		})
	}
}

func TestPartialBulkLacksOneItem(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Faults: []Fault{{Kind: FaultPartialBulk}}})
	var list []invitationBody
	b.ok("POST", "/v1/invitations/bulk", items("a@example.com", "b@example.com", "c@example.com"), &list)
	same(t, "answered", emails(list), []string{"a@example.com", "c@example.com"})
	same(t, "mails", b.mailbox().Mails, 3)
}

func TestFaultsChooseRequests(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault Fault
		want  string // of 9 creates: . passed, x broken
	}{
		"all":             {Fault{}, "xxxxxxxxx"},
		"first":           {Fault{First: 2}, "xx......."},
		"every":           {Fault{Every: 3}, "..x..x..x"},
		"first and every": {Fault{First: 6, Every: 3}, "..x..x..."},
		"address":         {Fault{Address: "N4@example.com"}, "....x...."},
		"every of a call": {Fault{Call: "create", Every: 4}, "...x...x."},
		"other call":      {Fault{Call: "revoke"}, "........."},
		"probability":     {Fault{Probability: 0.5, Seed: 3}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.fault.Kind, test.fault.Status = FaultStatus, 500
			run := func() (pattern string) {
				b := setup(t, Config{Faults: []Fault{test.fault}})
				for i := range 9 {
					mark := "."
					if b.post("/v1/invitations", item(fmt.Sprintf("n%d@example.com", i))).status == 500 {
						mark = "x"
					}
					pattern += mark
				}
				return pattern
			}
			got := run()
			if test.want == "" {
				same(t, "the same seed again", run(), got)
				expect.Text(t, got, "x", ".")
				return
			}
			same(t, "pattern", got, test.want)
		})
	}
}

func TestFaultsMatchAddressesOfEachCall(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	id := b.invite("j@example.com").ID
	other := b.invite("k@example.com").ID
	b.post("/sandbox/faults", `[{"kind":"status","status":500,"address":"J@example.com"}]`)
	for call, want := range map[string]int{
		"GET /v1/users?email_address=k@example.com&email_address=j@example.com": 500,
		"GET /v1/users?email_address=k@example.com":                             200,
		"GET /v1/invitations?query=j@example.com":                               500,
		"GET /v1/invitations":                                                   200,
		"POST /v1/invitations/" + id + "/revoke":                                500,
		"POST /v1/invitations/" + other + "/revoke":                             200,
	} {
		method, path, _ := strings.Cut(call, " ")
		same(t, call, b.do(method, path, "").status, want)
	}
	same(t, "in a bulk call", b.post("/v1/invitations/bulk", items("x@example.com", "j@example.com")).status, 500)
}

func TestFaultsAtRunTime(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.post("/sandbox/faults", `[{"call":"create","kind":"status","status":500,"first":1},{"kind":"slow","delay":"1ms"}]`)
	b.post("/v1/invitations", item("a@example.com")).wants(t, 500, "internal_clerk_error")
	b.invite("a@example.com")
	var faults []Fault
	b.ok("GET", "/sandbox/faults", "", &faults)
	same(t, "faults", faults, []Fault{{Call: "create", Kind: FaultStatus, Status: 500, First: 1}, {Kind: FaultSlow, Delay: Duration(time.Millisecond)}})
	for _, body := range []string{`[{"kind":"explode"}]`, `[{"kind":"refuse","often":1}]`, `{}`, `[{"kind":"slow","delay":5}]`} {
		same(t, body, b.post("/sandbox/faults", body).status, http.StatusBadRequest)
	}
	b.ok("GET", "/sandbox/faults", "", &faults)
	same(t, "faults after bad requests", len(faults), 2)
	b.ok("DELETE", "/sandbox/faults", "", &faults)
	same(t, "faults cleared", len(faults), 0)
	b.ok("POST", "/sandbox/faults", `[{"kind":"cut_after"}]`, &faults)
	if _, err := b.try("POST", "/v1/invitations", item("b@example.com")); err == nil {
		t.Error("not cut")
	}
	same(t, "mails", b.mailbox().Mails, 2)
}

func TestThrottledRequestsUseUpNoFault(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Limits: Limits{Create: Limit{1, time.Minute}}, Faults: []Fault{{Kind: FaultStatus, Status: 500, Every: 2}}})
	b.invite("a@example.com")
	b.post("/v1/invitations", item("b@example.com")).wants(t, 429, "too_many_requests")
	b.clock.advance(time.Minute)
	b.post("/v1/invitations", item("b@example.com")).wants(t, 500, "internal_clerk_error")
}

// awaitRequest waits until the sandbox has a request.
func (b *bench) awaitRequest() {
	b.Helper()
	var log []entry
	for len(log) == 0 {
		b.ok("GET", "/sandbox/requests", "", &log)
	}
}

// TestSlowRequestIsDoneAfterItsClientLeft checks that a client that closes its connection does not
// stop the work. In this way invitations exist whose answer was never received.
func TestSlowRequestIsDoneAfterItsClientLeft(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Faults: []Fault{{Kind: FaultSlow, Delay: Duration(500 * time.Millisecond), First: 1}}})
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", b.url+"/v1/invitations", strings.NewReader(item("late@example.com")))
	must.OK(t, err)
	req.Header.Set("Authorization", "Bearer sk_test_x")
	gone := make(chan error, 1)
	go func() {
		resp, err := b.client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		gone <- err
	}()
	b.awaitRequest()
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("the client did not leave in time: %v", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for b.mailbox().Mails == 0 {
		if time.Now().After(deadline) {
			t.Fatal("never done")
		}
	}
}

func TestCloseEndsDelaysWithoutEffect(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Faults: []Fault{{Kind: FaultSlow, Delay: Duration(time.Hour)}}})
	done := make(chan error, 1)
	go func() {
		_, err := b.try("POST", "/v1/invitations", item("a@example.com"))
		done <- err
	}()
	b.awaitRequest()
	must.OK(t, b.server.Close())
	if err := <-done; err == nil {
		t.Error("answered")
	}
	same(t, "mails", b.server.state.mailed, 0)
}

func TestRequestCutShortIsNone(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	must.OK(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /v1/invitations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_x\r\n"+
		"Content-Length: 100\r\n\r\n"+item("a@example.com"))
	must.OK(t, err)
	must.OK(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	must.OK(t, err)
	same(t, "answer", string(answer), "")
	same(t, "mails", b.mailbox().Mails, 0)
	var log []entry
	b.ok("GET", "/sandbox/requests", "", &log)
	same(t, "requests", len(log), 0)
}
