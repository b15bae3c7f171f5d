package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is the user that the server runs as and that its files belong to: the program's own user, or, since PostgreSQL
// refuses to run as root, another one where the program is root.
type owner struct {
	uid, gid int
	foreign  bool // not the program's own user
}

// findOwner returns whom the server runs as: the owner of its data, or of its directory, where there is one; else us, and
// where we are root, the user postgres, else nobody.
func findOwner(dir directory) (owner, error) {
	euid := os.Geteuid()
	for _, path := range []string{dir.file(dataName), dir.path} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return owner{}, outOfReach(path, err)
		}
		if err := linkedByUs(path, euid); err != nil {
			return owner{}, err
		}
		stat := info.Sys().(*syscall.Stat_t)
		if path == dir.path && euid == 0 && stat.Uid == 0 {
			continue // an empty directory that root made for us
		}
		return ownerOf(path, euid, int(stat.Uid), int(stat.Gid))
	}
	if euid != 0 {
		return owner{uid: euid, gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return parseOwner(u)
		}
	}
	return owner{}, &Error{
		Kind:   ErrAccess,
		Text:   "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as",
		Remedy: "run the program as an ordinary user, or give a server's URL",
	}
}

// linkedByUs refuses, where we are root, a link that another user made: it could have us run a server as a third user, on
// their data.
func linkedByUs(path string, euid int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return outOfReach(path, err)
	}
	if euid == 0 && info.Mode().Type() == fs.ModeSymlink && info.Sys().(*syscall.Stat_t).Uid != 0 {
		return outOfReach(path, errPlanted)
	}
	return nil
}

func ownerOf(path string, euid, uid, gid int) (owner, error) {
	switch {
	case uid == 0:
		return owner{}, &Error{
			Kind:   ErrAccess,
			Text:   fmt.Sprintf("%s belongs to root, and PostgreSQL does not run as root", path),
			Remedy: "give it to the user that the server should run as: chown -R postgres " + path,
		}
	case euid != 0 && euid != uid:
		return owner{}, &Error{
			Kind:   ErrAccess,
			Text:   fmt.Sprintf("%s belongs to user %d, we are %d", path, uid, euid),
			Remedy: "run the program as that user or as root, or use another data directory",
		}
	}
	return owner{uid: uid, gid: gid, foreign: euid != uid}, nil
}

func parseOwner(u *user.User) (owner, error) {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return owner{}, fmt.Errorf("user %s: uid: %w", u.Username, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return owner{}, fmt.Errorf("user %s: gid: %w", u.Username, err)
	}
	return owner{uid: uid, gid: gid, foreign: true}, nil
}

// take gives path to the owner.
func (o owner) take(path string) error {
	if !o.foreign {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

// attributes are those of a process that runs as the owner, in a process group of its own: Ctrl-C in a terminal goes to
// the whole foreground group, and the server must outlast the work that is still in flight then. (Pdeathsig is no use:
// it fires when the thread that started the process ends.)
func (o owner) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if o.foreign {
		attributes.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return attributes
}

// reaches sees that the owner may pass through every directory above dir, as far as they exist.
func (o owner) reaches(dir string) error {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		switch {
		case errors.Is(err, fs.ErrNotExist): // will be made, and open
		case err != nil:
			return outOfReach(parent, err)
		case !o.enters(info):
			return &Error{
				Kind:   ErrAccess,
				Text:   fmt.Sprintf("the server would run as user %d, which may not enter %s, a parent of %s", o.uid, parent, dir),
				Remedy: "use a data directory that this user can reach, such as one under /var/lib",
			}
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

// enters tells by its mode whether the owner may pass through a directory.
func (o owner) enters(info os.FileInfo) bool {
	stat, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case !o.foreign:
		return true // the kernel tells us, access lists included, when we go there
	case int(stat.Uid) == o.uid:
		return mode&0o100 != 0
	case int(stat.Gid) == o.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// OnlyRootWrites refuses, where the program runs as root, a path that another user can change or replace, by itself or by
// a directory above it: they could put a link in the place of what root makes there, and have root write elsewhere. What
// does not exist yet is passed over, so a caller that makes it looks again. As an ordinary user it refuses nothing.
//
// Kind of [*Error]: [ErrAccess].
func OnlyRootWrites(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := onlyRootAbove(absolute); err != nil {
		return err
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return outOfReach(absolute, err)
	case resolved == absolute:
		return nil
	}
	return onlyRootAbove(resolved)
}

// onlyRootAbove looks at a path and all that is above it, without following links.
func onlyRootAbove(path string) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return outOfReach(at, err)
		}
		if err == nil {
			if err := ofRoot(at, info); err != nil {
				return err
			}
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// ofRoot sees that nobody but root can change a file, a link, or what a directory holds. In a directory such as /tmp, whose entries
// only their owners may replace, everybody may write.
func ofRoot(path string, info fs.FileInfo) error {
	stat, mode := info.Sys().(*syscall.Stat_t), info.Mode()
	switch {
	case stat.Uid != 0:
		return &Error{
			Kind:   ErrAccess,
			Text:   fmt.Sprintf("%s belongs to user %d, who could redirect what root writes there", path, stat.Uid),
			Remedy: "run the program as that user, or give it to root: chown --no-dereference root " + path,
		}
	case mode.Type() == fs.ModeSymlink || mode&fs.ModeSticky != 0:
		return nil
	case mode&0o002 != 0 || mode&0o020 != 0 && stat.Gid != 0:
		return &Error{
			Kind:   ErrAccess,
			Text:   fmt.Sprintf("users other than root may write to %s and could redirect what root writes there", path),
			Remedy: "close it to them: chmod go-w " + path,
		}
	}
	return nil
}

func outOfReach(path string, err error) error {
	remedy := "run the program as the user that the directory belongs to, or use another data directory"
	if errors.Is(err, errPlanted) {
		remedy = "see what it is and remove it; it was neither read nor written"
	}
	return &Error{Kind: ErrAccess, Text: fmt.Sprintf("%s: %v", path, errnoOf(err)), Remedy: remedy, Err: err}
}

// errnoOf strips the operation and the path off an error of package os, since the text around it names them.
func errnoOf(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
