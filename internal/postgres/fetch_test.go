package postgres_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ulikunitz/xz"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
)

// entry is one entry of an archive. Without a kind it is a program.
type entry struct {
	name, text string
	kind       byte
	link       string
}

// saying returns a program that reports this version.
func saying(version string) string {
	return "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
}

// sound returns the entries that an archive must have.
func sound() []entry {
	return []entry{
		{name: "bin/postgres", text: saying("18.3")}, {name: "bin/initdb", text: "#!/bin/sh\n"},
		{name: "lib/libpq.so.5.18", text: "library"}, {name: "lib/libpq.so", kind: tar.TypeSymlink, link: "libpq.so.5.18"},
	}
}

// jar returns an archive in the repository's form: a zip file with a tar.xz.
func jar(t *testing.T, entries []entry) []byte {
	t.Helper()
	var out bytes.Buffer
	outer := zip.NewWriter(&out)
	inner, err := outer.Create("postgres-linux-x86_64.txz")
	must.OK(t, err)
	compressed, err := xz.NewWriter(inner)
	must.OK(t, err)
	files := tar.NewWriter(compressed)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: 0o755, Size: int64(len(e.text))}
		must.OK(t, files.WriteHeader(header))
		if _, err := files.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, closes := range []func() error{files.Close, compressed.Close, outer.Close} {
		must.OK(t, closes())
	}
	return out.Bytes()
}

func sumOf(archive []byte) string {
	sum := sha256.Sum256(archive)
	return hex.EncodeToString(sum[:])
}

// repository serves one archive and its checksum, and counts the requests for the archive.
type repository struct {
	archive []byte
	sum     string
	status  int // of the answer with the archive
	cut     bool
	asked   atomic.Int32
}

func (r *repository) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	const place = "/mirror/io/zonky/test/postgres/embedded-postgres-binaries-"
	switch rest, ok := strings.CutPrefix(req.URL.Path, place); {
	case ok && strings.HasSuffix(rest, ".jar.sha256") && r.sum != "":
		_, _ = w.Write([]byte(r.sum)) // the client notices what is missing
	case ok && strings.HasSuffix(rest, "-18.3.0.jar") && strings.Contains(rest, "/18.3.0/"):
		r.asked.Add(1)
		w.WriteHeader(max(r.status, http.StatusOK))
		if r.cut {
			_, _ = w.Write(r.archive[:len(r.archive)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(r.archive)
	default:
		http.NotFound(w, req)
	}
}

func (r *repository) serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return server.URL + "/mirror/"
}

// fetching returns the Config of a machine without PostgreSQL.
func fetching(t *testing.T, url string) postgres.Config {
	t.Helper()
	dir := newDir(t)
	c := config(dir)
	c.Root = t.TempDir()
	c.Fetched = filepath.Join(filepath.Dir(dir), "fetched")
	c.Repository, c.Release = url, postgres.DefaultRelease
	return c
}

func TestFetch(t *testing.T) {
	t.Parallel()
	archive := jar(t, sound())
	r := &repository{archive: archive, sum: sumOf(archive)}
	c := fetching(t, r.serve(t))
	for range 2 {
		must.OK(t, postgres.Fetch(t.Context(), c))
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("the archive was fetched %d times", n)
	}
	release := filepath.Join(c.Fetched, postgres.DefaultRelease)
	if text, err := os.ReadFile(filepath.Join(release, "lib", "libpq.so")); err != nil || string(text) != "library" {
		t.Errorf("through the link: %q, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(release, "bin", "initdb")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("initdb: %v, %v", info, err)
	}
	wantOnly(t, c.Fetched, postgres.DefaultRelease, "fetch.lock")
	must.OK(t, os.Remove(filepath.Join(release, "bin", "initdb")))
	if err := postgres.Fetch(t.Context(), c); err != nil || r.asked.Load() != 2 {
		t.Errorf("what somebody took a part away of: %v, fetched %d times", err, r.asked.Load())
	}
}

// wantOnly checks that a directory has exactly these entries.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must.OK(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("%s has %q, want %q", dir, got, names)
	}
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	good := jar(t, sound())
	with := func(more ...entry) []byte { return jar(t, append(sound(), more...)) }
	tests := []struct {
		name string
		r    repository
		says string
	}{
		{"another checksum", repository{archive: good, sum: strings.Repeat("ab", 32)}, "the repository says abab"},
		{"no checksum", repository{archive: good}, "(.sha256): the answer is 404"},
		{"a page instead of a checksum", repository{archive: good, sum: "<html>sign in</html>"}, "is no SHA-256"},
		{"cut off", repository{archive: good, sum: sumOf(good), cut: true}, "broke off"},
		{"not there", repository{archive: good, sum: sumOf(good), status: http.StatusNotFound}, "the answer is 404"},
		{"no archive", repository{archive: []byte("hello"), sum: sumOf([]byte("hello"))}, "zip"},
		{"dots", hostile(with(entry{name: "../../planted", text: "x"})), "escapes"},
		{"a path from the root", hostile(with(entry{name: "/tmp/bulkinvite-planted", text: "x"})), "escapes"},
		{"a link that leads out", hostile(with(entry{name: "share", kind: tar.TypeSymlink, link: "../../.."})), "escapes"},
		{"a link to the root", hostile(with(entry{name: "share", kind: tar.TypeSymlink, link: "/etc"})), "escapes"},
		{"links that lead out together", hostile(with(entry{name: "a/b/up", kind: tar.TypeSymlink, link: "../.."},
			entry{name: "a/b/out", kind: tar.TypeSymlink, link: "up/../../fetch.lock"})), "escapes"},
		{"through a link", hostile(with(entry{name: "out", kind: tar.TypeSymlink, link: "../.."}, entry{name: "out/planted", text: "x"})), "escapes"},
		{"a hard link", hostile(with(entry{name: "share", kind: tar.TypeLink, link: "../archive.jar"})), "escapes"},
		{"a link to nowhere", hostile(with(entry{name: "share", kind: tar.TypeSymlink, link: "nowhere"})), "no such file"},
		{"a pipe", hostile(with(entry{name: "pipe", kind: tar.TypeFifo})), "neither"},
		{"one file twice", hostile(with(entry{name: "bin/initdb", text: "x"})), "exists"},
		{"another version", hostile(jar(t, []entry{{name: "bin/postgres", text: saying("14.9")}, {name: "bin/initdb"}})), "14.9"},
		{"for another machine", hostile(jar(t, []entry{{name: "bin/postgres", text: "#!/nowhere/ld.so\n"}, {name: "bin/initdb"}})), "does not run here"},
		{"no initdb", hostile(jar(t, sound()[:1])), "no initdb"},
	}
	for i := range tests {
		test := &tests[i]
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := fetching(t, test.r.serve(t))
			err := postgres.Fetch(t.Context(), c)
			wantError(t, err, postgres.ErrFetch, test.says, "apt-get install postgresql", "DATABASE_URL")
			wantOnly(t, c.Fetched, "fetch.lock")
			wantOnly(t, filepath.Dir(c.Fetched), "fetched")
		})
	}
}

