package web

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// OpenID says how people sign in at an identity provider, and who of them may
// do what.
type OpenID struct {
	Issuer       string // the provider's URL; it says the rest under /.well-known/openid-configuration
	ClientID     string
	ClientSecret string   // empty: a public client
	Scopes       []string // openid is one of them
	GroupsClaim  string   // the claim of the ID token that lists somebody's groups
	Operators    []string // whoever is in one of these groups is an operator
	Auditors     []string // likewise
}

// role is what somebody of these groups may do; empty: nothing.
func (o *OpenID) role(groups []string) Role {
	in := func(named []string) bool {
		return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(named, g) })
	}
	switch {
	case in(o.Operators):
		return Operator
	case in(o.Auditors):
		return Auditor
	}
	return ""
}

// withRole returns those groups that have a role.
func (o *OpenID) withRole(groups []string) []string {
	return slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return o.role([]string{g}) == "" })
}

// proof identifies the provider and the client in a session.
func (o *OpenID) proof() []byte { return hashOf(o.Issuer + "\x00" + o.ClientID) }

// Where signing in begins, and where the provider sends people back to.
const (
	openIDPath   = "/login/openid"
	openIDReturn = "/login/openid/return"
)

// A provider is given ten seconds for an answer, and a person ten minutes to
// sign in there.
const (
	providerTime = 10 * time.Second
	openIDTime   = 10 * time.Minute
)

// provider is the identity provider, once it has said where its endpoints are.
type provider struct {
	mu   sync.Mutex
	told *oidc.Provider
}

// discover asks the provider where its endpoints are, the first time. A server
// starts while its provider is away.
func (s *Server) discover() (*oidc.Provider, error) {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	if s.provider.told != nil {
		return s.provider.told, nil
	}
	// Its keys are read with the same context later, which lives as long as the server.
	p, err := oidc.NewProvider(providerContext(s.life), s.cfg.OpenID.Issuer)
	if err != nil {
		return nil, fmt.Errorf("ask the identity provider: %w", err)
	}
	s.provider.told = p
	return p, nil
}

func providerContext(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, &http.Client{Timeout: providerTime})
}

func (s *Server) oauth(p *oidc.Provider) *oauth2.Config {
	o := s.cfg.OpenID
	return &oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: p.Endpoint(), Scopes: o.Scopes,
		RedirectURL: s.cfg.URL.Scheme + "://" + s.cfg.URL.Host + openIDReturn}
}

var errProvider = refuse(http.StatusBadGateway, "Try again; if it stays, the server's log says more.", "The identity provider does not answer as it should.")

// openID sends somebody to the provider.
func (s *Server) openID(w http.ResponseWriter, r *http.Request) error {
	p, err := s.discover()
	if err != nil {
		s.log.Warn("signing in with the identity provider", "error", err)
		return errProvider
	}
	verifier := oauth2.GenerateVerifier()
	state, _ := secret()
	nonce, _ := secret()
	attempt := url.Values{"state": {state}, "nonce": {nonce}, "verifier": {verifier}, "next": {local(r.FormValue("next"))}}
	s.setCookie(w, r, s.cookieName(r)+"-openid", attempt.Encode(), openIDTime)
	at := s.oauth(p).AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	http.Redirect(w, r, at, http.StatusSeeOther)
	return nil
}

// attemptOf is what the browser keeps while somebody signs in at the provider: state,
// nonce, verifier, and next, where the page goes on. Nil: it keeps nothing of the kind.
func (s *Server) attemptOf(r *http.Request) url.Values {
	cookie, err := r.Cookie(s.cookieName(r) + "-openid")
	if err != nil {
		return nil
	}
	a, err := url.ParseQuery(cookie.Value)
	if err != nil || a.Get("state") == "" || a.Get("nonce") == "" || a.Get("verifier") == "" {
		return nil
	}
	return a
}

// openIDBack takes who comes back from the provider.
func (s *Server) openIDBack(w http.ResponseWriter, r *http.Request) error {
	a := s.attemptOf(r)
	s.setCookie(w, r, s.cookieName(r)+"-openid", "", -time.Second)
	if a == nil || subtle.ConstantTimeCompare([]byte(a.Get("state")), []byte(r.FormValue("state"))) != 1 {
		return s.notSignedIn(w, r, http.StatusForbidden, "This sign-in was not begun here, or too long ago. Begin again.")
	}
	if code := r.FormValue("error"); code != "" {
		if strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" { // whoever made the link may have written anything
			code = "unnamed"
		}
		s.log.Warn("the identity provider let somebody not sign in", "code", code)
		return s.notSignedIn(w, r, http.StatusForbidden, "The identity provider did not let you sign in.")
	}
	claims, err := s.redeem(r.Context(), a, r.FormValue("code"))
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		s.log.Warn("signing in with the identity provider", "error", err)
		return refused
	case err != nil:
		s.log.Warn("what the identity provider said of somebody is not believed", "error", err)
		return s.notSignedIn(w, r, http.StatusForbidden, "What the identity provider said could not be verified. Begin again.")
	}
	role := s.cfg.OpenID.role(claims.groups)
	if role == "" {
		s.log.Warn("somebody whose groups have no role wanted to sign in")
		return s.notSignedIn(w, r, http.StatusForbidden, "The identity provider knows you, but none of your groups may use this. Ask whoever looks after it.")
	}
	g := grant{"openid", s.cfg.OpenID.proof(), s.cfg.OpenID.withRole(claims.groups)}
	return s.admit(w, r, visitor{claims.actor(), role}, g, local(a.Get("next")))
}

