package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/invitation"
)

// toClerk is the worker's end of an in-memory connection to the sandbox. A worker that stands still
// reads nothing. It can still write, because the simulation does not stop a worker between the look
// at the clock and the write (see doc.go).
type toClerk struct {
	net.Conn
	n     *node
	wrote *atomic.Int64 // time of the first byte written, in Unix nanoseconds; shared with the other end
}

func (c *toClerk) Close() error {
	c.n.forget(c)
	return c.Conn.Close()
}

func (c *toClerk) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if dead := c.n.gate(); dead != nil {
		return 0, dead
	}
	return n, err
}

func (c *toClerk) Write(p []byte) (int, error) {
	c.wrote.CompareAndSwap(0, time.Now().UnixNano())
	return c.Conn.Write(p)
}

// atClerk is the sandbox's end.
type atClerk struct {
	net.Conn
	n     *node
	wrote *atomic.Int64
}

// dialClerk connects a worker with the sandbox. Each request has its own connection, because the
// sandbox closes it.
func (n *node) dialClerk(ctx context.Context) (net.Conn, error) {
	if err := n.gate(); err != nil {
		return nil, err
	}
	r := n.r
	nth := r.fate.nth("dial", n.worker, n.life)
	if dice := r.fate.at("dial", n.worker, n.life, nth); nth < 60 && !r.calm() && dice.Float64() < r.world.toClerk/8 {
		r.rare.count("a connection to Clerk was refused")
		return nil, errors.New("simulation: connection refused")
	}
	wrote := new(atomic.Int64)
	near, far := net.Pipe()
	select {
	case r.listener <- &atClerk{far, n, wrote}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.working.Done():
		return nil, r.working.Err()
	}
	return n.keep(&toClerk{near, n, wrote})
}

// listener has the sandbox's ends of new connections.
type listener chan net.Conn

