// Package web has the page, where people upload files and watch batches, and the JSON API for scripts.
// Both do what the commands do, through the same functions, and show what the database says.
//
// A [Server] keeps nothing that it could lose: sessions, uploads and tokens are in the database. So
// any number of servers can run, and a server can restart at any time.
//
// It may import app, importer, jobs, report and the packages below them, and words. Start reading at [New]
// here; api.go has the API, upload.go the uploads, session.go the sign-in.
package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"riverqueue.com/riverui"

	"bulkinvite/importer"
	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
	"bulkinvite/ratelimit"
)

// Config says for whom a server is. Its zero fields take the defaults named.
type Config struct {
	Instance invitation.Instance // whom uploads are for; required
	Real     bool                // mail reaches people: who starts a batch types how many
	Limits   func(environment string) invitation.Limits

	Clerk          *clerk.Client // asked who needs no invitation before a draft is started; nil: nobody is
	RequestTimeout time.Duration // how long a request at Clerk may take; default 20 seconds

	Users  []User   // who may sign in with a password; none: by the one-time link alone
	OpenID *OpenID  // the provider that people sign in with; it needs URL; nil: none
	URL    *url.URL // what browsers call the server by; nil: what they say

	TrustedProxies []netip.Prefix // the networks of proxies whose X-Forwarded-For counts; none: nobody's does

	Metrics   http.Handler // what GET /metrics answers to those who may read; nil: there is none
	MaxUpload int64        // bytes; default [importer.DefaultFileBytes]

	UploadQuota int64 // bytes that all files of drafts may take in the database; default [DefaultUploadQuota]

	Now func() time.Time // default [time.Now]
	Log *slog.Logger
}

// Server is the page and the API. See [New].
type Server struct {
	pool      *pgxpool.Pool
	general   *ratelimit.General // the right to read at Clerk; nil: nobody reads
	cfg       Config
	log       *slog.Logger
	now       func() time.Time
	handler   http.Handler
	mux       *http.ServeMux
	patterns  []string // of the page, as the mux has them
	api       *api
	door      *door
	link      *link
	provider  provider
	river     *riverui.Handler
	checks    checks
	watches   watches
	downloads streamLimit
	lives     streamLimit
	tallies   shelf[invitation.Tally]
	documents shelf[keptDocument]
	waiting   shelf[[]invitation.Load]
	courses   shelf[report.Course]
	life      context.Context // ends when the server stops: what outlives a request ends with it
	end       context.CancelFunc
	work      sync.WaitGroup
}

// New returns a server over a migrated database. It serves nothing yet: see
// [Server.Serve].
func New(pool *pgxpool.Pool, cfg Config) (*Server, error) {
	cfg.MaxUpload = cmp.Or(cfg.MaxUpload, importer.DefaultFileBytes)
	cfg.UploadQuota = cmp.Or(cfg.UploadQuota, DefaultUploadQuota)
	cfg.RequestTimeout = cmp.Or(cfg.RequestTimeout, 20*time.Second)
	if cfg.OpenID != nil && cfg.URL == nil {
		return nil, errors.New("signing in with an identity provider needs the server's URL")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{pool: pool, cfg: cfg, log: cfg.Log, now: cfg.Now, door: newDoor(cfg.Users), link: &link{},
		downloads: streamLimit{most: maxDownloads, open: map[string]int{},
			remedy: "Wait until one of them ends, or stop one.", says: "You have %d downloads under way, which is the most at a time."},
		lives: streamLimit{most: maxLive, open: map[string]int{}, remedy: "Close some of them.",
			says: "You watch %d batches already, which is the most at a time."},
		watches: watches{all: map[watched]*watch{}}}
	// A connection is left for the second one that each check needs.
	atOnce := min(checksAtOnce, max(1, int(pool.Config().MaxConns)-1))
	s.checks = checks{all: map[int64]*checking{}, turns: make(chan struct{}, atOnce)}
	if cfg.Clerk != nil {
		s.general = ratelimit.NewGeneral(pool, cfg.Instance.ID, fmt.Sprintf("serve_%d", os.Getpid()), cfg.Limits(cfg.Instance.Environment).General, cfg.RequestTimeout, cfg.Log)
	}
	s.life, s.end = context.WithCancel(context.Background())
	var err error
	if s.river, err = s.newRiver(); err != nil {
		return nil, err
	}
	handler, err := s.routes()
	if err != nil {
		return nil, err
	}
	s.handler = handler
	return s, nil
}

// Handler is the server without its listener.
func (s *Server) Handler() http.Handler { return s.handler }

// How long a request may take. Those whose length nobody knows beforehand,
// uploads, downloads and live pages, put their own deadline off as they go on.
const (
	headerTime = 10 * time.Second
	patience   = 30 * time.Second
	idleTime   = 2 * time.Minute
	stopTime   = 10 * time.Second
	maxHeader  = 32 << 10 // bytes
)

// Serve answers on a listener until ctx is done, then lets requests come to
// their end, for at most ten seconds.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	if err := s.river.Start(s.life); err != nil {
		return errors.Join(fmt.Errorf("start the page of jobs: %w", err), listener.Close())
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	s.work.Go(s.janitor)
	s.work.Go(s.warm)
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		s.end() // live pages end, and reconnect elsewhere
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if err = server.Shutdown(stopping); err != nil {
			err = errors.Join(err, server.Close())
		}
		if serving := <-ended; !errors.Is(serving, http.ErrServerClosed) {
			err = errors.Join(err, serving)
		}
	}
	s.end()
	s.work.Wait()
	if err != nil {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}

