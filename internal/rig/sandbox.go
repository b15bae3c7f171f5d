package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Sandbox is `bulkinvite sandbox` in a separate process.
type Sandbox struct {
	*Process
	URL    string // base URL without /v1
	Client *http.Client
}

// OpenSandbox starts a sandbox on a free port of loopback and returns when it listens.
func OpenSandbox(ctx context.Context, binary string, env []string, log string, args ...string) (*Sandbox, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	defer func() { _ = out.Close() }() // it is only read
	args = append([]string{"sandbox", "--listen=127.0.0.1:0", "--json"}, args...)
	p, err := Launch(ctx, binary, env, log, in, args...)
	if closing := in.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	var said struct{ URL string }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		killed := p.Kill()
		return nil, fmt.Errorf("start the sandbox: %w (%v): %s", err, killed, Tail(log))
	}
	url := strings.TrimSuffix(said.URL, "/v1")
	return &Sandbox{Process: p, URL: url, Client: &http.Client{Timeout: time.Minute}}, nil
}

// Get reads JSON from one of the sandbox's own endpoints, which are not part of Clerk's API.
func (s *Sandbox) Get(ctx context.Context, path string, into any) error {
	return s.do(ctx, http.MethodGet, path, nil, into)
}

// Post sends JSON to one of the sandbox's own endpoints.
func (s *Sandbox) Post(ctx context.Context, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.do(ctx, http.MethodPost, path, bytes.NewReader(text), nil)
}

func (s *Sandbox) do(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	if err != nil {
		return err
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the sandbox: %w", err)
	}
	defer resp.Body.Close() // it was only read
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("ask the sandbox for %s: %w", path, err)
	}
	return nil
}

// Stats has the sandbox's counts.
type Stats struct {
	Invitations int
	Requests    map[string]map[string]int // by call and status
	Largest     map[string]Largest        // by bucket
}

// Largest is the largest number of a bucket's requests in one window.
type Largest struct {
	Limit    string // NUMBER/DURATION
	Requests int
}

// Of returns the number of requests of the given calls.
func (s Stats) Of(calls ...string) int {
	n := 0
	for _, call := range calls {
		for _, answered := range s.Requests[call] {
			n += answered
		}
	}
	return n
}

// Stats returns the sandbox's counts.
func (s *Sandbox) Stats(ctx context.Context) (stats Stats, err error) {
	err = s.Get(ctx, "/sandbox/stats", &stats)
	return stats, err
}

// Creates lists the calls that create invitations.
var Creates = []string{"create", "bulk"}

// Await returns when n requests of the given calls have arrived.
func (s *Sandbox) Await(ctx context.Context, n int, calls ...string) error {
	for {
		stats, err := s.Stats(ctx)
		if err != nil || stats.Of(calls...) >= n {
			return err
		}
		if err := Sleep(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %d requests of %v, %d came: %w", n, calls, stats.Of(calls...), err)
		}
	}
}

// Create sends one request without the program: a bulk call with all people, or a single create
// with the first. after is the Retry-After of a 429, and 0 for a success.
func (s *Sandbox) Create(ctx context.Context, key string, bulk bool, people []string) (after time.Duration, err error) {
	type invite struct {
		Email string `json:"email_address"`
	}
	invites := make([]invite, len(people))
	for i, email := range people {
		invites[i].Email = email
	}
	path, body := "/v1/invitations", any(invites[0])
	if bulk {
		path, body = "/v1/invitations/bulk", invites
	}
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() // it was only read
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return 0, nil
	case http.StatusTooManyRequests:
		return time.ParseDuration(resp.Header.Get("Retry-After") + "s")
	}
	return 0, fmt.Errorf("%s: %s", path, resp.Status)
}

// Sleep waits for d. If ctx ends first, it returns the cause.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
