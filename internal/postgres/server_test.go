package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres"
	"bulkinvite/internal/postgres/postgrestest"
)

// childDir names the directory for a child process, which starts the server there, writes its URL,
// and keeps its share until its standard input ends.
const childDir = "BULKINVITE_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := errors.Join(postgrestest.ClearEnvironment(), os.Setenv("CLERK_SECRET_KEY", secretKey)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := lookedAt.end(); err != nil {
		fmt.Println("error:", err)
		code = 1
	}
	os.Exit(code)
}

// lookedAt is a server for all tests that only look at one.
var lookedAt sharedServer

type sharedServer struct {
	once   sync.Once
	dir    string
	server *postgres.Server
	err    error
}

// start returns the server and its directory.
func (s *sharedServer) start(t *testing.T) (*postgres.Server, string) {
	t.Helper()
	s.once.Do(func() {
		var parent string
		if parent, s.err = os.MkdirTemp(place(), "bulkinvite-"); s.err != nil {
			return
		}
		s.dir = filepath.Join(parent, "pg")
		if s.err = os.Chmod(parent, 0o755); s.err == nil {
			s.server, s.err = postgres.Start(context.Background(), config(s.dir))
		}
	})
	must.OK(t, s.err)
	return s.server, s.dir
}

func (s *sharedServer) end() (err error) {
	if s.server != nil {
		err = s.server.Close()
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(filepath.Dir(s.dir)))
	}
	return err
}

const secretKey = "sk_test_not_for_the_server"

func child(dir string) error {
	server, err := postgres.Start(context.Background(), config(dir))
	if err != nil {
		return err
	}
	fmt.Println(server.URL())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return server.Close()
}

func config(dir string) postgres.Config {
	return postgres.Config{Dir: dir, Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB"}}
}

// place returns the directory for servers: in memory if there is room, since each server has about
// a thousand files, otherwise the temporary directory.
func place() string {
	const memory, room = "/dev/shm", 1 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return os.TempDir()
	}
	return memory
}

// newDir returns a path for a server, in a directory that the server's user can enter, whichever
// user that is. At the end of the test it checks that no server is left there.
func newDir(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp(place(), "bulkinvite-")
	must.OK(t, err)
	must.OK(t, os.Chmod(parent, 0o755))
	dir := filepath.Join(parent, "pg")
	t.Cleanup(func() {
		if pid := postmaster(dir); pid != 0 && syscall.Kill(pid, 0) == nil {
			t.Errorf("the server %d was left running", pid)
			expect.OK(t, syscall.Kill(pid, syscall.SIGQUIT))
		}
		expect.OK(t, os.RemoveAll(parent))
	})
	return dir
}

// postmaster returns the pid in the server's pid file, or 0 if there is none.
func postmaster(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return pid
}

func start(t *testing.T, config postgres.Config) *postgres.Server {
	t.Helper()
	server, err := postgres.Start(t.Context(), config)
	must.OK(t, err)
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *postgres.Server) {
	t.Helper()
	expect.OK(t, server.Close())
}

// query runs sql and returns the only value of its result.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must.OK(t, err)
	var value string
	if err := errors.Join(conn.QueryRow(t.Context(), sql).Scan(&value), conn.Close(t.Context())); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func running(t *testing.T, dir string) (string, bool) {
	t.Helper()
	url, ok, err := postgres.Running(t.Context(), postgres.Config{Dir: dir})
	must.OK(t, err)
	return url, ok
}

func TestStartKeepsData(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	if _, ok := running(t, dir); ok {
		t.Fatal("it runs before it exists")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("asking whether it runs made the directory: %v", err)
	}
	first := start(t, config(dir))
	execute(t, first.URL(), "create table kept as select 42 as answer")
	if url, ok := running(t, dir); !ok || url != first.URL() {
		t.Errorf("Running = %q, %v; the server is at %q", url, ok, first.URL())
	}
	pid := postmaster(dir)
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("the server's process group is %d (%v): Ctrl-C would reach it", group, err)
	}
	stop(t, first)
	if _, ok := running(t, dir); ok {
		t.Error("it runs after its last user left")
	}
	stop(t, first) // does nothing
	second := start(t, config(dir))
	if got := query(t, second.URL(), "select answer::text from kept"); got != "42" {
		t.Errorf("the table holds %s after the second start", got)
	}
}

