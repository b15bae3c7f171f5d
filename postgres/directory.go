package postgres

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// The files of a directory that holds a private server.
const (
	dataName    = "data"         // PostgreSQL's data directory
	newDataName = "data.new"     // the same while initdb fills it
	socketName  = "socket"       // the socket's directory, where the path is short enough
	logName     = "postgres.log" // the server's log: starts, stops and failures
	startName   = "start.lock"   // held while the server is started, adopted or stopped
	usersName   = "users.lock"   // held, shared, by every program that uses the server
)

const (
	port = 5432 // of the socket's name only: nothing listens on the network

	// maxSocketPath is the longest path a Unix socket can have, in bytes, the zero byte at its end left out: 103 on
	// macOS and the BSDs, 107 on Linux (sun_path in sys/un.h).
	maxSocketPath = 103
)

// directory is the home of a private server.
type directory struct {
	path string // absolute, symbolic links resolved as far as it exists
}

func newDirectory(path string) (directory, error) {
	if path == "" {
		return directory{}, errors.New("private PostgreSQL: no directory given")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return directory{}, fmt.Errorf("private PostgreSQL in %s: %w", path, err)
	}
	if resolved, err := filepath.EvalSymlinks(absolute); err == nil {
		absolute = resolved
	}
	return directory{absolute}, nil
}

func (d directory) file(name string) string { return filepath.Join(d.path, name) }

// version returns the major version that made the data, "" where there is none yet. It writes nothing, and refuses a
// directory that holds anything else: initdb must never run beside data that it does not know.
func (d directory) version() (string, error) {
	versionFile := filepath.Join(d.file(dataName), "PG_VERSION")
	made, err := readFile(versionFile)
	if err == nil {
		return strings.TrimSpace(string(made)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", outOfReach(versionFile, err)
	}
	for dir, ours := range map[string][]string{
		d.path:           {dataName, newDataName, socketName, logName, startName, usersName},
		d.file(dataName): nil,
	} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", outOfReach(dir, err)
		}
		for _, entry := range entries {
			if !slices.Contains(ours, entry.Name()) {
				return "", &Error{
					Kind:   ErrForeign,
					Text:   fmt.Sprintf("%s holds something that is no database of this program (%s)", dir, entry.Name()),
					Remedy: "use an empty directory, or one that does not exist yet; nothing was touched",
				}
			}
		}
	}
	return "", nil
}

// prepare makes the directory, if need be, and gives it to the owner. What was there before is left as it is.
func (d directory) prepare(own owner) error {
	if err := own.reaches(d.path); err != nil {
		return err
	}
	if err := makeParents(filepath.Dir(d.path), own); err != nil {
		return err
	}
	if err := os.Mkdir(d.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return outOfReach(d.path, err)
	}
	if err := own.take(d.path); err != nil {
		return outOfReach(d.path, err)
	}
	return nil
}

// makeParents is os.MkdirAll, but what it makes as root is open to the owner, whatever the umask.
func makeParents(dir string, own owner) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // reaches has looked at it
	}
	if err := makeParents(filepath.Dir(dir), own); err != nil {
		return err
	}
	mkdir := os.Mkdir
	if own.foreign {
		mkdir = mkdirOpen
	}
	if err := mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return outOfReach(dir, err)
	}
	return nil
}

var umask sync.Mutex

// mkdirOpen makes a directory that has its mode from the start: another program that starts at the same moment must not
// find it closed until it is changed. The umask is the whole process'; what needs to be closed says so by its mode.
func mkdirOpen(dir string, mode os.FileMode) error {
	umask.Lock()
	defer umask.Unlock()
	defer syscall.Umask(syscall.Umask(0))
	return os.Mkdir(dir, mode)
}

// socket returns the directory of the server's socket, made where it is missing, mode 0700: whoever can enter it is let
// in without a password. Where the path would be too long for a socket, or has a comma, which splits a URL's list of hosts,
// it lies in the system's temporary directory, named after a hash of ours; programs that adopt the server read the place
// off its pid file.
func (d directory) socket(own owner) (string, error) {
	dir := d.file(socketName)
	if len(filepath.Join(dir, socketFile)) > maxSocketPath || strings.Contains(dir, ",") {
		sum := sha256.Sum256([]byte(d.path))
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("bulkinvite-%x", sum[:6]))
	}
	if len(filepath.Join(dir, socketFile)) > maxSocketPath {
		return "", &Error{
			Kind:   ErrAccess,
			Text:   fmt.Sprintf("%s: too long a path for a Unix socket (%d bytes at most)", dir, maxSocketPath),
			Remedy: "use a data directory with a shorter path, or set TMPDIR to a shorter one",
		}
	}
	if err := own.reaches(dir); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", outOfReach(dir, err)
	}
	// A crash may have left it ours, between the making and the giving away.
	if private(dir, os.Geteuid()) == nil {
		if err := own.take(dir); err != nil {
			return "", outOfReach(dir, err)
		}
	}
	return dir, private(dir, own.uid)
}

var socketFile = fmt.Sprintf(".s.PGSQL.%d", port)

// private sees that nobody but the user uid can enter dir: in a temporary directory anybody may have made it.
func private(dir string, uid int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return outOfReach(dir, err)
	}
	if stat := info.Sys().(*syscall.Stat_t); !info.IsDir() || info.Mode().Perm() != 0o700 || int(stat.Uid) != uid {
		return &Error{
			Kind:   ErrAccess,
			Text:   fmt.Sprintf("%s, the place for the server's socket, is not a directory of mode 0700 of user %d", dir, uid),
			Remedy: "remove it, or use another data directory",
		}
	}
	return nil
}
