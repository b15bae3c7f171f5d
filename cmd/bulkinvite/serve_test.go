package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"bulkinvite/web"
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

// TestServe starts the server without users, signs in by its link, and ends it
// by SIGTERM.
func TestServe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	c := b.command("serve", "--sandbox", "--work", "--listen", "127.0.0.1:0")
	errs, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var link string
	for lines := bufio.NewScanner(errs); link == "" && lines.Scan(); {
		if _, found, ok := strings.Cut(lines.Text(), "Sign in, once:  "); ok {
			link = found
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Jar: jar}).Get(link) //nolint:noctx // the process is ended below
	if err != nil || answer.StatusCode != http.StatusOK || answer.Request.URL.Path != "/" {
		t.Errorf("%v, %v", answer, err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	o := b.runWith("correct horse\n", "user", "maria", "--role", "operator").want(t, exitOK)
	users, err := web.ParseUsers(strings.NewReader(o.out))
	if err != nil || len(users) != 1 || users[0].Name != "maria" || users[0].Role != web.Operator {
		t.Errorf("%q: %v, %v", o.out, users, err)
	}
	b.runWith("short", "user", "maria").want(t, exitUsage)
}

// TestToken makes a token, lists it without its text, and revokes it.
func TestToken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run("token", "create", "a b").want(t, exitUsage)
	b.run("token", "create", "hr", "--expires", "soon").want(t, exitUsage)
	o := b.run("token", "create", "hr-import", "--role", "operator", "--expires", "36h", "--actor", "olga").want(t, exitOK)
	text := strings.TrimSpace(o.out)
	if !regexp.MustCompile(`^biv_[A-Za-z0-9_-]{43}$`).MatchString(text) || strings.Contains(o.err, text) {
		t.Errorf("%q, %q", o.out, o.err)
	}
	made := decode[map[string]any](t, b.run("--json", "token", "create", "other").want(t, exitOK))
	if len(made) != 4 || made["role"] != "auditor" || !strings.HasPrefix(fmt.Sprint(made["token_text"]), "biv_") {
		t.Errorf("%v", made)
	}
	listed := b.run("token", "list").want(t, exitOK).out
	if !strings.Contains(listed, "hr-import") || !strings.Contains(listed, "olga") || strings.Contains(listed, "biv_") {
		t.Error(listed)
	}
	b.run("token", "revoke", "9").want(t, exitUsage)
	b.run("token", "revoke", "1").want(t, exitOK)
	all := decode[[]web.Token](t, b.run("token", "list", "--json").want(t, exitOK))
	if len(all) != 2 || all[1].RevokedAt == nil || all[0].RevokedAt != nil {
		t.Errorf("%+v", all)
	}
}
