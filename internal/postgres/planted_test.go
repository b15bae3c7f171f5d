package postgres_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

// homeOf creates the directory of a server as the program leaves it: it belongs to the server's
// user, who can put anything there.
func homeOf(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	server, err := postgres.Start(t.Context(), config(dir))
	must.OK(t, err)
	stop(t, server)
	return dir
}

// TestPlantedFiles puts something else in the place of each file that the program opens in a
// directory of the server's user. A start must fail: otherwise that user could make root read, write
// or give away a file of root's.
func TestPlantedFiles(t *testing.T) {
	t.Parallel()
	const text = "root:secret:1\n"
	kinds := []struct {
		name  string
		plant func(secret, path string) error
	}{
		{"symlink", os.Symlink},
		{"relative link", symlinkTo},
		{"hard link", os.Link},
		{"FIFO", func(_, path string) error { return syscall.Mkfifo(path, 0o666) }},
		{"socket", func(_, path string) error { return bindSocket(path) }},
		{"directory", func(_, path string) error { return os.Mkdir(path, 0o777) }},
	}
	for _, name := range []string{"postgres.log", "start.lock", "users.lock", "data/postmaster.pid", "data/PG_VERSION"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			dir := homeOf(t)
			secret, path := filepath.Join(filepath.Dir(dir), "secret"), filepath.Join(dir, name)
			for _, kind := range kinds {
				write(t, secret, text, 0o600)
				before := owner(t, secret)
				must.OK(t, errors.Join(os.RemoveAll(path), kind.plant(secret, path)))
				err := refused(t, dir)
				if !errors.Is(err, postgres.ErrAccess) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: error %v, want one of %s", kind.name, err, path)
				}
				if err != nil && strings.Contains(err.Error(), "secret:1") {
					t.Errorf("%s: the error shows the file: %v", kind.name, err)
				}
				if got, err := os.ReadFile(secret); err != nil || string(got) != text {
					t.Errorf("%s: the file holds %q: %v", kind.name, got, err)
				}
				if now := owner(t, secret); now != before {
					t.Errorf("%s: the file was given from user %d to %d", kind.name, before, now)
				}
			}
		})
	}
}

// refused starts the server, which must fail at once, and returns the error.
func refused(t *testing.T, dir string) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		server, err := postgres.Start(t.Context(), config(dir))
		if err == nil {
			err = server.Close()
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		return errors.New("the program hangs")
	}
}

// symlinkTo creates a link with a relative target.
func symlinkTo(secret, path string) error {
	to, err := filepath.Rel(filepath.Dir(path), secret)
	if err != nil {
		return err
	}
	return os.Symlink(to, path)
}

// bindSocket creates a Unix socket on which nothing listens.
func bindSocket(path string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	return errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Close(fd))
}

// TestPlantedData puts a link to another user's data in the place of the data. The server would run
// as that user, so a start must fail. Links that root made are followed.
func TestPlantedData(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		start(t, config(newDir(t))) // an ordinary user runs servers only as themselves
		return
	}
	dir := homeOf(t)
	data, moved := filepath.Join(dir, "data"), filepath.Join(filepath.Dir(dir), "moved")
	uid := owner(t, data)
	must.OK(t, errors.Join(os.Rename(data, moved), os.Symlink(moved, data), os.Lchown(data, uid, uid)))
	wantError(t, refused(t, dir), postgres.ErrAccess, data, "remove it")
	must.OK(t, os.Lchown(data, 0, 0))
	start(t, config(dir))
}

// TestFileOfACrash checks that a start works with an empty file of root's. A crash leaves one
// between its creation and giving it to the server's user.
func TestFileOfACrash(t *testing.T) {
	t.Parallel()
	dir := homeOf(t)
	for _, name := range []string{"postgres.log", "start.lock", "users.lock"} {
		path := filepath.Join(dir, name)
		must.OK(t, os.Remove(path))
		write(t, path, "", 0o600)
	}
	start(t, config(dir))
	for _, name := range []string{"postgres.log", "start.lock", "users.lock"} {
		if got, want := owner(t, filepath.Join(dir, name)), owner(t, filepath.Join(dir, "data")); got != want {
			t.Errorf("%s belongs to user %d, want %d", name, got, want)
		}
	}
}

