package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// problem is an error as the API tells it: RFC 9457, with what to do.
type problem struct {
	Type    string   `json:"type" doc:"about:blank: the status says what kind of problem it is."`
	Title   string   `json:"title" doc:"The status in words."`
	Status  int      `json:"status" doc:"The HTTP status."`
	Detail  string   `json:"detail" doc:"What happened."`
	Remedy  string   `json:"remedy,omitempty" doc:"What to do about it."`
	Errors  []fault  `json:"errors,omitempty" doc:"Each part of the request that is at fault."`
	Batch   int64    `json:"batch,omitempty" doc:"For a file that was uploaded before: its batch."`
	Columns []string `json:"columns,omitempty" doc:"For a file of which it isn't clear which column holds the addresses: those to choose among, the likeliest first, as map=email= takes them; #7 is the seventh column."`
}

// fault is a part of a request that can't be used. It does not repeat it: it may
// be an address.
type fault struct {
	Location string `json:"location,omitempty" doc:"Where it is: body.map, query.limit, path.batch."`
	Message  string `json:"message"`
}

// Error says what happened.
func (p *problem) Error() string { return p.Detail }

// GetStatus gives the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *problem) ContentType(string) string { return problemType }

func newProblem(said *refusal) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(said.Status), Status: said.Status, Detail: said.Title, Remedy: said.Remedy}
}

func init() {
	// The library's way to have another form of errors.
	huma.NewError = libraryProblem
}

// libraryRemedies are for what the library finds wrong with a request.
var libraryRemedies = map[int]string{
	http.StatusRequestEntityTooLarge: "The body of an operation is small; files go to POST " + apiRoot + "/batches.",
	http.StatusUnsupportedMediaType:  "Send it as Content-Type: application/json.",
	http.StatusRequestTimeout:        "Nothing was done. Send it once more.",
}

// libraryProblem tells what the library found wrong with a request.
func libraryProblem(status int, message string, errs ...error) huma.StatusError {
	if message == "cannot read request body" {
		status, message, errs = http.StatusBadRequest, "the body was cut off half way", nil
	}
	p := newProblem(&refusal{Status: status, Title: upperFirst(strings.TrimSuffix(message, ".")) + ".", Remedy: libraryRemedies[status]})
	for _, err := range errs {
		var detail *huma.ErrorDetail
		if errors.As(err, &detail) {
			p.Errors = append(p.Errors, fault{detail.Location, detail.Message})
		} else if err != nil {
			p.Errors = append(p.Errors, fault{Message: err.Error()})
		}
	}
	if p.Remedy == "" {
		p.Remedy = "GET " + apiRoot + "/docs says what the operation takes."
	}
	return p
}

// problem puts an error into the API's form, and into the log where it is the
// server's own fault.
func (s *Server) problem(r *http.Request, who *visitor, err error) *problem {
	var made *problem
	if errors.As(err, &made) {
		return made
	}
	said := asRefusal(err)
	if said.Status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		s.log.Log(r.Context(), severity(who), "a request failed", "page", r.Pattern, "error", err)
	}
	return newProblem(said)
}

// failAPI answers a request of the API that did not get to its operation.
func (s *Server) failAPI(w http.ResponseWriter, r *http.Request, who *visitor, err error) {
	p := s.problem(r, who, err)
	h := w.Header()
	h.Set("Content-Type", problemType)
	if p.Status == http.StatusUnauthorized {
		challenge := `Bearer realm="bulkinvite"`
		if _, shown := bearer(r); shown {
			challenge += `, error="invalid_token"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // who asked may be gone
}