func (r *run) Accept() (net.Conn, error) {
	select {
	case c := <-r.listener:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

func (r *run) Close() error   { return nil }
func (r *run) Addr() net.Addr { return &net.IPAddr{} }

type connKey struct{}

// request is a request as it arrives at Clerk.
type request struct {
	*http.Request
	n      *node
	wrote  time.Time
	call   string // create, bulk, revoke, list or users
	body   []byte
	emails []string // people of the request, sorted; for a revoke, from the ledger
	nth    int      // requests with the same identity before it
	ledger ledger
}

func (q *request) changes() bool { return q.call == "create" || q.call == "bulk" || q.call == "revoke" }

// ledger is what the database says about a request that changes something.
type ledger struct {
	attempt  int64
	deadline time.Time
	open     bool
}

// Kinds of faults between a worker and Clerk.
const (
	cLostBefore  = "lost before Clerk had it"
	cLostAfter   = "answer lost"
	cCut         = "its connection was cut, and Clerk worked on it until shortly before the deadline"
	cSlowBefore  = "slow to come"
	cSlowAfter   = "answer slow"
	cError       = "500, nothing done"
	cErrorAfter  = "500, done"
	cPage        = "502 with a page, done"
	cConflict    = "409"
	cThrottled   = "429 with budget left"
	cGarbled     = "answer cut in half"
	cPartial     = "200 without some of its people"
	cQuota       = "403 for a quota"
	cUnknown     = "422 with a code that nobody knows"
	cKey         = "401"
	cDieBefore   = "its worker was killed before Clerk had it"
	cDieAfter    = "its worker was killed before the answer came"
	cStandBefore = "its worker stood still before Clerk had it"
	cStandAfter  = "its worker stood still before the answer came"
)

// ServeHTTP is the network and Clerk.
func (r *run) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	w.Header().Set("Connection", "close")
	from := hr.Context().Value(connKey{}).(*atClerk)
	body, err := io.ReadAll(hr.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the request was cut on its way, so nothing arrived
	}
	q := &request{Request: hr, n: from.n, wrote: time.Unix(0, from.wrote.Load()), body: body}
	if err := r.identify(q); err != nil {
		r.wrong("a request can't be understood: %v", err)
		panic(http.ErrAbortHandler)
	}
	r.flying(q.n, q.call, 1)
	defer r.flying(q.n, q.call, -1)
	if q.changes() && !r.entered(q) {
		panic(http.ErrAbortHandler)
	}
	r.serve(w, q)
}

// identify finds out the call of a request, its people, and how many equal requests came before.
func (r *run) identify(q *request) error {
	path := strings.TrimPrefix(q.URL.Path, "/v1")
	identity := []any{"clerk"}
	switch {
	case q.Method == http.MethodPost && (path == "/invitations" || path == "/invitations/bulk"):
		q.call = "create"
		items := []map[string]any{{}}
		into := any(&items[0])
		if path == "/invitations/bulk" {
			q.call, into = "bulk", &items
		}
		if err := json.Unmarshal(q.body, into); err != nil {
			return err
		}
		for _, item := range items {
			q.emails = append(q.emails, fmt.Sprint(item["email_address"]))
		}
		if r.world.ignoring {
			for _, item := range items {
				item["ignore_existing"] = true
			}
			body, err := json.Marshal(into)
			if err != nil {
				return err
			}
			q.body = body
		}
	case q.Method == http.MethodPost:
		q.call = "revoke"
	case path == "/users":
		q.call, q.emails = "users", q.URL.Query()["email_address"]
	default:
		q.call = "list"
		identity = append(identity, q.URL.RawQuery)
	}
	if q.changes() {
		if err := r.look(q); err != nil {
			return err
		}
	}
	slices.Sort(q.emails)
	identity = append(identity, q.call, strings.Join(q.emails, " "))
	q.nth = r.fate.nth(identity...)
	return nil
}

// look finds the attempt of a request in the ledger: the last attempt for these people that began
// before the request was written. It uses another connection than the worker, so it sees only
// committed attempts.
func (r *run) look(q *request) error {
	l := &q.ledger
	if q.call == "revoke" {
		id := strings.TrimSuffix(strings.TrimPrefix(q.URL.Path, "/v1/invitations/"), "/revoke")
		var key string
		err := r.pool.QueryRow(r.ctx, `
			select a.id, a.deadline, a.resolved_at is null, p.key
			from attempt_people p join attempts a on a.id = p.attempt_id
			where a.call = 'revoke' and p.clerk_invitation_id = $1 and a.started_at <= $2
			order by a.id desc limit 1`, id, q.wrote).Scan(&l.attempt, &l.deadline, &l.open, &key)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		q.emails = []string{key}
		return nil
	}
	keys := make([]string, len(q.emails))
	for i, email := range q.emails {
		key, err := invitation.Key(email)
		if err != nil {
			return err
		}
		keys[i] = key
	}
	err := r.pool.QueryRow(r.ctx, `
		select a.id, a.deadline, a.resolved_at is null
		from attempts a where a.call = $2 and a.started_at <= $3 and (
			select array_agg(p.key order by p.key collate "C") from attempt_people p where p.attempt_id = a.id) = (
			select array_agg(k order by k collate "C") from unnest($1::text[]) k)
		order by a.id desc limit 1`, keys, q.call, q.wrote).Scan(&l.attempt, &l.deadline, &l.open)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return err
}

// entered checks a request that changes something when it arrives. It reports whether the request
// continues.
func (r *run) entered(q *request) bool {
	l := q.ledger
	r.note(q.n, "%s of attempt %d for %d people comes, the %d. time", q.call, l.attempt, len(q.emails), q.nth+1)
	switch late := q.wrote.Sub(l.deadline); {
	case l.attempt == 0:
		r.wrong("a %s came to Clerk whose attempt is not committed", q.call)
		return false
	case late > 5*time.Millisecond:
		r.wrong("the %s of attempt %d was written %s after its deadline", q.call, l.attempt, late)
		return false
	case !l.open && time.Since(l.deadline) > settleTime/2:
		r.rare.count("the machine was too busy, and a request was lost")
		return false
	case !l.open:
		r.wrong("the %s of attempt %d came after the attempt was settled", q.call, l.attempt)
		return false
	}
	r.mu.Lock()
	r.came[l.attempt]++
	times := r.came[l.attempt]
	r.mu.Unlock()
	if times > 1 {
		r.wrong("the %s of attempt %d came twice", q.call, l.attempt)
	}
	r.arrived()
	return true
}

// serve applies the fault of a request and lets the sandbox act.
func (r *run) serve(w http.ResponseWriter, q *request) {
	fault, dice := r.faultOf(q)
	if fault != "" {
		r.note(q.n, "%s of attempt %d: %s", q.call, q.ledger.attempt, fault)
		r.rare.count(q.call + ": " + fault)
	}
	switch fault {
	case cLostBefore:
		panic(http.ErrAbortHandler)
	case cDieBefore:
		q.n.die()
		panic(http.ErrAbortHandler)
	case cError:
		problem(w, http.StatusInternalServerError, "internal_clerk_error")
		return
	case cConflict:
		problem(w, http.StatusConflict, "conflict")
		return
	case cQuota:
		problem(w, http.StatusForbidden, "user_quota_exceeded")
		return
	case cUnknown:
		problem(w, http.StatusUnprocessableEntity, "planted_and_unknown")
		return
	case cKey:
		problem(w, http.StatusUnauthorized, "clerk_key_invalid")
		return
	case cThrottled:
		if dice.IntN(2) == 0 {
			w.Header().Set("Retry-After", fmt.Sprint(dice.IntN(2)))
		}
		problem(w, http.StatusTooManyRequests, "too_many_requests")
		return
	case cCut:
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			r.wrong("cut a connection: %v", err)
			return
		}
		conn.Close()
		left := max(0, time.Until(q.ledger.deadline))
		time.Sleep(between(dice, left/2, left*19/20))
		r.act(q)
		return
	case cSlowBefore:
		time.Sleep(between(dice, second/4, requestTimeout/2))
	case cStandBefore:
		q.n.stand(standing(dice))
	case cDieAfter, cStandAfter:
		// These happen while the request is in flight.
		if fault == cDieAfter {
			q.n.die()
		} else {
			q.n.stand(standing(dice))
		}
	}
	answer := r.act(q)
	switch fault {
	case cLostAfter:
		panic(http.ErrAbortHandler)
	case cSlowAfter:
		time.Sleep(between(dice, second/4, 2*requestTimeout))
	case cErrorAfter:
		problem(w, http.StatusInternalServerError, "internal_clerk_error")
		return
	case cPage:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		answer.Body = bytes.NewBufferString("<html><body>Bad Gateway</body></html>")
		write(w, answer.Body.Bytes())
		return
	case cGarbled:
		answer.Body.Truncate(answer.Body.Len() / 2)
	case cPartial:
		answer.Body = without(answer.Body, dice)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Connection", "close")
	w.WriteHeader(answer.Code)
	write(w, answer.Body.Bytes())
}

// write sends an answer. It ignores errors, because the worker may be gone.
func write(w http.ResponseWriter, body []byte) { _, _ = w.Write(body) }

// without drops one random invitation from a list.
func without(body *bytes.Buffer, dice *rand.Rand) *bytes.Buffer {
	var list []json.RawMessage
	if json.Unmarshal(body.Bytes(), &list) != nil || len(list) < 2 {
		return body
	}
	at := dice.IntN(len(list))
	list = slices.Delete(list, at, at+1)
	shorter, err := json.Marshal(list)
	if err != nil {
		return body
	}
	return bytes.NewBuffer(shorter)
}

// problem answers with an error in Clerk's format.
func problem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	write(w, fmt.Appendf(nil,
		`{"errors":[{"message":"planted","long_message":"planted","code":%q}],"clerk_trace_id":"planted"}`, code))
}

