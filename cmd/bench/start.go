package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bulkinvite/cmd/internal/rig"
)

// mostStart is how long it may take from the start of the program to its first
// request, where the private PostgreSQL has been set up before.
const mostStart = 1500 * time.Millisecond

// starts is how fast the program starts.
type starts struct {
	runs          int
	first, create []float64 // seconds from the start of the process to its first request, and to its first create
}

// measure sends a file of one person with a PostgreSQL of the program's own,
// which starts and stops with it. The first run sets that up.
func (b *starts) measure(ctx context.Context, bench *bench) (err error) {
	dir := filepath.Join(bench.Dir, "start")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	env := rig.Environment(dir, "", benchKey)
	sandbox, err := rig.OpenStandin(ctx, bench.Binary, env, filepath.Join(dir, "sandbox.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Kill()) }()
	s := &standin{sandbox}
	env = append(env, "CLERK_API_URL="+sandbox.URL+"/v1")
	for run := range b.runs + 1 {
		file := filepath.Join(dir, fmt.Sprintf("people-%d.csv", run))
		if err := os.WriteFile(file, fmt.Appendf(nil, "email\nstart.%d@example.com\n", run), 0o600); err != nil {
			return err
		}
		began := time.Now()
		if _, err := rig.Call(ctx, bench.Binary, env, "send", file, "--yes", "--json"); err != nil {
			return err
		}
		seen, err := s.record(ctx)
		if err != nil {
			return err
		}
		if run == 0 {
			continue
		}
		ours := slices.DeleteFunc(seen.requests, func(q request) bool { return q.At.Before(began) })
		if len(ours) == 0 {
			return errors.New("send asked the sandbox for nothing")
		}
		creates := (&record{requests: ours}).begin()
		b.first = append(b.first, ours[0].At.Sub(began).Seconds())
		b.create = append(b.create, creates.Sub(began).Seconds())
		fmt.Printf("send: the first request after %.2f s, the first create after %.2f s\n", b.first[run-1], b.create[run-1])
	}
	return nil
}

func (b *starts) figures() []figure {
	limit := []float64{mostStart.Seconds()}
	return []figure{
		{work: "start of send to its first request", ours: b.first, beside: "set", limit: limit, unit: inSeconds, most: 1},
		{work: "and to its first create", ours: b.create, beside: "set", limit: limit, unit: inSeconds, most: 1},
	}
}
