package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestServeRefuses: where strangers come by there must be users, and they must
// be written right; nothing is started before that is known.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", ":0"}, "there are no users"},
		{[]string{"--listen", "0.0.0.0:0"}, "there are no users"},
		{[]string{"--listen", "192.0.2.1:0"}, "there are no users"},
		{[]string{"--listen", "nowhere"}, "is no address"},
		{[]string{"--users-file", b.file("users", "olga:operator:secret")}, "no bcrypt hash"},
		{[]string{"--users-file", "/does/not/exist"}, "read --users-file"},
		{[]string{"--url", "invite.example.com"}, "--url="},
		{[]string{"--upload-quota", "0"}, "is no size"},
		{[]string{"--upload-quota", "many"}, "is no size"},
		{[]string{"--upload-quota", "9999999TiB"}, "is no size"},
		{[]string{"--work", "--reconcile-every", "-1s"}, "--reconcile-every"},
		{[]string{"--trusted-proxy", "10.0.0.0/8,10.0.0.7"}, "--trusted-proxy=10.0.0.7 is not a network"},
		{[]string{"--config", b.file("trusted.yaml", "serve:\n  trusted-proxy: [10.0.0.0/8, nowhere]\n")}, "--trusted-proxy=nowhere is not a network"},
		{[]string{"--openid-issuer", "http://login.example.com"}, "is no https address"},
		{[]string{"--openid-issuer", "https://login.example.com"}, "needs --openid-client-id"},
		{[]string{"--openid-issuer", "https://login.example.com", "--openid-client-id", "x"}, "needs --url"},
		{[]string{"--openid-issuer", "https://login.example.com", "--openid-client-id", "x", "--url", "https://invite.example.com"}, "no group has a role"},
		{[]string{"--openid-issuer", "https://login.example.com", "--openid-client-id", "x", "--url", "https://invite.example.com", "--openid-operators", "hr", "--openid-scopes", "email"}, "lacks openid"},
		{[]string{"--openid-issuer", "https://login.example.com", "--openid-client-id", "x", "--url", "https://invite.example.com", "--openid-operators", "hr", "--openid-client-secret-file", "/does/not/exist"}, "read --openid-client-secret-file"},
	} {
		o := b.run(append([]string{"serve", "--sandbox"}, c.args...)...).want(t, exitUsage)
		if !strings.Contains(o.err, c.want) {
			t.Errorf("%v: %s", c.args, o.err)
		}
	}
}

// serving is a server without users under way, and an operator's token for it.
type serving struct {
	*bench
	*exec.Cmd
	link  string // that signs in, once
	base  string // the server's address
	token string
	log   bytes.Buffer // to be read once it has ended
	heard sync.WaitGroup
}

// serve starts the server on a port of the system's choice.
func (b *bench) serve(args ...string) *serving {
	b.t.Helper()
	s := &serving{bench: b, Cmd: b.command(append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)}
	s.token = strings.TrimSpace(b.run("token", "create", "scripts-"+rand.Text(), "--role", "operator").want(b.t, exitOK).out)
	errs, err := s.StderrPipe()
	must.OK(b.t, err)
	must.OK(b.t, s.Start())
	link := make(chan string, 1)
	s.heard.Go(func() {
		defer close(link)
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			s.log.WriteString(lines.Text() + "\n")
			if _, found, ok := strings.Cut(lines.Text(), "Sign in, once:  "); ok {
				link <- found
			}
		}
	})
	if s.link = <-link; s.link == "" {
		b.t.Fatalf("the server gives no link: %s", &s.log)
	}
	s.base, _, _ = strings.Cut(s.link, "/login")
	return s
}

// ask sends a request with the token, and returns the status and the text of its answer.
func (s *serving) ask(method, path, kind, body string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, strings.NewReader(body))
	must.OK(s.t, err)
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Content-Type", kind)
	answer, err := http.DefaultClient.Do(r)
	must.OK(s.t, err)
	defer answer.Body.Close() // it was only read
	all := io.Reader(answer.Body)
	if answer.Header.Get("Content-Type") == "text/event-stream" { // which does not end
		all = io.LimitReader(all, 100)
	}
	text, err := io.ReadAll(all)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer.StatusCode, string(text)
}

// get returns what a path answers, which must be a 200.
func (s *serving) get(path string) string {
	s.t.Helper()
	status, text := s.ask(http.MethodGet, path, "", "")
	if status != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s", path, status, text)
	}
	return text
}

// stop ends it by SIGTERM and returns its log.
func (s *serving) stop() string {
	s.t.Helper()
	must.OK(s.t, s.Process.Signal(syscall.SIGTERM))
	s.heard.Wait()
	if err := s.Wait(); err != nil {
		s.t.Errorf("after SIGTERM: %v", err)
	}
	return s.log.String()
}

// TestServeReconciles: a server that works learns by itself who has accepted, as
// any worker does.
func TestServeReconciles(t *testing.T) {
	t.Parallel()
	b, s := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_live_serve", "BULKINVITE_SETTLE=1ms")
	b.run("send", "--yes", b.file("three.csv", people(3))).want(t, exitOK)
	s.Tell("accept", `{"addresses":["person1@example.com"]}`)
	serve := b.serve("--work", "--reconcile-every", "200ms")
	awaitCount(t, open(t, b.url), 1, `select count(*) from results where status = 'accepted'`)
	serve.stop()
}

// TestSessions starts the server without users, signs in by its link, and is signed out by the command.
func TestSessions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if o := b.run("sessions", "list").want(t, exitOK); o.out != "Nobody is signed in.\n" {
		t.Errorf("%q", o.out)
	}
	b.detectRaces()
	s := b.serve("--sandbox", "--work")
	jar, err := cookiejar.New(nil)
	must.OK(t, err)
	w := &http.Client{Jar: jar}
	lands := func(at, want string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		must.OK(t, err)
		r.Header.Set("Accept", "text/html")
		answer, err := w.Do(r)
		must.OK(t, err)
		defer answer.Body.Close() // nothing of it is read
		if answer.StatusCode != http.StatusOK || answer.Request.URL.Path != want {
			t.Fatalf("%d at %s, want %s", answer.StatusCode, answer.Request.URL.Path, want)
		}
	}
	lands(s.link, "/")
	expect.Text(t, b.run("sessions", "list").want(t, exitOK).out, "operator")
	for _, wrong := range [][]string{{}, {"1", "--all"}, {"--user", "x", "--all"}, {"9"}, {"0"}, {"one"}} {
		b.run(append([]string{"sessions", "end"}, wrong...)...).want(t, exitUsage)
	}
	b.run("sessions", "end", "--user", "somebody").want(t, exitOK)
	lands(s.base+"/", "/")
	b.run("sessions", "end", "1", "--actor", "olga").want(t, exitOK)
	lands(s.base+"/", "/login")
	expect.NoText(t, s.stop(), "ERROR")
}
