package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"bulkinvite/invitation"
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

// download answers with what write writes, as one of its user's downloads.
func (a *api) download(ctx context.Context, contentType string, write func(*exchange)) (*huma.StreamResponse, error) {
	e := exchangeOf(ctx)
	end, err := a.beginDownload(e.w, e.who)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		defer end()
		e.w.Header().Set("Content-Type", contentType)
		write(e)
	}}, nil
}

// ServeHTTP finds out who asks and whether they may, before anything is read.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handler, pattern := a.mux.Handler(r)
	needed, closed := a.roles[pattern]
	if pattern != "" && !closed {
		a.mux.ServeHTTP(w, r)
		return
	}
	who, err := a.identify(r)
	switch {
	case err != nil:
	case who == nil:
		err = errNobody
	case pattern == "":
		err = unrouted(w, r, handler)
	case !who.Role.May(needed):
		err = errRole
	default:
		r.Pattern = pattern
		a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, &exchange{w, r, who})))
		return
	}
	a.fail(w, r, err)
}

// unrouted puts into words what the mux says of a path that it does not have,
// or not for this method.
func unrouted(w http.ResponseWriter, r *http.Request, handler http.Handler) error {
	said := &unsaid{header: http.Header{}}
	handler.ServeHTTP(said, r)
	if said.status == http.StatusMethodNotAllowed {
		return wrongMethod(w, r, said.header.Get("Allow"))
	}
	return refuse(http.StatusNotFound, "GET "+apiRoot+"/docs lists what there is.", "There is no such thing to ask for.")
}

// unsaid takes an answer that is put into other words.
type unsaid struct {
	header http.Header
	status int
}

// Header returns the answer's header.
func (u *unsaid) Header() http.Header { return u.header }

// WriteHeader keeps the status.
func (u *unsaid) WriteHeader(status int) { u.status = status }

// Write drops the text.
func (u *unsaid) Write(b []byte) (int, error) { return len(b), nil }

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

type many[T any] struct {
	Link string `header:"Link" doc:"The next page, as RFC 8288 has it: <address>; rel=\"next\". Without it there is none."`
	Body []T
}

// Paging is which part of a list is asked for.
type Paging struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
}

// list makes a page of what was read, one more than was asked for if there are
// more; next names the parameters that lead on after the last of them.
func list[T any](ctx context.Context, found []T, limit int, next func(last T) (name, value string)) *many[T] {
	out := &many[T]{Body: found}
	if out.Body == nil {
		out.Body = []T{}
	}
	if len(found) > limit {
		out.Body = found[:limit]
		name, value := next(found[limit-1])
		out.Link = nextLink(exchangeOf(ctx).r.URL, name, value)
	}
	return out
}

func nextLink(at *url.URL, name, value string) string {
	q := at.Query()
	q.Set(name, value)
	return "<" + at.EscapedPath() + "?" + q.Encode() + `>; rel="next"`
}

// BatchPath is a batch in an operation's path.
type BatchPath struct {
	Batch int64 `path:"batch" minimum:"1" doc:"The batch's number."`
}

func (a *api) document(ctx context.Context, batch int64) (*one[invitation.Document], error) {
	d, _, err := a.reader.Document(ctx, batch, a.cfg.Limits)
	if err != nil {
		return nil, err
	}
	return &one[invitation.Document]{*d}, nil
}
