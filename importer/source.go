package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"syscall"
)

// window is how far the reader looks ahead to find out what it has before it.
const window = 64 << 10

// source counts and hashes a file's bytes as they pass, and stops at the limit.
type source struct {
	r     io.Reader
	hash  hash.Hash
	n     int64
	limit int64
}

func newSource(r io.Reader, limit int64) *source {
	return &source{r: r, hash: sha256.New(), limit: limit}
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	if s.n > s.limit {
		return 0, tooLarge(s.limit)
	}
	if err != nil && err != io.EOF {
		return n, unreadable(err)
	}
	return n, err
}

func (s *source) sum() (sum [32]byte) {
	s.hash.Sum(sum[:0])
	return sum
}

func tooLarge(limit int64) *FileError {
	return &FileError{What: fmt.Sprintf("the file is larger than %d bytes", limit), Fix: "Split it."}
}

// unreadable makes a read error the file's fault, and leaves the file's name
// out, which whoever opened the file says. A read that was called off is
// nobody's fault.
func unreadable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var fault *FileError
	if errors.As(err, &fault) {
		return err
	}
	if errors.Is(err, syscall.EISDIR) {
		return &FileError{What: "this is a directory, not a file", Fix: "Name a CSV file in it."}
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &FileError{What: "the file can't be read", Reason: err}
}

// unpack refuses what is no text by its first bytes, and takes gzip's wrapping
// off.
func unpack(r io.Reader, limit int64) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, window)
	head, err := in.Peek(8)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(head) == 0 {
		return nil, emptyFile()
	}
	if bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		zip, err := gzip.NewReader(in)
		if err != nil {
			return nil, damaged(err)
		}
		in = bufio.NewReaderSize(&inflater{r: zip, left: limit, limit: limit}, window)
		if head, err = in.Peek(8); err != nil && err != io.EOF {
			return nil, err
		}
		if len(head) == 0 {
			return nil, emptyFile()
		}
	}
	if what := format(head); what != "" {
		return nil, &FileError{What: "this is " + what + ", not a CSV file", Fix: "Open it in its program and save it as CSV (UTF-8)."}
	}
	return in, nil
}

func emptyFile() *FileError {
	return &FileError{What: "the file is empty", Fix: "Write a header line with a column named email, and a line for each person."}
}

func damaged(err error) *FileError {
	return &FileError{What: "the compressed file is damaged", Fix: "Send it again, or unpack it first.", Reason: err}
}

// inflater stops a small file that unpacks to an endless one.
type inflater struct {
	r           io.Reader
	left, limit int64
}

func (f *inflater) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.left -= int64(n); f.left < 0 {
		return 0, tooLarge(f.limit)
	}
	var fault *FileError
	switch {
	case err == nil || err == io.EOF || errors.As(err, &fault):
		return n, err
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return n, err
	}
	return n, damaged(err)
}

// format names the kinds of file that people send by mistake for CSV.
func format(head []byte) string {
	for _, f := range []struct{ magic, name string }{
		{"PK\x03\x04", "an Excel workbook or another zip archive"},
		{"\xd0\xcf\x11\xe0", "an old Excel workbook"},
		{"%PDF", "a PDF document"},
		{"\x89PNG", "a picture"},
		{"\xff\xd8\xff", "a picture"},
		{"GIF8", "a picture"},
		{"{\\rtf", "a formatted document"},
		{"7z\xbc\xaf", "an archive"},
		{"SQLite f", "a database"},
		{"PAR1", "a Parquet file"},
		{"\x7fELF", "a program"},
		{"\xff\xfe\x00\x00", "UTF-32 text"},
		{"\x00\x00\xfe\xff", "UTF-32 text"},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return f.name
		}
	}
	return ""
}
