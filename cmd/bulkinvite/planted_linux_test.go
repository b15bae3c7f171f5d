package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkinvite/internal/must"
)

// As root, the program keeps the sandbox's state nowhere that another user can redirect: with links in their data
// directory they had root make and write files elsewhere, and a FIFO kept it waiting.
func TestSandboxStateInDirectoryOfAnother(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if os.Geteuid() != 0 {
		b.run("send", "--sandbox", "--yes", "--json", messy).want(t, exitRows) // an ordinary user's is theirs
		return
	}
	const nobody = 65534
	made := filepath.Join(t.TempDir(), "made")
	dir := filepath.Join(b.dir, "sandbox")
	state := filepath.Join(dir, "state.jsonl")
	for _, test := range []struct {
		name  string
		plant func() error
		says  string
	}{
		{"data directory", func() error { return errors.Join(os.Symlink(made, state), os.Chown(b.dir, nobody, -1)) }, b.dir + " belongs to"},
		{"link", func() error {
			return errors.Join(os.Chown(b.dir, 0, -1), os.Symlink(made, state), os.Lchown(state, nobody, -1))
		}, state + " belongs to"},
		{"FIFO", func() error {
			return errors.Join(syscall.Mkfifo(state, 0o600), os.Chown(state, nobody, -1))
		}, state + " belongs to"},
	} {
		must.OK(t, errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755), test.plant()))
		o := b.run("send", "--sandbox", "--yes", "--json", messy).want(t, exitFailed)
		if e := decode[errorDocument](t, o); !strings.Contains(e.Error.Message, test.says) || !strings.Contains(e.Error.Remedy, "chown") {
			t.Errorf("%s: %+v", test.name, e)
		}
		if _, err := os.Lstat(made); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: root made a file elsewhere: %v", test.name, err)
		}
	}
}
