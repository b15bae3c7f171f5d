package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bulkinvite/internal/files"

	"github.com/jackc/pgx/v5"
)

// settings are the private server's. Its log tells of starts, stops and crashes, never of statements: even a terse error
// message may quote a value.
var settings = map[string]string{
	"listen_addresses":                  "",
	"max_connections":                   "200",
	"timezone":                          "UTC",
	"log_timezone":                      "UTC",
	"log_destination":                   "stderr",
	"logging_collector":                 "off",
	"lc_messages":                       "C",
	"log_error_verbosity":               "terse",
	"log_parameter_max_length":          "0",
	"log_parameter_max_length_on_error": "0",
	"log_min_messages":                  "log",
	"log_min_error_statement":           "panic",
	"log_checkpoints":                   "off",
}

func (p process) ready() bool { return p.state == "ready" }

// ready returns the server once it takes connections: the one that runs, or one that it starts.
func (s *Server) ready(ctx context.Context) (process, error) {
	deadline := time.Now().Add(retryStarts)
	for told := false; ; told = true {
		p, running, err := s.running(ctx)
		if err != nil || running {
			return p, err
		}
		if !told {
			if err := s.tellStart(); err != nil {
				return p, err
			}
		}
		p, err = s.launch(ctx)
		var busy *busyError
		if !errors.As(err, &busy) || time.Now().After(deadline) {
			return p, err
		}
		select { // until the system has cleared away what is left of a killed server
		case <-ctx.Done():
			return process{}, s.failed("start it", ctx.Err())
		case <-time.After(retryStartIn):
		}
	}
}

// tellStart says that a server is about to start.
func (s *Server) tellStart() error {
	if s.config.Starting == nil {
		return nil
	}
	made, err := s.dir.version()
	if err != nil {
		return err
	}
	s.config.Starting(made == "")
	return nil
}

// running waits for a server that is on its way up or down, and tells whether one is ready in the end.
func (s *Server) running(ctx context.Context) (p process, ok bool, err error) {
	var opens opening
	err = await(ctx, func() (bool, error) {
		found, exists, err := readProcess(s.dir.file(dataName))
		if err != nil || !exists {
			return true, err
		}
		p = found
		if ok, err = opens.check(ctx, found); err != nil {
			return false, err
		}
		// One that answers is a server even where its process is out of our sight, as in another container.
		return ok || !(found.lives() || found.answers(ctx)), nil
	})
	if err != nil {
		return p, false, s.failed("wait for the server that runs there", err)
	}
	if ok {
		s.config.Log.Debug("private PostgreSQL adopted", "pid", p.pid, "dir", s.dir.path)
	}
	return p, ok, nil
}

// opening watches a server come up. That may take long, but one that says it is ready and lets nobody in is given only
// so much time.
type opening struct{ readySince time.Time }

func (o *opening) check(ctx context.Context, p process) (bool, error) {
	if p.usable(ctx) {
		return true, nil
	}
	switch now := time.Now(); {
	case !p.ready():
		o.readySince = time.Time{}
	case o.readySince.IsZero():
		o.readySince = now
	case now.Sub(o.readySince) > readyTimeout:
		return false, fmt.Errorf("process %d is ready but lets nobody in", p.pid)
	}
	return false, nil
}

// usable tells whether the server takes connections.
func (p process) usable(ctx context.Context) bool {
	if !p.ready() {
		return false
	}
	conn, _, err := p.connect(ctx)
	if err != nil {
		return false
	}
	_, err = conn.Exec(ctx, "select 1")
	return errors.Join(err, conn.Close(ctx)) == nil
}

// launch starts the server, making its data first if there is none.
func (s *Server) launch(ctx context.Context) (process, error) {
	made, err := s.dir.version()
	if err != nil {
		return process{}, err
	}
	bin, err := pick(ctx, made, s.config)
	if err != nil {
		return process{}, err
	}
	if made == "" {
		if err := s.initialise(ctx, bin); err != nil {
			return process{}, err
		}
	}
	if err := s.clearStale(); err != nil {
		return process{}, err
	}
	return s.spawn(ctx, bin)
}

// initialise makes the data beside its place and moves it there once it is whole, so that a crash leaves no half of it.
func (s *Server) initialise(ctx context.Context, bin binaries) error {
	fresh := s.dir.file(newDataName)
	if err := os.RemoveAll(fresh); err != nil { // what a crash left; no server ever ran on it
		return s.failed("clear "+fresh, err)
	}
	// The server listens on its socket alone. Should somebody have it listen on a port, that lets nobody in either.
	args := []string{"--pgdata", fresh, "--username", superuser, "--auth-local", "trust", "--auth-host", "reject",
		"--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions"}
	if s.config.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, bin.path("initdb"), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.dir.path, environment(), s.own.attributes()
	// Interrupted, it lets the server that it runs end well; killed, that one would leave its shared memory behind.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = initdbDelay
	if out, err := cmd.CombinedOutput(); ctx.Err() != nil {
		return s.failed("initdb", ctx.Err())
	} else if err != nil {
		return s.failed("initdb", fmt.Errorf("%w: %s", err, tail(out)))
	}
	if err := os.Remove(s.dir.file(dataName)); err != nil && !errors.Is(err, os.ErrNotExist) { // empty, or it fails
		return s.failed("move the new data to its place", err)
	}
	if err := os.Rename(fresh, s.dir.file(dataName)); err != nil {
		return s.failed("move the new data to its place", err)
	}
	s.config.Log.Info("private PostgreSQL made", "version", bin.version, "dir", s.dir.path)
	return files.SyncDir(s.dir.path)
}

