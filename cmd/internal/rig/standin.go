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

// Standin is a sandbox in a process of its own.
type Standin struct {
	*Process
	URL    string // without the /v1
	Client *http.Client
}

// OpenStandin starts a sandbox on a free port and returns once it listens.
func OpenStandin(ctx context.Context, binary string, env []string, log string, args ...string) (*Standin, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	defer out.Close() //nolint:errcheck // it is only read
	p, err := Launch(ctx, binary, env, log, in, append([]string{"sandbox", "--listen=127.0.0.1:0", "--json"}, args...)...)
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
	return &Standin{Process: p, URL: strings.TrimSuffix(said.URL, "/v1"), Client: &http.Client{Timeout: time.Minute}}, nil
}

// Get reads one of the sandbox's own calls.
func (s *Standin) Get(ctx context.Context, path string, into any) error {
	return s.do(ctx, http.MethodGet, path, nil, into)
}

// Post writes one.
func (s *Standin) Post(ctx context.Context, path string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.do(ctx, http.MethodPost, path, bytes.NewReader(text), nil)
}

func (s *Standin) do(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	if err != nil {
		return err
	}
	resp, err := s.Client.Do(req)
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
