package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// bare puts the bench on a machine that has no PostgreSQL, and returns where what
// is fetched comes to lie.
func (b *bench) bare(env ...string) string {
	b.t.Helper()
	b.private()
	b.env = slices.DeleteFunc(b.env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	b.env = append(append(b.env, "PATH="+b.t.TempDir(), searchRoot+"="+b.t.TempDir()), env...)
	return filepath.Join(b.dir, "postgres-binaries")
}

// mirror serves the PostgreSQL that is installed here as a repository would.
type mirror struct {
	url     string
	release string
	asked   atomic.Int32 // for the archive
}

// newMirror makes the archive from where the tests' own server comes from.
func newMirror(t *testing.T) *mirror {
	t.Helper()
	packed.Lock()
	if packed.archive == nil {
		packed.archive, packed.release = pack(t)
	}
	archive, release := packed.archive, packed.release
	packed.Unlock()
	m := &mirror{release: release}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch base := path.Base(r.URL.Path); {
		case base == path.Base(path.Dir(path.Dir(r.URL.Path)))+"-"+release+".jar":
			m.asked.Add(1)
			_, _ = w.Write(archive) // the other side sees what is missing
		case strings.HasSuffix(base, "-"+release+".jar.sha256"):
			_, _ = fmt.Fprintf(w, "%x", sha256.Sum256(archive)) // the other side sees what is missing
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

// packed is made once: it takes seconds.
var packed struct {
	sync.Mutex
	archive []byte
	release string
}

// pack makes a repository's archive of the PostgreSQL that runs here: its
// programs, the two libraries that every database needs, and what it shares.
func pack(t *testing.T) (archive []byte, release string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), postgrestest.URL(t))
	must.OK(t, err)
	var bin, lib, share, major string
	err = conn.QueryRow(t.Context(), `
		select (select setting from pg_config where name = 'BINDIR'), (select setting from pg_config where name = 'PKGLIBDIR'),
		       (select setting from pg_config where name = 'SHAREDIR'), (current_setting('server_version_num')::int / 10000)::text`).Scan(&bin, &lib, &share, &major)
	must.OK(t, err)
	must.OK(t, conn.Close(t.Context()))
	var out bytes.Buffer
	outer := zip.NewWriter(&out)
	inner, err := outer.Create("postgres.txz")
	must.OK(t, err)
	xz := exec.CommandContext(t.Context(), programPath(t))
	xz.Env = []string{asXZ + "=1"}
	xz.Stdout, xz.Stderr = inner, t.Output()
	compressed, err := xz.StdinPipe()
	must.OK(t, err)
	must.OK(t, xz.Start())
	files := tar.NewWriter(compressed)
	add(t, files, "bin", bin, "initdb", "postgres")
	add(t, files, "lib", lib, "plpgsql.so", "dict_snowball.so")
	add(t, files, "share", share, ".")
	for _, closes := range []func() error{files.Close, compressed.Close, xz.Wait, outer.Close} {
		must.OK(t, closes())
	}
	return out.Bytes(), major + ".0.0"
}

// add writes what there is at these names below a directory, links followed.
func add(t *testing.T, files *tar.Writer, as, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		must.OK(t, filepath.WalkDir(filepath.Join(dir, name), func(file string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Stat(file)
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			below, err := filepath.Rel(dir, file)
			if err != nil {
				return err
			}
			if err := files.WriteHeader(&tar.Header{Name: path.Join(as, below), Mode: int64(info.Mode().Perm()), Size: info.Size()}); err != nil {
				return err
			}
			content, err := os.Open(file)
			if err != nil {
				return err
			}
			defer func() { _ = content.Close() }() // only read
			_, err = io.Copy(files, content)
			return err
		}))
	}
}

