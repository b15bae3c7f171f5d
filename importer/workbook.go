package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// A workbook over one of these is refused. Excel's own limit of a million rows
// to a sheet keeps honest ones far below.
const (
	maxWorkbook = 256 << 20 // bytes of the file
	maxUnpacked = 2 << 30   // bytes of all that is in it
)

// EncodingWorkbook is the Encoding of a Summary where the file is an Excel
// workbook, which has no encoding of its own choice and no delimiter.
const EncodingWorkbook = "Excel workbook"

// workbook reads the records of one sheet of an Excel workbook: its cells as
// they are shown. excelize knows number formats, but passes over what it can't
// read, and spends time and memory without limit on what a small file may hold.
// So the workbook is surveyed before, excelize gets a copy with no more in it than
// cells and their formats need, and what it gives is held against the survey.
type workbook struct {
	ctx    context.Context
	alone  func() bool // leaves the files alone when the context ends
	dir    string      // what has to be on disk meanwhile; only we may read it
	file   *excelize.File
	sheets []sheet // the worksheets, in their order
	sheet  *sheet  // the one that is read
	others []string
	rows   *excelize.Rows
	limits Limits
	allow  allowances
	used   allowances // by the rows of the sheet that were read
	row    int        // the number of the last row that was read
	ended  bool
}

// openWorkbook finds the first sheet that has an e-mail column. It reads src, the
// file as it came, by way of in, which takes gzip's wrapping off.
func openWorkbook(ctx context.Context, in io.Reader, src *source, o Options) (*workbook, error) {
	if o.Delimiter != "" || o.Encoding != "" {
		return nil, &FileError{What: "this is an Excel workbook, which has no delimiter and no encoding", Fix: "Leave --delimiter and --encoding away."}
	}
	w := &workbook{ctx: ctx, limits: o.Limits}
	err := w.unpack(ctx, in, src)
	if err == nil {
		err = w.choose(o)
	}
	if err != nil {
		closing := w.close()
		if ctx.Err() != nil {
			return nil, ctx.Err() // whatever was wrong with the file was our doing
		}
		return nil, errors.Join(err, closing)
	}
	return w, nil
}

// unpack copies a workbook to a file, because the list of what is in it stands
// at its end, and opens it.
func (w *workbook) unpack(ctx context.Context, in io.Reader, src *source) (err error) {
	defer func() {
		var fault *FileError
		if err != nil && !errors.As(err, &fault) {
			err = fmt.Errorf("keep a copy of the workbook: %w", err)
		}
	}()
	if w.dir, err = os.MkdirTemp("", "bulkinvite-*"); err != nil {
		return err
	}
	w.alone = context.AfterFunc(ctx, func() { empty(w.dir) })
	path := filepath.Join(w.dir, "workbook.xlsx")
	if err := spool(&called{ctx, in}, path); err != nil {
		return err
	}
	w.allow = allowed(src.n)
	clean := filepath.Join(w.dir, "clean.xlsx")
	if w.sheets, err = surveyWorkbook(ctx, path, clean, w.limits, w.allow); err != nil {
		return err
	}
	defer recovered(&err)
	w.file, err = excelize.OpenFile(clean, excelize.Options{
		// Sheets and texts are read from temporary files, whatever their size: in
		// memory they would take many times as much.
		UnzipSizeLimit: maxUnpacked, UnzipXMLSizeLimit: 1, TmpDir: w.dir,
		// How Excel shows such a date, its user's computer decides; the file
		// doesn't say.
		ShortDatePattern: "yyyy-mm-dd",
	})
	if err != nil {
		return damagedWorkbook(err)
	}
	return nil
}

// empty cuts the files of a directory off, so that whoever reads them comes to an end:
// excelize reads all texts at one go, and knows no context.
func empty(dir string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return // it is gone
	}
	for _, file := range files {
		_ = os.Truncate(filepath.Join(dir, file.Name()), 0) // it may be gone; close removes what is not
	}
}

func spool(in io.Reader, path string) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, maxWorkbook+1))
	err = errors.Join(err, out.Close())
	if err == nil && n > maxWorkbook {
		err = &FileError{What: fmt.Sprintf("the workbook is larger than %d bytes", maxWorkbook), Fix: "Save the sheet as CSV (UTF-8)."}
	}
	return err
}

func damagedWorkbook(err error) *FileError {
	return &FileError{What: "the workbook is damaged", Fix: "Open it in Excel, save it again, or save it as CSV (UTF-8).", Reason: err}
}

// recovered makes a panic of excelize's, which some damaged workbooks bring
// about, the file's fault: nothing but the file's reading is affected.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = damagedWorkbook(fmt.Errorf("%v", v))
	}
}

