package sandbox

import (
	"net"
	"net/http"
	"strings"

	"bulkinvite/internal/loopback"
)

// LocalOnly passes on requests of programs on this machine, and answers 403 to those that a page in
// a browser can make. A page's request has an Origin header unless it is a GET to the page's own
// site. A site can make the sandbox its own site by pointing its name to 127.0.0.1, but then the
// Host header has that name. A request without a Host, which HTTP/1.0 allows, does not come from a
// browser.
func LocalOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, page := r.Header["Origin"]
		switch {
		case page:
			http.Error(w, "The sandbox answers programs, not pages in a browser (Origin).", http.StatusForbidden)
		case r.Host != "" && !loopback.Host(hostname(r.Host)):
			http.Error(w, "Call the sandbox as 127.0.0.1 or localhost (Host).", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hostname returns a Host header without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}
