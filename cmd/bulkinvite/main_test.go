package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/words"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Where a program of the tests looks for PostgreSQL, and which version it fetches.
const (
	searchRoot = "TEST_SEARCH_ROOT"
	release    = "TEST_RELEASE"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		installed.Root = os.Getenv(searchRoot)
		installed.Release = cmp.Or(os.Getenv(release), installed.Release)
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	if os.Getenv(asXZ) != "" {
		if err := compress(os.Stdout, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
		os.Exit(exitOK)
	}
	words.Now = func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) } // the year of the golden files
	postgrestest.Main(m, removeProgram)
}

// bench is what a test runs the program with.
type bench struct {
	t       *testing.T
	env     []string
	program string // its file
	dir     string // the data directory
	url     string // the database
	umask   string // octal; empty: the tests' own
}

// newBench gives a test a database and a data directory of its own.
func newBench(t *testing.T, env ...string) *bench {
	t.Helper()
	b := &bench{t: t, program: programPath(t), dir: t.TempDir(), url: postgrestest.URL(t)}
	b.env = append([]string{
		asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "TZ=UTC",
		"BULKINVITE_DATA_DIR=" + b.dir, "DATABASE_URL=" + b.url,
	}, env...)
	return b
}

// private has the program start a PostgreSQL of its own. As root that runs as
// another user, who must be able to enter.
func (b *bench) private() {
	b.t.Helper()
	b.env = slices.DeleteFunc(b.env, func(v string) bool { return strings.HasPrefix(v, "DATABASE_URL=") })
	for _, dir := range []string{filepath.Dir(b.dir), b.dir} {
		must.OK(b.t, os.Chmod(dir, 0o711))
	}
}

// outcome is what a run of the program left.
type outcome struct {
	exit     int
	out, err string
}

func (b *bench) command(args ...string) *exec.Cmd {
	// Whatever goes wrong, one test's program must not hold up all others.
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	b.t.Cleanup(cancel)
	c := exec.CommandContext(ctx, b.program, args...)
	if b.umask != "" {
		c = exec.CommandContext(ctx, "sh", append([]string{"-c", "umask " + b.umask + ` && exec "$0" "$@"`, b.program}, args...)...)
	}
	c.Env = b.env
	return c
}

func (b *bench) run(args ...string) outcome {
	b.t.Helper()
	return b.runWith("", args...)
}

// runWith runs the program with a text on its standard input.
func (b *bench) runWith(stdin string, args ...string) outcome {
	b.t.Helper()
	c := b.command(args...)
	c.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// shell has bash run a script.
func (b *bench) shell(script string) (string, error) {
	c := exec.CommandContext(b.t.Context(), "bash", "-c", script)
	c.Env = b.env
	out, err := c.CombinedOutput()
	return string(out), err
}

// want fails the test unless the run ended with this exit status.
func (o outcome) want(t *testing.T, exit int) outcome {
	t.Helper()
	if o.exit != exit {
		t.Fatalf("exit status %d, want %d\nstdout: %s\nstderr: %s", o.exit, exit, o.out, o.err)
	}
	return o
}

// decode reads standard output as one JSON document and nothing else.
func decode[T any](t *testing.T, o outcome) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(o.out))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("standard output is no JSON: %v\n%s\nstderr: %s", err, o.out, o.err)
	}
	if d.More() {
		t.Fatalf("more than one document on standard output: %s", o.out)
	}
	return v
}

// file writes a file of people.
func (b *bench) file(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	must.OK(b.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// stand is a sandbox that outlives the runs of the program.
type stand struct {
	*sandboxtest.Server
	url string
}

func newStand(t *testing.T, config sandbox.Config) *stand {
	t.Helper()
	s := sandboxtest.New(t, config)
	return &stand{s, s.URL}
}

func (s *stand) mailbox(*testing.T) sandboxtest.Mailbox { return s.Mailbox() }

// mailbox reads the mailbox that a run with --sandbox left behind.
func (b *bench) mailbox() sandboxtest.Mailbox {
	b.t.Helper()
	s, err := sandbox.New(sandbox.Config{StateFile: filepath.Join(b.dir, "sandbox", "state.jsonl")})
	must.OK(b.t, err)
	defer func() {
		expect.OK(b.t, s.Close())
	}()
	return sandboxtest.ReadMailbox(b.t, s)
}

// golden compares a text with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		must.OK(t, os.MkdirAll("testdata", 0o755))
		must.OK(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must.OK(t, err)
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
