package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"
)

// Config says where a private server is and how it runs.
type Config struct {
	// Dir is the server's directory. It is required. It is created if it does not exist, and
	// contains nothing else. If the program runs as root, the server runs as the user postgres or
	// else nobody, who must be able to enter the directories above. A server of existing data runs
	// as the user who owns the data.
	Dir string
	// Log gets a line for each start and stop. Nil means no log.
	Log *slog.Logger
	// Starting is called once before Start starts a server, which takes seconds. It is not called if
	// a server is already running. first reports whether this start also creates the data. Nil means
	// no function.
	Starting func(first bool)
	// Settings are further settings of PostgreSQL, by name. They apply only if this program starts
	// the server.
	Settings map[string]string
	// BinDir is the directory of initdb and postgres. Empty means PATH first, then the directories
	// of packages and Fetched, newest first.
	BinDir string
	// Root is the root of the packages' directories. Empty means the file system's root.
	Root string
	// Fetched is the directory for what [Fetch] downloads, with a subdirectory for each version.
	// Empty means that nothing was fetched and nothing can be.
	Fetched string
	// Repository is the Maven repository for [Fetch], such as [DefaultRepository].
	Repository string
	// Release is the version that Fetch downloads, such as [DefaultRelease]. Empty means that
	// nothing can be fetched.
	Release string
}

// Server is one program's share in a private server. The server runs until the last share, in any
// process, is closed. A share ends when its process dies, but then the server runs on until another
// program starts and closes.
type Server struct {
	config Config
	dir    directory
	own    owner
	users  *lock
	url    string
	joined int64 // size of the log when this share was taken, in bytes
}

const (
	stopTimeout  = time.Minute
	initdbDelay  = 10 * time.Second // until an interrupted initdb is killed
	readyTimeout = 15 * time.Second // for a ready server to accept a connection
	retryStarts  = 30 * time.Second // for the system to remove what a killed server left
	retryStartIn = 200 * time.Millisecond
)

// Start creates the database in config.Dir if there is none, starts its server or adopts the
// running one, and returns a share in it. Any number of programs may do so at once. It waits for a
// server that is starting, stopping or recovering until ctx ends.
//
// It never changes a directory with other files ([ErrForeign]) or data of a major version that is
// not installed ([ErrVersion]). If [Fetch] would fix the error, [Fetchable] reports so. Other kinds
// of [*Error]: [ErrNoBinaries], [ErrTooOld], [ErrAccess], [ErrFailed].
func Start(ctx context.Context, config Config) (*Server, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := newDirectory(config.Dir)
	if err != nil {
		return nil, err
	}
	config.Dir = dir.path
	if err := precheck(ctx, dir, config); err != nil {
		return nil, err
	}
	own, err := findOwner(dir)
	if err != nil {
		return nil, err
	}
	if err := dir.prepare(own); err != nil {
		return nil, err
	}
	if dir, err = newDirectory(dir.path); err != nil { // now it exists, so its symbolic links can be resolved
		return nil, err
	}
	s := &Server{config: config, dir: dir, own: own}
	err = s.exclusively(ctx, func() error { return s.join(ctx) })
	if err != nil {
		return nil, err
	}
	if info, err := os.Lstat(dir.file(logName)); err == nil {
		s.joined = info.Size()
	}
	return s, nil
}

// noSpace is what PostgreSQL and initdb write if the disk is full: strerror(ENOSPC), in English
// because of LC_ALL and lc_messages.
const noSpace = "No space left on device"

// DiskFull reports whether the server has logged, since [Start], that its disk is full. It may then
// have ended its connections without giving a reason. If the log can't be read, it returns false.
func (s *Server) DiskFull() bool {
	said, err := s.readLog(s.joined)
	return err == nil && bytes.Contains(said, []byte(noSpace))
}

// Running returns the URL of the server in config.Dir if one runs. It starts nothing, writes
// nothing and takes no share: other programs may stop the server at any time.
func Running(ctx context.Context, config Config) (url string, ok bool, err error) {
	dir, err := newDirectory(config.Dir)
	if err != nil {
		return "", false, err
	}
	p, ok, err := readProcess(dir.file(dataName))
	if err != nil || !ok || !p.ready() {
		return "", false, err
	}
	conn, _, err := p.connect(ctx)
	if err != nil {
		return "", false, ctx.Err() // no server, or not ready yet
	}
	return p.url(databaseName), true, conn.Close(ctx)
}

// URL returns the URL of the server's database, for [Open] and libpq. It contains no secret.
func (s *Server) URL() string { return s.url }

