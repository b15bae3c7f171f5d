package postgres

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxRead is more than any file that the program reads beside the server's data has, in bytes.
const maxRead = 64 << 10

// maxTries is how often a file that others make or remove at the same moment is opened anew.
const maxTries = 10

// errPlanted refuses a file that somebody else may have put in the place of one of ours.
var errPlanted = errors.New("not a regular file of the directory's owner with one name")

// openFile opens a file in a directory that may belong to another user, who can put anything there at any time. It follows
// no link, does not wait for a FIFO, and refuses what is not a regular file with one name that belongs to the directory's
// owner: as root the program would otherwise read, write or give away a file of root's. With os.O_CREATE a file that is
// missing is made, with mode 0600.
func openFile(path string, flag int) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // it was only read
	return openBelow(root, filepath.Base(path), flag)
}

// openBelow is openFile in a directory that is open already.
func openBelow(root *os.Root, name string, flag int) (*os.File, error) {
	for try := 1; ; try++ {
		file, err := openIn(root, name, flag)
		// Another program may make the file, or replace it, at the same moment.
		meanwhile := errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist)
		if flag&os.O_CREATE == 0 || !meanwhile || try == maxTries {
			return file, err
		}
	}
}

func openIn(root *os.Root, name string, flag int) (*os.File, error) {
	// A FIFO or a socket must not even be opened; what is there after this look is looked at again.
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

// same sees that the open file is the one that has the name, and not what a link led to.
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

// trusted refuses a file that is not what the program itself, or the directory's owner for it, makes.
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
	case stat.Uid == euid && info.Size() == 0: // a crash kept us from giving it away; it holds nothing
		return nil
	}
	return errPlanted
}

// readFile reads a small file under the rules of openFile. It returns an error that is fs.ErrNotExist where there is none.
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