// TestFetchPostgres runs the README's first command, twice at once, on a machine
// that has no PostgreSQL: it is fetched once, and never again.
func TestFetchPostgres(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	b := newBench(t)
	b.umask = "077"
	at := b.bare("BULKINVITE_POSTGRES_FROM="+m.url, release+"="+m.release)
	b.env = append(b.env, "BULKINVITE_DATA_DIR="+filepath.Join(b.dir, "new", "deeper"))
	at = filepath.Join(b.dir, "new", "deeper", filepath.Base(at))
	b.run("check", hires).want(t, exitOK) // starts no database, and so fetches none
	if _, err := os.Stat(at); !os.IsNotExist(err) || m.asked.Load() != 0 {
		t.Fatalf("check has fetched PostgreSQL: %v", err)
	}
	var group sync.WaitGroup
	group.Go(func() { b.run("batches").want(t, exitOK) })
	group.Go(func() {
		o := b.run("send", "--sandbox", "--yes", "--json", hires).want(t, exitOK)
		first := decode[document](t, o)
		first.addsUp(t)
		want := map[string]int{"invited": 15, "already_invited": 2, "already_registered": 2, "duplicate_row": 1}
		for outcome, n := range first.Outcomes {
			expect.Equal(t, outcome, n, want[outcome])
		}
		for line := range strings.Lines(o.err) { // nobody looks on: it writes its log and nothing else
			expect.Equal(t, "JSON: "+line, json.Valid([]byte(line)), true)
		}
		if n := strings.Count(o.err, "PostgreSQL is fetched"); n > 1 || n == 1 && !strings.Contains(o.err, m.url) {
			t.Errorf("it says: %s", o.err)
		}
	})
	group.Wait()
	expect.Equal(t, "fetched", m.asked.Load(), 1)
	o := b.run("status", "1", "--json").want(t, exitOK)
	if n := m.asked.Load(); n != 1 || strings.Contains(o.err, "fetched") {
		t.Errorf("fetched %d times; it says %s", n, o.err)
	}
	// Without the binaries the data is theirs alone: they are fetched anew, and others never touch it.
	must.OK(t, os.RemoveAll(at))
	other := *b
	other.env = append(slices.Clone(b.env), release+"=99.0.0")
	o = other.run("status", "1").want(t, exitFailed)
	if !strings.Contains(o.err, "was made by PostgreSQL") || m.asked.Load() != 1 {
		t.Errorf("data of another major version: %s", o.err)
	}
	b.status("1").addsUp(t)
}

// TestFetchAsks: at a terminal PostgreSQL is fetched only if a person says so. Each step that takes time is named
// before it begins.
func TestFetchAsks(t *testing.T) {
	t.Parallel()
	m := newMirror(t)
	slow, serve := slowMirror(t, m)
	b := newBench(t)
	at := b.bare("BULKINVITE_POSTGRES_FROM="+slow, release+"="+m.release)
	question := "Fetch PostgreSQL " + m.release + " (some 20 MB) from " + slow + " and keep it in " + at + "? [y/N]"
	exit, text := b.sit(func(term *terminal) { term.answer(question, "") }, "batches")
	if exit != exitHeld || m.asked.Load() != 0 {
		t.Errorf("exit status %d, fetched %d times:\n%s", exit, m.asked.Load(), text)
	}
	exit, text = b.sit(func(term *terminal) {
		term.answer(question, "y")
		term.await("Fetching PostgreSQL " + m.release + " (about 20 MB) from " + slow)
		serve()
	}, "batches")
	if exit != exitOK || m.asked.Load() != 1 {
		t.Errorf("exit status %d, fetched %d times:\n%s", exit, m.asked.Load(), text)
	}
	inOrder(t, text, "Fetching PostgreSQL", "and storing it in "+at,
		"Creating a PostgreSQL database in "+b.dir, "Bringing the database up to date")
	exit, text = b.sit(func(*terminal) {}, "send", "--sandbox", "--yes", messy)
	if exit != exitRows {
		t.Errorf("exit status %d:\n%s", exit, text)
	}
	inOrder(t, text, "Starting the sandbox", "Starting PostgreSQL", "Batch 1 is done")
	expect.NoText(t, text, "Fetching", "Creating", "level=")
}

// TestFetchFails: a machine without PostgreSQL and without the repository is told
// what to do, and nothing is begun.
func TestFetchFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	at := b.bare("BULKINVITE_POSTGRES_FROM=" + gone.URL)
	o := b.run("send", "--sandbox", "--yes", hires).want(t, exitFailed)
	expect.Text(t, o.err, "refused", "apt-get install postgresql", "DATABASE_URL")
	if left, err := os.ReadDir(at); err != nil || len(left) > 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, url := range []string{"http://example.com/maven2", "ftp://example.com", "maven2"} {
		b.run("batches", "--postgres-from", url).want(t, exitUsage)
	}
}
