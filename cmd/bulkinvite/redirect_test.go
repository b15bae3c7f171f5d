package main

import (
	"net/http"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
)

// TestRedirectURLs gives each way in an address, an app's link and a path, and
// anything else.
func TestRedirectURLs(t *testing.T) {
	t.Parallel()
	b, _ := newPair(t, sandbox.Config{}, "CLERK_SECRET_KEY=sk_test_redirect")
	file := b.file("hires.csv", "email,redirect_url\na@example.com,\nb@example.com,myapp://welcome\n"+
		"c@example.com,https://app.example.com/in\nd@example.com,javascript:alert(1)\ne@example.com,//example.com\n")
	d := decode[document](t, b.run("send", "--yes", "--json", "--redirect-url", "/welcome", file).want(t, exitRows))
	if d.Outcomes["invited"] != 3 || d.Outcomes["invalid"] != 2 {
		t.Errorf("%+v", d)
	}
	serve := b.serve()
	defer serve.stop()
	status, text := serve.ask(http.MethodPost, "/api/v1/batches?redirect_url=/welcome", "text/csv", "email\nf@example.com\n")
	if status != http.StatusCreated {
		t.Errorf("a path: %d %s", status, text)
	}
	set := func(to string) (int, string) {
		return serve.ask(http.MethodPatch, "/api/v1/batches/2/options", "application/json", `{"redirect_url":"`+to+`"}`)
	}
	for _, good := range []string{"myapp://welcome", "/welcome", "https://app.example.com"} {
		if status, text := set(good); status != http.StatusOK {
			t.Errorf("%s: %d %s", good, status, text)
		}
	}
	for _, bad := range []string{"javascript://%0aalert(1)", "data:text/html,x", "//example.com", "welcome", "/wel come",
		"/" + strings.Repeat("x", 2048)} {
		o := b.run("import", "--draft", "--yes", "--again", "--redirect-url", bad, file).want(t, exitUsage)
		if !strings.Contains(o.err, "--redirect-url") {
			t.Errorf("%s: %s", bad, o.err)
		}
		if status, text := set(bad); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", bad, status, text)
		}
	}
}
