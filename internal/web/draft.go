package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// soon is how long an upload waits for its check before it shows how far that is.
const soon = 1500 * time.Millisecond

// uploadFile takes a file from the form of the list of batches.
func (s *Server) uploadFile(w http.ResponseWriter, r *http.Request, who *visitor) error {
	parts, err := r.MultipartReader()
	if err != nil {
		return refuse(http.StatusUnsupportedMediaType, "Use the form of the list of batches.", "That is no form with a file.")
	}
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return errNoFile
		}
		if err != nil {
			return errCutOff
		}
		if part.FormName() != "file" {
			continue
		}
		if part.FileName() == "" {
			return errNoFile
		}
		u, err := s.receive(r.Context(), part, who.Name, part.FileName(), reading{}, "", func() { extend(w, patience) })
		if err != nil {
			return err
		}
		return s.afterUpload(w, r, u)
	}
}

// afterUpload has an upload checked and shows what came of it, or how far it is.
func (s *Server) afterUpload(w http.ResponseWriter, r *http.Request, u *upload) error {
	if c := s.check(u); c != nil {
		c.await(r.Context(), soon)
	}
	http.Redirect(w, r, fmt.Sprintf("/uploads/%d", u.ID), http.StatusSeeOther)
	return nil
}

// uploadView is an upload that is no batch, or not yet.
type uploadView struct {
	*upload
	Done    int               // of a hundred
	Choices []importer.Choice // where it isn't clear which column holds the addresses
}

// choiceTime is how long a page waits for the beginning of a file: that of a workbook
// comes after all of it is unpacked.
const choiceTime = 5 * time.Second

// choices reads the columns to choose among from the file, with some of their cells.
// These are kept nowhere else, so that they are erased with the file. Where they
// can't be read in time, there are the columns alone.
func (s *Server) choices(ctx context.Context, u *upload) []importer.Choice {
	ctx, cancel := context.WithTimeout(ctx, choiceTime)
	defer cancel()
	file := &chunks{ctx: ctx, pool: s.pool, id: u.ID, done: new(atomic.Int64)}
	choices, err := importer.Choices(ctx, file, u.Options.importer())
	if err != nil {
		s.log.Warn("read the columns of an upload", "upload", u.ID, "error", err)
	}
	if len(choices) > 0 {
		return choices
	}
	for _, column := range u.Failure.Found {
		choices = append(choices, importer.Choice{Name: column, Map: column})
	}
	return choices
}

// uploadAt returns the upload that a page is about.
func (s *Server) uploadAt(r *http.Request) (*upload, error) {
	id, err := number(r, "id")
	if err != nil {
		return nil, err
	}
	return s.upload(r.Context(), id)
}

// uploadPage shows how far the check of an upload is, or why it is no batch;
// one that is a batch leads there.
func (s *Server) uploadPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	u, err := s.uploadAt(r)
	if err != nil {
		return err
	}
	view := uploadView{upload: u}
	if c := s.check(u); c != nil {
		if view.Done = int(100 * c.done.Load() / max(u.Bytes, 1)); r.Header.Get("HX-Request") == "" {
			w.Header().Set("Refresh", "2") // without script the page looks again by itself
		}
	}
	if u.Failure != nil && len(u.Failure.Found) > 0 && who.Role.May(Operator) {
		view.Choices = s.choices(r.Context(), u)
	}
	switch {
	case u.Failure != nil && u.Batch != nil && u.Failure.Batch == *u.Batch:
		return s.leave(w, r, *u.Batch, "late")
	case u.Failure != nil && u.Failure.Batch > 0 && u.Failure.Remedy == "":
		return s.leave(w, r, u.Failure.Batch, "same")
	case u.Failure == nil && u.Batch != nil && u.Checked != nil:
		return s.leave(w, r, *u.Batch, "")
	}
	return s.render(w, r, who, http.StatusOK, "upload", u.FileName, view)
}

