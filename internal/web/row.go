package web

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"bulkinvite/importer"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/internal/words"
)

// pageRows is how many rows a page of the table has.
const pageRows = 50

// tableView is a page of a batch's rows.
type tableView struct {
	report.Page
	Batch  int64
	Filter report.RowFilter
}

// Older and Newer lead to the neighbouring pages. A page without rows, which
// somebody asked for by a number, leads to the nearest that has some.
func (t tableView) Older() string {
	if len(t.Rows) == 0 {
		return t.link("after", t.Filter.Before-1)
	}
	return t.link("after", t.Rows[len(t.Rows)-1].RowNumber)
}

// Newer leads to the page before.
func (t tableView) Newer() string {
	if len(t.Rows) == 0 {
		return t.link("before", min(t.Filter.After, math.MaxInt32-1)+1)
	}
	return t.link("before", t.Rows[0].RowNumber)
}

// Self is the address of this page of the table.
func (t tableView) Self() string {
	if t.Filter.Before > 0 {
		return t.link("before", t.Filter.Before)
	}
	return t.link("after", t.Filter.After)
}

// link is the address of the table from a row on.
func (t tableView) link(where string, row int) string {
	q := url.Values{}
	for key, v := range map[string]string{"outcome": string(t.Filter.Outcome), "status": string(t.Filter.Status), "q": t.Filter.Search} {
		if v != "" {
			q.Set(key, v)
		}
	}
	if row > 0 {
		q.Set(where, strconv.Itoa(row))
	}
	return fmt.Sprintf("/batches/%d/rows?%s", t.Batch, q.Encode())
}

// checkFilter refuses words that no row can have.
func checkFilter(f report.RowFilter) error {
	if _, known := words.Outcomes[f.Outcome]; f.Outcome != "" && f.Outcome != report.Undecided && !known {
		return refuse(http.StatusUnprocessableEntity, "Take undecided, invited, already_invited, already_registered, invalid, rejected, duplicate_row, failed or cancelled.", "There is no outcome %q.", f.Outcome)
	}
	if f.Status != "" && !slices.Contains(invitation.Statuses, f.Status) {
		return refuse(http.StatusUnprocessableEntity, "Take pending, accepted, revoked, expired or gone.", "There is no status %q.", f.Status)
	}
	if len(f.Search) > 320 {
		return refuse(http.StatusUnprocessableEntity, "Write an address, or how it begins.", "That is too long to look for.")
	}
	return nil
}

// table reads the page of rows that a request asks for.
func (s *Server) table(r *http.Request, b *invitation.Batch) (t tableView, err error) {
	q := r.URL.Query()
	f := report.RowFilter{Outcome: invitation.Outcome(q.Get("outcome")), Status: invitation.Status(q.Get("status")),
		Search: strings.TrimSpace(q.Get("q")), Limit: pageRows}
	if err := checkFilter(f); err != nil {
		return t, err
	}
	for name, to := range map[string]*int{"after": &f.After, "before": &f.Before} {
		invalid := refuse(http.StatusUnprocessableEntity, "", "%s must be a row's number.", name)
		n, err := keyNumber(q, name, invalid)
		if err != nil || n > math.MaxInt32 {
			return t, invalid
		}
		*to = int(n)
	}
	page, err := report.ReadPage(r.Context(), s.pool, b.ID, f)
	return tableView{Page: page, Batch: b.ID, Filter: f}, err
}

// rowsPage shows the rows alone, so that paging does not count a million.
func (s *Server) rowsPage(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	view := batchView{Batch: b}
	var err error
	if view.Table, err = s.table(r, b); err != nil {
		return err
	}
	return s.render(w, r, who, http.StatusOK, "rows", fmt.Sprintf("Rows of batch %d", b.ID), view)
}

// rowView is a row and the story of its person.
type rowView struct {
	Batch   *invitation.Batch
	Row     report.Result
	Cells   []cell
	Story   []words.Chapter
	Summary []string
}

// cell is one cell of a row under the name of its column.
type cell struct {
	Name  string `json:"column"`
	Value string `json:"value"`
}

func cellsOf(b *invitation.Batch, row *report.Result) []cell {
	cells := make([]cell, 0, len(row.Original))
	for i, value := range row.Original {
		name := fmt.Sprintf("column %d", i+1)
		if i < len(b.Columns) && b.Columns[i] != "" {
			name = b.Columns[i]
		}
		cells = append(cells, cell{name, value})
	}
	return cells
}