// TestFetchIntoDirectoryOfAnother fetches as root below a directory of another user, who puts links
// in the place of parts of it meanwhile. No file of root's may be written or opened to others.
func TestFetchIntoDirectoryOfAnother(t *testing.T) {
	t.Parallel()
	archive := jar(t, sound())
	r := hostile(archive)
	var c postgres.Config
	var secret string
	swap := func() {
		fresh := filepath.Join(c.Fetched, "new")
		err := errors.Join(os.Rename(fresh, fresh+".old"), os.Mkdir(fresh, 0o755), os.Symlink(secret, filepath.Join(fresh, "tree")))
		expect.OK(t, err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, ".jar") {
			swap()
		}
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	c = fetching(t, server.URL+"/mirror/")
	if os.Geteuid() != 0 {
		swap = func() {}
		if err := postgres.Fetch(t.Context(), c); err != nil { // an ordinary user fetches into their own directory
			t.Error(err)
		}
		return
	}
	dir := filepath.Join(filepath.Dir(c.Fetched), "theirs")
	c.Fetched = filepath.Join(dir, "fetched")
	secret = filepath.Join(filepath.Dir(dir), "secret")
	nobody, err := user.Lookup("nobody")
	must.OK(t, err)
	uid := number(t, nobody.Uid)
	must.OK(t, errors.Join(os.Mkdir(secret, 0o700), os.Mkdir(dir, 0o755), os.Chown(dir, uid, -1)))
	fetched := postgres.Fetch(t.Context(), c)
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("root's directory: %v, %v", info.Mode(), err)
	}
	wantOnly(t, secret)
	wantError(t, fetched, postgres.ErrAccess, dir+" ", "chown ")
	wantOnly(t, dir)

	// It also fails if a group may write there, or through a link of that user.
	must.OK(t, errors.Join(os.Chown(dir, 0, 1), os.Chmod(dir, 0o775)))
	wantError(t, postgres.Fetch(t.Context(), c), postgres.ErrAccess, dir+" ", "chmod")
	link := filepath.Join(filepath.Dir(dir), "link")
	must.OK(t, errors.Join(os.Chmod(dir, 0o755), os.Symlink(dir, link), os.Lchown(link, uid, -1)))
	c.Fetched = filepath.Join(link, "fetched")
	wantError(t, postgres.Fetch(t.Context(), c), postgres.ErrAccess, link+" ", "chown ")
	wantOnly(t, dir)
}

// TestPlantedProcess checks that the owner of the data can't make root stop another process with a
// link to a directory in which a process of root's works, and a pid file that names that process.
func TestPlantedProcess(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	server := start(t, config(dir))
	if os.Geteuid() != 0 {
		return // an ordinary user can stop only their own processes
	}
	data, moved, place := filepath.Join(dir, "data"), filepath.Join(dir, "moved"), filepath.Join(filepath.Dir(dir), "place")
	uid := owner(t, data)
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	must.OK(t, err)
	if err := errors.Join(os.Mkdir(place, 0o755), os.Chmod(place, 0o777|os.ModeSticky)); err != nil { // like /tmp
		t.Fatal(err)
	}
	other := exec.Command("sleep", "600")
	other.Dir = place
	must.OK(t, other.Start())
	_, rest, _ := strings.Cut(string(text), "\n")
	write(t, filepath.Join(place, "postmaster.pid"), strconv.Itoa(other.Process.Pid)+"\n"+rest, 0o600)
	err = errors.Join(os.Chown(filepath.Join(place, "postmaster.pid"), uid, uid), os.Rename(data, moved), os.Symlink(place, data),
		os.Lchown(data, uid, uid))
	must.OK(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Close() }()
	var closed error
	select {
	case closed = <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the program hangs")
	}
	if err := other.Process.Kill(); err != nil {
		t.Errorf("root's process: %v", err)
	}
	var exit *exec.ExitError
	if err := other.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("root's process ended by another signal: %v", err)
	}
	must.OK(t, errors.Join(os.Remove(data), os.Rename(moved, data)))
	stop(t, start(t, config(dir)))
	wantError(t, closed, postgres.ErrAccess, data)
}