func (s *Server) notSignedIn(w http.ResponseWriter, r *http.Request, status int, problem string) error {
	return s.showLogin(w, r, status, loginView{Next: "/", Problem: problem})
}

// claims are what an ID token says of somebody.
type claims struct {
	Subject  string   `json:"sub"`
	Email    string   `json:"email"`
	Verified verified `json:"email_verified"`
	Party    *string  `json:"azp"` // the client that the token was made for; nil: the token does not say
	groups   []string
}

// verified is the claim email_verified: a bool, or its text, which some providers
// send. Anything else does not count as verified.
type verified bool

// UnmarshalJSON reads the claim.
func (v *verified) UnmarshalJSON(text []byte) error {
	*v = string(text) == "true" || string(text) == `"true"`
	return nil
}

// maxSubject is how long a subject may be, in characters: OpenID Connect Core 1.0,
// section 2.
const maxSubject = 255

// check refuses what the signature does not vouch for: a token that was made for
// another client, and a subject that names nobody or can't be kept.
func (c claims) check(audience []string, client string) error {
	switch {
	case c.Party != nil && *c.Party != client, c.Party == nil && len(audience) > 1:
		return errors.New("the ID token was made for another client")
	case c.Subject == "" || len(c.Subject) > maxSubject || strings.ContainsFunc(c.Subject, unicode.IsControl):
		return errors.New("the ID token has no usable subject")
	}
	return nil
}

// actor is the name under which events record somebody: their address where the
// provider has verified it, or else what the provider calls them.
func (c claims) actor() string {
	if userName.MatchString(c.Email) && strings.Contains(c.Email, "@") && bool(c.Verified) {
		return c.Email
	}
	return "openid:" + c.Subject
}

// redeem exchanges a code for an ID token and verifies it. Where the provider
// does not answer, the error is a refusal.
func (s *Server) redeem(ctx context.Context, a url.Values, code string) (claims, error) {
	p, err := s.discover()
	if err != nil {
		return claims{}, fmt.Errorf("%w: %w", errProvider, err)
	}
	ctx = providerContext(ctx)
	token, err := s.oauth(p).Exchange(ctx, code, oauth2.VerifierOption(a.Get("verifier")))
	var answered *oauth2.RetrieveError
	switch {
	case errors.As(err, &answered): // its text has the answer in it, which is not for the log
		if answered.Response.StatusCode < http.StatusInternalServerError {
			return claims{}, fmt.Errorf("the code is not taken: %d %s", answered.Response.StatusCode, answered.ErrorCode)
		}
		return claims{}, fmt.Errorf("%w: %d %s", errProvider, answered.Response.StatusCode, answered.ErrorCode)
	case err != nil:
		return claims{}, fmt.Errorf("%w: %w", errProvider, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return claims{}, errors.New("there is no ID token in the answer")
	}
	id, err := p.Verifier(&oidc.Config{ClientID: s.cfg.OpenID.ClientID, Now: s.now}).Verify(ctx, raw)
	if err != nil {
		return claims{}, err
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.Get("nonce"))) != 1 {
		return claims{}, errors.New("the ID token is for another sign-in")
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return claims{}, fmt.Errorf("read the ID token: %w", err)
	}
	if err := c.check(id.Audience, s.cfg.OpenID.ClientID); err != nil {
		return claims{}, err
	}
	var all map[string]json.RawMessage
	if err := id.Claims(&all); err != nil {
		return claims{}, fmt.Errorf("read the ID token: %w", err)
	}
	c.groups, err = groupsIn(all[s.cfg.OpenID.GroupsClaim])
	return c, err
}

// groupsIn reads a list of groups, or the one that some providers send by itself.
func groupsIn(text json.RawMessage) ([]string, error) {
	if text == nil {
		return nil, nil
	}
	var one string
	if json.Unmarshal(text, &one) == nil {
		return []string{one}, nil
	}
	var all []string
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, errors.New("the claim of groups is no list of names")
	}
	return all, nil
}
