package web

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/web/openidtest"
)

func setupOpenID(t *testing.T) (*bench, *openidtest.Provider) {
	t.Helper()
	p := openidtest.New(t)
	return setup(t, func(c *Config) {
		c.Users, c.URL = nil, &url.URL{Scheme: "http", Host: "invite.test"}
		c.OpenID = &OpenID{Issuer: p.URL, ClientID: openidtest.ClientID, ClientSecret: openidtest.ClientSecret, Scopes: []string{"openid", "email"}, GroupsClaim: "groups", Operators: []string{"hr"}, Auditors: []string{"audit", "board"}}
	}), p
}

// begin has a browser sent to the provider, and returns the way back with a code.
func begin(w *browser, p *openidtest.Provider, next string) url.Values {
	w.t.Helper()
	a := w.get("/login/openid?next=" + url.QueryEscape(next)).want(http.StatusSeeOther)
	to, err := url.Parse(a.location)
	if err != nil || !strings.HasPrefix(a.location, p.URL+"/auth?") {
		w.t.Fatalf("signing in begins at %s", a.location)
	}
	p.Asked = to.Query()
	return p.Back()
}

func TestOpenID(t *testing.T) {
	t.Parallel()
	b, p := setupOpenID(t)
	w := b.browser()
	w.get("/people?q=a").want(http.StatusSeeOther)
	w.get("/login?next=/people%3Fq=a").want(http.StatusOK).says(`href="/login/openid?next=%2Fpeople%3Fq%3Da"`)
	p.Says = map[string]any{"email": "maria@example.com", "email_verified": true, "groups": []string{"all", "hr"}}
	back := begin(w, p, "/people?q=a")
	for name, want := range map[string]string{"client_id": "bulkinvite", "response_type": "code", "redirect_uri": "http://invite.test/login/openid/return", "scope": "openid email"} {
		if p.Asked.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, p.Asked.Get(name), want)
		}
	}
	if a := w.get("/login/openid/return?" + back.Encode()).want(http.StatusSeeOther); a.location != "/people?q=a" {
		t.Errorf("back to %s", a.location)
	}
	w.get("/").want(http.StatusOK).says("maria@example.com · operator")
	w.get("/login/openid/return?" + back.Encode()).want(http.StatusForbidden).says("not begun here") // once

	// When the provider is given up, so are the sessions that it began.
	b.server.cfg.OpenID = nil
	w.get("/").want(http.StatusSeeOther)
}

// TestOpenIDRoles: groups decide, and a name that is not verified is no actor.
func TestOpenIDRoles(t *testing.T) {
	t.Parallel()
	b, p := setupOpenID(t)
	for want, says := range map[string]map[string]any{
		"a@example.com · auditor":  {"email": "a@example.com", "email_verified": true, "groups": []string{"board"}},
		"b@example.com · operator": {"email": "b@example.com", "email_verified": "true", "groups": []string{"audit", "hr"}},
		"openid:u-0 · auditor":     {"sub": "u-0", "email": "c@example.com", "groups": "audit"},
		"openid:u-3 · auditor":     {"sub": "u-3", "email": "h@example.com", "email_verified": "false", "groups": "audit"},
		"openid:u-4 · auditor":     {"sub": "u-4", "email": "i@example.com", "email_verified": 1, "groups": "audit"},
		"openid:u-1 · operator":    {"email": "d@example.com", "email_verified": false, "groups": []string{"hr"}},
		"openid:u-2 · operator":    {"sub": "u-2", "email": "token:x", "email_verified": true, "groups": []string{"hr"}},
		"":                         {"email": "e@example.com", "groups": []string{"HR", "hr2", ""}},
		" ":                        {"email": "f@example.com"},
		"  ":                       {"email": "g@example.com", "groups": map[string]any{"hr": true}},
	} {
		w := b.browser()
		p.Says = says
		back := "/login/openid/return?" + begin(w, p, "//evil.example").Encode()
		if strings.TrimSpace(want) == "" {
			w.get(back).want(http.StatusForbidden).says(`role="alert"`)
			w.get("/").want(http.StatusSeeOther)
			continue
		}
		if a := w.get(back).want(http.StatusSeeOther); a.location != "/" {
			t.Errorf("back to %s", a.location)
		}
		w.get("/").want(http.StatusOK).says(want)
	}
}