// leave sends a browser on to a batch, also one that asked for a part of a page.
func (s *Server) leave(w http.ResponseWriter, r *http.Request, batch int64, done string) error {
	to := fmt.Sprintf("/batches/%d", batch)
	if done != "" {
		to += "?" + url.Values{"done": {done}}.Encode()
	}
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// uploadAgain has an upload read in another way: with other columns, or though
// the same file is a batch already.
func (s *Server) uploadAgain(w http.ResponseWriter, r *http.Request, who *visitor) error {
	u, err := s.uploadAt(r)
	if err != nil {
		return err
	}
	if err := readForm(w, r, 1<<20); err != nil {
		return err
	}
	o := u.Options
	if r.PostForm.Get("again") != "" {
		o.Again = true
	}
	if email := r.PostForm.Get("email"); email != "" {
		o.Map = map[string]string{"email": email}
	}
	if r.PostForm.Has("column") {
		if o.Map, err = mapOf(r.PostForm["column"], r.PostForm["meaning"]); err != nil {
			return err
		}
		o.RevokeOn = o.Map["revoke_on"]
		delete(o.Map, "revoke_on")
	}
	if r.PostForm.Has("encoding") {
		o.Encoding, o.Delimiter = r.PostForm.Get("encoding"), r.PostForm.Get("delimiter")
	}
	if err := s.readAgain(r, u, o); err != nil {
		return err
	}
	return s.afterUpload(w, r, u)
}

// readAgain has an upload checked once more, in another way.
func (s *Server) readAgain(r *http.Request, u *upload, o reading) error {
	if !o.isText() {
		return errNoText
	}
	tag, err := s.pool.Exec(r.Context(), `
		update uploads u set options = $2, checked_at = null, check_at = null, failure = null
		where id = $1 and received_at is not null and not exists (select from batches b where b.id = u.batch_id and b.state <> 'draft')`, u.ID, o)
	if err != nil {
		return fmt.Errorf("read upload %d again: %w", u.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return refuse(http.StatusConflict, "Its page shows where it stands.", "The file is a batch that was started or cancelled already: its columns stay as they are.")
	}
	u.Checked, u.Failure, u.Options = nil, nil, o
	return nil
}

// meanings are what a column can be, as the menu over it says.
var meanings = []string{"email", "redirect_url", "expires_in_days", "revoke_on", "metadata"}

// mapOf makes a map of the menus over the columns.
func mapOf(columns, chosen []string) (map[string]string, error) {
	if len(columns) != len(chosen) {
		return nil, refuse(http.StatusUnprocessableEntity, "Go back and try again.", "The form is not whole.")
	}
	m := map[string]string{}
	for i, meaning := range chosen {
		column := columnNamed(columns, i)
		switch {
		case meaning == "":
			continue
		case !slices.Contains(meanings, meaning):
			return nil, refuse(http.StatusUnprocessableEntity, "", "No column can be %q.", meaning)
		case meaning == "metadata":
			meaning = "public_metadata." + columns[i]
		}
		if first, taken := m[meaning]; taken {
			return nil, refuse(http.StatusUnprocessableEntity, "Choose one of them.", "Both %q and %q are to be the same thing: %s.", first, column, strings.ReplaceAll(meaning, "_", " "))
		}
		m[meaning] = column
	}
	if m["email"] == "" {
		return nil, refuse(http.StatusUnprocessableEntity, "Choose the column that holds the addresses.", "No column is the e-mail address.")
	}
	return m, nil
}

// columnNamed is what a map takes for a column: its name, or its number where it
// has no name of its own.
func columnNamed(columns []string, i int) string {
	name, number := columns[i], fmt.Sprintf("#%d", i+1)
	own := name != "" && slices.Index(columns, name) == i && !slices.Contains(columns[i+1:], name)
	if own || slices.Contains(columns, number) {
		return name
	}
	return number
}

// draftView is what there is to see before a batch is started.
type draftView struct {
	Upload    *upload // nil: it did not come by the page, and can't be read in another way
	Columns   []columnView
	First     [][]firstCell
	Problems  *problemsView            // nil: every row can be sent
	Encodings []importer.EncodingGuess // those that the file may be in, its own first; nil: there is no doubt
	Preview   *previewView
	Real      bool
	Elsewhere bool // it is for another instance than the server's, and can't be started here
}

// firstCell is a cell of one of the first rows.
type firstCell struct {
	Text  string
	Bad   bool   // it keeps its row from being sent
	Fault string // why; empty: all is well, or another cell of the row says it
}

// columnView is a column of the file and what it is taken for.
type columnView struct {
	Name, Meaning string
}

// shownFirst is how many rows of a draft are shown beneath its columns.
const shownFirst = 8

// draft reads what there is to see of a draft.
func (s *Server) draft(r *http.Request, b *invitation.Batch, waiting int) (*draftView, error) {
	view, err := s.draftCard(r.Context(), b, waiting)
	if err != nil {
		return nil, err
	}
	u := view.Upload
	for _, name := range b.Columns {
		view.Columns = append(view.Columns, columnView{Name: name})
	}
	if u != nil && u.Summary != nil {
		for ours, theirs := range u.Summary.Columns.Mapped {
			i := u.Summary.Columns.Numbers[ours] - 1
			if i < 0 { // an earlier version read it
				i = slices.Index(b.Columns, theirs)
			}
			if strings.HasPrefix(ours, "public_metadata.") {
				ours = "metadata"
			}
			if 0 <= i && i < len(view.Columns) {
				view.Columns[i].Meaning = ours
			}
		}
	}
	first, err := report.ReadPage(r.Context(), s.pool, b.ID, report.RowFilter{Limit: shownFirst})
	if err != nil {
		return nil, err
	}
	if view.Problems, err = s.problems(r.Context(), b.ID, "", 0); err != nil {
		return nil, err
	}
	if u != nil && u.Summary != nil && len(u.Summary.EncodingGuesses) > 0 {
		if view.Encodings, err = s.encodings(r.Context(), b, u.Summary.EncodingGuesses); err != nil {
			return nil, err
		}
	}
	for _, row := range first.Rows {
		view.First = append(view.First, firstCells(row, b.Columns, view.Problems))
	}
	return view, nil
}

// encodings tells how cells of a draft would read in each of the encodings that its
// file may be in. Cells are taken from the first thousand rows.
func (s *Server) encodings(
	ctx context.Context, b *invitation.Batch, guesses []importer.EncodingGuess,
) ([]importer.EncodingGuess, error) {
	rows, _ := s.pool.Query(ctx, `
		select cell from results, unnest(original) with ordinality c (cell, n)
		where batch_id = $1 and row_number <= 1000 and cell ~ '[^\x01-\x7f]' and cell !~ '[@\ufffd]' and length(cell) <= 40
		group by cell order by min(row_number) limit 3`, b.ID)
	cells, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read names of batch %d: %w", b.ID, err)
	}
	for i := range guesses {
		g := &guesses[i]
		for _, cell := range cells {
			if text, ok := importer.ReadAs(cell, b.Encoding, g.Encoding); ok {
				g.Sample = append(g.Sample, text)
			}
		}
	}
	return guesses, nil
}

// firstCells are the cells of a row with what is wrong with them. What no single
// cell is at fault for, all are, and the first says it.
func firstCells(row report.Result, columns []string, problems *problemsView) []firstCell {
	cells := make([]firstCell, len(row.Original))
	for i, text := range row.Original {
		cells[i].Text = text
	}
	if problems == nil {
		return cells
	}
	for _, p := range problems.Rows {
		if p.Row != row.RowNumber {
			continue
		}
		at := slices.Index(columns[:min(len(columns), len(cells))], p.Column)
		for i := range cells {
			cells[i].Bad = i == at || at < 0
		}
		if len(cells) > 0 {
			cells[max(at, 0)].Fault = p.Message
		}
	}
	return cells
}

// draftCard reads what the card of a draft shows.
func (s *Server) draftCard(ctx context.Context, b *invitation.Batch, waiting int) (*draftView, error) {
	view := &draftView{Real: s.cfg.Real, Elsewhere: !s.app().Owns(b.InstanceID)}
	var err error
	if view.Upload, err = s.uploadOf(ctx, b.ID); err != nil {
		return nil, err
	}
	view.Preview, err = s.preview(ctx, b, waiting, view.Upload)
	return view, err
}
