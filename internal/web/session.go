package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A session ends when it was not used for a working day, and after three days
// whatever happens: a batch of some thousands takes that long to watch.
const (
	sessionIdle = 8 * time.Hour
	sessionLife = 72 * time.Hour
)

// visitor is who asks.
type visitor struct {
	Name string // the actor of what they do
	Role Role
}

// secret makes a value that nobody guesses, and the hash that is kept of it.
func secret() (value string, hash []byte) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	value = base64.RawURLEncoding.EncodeToString(b[:])
	return value, hashOf(value)
}

func hashOf(value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return sum[:]
}

// cookieName keeps, over TLS, other hosts of the domain from setting the cookie.
func (s *Server) cookieName(r *http.Request) string {
	if s.secure(r) {
		return "__Host-bulkinvite"
	}
	return "bulkinvite"
}

// grant is what a session began with. The session holds only while the server's
// configuration still grants it.
type grant struct {
	via    string   // password, link or openid
	proof  []byte   // [User.proof] or [OpenID.proof]; nil for the one-time link
	groups []string // openid: the person's groups that had a role; nil for the others
}

// roleOf returns the role that a session has now, and no role once its user, their
// password or the identity provider is gone.
func (s *Server) roleOf(name string, g grant) Role {
	switch g.via {
	case "password":
		if u, known := s.door.users[name]; known && bytes.Equal(g.proof, u.proof()) {
			return u.Role
		}
	case "openid":
		if o := s.cfg.OpenID; o != nil && bytes.Equal(g.proof, o.proof()) {
			return o.role(g.groups)
		}
	case "link":
		if s.byLink() {
			return Operator
		}
	}
	return ""
}

// byLink reports whether people sign in by the one-time link: there is no other way.
func (s *Server) byLink() bool { return len(s.door.users) == 0 && s.cfg.OpenID == nil }

// admit begins a session for somebody who has shown who they are, and sends them on.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, v visitor, g grant, next string) error {
	value, hash := secret()
	_, err := s.pool.Exec(r.Context(), `insert into web_sessions (hash, user_name, role, via, proof, groups) values ($1, $2, $3, $4, $5, $6)`,
		hash, v.Name, v.Role, g.via, g.proof, g.groups)
	if err != nil {
		return fmt.Errorf("begin a session: %w", err)
	}
	s.setCookie(w, r, s.cookieName(r), value, sessionLife)
	s.log.Info("signed in", "via", g.via, "role", v.Role)
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

// setCookie keeps a value in a cookie for a time, or drops the cookie where that is negative.
func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true, Secure: s.secure(r),
		SameSite: http.SameSiteLaxMode, // strict would forget who comes back from an identity provider
	})
}

// identify finds out who asks: by the session of their cookie or, for scripts,
// by a token. Nobody is nil.
func (s *Server) identify(r *http.Request) (*visitor, error) {
	if text, shown := bearer(r); shown {
		return s.tokenOf(r.Context(), text)
	}
	cookie, err := r.Cookie(s.cookieName(r))
	if err != nil {
		return nil, nil
	}
	return s.bySession(r.Context(), cookie.Value)
}

// bySession looks a session up, checks that it is still granted and, once a minute,
// notes that it is used.
func (s *Server) bySession(ctx context.Context, value string) (*visitor, error) {
	var v visitor
	var g grant
	var stale bool
	err := s.pool.QueryRow(ctx, `
		select user_name, via, proof, groups, used_at < clock_timestamp() - interval '1 minute' from web_sessions
		where hash = $1 and used_at > clock_timestamp() - $2::interval and created_at > clock_timestamp() - $3::interval`,
		hashOf(value), sessionIdle, sessionLife).Scan(&v.Name, &g.via, &g.proof, &g.groups, &stale)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a session: %w", err)
	}
	if v.Role = s.roleOf(v.Name, g); v.Role == "" {
		return nil, nil
	}
	if stale {
		if _, err := s.pool.Exec(ctx, `update web_sessions set used_at = clock_timestamp() where hash = $1`, hashOf(value)); err != nil {
			return nil, fmt.Errorf("note that a session is used: %w", err)
		}
	}
	return &v, nil
}

