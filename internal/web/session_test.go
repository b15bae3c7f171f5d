package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"bulkinvite/internal/must"
	"bulkinvite/internal/web/openidtest"
)

// another starts a second server over the same database, with another configuration.
func (b *bench) another(change func(*Config)) *bench {
	b.t.Helper()
	cfg := b.server.cfg
	change(&cfg)
	other := &bench{t: b.t, pool: b.pool, now: b.now}
	var err error
	other.server, err = New(b.pool, cfg)
	must.OK(b.t, err)
	other.serve(other.server)
	return other
}

// at is the same browser, with its cookies, at another server.
func (w *browser) at(b *bench) *browser { return &browser{b, w.http} }

// TestSessionsFollowTheUsers: a session of a password ends with that password
// and with its user, and has the role that the user has now.
func TestSessionsFollowTheUsers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	olga := b.as("olga")
	with := func(changed ...User) func(*Config) { return func(c *Config) { c.Users = changed } }
	the := func(name string) User {
		return users[slices.IndexFunc(users, func(u User) bool { return u.Name == name })]
	}
	same, err := newUser("olga", Operator, password, 4) // the same password with another salt
	must.OK(t, err)
	auditor := the("olga")
	auditor.Role = Auditor
	olga.at(b.another(with(the("olga")))).get("/").want(http.StatusOK).says("olga · operator")
	olga.at(b.another(with(auditor))).get("/").want(http.StatusOK).says("olga · auditor")
	for name, gone := range map[string]func(*Config){"a new password": with(same, the("alex")), "no such user": with(the("alex")), "no users": with()} {
		if a := olga.at(b.another(gone)).get("/"); a.status != http.StatusSeeOther {
			t.Errorf("%s: the session goes on: %d", name, a.status)
		}
	}
}

// TestLinkEndsWithUsers: where people can sign in, neither the one-time link nor
// a session that it began is worth anything.
func TestLinkEndsWithUsers(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Users = nil })
	var link string
	tell := func(path string) { link = path }
	b.server.Link("root", tell)
	w := b.browser()
	w.get(link).want(http.StatusSeeOther)
	w.at(b.another(func(*Config) {})).get("/").want(http.StatusOK).says("root · operator")
	p := openidtest.New(t)
	for name, change := range map[string]func(*Config){
		"users": func(c *Config) { c.Users = users },
		"a provider": func(c *Config) {
			c.URL, c.OpenID = &url.URL{Scheme: "http", Host: "invite.test"}, &OpenID{Issuer: p.URL, ClientID: "x", Operators: []string{"hr"}}
		},
	} {
		other := b.another(change)
		if a := w.at(other).get("/"); a.status != http.StatusSeeOther {
			t.Errorf("%s: the session of the link goes on: %d", name, a.status)
		}
		other.server.Link("root", tell)
		if a := other.browser().get(link); a.status != http.StatusForbidden {
			t.Errorf("%s: the link signs in: %d", name, a.status)
		}
	}
}

// TestSessionsFollowTheProvider: a session of an identity provider ends when
// another provider or client takes its place, and has the role that its groups
// have now.
func TestSessionsFollowTheProvider(t *testing.T) {
	t.Parallel()
	b, p := setupOpenID(t)
	p.Says = map[string]any{"groups": []string{"hr", "audit", "all"}}
	w := b.browser()
	w.get("/login/openid/return?" + begin(w, p, "/").Encode()).want(http.StatusSeeOther)
	with := func(change func(*OpenID)) *browser {
		return w.at(b.another(func(c *Config) {
			o := *c.OpenID
			change(&o)
			c.OpenID = &o
		}))
	}
	with(func(*OpenID) {}).get("/").want(http.StatusOK).says("openid:u-1 · operator")
	with(func(o *OpenID) { o.Operators = []string{"it"} }).get("/").want(http.StatusOK).says("openid:u-1 · auditor")
	for name, change := range map[string]func(*OpenID){
		"issuer": func(o *OpenID) { o.Issuer = "https://login.example.com" },
		"client": func(o *OpenID) { o.ClientID = "another" },
		"groups": func(o *OpenID) { o.Operators, o.Auditors = []string{"it"}, []string{"board"} },
	} {
		if a := with(change).get("/"); a.status != http.StatusSeeOther {
			t.Errorf("another %s: the session goes on: %d", name, a.status)
		}
	}
	// Groups that have no role are nobody's business.
	if n := b.count(`select count(*) from web_sessions where groups = '{hr,audit}'`); n != 1 {
		t.Error("the session does not keep the groups that have a role, and these alone")
	}
}

// TestSessionsOfTheVersionBefore: their servers keep nothing of what granted a
// session, so that nobody can tell whether it still holds.
func TestSessionsOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	value, hash := secret()
	b.exec(`insert into web_sessions (hash, user_name, role, via) values ($1, 'olga', 'operator', 'password')`, hash)
	who, err := b.server.bySession(context.Background(), value)
	if err != nil || who != nil {
		t.Errorf("%+v, %v", who, err)
	}
}
