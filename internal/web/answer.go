package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"bulkinvite/importer"
	"bulkinvite/internal/app"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/revocation"
)

// refusal is an answer that is no success, in words for whoever asked.
type refusal struct {
	Status int
	Title  string // what happened
	Remedy string // what to do; may be empty
}

func (e *refusal) Error() string { return e.Title }

func refuse(status int, remedy, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...), remedy}
}

var (
	errOrigin = refuse(http.StatusForbidden, "Open the page itself and do it there.", "This request came from another site.")
	errRole   = refuse(http.StatusForbidden, "Ask an operator, or sign in as one.", "You may look at everything here, but not change anything.")
	errNobody = refuse(http.StatusUnauthorized, "Sign in, or send a token: Authorization: Bearer …", "Nobody is signed in.")
	errNoFile = refuse(http.StatusUnprocessableEntity, "Choose one first.", "There is no file in the form.")
	errCutOff = refuse(http.StatusBadRequest, "Nothing of it was kept: send it once more.", "The file was cut off half way.")
	errNoPage = refuse(http.StatusNotFound, "", "There is no such page.")
)

// asRefusal finds the words for an error. Of one that is the server's own fault
// nothing is told but that.
func asRefusal(err error) *refusal {
	var said *refusal
	var state *batch.StateError
	var other *app.OtherInstanceError
	var file *importer.FileError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &said):
		return said
	case errors.Is(err, invitation.ErrNoBatch):
		return &refusal{http.StatusNotFound, "There is no batch of that number.", "The list of batches has those that there are."}
	case errors.Is(err, revocation.ErrNoSweep):
		return &refusal{http.StatusNotFound, "There is no sweep of that number.", "The list of sweeps has those that there are."}
	case errors.As(err, &state):
		return &refusal{http.StatusConflict, upperFirst(state.Error()) + ".", "Somebody may have been faster: look at the batch as it is now."}
	case errors.As(err, &other):
		of := map[string]string{"batch": "for", "sweep": "of"}[other.What]
		return &refusal{http.StatusConflict,
			fmt.Sprintf("%s %d is %s another instance of Clerk than this server.", upperFirst(other.What), other.ID, of),
			"Do it at a server that has that instance's key, or with the command line."}
	case errors.As(err, &file):
		return &refusal{http.StatusUnprocessableEntity, upperFirst(file.Error()) + ".", file.Remedy()}
	case errors.As(err, &large):
		return &refusal{http.StatusRequestEntityTooLarge, "That is more than this form takes.", "Shorten it."}
	}
	return &refusal{http.StatusInternalServerError, "Something went wrong here.", "Nothing was lost. Try again; if it stays, the server's log says more."}
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// handler answers a page for somebody who is signed in.
type handler func(w http.ResponseWriter, r *http.Request, who *visitor) error

// page has a handler run for those with a role, and sends browsers of others to
// sign in: what else asks is told 401, as the contract has it.
func (s *Server) page(needed Role, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.allowed(r, needed)
		browser := strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "text/html") // they all name the type
		asks := (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("HX-Request") == ""
		if errors.Is(err, errNobody) && browser && asks && !forAPI(r) {
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		if err == nil {
			err = h(w, r, who)
		}
		if err != nil {
			s.fail(w, r, who, err)
		}
	}
}

// allowed finds out who asks, and refuses nobody and those without the role. It returns
// also those whom it refuses.
func (s *Server) allowed(r *http.Request, needed Role) (*visitor, error) {
	who, err := s.identify(r)
	switch {
	case err != nil:
		return nil, err
	case who == nil:
		return nil, errNobody
	case !who.Role.May(needed):
		return who, errRole
	}
	return who, nil
}

// public has a handler run for anybody.
func (s *Server) public(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, nil, err)
		}
	}
}

// fail answers with an error: a page for people, problem+json for scripts.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, who *visitor, err error) {
	if forAPI(r) {
		s.failAPI(w, r, who, err)
		return
	}
	said := asRefusal(err)
	if said.Status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		s.log.Log(r.Context(), severity(who), "a page failed", "page", r.Pattern, "error", err)
	}
	if r.Header.Get("HX-Request") != "" { // the page stays, and says so above
		w.Header().Set("HX-Retarget", "#trouble")
		w.Header().Set("HX-Reswap", "outerMorph")
	}
	// Some errors name a column of a file, or what was typed.
	shown := &refusal{said.Status, shownText(said.Title), shownText(said.Remedy)}
	if err := s.render(w, r, who, shown.Status, "error", shown.Title, shown); err != nil {
		s.log.Log(r.Context(), severity(who), "a page failed", "page", r.Pattern, "error", err)
	}
}