// TestOpenIDIsNotBelieved comes back with each thing wrong that somebody could
// have had a hand in: nobody is signed in.
func TestOpenIDIsNotBelieved(t *testing.T) {
	t.Parallel()
	b, p := setupOpenID(t)
	right := map[string]any{"email": "maria@example.com", "groups": []string{"hr"}}
	for name, wrong := range map[string]struct {
		says   map[string]any
		query  url.Values
		forged bool
		status int
		want   int
	}{
		"state":          {query: url.Values{"state": {"another"}}, want: 403},
		"no state":       {query: url.Values{"state": {""}}, want: 403},
		"code":           {query: url.Values{"code": {"another"}}, want: 403},
		"refused":        {query: url.Values{"error": {"access_denied"}}, want: 403},
		"nonce":          {says: map[string]any{"nonce": "another"}, want: 403},
		"no nonce":       {says: map[string]any{"nonce": ""}, want: 403},
		"expired":        {says: map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}, want: 403},
		"audience":       {says: map[string]any{"aud": "another"}, want: 403},
		"issuer":         {says: map[string]any{"iss": "https://evil.example"}, want: 403},
		"signature":      {forged: true, want: 403},
		"no subject":     {says: map[string]any{"sub": ""}, want: 403},
		"NUL":            {says: map[string]any{"sub": "u\x001"}, want: 403},
		"line break":     {says: map[string]any{"sub": "u\n1"}, want: 403},
		"long subject":   {says: map[string]any{"sub": strings.Repeat("u", 256)}, want: 403},
		"client":         {says: map[string]any{"azp": "another"}, want: 403},
		"no client":      {says: map[string]any{"azp": ""}, want: 403},
		"two audiences":  {says: map[string]any{"aud": []string{openidtest.ClientID, "another"}}, want: 403},
		"provider fails": {status: 503, want: 502},
	} {
		w := b.browser()
		p.Says, p.Forged, p.Status = maps.Clone(right), wrong.forged, wrong.status
		maps.Copy(p.Says, wrong.says)
		back := begin(w, p, "/")
		maps.Copy(back, wrong.query)
		if a := w.get("/login/openid/return?" + back.Encode()); a.status != wrong.want {
			t.Errorf("%s: %d, want %d", name, a.status, wrong.want)
		}
		w.get("/").want(http.StatusSeeOther)
	}
	// More audiences are fine where the token says that it was made for this client.
	p.Says, p.Forged, p.Status = maps.Clone(right), false, 0
	maps.Copy(p.Says, map[string]any{"aud": []string{"another", openidtest.ClientID}, "azp": openidtest.ClientID})
	w := b.browser()
	w.get("/login/openid/return?" + begin(w, p, "/").Encode()).want(http.StatusSeeOther)
	w.post("/logout", nil).want(http.StatusSeeOther)

	// Somebody else's way back, in a browser that began nothing, or began its own.
	p.Says, p.Forged, p.Status = right, false, 0
	back := begin(b.browser(), p, "/").Encode()
	b.browser().get("/login/openid/return?" + back).want(http.StatusForbidden)
	victim := b.browser()
	begin(victim, p, "/")
	victim.get("/login/openid/return?" + back).want(http.StatusForbidden)
	victim.get("/").want(http.StatusSeeOther)
	if n := b.count(`select count(*) from web_sessions`); n != 0 {
		t.Errorf("%d sessions began", n)
	}
}

// TestOpenIDProviderAway: the server serves while its provider is away, says so,
// and signs people in once it is back.
func TestOpenIDProviderAway(t *testing.T) {
	t.Parallel()
	b, p := setupOpenID(t)
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	issuer := b.server.cfg.OpenID.Issuer
	b.server.cfg.OpenID.Issuer = away.URL
	b.browser().get("/login/openid").want(http.StatusBadGateway).says("identity provider does not answer")
	b.server.cfg.OpenID.Issuer = issuer
	begin(b.browser(), p, "/")
}