// faultOf chooses the fault of a request, or an empty string for none.
func (r *run) faultOf(q *request) (string, *rand.Rand) {
	dice := r.fate.at("fault", q.call, strings.Join(q.emails, " "), q.URL.RawQuery, q.nth)
	likely := r.world.toClerk
	switch {
	case !q.changes():
		likely /= 2
	case q.call == "revoke": // there are few of them
		likely = min(2*likely, 0.6)
	}
	if q.nth >= 5 || r.calm() || dice.Float64() >= likely {
		return "", dice
	}
	if dice.Float64() < r.world.harm {
		kinds := []weighted[string]{{cStandBefore, 1}, {cStandAfter, 5}}
		if q.n.mortal() {
			kinds = append(kinds, weighted[string]{cDieBefore, 1}, weighted[string]{cDieAfter, 2})
		}
		return pick(dice, kinds), dice
	}
	kinds := []weighted[string]{{cLostBefore, 3}, {cLostAfter, 4}, {cSlowAfter, 3}, {cError, 2}, {cPage, 1},
		{cGarbled, 2}}
	if r.world.late || !q.changes() {
		kinds = append(kinds, weighted[string]{cSlowBefore, 3})
	}
	if q.changes() {
		kinds = append(kinds, weighted[string]{cErrorAfter, 2}, weighted[string]{cConflict, 1},
			weighted[string]{cKey, 2}, weighted[string]{cCut, 4})
	}
	if q.call == "create" || q.call == "bulk" {
		kinds = append(kinds, weighted[string]{cQuota, 2}, weighted[string]{cUnknown, 2},
			weighted[string]{cThrottled, 3})
	} else {
		kinds = append(kinds, weighted[string]{cThrottled, 1})
	}
	if q.call == "bulk" {
		kinds = append(kinds, weighted[string]{cPartial, 4})
	}
	return pick(dice, kinds), dice
}

// act lets the sandbox handle a request, and checks what must hold for each request.
func (r *run) act(q *request) *httptest.ResponseRecorder {
	r.acting.Lock()
	defer r.acting.Unlock()
	latest := q.ledger.deadline
	if r.world.late {
		latest = latest.Add(settleTime / 2)
	}
	if q.changes() && time.Now().After(latest) {
		r.rare.count("a request came to nothing, since it was under way for too long")
		panic(http.ErrAbortHandler)
	}
	var before map[string]door
	if q.call == "create" || q.call == "bulk" {
		before = r.stands(q.emails)
	}
	again := q.Request.Clone(r.ctx)
	again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(q.body)), int64(len(q.body))
	answer := httptest.NewRecorder()
	r.sandbox.Handler().ServeHTTP(answer, again)
	if q.changes() && time.Now().After(q.ledger.deadline.Add(settleTime*9/10)) {
		r.void("a request was under way for too long")
	}
	if answer.Code == http.StatusTooManyRequests {
		r.wrong("a %s met a limit of Clerk's", q.call)
	}
	r.note(q.n, "%s of attempt %d: Clerk says %d", q.call, q.ledger.attempt, answer.Code)
	if before != nil {
		r.mailed(q, before)
	}
	return answer
}
