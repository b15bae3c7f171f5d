package postgres

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/ulikunitz/xz"
)

// maxUnpacked is the largest total size of an unpacked archive, in bytes. Version 18 has 60 MB.
const maxUnpacked = 1 << 30

// unpack writes the files of the archive, a zip file with one tar.xz, into the empty directory dir.
// No file is written outside dir, and no link leads out of it.
func unpack(ctx context.Context, archive, dir string) (err error) {
	outer, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, outer.Close()) }()
	for _, file := range outer.File {
		if !strings.HasSuffix(file.Name, ".txz") {
			continue
		}
		inner, err := file.Open()
		if err != nil {
			return err
		}
		return errors.Join(untar(ctx, inner, dir), inner.Close())
	}
	return errors.New("it holds no .txz")
}

func untar(ctx context.Context, compressed io.Reader, dir string) (err error) {
	plain, err := xz.NewReader(bufio.NewReader(compressed))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // its methods refuse paths and links that lead out of it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	limited := &io.LimitedReader{R: plain, N: maxUnpacked}
	entries := tar.NewReader(limited)
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = writeEntry(root, header, entries)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	if limited.N == 0 {
		return fmt.Errorf("it unpacks to more than %d bytes", maxUnpacked)
	}
	return openTree(root)
}

// writeEntry creates one entry of a tar file.
func writeEntry(root *os.Root, header *tar.Header, content io.Reader) error {
	name := path.Clean(header.Name)
	if header.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o755)
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeReg:
		file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, content)
		return errors.Join(err, file.Chmod(0o644|header.FileInfo().Mode().Perm()&0o111), file.Close())
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return root.Link(path.Clean(header.Linkname), name)
	}
	return fmt.Errorf("%s is neither file, directory nor link", name)
}

// openTree lets every user into the directories, even with a strict umask, and refuses links that
// lead out of the tree or to nothing.
func openTree(root *os.Root) error {
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
		case entry.IsDir():
			err = root.Chmod(name, 0o755)
		case entry.Type() == fs.ModeSymlink:
			_, err = root.Stat(name)
		}
		return err
	})
}