// TestNetworkIsRejected checks that a new server rejects connections over the network, in case it
// is ever made to listen there.
func TestNetworkIsRejected(t *testing.T) {
	t.Parallel()
	server, _ := lookedAt.start(t)
	const rules = "select string_agg(distinct type || ' ' || auth_method, ', ') from pg_hba_file_rules"
	if got := query(t, server.URL(), rules); got != "host reject, local trust" {
		t.Errorf("the rules are: %s", got)
	}
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must.OK(t, err)
	_, err = conn.Exec(t.Context(), sql)
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestLastUserStops checks that the server runs until its last user leaves. Starting is called for
// each start, with the right value of first, and not if the server runs already.
func TestLastUserStops(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	var told []bool
	c := config(dir)
	c.Starting = func(first bool) { told = append(told, first) }
	first := start(t, c)
	pid := postmaster(dir)
	second := start(t, c)
	if got := postmaster(dir); got != pid {
		t.Errorf("a second start runs process %d beside %d", got, pid)
	}
	stop(t, first)
	query(t, second.URL(), "select 'still there'")
	stop(t, second)
	if _, ok := running(t, dir); ok {
		t.Error("it runs after its last user left")
	}
	start(t, c)
	if want := []bool{true, false}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// spawn runs child in a separate process and waits for its URL.
func spawn(t *testing.T, cmd *exec.Cmd, dir string) (url string, end func() error) {
	t.Helper()
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	stdin, err := cmd.StdinPipe()
	must.OK(t, err)
	stdout, err := cmd.StdoutPipe()
	must.OK(t, err)
	must.OK(t, cmd.Start())
	end = sync.OnceValue(func() error { return errors.Join(stdin.Close(), cmd.Wait()) })
	url, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(url, "postgres://") {
		t.Fatalf("child: %q, %v, %v", url, err, end())
	}
	return strings.TrimSpace(url), end
}

func self(t *testing.T) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	must.OK(t, err)
	return exec.Command(path)
}

func TestAdoptAfterKill(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	cmd := self(t)
	url, end := spawn(t, cmd, dir)
	execute(t, url, "create table kept as select 42 as answer")
	pid := postmaster(dir)
	must.OK(t, cmd.Process.Kill())
	if err := end(); err == nil {
		t.Fatal("the child ended well")
	}
	if got, ok := running(t, dir); !ok || got != url {
		t.Errorf("after its parent was killed: %q, %v", got, ok)
	}
	server := start(t, config(dir))
	if got := postmaster(dir); got != pid {
		t.Errorf("process %d runs instead of %d", got, pid)
	}
	if got := query(t, server.URL(), "select answer::text from kept"); got != "42" {
		t.Errorf("the table holds %s", got)
	}
	stop(t, server)
	if _, ok := running(t, dir); ok {
		t.Error("it runs after its last user left")
	}
}

func TestServerKilled(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	server := start(t, config(dir))
	execute(t, server.URL(), "create table kept as select 42 as answer")
	must.OK(t, syscall.Kill(postmaster(dir), syscall.SIGKILL))
	again := start(t, config(dir))
	if got := query(t, again.URL(), "select answer::text from kept"); got != "42" {
		t.Errorf("the table holds %s", got)
	}
}

func TestRacingStarters(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	var group sync.WaitGroup
	for range 3 {
		cmd := self(t)
		group.Go(func() {
			_, end := spawn(t, cmd, dir)
			if err := end(); err != nil {
				t.Errorf("child: %v", err)
			}
		})
		group.Go(func() {
			for range 3 {
				server, err := postgres.Start(t.Context(), config(dir))
				if err != nil {
					t.Errorf("start: %v", err)
					return
				}
				query(t, server.URL(), "select 'here'")
				stop(t, server)
			}
		})
	}
	group.Wait()
	if _, ok := running(t, dir); ok {
		t.Error("it runs after its last user left")
	}
}

// tree lists every file below dir with its size and time.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil {
			fmt.Fprintln(&list, path, info.Mode(), info.Size(), info.ModTime().UnixNano(), info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	})
	must.OK(t, err)
	return list.String()
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	must.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.OK(t, os.WriteFile(path, []byte(text), mode))
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	const old = "#!/bin/sh\necho 'postgres (PostgreSQL) 14.9 (Debian 14.9-1)'\n"
	tests := []struct {
		name  string
		files map[string]string // below the directory's parent
		bin   string            // BinDir, below the parent
		kind  error
		says  []string
	}{
		{"data of another version", map[string]string{"pg/data/PG_VERSION": "14\n", "pg/data/base/1": "rows"}, "",
			postgres.ErrVersion, []string{"PostgreSQL 14", "install PostgreSQL 14"}},
		{"data of a version that is nowhere", map[string]string{"pg/data/PG_VERSION": "99\n", "none/x": ""}, "none",
			postgres.ErrVersion, []string{"PostgreSQL 99", "none is installed"}},
		{"somebody's files", map[string]string{"pg/letters.txt": "Dear"}, "", postgres.ErrForeign, []string{"letters.txt", "empty directory"}},
		{"a cluster of somebody's", map[string]string{"pg/PG_VERSION": "15\n"}, "", postgres.ErrForeign, []string{"PG_VERSION"}},
		{"files in the data's place", map[string]string{"pg/data/letters.txt": "Dear"}, "", postgres.ErrForeign, []string{"letters.txt"}},
		{"nothing installed", map[string]string{"none/x": ""}, "none", postgres.ErrNoBinaries, []string{"apt-get install postgresql", "brew install"}},
		{"an old one installed", map[string]string{"old/postgres": old, "old/initdb": old}, "old", postgres.ErrTooOld, []string{"14.9", "15 or newer"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			parent := filepath.Dir(dir)
			for name, text := range test.files {
				write(t, filepath.Join(parent, name), text, 0o755)
			}
			config := config(dir)
			if test.bin != "" {
				config.BinDir = filepath.Join(parent, test.bin)
			}
			before := tree(t, parent)
			_, err := postgres.Start(t.Context(), config)
			wantError(t, err, test.kind, test.says...)
			if after := tree(t, parent); after != before {
				t.Errorf("something was changed:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// wantError checks that err is of the kind, has one line, and that its text or remedy contains all
// of says.
func wantError(t *testing.T, err, kind error, says ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v; want %v", err, kind)
	}
	var failure *postgres.Error
	if !errors.As(err, &failure) || failure.Remedy == "" {
		t.Fatalf("error %#v has no remedy", err)
	}
	text := failure.Error() + "\n" + failure.Remedy
	if strings.Count(text, "\n") != 1 {
		t.Errorf("not one line each: %q", text)
	}
	for _, word := range says {
		if !strings.Contains(text, word) {
			t.Errorf("%q does not say %q", text, word)
		}
	}
}

// TestOddDirectories checks names that need quoting, and a path that is too long for a socket.
func TestOddDirectories(t *testing.T) {
	t.Parallel()
	for _, name := range []string{`a "name", so to say`, "50%20 a+b ü", strings.Repeat("deep/", 20) + "pg"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(newDir(t), name)
			must.OK(t, os.MkdirAll(filepath.Dir(dir), 0o755))
			first, second := start(t, config(dir)), start(t, config(dir))
			if first.URL() != second.URL() {
				t.Errorf("%s and %s", first.URL(), second.URL())
			}
			query(t, second.URL(), "select 'here'")
			stop(t, first)
			removeSocket(t, second)
		})
	}
}

func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	first := start(t, config(dir))
	link := filepath.Join(filepath.Dir(dir), `a "link", so to say`)
	must.OK(t, os.Symlink(dir, link))
	if second := start(t, config(link)); second.URL() != first.URL() {
		t.Errorf("%s and %s", first.URL(), second.URL())
	}
}

// removeSocket removes the socket's directory at the end if it is not in the server's own
// directory.
func removeSocket(t *testing.T, server *postgres.Server) {
	t.Helper()
	socket := strings.Trim(query(t, server.URL(), "select current_setting('unix_socket_directories')"), `"`)
	t.Cleanup(func() {
		stop(t, server)
		expect.OK(t, os.RemoveAll(socket))
	})
}

// TestStartGivesUp interrupts a start at different moments, in initdb and after it. The next start
// must succeed.
func TestStartGivesUp(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond, 800 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			dir := newDir(t)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			if server, err := postgres.Start(ctx, config(dir)); err == nil { // the machine was fast enough
				stop(t, server)
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			query(t, start(t, config(dir)).URL(), "select 'here'")
		})
	}
}