// link is the one way in where there are no users: an address that signs in
// once whoever opens it, for the person who sees the server's terminal.
type link struct {
	mu    sync.Mutex
	value string
	name  string
	told  func(path string)
}

// Link makes the one-time link that signs somebody in as an operator by a name,
// and tells its path; whenever it is used, tell is called again with a new one. It
// signs nobody in where there are users or an identity provider.
func (s *Server) Link(name string, tell func(path string)) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.link.name, s.link.told = name, tell
	s.link.renew()
}

func (l *link) renew() {
	l.value, _ = secret()
	l.told("/login?once=" + l.value)
}

// use reports whether a value is the link's, and makes it worthless.
func (l *link) use(value string) (visitor, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.value == "" || subtle.ConstantTimeCompare([]byte(l.value), []byte(value)) != 1 {
		return visitor{}, false
	}
	l.renew()
	return visitor{Name: l.name, Role: Operator}, true
}

// loginView is what the page for signing in shows.
type loginView struct {
	Next     string
	Name     string
	Problem  string
	Password bool   // there are users with passwords
	Link     bool   // there is a one-time link
	OpenID   string // where signing in with the provider begins; empty: there is none
}

// loginPage asks who it is, or takes a one-time link.
func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) error {
	next := local(r.FormValue("next"))
	// Programs that look at links ask by HEAD: that must not use this one up.
	if once := r.FormValue("once"); once != "" && r.Method != http.MethodHead {
		if !s.byLink() {
			return s.showLogin(w, r, http.StatusForbidden, loginView{Next: next, Problem: "The one-time link has ended: sign in as a user."})
		}
		v, ok := s.link.use(once)
		if !ok {
			return s.showLogin(w, r, http.StatusForbidden, loginView{Next: next, Problem: "This link was used before. The server's terminal shows the next one."})
		}
		return s.admit(w, r, v, grant{via: "link"}, next)
	}
	return s.showLogin(w, r, http.StatusOK, loginView{Next: next})
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, status int, view loginView) error {
	view.Password, view.Link = len(s.door.users) > 0, s.byLink() && s.link.told != nil
	if s.cfg.OpenID != nil {
		view.OpenID = openIDPath + "?" + url.Values{"next": {view.Next}}.Encode()
	}
	return s.render(w, r, nil, status, "login", "Sign in", view)
}

// login takes a name and a password.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(w, r, 8<<10); err != nil {
		return err
	}
	view := loginView{Next: local(r.FormValue("next")), Name: r.PostFormValue("name")}
	u, err := s.door.open(r.Context(), s.from(r), view.Name, r.PostFormValue("password"), s.now())
	var refused *refusal
	switch {
	case errors.Is(err, errTooManyTries):
		s.log.Warn("signing in is slowed down: too many tries")
		w.Header().Set("Retry-After", fmt.Sprint(int(perPair.every.Seconds())))
		view.Problem = "Too many tries. Wait ten seconds before the next one."
		return s.showLogin(w, r, http.StatusTooManyRequests, view)
	case errors.As(err, &refused):
		return err
	case err != nil:
		view.Problem = "Name and password do not belong together."
		return s.showLogin(w, r, http.StatusUnauthorized, view)
	}
	return s.admit(w, r, visitor{u.Name, u.Role}, grant{via: "password", proof: u.proof()}, view.Next)
}

// logout ends the session.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if cookie, err := r.Cookie(s.cookieName(r)); err == nil {
		if _, err := s.pool.Exec(r.Context(), `delete from web_sessions where hash = $1`, hashOf(cookie.Value)); err != nil {
			return fmt.Errorf("end a session: %w", err)
		}
	}
	s.setCookie(w, r, s.cookieName(r), "", -time.Second)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// local keeps a way back within the server.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n") {
		return "/"
	}
	return next
}
