package postgres

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxRead is in bytes. It is more than the size of any file that the program reads next to the
// server's data.
const maxRead = 64 << 10

// maxTries is how often openBelow tries to open a file that others create or remove at the same
// moment.
const maxTries = 10

// errPlanted refuses a file that another user may have put in the place of one of this program's.
var errPlanted = errors.New("not a regular file of the directory's owner with one name")

// openFile opens a file in a directory that may belong to another user, who can put anything there
// at any time. It follows no link, does not block on a FIFO, and refuses everything except a
// regular file with one name that belongs to the directory's owner. Otherwise a program that runs
// as root could read, write or give away a file of root's. With os.O_CREATE it creates a missing
// file with mode 0600.
func openFile(path string, flag int) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // it was only read
	return openBelow(root, filepath.Base(path), flag)
}

// openBelow is openFile in a directory that is already open.
func openBelow(root *os.Root, name string, flag int) (*os.File, error) {
	for try := 1; ; try++ {
		file, err := openIn(root, name, flag)
		// Another program may create or replace the file at the same moment.
		meanwhile := errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist)
		if flag&os.O_CREATE == 0 || !meanwhile || try == maxTries {
			return file, err
		}
	}
}

func openIn(root *os.Root, name string, flag int) (*os.File, error) {
	// A FIFO or a socket must not even be opened. The file may change after Lstat, so same checks
	// again.
	switch info, err := root.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		flag |= os.O_EXCL
	case err != nil:
		return nil, err
	default:
		if err := trusted(root, info); err != nil {
			return nil, err
		}
		flag &^= os.O_CREATE
	}
	file, err := root.OpenFile(name, flag|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := same(root, name, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// same checks that the open file is the one with this name, and not the target of a link.
func same(root *os.Root, name string, file *os.File) error {
	opened, err := file.Stat()
	if err != nil {
		return err
	}
	named, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(opened, named) {
		return errPlanted
	}
	return trusted(root, opened)
}

// trusted refuses a file unless this program, or the directory's owner, can have created it.
func trusted(root *os.Root, info fs.FileInfo) error {
	dir, err := root.Stat(".")
	if err != nil {
		return err
	}
	stat, home, euid := info.Sys().(*syscall.Stat_t), dir.Sys().(*syscall.Stat_t).Uid, uint32(os.Geteuid())
	switch {
	case !info.Mode().IsRegular() || stat.Nlink != 1:
		return errPlanted
	case stat.Uid == home || home == euid:
		return nil
	case stat.Uid == euid && info.Size() == 0: // empty: left by a crash before it was given to the owner
		return nil
	}
	return errPlanted
}

// readFile reads a small file under the rules of openFile. The error is fs.ErrNotExist if there is
// none.
func readFile(path string) ([]byte, error) {
	file, err := openFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return readSmall(file)
}

// readSmall reads a small file and closes it.
func readSmall(file *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(file, maxRead))
	return text, errors.Join(err, file.Close())
}

// takeFile gives an open file to the owner.
func (o owner) takeFile(file *os.File) error {
	if !o.foreign {
		return nil
	}
	return file.Chown(o.uid, o.gid)
}
