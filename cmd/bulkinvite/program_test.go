package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"github.com/ulikunitz/xz"

	"bulkinvite/internal/must"
)

// A test binary with one of these variables is something else than the tests.
const (
	// It is the program, so that tests run the program as a process: with signals, exit statuses and kill -9.
	asProgram = "TEST_AS_PROGRAM"
	// It compresses its standard input to xz.
	asXZ = "TEST_AS_XZ"
)

// programFile names the file that a test run inside a test starts as the program.
const programFile = "TEST_PROGRAM_FILE"

// programDir is the directory of the program, once it is built.
var programDir string

// programPath returns the file that tests start as the program. It is this test binary or, with the race detector, the
// same built without it: the race detector makes a process take five times the processor time, and a second to end.
// Some tests start the one with the race detector all the same ([bench.detectRaces]).
func programPath(t *testing.T) string {
	t.Helper()
	file, err := findProgram()
	must.OK(t, err)
	return file
}

var findProgram = sync.OnceValues(func() (file string, err error) {
	if file := os.Getenv(programFile); file != "" {
		return file, nil
	}
	race := debug.BuildSetting{Key: "-race", Value: "true"}
	if info, ok := debug.ReadBuildInfo(); ok && !slices.Contains(info.Settings, race) {
		return os.Executable()
	}
	if programDir, err = os.MkdirTemp("", "bulkinvite-test-"); err != nil {
		return "", err
	}
	file = filepath.Join(programDir, "bulkinvite")
	if out, err := exec.Command("go", "test", "-c", "-race=false", "-o", file, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return file, nil
})

// removeProgram removes what programPath has built.
func removeProgram() error { return os.RemoveAll(programDir) }

// detectRaces has the bench's processes run with the race detector, where the tests do. A process of more than one
// thread waits for races at its end, by default for a second.
func (b *bench) detectRaces() {
	b.t.Helper()
	self, err := os.Executable()
	must.OK(b.t, err)
	b.program = self
	b.env = append(b.env, "GORACE=atexit_sleep_ms=50")
}

// compress writes to xz what it reads.
func compress(to io.Writer, from io.Reader) error {
	out, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}
