package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"bulkinvite/invitation"
)

// rowOperations are those on the rows of a batch.
func (a *api) rowOperations() {
	type rowsInput struct {
		BatchPath
		Paging
		After   int                `query:"after" minimum:"1" maximum:"2147483647" doc:"Only rows after this one: the last of the page before."`
		Outcome invitation.Outcome `query:"outcome" doc:"Only rows that ended so, or undecided."`
		Status  invitation.Status  `query:"status" doc:"Only rows whose invitation stands so."`
		Search  string             `query:"q" maxLength:"320" doc:"The beginning of an address, a row's number, or an invitation's id."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-rows", Method: http.MethodGet, Path: "/batches/{batch}/rows", Tags: []string{"Rows"},
		Summary: "List the rows of a batch", Description: "In the file's order, with the columns of the table `results`."},
		func(ctx context.Context, in *rowsInput) (*many[invitation.Result], error) {
			f := invitation.RowFilter{Outcome: in.Outcome, Status: in.Status, Search: in.Search, After: in.After, Limit: in.Limit + 1}
			if err := checkFilter(f); err != nil {
				return nil, err
			}
			if _, err := a.store.Batch(ctx, in.Batch); err != nil {
				return nil, err
			}
			found, err := a.reader.Page(ctx, in.Batch, f)
			if err != nil {
				return nil, err
			}
			return list(ctx, found.Rows, in.Limit, func(last invitation.Result) (string, string) {
				return "after", strconv.Itoa(last.RowNumber)
			}), nil
		})
	type rowPath struct {
		BatchPath
		Row int `path:"row" minimum:"1" maximum:"2147483647" doc:"The row's number in the file, from 1."`
	}
	register(a, Auditor, huma.Operation{OperationID: "get-row", Method: http.MethodGet, Path: "/batches/{batch}/rows/{row}", Tags: []string{"Rows"},
		Summary: "See a row and its cells"},
		func(ctx context.Context, in *rowPath) (*one[rowDocument], error) {
			b, row, err := a.row(ctx, in.Batch, in.Row)
			if err != nil {
				return nil, err
			}
			return &one[rowDocument]{rowDocument{*row, cellsOf(b, row)}}, nil
		})
	register(a, Auditor, huma.Operation{OperationID: "get-row-story", Method: http.MethodGet, Path: "/batches/{batch}/rows/{row}/story", Tags: []string{"Rows"},
		Summary: "Read the story of a row's person", Description: "The same as GET /people/{email}."},
		func(ctx context.Context, in *rowPath) (*one[invitation.Story], error) {
			_, row, err := a.row(ctx, in.Batch, in.Row)
			if err != nil {
				return nil, err
			}
			if row.Email == nil {
				return nil, refuse(http.StatusNotFound, "", "Row %d of batch %d has no address, and so no story.", in.Row, in.Batch)
			}
			return a.storyOf(ctx, *row.Email)
		})
	a.problemOperations()
	type resultsInput struct {
		BatchPath
		Outcome invitation.Outcome `query:"outcome" doc:"Only rows that ended so."`
	}
	for _, r := range []struct {
		id, path, summary, description, contentType string
		write                                       func(io.Writer, []string, func(func(*invitation.Result) error) error) error
		schema                                      *huma.Schema
		only                                        invitation.Outcome
	}{
		{"get-results", "/results", "Get every row of a batch", "The same as `bulkinvite results BATCH --format json`: the file's own columns, then ours, streamed. A user may have 4 downloads at a time.", jsonType, invitation.ResultsJSON, &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject}}, ""},
		{"get-results-csv", "/results.csv", "Get every row of a batch as a file", "The same as `bulkinvite results BATCH --format csv`. A user may have 4 downloads at a time.", csvType, invitation.ResultsCSV, anyText, ""},
		{"get-problems-csv", "/problems.csv", "Get the rows that can't be sent as a file", "The file's own columns, then ours, to mend and upload again. A user may have 4 downloads at a time.", csvType, invitation.ProblemsCSV, anyText, invitation.Invalid},
	} {
		op := huma.Operation{OperationID: r.id, Method: http.MethodGet, Path: "/batches/{batch}" + r.path, Tags: []string{"Rows"},
			Summary: r.summary, Description: r.description, Responses: streamed(r.contentType, "The rows, in the file's order.", r.schema)}
		write := func(ctx context.Context, batch int64, only invitation.Outcome) (*huma.StreamResponse, error) {
			if err := checkFilter(invitation.RowFilter{Outcome: only}); err != nil || only == invitation.Undecided {
				return nil, errors.Join(err, refuse(http.StatusUnprocessableEntity, fmt.Sprintf("GET %s/batches/%d/rows lists them.", apiRoot, batch), "Undecided rows have no results."))
			}
			columnsOf := a.reader.Columns
			if r.only != "" {
				columnsOf = a.headerOf
			}
			columns, err := columnsOf(ctx, batch)
			if err != nil {
				return nil, err
			}
			return a.download(ctx, r.contentType, func(e *exchange) { a.streamResults(e.w, e.r, batch, only, columns, r.write) })
		}
		if r.only != "" {
			register(a, Auditor, op, func(ctx context.Context, in *BatchPath) (*huma.StreamResponse, error) {
				return write(ctx, in.Batch, r.only)
			})
			continue
		}
		register(a, Auditor, op, func(ctx context.Context, in *resultsInput) (*huma.StreamResponse, error) {
			return write(ctx, in.Batch, in.Outcome)
		})
	}
}

func (a *api) problemOperations() {
	register(a, Auditor, huma.Operation{OperationID: "list-problem-kinds", Method: http.MethodGet, Path: "/batches/{batch}/problems/kinds", Tags: []string{"Rows"},
		Summary: "Count the rows that can't be sent by what is wrong with them", Description: "The commonest first."},
		func(ctx context.Context, in *BatchPath) (*one[[]kind], error) {
			if _, err := a.store.Batch(ctx, in.Batch); err != nil {
				return nil, err
			}
			all, err := a.kinds(ctx, in.Batch)
			return &one[[]kind]{all}, err
		})
	type problemsInput struct {
		BatchPath
		Paging
		After int    `query:"after" minimum:"1" maximum:"2147483647" doc:"Only rows after this one: the last of the page before."`
		Code  string `query:"code" maxLength:"40" doc:"Only rows with this problem."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-problems", Method: http.MethodGet, Path: "/batches/{batch}/problems", Tags: []string{"Rows"},
		Summary: "List the rows that can't be sent, and why", Description: "In the file's order."},
		func(ctx context.Context, in *problemsInput) (*many[problemRow], error) {
			if err := checkCode(in.Code); err != nil {
				return nil, err
			}
			if _, err := a.store.Batch(ctx, in.Batch); err != nil {
				return nil, err
			}
			u, err := a.uploadOf(ctx, in.Batch)
			if err != nil {
				return nil, err
			}
			found, err := a.problemRows(ctx, in.Batch, u, in.Code, in.After, in.Limit+1)
			if err != nil {
				return nil, err
			}
			return list(ctx, found, in.Limit, func(last problemRow) (string, string) { return "after", strconv.Itoa(last.Row) }), nil
		})
}

