package clerk

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The calls, as Answer.Call names them.
const (
	callCreate      = "create"
	callBulk        = "bulk"
	callRevoke      = "revoke"
	callInvitations = "invitations"
	callUsers       = "users"
	callInstance    = "instance"
)

// Calls are the names that Answer.Call has.
var Calls = []string{callCreate, callBulk, callRevoke, callInvitations, callUsers, callInstance}

// Answer is what became of one call.
type Answer struct {
	// Call is create, bulk, revoke, invitations, users or instance.
	Call string
	// Class is what the answer means.
	Class Class
	// Sent is false only where it is proven that not one byte of the request was
	// written to the network.
	Sent bool
	// Status is the HTTP status; 0: no answer came. It is kept where the body was cut.
	Status int
	// Code is Clerk's first error code. Without one it is ours: of a request that was
	// not sent, deadline_passed, canceled, connection_refused, lookup_failed,
	// tls_failed, connect_timeout, connection_failed, or what was wrong with the call
	// (invalid_call, invalid_id, no_addresses, too_many_addresses); of a lost answer,
	// timeout, canceled, connection_closed, not_http, not_json, not_clerk, redirect,
	// answer_too_large. Empty on success.
	Code string
	// Param is the parameter of an invitation that a refusal is about, by Clerk's meta.param_name: redirect_url,
	// expires_in_days, public_metadata, template_slug or notify. Empty: none of these, or not told.
	Param string
	// ContentType is the media type of the answer, without parameters; empty: it has none,
	// or none that is well formed.
	ContentType string
	// TraceID is Clerk-Trace-Id, by which Clerk's support finds the request.
	TraceID string
	// RetryAfter is how long Clerk asks to wait, from the moment of the answer. It
	// counts only with HasRetryAfter, since zero is an answer too.
	RetryAfter    time.Duration
	HasRetryAfter bool
	// Date is Clerk's clock at the answer, in whole seconds; zero: not told.
	Date time.Time
	// Begun and Ended enclose the call, on this process's clock: Begun before a
	// connection was looked for, Ended after the whole answer was read.
	Begun, Ended time.Time
	// Offenders are the addresses that a refusal names, as Clerk writes them. Where
	// it gives several errors, those of the first one's class.
	Offenders []string
	// Invitations are those that the answer shows, in Clerk's order: the one made or
	// revoked, those that a bulk call made, a page of the list.
	Invitations []Invitation
	// Err is nil on success only. It holds no address, query, key or text of Clerk's.
	Err error
}

// NothingDone reports whether the answer proves that this request did nothing at
// Clerk, for anybody in it. It says nothing of earlier requests.
func (a Answer) NothingDone() bool {
	switch a.Class {
	case NotSent, Throttled, Unauthorized, BadCall, Gone, AlreadyRevoked, AlreadyAccepted:
		return true
	case Stopped:
		return a.Call != callBulk || !refusals[a.Code].counted
	case Exists, UserExists, Rejected, Unexplained:
		return a.Call != callBulk
	}
	return false
}

// LogValue shows an answer without the addresses in it.
func (a Answer) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("call", a.Call),
		slog.String("class", a.Class.String()),
		slog.Bool("sent", a.Sent),
		slog.Int("status", a.Status),
		slog.String("code", a.Code),
		slog.String("trace_id", a.TraceID),
		slog.Int("invitations", len(a.Invitations)),
		slog.Int("offenders", len(a.Offenders)),
		slog.Duration("took", a.Ended.Sub(a.Begun)),
	)
}

// answer reads an exchange that has ended. callErr is what the SDK made of it:
// it may quote the URL or the body, and goes no further than this function.
func (x *exchange) answer(call string, callErr error) Answer {
	var quoting *url.Error
	if errors.As(callErr, &quoting) {
		callErr = quoting.Err
	}
	sent, cause := x.outcome(callErr)
	a := Answer{Call: call, Sent: sent, Status: x.status}
	if x.status == 0 {
		a.Class, a.Code = unanswered(sent, cause)
		a.Err = a.failure(safeCause(cause))
		return a
	}
	a.Date = date(x.header)
	a.RetryAfter, a.HasRetryAfter = retryAfter(x.header, a.Date, x.now())
	a.ContentType = contentType(x.header)
	a.TraceID = token(x.header.Get("Clerk-Trace-Id"))
	switch {
	case x.bodyErr != nil:
		a.Class, a.Code = classify(call, "", x.status, x.people, false), lostCode(x.bodyErr)
	case x.status >= 200 && x.status <= 299:
		a.Class, a.Code = success(callErr)
	default:
		a.readRefusal(x.body, x.people)
	}
	a.Err = a.failure(nil)
	return a
}

