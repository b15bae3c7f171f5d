package sandbox

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody is the largest request body that is read, in bytes.
const maxBody = 1 << 20

// call is one of Clerk's calls. do runs under the server's lock.
type call struct {
	name   string
	bucket bucket
	do     func(s *Server, req *request, now time.Time) (any, *problem)
}

var calls = map[string]*call{
	"POST /v1/invitations":             {"create", bucketCreate, (*Server).create},
	"POST /v1/invitations/bulk":        {"bulk", bucketBulk, (*Server).bulk},
	"GET /v1/invitations":              {"list", bucketGeneral, (*Server).list},
	"POST /v1/invitations/{id}/revoke": {"revoke", bucketGeneral, (*Server).revoke},
	"DELETE /v1/invitations/{id}":      {"delete", bucketGeneral, (*Server).remove},
	"GET /v1/users":                    {"users", bucketGeneral, (*Server).listUsers},
	"GET /v1/users/count":              {"users", bucketGeneral, (*Server).countUsers},
	"GET /v1/instance":                 {"instance", bucketGeneral, (*Server).instance},
	"/":                                {"unknown", "", (*Server).unknown},
}

// request is a call that was received and parsed.
type request struct {
	call        *call
	trace       string
	key         string
	environment string
	id          string // of the invitation that is revoked or deleted
	query       url.Values
	invites     []invite
	problem     *problem // in its body
}

func (s *Server) read(r *http.Request, c *call) (*request, error) {
	var trace [16]byte
	rand.Read(trace[:]) // never fails
	req := &request{call: c, trace: hex.EncodeToString(trace[:]), id: r.PathValue("id"), query: r.URL.Query()}
	req.key = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	req.environment = s.environment
	if req.environment == "" {
		req.environment = "development"
		if strings.HasPrefix(req.key, "sk_live_") {
			req.environment = "production"
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	switch {
	case c.bucket != bucketCreate && c.bucket != bucketBulk:
	case len(body) > maxBody:
		req.problem = bodyInvalid()
	case c.bucket == bucketCreate:
		req.invites, req.problem = parseOne(body)
	default:
		req.invites, req.problem = parseBulk(body)
	}
	return req, nil
}

func (s *Server) mayEnter(key string) bool {
	if s.key != "" {
		return key == s.key
	}
	return strings.HasPrefix(key, "sk_test_") || strings.HasPrefix(key, "sk_live_")
}

// ticket is what is known of a request on arrival.
type ticket struct {
	n       int
	fault   Fault         // the zero value means none
	problem *problem      // the key or a limit refuses the request
	wait    time.Duration // for a 429: how long until a request may pass
}

// arrive counts a request, and refuses it if its key is invalid or its limit is reached. It returns
// false once the server is closed.
func (s *Server) arrive(req *request) (*ticket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false
	}
	now := s.now()
	s.mature(now)
	at := max(now.UnixNano(), s.state.last)
	t := &ticket{n: s.state.requests + 1}
	r := &record{Op: opArrive, N: t.n, At: at, Call: req.call.name, Trace: req.trace, Bucket: req.call.bucket}
	if !s.mayEnter(req.key) {
		t.problem, r.Bucket = keyInvalid(), ""
	} else if r.Bucket != "" {
		limit := s.settings.Limits.of(r.Bucket, req.environment)
		if t.wait = s.state.windows[r.Bucket].wait(at, limit.N); t.wait > 0 {
			t.problem = throttled()
		}
	}
	if t.problem == nil {
		if f := s.fault(req); f != nil {
			t.fault = *f
		}
		if t.fault.Kind == FaultRefuse {
			r.Bucket = ""
		}
	}
	s.commit(r)
	return t, true
}

// answer is what the client receives.
type answer struct {
	status int
	body   any
	retry  string // Retry-After
	html   bool
	half   bool // send only the first half of the body's JSON
	cut    bool // send nothing and close the connection
	reset  bool // close it with a TCP reset
}

// serve returns the handler for one kind of call.
func (s *Server) serve(c *call) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := s.read(r, c)
		if err != nil { // the client closed the connection in the middle of its request, so nothing arrived
			s.log.Debug("sandbox request cut short", "call", c.name, "error", errors.Join(err, cut(w, false)))
			return
		}
		begun := time.Now()
		a := answer{cut: true}
		if t, open := s.arrive(req); open {
			a = s.finish(req, t, s.perform(req, t))
			s.log.Debug("sandbox request", "call", c.name, "status", a.status, "fault", t.fault.Kind, "trace_id", req.trace, "took", time.Since(begun))
		}
		if err := a.write(w, req.trace, s.now()); err != nil {
			s.log.Debug("sandbox answer not delivered", "call", c.name, "trace_id", req.trace, "error", err)
		}
	})
}

