package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// api is what the page does, for scripts: JSON under /api/v1.
type api struct {
	*Server
	huma  huma.API
	mux   *http.ServeMux
	roles map[string]Role // by the mux's pattern; one that is not there is for anybody
}

// apiRoot is where the API is; another version of it will be elsewhere.
const apiRoot = "/api/v1"

// newAPI lays out the API's operations.
func (s *Server) newAPI() *api {
	a := &api{Server: s, mux: http.NewServeMux(), roles: map[string]Role{}}
	a.huma = humago.New(a.mux, apiConfig())
	a.batchOperations()
	a.draftOperations()
	a.rowOperations()
	a.otherOperations()
	a.describe()
	return a
}

// exchange is what an operation knows of who asks besides its input.
type exchange struct {
	w   http.ResponseWriter
	r   *http.Request
	who *visitor
}

type exchangeKey struct{}

// exchangeOf returns the request that an operation answers.
func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// ServeHTTP finds out who asks and whether they may, before anything is read.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, pattern := a.mux.Handler(r)
	needed, closed := a.roles[pattern]
	if pattern != "" && !closed {
		a.mux.ServeHTTP(w, r)
		return
	}
	who, err := a.allowed(r, cmp.Or(needed, Auditor))
	if err == nil && pattern == "" {
		err = unrouted(w, r, a.mux, "", errNoOperation)
	}
	if err != nil {
		a.fail(w, r, nil, err)
		return
	}
	r.Pattern = pattern
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, &exchange{w, r, who})))
}

var errNoOperation = refuse(http.StatusNotFound, "GET "+apiRoot+"/docs lists what there is.",
	"There is no such thing to ask for.")

// maxJSON is how large the body of an operation may be, in bytes, but for files.
const maxJSON = 64 << 10

// register adds an operation, and has its errors told in the API's form.
func register[I, O any](a *api, needed Role, op huma.Operation, h func(context.Context, *I) (*O, error)) {
	op.Path = apiRoot + op.Path
	a.roles[op.Method+" "+op.Path] = needed
	op.MaxBodyBytes = maxJSON
	if needed == Operator {
		op.Description = strings.TrimSpace(op.Description + " For operators.")
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			e := exchangeOf(ctx)
			return nil, a.problem(e.r, e.who, err)
		}
		return out, nil
	})
}

// one is the answer of one document, many of a list with a link to its next page.
type one[T any] struct{ Body T }

// reply adds an operation that answers with one document.
func reply[I, T any](a *api, needed Role, op huma.Operation, h func(context.Context, *I) (T, error)) {
	register(a, needed, op, func(ctx context.Context, in *I) (*one[T], error) {
		body, err := h(ctx, in)
		return &one[T]{body}, err
	})
}

// ofBatch is a reply about a batch, which is looked up.
func ofBatch[I interface{ batch() int64 }, T any](
	a *api, h func(ctx context.Context, b *invitation.Batch, in I) (T, error),
) func(context.Context, *I) (T, error) {
	return func(ctx context.Context, in *I) (found T, err error) {
		b, err := batch.Batch(ctx, a.pool, (*in).batch())
		if err != nil {
			return found, err
		}
		return h(ctx, b, *in)
	}
}

type many[T any] struct {
	Link string `header:"Link" doc:"The next page, as RFC 8288 has it: <address>; rel=\"next\". Without it there is none."`
	Body []T
}

// Paging is which part of a list is asked for.
type Paging struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
}

// list makes a page of what was read, one more than was asked for if there are
// more; next is the parameter after that leads on from the last of them.
func list[T any](ctx context.Context, found []T, limit int, next func(last T) any) *many[T] {
	out := &many[T]{Body: found}
	if out.Body == nil {
		out.Body = []T{}
	}
	if len(found) > limit {
		out.Body = found[:limit]
		at := exchangeOf(ctx).r.URL
		q := at.Query()
		q.Set("after", fmt.Sprint(next(found[limit-1])))
		out.Link = "<" + at.EscapedPath() + "?" + q.Encode() + `>; rel="next"`
	}
	return out
}

// BatchPath is a batch in an operation's path.
type BatchPath struct {
	Batch int64 `path:"batch" minimum:"1" doc:"The batch's number."`
}

func (p BatchPath) batch() int64 { return p.Batch }

// changed is where a batch stands after something was done to it, unless that failed.
func (a *api) changed(ctx context.Context, batch int64, failed error) (d *report.Document, err error) {
	if failed == nil {
		d, _, err = report.ReadDocument(ctx, a.pool, batch, a.cfg.Limits)
	}
	return d, errors.Join(failed, err)
}