// hostile serves an archive with the right checksum.
func hostile(archive []byte) repository { return repository{archive: archive, sum: sumOf(archive)} }

// TestRacingFetches checks that programs that start at once fetch once, and none sees an incomplete
// result.
func TestRacingFetches(t *testing.T) {
	t.Parallel()
	archive := jar(t, sound())
	r := &repository{archive: archive, sum: sumOf(archive)}
	c := fetching(t, r.serve(t))
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			expect.OK(t, postgres.Fetch(t.Context(), c))
			if _, err := os.Stat(filepath.Join(c.Fetched, postgres.DefaultRelease, "lib", "libpq.so")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := r.asked.Load(); n != 1 {
		t.Errorf("the archive was fetched %d times", n)
	}
}

// TestFetchAfterCrash checks that Fetch removes what a killed program left.
func TestFetchAfterCrash(t *testing.T) {
	t.Parallel()
	archive := jar(t, sound())
	r := hostile(archive)
	c := fetching(t, r.serve(t))
	write(t, filepath.Join(c.Fetched, "new", "archive.jar"), "half", 0o600)
	write(t, filepath.Join(c.Fetched, "new", "tree", "bin", "postgres"), "half", 0o755)
	must.OK(t, postgres.Fetch(t.Context(), c))
	wantOnly(t, c.Fetched, postgres.DefaultRelease, "fetch.lock")
}

// TestFetchKeepsSecret checks that no error contains a repository's password.
func TestFetchKeepsSecret(t *testing.T) {
	t.Parallel()
	plain := (&repository{}).serve(t)
	c := fetching(t, strings.Replace(plain, "http://", "http://me:planted@", 1))
	err := postgres.Fetch(t.Context(), c)
	wantError(t, err, postgres.ErrFetch, "me:xxxxx@")
	if strings.Contains(err.Error(), "planted") {
		t.Errorf("the password is told: %v", err)
	}
}

// TestFetchable checks that an error is fetchable if the release would fix it. It changes PATH, so
// it is not parallel.
func TestFetchable(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, test := range []struct {
		name, made string // the major version of the data; empty: no data
		change     func(*postgres.Config)
		want       bool
	}{
		{"nothing installed", "", func(*postgres.Config) {}, true},
		{"data of the release", "18", func(*postgres.Config) {}, true},
		{"data of another version", "16", func(*postgres.Config) {}, false},
		{"nowhere to put it", "", func(c *postgres.Config) { c.Fetched = "" }, false},
		{"binaries were named", "", func(c *postgres.Config) { c.BinDir = c.Root }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := fetching(t, "")
			test.change(&c)
			if test.made != "" {
				write(t, filepath.Join(c.Dir, "data", "PG_VERSION"), test.made+"\n", 0o600)
			}
			_, err := postgres.Start(t.Context(), c)
			if err == nil {
				t.Fatal("it started")
			}
			if got := postgres.Fetchable(err); got != test.want {
				t.Errorf("%v: %v", err, got)
			}
		})
	}
}