// perform executes a request and applies its fault.
func (s *Server) perform(req *request, t *ticket) answer {
	f := t.fault
	if t.problem != nil {
		return s.refusal(req, t)
	}
	if !f.After {
		switch f.Kind {
		case FaultRefuse:
			return answer{cut: true, reset: true}
		case FaultCutBefore:
			return answer{cut: true}
		case FaultStatus:
			return f.answer(req.trace)
		case FaultSlow:
			if !s.pause(f.Delay) {
				return answer{cut: true}
			}
		}
	}
	a := s.work(req)
	switch f.Kind {
	case FaultCutAfter:
		return answer{cut: true}
	case FaultGarbage:
		a.status, a.half = http.StatusOK, true
	case FaultPartialBulk:
		if list, ok := a.body.([]invitationBody); ok && len(list) > 0 {
			a.body = append(list[:len(list)/2:len(list)/2], list[len(list)/2+1:]...)
		}
	case FaultStatus:
		return f.answer(req.trace)
	case FaultSlow:
		if f.After && !s.pause(f.Delay) {
			return answer{cut: true}
		}
	}
	return a
}

// work runs the call itself.
func (s *Server) work(req *request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return answer{cut: true}
	}
	body, p := s.call(req)
	if p != nil {
		return answer{status: p.status, body: p.body(req.trace)}
	}
	return answer{status: http.StatusOK, body: body}
}

func (s *Server) call(req *request) (any, *problem) {
	if req.problem != nil {
		return nil, req.problem
	}
	return req.call.do(s, req, s.now())
}

// refusal returns the answer to a request that was refused on arrival.
func (s *Server) refusal(req *request, t *ticket) answer {
	a := answer{status: t.problem.status, body: t.problem.body(req.trace)}
	if t.wait == 0 {
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.settings.Switches.RetryAfter {
	case "seconds":
		a.retry = strconv.Itoa(int(math.Ceil(t.wait.Seconds())))
	case "date":
		a.retry = s.now().Add(t.wait + time.Second - 1).UTC().Format(http.TimeFormat)
	}
	return a
}

func (f *Fault) answer(trace string) answer {
	if f.HTML {
		return answer{status: f.Status, retry: f.RetryAfter, html: true}
	}
	return answer{status: f.Status, retry: f.RetryAfter, body: f.problem().body(trace)}
}

// pause waits on the machine's clock. It returns false if the server is closed meanwhile. Earlier
// records are written to the file before it waits.
func (s *Server) pause(d Duration) bool {
	s.mu.Lock()
	err := s.journal.flush()
	s.mu.Unlock()
	if err != nil {
		return false
	}
	timer := time.NewTimer(time.Duration(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}

// finish records the answer and flushes the journal, so that no answer that a client has seen is
// lost.
func (s *Server) finish(req *request, t *ticket, a answer) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return answer{cut: true}
	}
	w := s.settings.Switches
	r := &record{Op: opAnswer, N: t.n, Status: a.status, Fault: t.fault.Kind}
	switch {
	case a.status == http.StatusTooManyRequests:
		r.Free = !w.ThrottledCount
	case a.status >= 400 && a.status < 500:
		r.Free = w.RefusedAreFree
	}
	s.commit(r)
	if err := s.journal.flush(); err != nil {
		s.log.Error("sandbox can't keep its state", "error", err)
		p := &problem{status: http.StatusInternalServerError, code: "internal_clerk_error", message: "The stand-in can't write its state file."}
		return answer{status: p.status, body: p.body(req.trace)}
	}
	return a
}

// page is what a proxy in front of Clerk might answer.
const page = "<html>\r\n<head><title>Bad Gateway</title></head>\r\n<body><center><h1>The server did not answer</h1></center></body>\r\n</html>\r\n"

// write fails if the client has closed the connection.
func (a answer) write(w http.ResponseWriter, trace string, now time.Time) error {
	if a.cut {
		return cut(w, a.reset)
	}
	h := w.Header()
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	if a.retry != "" {
		h.Set("Retry-After", a.retry)
	}
	if a.html {
		h.Set("Content-Type", "text/html")
		w.WriteHeader(a.status)
		_, err := io.WriteString(w, page)
		return err
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(a.body); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if a.half {
		body.Truncate(body.Len() / 2)
	}
	h.Set("Clerk-Trace-Id", trace)
	h.Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, err := body.WriteTo(w)
	return err
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter, reset bool) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // not HTTP/1.1: let the server close it in its own way
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		err = tcp.SetLinger(0)
	}
	return errors.Join(err, conn.Close())
}
