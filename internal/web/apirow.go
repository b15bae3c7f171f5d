package web

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
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
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, in rowsInput) (*many[report.Result], error) {
			f := report.RowFilter{Outcome: in.Outcome, Status: in.Status, Search: in.Search, After: in.After, Limit: in.Limit + 1}
			if err := checkFilter(f); err != nil {
				return nil, err
			}
			found, err := report.ReadPage(ctx, a.pool, b.ID, f)
			return list(ctx, found.Rows, in.Limit, func(last report.Result) any { return last.RowNumber }), err
		}))
	type rowPath struct {
		BatchPath
		Row int `path:"row" minimum:"1" maximum:"2147483647" doc:"The row's number in the file, from 1."`
	}
	reply(a, Auditor, huma.Operation{OperationID: "get-row", Method: http.MethodGet, Path: "/batches/{batch}/rows/{row}", Tags: []string{"Rows"},
		Summary: "See a row and its cells"},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, in rowPath) (d rowWithCells, err error) {
			d.Result, err = a.row(ctx, b, in.Row)
			d.Cells = cellsOf(b, &d.Result)
			return d, err
		}))
	reply(a, Auditor, huma.Operation{OperationID: "get-row-story", Method: http.MethodGet, Path: "/batches/{batch}/rows/{row}/story", Tags: []string{"Rows"},
		Summary: "Read the story of a row's person", Description: "The same as GET /people/{email}."},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, in rowPath) (*report.Story, error) {
			row, err := a.row(ctx, b, in.Row)
			if err != nil {
				return nil, err
			}
			if row.Email == nil {
				return nil, refuse(http.StatusNotFound, "", "Row %d of batch %d has no address, and so no story.", in.Row, in.Batch)
			}
			return a.storyOf(ctx, *row.Email)
		}))
	a.problemOperations()
	type resultsInput struct {
		BatchPath
		Outcome invitation.Outcome `query:"outcome" doc:"Only rows that ended so."`
	}
	for _, r := range []struct {
		id, path, summary, description string
		sheet                          sheet
		schema                         *huma.Schema
	}{
		{"get-results", "/results", "Get every row of a batch", "The same as `bulkinvite results BATCH --format json`: the file's own columns, then ours, streamed. A user may have 4 downloads at a time.", resultsJSON, &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject}}},
		{"get-results-csv", "/results.csv", "Get every row of a batch as a file", "The same as `bulkinvite results BATCH --format csv`. A user may have 4 downloads at a time.", resultsCSV, anyText},
	} {
		register(a, Auditor, huma.Operation{OperationID: r.id, Method: http.MethodGet, Path: "/batches/{batch}" + r.path, Tags: []string{"Rows"},
			Summary: r.summary, Description: r.description, Responses: streams(r.sheet.contentType, "The rows, in the file's order.", r.schema)},
			ofBatch(a, func(ctx context.Context, b *invitation.Batch, in resultsInput) (*huma.StreamResponse, error) {
				if err := checkFilter(report.RowFilter{Outcome: in.Outcome}); err != nil {
					return nil, err
				}
				if in.Outcome == report.Undecided {
					return nil, refuse(http.StatusUnprocessableEntity, fmt.Sprintf("GET %s/batches/%d/rows lists them.", apiRoot, b.ID), "Undecided rows have no results.")
				}
				return streamed(a.sheet(exchangeOf(ctx), b, r.sheet, in.Outcome))
			}))
	}
	register(a, Auditor, huma.Operation{OperationID: "get-problems-csv", Method: http.MethodGet, Path: "/batches/{batch}/problems.csv", Tags: []string{"Rows"},
		Summary: "Get the rows that can't be sent as a file", Description: "The file's own columns, then ours, to mend and upload again. A user may have 4 downloads at a time.",
		Responses: streams(csvType, "The rows, in the file's order.", anyText)},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, _ BatchPath) (*huma.StreamResponse, error) {
			return streamed(a.sheet(exchangeOf(ctx), b, problemsCSV, ""))
		}))
}

func (a *api) problemOperations() {
	reply(a, Auditor, huma.Operation{OperationID: "list-problem-kinds", Method: http.MethodGet, Path: "/batches/{batch}/problems/kinds", Tags: []string{"Rows"},
		Summary: "Count the rows that can't be sent by what is wrong with them", Description: "The commonest first."},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, _ BatchPath) ([]problemKind, error) {
			return a.kinds(ctx, b.ID)
		}))
	type problemsInput struct {
		BatchPath
		Paging
		After int    `query:"after" minimum:"1" maximum:"2147483647" doc:"Only rows after this one: the last of the page before."`
		Code  string `query:"code" maxLength:"40" doc:"Only rows with this problem."`
	}
	register(a, Auditor, huma.Operation{OperationID: "list-problems", Method: http.MethodGet, Path: "/batches/{batch}/problems", Tags: []string{"Rows"},
		Summary: "List the rows that can't be sent, and why", Description: "In the file's order."},
		ofBatch(a, func(ctx context.Context, b *invitation.Batch, in problemsInput) (*many[problemRow], error) {
			if err := checkCode(in.Code); err != nil {
				return nil, err
			}
			found, err := a.problemRows(ctx, b.ID, in.Code, in.After, in.Limit+1)
			return list(ctx, found, in.Limit, func(last problemRow) any { return last.Row }), err
		}))
}

// rowWithCells is a row with its cells.
type rowWithCells struct {
	report.Result
	Cells []cell `json:"cells"` // as the file has them
}
