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

// tracer makes a span for each request. It does nothing until the program sets a provider. A
// library that traces net/http would put the whole URL into the span, and the URL of GET /users
// contains addresses.
var tracer = otel.Tracer("bulkinvite/internal/clerk", trace.WithSchemaURL(semconv.SchemaURL))

// routes are the paths of the calls below the API's base, as templates.
var routes = map[string]string{
	callCreate:      "/invitations",
	callBulk:        "/invitations/bulk",
	callRevoke:      "/invitations/{invitation_id}/revoke",
	callInvitations: "/invitations",
	callUsers:       "/users",
	callInstance:    "/instance",
}

// about is what a call is made for: for example, the attempt with number id.
type about struct {
	what string
	id   int64
}

type aboutKey struct{}

// About returns a context whose calls name, in the log and in their spans, what they are made for:
// an attempt or a read (what) and its number (id).
func About(ctx context.Context, what string, id int64) context.Context {
	return context.WithValue(ctx, aboutKey{}, about{what, id})
}

// place is the address of an API, for its spans.
type place struct {
	base string // the path of the base URL
	on   []attribute.KeyValue
}

func newPlace(u *url.URL) place {
	port, err := strconv.Atoi(u.Port())
	if err != nil { // the URL has no port
		port = map[string]int{"https": 443, "http": 80}[u.Scheme]
	}
	return place{base: strings.TrimSuffix(u.Path, "/"), on: []attribute.KeyValue{semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port)}}
}

// begin starts the span of a request, a child of the span in ctx.
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

// end sets the result of a request on its span and ends it.
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