// unanswered classifies a request without so much as a status.
func unanswered(sent bool, err error) (Class, string) {
	if sent {
		return Lost, lostCode(err)
	}
	var notMade *json.MarshalerError
	if errors.As(err, &notMade) {
		return BadCall, "invalid_call"
	}
	return NotSent, unsentCode(err)
}

// success looks at what the SDK could not make of a successful answer's body.
func success(err error) (Class, string) {
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return Success, ""
	case errors.As(err, &syntax), errors.Is(err, errEmpty):
		return Lost, "not_json"
	}
	return Lost, "not_clerk"
}

// params are the parameters of an invitation that a row or a batch sets, without the address.
var params = []string{"redirect_url", "expires_in_days", "public_metadata", "template_slug", "notify"}

// readRefusal reads the body of an answer that is no success, to a call about so many people.
func (a *Answer) readRefusal(body []byte, people int) {
	r, err := parseRefusal(body)
	switch {
	case a.Status < 400:
		a.Code = "redirect"
		return
	case err != nil:
		a.Class, a.Code = classify(a.Call, "", a.Status, people, false), "not_json"
		return
	case len(r.Errors) == 0 || r.Errors[0].Code == "":
		a.Class, a.Code = classify(a.Call, "", a.Status, people, false), "not_clerk"
		return
	}
	if a.TraceID == "" {
		a.TraceID = token(r.TraceID)
	}
	// A code is stored and shown, so one that is no plain word is not repeated.
	if a.Code = token(r.Errors[0].Code); a.Code == "" {
		a.Code = "unnamed"
	}
	if p := r.Errors[0].Meta.Param; len(p) == 1 && refusals[a.Code].about == Parameters && slices.Contains(params, p[0]) {
		a.Param = p[0]
	}
	class := func(e wireError) Class { return classify(a.Call, e.Code, a.Status, people, len(e.names()) > 0) }
	a.Class = class(r.Errors[0])
	for _, e := range r.Errors {
		if class(e) != a.Class {
			continue
		}
		for _, address := range e.names() {
			if !slices.Contains(a.Offenders, address) {
				a.Offenders = append(a.Offenders, address)
			}
		}
	}
}

// failure words the error of an answer that is no success.
func (a *Answer) failure(cause error) error {
	if a.Class == Success {
		return nil
	}
	text := fmt.Sprintf("clerk %s: %s: %s", a.Call, a.Class, a.Code)
	if a.Status != 0 {
		text += fmt.Sprintf(", status %d", a.Status)
	}
	if a.TraceID != "" {
		text += ", trace " + a.TraceID
	}
	if cause != nil {
		return fmt.Errorf("%s: %w", text, cause)
	}
	return errors.New(text)
}

// lostCode names what ended a request of which something was written.
func lostCode(err error) string {
	switch {
	case errors.Is(err, errTooLarge):
		return "answer_too_large"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case timedOut(err):
		return "timeout"
	case strings.Contains(err.Error(), "malformed"):
		// net/http has no error value for an answer that is not HTTP.
		return "not_http"
	}
	return "connection_closed"
}

// unsentCode names what kept a request from being written.
func unsentCode(err error) string {
	var lookup *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, errDeadline), errors.Is(err, context.DeadlineExceeded):
		return "deadline_passed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection_refused"
	case errors.As(err, &lookup):
		return "lookup_failed"
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &alert):
		return "tls_failed"
	case timedOut(err):
		return "connect_timeout"
	}
	return "connection_failed"
}

func timedOut(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errDeadline) || errors.As(err, &t) && t.Timeout()
}

// safeCause is the part of an error that says what the network did. All the
// rest is left out: *url.Error prints the query, and net/http quotes what it
// could not parse.
func safeCause(err error) error {
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errDeadline):
		return context.DeadlineExceeded
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &op):
		return op
	}
	return nil
}

// maxContentType is longer than any media type in use, in bytes: the header is shown in errors.
const maxContentType = 80

func contentType(h http.Header) string {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || len(t) > maxContentType {
		return ""
	}
	return t
}

func date(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// retryAfter reads seconds or an HTTP date. A date is held against Clerk's own
// clock where it told the time, so that ours does not matter.
func retryAfter(h http.Header, date, now time.Time) (time.Duration, bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		if seconds < 0 {
			return 0, false
		}
		return time.Duration(min(seconds, math.MaxInt64/int64(time.Second))) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if date.IsZero() {
		date = now
	}
	return max(at.Sub(date), 0), true
}
