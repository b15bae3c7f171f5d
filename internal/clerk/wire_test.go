package clerk_test

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestMain makes the certificate of httptest's servers trusted before anything reads the system's
// certificates.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		server := httptest.NewTLSServer(nil)
		defer server.Close()
		dir, err := os.MkdirTemp("", "clerk-test-")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }() // at worst a small temporary directory stays
		file := filepath.Join(dir, "ca.pem")
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		if err := os.WriteFile(file, certificate, 0o600); err != nil {
			panic(err)
		}
		if err := os.Setenv("SSL_CERT_FILE", file); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// listen runs serve for each connection to a raw listener and returns the API's URL there.
func listen(t *testing.T, serve func(*net.TCPConn), config ...net.ListenConfig) string {
	t.Helper()
	l, err := append(config, net.ListenConfig{})[0].Listen(t.Context(), "tcp", "127.0.0.1:0")
	must.OK(t, err)
	var running sync.WaitGroup
	ended, end := context.WithCancel(context.Background())
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // the clean-up has closed the listener
			}
			running.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ended, func() { c.Close() })()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		expect.OK(t, l.Close())
		end()
		running.Wait()
	})
	return "http://" + l.Addr().String() + "/v1"
}

// jump is a clock that can be set forward.
type jump struct{ by atomic.Int64 }

func (j *jump) now() time.Time { return time.Now().Add(time.Duration(j.by.Load())) }

// connected runs f as soon as a request has its connection, before it is written.
func connected(ctx context.Context, f func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { f() }})
}

func TestCut(t *testing.T) {
	t.Parallel()
	const length = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
	for name, tt := range map[string]struct {
		answer string
		status int
		code   string
	}{
		"before the answer":        {"", 0, "connection_closed"},
		"in the status line":       {"HTTP/1.1 20", 0, "not_http"},
		"in the headers":           {"HTTP/1.1 200 OK\r\nContent-Ty", 0, "not_http"},
		"after the headers":        {length, 200, "connection_closed"},
		"in the body":              {length + `{"id":"inv_1","ema`, 200, "connection_closed"},
		"in a chunk":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", 200, "connection_closed"},
		"in a body that says 429":  {strings.Replace(length, "200 OK", "429 Too Many Requests", 1), 429, "connection_closed"},
		"in a body that says 400":  {strings.Replace(length, "200 OK", "400 Bad Request", 1) + `{"errors":[{"code":"duplicate_record"`, 400, "connection_closed"},
		"not HTTP":                 {"SSH-2.0-OpenSSH jane@example.com\r\n\r\n", 0, "not_http"},
		"not HTTP in its headers":  {"HTTP/1.1 200 OK\r\njane@example.com\r\n\r\n", 0, "not_http"},
		"a broken length":          {"HTTP/1.1 200 OK\r\nContent-Length: jane@example.com\r\n\r\n", 0, "connection_closed"},
		"a body that is no gzip":   {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 16\r\n\r\njane@example.com", 200, "connection_closed"},
		"an answer without an end": {"HTTP/1.1 200 OK\r\n\r\n{", 200, "not_json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := listen(t, func(c *net.TCPConn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					t.Errorf("read request: %v", err)
				}
				if _, err := io.WriteString(c, tt.answer); err != nil {
					t.Errorf("answer: %v", err)
				}
			})
			c := newClient(t, clerk.Config{URL: url})
			a := calls["create"](within(t, 10*time.Second), c)
			if tt.answer == "" { // an error that quotes the query must not be read as another error
				a = c.Users(within(t, 10*time.Second), []string{"malformed@example.com"}).Answer
			}
			class := clerk.Lost
			if tt.status == 429 {
				class = clerk.Throttled
			}
			if a.Class != class || a.Code != tt.code || a.Status != tt.status || !a.Sent || a.Err == nil {
				t.Errorf("%s %s %d sent %t: %v", a.Class, a.Code, a.Status, a.Sent, a.Err)
			}
			if a.Err != nil && strings.Contains(a.Err.Error(), "@") {
				t.Errorf("the error quotes the answer: %v", a.Err)
			}
		})
	}
}