// Close releases the share. If it is the last one, Close stops the server, waits up to a minute for
// it to end, and cuts connections that are still open. A second call does nothing.
func (s *Server) Close() error {
	if s.users == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.exclusively(ctx, func() error { return s.leave(ctx) })
	s.users = nil
	return err
}

// exclusively runs f while no other program starts, adopts or stops the server.
func (s *Server) exclusively(ctx context.Context, f func() error) error {
	start, err := openLock(s.dir.file(startName), s.own)
	if err != nil {
		return outOfReach(s.dir.file(startName), err)
	}
	if err := start.take(ctx, syscall.LOCK_EX); err != nil {
		return errors.Join(s.failed("wait for another program that starts or stops it", err), start.close())
	}
	return errors.Join(f(), start.close())
}

// join takes a share and makes sure that the server runs.
func (s *Server) join(ctx context.Context) error {
	users, err := openLock(s.dir.file(usersName), s.own)
	if err != nil {
		return outOfReach(s.dir.file(usersName), err)
	}
	if err := users.take(ctx, syscall.LOCK_SH); err != nil {
		return errors.Join(s.failed("take a share in it", err), users.close())
	}
	p, err := s.ready(ctx)
	if err == nil {
		err = p.ensureDatabase(ctx)
	}
	if err != nil {
		return errors.Join(err, users.close())
	}
	s.users, s.url = users, p.url(databaseName)
	return nil
}

// leave releases the share and stops the server if it was the last one.
func (s *Server) leave(ctx context.Context) error {
	last, err := s.users.try(syscall.LOCK_EX)
	if err == nil && last {
		err = s.stop(ctx)
	}
	return errors.Join(err, s.users.close())
}

// stop ends the server in PostgreSQL's fast mode: it rolls back open transactions and keeps what
// was committed.
func (s *Server) stop(ctx context.Context) error {
	p, ok, err := readProcess(s.dir.file(dataName))
	if err != nil || !ok || !p.lives() {
		return err // another program has stopped it
	}
	if _, here := p.place(); !here && !p.answers(ctx) { // it may be another program's process
		return s.failed("stop it", fmt.Errorf("process %d does not answer; it was left alone", p.pid))
	}
	if err := syscall.Kill(p.pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return s.failed(fmt.Sprintf("stop process %d", p.pid), err)
	}
	if err := await(ctx, func() (bool, error) { return !p.lives(), nil }); err != nil {
		return s.failed(fmt.Sprintf("wait for process %d to stop", p.pid), err)
	}
	s.config.Log.Debug("private PostgreSQL stopped", "pid", p.pid, "dir", s.dir.path)
	return nil
}

// failed wraps an error of the private server.
func (s *Server) failed(doing string, err error) error {
	failed := &Error{
		Kind:   ErrFailed,
		Text:   fmt.Sprintf("private PostgreSQL in %s: %s: %s", s.dir.path, doing, oneLine(err.Error())),
		Remedy: "see " + s.dir.file(logName) + ", or give a server's URL",
		Err:    err,
	}
	if strings.Contains(failed.Text, noSpace) || errors.Is(err, syscall.ENOSPC) {
		failed.Remedy = fmt.Sprintf("Free space on the disk of %s (an empty database takes about 45 MB), "+
			"then give the same command again.", s.dir.path)
	}
	return failed
}

// precheck checks, before anything is written, whether the directory can be used.
func precheck(ctx context.Context, dir directory, config Config) error {
	made, err := dir.version()
	if err != nil {
		return err
	}
	_, exists, err := readProcess(dir.file(dataName))
	if err != nil || exists {
		return err // a running server needs no binaries, and looking for them takes longer than joining it
	}
	_, err = pick(ctx, made, config)
	return err
}

// pick returns the installation for data of the major version made, or any if made is empty.
func pick(ctx context.Context, made string, config Config) (binaries, error) {
	found, err := installations(ctx, config)
	if err != nil {
		return binaries{}, err
	}
	if made != "" {
		return match(found, made, config)
	}
	return choose(found, config)
}

// logLimit is in bytes. At a start, a larger log of the server is emptied.
const logLimit = 1 << 20

// openLog opens the log for the server, which inherits the open file. It can append to the file,
// but not read it.
func (s *Server) openLog() (*os.File, error) {
	path := s.dir.file(logName)
	file, err := openFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return nil, outOfReach(path, err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() > logLimit {
		err = file.Truncate(0)
	}
	if err == nil {
		err = s.own.takeFile(file)
	}
	if err != nil {
		return nil, errors.Join(outOfReach(path, err), file.Close())
	}
	return file, nil
}
