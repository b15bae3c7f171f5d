package browsertest

import (
	"net/http"
	"strings"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/web"
	"bulkinvite/internal/web/openidtest"
)

// TestOpenID signs in with an identity provider of another site: whoever asks for
// a page goes there and back, and lands on it with the role of their group; who
// is in no group is not let in.
func TestOpenID(t *testing.T) {
	t.Parallel()
	provider := openidtest.New(t)
	s := within(t, func(c *web.Config) {
		c.Users = nil
		c.OpenID = &web.OpenID{Issuer: provider.URL, ClientID: openidtest.ClientID, ClientSecret: openidtest.ClientSecret,
			Scopes: []string{"openid", "email"}, GroupsClaim: "groups", Operators: []string{"hr"}, Auditors: []string{"audit"}}
	})
	enter := func(groups ...string) *tab {
		provider.Says = map[string]any{"email": "maria@example.com", "email_verified": true, "groups": groups}
		p := s.tab()
		p.still()
		p.open("/people?q=nobody")
		p.at("/login")
		p.lacks("Password", "Name")
		p.inspect("login-openid")
		p.press("Sign in with your organization")
		return p
	}
	for group, role := range map[string]string{"hr": "operator", "audit": "auditor"} {
		p := enter("all", group)
		p.at("/people")
		p.sees("maria@example.com · "+role, "Nobody's address begins so.")
		p.open("/")
		if drop := eval[bool](p, `!!document.getElementById("upload")`); drop != (role == "operator") {
			t.Errorf("an %s is offered to upload: %v", role, drop)
		}
		p.press("Sign out")
		p.at("/login")
	}
	p := enter("all")
	p.expect("status of 403")
	p.sees("Sign in with your organization", "group")
	p.lacks("maria@example.com")
	p.open("/")
	p.at("/login")
	p.expect("status of 401")
	status := eval[int](p, `fetch("/batches/1").then((r) => r.status)`, await)
	expect.Equal(t, "of somebody whom no group lets in", status, http.StatusUnauthorized)
	if !strings.HasPrefix(provider.Asked.Get("redirect_uri"), s.url("/login/openid/return")) {
		t.Errorf("people are sent back to %s", provider.Asked.Get("redirect_uri"))
	}
}
