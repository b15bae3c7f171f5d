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
	if isSettled(err) {
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

// isSettled reports whether an error says what is wrong already, or that a read was
// called off.
func isSettled(err error) bool {
	var fault *FileError
	return errors.As(err, &fault) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// unpack takes gzip's wrapping off, and refuses what is neither text nor
// workbook by its first bytes.
func unpack(r io.Reader, limit int64) (text *bufio.Reader, isWorkbook bool, err error) {
	in := bufio.NewReaderSize(r, window)
	head, err := in.Peek(8)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	if bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		zip, err := gzip.NewReader(in)
		if err != nil {
			return nil, false, damaged(err)
		}
		in = bufio.NewReaderSize(&inflater{r: zip, left: limit, limit: limit}, window)
		if head, err = in.Peek(8); err != nil && err != io.EOF {
			return nil, false, err
		}
	}
	switch {
	case len(head) == 0:
		return nil, false, emptyFile()
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return in, true, nil
	case bytes.HasPrefix(head, []byte("\xd0\xcf\x11\xe0")):
		return nil, false, oldWorkbook(in)
	}
	if what := format(head); what != "" {
		return nil, false, &FileError{What: "this is " + what + ", not a CSV file or an Excel workbook", Fix: "Open it in its program and save it as CSV (UTF-8)."}
	}
	return in, false, nil
}

func emptyFile() *FileError {
	return &FileError{What: "the file is empty", Fix: "Write a header line with a column named email, and a line for each person."}
}

func damaged(err error) *FileError {
	return &FileError{What: "the compressed file is damaged", Fix: "Send it again, or unpack it first.", Reason: err}
}

// oldWorkbook tells what is in a container of the kind that Excel used before
// 2007, and still does for what a password protects.
func oldWorkbook(r io.Reader) error {
	fault := &FileError{What: "this is an old Excel workbook", Fix: "Open it in Excel and save it as .xlsx or CSV (UTF-8)."}
	// The names of its streams, in UTF-16 (MS-CFB, 2.6.1).
	mark := []byte("E\x00n\x00c\x00r\x00y\x00p\x00t\x00e\x00d\x00P\x00a\x00c\x00k\x00a\x00g\x00e\x00")
	buf := make([]byte, 0, 2*window)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case bytes.Contains(buf, mark):
			return &FileError{What: "the workbook is protected by a password", Fix: "Open it in Excel, take the password off (File, Info, Protect Workbook), and save it."}
		case err == io.EOF:
			return fault
		case err != nil:
			return err
		}
		if len(buf) > window {
			buf = buf[:copy(buf, buf[len(buf)-len(mark):])]
		}
	}
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
	if err == nil || err == io.EOF || isSettled(err) {
		return n, err
	}
	return n, damaged(err)
}

// format names the kinds of file that people send by mistake for CSV.
func format(head []byte) string {
	for _, f := range []struct{ magic, name string }{
		{"PK\x05\x06", "an empty archive"},
		{"\x1f\x8b", "a compressed file in a compressed file"},
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
