package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// standin is a sandbox in a process of its own.
type standin struct {
	process *process
	url     string // without the /v1
	client  *http.Client
}

// openStandin starts a sandbox and returns once it listens.
func openStandin(ctx context.Context, s *stage, args []string) (*standin, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	defer out.Close() //nolint:errcheck // it is only read
	log := filepath.Join(s.dir, "sandbox.log")
	p, err := launch(ctx, s.rig.binary, s.env, log, in, args...)
	if closing := in.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	var said struct{ URL string }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		killed := p.kill()
		return nil, fmt.Errorf("start the sandbox: %w (%v): %s", err, killed, tail(log))
	}
	return &standin{process: p, url: strings.TrimSuffix(said.URL, "/v1"), client: &http.Client{Timeout: time.Minute}}, nil
}

// get reads one of the sandbox's own calls.
func (s *standin) get(ctx context.Context, path string, into any) error {
	return s.do(ctx, http.MethodGet, path, nil, into)
}

// post writes one.
func (s *standin) post(ctx context.Context, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.do(ctx, http.MethodPost, path, bytes.NewReader(text), nil)
}

func (s *standin) do(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the sandbox: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
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

// creates is how many creates, single and bulk, have arrived.
func (s *standin) creates(ctx context.Context) (int, error) {
	var stats struct {
		Requests map[string]map[string]int
	}
	if err := s.get(ctx, "/sandbox/stats", &stats); err != nil {
		return 0, err
	}
	n := 0
	for _, call := range []string{"create", "bulk"} {
		for _, answered := range stats.Requests[call] {
			n += answered
		}
	}
	return n, nil
}

// await returns once so many creates have arrived.
func (s *standin) await(ctx context.Context, creates int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := s.creates(ctx)
		if err != nil || n >= creates {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d creates, %d came: %w", creates, n, context.Cause(ctx))
		}
	}
}

// record reads all that has happened.
func (s *standin) record(ctx context.Context) (*record, error) {
	r := &record{}
	if err := s.get(ctx, "/sandbox/requests", &r.requests); err != nil {
		return nil, err
	}
	if err := s.get(ctx, "/sandbox/invitations", &r.invitations); err != nil {
		return nil, err
	}
	return r, s.get(ctx, "/sandbox/mailbox", &r.mailbox)
}
