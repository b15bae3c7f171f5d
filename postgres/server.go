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

// Config says where a private server lives and how it runs.
type Config struct {
	// Dir is the server's directory; required. It holds nothing else, and is made where it does not exist. Where the
	// program is root, the server runs as the user postgres, else nobody, who must be able to enter the directories
	// above; data that is already there is run as the user that it belongs to.
	Dir string
	// Log hears of starts and stops; nil: nobody does.
	Log *slog.Logger
	// Starting is called before Start starts a server, which takes seconds: once, and not where a server runs already. It
	// tells whether the data is to be made first. nil: nobody is told.
	Starting func(first bool)
	// Settings are more of PostgreSQL's settings, by name. They count only when this program starts the server.
	Settings map[string]string
	// BinDir is where initdb and postgres are; empty: the PATH, then the places where packages put them and what was
	// fetched, newest first.
	BinDir string
	// Root is what the packages' places lie below; empty: the file system's own.
	Root string
	// Fetched is the directory of what [Fetch] got, a directory below it for each version; empty: nothing is, and nothing
	// can be fetched.
	Fetched string
	// Repository is the Maven repository that [Fetch] gets it from, such as [DefaultRepository].
	Repository string
	// Release is the version that Fetch gets, such as [DefaultRelease]; empty: nothing can be fetched.
	Release string
}

// Server is a share in a private server. The server runs until the last share in it, in any process, is closed; the
// share of a process that dies counts as given up, but then the server runs on until somebody else starts and closes.
type Server struct {
	config Config
	dir    directory
	own    owner
	users  *lock
	url    string
	joined int64 // how long the log was when the server was joined, in bytes
}

const (
	stopTimeout  = time.Minute
	initdbDelay  = 10 * time.Second // until an interrupted initdb is killed
	readyTimeout = 15 * time.Second // for a server that says it is ready to let us in
	retryStarts  = 30 * time.Second // for what a killed server left to be cleared away
	retryStartIn = 200 * time.Millisecond
)

// Start makes the database in config.Dir if there is none, starts its server or adopts the one that runs, and returns a
// share in it. Any number of programs may do so at once. It waits for a server that is starting, stopping or recovering
// for as long as ctx lasts.
//
// It never changes a directory that holds something else ([ErrForeign]) or data of a major version that is not installed
// ([ErrVersion]). Where [Fetch] would help, [Fetchable] says so. Other kinds of [*Error]: [ErrNoBinaries], [ErrTooOld], [ErrAccess], [ErrFailed].
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
	if dir, err = newDirectory(dir.path); err != nil { // it exists now, and so do its symbolic links
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

// noSpace is what PostgreSQL and initdb write where the disk is full (strerror of ENOSPC; the messages are in English).
const noSpace = "No space left on device"

// DiskFull reports whether the server has written to its log, since [Start], that its disk is full. It may have ended
// its connections without a reason then. A log that can't be read says nothing.
func (s *Server) DiskFull() bool {
	said, err := s.readLog(s.joined)
	return err == nil && bytes.Contains(said, []byte(noSpace))
}

// Running returns the URL of the server in config.Dir if one runs. It starts nothing, writes nothing, and takes no share:
// the server may be stopped at any time by the programs that use it.
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
		return "", false, ctx.Err() // nobody there, or not yet: it does not run
	}
	return p.url(databaseName), true, conn.Close(ctx)
}

// URL names the server's database, for [Open] and for libpq. It holds no secret.
func (s *Server) URL() string { return s.url }

// Close gives the share up; the last one to do so stops the server, and waits up to a minute for it to end. Connections
// that are still open then are cut. A second call does nothing.
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

// join takes a share and sees that the server runs.
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

// leave gives the share up and stops the server if it was the last.
func (s *Server) leave(ctx context.Context) error {
	last, err := s.users.try(syscall.LOCK_EX)
	if err == nil && last {
		err = s.stop(ctx)
	}
	return errors.Join(err, s.users.close())
}

// stop ends the server in PostgreSQL's fast mode: transactions are rolled back, and what was committed is kept.
func (s *Server) stop(ctx context.Context) error {
	p, ok, err := readProcess(s.dir.file(dataName))
	if err != nil || !ok || !p.lives() {
		return err // somebody stopped it before us
	}
	if _, here := p.place(); !here && !p.answers(ctx) { // it may be anybody's process
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

// precheck finds out, before anything is written, whether the directory is one that we can work with.
func precheck(ctx context.Context, dir directory, config Config) error {
	made, err := dir.version()
	if err != nil {
		return err
	}
	_, exists, err := readProcess(dir.file(dataName))
	if err != nil || exists {
		return err // a server that runs needs no starting, and to look for one takes longer than to join this one
	}
	_, err = pick(ctx, made, config)
	return err
}

// pick chooses the installation for data that the major version made has made, or, where there is none yet, any.
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

// logLimit is the size, in bytes, past which the server's log begins anew at a start.
const logLimit = 1 << 20

// openLog opens the log for the server, which inherits the open file: it can append, and read nothing.
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