// rowPage shows a row: its cells, and the story of its person.
func (s *Server) rowPage(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	n, err := number(r, "row")
	if err != nil || n > math.MaxInt32 {
		return errNoPage
	}
	row, err := s.row(r.Context(), b, int(n))
	if err != nil {
		return err
	}
	view := rowView{Batch: b, Row: row, Cells: cellsOf(b, &row)}
	if row.Email != nil {
		if view.Story, view.Summary, err = s.story(r, *row.Email); err != nil {
			return err
		}
	}
	return s.render(w, r, who, http.StatusOK, "row", fmt.Sprintf("Row %d of batch %d", n, b.ID), view)
}

// row reads a row of a batch.
func (s *Server) row(ctx context.Context, b *invitation.Batch, row int) (found report.Result, err error) {
	page, err := report.ReadPage(ctx, s.pool, b.ID, report.RowFilter{After: row - 1, Limit: 1})
	if err == nil && (len(page.Rows) == 0 || page.Rows[0].RowNumber != row) {
		err = refuse(http.StatusNotFound, "", "Batch %d has no row %d.", b.ID, row)
	}
	if err != nil {
		return found, err
	}
	return page.Rows[0], nil
}

// story tells a person's story in words.
func (s *Server) story(r *http.Request, email string) ([]words.Chapter, []string, error) {
	key, err := invitation.Key(email)
	if err != nil {
		return nil, nil, nil // what is no address has no story
	}
	story, err := report.Why(r.Context(), s.pool, key)
	if err != nil {
		return nil, nil, err
	}
	var sums []string
	for _, sum := range story.Summary {
		sums = append(sums, words.Summary(sum))
	}
	return words.Story(story), sums, nil
}

// peopleView is what was found of people.
type peopleView struct {
	Search  string
	People  []report.PersonLine
	More    string // the key after which the next ones are; empty: there are none
	Story   []words.Chapter
	Summary []string
	Email   string // whose story it is
}

// peoplePage looks for people in all batches, and tells the story of one. The page
// itself asks by POST, so that addresses stay out of the logs of proxies.
func (s *Server) peoplePage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	q := r.URL.Query()
	if r.Method == http.MethodPost {
		if err := readForm(w, r, maxForm); err != nil {
			return err
		}
		q = r.PostForm
	}
	view := peopleView{Search: strings.TrimSpace(q.Get("q")), Email: q.Get("email")}
	if len(view.Search) > 320 || len(view.Email) > 320 {
		return refuse(http.StatusUnprocessableEntity, "Write an address, or how it begins.", "That is too long to look for.")
	}
	var err error
	if view.Email != "" {
		if email, _, problem := importer.Clean(view.Email); problem == "" {
			view.Email = email
		}
		if view.Story, view.Summary, err = s.story(r, view.Email); err != nil {
			return err
		}
	}
	if view.Search != "" {
		view.People, err = report.People(r.Context(), s.pool, view.Search, q.Get("after"), pageRows+1)
		if err != nil {
			return err
		}
		if len(view.People) > pageRows {
			view.People = view.People[:pageRows]
			view.More = view.People[pageRows-1].Key
		}
	}
	return s.render(w, r, who, http.StatusOK, "people", "People", view)
}

// eventsView is who did what.
type eventsView struct {
	Events []report.Event
	Batch  int64
	More   string
}

// eventsPage shows who did what, the newest first.
func (s *Server) eventsPage(w http.ResponseWriter, r *http.Request, who *visitor) error {
	batch, err := keyNumber(r.URL.Query(), "batch", errNoPage)
	if err != nil {
		return err
	}
	before, err := keyNumber(r.URL.Query(), "before", errNoPage)
	if err != nil {
		return err
	}
	events, err := report.Events(r.Context(), s.pool, batch, before, pageRows+1)
	if err != nil {
		return err
	}
	view := eventsView{Batch: batch}
	if len(events) > pageRows {
		events = events[:pageRows]
		more := url.Values{"before": {strconv.FormatInt(events[pageRows-1].ID, 10)}}
		if batch > 0 {
			more.Set("batch", strconv.FormatInt(batch, 10))
		}
		view.More = "/events?" + more.Encode()
	}
	view.Events = events
	return s.render(w, r, who, http.StatusOK, "events", "Events", view)
}

// detailWords puts an event's details into words, as far as they are for people.
func detailWords(details json.RawMessage) string {
	var d struct {
		File   string `json:"file"`
		By     string `json:"by"`
		Reason string `json:"reason"`
		Rows   []int  `json:"rows"`
	}
	if json.Unmarshal(details, &d) != nil {
		return ""
	}
	switch {
	case d.File != "":
		return d.File
	case d.Reason != "":
		return d.Reason
	case len(d.Rows) > 0:
		return words.Counted(len(d.Rows), "row", "rows")
	case d.By == "person":
		return "by hand"
	}
	return d.By
}