// choose goes to the first sheet in sight that has a header with an e-mail
// column, else to the first in sight, whose header then tells what is missing.
func (w *workbook) choose(o Options) error {
	var chosen, first *sheet
	hidden := ""
	for i := range w.sheets {
		s := &w.sheets[i]
		if s.last == 0 {
			continue
		}
		if err := w.start(s); err != nil {
			return err
		}
		t := &table{from: w}
		records, err := t.peek(titleLines, math.MaxInt)
		if err != nil {
			return err
		}
		found := findHeader(records, o) >= 0
		if !found && !s.hidden { // the header of a sheet with people may be one that isn't known
			if records, err = t.peek(2*titleLines, math.MaxInt); err != nil {
				return err
			}
		}
		switch {
		case s.hidden && found && hidden == "":
			hidden = s.name
		case s.hidden:
		case found && chosen == nil:
			chosen = s
		case found || slices.ContainsFunc(records, holdsAddress):
			w.others = append(w.others, s.name)
		}
		if !s.hidden && !found && first == nil {
			first = s
		}
	}
	switch {
	case chosen != nil:
		return w.start(chosen)
	case hidden != "":
		return &FileError{What: fmt.Sprintf("only the hidden sheet %q has an e-mail column", shortened(hidden)), Fix: "Show that sheet if it is the one that is meant."}
	case first != nil:
		w.others = slices.DeleteFunc(w.others, func(name string) bool { return name == first.name })
		return w.start(first)
	}
	return emptyFile()
}

// start goes to a sheet's beginning.
func (w *workbook) start(s *sheet) (err error) {
	if err := w.stop(); err != nil {
		return err
	}
	defer recovered(&err)
	w.sheet, w.row, w.ended, w.used = s, 0, false, allowances{}
	if w.rows, err = w.file.Rows(s.alias); err != nil {
		return damagedWorkbook(err)
	}
	return nil
}

func (w *workbook) stop() error {
	if w.rows == nil {
		return nil
	}
	rows := w.rows
	w.rows = nil
	if err := rows.Close(); err != nil {
		return damagedWorkbook(err)
	}
	return nil
}

func (w *workbook) close() error {
	err := w.stop()
	if w.alone != nil {
		w.alone()
	}
	if w.file != nil {
		err = errors.Join(err, w.file.Close())
	}
	if w.dir != "" {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	if err != nil {
		return fmt.Errorf("remove the copy of the workbook: %w", err)
	}
	return nil
}

// next gives the next row. Each has as many cells as the sheet is wide: cells
// have their column written on them, so that none is missing or too many.
func (w *workbook) next() (rec record, err error) {
	defer recovered(&err)
	if w.row == w.sheet.last {
		return rec, io.EOF // what follows is formatted at most
	}
	if err := w.ctx.Err(); err != nil {
		return rec, err
	}
	if !w.rows.Next() {
		if err := w.ctx.Err(); err != nil {
			return rec, err
		}
		return rec, damagedWorkbook(fmt.Errorf("sheet %q ends before row %d", shortened(w.sheet.name), w.sheet.last))
	}
	w.row++
	shown, err := w.rows.Columns()
	if err := w.ctx.Err(); err != nil { // the texts may have been cut off
		return rec, err
	}
	if err != nil {
		return rec, damagedWorkbook(err)
	}
	if blank(shown) {
		return rec, nil
	}
	rec = record{line: w.row, hidden: w.rows.GetRowOpts().Hidden, cells: make([]string, max(w.sheet.width, len(shown)))}
	for i, cell := range shown {
		if strings.IndexByte(cell, '\r') >= 0 {
			cell = strings.ReplaceAll(cell, "\r\n", "\n")
		}
		rec.cells[i] = cell
		rec.size += len(cell)
		if strings.IndexByte(cell, 0) >= 0 || strings.ContainsRune(cell, utf8.RuneError) {
			rec.lost, rec.nul = true, rec.nul || strings.IndexByte(cell, 0) >= 0
		}
	}
	w.used.text += int64(rec.size)
	if w.used.cells += int64(len(rec.cells)); w.used.cells > w.allow.cells || w.used.text > w.allow.text {
		return rec, swollen("cells, or more text,")
	}
	if rec.size > w.limits.LineBytes {
		return rec, &FileError{Line: w.row, What: fmt.Sprintf("the row is longer than %d bytes", w.limits.LineBytes), Fix: "Take the long text out."}
	}
	if rec.lost {
		legible(rec.cells)
	}
	return rec, w.limits.check(w.row, rec.cells)
}

// describe says which sheet was read, and what in it deserves a look.
func (w *workbook) describe(s *Summary) {
	s.Encoding, s.Sheet = EncodingWorkbook, w.sheet.name
	var of []Problem
	if len(w.others) > 0 {
		of = append(of, Problem{Code: OtherSheets, Message: fmt.Sprintf("only the sheet %q is read; these have addresses too: %s", shortened(w.sheet.name), list(w.others))})
	}
	if n := w.sheet.uncomputed; n > 0 {
		of = append(of, Problem{Line: w.sheet.uncomputedRow, Code: UncomputedFormula,
			Message: fmt.Sprintf("a formula here (of %d such cells the first) was saved without a value and reads as empty; open the workbook in Excel and save it", n)})
	}
	s.Warnings = append(of, s.Warnings...)
}
