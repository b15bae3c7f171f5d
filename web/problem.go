package web

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"bulkinvite/importer"
	"bulkinvite/invitation"
)

// problemsView are the rows of a draft that can't be sent, a page of them.
type problemsView struct {
	Batch int64
	Code  string // those with this problem alone; empty: all
	Kinds []kind
	Rows  []problemRow
	Next  int // the row after which the next page begins; 0: there is none
}

// kind is a problem and how many rows have it.
type kind struct {
	Code  string
	Count int
}

// Word is the problem's name.
func (k kind) Word() string { return strings.ReplaceAll(k.Code, "_", " ") }

// problemRow is a row that can't be sent, and why.
type problemRow struct {
	importer.Problem
	Text string // the row as the file has it
}

// shownProblems is how many rows a page of problems has.
const shownProblems = 100

// problems reads a page of the rows of a draft that can't be sent; nil: there are
// none. What the check found of the first rows says more than their codes.
func (s *Server) problems(ctx context.Context, b *invitation.Batch, u *upload, code string, after int) (*problemsView, error) {
	counts, err := s.reader.Problems(ctx, b.ID)
	if err != nil || len(counts) == 0 {
		return nil, err
	}
	v := &problemsView{Batch: b.ID, Code: code}
	for _, c := range counts {
		v.Kinds = append(v.Kinds, kind{c.Reason, c.Count})
	}
	page, err := s.reader.Page(ctx, b.ID, invitation.RowFilter{Outcome: invitation.Invalid, Reason: code, After: after, Limit: shownProblems})
	if err != nil {
		return nil, err
	}
	found := map[int]importer.Problem{}
	if u != nil && u.Summary != nil {
		for _, p := range u.Summary.Problems {
			found[p.Row] = p
		}
	}
	for _, row := range page.Rows {
		p, ok := found[row.RowNumber]
		if !ok && row.Reason != nil {
			p = importer.Problem{Row: row.RowNumber, Line: row.Line, Code: *row.Reason, Message: importer.Remedy(*row.Reason)}
		}
		v.Rows = append(v.Rows, problemRow{p, shorten(strings.Join(row.Original, " · "), 200)})
	}
	if page.After {
		v.Next = page.Rows[len(page.Rows)-1].RowNumber
	}
	return v, nil
}

// shorten cuts a text that is for the eye.
func shorten(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most]) + "…"
}

// problemsPage shows the rows that can't be sent.
func (s *Server) problemsPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	id, err := number(r, "id")
	if err != nil {
		return err
	}
	b, err := s.store.Batch(r.Context(), id)
	if err != nil {
		return err
	}
	after := 0
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = strconv.Atoi(text); err != nil || after < 0 || after > 1<<31-1 {
			return errNoPage
		}
	}
	u, err := s.uploadOf(r.Context(), id)
	if err != nil {
		return err
	}
	view := batchView{Batch: b, Draft: &draftView{}}
	if view.Draft.Problems, err = s.problems(r.Context(), b, u, r.URL.Query().Get("code"), after); err != nil {
		return err
	}
	return s.render(w, r, who, http.StatusOK, "problems", "Rows that can't be sent", view)
}