func TestNotConnected(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	refusing := "http://" + l.Addr().String() + "/v1"
	must.OK(t, l.Close())
	tlsServer := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tlsServer.Close)
	_, port, err := net.SplitHostPort(tlsServer.Listener.Addr().String())
	must.OK(t, err)
	plain := strings.Replace(listen(t, func(c *net.TCPConn) {
		if _, err := io.WriteString(c, "220 mail.example.com\r\n"); err != nil {
			t.Error(err)
		}
	}), "http://", "https://", 1)
	silent := strings.Replace(listen(t, func(c *net.TCPConn) {
		// Ends when the client's handshake times out and the client closes the connection.
		_, _ = io.Copy(io.Discard, c)
	}), "http://", "https://", 1)
	for name, tt := range map[string]struct {
		url, code string
		timeout   time.Duration
	}{
		"refused":             {refusing, "connection_refused", 10 * time.Second},
		"no such host":        {"https://clerk..invalid/v1", "lookup_failed", 10 * time.Second},
		"another certificate": {"https://localhost:" + port + "/v1", "tls_failed", 10 * time.Second},
		"no TLS":              {plain, "tls_failed", 10 * time.Second},
		"no handshake":        {silent, "deadline_passed", 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, clerk.Config{URL: tt.url})
			for call, do := range calls {
				a := do(within(t, tt.timeout), c)
				if a.Class != clerk.NotSent || a.Code != tt.code || a.Sent || a.Status != 0 || !a.NothingDone() {
					t.Errorf("%s: %s %s sent %t: %v", call, a.Class, a.Code, a.Sent, a.Err)
				}
				if a.Err == nil || strings.Contains(a.Err.Error(), "email_address") {
					t.Errorf("%s: error %v", call, a.Err)
				}
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.ProtoMajor != 1 {
			t.Errorf("spoke %s", r.Proto)
		}
		answering(200, wireInvitation("inv_1", "jane@example.com"))(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	clock := &jump{}
	c := newClient(t, clerk.Config{URL: server.URL + "/v1", Now: clock.now})
	for range 3 {
		if a := calls["create"](within(t, 10*time.Second), c); a.Class != clerk.Success || !a.Sent {
			t.Fatalf("%s %s: %v", a.Class, a.Code, a.Err)
		}
	}
	ctx := connected(within(t, 10*time.Second), func() { clock.by.Store(int64(time.Hour)) })
	if a := calls["create"](ctx, c); a.Class != clerk.NotSent || a.Sent || a.Code != "deadline_passed" {
		t.Errorf("%s %s sent %t: %v", a.Class, a.Code, a.Sent, a.Err)
	}
	expect.Equal(t, "requests arrived", requests.Load(), 3)
}

func TestNothingIsWrittenAfterTheDeadline(t *testing.T) {
	t.Parallel()
	for name, reused := range map[string]bool{"on a new connection": false, "on one that was used": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &jump{}
			f := newFake(t, clerk.Config{Now: clock.now}, answering(200, wireInvitation("inv_1", "jane@example.com")))
			want := 0
			if reused {
				want = 1
				if a := calls["create"](within(t, time.Minute), f.Client); a.Class != clerk.Success {
					t.Fatal(a.Err)
				}
			}
			for call, do := range calls {
				clock.by.Store(0)
				ctx := connected(within(t, time.Minute), func() { clock.by.Store(int64(time.Minute)) })
				a := do(ctx, f.Client)
				if a.Class != clerk.NotSent || a.Code != "deadline_passed" || a.Sent || !errors.Is(a.Err, context.DeadlineExceeded) {
					t.Errorf("%s: %s %s sent %t: %v", call, a.Class, a.Code, a.Sent, a.Err)
				}
			}
			expect.Equal(t, "requests arrived", len(f.requests()), want)
		})
	}
}

func TestEndedBeforeItBegan(t *testing.T) {
	t.Parallel()
	f := newFake(t, clerk.Config{}, answering(200, "[]"))
	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	midway, cancel := context.WithCancel(t.Context())
	defer cancel()
	for code, ctx := range map[string]context.Context{"deadline_passed": past, "canceled": cancelled} {
		if a := calls["create"](ctx, f.Client); a.Class != clerk.NotSent || a.Code != code || a.Sent {
			t.Errorf("%s: %s %s sent %t: %v", code, a.Class, a.Code, a.Sent, a.Err)
		}
	}
	if a := calls["create"](connected(midway, cancel), f.Client); a.Class != clerk.NotSent || a.Code != "canceled" || a.Sent {
		t.Errorf("canceled with a connection: %s %s sent %t: %v", a.Class, a.Code, a.Sent, a.Err)
	}
	if seen := f.requests(); len(seen) != 0 {
		t.Errorf("%d requests arrived", len(seen))
	}
}

// TestDeadlineInTheMiddle sends a request of several writes whose deadline passes after the first.
// Clerk gets less than the stated length, so it can't act on the request.
func TestDeadlineInTheMiddle(t *testing.T) {
	t.Parallel()
	var whole atomic.Bool
	url := listen(t, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return // cut off in the headers, which is as good
		}
		n, err := io.Copy(io.Discard, r.Body)
		whole.Store(err == nil && n == r.ContentLength)
	})
	var armed atomic.Bool
	var checks atomic.Int64
	now := func() time.Time {
		if armed.Load() && checks.Add(1) > 1 {
			return time.Now().Add(time.Hour)
		}
		return time.Now()
	}
	c := newClient(t, clerk.Config{URL: url, Now: now})
	metadata, err := json.Marshal(map[string]string{"x": strings.Repeat("x", 1<<20)})
	must.OK(t, err)
	a := c.Create(connected(within(t, time.Minute), func() { armed.Store(true) }), clerk.Invite{Email: "jane@example.com", PublicMetadata: metadata})
	if a.Class != clerk.Lost || a.Code != "timeout" || !a.Sent {
		t.Errorf("%s %s sent %t: %v", a.Class, a.Code, a.Sent, a.Err)
	}
	if whole.Load() {
		t.Error("the whole request arrived")
	}
}

