package main

import (
	"context"

	"bulkinvite/cmd/internal/rig"
)

// bench is what all runs share.
type bench struct {
	*rig.Rig
	stages int
}

// newBench builds and starts everything. Settings are PostgreSQL's; none: its
// defaults.
func newBench(ctx context.Context, settings map[string]string) (*bench, error) {
	r, err := rig.New(ctx, rig.Config{Name: "bench", Settings: settings})
	return &bench{Rig: r}, err
}
