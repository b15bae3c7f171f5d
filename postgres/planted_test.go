package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkinvite/postgres"
)

// homeOf makes the directory of a server as the program leaves it: it belongs to the server's user, who can put anything
// there.
func homeOf(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	server, err := postgres.Start(t.Context(), config(dir))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, server)
	return dir
}

// TestPlantedFiles puts something else in the place of each file that the program opens in a directory that belongs to the
// server's user. As root the program could otherwise be made to read, write or give away a file of root's.
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
				if err := errors.Join(os.RemoveAll(path), kind.plant(secret, path)); err != nil {
					t.Fatal(err)
				}
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

// refused starts the server and returns the error, at once.
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

// symlinkTo makes a link with a relative target.
func symlinkTo(secret, path string) error {
	to, err := filepath.Rel(filepath.Dir(path), secret)
	if err != nil {
		return err
	}
	return os.Symlink(to, path)
}

// bindSocket makes a Unix socket, which nobody listens on.
func bindSocket(path string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	return errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Close(fd))
}

// A link in the place of the data leads to somebody else's, whose user the server would run as. Root's own links stand.
func TestPlantedData(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		start(t, config(newDir(t))) // an ordinary user runs servers as themselves alone
		return
	}
	dir := homeOf(t)
	data, moved := filepath.Join(dir, "data"), filepath.Join(filepath.Dir(dir), "moved")
	uid := owner(t, data)
	if err := errors.Join(os.Rename(data, moved), os.Symlink(moved, data), os.Lchown(data, uid, uid)); err != nil {
		t.Fatal(err)
	}
	wantError(t, refused(t, dir), postgres.ErrAccess, data, "remove it")
	if err := os.Lchown(data, 0, 0); err != nil {
		t.Fatal(err)
	}
	start(t, config(dir))
}

// A crash between making a file as root and giving it to the server's user leaves an empty one of root's.
func TestFileOfACrash(t *testing.T) {
	t.Parallel()
	dir := homeOf(t)
	for _, name := range []string{"postgres.log", "start.lock", "users.lock"} {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		write(t, path, "", 0o600)
	}
	start(t, config(dir))
	for _, name := range []string{"postgres.log", "start.lock", "users.lock"} {
		if got, want := owner(t, filepath.Join(dir, name)), owner(t, filepath.Join(dir, "data")); got != want {
			t.Errorf("%s belongs to user %d, want %d", name, got, want)
		}
	}
}
