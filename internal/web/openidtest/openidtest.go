// Package openidtest is an OpenID Connect provider for tests. It signs the claims that a test sets,
// and checks its clients as strictly as a real provider.
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

// The only client that the provider knows.
const (
	ClientID     = "bulkinvite"
	ClientSecret = "s3cret"
)

// Provider is a provider on loopback. Its fields say what it does. Set them only while no request
// is running.
type Provider struct {
	*httptest.Server
	Asked  url.Values     // the last request to sign a user in; it is answered at once
	Says   map[string]any // claims in addition to the right ones, or instead of them
	Forged bool           // sign with another key than the provider's
	Status int            // of the token endpoint's refusal; 0: no refusal

	key, other *rsa.PrivateKey
}

// New starts a provider, which is closed when the test ends.
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
	p.URL = strings.Replace(p.URL, "127.0.0.1", "localhost", 1) // for a browser, another site than 127.0.0.1
	known.SetIssuer(p.URL)
	return p
}

// auth signs every user in and redirects them back with a code.
func (p *Provider) auth(w http.ResponseWriter, r *http.Request) {
	p.Asked = r.URL.Query()
	http.Redirect(w, r, p.Asked.Get("redirect_uri")+"?"+p.Back().Encode(), http.StatusFound)
}

// Back returns the parameters with which the last request is redirected back.
func (p *Provider) Back() url.Values {
	return url.Values{"code": {"good"}, "state": {p.Asked.Get("state")}}
}

// token returns an ID token for the code if the client has the verifier and the secret.
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
		_, _ = fmt.Fprint(w, `{"error":"invalid_grant"}`) // the client may be gone
		return
	}
	claims := map[string]any{"iss": p.URL, "aud": ClientID, "sub": "u-1", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nonce": p.Asked.Get("nonce")}
	maps.Copy(claims, p.Says)
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err) // claims of a test
	}
	key := p.key
	if p.Forged {
		key = p.other
	}
	if err := json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": oidctest.SignIDToken(key, "k1", oidc.RS256, string(text))}); err != nil {
		panic(err) // the client is a test
	}
}
