package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"bulkinvite/importer"
)

// writeProblems reads the file once more, now that its columns are known, and
// writes its bad rows: with its own columns and delimiter, commas where it was a
// workbook. It writes UTF-8 with a byte order mark, by which spreadsheets know
// it: the file's own encoding may lack the characters of a correction, or be a wrong guess.
func (pl *plan) writeProblems(ctx context.Context, path string) error {
	r, err := pl.input.rewind()
	if err != nil {
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if there, err := os.Stat(path); err == nil {
		if ours, err := pl.input.file.Stat(); err == nil && os.SameFile(ours, there) {
			return fail(exitUsage, "file", "name another file",
				"--problems: %s is the file that is checked, and would be lost", plain(path))
		}
		if !there.Mode().IsRegular() {
			flags = os.O_WRONLY // a terminal, a pipe: nothing is lost
		}
	}
	out, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fail(exitUsage, "file", "Name a file that does not exist, or remove this one.",
			"--problems: %s exists, and may have rows that were corrected", plain(path))
	}
	if err != nil {
		return fail(exitUsage, "file", "name a file that can be written", "--problems: %w", err)
	}
	names := pl.summary.Columns.Found
	w := &problemWriter{out: bufio.NewWriter(out), delimiter: cmp.Or(pl.summary.Delimiter, ","),
		again: len(names) > 0 && names[0] == importer.ProblemColumn}
	w.csv = csv.NewWriter(w.out)
	w.csv.Comma, w.csv.UseCRLF = rune(w.delimiter[0]), true
	_, _ = w.out.WriteString("\ufeff") // Flush returns it
	if err = w.cells(importer.ProblemColumn, names); err == nil {
		_, err = importer.Read(ctx, r, pl.options, func(row *importer.Row) error {
			if row.Problem == nil {
				return nil
			}
			return w.row(row)
		})
	}
	if err := errors.Join(err, w.out.Flush(), out.Close()); err != nil {
		return fmt.Errorf("write the bad rows: %w", err)
	}
	return nil
}

// problemWriter writes bad rows so that each read again has the same cells.
type problemWriter struct {
	out       *bufio.Writer
	csv       *csv.Writer
	delimiter string
	again     bool // the file is one of bad rows itself: its first column is replaced
}

// row writes a row's own cells as they are: an apostrophe before what a
// spreadsheet takes for a formula would be sent, and the formula is in the
// file that they came from too.
func (w *problemWriter) row(row *importer.Row) error {
	p := row.Problem
	reason := fmt.Sprintf("line %d: ", p.Line)
	if p.Column != "" {
		reason = fmt.Sprintf("line %d, %s: ", p.Line, strings.ReplaceAll(p.Column, `"`, "'"))
	}
	reason += p.Advice() + " (" + p.Code + ")"
	if p.Code == importer.BadQuotes {
		return w.broken(reason, row.Cells)
	}
	return w.cells(reason, row.Cells)
}

func (w *problemWriter) cells(first string, cells []string) error {
	if w.again && len(cells) > 0 {
		cells = cells[1:]
	}
	if err := w.csv.Write(append([]string{first}, cells...)); err != nil {
		return err
	}
	w.csv.Flush()
	return w.csv.Error()
}

// broken writes a line whose quotes make no sense as it was, so that it still
// makes none when it is read again. The reason is always quoted: by the quote
// that opens it, the reader sees that one of the line before is not closed.
func (w *problemWriter) broken(reason string, cells []string) error {
	line := strings.Join(cells, w.delimiter)
	if w.again {
		if _, rest, found := strings.Cut(line, `"`+w.delimiter); found && strings.HasPrefix(line, `"`) {
			line = rest
		}
	}
	_, err := w.out.WriteString(`"` + reason + `"` + w.delimiter + line + "\r\n")
	return err
}
