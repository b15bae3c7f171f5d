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

// The values of Answer.Call.
const (
	callCreate      = "create"
	callBulk        = "bulk"
	callRevoke      = "revoke"
	callInvitations = "invitations"
	callUsers       = "users"
	callInstance    = "instance"
)

// Calls lists the values of [Answer.Call].
var Calls = []string{callCreate, callBulk, callRevoke, callInvitations, callUsers, callInstance}

// Answer is the result of one call to Clerk: what came back, and what that proves.
type Answer struct {
	// Call is the name of the call: create, bulk, revoke, invitations, users or instance.
	Call string
	// Class says what the answer means and what it proves.
	Class Class
	// Sent reports whether a byte of the request may have been written to the network. It is false
	// only if it is proven that no byte was.
	Sent bool
	// Status is the HTTP status, or 0 if no answer came. It is set even if the body was cut off.
	Status int
	// Code is Clerk's first error code. It is empty on success. If Clerk gave no code, it is one of
	// this package:
	//
	//   - if the request was not sent: deadline_passed, canceled, connection_refused,
	//     lookup_failed, tls_failed, connect_timeout or connection_failed;
	//   - if the call itself is wrong: invalid_call, invalid_id, no_addresses or
	//     too_many_addresses;
	//   - if the answer is lost: timeout, canceled, connection_closed, not_http, not_json,
	//     not_clerk, redirect or answer_too_large;
	//   - if Clerk's code is not a plain word: unnamed.
	Code string
	// Param is the invitation's parameter that a refusal is about, from Clerk's meta.param_name:
	// redirect_url, expires_in_days, public_metadata, template_slug or notify. It is empty if Clerk
	// names another parameter, several, or none.
	Param string
	// ContentType is the media type of the answer, without parameters. It is empty if the answer
	// has no well-formed one.
	ContentType string
	// TraceID is the header Clerk-Trace-Id. Clerk's support finds a request by it.
	TraceID string
	// RetryAfter is how long Clerk asks to wait, counted from the answer. It is valid only if
	// HasRetryAfter is true, since zero is a possible value.
	RetryAfter time.Duration
	// HasRetryAfter reports whether the answer has a usable Retry-After header.
	HasRetryAfter bool
	// Date is the answer's Date header: Clerk's clock, in whole seconds. It is zero if there is
	// none.
	Date time.Time
	// Begun and Ended are times on this process's clock. Begun is before the search for a
	// connection, Ended after the whole answer was read.
	Begun, Ended time.Time
	// Offenders are the addresses that a refusal names, as Clerk writes them. If the refusal has
	// several errors, these are the addresses of all errors that have the first one's class.
	Offenders []string
	// Invitations are the invitations in the answer, in Clerk's order: the one that was created or
	// revoked, those that a bulk call created, or a page of the list.
	Invitations []Invitation
	// Err is nil only on success. It contains no address, query, key or text of Clerk's.
	Err error
}

// NothingDone reports whether the answer proves that this request did nothing at Clerk for any of
// its people. It says nothing about earlier requests.
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

// LogValue returns the answer without addresses, for the log.
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

// answer evaluates an exchange that has ended. callErr is the SDK's error. It may quote the URL or
// the body, so it must not leave this function.
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

// unanswered classifies a request that got no HTTP status.
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

// success classifies a 2xx answer. err is the SDK's error about its body.
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

// readRefusal evaluates the body of an answer without a 2xx status. people is how many people the
// call was for.
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
	// Codes are stored and shown, so only a plain word is kept.
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

// failure returns the error of an answer that is not a success.
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

// lostCode returns the code for a request that was written at least in part and got no usable
// answer.
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

// unsentCode returns the code for a request that was not written.
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

// safeCause returns the part of an error that says what the network did. It drops everything else:
// *url.Error prints the query, and net/http quotes what it could not parse.
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

// maxContentType is in bytes. It is longer than any media type in use. The header is shown in
// errors.
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

// retryAfter parses seconds or an HTTP date. It compares a date with Clerk's own clock if the
// answer has a Date header, so that a wrong clock on this machine does not matter.
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
