package web

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestTokens makes a token, uses it, and takes each thing away that it needs.
func TestTokens(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	make := func(name string, role Role, life time.Duration) string {
		t.Helper()
		text, err := CreateToken(t.Context(), b.pool, name, role, "olga", time.Now().Add(life))
		must.OK(t, err)
		return text
	}
	ask := func(method, path, authorization string) answer {
		t.Helper()
		w := b.browser()
		r := w.request(method, path, nil)
		r.Header.Set("Authorization", authorization)
		return w.do(r)
	}
	good := make("hr-import", Operator, time.Hour)
	random, found := strings.CutPrefix(good, "biv_")
	if bytes, err := base64.RawURLEncoding.DecodeString(random); !found || len(random) != 43 || err != nil || len(bytes) != 32 {
		t.Errorf("a token is %q", good)
	}
	ask("GET", "/people", "Bearer "+good).want(http.StatusOK).says("token:hr-import · operator")
	ask("GET", "/people", "bearer "+good).want(http.StatusOK)
	if n := b.count(`select count(*) from api_tokens where used_at > clock_timestamp() - interval '1 minute'`); n != 1 {
		t.Errorf("the use of %d tokens was noted", n)
	}
	for what, text := range map[string]string{
		"its hash": base64.RawURLEncoding.EncodeToString(hashOf(good)), "no prefix": random, "another": "biv_" + strings.Repeat("A", 43),
		"empty": "", "expired": make("expired", Operator, -time.Second),
	} {
		if a := ask("POST", "/batches/99/start", "Bearer "+text); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, a.status)
		}
	}
	ask("POST", "/batches/99/start", "Bearer "+good).want(http.StatusNotFound)
	ask("POST", "/batches/99/start", "Bearer "+make("dashboard", Auditor, time.Hour)).want(http.StatusForbidden)

	// A bad token is not made good by a session beside it; what a proxy asks for is.
	w := b.as("olga")
	r := w.request("POST", "/batches/99/start", nil)
	r.Header.Set("Authorization", "Bearer biv_wrong")
	w.do(r).want(http.StatusUnauthorized)
	r.Header.Set("Authorization", "Basic b2xnYTp4")
	w.do(r).want(http.StatusNotFound)

	tokens, err := Tokens(t.Context(), b.pool)
	if err != nil || len(tokens) != 3 || tokens[2].UsedAt == nil || tokens[1].State(time.Now()) != "expired" || tokens[0].Role != Auditor {
		t.Fatalf("%+v, %v", tokens, err)
	}
	for range 2 { // the second time does nothing
		must.OK(t, RevokeToken(t.Context(), b.pool, tokens[2].ID, "alex"))
	}
	ask("GET", "/people", "Bearer "+good).want(http.StatusSeeOther)
	if err := RevokeToken(t.Context(), b.pool, 99, "alex"); err == nil || !strings.Contains(err.Error(), "no such token") {
		t.Errorf("token 99: %v", err)
	}
	for want, sql := range map[string]string{
		"made":    `select count(*) from events where action = 'token_created' and actor = 'olga' and details->>'token' is not null`,
		"revoked": `select count(*) from events where action = 'token_revoked' and actor = 'alex'`,
		"kept":    `select count(*) from api_tokens where length(hash) <> 32`,
	} {
		if n := b.count(sql); n != map[string]int{"made": 3, "revoked": 1}[want] {
			t.Errorf("%s: %d", want, n)
		}
	}
	for name, role := range map[string]Role{"a b": Auditor, "token:x": Auditor, "": Auditor, "a": "boss"} {
		if text, err := CreateToken(t.Context(), b.pool, name, role, "olga", time.Now()); err == nil {
			t.Errorf("%q, %s made %s", name, role, text)
		}
	}
}

// TestTokenNamesAreUnique: events name a token by its name, so that two that are
// good at the same time never share one, not even if they are made at once. A name
// is free again once its token is revoked or has expired.
func TestTokenNamesAreUnique(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	create := func(name string, life time.Duration) error {
		_, err := CreateToken(t.Context(), b.pool, name, Auditor, "olga", time.Now().Add(life))
		return err
	}
	made := make(chan error)
	for range 5 {
		go func() { made <- create("hr-import", time.Hour) }()
	}
	good := 0
	for range 5 {
		if err := <-made; err == nil {
			good++
		} else if !errors.Is(err, ErrTokenExists) {
			t.Error(err)
		}
	}
	if n := b.count(`select count(*) from api_tokens`); good != 1 || n != 1 {
		t.Errorf("%d tokens were made, and %d kept", good, n)
	}
	expect.OK(t, create("HR-import", time.Hour))
	id := b.count(`select id from api_tokens where name = 'hr-import'`)
	must.OK(t, RevokeToken(t.Context(), b.pool, int64(id), "olga"))
	for _, life := range []time.Duration{-time.Second, time.Hour} {
		if err := create("hr-import", life); err != nil {
			t.Errorf("after a revoked one, and an expired one: %v", err)
		}
	}
	if err := create("hr-import", time.Hour); !errors.Is(err, ErrTokenExists) {
		t.Errorf("%v", err)
	}
	if n := b.count(`select count(*) from events where action = 'token_created'`); n != 4 {
		t.Errorf("%d events, want one for each of 4 tokens", n)
	}
}
