// Package sandboxtest runs sandboxes for tests, and makes the sandbox's own calls.
package sandboxtest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bulkinvite/internal/clerk/sandbox"
)

// Server is a sandbox that listens until its test ends.
type Server struct {
	*sandbox.Server
	URL string // of Clerk's API
	t   testing.TB
}

// New starts a sandbox.
func New(t testing.TB, config sandbox.Config) *Server {
	t.Helper()
	s, err := sandbox.New(config)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		// Close the sandbox first: that ends its delayed answers, which web.Close would wait for.
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return &Server{s, web.URL + "/v1", t}
}

// Tell posts to one of the sandbox's own calls: Tell("faults", "[]").
func (s *Server) Tell(call, body string) {
	s.t.Helper()
	ask(s.t, s.Server, http.MethodPost, call, body)
}

// Ask decodes the answer of one of the sandbox's own calls.
func (s *Server) Ask(call string, into any) {
	s.t.Helper()
	decode(s.t, call, ask(s.t, s.Server, http.MethodGet, call, ""), into)
}

// Mailbox counts e-mails.
type Mailbox struct {
	Mails     int            // e-mails in total
	Addresses map[string]int // e-mails by address
	Doubled   []string       // addresses with more than one
}

// Mailbox returns the mailbox of the sandbox.
func (s *Server) Mailbox() Mailbox {
	s.t.Helper()
	return ReadMailbox(s.t, s.Server)
}

// ReadMailbox returns the mailbox of a sandbox that does not listen.
func ReadMailbox(t testing.TB, s *sandbox.Server) (m Mailbox) {
	t.Helper()
	decode(t, "mailbox", ask(t, s, http.MethodGet, "mailbox", ""), &m)
	return m
}

func ask(t testing.TB, s *sandbox.Server, method, call, body string) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), method, "/sandbox/"+call, strings.NewReader(body))
	if s.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Fatalf("%s /sandbox/%s: %d %s", method, call, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func decode(t testing.TB, call string, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("/sandbox/%s: %v: %s", call, err, text)
	}
}
