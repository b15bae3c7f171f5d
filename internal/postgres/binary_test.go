package postgres

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bulkinvite/internal/must"
)

// TestPlaces creates fake installations where packages put PostgreSQL, below its own root. It
// changes PATH, so it is not parallel.
func TestPlaces(t *testing.T) {
	const home = "/home/maria"
	t.Setenv("HOME", home)
	for _, test := range []struct {
		name   string
		plants map[string]string // directory to version
		path   string            // the directory on PATH, if any
		want   string            // the directory of the installation for new data; empty: none
	}{
		{"Debian", map[string]string{"/usr/lib/postgresql/15/bin": "15.18", "/usr/lib/postgresql/9.6/bin": "9.6.24", "/usr/lib/postgresql/17/bin": "17.2"}, "", "/usr/lib/postgresql/17/bin"},
		{"Red Hat", map[string]string{"/usr/pgsql-16/bin": "16.1"}, "", "/usr/pgsql-16/bin"},
		{"Fedora and Arch", map[string]string{"/usr/bin": "16.1"}, "", "/usr/bin"},
		{"Arch, the one before", map[string]string{"/opt/pgsql-16/bin": "16.1"}, "", "/opt/pgsql-16/bin"},
		{"Alpine", map[string]string{"/usr/libexec/postgresql16": "16.1"}, "", "/usr/libexec/postgresql16"},
		{"Homebrew, Apple", map[string]string{"/opt/homebrew/opt/postgresql@16/bin": "16.1", "/opt/homebrew/opt/postgresql@17/bin": "17.2"}, "", "/opt/homebrew/opt/postgresql@17/bin"},
		{"Homebrew, Intel", map[string]string{"/usr/local/opt/postgresql@16/bin": "16.1"}, "", "/usr/local/opt/postgresql@16/bin"},
		{"Homebrew, Linux", map[string]string{"/home/linuxbrew/.linuxbrew/opt/postgresql@16/bin": "16.1"}, "", "/home/linuxbrew/.linuxbrew/opt/postgresql@16/bin"},
		{"Postgres.app", map[string]string{"/Applications/Postgres.app/Contents/Versions/17/bin": "17.2"}, "", "/Applications/Postgres.app/Contents/Versions/17/bin"},
		{"Nix", map[string]string{home + "/.nix-profile/bin": "16.1"}, "", home + "/.nix-profile/bin"},
		{"NixOS", map[string]string{"/run/current-system/sw/bin": "16.1"}, "", "/run/current-system/sw/bin"},
		{"the newest of all", map[string]string{"/usr/bin": "15.1", "/usr/pgsql-16/bin": "16.1", "/usr/local/opt/postgresql@18/bin": "18.0"}, "", "/usr/local/opt/postgresql@18/bin"},
		{"the PATH before a newer one", map[string]string{"/mine": "15.1", "/usr/pgsql-17/bin": "17.2"}, "/mine", "/mine"},
		{"but not where it is too old", map[string]string{"/mine": "14.9", "/usr/pgsql-17/bin": "17.2"}, "/mine", "/usr/pgsql-17/bin"},
		{"fetched", map[string]string{"/fetched/18.3.0/bin": "18.3", "/fetched/new/tree/bin": "19.0"}, "", "/fetched/18.3.0/bin"},
		{"installed later, and older than what was fetched", map[string]string{"/fetched/18.3.0/bin": "18.3", "/usr/pgsql-17/bin": "17.2"}, "", "/fetched/18.3.0/bin"},
		{"nothing", nil, "", ""},
		{"too old", map[string]string{"/usr/lib/postgresql/14/bin": "14.9"}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for dir, version := range test.plants {
				plant(t, filepath.Join(root, dir), version)
			}
			t.Setenv("PATH", filepath.Join(root, test.path)+string(filepath.ListSeparator)+t.TempDir())
			t.Setenv("HOME", home)
			b, err := pick(t.Context(), "", Config{Root: root, Fetched: filepath.Join(root, "fetched")})
			if (err != nil) != (test.want == "") || strings.TrimPrefix(b.dir, root) != test.want {
				t.Errorf("got %s %s, %v; want %s", strings.TrimPrefix(b.dir, root), b.version, err, test.want)
			}
		})
	}
}

// plant creates a fake server that reports this version.
func plant(t *testing.T, dir, version string) {
	t.Helper()
	must.OK(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		must.OK(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
}

func TestStaySecure(t *testing.T) {
	t.Parallel()
	via := func(from, to string, times int) error {
		request := func(text string) *http.Request {
			u, err := url.Parse(text)
			must.OK(t, err)
			return &http.Request{URL: u}
		}
		var before []*http.Request
		for range times {
			before = append(before, request(from))
		}
		return staySecure(request(to), before)
	}
	for _, test := range []struct {
		from, to string
		times    int
		ok       bool
	}{
		{"https://a/x", "https://b/x", 1, true},
		{"https://a/x", "http://b/x", 1, false},
		{"http://127.0.0.1/x", "http://127.0.0.1/y", 1, true},
		{"https://a/x", "https://a/x", 10, false},
	} {
		if err := via(test.from, test.to, test.times); (err == nil) != test.ok {
			t.Errorf("%s to %s, %d times: %v", test.from, test.to, test.times, err)
		}
	}
}

// TestRacingParents starts several programs at once under a strict umask. None may find a directory
// closed that another has just created. It changes the umask, so it is not parallel.
func TestRacingParents(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{filepath.Dir(base), base} {
		must.OK(t, os.Chmod(dir, 0o711))
	}
	defer syscall.Umask(syscall.Umask(0o077))
	own := owner{uid: -1, gid: -1, foreign: true}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for n := range 200 {
				dir := filepath.Join(base, fmt.Sprint(n), "below", "pg")
				if err := errors.Join(own.reaches(dir), makeParents(filepath.Dir(dir), own), own.reaches(dir)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	for n := range 200 {
		entries, err := os.ReadDir(filepath.Join(base, fmt.Sprint(n)))
		if err != nil || len(entries) != 1 {
			t.Fatalf("left: %v, %v", entries, err)
		}
	}
}
