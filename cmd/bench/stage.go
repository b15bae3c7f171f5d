package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/cmd/internal/rig"
	"bulkinvite/postgres"
)

// Clerk's limits on creates, per instance and hour, from the documentation of
// its Backend API: so many people can be invited in a window.
const (
	singles   = 100
	bulks     = 25
	bulkSize  = 10
	perWindow = singles + bulks*bulkSize
)

// conditions are what a run meets.
type conditions struct {
	mode    string        // "sliding" or "fixed"
	window  time.Duration // what an hour is
	sandbox []string      // more flags for the sandbox
	worker  []string      // more flags for import and work
	free    bool          // there is no limit
}

// limits are the limits on creates as flags, the sandbox's and a worker's.
func (c conditions) limits() []string {
	if c.free {
		return []string{"--limit-create=none", "--limit-bulk=none", "--limit-general=none"}
	}
	return []string{fmt.Sprintf("--limit-create=%d/%s", singles, c.window), fmt.Sprintf("--limit-bulk=%d/%s", bulks, c.window)}
}

// weight is how long a request weighs on its limit after its answer: the window
// and the margin that the ledger keeps.
func (c conditions) weight() time.Duration {
	return c.window + max(c.window/1000, 5*time.Millisecond)
}

// stage is where one run takes place: a database and a sandbox of its own.
type stage struct {
	conditions
	bench    *bench
	dir      string
	name     string // of the database
	database string // its URL
	pool     *pgxpool.Pool
	env      []string
	standin  *standin
	workers  []*rig.Process
}

// stage sets a stage up. The caller closes it.
func (r *bench) stage(ctx context.Context, c conditions) (_ *stage, err error) {
	r.stages++
	s := &stage{conditions: c, bench: r, name: fmt.Sprintf("run_%d", r.stages)}
	s.dir = filepath.Join(r.Dir, s.name)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	database, err := r.Database(ctx, s.name, "")
	if err != nil {
		return nil, err
	}
	s.database = database
	if s.pool, err = postgres.Open(ctx, database+"&pool_max_conns=2"); err != nil {
		return nil, err
	}
	s.env = rig.Environment(s.dir, database, benchKey)
	if s.standin, err = s.startSandbox(ctx); err != nil {
		return nil, err
	}
	s.env = append(s.env, "CLERK_API_URL="+s.standin.URL+"/v1")
	return s, nil
}

// benchKey makes the sandbox a production instance.
const benchKey = "sk_live_bench"

func (s *stage) startSandbox(ctx context.Context) (*standin, error) {
	args := append([]string{"--window=" + s.mode}, s.limits()...)
	return openStandin(ctx, s, append(args, s.sandbox...))
}

// importFile imports a file of the addresses, and returns when its jobs wait.
func (s *stage) importFile(ctx context.Context, people []string) error {
	file := filepath.Join(s.dir, "people.csv")
	if err := os.WriteFile(file, []byte("email\n"+strings.Join(people, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	args := append([]string{"import", file, "--yes", "--json"}, s.limits()...)
	_, err := rig.Call(ctx, s.bench.Binary, s.env, append(args, s.worker...)...)
	return err
}

// work starts so many processes that end when all is done.
func (s *stage) work(ctx context.Context, processes int) error {
	args := append([]string{"work", "--until-idle", "--log-level=warn"}, s.limits()...)
	args = append(args, s.worker...)
	for i := range processes {
		p, err := rig.Launch(ctx, s.bench.Binary, s.env, filepath.Join(s.dir, fmt.Sprintf("work-%d.log", i)), nil, args...)
		if err != nil {
			return err
		}
		s.workers = append(s.workers, p)
	}
	return nil
}

// wait waits until every worker has ended of itself.
func (s *stage) wait(ctx context.Context) error {
	for _, p := range s.workers {
		if err := p.Wait(ctx); err != nil {
			return err
		}
	}
	s.workers = nil
	return nil
}

// kill is kill -9 of every worker.
func (s *stage) kill() error {
	var err error
	for _, p := range s.workers {
		err = errors.Join(err, p.Kill())
	}
	s.workers = nil
	return err
}

// close ends the programs and drops the database.
func (s *stage) close() error {
	err := s.kill()
	if s.standin != nil {
		err = errors.Join(err, s.standin.Kill())
	}
	if s.pool != nil {
		s.pool.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, s.bench.Drop(ctx, s.name), os.RemoveAll(s.dir))
}

// report is what bulkinvite says of the batch, as far as runs look at it.
type report struct {
	State     string         `json:"state"`
	Rows      int            `json:"rows"`
	Outcomes  map[string]int `json:"outcomes"`
	Undecided int            `json:"undecided"`
}

// report asks for the only batch.
func (s *stage) report(ctx context.Context) (r report, err error) {
	out, err := rig.Call(ctx, s.bench.Binary, s.env, append([]string{"status", "1", "--json"}, s.limits()...)...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("read the status: %w", err)
	}
	return r, nil
}

// crowd makes so many addresses.
func crowd(name string, n int) []string {
	people := make([]string, n)
	for i := range people {
		people[i] = fmt.Sprintf("%s.%06d@example.com", name, i+1)
	}
	return people
}
