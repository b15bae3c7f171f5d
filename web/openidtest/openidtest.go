// Package openidtest is an identity provider for tests: it signs what a test
// wants it to say, and is as strict with who asks as a real one.
package openidtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
)

// The client that the provider knows.
const (
	ClientID     = "bulkinvite"
	ClientSecret = "s3cret"
)

// Provider is a provider on loopback. Its fields say what it does, and are set
// while nobody asks.
type Provider struct {
	*httptest.Server
	Asked  url.Values     // the last request to sign somebody in; it sends them back at once
	Says   map[string]any // claims, beside or instead of those that are right
	Forged bool           // sign with a key that is not the provider's
	Status int            // of the token endpoint; 0: it answers

	key, other *rsa.PrivateKey
}

// New starts a provider, which ends with the test.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{}
	for _, to := range []**rsa.PrivateKey{&p.key, &p.other} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		*to = key
	}
	known := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: p.key.Public(), KeyID: "k1", Algorithm: oidc.RS256}}}
	mux := http.NewServeMux()
	mux.Handle("/", known)
	mux.HandleFunc("GET /auth", p.auth)
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	p.URL = strings.Replace(p.URL, "127.0.0.1", "localhost", 1) // for a browser another site than one at the number
	known.SetIssuer(p.URL)
	return p
}

// auth knows who is there, and sends them back with a code.
func (p *Provider) auth(w http.ResponseWriter, r *http.Request) {
	p.Asked = r.URL.Query()
	http.Redirect(w, r, p.Asked.Get("redirect_uri")+"?"+p.Back().Encode(), http.StatusFound)
}

// Back is what people are sent back with after the last request.
func (p *Provider) Back() url.Values {
	return url.Values{"code": {"good"}, "state": {p.Asked.Get("state")}}
}

// token gives an ID token for the code, to whoever has the verifier and the secret.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	id, secret, _ := r.BasicAuth()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case p.Status != 0:
		w.WriteHeader(p.Status)
		return
	case r.FormValue("code") != "good" || base64.RawURLEncoding.EncodeToString(sum[:]) != p.Asked.Get("code_challenge") || p.Asked.Get("code_challenge_method") != "S256" ||
		id != ClientID || secret != ClientSecret || r.FormValue("redirect_uri") != p.Asked.Get("redirect_uri"):
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`) //nolint:errcheck // who asked may be gone
		return
	}
	claims := map[string]any{"iss": p.URL, "aud": ClientID, "sub": "u-1", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nonce": p.Asked.Get("nonce")}
	maps.Copy(claims, p.Says)
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err) // a test's claims
	}
	key := p.key
	if p.Forged {
		key = p.other
	}
	if err := json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": oidctest.SignIDToken(key, "k1", oidc.RS256, string(text))}); err != nil {
		panic(err) // who asked is a test
	}
}
