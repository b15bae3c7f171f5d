package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
)

// A row whose parameter Clerk refuses says which parameter it is, wherever the reason is shown.
func TestRefusedParameterIsNamed(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	inner := s.Handler()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/invitations" {
			inner.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write([]byte(`{"errors":[{"code":"form_param_value_invalid","message":"is invalid","meta":{"param_name":"redirect_url"}}]}`))
	}))
	t.Cleanup(web.Close)
	b := newBench(t, "CLERK_API_URL="+web.URL+"/v1", "CLERK_SECRET_KEY=sk_test_param", "BULKINVITE_SETTLE=1ms", "BULKINVITE_LIMIT_BULK=off")
	b.run("send", "--yes", b.file("one.csv", listOf(0, 1))).want(t, exitRows)
	rows := decode[[]map[string]any](t, b.run("results", "1", "--json").want(t, exitOK))
	if rows[0]["bulkinvite_reason"] != "form_param_value_invalid:redirect_url" {
		t.Errorf("%v", rows[0])
	}
	expect.Text(t, b.run("why", "p000@example.com").want(t, exitOK).out,
		"Clerk refuses redirect_url (form_param_value_invalid)")
}