// severity is the level of a failed request in the log. An ERROR calls somebody: only
// people who are signed in may write one.
func severity(who *visitor) slog.Level {
	if who == nil {
		return slog.LevelWarn
	}
	return slog.LevelError
}

// frame is what every page has around its own content.
type frame struct {
	Title   string
	Who     *visitor
	Sandbox bool
	Section string // which entry of the rail is the page's
	Notice  string
	Body    any
}

// CanAct reports whether whoever looks may change anything.
func (f frame) CanAct() bool { return f.Who != nil && f.Who.Role.May(Operator) }

// notices are what a page says after something was done; the address carries
// the word alone, so that nobody can make the page say anything else.
var notices = map[string]string{
	"start":   "Started. What is sent shows here as it goes.",
	"pause":   "Paused. What was under way at Clerk comes to its end.",
	"resume":  "It goes on.",
	"cancel":  "Cancelled. Who was invited stays invited.",
	"discard": "Discarded. Nobody was invited.",
	"retry":   "The failed rows are taken up again.",

	"retry-rejected": "The failed and rejected rows are taken up again.",
	"undo":           "It is being undone: nobody more is invited, and what was sent is taken back.",
	"same":           "This file was uploaded before: here is what became of it.",
	"late":           "It was started or discarded before its file was read again: its columns are as they were.",
	"columns":        "The file was read again.",
	"options":        "Noted. Nothing is sent yet.",
	"allow":          "Allowed. Workers revoke what it found.",
	"stop":           "Stopped. What was not revoked is left alone.",
}

// render writes a page, or with htmx the part of it that was asked for.
func (s *Server) render(w http.ResponseWriter, r *http.Request, who *visitor, status int, page, title string, body any) error {
	f := frame{Title: shownText(title), Who: who, Sandbox: s.cfg.Instance.Environment == "sandbox", Section: page,
		Notice: notices[r.URL.Query().Get("done")], Body: body}
	t, ok := pages()[page]
	if !ok {
		return fmt.Errorf("no template %s", page)
	}
	part := "frame"
	if page == "error" && r.Header.Get("HX-Request") != "" {
		part = "trouble"
	} else if want := r.Header.Get("HX-Target"); want != "" {
		_, want, _ = strings.Cut(want, "#")
		if t.Lookup("part-"+want) != nil {
			part = "part-" + want
		}
	}
	var text bytes.Buffer
	if err := t.ExecuteTemplate(&text, part, f); err != nil {
		return fmt.Errorf("write page %s: %w", page, err)
	}
	sendHTML(w, r, status, text.Bytes())
	return nil
}

// sendHTML sends a page, compressed where the browser takes that. There is no
// secret in a page beside what the person may see, so that its length tells
// nobody anything.
func sendHTML(w http.ResponseWriter, r *http.Request, status int, text []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "Accept-Encoding, HX-Target")
	var out io.Writer = w
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer func() { _ = z.Close() }() // the client may be gone
		out = z
	} else {
		h.Set("Content-Length", strconv.Itoa(len(text)))
	}
	w.WriteHeader(status)
	_, _ = out.Write(text) // who asked may be gone
}

// number reads a number of the path; one that is none is no page.
func number(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || n < 1 {
		return 0, errNoPage
	}
	return n, nil
}

// nowhere answers for what is not there, or does not take the method.
func (s *Server) nowhere(w http.ResponseWriter, r *http.Request, _ *visitor) error {
	return unrouted(w, r, s.mux, "/", errNoPage)
}

// unrouted says which methods a path takes, where a mux has it for others than the
// request's, or else what is missing. nothing is the mux's pattern for unknown paths.
func unrouted(w http.ResponseWriter, r *http.Request, mux *http.ServeMux, nothing string, missing error) error {
	var all []string
	for _, method := range []string{"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"} {
		if _, pattern := mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); pattern != nothing {
			all = append(all, method)
		}
	}
	if len(all) == 0 {
		return missing
	}
	takes := strings.Join(all, ", ")
	w.Header().Set("Allow", takes)
	return refuse(http.StatusMethodNotAllowed, "It takes "+takes+".", "There is no %s here.", shownText(r.Method))
}
