package clerk

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// tracer makes a span of each request. It does nothing until the program names a
// provider. A library that traces net/http would put the whole URL into the span,
// and GET /users has addresses in it.
var tracer = otel.Tracer("bulkinvite/clerk", trace.WithSchemaURL(semconv.SchemaURL))

// routes are the paths of the calls below the API's base, without what differs.
var routes = map[string]string{
	callCreate:      "/invitations",
	callBulk:        "/invitations/bulk",
	callRevoke:      "/invitations/{invitation_id}/revoke",
	callInvitations: "/invitations",
	callUsers:       "/users",
	callInstance:    "/instance",
}

// about is what of ours a call is made for.
type about struct {
	what string
	id   int64
}

type aboutKey struct{}

// About returns a context whose calls say in the log and in their spans what of
// ours they are made for: the attempt or the read of a number.
func About(ctx context.Context, what string, id int64) context.Context {
	return context.WithValue(ctx, aboutKey{}, about{what, id})
}

// place is where an API is, as its spans tell.
type place struct {
	base string // its path
	on   []attribute.KeyValue
}

func newPlace(u *url.URL) place {
	port, err := strconv.Atoi(u.Port())
	if err != nil { // the URL names none
		port = map[string]int{"https": 443, "http": 80}[u.Scheme]
	}
	return place{base: strings.TrimSuffix(u.Path, "/"), on: []attribute.KeyValue{semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port)}}
}

// begin begins the span of a request, a child of the span of whoever sends it.
func (p place) begin(ctx context.Context, call, method string) (context.Context, trace.Span) {
	route := p.base + routes[call]
	ctx, span := tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindClient))
	if !span.IsRecording() {
		return ctx, span
	}
	span.SetAttributes(p.on...)
	span.SetAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.URLTemplate(route))
	if of, ok := ctx.Value(aboutKey{}).(about); ok {
		span.SetAttributes(attribute.Int64("bulkinvite."+of.what+".id", of.id))
	}
	return ctx, span
}

// end ends the span of a request with what became of it.
func end(span trace.Span, a Answer) {
	if span.IsRecording() {
		span.SetAttributes(attribute.String("bulkinvite.answer", a.Class.String()))
		if a.Status != 0 {
			span.SetAttributes(semconv.HTTPResponseStatusCode(a.Status))
		}
		if a.TraceID != "" {
			span.SetAttributes(attribute.String("clerk.trace_id", a.TraceID))
		}
		if a.Class != Success {
			span.SetAttributes(semconv.ErrorTypeKey.String(a.Code))
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}