// rowDocument is a row with its cells.
type rowDocument struct {
	invitation.Result
	Cells []cell `json:"cells"` // as the file has them
}

const csvType = "text/csv; charset=utf-8"

// streamResults writes the results of a batch as they are read. If that fails half
// way, the connection is cut: nothing else tells that it is not all.
func (s *Server) streamResults(w http.ResponseWriter, r *http.Request, batch int64, only invitation.Outcome, columns []string,
	write func(io.Writer, []string, func(func(*invitation.Result) error) error) error) {
	out := bufio.NewWriterSize(patient{w}, 64<<10)
	err := write(out, columns, func(yield func(*invitation.Result) error) error {
		return s.reader.Results(r.Context(), batch, only, yield)
	})
	if err = errors.Join(err, out.Flush()); err != nil {
		s.log.Warn("results were cut off", "batch", batch, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// row reads a row of a batch.
func (s *Server) row(ctx context.Context, batch int64, row int) (*invitation.Batch, *invitation.Result, error) {
	b, err := s.store.Batch(ctx, batch)
	if err != nil {
		return nil, nil, err
	}
	found, err := s.reader.Page(ctx, batch, invitation.RowFilter{After: row - 1, Limit: 1})
	if err != nil {
		return nil, nil, err
	}
	if len(found.Rows) == 0 || found.Rows[0].RowNumber != row {
		return nil, nil, refuse(http.StatusNotFound, "", "Batch %d has no row %d.", batch, row)
	}
	return b, &found.Rows[0], nil
}