// clearStale removes the pid file of a server that is known to be gone while its pid is not: the system gave it to another
// process, or nobody has collected the zombie. PostgreSQL sees the pid alone and would refuse to start. It still
// checks by itself that no process of the old server is left, by the shared memory that they hold.
func (s *Server) clearStale() error {
	data := s.dir.file(dataName)
	p, ok, err := readProcess(data)
	if err != nil || !ok || p.pid == 0 || p.lives() || errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH) {
		return err
	}
	s.config.Log.Warn("private PostgreSQL was killed; its pid file is cleared away", "pid", p.pid, "dir", s.dir.path)
	if err := removeIn(s.dir.path, filepath.Join(dataName, pidName)); err != nil {
		return s.failed("clear the pid file of a server that is gone", err)
	}
	return nil
}

// removeIn removes a file below dir, and nothing that a link leads to outside of it.
func removeIn(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(root.Remove(name), root.Close())
}

// spawn starts the server's process and waits until it takes connections.
func (s *Server) spawn(ctx context.Context, bin binaries) (process, error) {
	socket, err := s.dir.socket(s.own)
	if err != nil {
		return process{}, err
	}
	log, err := s.openLog()
	if err != nil {
		return process{}, err
	}
	defer log.Close() // the server has its own; we write nothing
	info, err := log.Stat()
	if err != nil {
		return process{}, s.failed("look at its log", err)
	}
	cmd := exec.Command(bin.path("postgres"), s.arguments(socket)...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.dir.path, environment(), s.own.attributes()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return process{}, s.failed("start "+bin.path("postgres"), err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // collects it whenever it ends, lest it stay a zombie
	p, err := s.awaitStart(ctx, cmd.Process.Pid, ended)
	if err != nil {
		return process{}, s.startError(err, info.Size())
	}
	s.config.Log.Debug("private PostgreSQL started", "pid", p.pid, "version", bin.version, "dir", s.dir.path)
	return p, nil
}

func (s *Server) awaitStart(ctx context.Context, pid int, ended <-chan error) (p process, err error) {
	gone := false
	var opens opening
	err = await(ctx, func() (bool, error) {
		select {
		case err := <-ended:
			gone = true
			return true, fmt.Errorf("it ended at once: %w", unexpected(err))
		default:
		}
		var ok bool
		if p, ok, err = readProcess(s.dir.file(dataName)); err != nil || !ok || p.pid != pid {
			return false, err
		}
		return opens.check(ctx, p)
	})
	if err != nil && !gone { // we were told to give up: so does the server
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGINT), interrupted(<-ended))
	}
	return p, err
}

// unexpected gives a process that ended well, though it should have run, an error.
func unexpected(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// interrupted forgives a process that we interrupted its exit status.
func interrupted(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// busyError: another process still holds the data, or seems to.
type busyError struct{ error }

// Unwrap returns the cause.
func (e *busyError) Unwrap() error { return e.error }

// startError adds what the server wrote to its log since begin to the error of a failed start.
func (s *Server) startError(err error, begin int64) error {
	said, readErr := s.readLog(begin)
	err = errors.Join(err, readErr)
	failure := s.failed("start it", fmt.Errorf("%w: %s", err, tail(said)))
	if bytes.Contains(said, []byte("already exists")) || bytes.Contains(said, []byte("still in use")) {
		return &busyError{failure}
	}
	return failure
}

// readLog returns what the log has from begin on, 8 KiB at most.
func (s *Server) readLog(begin int64) ([]byte, error) {
	log, err := openFile(s.dir.file(logName), os.O_RDONLY)
	if err != nil {
		return nil, outOfReach(s.dir.file(logName), err)
	}
	said, err := io.ReadAll(io.NewSectionReader(log, begin, 8<<10))
	return said, errors.Join(err, log.Close())
}

func (s *Server) arguments(socket string) []string {
	all := map[string]string{"port": fmt.Sprint(port), "unix_socket_directories": `"` + strings.ReplaceAll(socket, `"`, `""`) + `"`}
	for _, some := range []map[string]string{settings, s.config.Settings} {
		for name, value := range some {
			all[name] = value
		}
	}
	args := []string{"-D", s.dir.file(dataName)}
	for name, value := range all {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// environment is the little of ours that PostgreSQL needs. It must not see the rest: our keys, since another user may
// read them off its process, and variables of its own such as PGDATA and PGPORT. Messages are such that startError can
// read them.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// tail is the end of a program's output, in one line.
func tail(out []byte) string {
	const lines = 4
	all := strings.Split(strings.TrimSpace(string(out)), "\n")
	return oneLine(strings.Join(all[max(0, len(all)-lines):], "\n"))
}

// ensureDatabase makes the program's database where the server has none yet. The caller holds the start lock.
func (p process) ensureDatabase(ctx context.Context) (err error) {
	conn, _, err := p.connect(ctx)
	if err != nil {
		return fmt.Errorf("private PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var exists bool
	row := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", databaseName)
	if err := row.Scan(&exists); err != nil {
		return fmt.Errorf("private PostgreSQL: look for the database: %w", err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{databaseName}.Sanitize()); err != nil {
		return fmt.Errorf("private PostgreSQL: create the database: %w", err)
	}
	return nil
}
