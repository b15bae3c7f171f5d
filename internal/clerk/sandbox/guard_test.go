package sandbox_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
)

func TestLocalOnly(t *testing.T) {
	t.Parallel()
	h := sandbox.LocalOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, test := range []struct {
		host   string
		origin []string
		want   int
	}{
		{"", nil, 204}, {"LOCALHOST", nil, 204}, {"127.9.9.9:1", nil, 204}, {"::1", nil, 204}, {"[::1]", nil, 204},
		{"localhost.evil.example", nil, 403}, {"127.1", nil, 403}, {"[::]:1", nil, 403}, {":8091", nil, 403},
		{"", []string{""}, 403}, {"localhost", []string{"http://localhost"}, 403},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/sandbox/stats", nil)
		r.Host = test.host
		if test.origin != nil {
			r.Header["Origin"] = test.origin
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != test.want {
			t.Errorf("Host %q, Origin %q: %d, want %d", test.host, test.origin, w.Code, test.want)
		}
	}
}
