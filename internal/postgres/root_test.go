package postgres_test

import (
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

// owner returns the user that a file belongs to.
func owner(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	must.OK(t, err)
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// TestServerIsNotRoot checks that the server runs as the owner of its data and never as root. For
// an ordinary user that is the same user.
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

// TestOrdinaryUser makes an ordinary user start a server, which root then shares and stops. If the
// tests run as an ordinary user, all other tests cover the first half, and the second half needs
// root.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	cmd := self(t)
	if os.Geteuid() == 0 {
		nobody, err := user.Lookup("nobody")
		must.OK(t, err)
		uid, gid := number(t, nobody.Uid), number(t, nobody.Gid)
		must.OK(t, os.Mkdir(dir, 0o700))
		must.OK(t, os.Chown(dir, uid, gid))
		// The test binary is in a directory that only root can enter.
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
	// What root created on the way must not lock the user out.
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
	must.OK(t, err)
	return n
}

func copyFile(t *testing.T, from, to string) string {
	t.Helper()
	in, err := os.Open(from)
	must.OK(t, err)
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	must.OK(t, err)
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	must.OK(t, out.Close())
	return to
}

func TestClosedParent(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	closed := filepath.Join(filepath.Dir(dir), "closed")
	mode := os.FileMode(0o700) // closed to the server's user, if that is another user
	if os.Geteuid() != 0 {
		mode = 0
	}
	must.OK(t, os.Mkdir(closed, mode))
	_, err := postgres.Start(t.Context(), config(filepath.Join(closed, "below", "pg")))
	wantError(t, err, postgres.ErrAccess, closed)
	if os.Geteuid() != 0 {
		return // this user can't look into it, so it could not have created anything there
	}
	if entries, err := os.ReadDir(closed); err != nil || len(entries) > 0 {
		t.Errorf("something was made there: %v, %v", entries, err)
	}
}

func TestNarrowUmask(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), "below", "pg")
	cmd := self(t)
	cmd.Args = []string{"sh", "-c", `umask 077; exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	_, end := spawn(t, cmd, dir)
	if err := end(); err != nil {
		t.Errorf("child: %v", err)
	}
}

// TestReusedPid leaves a pid file as a power failure does. Its pid may belong to any process by
// now.
func TestReusedPid(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	server := start(t, config(dir))
	execute(t, server.URL(), "create table kept as select 42 as answer")
	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	must.OK(t, err)
	stop(t, server)

	uid := owner(t, filepath.Join(dir, "data"))
	other := exec.Command("sleep", "600")
	other.Dir = "/"
	if uid != os.Geteuid() {
		other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	must.OK(t, other.Start())
	t.Cleanup(func() {
		expect.OK(t, other.Process.Kill())
		if err := other.Wait(); err == nil {
			t.Error("the bystander ended well: something stopped it before us")
		}
	})
	_, rest, _ := strings.Cut(string(text), "\n")
	stale := strconv.Itoa(other.Process.Pid) + "\n" + rest
	must.OK(t, os.WriteFile(pidFile, []byte(stale), 0o600))
	must.OK(t, os.Chown(pidFile, uid, -1))
	if _, ok := running(t, dir); ok {
		t.Error("it runs, by the word of a stale file")
	}
	again := start(t, config(dir))
	if got := query(t, again.URL(), "select answer::text from kept"); got != "42" {
		t.Errorf("the table holds %s", got)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the bystander: %v", err)
	}
}
