package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// invite is what a plain client sends for a person.
type invite struct {
	Email string `json:"email_address"`
}

// create sends a request for the people: a single for one on its own, else a
// bulk call. after is the Retry-After of a 429, and 0 for a success.
func (s *standin) create(ctx context.Context, bulk bool, people []string) (after time.Duration, err error) {
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
	req.Header.Set("Authorization", "Bearer "+benchKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.Client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return 0, nil
	case http.StatusTooManyRequests:
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		return time.Duration(seconds) * time.Second, err
	}
	return 0, fmt.Errorf("%s: %s", path, resp.Status)
}

// loop invites people as a plain program does: one request after another, so
// many people in each, and after a 429 the same again when Retry-After has
// passed. It ends when all are invited or the time is over.
func (s *standin) loop(ctx context.Context, people []string, size int, over time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, over)
	defer cancel()
	for len(people) > 0 {
		n := min(size, len(people))
		after, err := s.create(ctx, size > 1, people[:n])
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if after == 0 {
			people = people[n:]
			continue
		}
		select {
		case <-time.After(after):
		case <-ctx.Done():
		}
	}
	return nil
}

// spend is another client, which tells nobody and cares for no 429: it spends
// half of each limit, evenly, until stop is called.
func (s *standin) spend(ctx context.Context, window time.Duration) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	steady := func(name string, bulk bool, limit, size int) {
		tick := time.NewTicker(window / time.Duration(limit/2))
		defer tick.Stop()
		for i := 0; ; i++ {
			people := crowd(fmt.Sprintf("%s.%d", name, i), size)
			if _, err := s.create(ctx, bulk, people); err != nil && ctx.Err() == nil {
				errs <- fmt.Errorf("the other client: %w", err)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
	wg.Go(func() { steady("other", false, singles, 1) })
	wg.Go(func() { steady("others", true, bulks, bulkSize) })
	return func() error {
		cancel()
		wg.Wait()
		close(errs)
		return <-errs
	}
}
