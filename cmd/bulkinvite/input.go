package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"bulkinvite/importer"
)

// input is a file of people that may be read more than once.
type input struct {
	name string // as messages and the batch name it
	path string // as the command line named it; FILE: it was a stream
	file *os.File
	temp string // if it was copied: the copy, removed at the end
}

// openInput opens the file at path, or standard input for "-". What can't be
// read twice is copied to a file that only we may read.
func (p *program) openInput(ctx context.Context, path string, limits importer.Limits) (*input, error) {
	most := limits.FileBytes
	if most == 0 {
		most = importer.DefaultFileBytes
	}
	if path == "-" {
		return p.spool(ctx, "standard input", p.in, most)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(unreadable(path, err), file.Close())
	}
	switch {
	case info.IsDir():
		return nil, errors.Join(fail(exitUsage, "file", "name a file in it", "%s: it is a directory", plain(path)), file.Close())
	case !info.Mode().IsRegular():
		in, err := p.spool(ctx, path, file, most)
		return in, errors.Join(err, file.Close())
	}
	in := &input{name: filepath.Base(path), path: path, file: file}
	p.onClose(in.close)
	return in, nil
}

// unreadable says why a file can't be opened, without naming it twice.
func unreadable(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fail(exitUsage, "file", "see that the path is right and that you may read it", "%s: %w", plain(path), err)
}

// spool copies a stream of at most so many bytes to a temporary file. The copy ends with ctx, even if
// the stream does not.
func (p *program) spool(ctx context.Context, name string, from io.Reader, most int64) (*input, error) {
	file, err := os.CreateTemp("", "bulkinvite-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("keep a copy of %s: %w", name, err)
	}
	in := &input{name: name, path: "FILE", file: file, temp: file.Name()}
	p.onClose(in.close)
	n, err := await(ctx, func() (int64, error) { return io.Copy(file, io.LimitReader(from, most+1)) })
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil && n > most:
		err = fmt.Errorf("it is longer than %d bytes", most)
	}
	if err != nil {
		return nil, fail(exitUsage, "file", "", "%s: %w", name, err)
	}
	return in, nil
}

// shellPlain matches texts that a shell takes as one word as they are.
var shellPlain = regexp.MustCompile(`^[A-Za-z0-9_./+,:@%=-]+$`)

// shellWord writes a text so that a POSIX shell takes it as one word.
func shellWord(text string) string {
	if shellPlain.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(plain(text), "'", `'\''`) + "'"
}

// rewind returns a reader at the file's beginning.
func (in *input) rewind() (io.Reader, error) {
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%s: read it again: %w", in.name, err)
	}
	return in.file, nil
}

func (in *input) close() error {
	err := in.file.Close()
	if in.temp != "" {
		err = errors.Join(err, os.Remove(in.temp))
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", in.name, err)
	}
	return nil
}

// readLine reads one line, without its end, a byte at a time so that nothing
// after it is taken.
func readLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for len(line) < 1024 {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' {
			break
		}
		line = append(line, b[:n]...)
		if err != nil {
			return string(line), err
		}
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return string(line), nil
}
