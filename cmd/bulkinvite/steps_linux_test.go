package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// A database of another server is not started, but its tables are made. A script
// that asks for JSON is told nothing, whatever its standard error is.
func TestStepsOfANamedDatabase(t *testing.T) {
	t.Parallel()
	pool := postgrestest.Empty(t)
	b := newBench(t)
	b.env = slices.DeleteFunc(b.env, func(v string) bool { return strings.HasPrefix(v, "DATABASE_URL=") })
	b.env = append(b.env, "DATABASE_URL="+pool.Config().ConnString())
	tx, err := pool.Begin(t.Context())
	must.OK(t, err)
	// The migration waits to learn whether there is a table of this name.
	must.Exec(t, tx, "create table batches ()")
	exit, text := b.sit(func(term *terminal) {
		term.await("Bringing the database up to date")
		expect.OK(t, tx.Rollback(t.Context()))
	}, "batches")
	if exit != exitOK || strings.Contains(text, "PostgreSQL") || strings.Contains(text, "sandbox") {
		t.Errorf("exit status %d:\n%s", exit, text)
	}
	if exit, text := b.sit(func(*terminal) {}, "batches", "--json"); exit != exitOK || text != "[]\r\n" {
		t.Errorf("--json: exit status %d:\n%s", exit, text)
	}
	exit, text = b.sit(func(*terminal) {}, "send", "--sandbox", "--yes", "--json", hires)
	if exit != exitOK || strings.Contains(text, "Starting") {
		t.Errorf("send --json: exit status %d:\n%s", exit, text)
	}
}

// slowMirror is a mirror that serves nothing before it is told to.
func slowMirror(t *testing.T, m *mirror) (address string, serve func()) {
	t.Helper()
	target, err := url.Parse(m.url)
	must.OK(t, err)
	open := make(chan struct{})
	serve = sync.OnceFunc(func() { close(open) })
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-open:
			proxy.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		serve()
		server.Close()
	})
	return server.URL, serve
}

// inOrder checks that a text has all parts, one after the other, wherever a terminal wraps them.
func inOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := strings.Join(strings.Fields(text), " ")
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("%q is missing, or comes too early:\n%s", part, text)
			return
		}
		rest = after
	}
}
