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

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/files"
)

// settings are the private server's settings. Its log contains starts, stops and crashes, and no
// statements: even a terse error message may quote a value.
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

// ready returns the server once it accepts connections. It starts one if none is running.
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
		select { // until the system has removed what a killed server left
		case <-ctx.Done():
			return process{}, s.failed("start it", ctx.Err())
		case <-time.After(retryStartIn):
		}
	}
}

// tellStart calls config.Starting before a start.
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

// running waits for a server that is starting or stopping. ok reports whether one is ready at the
// end.
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
		// A server may answer although its process is not visible, for example in another
		// container.
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

// opening watches a server start. A start may take long, but a server that says it is ready and
// accepts no connection has only readyTimeout.
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

// usable reports whether the server accepts connections.
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

// launch starts the server. If there is no data yet, it creates the data first.
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

// initialise creates the data in another directory and renames it once it is complete, so that a
// crash leaves no incomplete data.
func (s *Server) initialise(ctx context.Context, bin binaries) error {
	fresh := s.dir.file(newDataName)
	if err := os.RemoveAll(fresh); err != nil { // left by a crash; no server ever ran on it
		return s.failed("clear "+fresh, err)
	}
	// The server listens on its socket only. If it is ever made to listen on a port, it rejects
	// everyone.
	args := []string{"--pgdata", fresh, "--username", superuser, "--auth-local", "trust", "--auth-host", "reject",
		"--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions"}
	if s.config.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, bin.path("initdb"), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = s.dir.path, environment(), s.own.attributes()
	// On an interrupt, initdb lets the server that it runs end normally. A kill would leave that
	// server's shared memory behind.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = initdbDelay
	if out, err := cmd.CombinedOutput(); ctx.Err() != nil {
		return s.failed("initdb", ctx.Err())
	} else if err != nil {
		return s.failed("initdb", fmt.Errorf("%w: %s", err, tail(out)))
	}
	// It must be empty. Otherwise Remove fails.
	if err := os.Remove(s.dir.file(dataName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return s.failed("move the new data to its place", err)
	}
	if err := os.Rename(fresh, s.dir.file(dataName)); err != nil {
		return s.failed("move the new data to its place", err)
	}
	s.config.Log.Info("private PostgreSQL made", "version", bin.version, "dir", s.dir.path)
	return files.SyncDir(s.dir.path)
}

// clearStale removes the pid file of a server that is gone although its pid exists: the system gave
// the pid to another process, or the server is a zombie that its parent has not collected.
// PostgreSQL checks only the pid and would refuse to start. It still checks itself that no process
// of the old server is left, by their shared memory.
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

// removeIn removes a file below dir. It does not follow a link that leads out of dir.
func removeIn(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(root.Remove(name), root.Close())
}

// spawn starts the server's process and waits until it accepts connections.
func (s *Server) spawn(ctx context.Context, bin binaries) (process, error) {
	socket, err := s.dir.socket(s.own)
	if err != nil {
		return process{}, err
	}
	log, err := s.openLog()
	if err != nil {
		return process{}, err
	}
	defer func() { _ = log.Close() }() // the server has its own copy; nothing is written here
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
	go func() { ended <- cmd.Wait() }() // collects the process when it ends, so that it does not stay a zombie
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
	if err != nil && !gone { // ctx ended, so end the server too
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGINT), interrupted(<-ended))
	}
	return p, err
}

// unexpected returns an error for a process that ended with status 0 although it should still run.
func unexpected(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// interrupted ignores the exit status of a process that was interrupted on purpose.
func interrupted(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// busyError says that another process uses the data or seems to.
type busyError struct{ error }

// Unwrap returns the cause.
func (e *busyError) Unwrap() error { return e.error }

// startError adds what the server wrote to its log since begin, in bytes, to the error of a failed
// start.
func (s *Server) startError(err error, begin int64) error {
	said, readErr := s.readLog(begin)
	err = errors.Join(err, readErr)
	failure := s.failed("start it", fmt.Errorf("%w: %s", err, tail(said)))
	if bytes.Contains(said, []byte("already exists")) || bytes.Contains(said, []byte("still in use")) {
		return &busyError{failure}
	}
	return failure
}

// readLog returns the log from begin on, at most 8 KiB.
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

// environment returns the few variables that PostgreSQL needs. It must not get the others: another
// user could read this program's keys in the server's process, and PGDATA, PGPORT and the like
// would change its behaviour. LC_ALL makes messages English, which startError needs.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// tail returns the last four lines of a program's output, joined to one line.
func tail(out []byte) string {
	const lines = 4
	all := strings.Split(strings.TrimSpace(string(out)), "\n")
	return oneLine(strings.Join(all[max(0, len(all)-lines):], "\n"))
}

// ensureDatabase creates the program's database if the server has none yet. The caller holds the
// start lock.
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
