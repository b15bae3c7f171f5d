package web

import (
	"net/http"
	"testing"
	"time"

	"bulkinvite/internal/must"
)

// TestMetricsAreForReaders: who is not signed in gets none, and is sent to no
// page, since scrapers follow redirects and would read that.
func TestMetricsAreForReaders(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plainText(w, http.StatusOK, "planted_metric 1") })
	})
	stranger := b.browser()
	stranger.get("/metrics").want(http.StatusUnauthorized)
	b.as("alex").get("/metrics").want(http.StatusOK).says("planted_metric 1")
	text, err := CreateToken(t.Context(), b.pool, "prometheus", Auditor, "olga", time.Now().Add(time.Hour))
	must.OK(t, err)
	r := stranger.request(http.MethodGet, "/metrics", nil)
	r.Header.Set("Authorization", "Bearer "+text)
	stranger.do(r).want(http.StatusOK).says("planted_metric 1")
}