func TestBadSetting(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	config := config(dir)
	config.Settings["work_mem"] = "much"
	began := time.Now()
	_, err := postgres.Start(t.Context(), config)
	wantError(t, err, postgres.ErrFailed, "work_mem", "postgres.log")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v to fail", took)
	}
}

// TestLogAndErrorsHaveNoRows checks the server's log, and the text of errors, which is written to
// logs and to the queue's tables.
func TestLogAndErrorsHaveNoRows(t *testing.T) {
	t.Parallel()
	server, dir := lookedAt.start(t)
	pool, err := postgres.Open(t.Context(), server.URL())
	must.OK(t, err)
	defer pool.Close()
	must.Exec(t, pool, "create table people (email text unique)")
	must.Exec(t, pool, "insert into people values ('jane@secret.example')")
	for sql, code := range map[string]string{
		"insert into people values ('jane@secret.example')":         "23505",
		"select 'jane@secret.example'::integer":                     "22P02",
		"do $$ begin raise exception 'jane@secret.example'; end $$": "P0001",
	} {
		_, err := pool.Exec(t.Context(), sql)
		if err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: error %v, want one with %s", sql, err, code)
		} else if code == "23505" {
			expect.Text(t, err.Error(), "people_email_key")
			secrets(t, err.Error())
		}
	}
	log, err := os.ReadFile(filepath.Join(dir, "postgres.log"))
	must.OK(t, err)
	expect.Text(t, string(log), "ready to accept connections")
	expect.NoText(t, string(log), "secret.example")
}

// TestServerHasNoKey checks the environment and the command line of the server's process, which may
// belong to another user, who can read both.
func TestServerHasNoKey(t *testing.T) {
	t.Parallel()
	_, dir := lookedAt.start(t)
	for _, name := range []string{"environ", "cmdline"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", postmaster(dir), name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // macOS has no /proc, and nothing to check
			t.Fatal(err)
		}
		if strings.Contains(string(text), secretKey) {
			t.Errorf("the key is in the server's %s", name)
		}
	}
}

// TestDiskFull checks the log: a server with a full disk ends its connections without giving a
// reason.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, config(dir))
	if s.DiskFull() {
		t.Error("the disk is full before the log says so")
	}
	log, err := os.OpenFile(filepath.Join(dir, "postgres.log"), os.O_APPEND|os.O_WRONLY, 0)
	must.OK(t, err)
	_, err = log.WriteString("PANIC:  could not write to file \"pg_wal/xlogtemp.1\": No space left on device\n")
	must.OK(t, errors.Join(err, log.Close()))
	if !s.DiskFull() {
		t.Error("the log says that the disk is full")
	}
	stop(t, s)
	if start(t, config(dir)).DiskFull() {
		t.Error("a disk that was full once is full for ever")
	}
}
