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

// owner is the user that the server runs as and that owns its files. It is this program's own user,
// or another one if this program runs as root, because PostgreSQL refuses to run as root.
type owner struct {
	uid, gid int
	foreign  bool // not this program's own user
}

// findOwner returns the user that the server runs as: the owner of its data or of its directory, if
// one of them exists; otherwise this program's user, or, as root, the user postgres or else nobody.
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
			continue // an empty directory that root created for this purpose
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

// linkedByUs refuses, as root, a link that another user made. The link could make root run a server
// as a third user, on that user's data.
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

// attributes returns the attributes of a process that runs as the owner, in its own process group.
// Ctrl-C in a terminal goes to the whole foreground group, and the server must outlive the work
// that is in flight then. (Pdeathsig does not help: it is sent when the thread that started the
// process ends.)
func (o owner) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if o.foreign {
		attributes.Credential = &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
	}
	return attributes
}

// reaches checks that the owner may pass through every existing directory above dir.
func (o owner) reaches(dir string) error {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		switch {
		case errors.Is(err, fs.ErrNotExist): // will be created, open to the owner
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

// enters reports, from the mode, whether the owner may pass through a directory.
func (o owner) enters(info os.FileInfo) bool {
	stat, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case !o.foreign:
		return true // the kernel decides when it is used, access lists included
	case int(stat.Uid) == o.uid:
		return mode&0o100 != 0
	case int(stat.Gid) == o.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// OnlyRootWrites refuses, as root, a path that another user can change or replace, directly or
// through a directory above it. That user could put a link in the place of what root creates there,
// and make root write elsewhere. A path that does not exist is accepted, so a caller that creates
// it must check again. If the program does not run as root, it refuses nothing.
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

// onlyRootAbove checks a path and all directories above it, without following links.
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

// ofRoot checks that only root can change a file, a link, or the entries of a directory. A sticky
// directory such as /tmp passes although everybody may write to it, since only their owners may
// replace its entries.
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

// errnoOf removes the operation and the path from an error of package os, since the text around it
// contains them.
func errnoOf(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
