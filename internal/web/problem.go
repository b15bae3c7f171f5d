package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
)

// problemsView are the rows of a draft that can't be sent, a page of them.
type problemsView struct {
	Batch int64
	Code  string // those with this problem alone; empty: all
	Kinds []problemKind
	Rows  []problemRow
	Next  int // the row after which the next page begins; 0: there is none
}

// problemKind is a problem and how many rows have it.
type problemKind struct {
	Code   string `json:"code"`
	Words  string `json:"words" doc:"What it means, for people."`
	Remedy string `json:"remedy" doc:"What to do about it."`
	Count  int    `json:"rows"`
}

// problemRow is a row that can't be sent, and why.
type problemRow struct {
	importer.Problem
	Cells []string `json:"cells"` // as the file has them
}

// Text is the row as the file has it.
func (p problemRow) Text() string {
	text := []rune(strings.Join(p.Cells, " · "))
	if len(text) > 200 {
		text = append(text[:200], '…')
	}
	return string(text)
}

// shownProblems is how many rows a page of problems has.
const shownProblems = 100

// problems reads a page of the rows of a draft that can't be sent, and their kinds;
// nil: there are none.
func (s *Server) problems(ctx context.Context, batch int64, code string, after int) (*problemsView, error) {
	v := &problemsView{Batch: batch, Code: code}
	var err error
	if v.Kinds, err = s.kinds(ctx, batch); err != nil || len(v.Kinds) == 0 {
		return nil, err
	}
	if v.Rows, err = s.problemRows(ctx, batch, code, after, shownProblems+1); err != nil {
		return nil, err
	}
	if len(v.Rows) > shownProblems {
		v.Rows = v.Rows[:shownProblems]
		v.Next = v.Rows[shownProblems-1].Row
	}
	return v, nil
}

// kinds counts the rows of a batch that can't be sent by what is wrong with them.
func (s *Server) kinds(ctx context.Context, batch int64) ([]problemKind, error) {
	counts, err := report.Problems(ctx, s.pool, batch)
	if err != nil {
		return nil, err
	}
	all := make([]problemKind, 0, len(counts))
	for _, c := range counts {
		all = append(all, problemKind{c.Reason, words.Reason(c.Reason), importer.Remedy(c.Reason), c.Count})
	}
	return all, nil
}

// problemRows reads rows of a batch that can't be sent: those after a row, with one
// problem or with any. What the check found of the first rows says more than their
// codes.
func (s *Server) problemRows(ctx context.Context, batch int64, code string, after, limit int) ([]problemRow, error) {
	u, err := s.uploadOf(ctx, batch)
	if err != nil {
		return nil, err
	}
	page, err := report.ReadPage(ctx, s.pool, batch, report.RowFilter{Outcome: invitation.Invalid, Reason: code, After: after, Limit: limit})
	if err != nil {
		return nil, err
	}
	found, emails := map[int]importer.Problem{}, -1
	if u != nil && u.Summary != nil {
		emails = slices.Index(u.Summary.Columns.Found, u.Summary.Columns.Mapped["email"])
		for _, p := range u.Summary.Problems {
			found[p.Row] = p
		}
	}
	rows := make([]problemRow, 0, len(page.Rows))
	for _, row := range page.Rows {
		p, ok := found[row.RowNumber]
		if !ok && row.Reason != nil {
			p = importer.Problem{Row: row.RowNumber, Line: row.Line, Code: *row.Reason, Message: importer.Remedy(*row.Reason)}
		}
		// The draft keeps no suggestion, which is an address: the cells have it.
		if 0 <= emails && emails < len(row.Original) && (p.Code == importer.BadLocal || p.Code == importer.BadDomain) {
			p.Suggestion = importer.Suggest(row.Original[emails])
		}
		p.Message = p.Advice()
		rows = append(rows, problemRow{p, row.Original})
	}
	return rows, nil
}

// checkCode refuses a word that is no problem's code.
func checkCode(code string) error {
	if _, known := words.Problems[code]; code != "" && !known {
		return refuse(http.StatusUnprocessableEntity, "The kinds of problems of the batch have those that it has.", "There is no problem of that code.")
	}
	return nil
}

// problemsPage shows the rows that can't be sent.
func (s *Server) problemsPage(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	after := 0
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.Atoi(text); err != nil || after < 0 || after > 1<<31-1 {
			return errNoPage
		}
	}
	if err := checkCode(r.URL.Query().Get("code")); err != nil {
		return err
	}
	view := batchView{Batch: b, Draft: &draftView{}}
	var err error
	if view.Draft.Problems, err = s.problems(r.Context(), b.ID, r.URL.Query().Get("code"), after); err != nil {
		return err
	}
	return s.render(w, r, who, http.StatusOK, "problems", "Rows that can't be sent", view)
}
