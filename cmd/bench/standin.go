package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// standin is a sandbox in a process of its own.
type standin struct{ *rig.Standin }

// openStandin starts a sandbox and returns once it listens.
func openStandin(ctx context.Context, s *stage, args []string) (*standin, error) {
	opened, err := rig.OpenStandin(ctx, s.bench.Binary, s.env, filepath.Join(s.dir, "sandbox.log"), args...)
	if err != nil {
		return nil, err
	}
	return &standin{opened}, nil
}

// creates is how many creates, single and bulk, have arrived.
func (s *standin) creates(ctx context.Context) (int, error) {
	var stats struct {
		Requests map[string]map[string]int
	}
	if err := s.Get(ctx, "/sandbox/stats", &stats); err != nil {
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
	if err := s.Get(ctx, "/sandbox/requests", &r.requests); err != nil {
		return nil, err
	}
	if err := s.Get(ctx, "/sandbox/invitations", &r.invitations); err != nil {
		return nil, err
	}
	return r, s.Get(ctx, "/sandbox/mailbox", &r.mailbox)
}
