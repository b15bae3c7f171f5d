package postgres_test

import (
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"bulkinvite/postgres"
)

// owner returns the user that a file belongs to.
func owner(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// The server runs as somebody who is not root, and as its data's owner: as ourselves where we are an ordinary user.
func TestServerIsNotRoot(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	start(t, config(dir))
	uid := owner(t, filepath.Join(dir, "data"))
	if euid := os.Geteuid(); uid == 0 || (euid != 0 && uid != euid) {
		t.Errorf("we are %d, the server's data belongs to %d", euid, uid)
	}
	if info, err := os.Stat(filepath.Join(dir, "socket")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v, %v", info.Mode(), err)
	}
}

// TestOrdinaryUser has an ordinary user start a server, which root then shares and stops. Where the tests run as an
// ordinary user all others show the first half of it, and there is no root to show the second.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	cmd := self(t)
	if os.Geteuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, gid := number(t, nobody.Uid), number(t, nobody.Gid)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		// The test binary lies where only root can go.
		cmd.Path = copyFile(t, cmd.Path, filepath.Join(filepath.Dir(dir), "test"))
		cmd.Dir = filepath.Dir(dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	url, end := spawn(t, cmd, dir)
	execute(t, url, "create table kept as select 42 as answer")
	server := start(t, config(dir))
	if got := query(t, server.URL(), "select answer::text from kept"); got != "42" {
		t.Errorf("the table holds %s", got)
	}
	if err := end(); err != nil {
		t.Errorf("child: %v", err)
	}
	stop(t, server)
	// What root made on the way must not lock the user out.
	again := self(t)
	again.Path, again.Dir, again.SysProcAttr = cmd.Path, cmd.Dir, cmd.SysProcAttr
	if start(t, config(dir)).URL() != url {
		t.Errorf("the URL changed from %s", url)
	}
	_, end = spawn(t, again, dir)
	if err := end(); err != nil {
		t.Errorf("child: %v", err)
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func copyFile(t *testing.T, from, to string) string {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestClosedParent(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	closed := filepath.Join(filepath.Dir(dir), "closed")
	mode := os.FileMode(0o700) // closed to the server's user, where that is not us
	if os.Geteuid() != 0 {
		mode = 0
	}
	if err := os.Mkdir(closed, mode); err != nil {
		t.Fatal(err)
	}
	before := tree(t, filepath.Dir(closed))
	_, err := postgres.Start(t.Context(), config(filepath.Join(closed, "below", "pg")))
	wantError(t, err, postgres.ErrAccess, closed)
	if after := tree(t, filepath.Dir(closed)); os.Geteuid() == 0 && after != before {
		t.Errorf("something was changed:\n%s\nbefore:\n%s", after, before)
	}
}
