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

// The files in the directory of a private server.
const (
	dataName    = "data"         // PostgreSQL's data directory
	newDataName = "data.new"     // the data directory while initdb fills it
	socketName  = "socket"       // the socket's directory, if its path is short enough
	logName     = "postgres.log" // the server's log: starts, stops and failures
	startName   = "start.lock"   // locked while a program starts, adopts or stops the server
	usersName   = "users.lock"   // locked, shared, by every program that uses the server
)

const (
	port = 5432 // only part of the socket's name: nothing listens on the network

	// maxSocketPath is the longest path of a Unix socket in bytes, without the zero byte at the
	// end. It is 103 on macOS and the BSDs, and 107 on Linux (sun_path in sys/un.h).
	maxSocketPath = 103
)

// directory is the directory of a private server.
type directory struct {
	path string // absolute; symbolic links are resolved if the directory exists
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

// version returns the major version that created the data, or "" if there is no data yet. It writes
// nothing. It refuses a directory that contains anything else: initdb must never run next to files
// that this program does not know.
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

// prepare creates the directory if necessary and gives it to the owner. It does not change its
// contents.
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

// makeParents is like os.MkdirAll, but what root creates is open to the owner, even with a strict
// umask.
func makeParents(dir string, own owner) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil // reaches has checked it
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

// mkdirOpen creates a directory that has its mode from the start. Otherwise another program that
// starts at the same moment could find it closed. The umask applies to the whole process, so code
// that creates a closed file or directory must set its mode.
func mkdirOpen(dir string, mode os.FileMode) error {
	umask.Lock()
	defer umask.Unlock()
	defer syscall.Umask(syscall.Umask(0))
	return os.Mkdir(dir, mode)
}

// socket returns the directory of the server's socket, and creates it if it is missing. Its mode is
// 0700, because everybody who can enter it can connect without a password. If the path is too long
// for a socket, or has a comma, which separates the hosts in a URL, the directory is in the
// system's temporary directory, named after a hash of the path. Programs that adopt the server read
// the place from its pid file.
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
	// After a crash between Mkdir and take, the directory still belongs to this user.
	if private(dir, os.Geteuid()) == nil {
		if err := own.take(dir); err != nil {
			return "", outOfReach(dir, err)
		}
	}
	return dir, private(dir, own.uid)
}

var socketFile = fmt.Sprintf(".s.PGSQL.%d", port)

// private checks that only the user uid can enter dir. In a temporary directory any user may have
// made it.
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
