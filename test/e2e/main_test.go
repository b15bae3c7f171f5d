//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"bulkinvite/internal/rig"
)

// window replaces Clerk's hour in tests that do not need a whole hour.
const window = 6 * time.Second

// shared is the rig of all tests.
var shared *rig.Rig

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	shared, err = rig.New(context.Background(), rig.Config{Name: "e2e", Settings: rig.Settings})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	return m.Run(), nil
}

// stage is the stage of one test. Its methods fail the test on errors.
type stage struct {
	*rig.Stage
	t   *testing.T
	ctx context.Context
}

// on makes a stage for a test. Its context ends after ten minutes.
func on(t *testing.T, c rig.Conditions) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, errors.New("it did not end in time"))
	t.Cleanup(cancel)
	s, err := shared.Stage(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, s.Close()) })
	return &stage{s, t, ctx}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// record returns everything that the sandbox recorded.
func (s *stage) record() *rig.Record {
	s.t.Helper()
	seen, err := s.Sandbox.Record(s.ctx)
	must(s.t, err)
	return seen
}

// unthrottled fails the test if the sandbox answered a request with 429.
func (s *stage) unthrottled(seen *rig.Record) {
	s.t.Helper()
	if n := seen.Answered(429); n > 0 {
		s.t.Errorf("%d answers of 429, want none", n)
	}
}

// exec runs a statement.
func (s *stage) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.Pool.Exec(s.ctx, sql, args...)
	must(s.t, err)
}

// count returns the number that a query returns.
func (s *stage) count(sql string, args ...any) (n int) {
	s.t.Helper()
	must(s.t, s.Pool.QueryRow(s.ctx, sql, args...).Scan(&n))
	return n
}

// sleep waits for d.
func (s *stage) sleep(d time.Duration) {
	s.t.Helper()
	must(s.t, rig.Sleep(s.ctx, d))
}