// TestGivenUp checks that what the kernel still holds of a request without an answer does not
// arrive later: the connection is reset instead of closed normally.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"timeout", "canceled"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if code == "timeout" {
				ctx = within(t, 200*time.Millisecond)
			}
			ended := make(chan error, 1)
			url := listen(t, func(c *net.TCPConn) {
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err == nil {
					_, err = io.Copy(io.Discard, r.Body)
				}
				if err != nil {
					t.Errorf("read request: %v", err)
				}
				if code == "canceled" {
					cancel()
				}
				_, err = c.Read(make([]byte, 1))
				ended <- err
			})
			a := calls["create"](ctx, newClient(t, clerk.Config{URL: url}))
			if a.Class != clerk.Lost || a.Code != code || !a.Sent || a.Status != 0 {
				t.Errorf("%s %s sent %t: %v", a.Class, a.Code, a.Sent, a.Err)
			}
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection ended with %v, not with a reset", err)
			}
		})
	}
}

// TestStaleConnections uses a server that closes connections which the client believes to be open,
// so that net/http uses another one. No request may arrive twice, and Sent must be right.
func TestStaleConnections(t *testing.T) {
	t.Parallel()
	for name, answersSecond := range map[string]bool{"closed after an answer": false, "closed after a request": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			arrived := map[string]int{}
			take := func(in *bufio.Reader) bool {
				r, err := http.ReadRequest(in)
				if err != nil {
					return false
				}
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				arrived[r.URL.RawQuery+string(body)]++
				return true
			}
			url := listen(t, func(c *net.TCPConn) {
				in := bufio.NewReader(c)
				if !take(in) {
					return
				}
				body := "[" + wireInvitation("inv_1", "jane@example.com") + "]"
				if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
					return // the client has given up
				}
				if answersSecond {
					take(in)
				}
			})
			c := newClient(t, clerk.Config{URL: url})
			var callers sync.WaitGroup
			for caller := range 8 {
				callers.Go(func() {
					for i := range 50 {
						email := fmt.Sprintf("p%d.%d@example.com", caller, i)
						post := c.Bulk(within(t, 10*time.Second), []clerk.Invite{{Email: email}})
						get := c.Invitations(within(t, 10*time.Second), clerk.ListQuery{Offset: caller*100 + i + 1})
						mu.Lock()
						posts := arrived[fmt.Sprintf(`[{"email_address":%q}]`, email)]
						gets := arrived[fmt.Sprintf("limit=500&offset=%d&order_by=-created_at&paginated=true", caller*100+i+1)]
						mu.Unlock()
						check(t, "post", post, posts)
						check(t, "get", get.Answer, gets)
					}
				})
			}
			callers.Wait()
		})
	}
}

func check(t *testing.T, call string, a clerk.Answer, arrived int) {
	t.Helper()
	switch {
	case arrived > 1:
		t.Errorf("a %s arrived %d times", call, arrived)
	case a.Class == clerk.Success && arrived != 1:
		t.Errorf("a %s arrived %d times and was answered", call, arrived)
	case !a.Sent && arrived != 0:
		t.Errorf("a %s arrived that is said not to have been sent", call)
	case a.Class != clerk.Success && a.Class != clerk.Lost && a.Class != clerk.NotSent:
		t.Errorf("a %s ended %s %s", call, a.Class, a.Code)
	case a.Sent == (a.Class == clerk.NotSent):
		t.Errorf("a %s ended %s, sent %t", call, a.Class, a.Sent)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	const callers = 256
	var dialed atomic.Int64
	var waiting sync.WaitGroup
	waiting.Add(callers)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting.Done()
		waiting.Wait() // answers no call before all have arrived
		answering(200, wireInvitation("inv_1", "jane@example.com"))(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dialed.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := newClient(t, clerk.Config{URL: server.URL + "/v1"})
	for range 2 {
		var done sync.WaitGroup
		for range callers {
			done.Go(func() {
				if a := calls["create"](within(t, 20*time.Second), c); a.Class != clerk.Success {
					t.Errorf("%s %s: %v", a.Class, a.Code, a.Err)
				}
			})
		}
		done.Wait()
		waiting.Add(callers)
	}
	if n := dialed.Load(); n > callers {
		t.Errorf("%d connections for %d callers", n, callers)
	}
}