// secure reports whether browsers reach the server over TLS, by itself or
// through a proxy that the configured URL names.
func (s *Server) secure(r *http.Request) bool {
	return r.TLS != nil || s.cfg.URL != nil && s.cfg.URL.Scheme == "https"
}

// routes lays out what there is to ask for.
func (s *Server) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	s.mux = mux
	handle := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, h)
		s.patterns = append(s.patterns, pattern)
	}
	handle("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plainText(w, http.StatusOK, "ok") })
	handle("GET /readyz", s.ready)
	handle("GET /static/{name}", assets().ServeHTTP)
	handle("GET /login", s.public(s.loginPage))
	handle("POST /login", s.public(s.login))
	handle("POST /logout", s.public(s.logout))
	if s.cfg.OpenID != nil {
		handle("GET "+openIDPath, s.public(s.openID))
		handle("GET "+openIDReturn, s.public(s.openIDBack))
	}

	if s.cfg.Metrics != nil {
		handle("GET /metrics", s.page(Auditor, func(w http.ResponseWriter, r *http.Request, _ *visitor) error {
			s.cfg.Metrics.ServeHTTP(w, r)
			return nil
		}))
	}
	for pattern, h := range map[string]handler{
		"GET /{$}":                       s.batchList,
		"GET /uploads/{id}":              s.uploadPage,
		"GET /batches/{id}":              s.ofBatch(s.batchPage),
		"GET /batches/{id}/live":         s.ofBatch(s.live),
		"GET /batches/{id}/plan":         s.ofBatch(s.planPart),
		"GET /batches/{id}/rows":         s.ofBatch(s.rowsPage),
		"GET /batches/{id}/course":       s.ofBatch(s.coursePage),
		"GET /batches/{id}/rows/{row}":   s.ofBatch(s.rowPage),
		"GET /batches/{id}/results.csv":  s.ofBatch(s.sheetFile(resultsCSV)),
		"GET /batches/{id}/problems":     s.ofBatch(s.problemsPage),
		"GET /batches/{id}/problems.csv": s.ofBatch(s.sheetFile(problemsCSV)),
		"GET /people":                    s.peoplePage,
		"POST /people":                   s.peoplePage,
		"GET /sweeps":                    s.sweepsPage,
		"GET /sweeps/{id}":               s.sweepPage,
		"GET /drift":                     s.driftPage,
		"GET /budget":                    s.budgetPage,
		"GET /events":                    s.eventsPage,
		"/":                              s.nowhere,
	} {
		handle(pattern, s.page(Auditor, h))
	}
	for pattern, h := range map[string]handler{
		"POST /uploads":              s.uploadFile,
		"POST /uploads/{id}":         s.uploadAgain,
		"POST /batches/{id}/start":   deed(s.start),
		"POST /batches/{id}/options": s.options,
		"POST /batches/{id}/pause":   deed(s.act("pause")),
		"POST /batches/{id}/resume":  deed(s.act("resume")),
		"POST /batches/{id}/cancel":  deed(s.act("cancel")),
		"POST /batches/{id}/discard": deed(s.act("discard")),
		"POST /batches/{id}/retry":   deed(s.act("retry")),
		"POST /batches/{id}/undo":    deed(s.undo),
		"POST /sweeps/{id}/allow":    deed(s.actOnSweep("allow")),
		"POST /sweeps/{id}/stop":     deed(s.actOnSweep("stop")),
	} {
		handle(pattern, s.page(Operator, h))
	}
	handle(riverPrefix+"/", s.page(Operator, s.riverPage))
	s.api = s.newAPI()
	mux.Handle(apiRoot, s.api)
	mux.Handle(apiRoot+"/", s.api)
	guard := http.NewCrossOriginProtection()
	if s.cfg.URL != nil {
		if err := guard.AddTrustedOrigin(s.cfg.URL.Scheme + "://" + s.cfg.URL.Host); err != nil {
			return nil, fmt.Errorf("trust %s: %w", s.cfg.URL, err)
		}
	}
	guard.SetDenyHandler(s.public(func(http.ResponseWriter, *http.Request) error { return errOrigin }))
	return s.outermost(guard.Handler(mux)), nil
}

// policy is the Content-Security-Policy: nothing but what the server itself
// serves, and no script or style in a page's text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// outermost sets what every answer has, gives every request a deadline, and
// keeps a fault of one page from ending the process.
func (s *Server) outermost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // a path may hold an address
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if s.secure(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		extend(w, patience)
		defer func() {
			if fault := recover(); fault != nil && fault != http.ErrAbortHandler {
				s.log.Error("a page failed", "page", r.Pattern, "fault", fault)
				s.fail(w, r, nil, errors.New("panic"))
			}
		}()
		if err := checkAddress(r.URL); err != nil {
			s.fail(w, r, nil, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// extend gives a request a new deadline, from now. Without one to set, as in
// tests without a connection, there is nothing to do.
func extend(w http.ResponseWriter, by time.Duration) {
	c := http.NewResponseController(w)
	at := time.Now().Add(by)
	_ = errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

// ready says whether requests can be answered: the database is there, and the
// server is not about to stop.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	switch {
	case s.life.Err() != nil:
		plainText(w, http.StatusServiceUnavailable, "stopping")
	case s.pool.Ping(ctx) != nil:
		plainText(w, http.StatusServiceUnavailable, "the database does not answer")
	default:
		plainText(w, http.StatusOK, "ready")
	}
}

func plainText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // who asked may be gone
}

// forAPI reports whether a request is a script's rather than a page's.
func forAPI(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/api/") || r.URL.Path == "/metrics"
}
