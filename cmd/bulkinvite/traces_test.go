package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"bulkinvite/internal/must"
)

// collector takes traces as OTLP over HTTP has them.
type collector struct {
	url      string
	dialled  atomic.Int64
	mu       sync.Mutex
	raw      []byte // every body
	services map[string]bool
	spans    []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{services: map[string]bool{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m collectorpb.ExportTraceServiceRequest
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &m)
		}
		if err != nil || r.Method+r.URL.Path+r.Header.Get("Content-Type") != "POST/v1/tracesapplication/x-protobuf" {
			t.Errorf("%s %s of %s: %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = append(c.raw, body...)
		for _, resource := range m.GetResourceSpans() {
			for _, a := range resource.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					c.services[a.GetValue().GetStringValue()] = true
				}
			}
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			c.dialled.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// named returns the spans of a name.
func (c *collector) named(name string) (spans []*tracepb.Span) {
	for _, s := range c.spans {
		if s.GetName() == name {
			spans = append(spans, s)
		}
	}
	return spans
}

// says returns what a span says, by key.
func says(s *tracepb.Span) map[string]string {
	said := map[string]string{}
	for _, a := range s.GetAttributes() {
		value := a.GetValue()
		switch {
		case value.GetStringValue() != "":
			said[a.GetKey()] = value.GetStringValue()
		case value.GetArrayValue() != nil:
			for _, one := range value.GetArrayValue().GetValues() {
				said[a.GetKey()] += fmt.Sprintf("[%d]", one.GetIntValue())
			}
		default:
			said[a.GetKey()] = fmt.Sprint(value.GetIntValue())
		}
	}
	return said
}

// spanKeys are all that spans may say, as docs/monitoring.md lists them.
var spanKeys = []string{
	"bulkinvite.answer", "bulkinvite.attempt.id", "bulkinvite.attempts", "bulkinvite.batch.id", "bulkinvite.batch.ids", "bulkinvite.call", "bulkinvite.complete",
	"bulkinvite.held", "bulkinvite.people", "bulkinvite.read.id", "bulkinvite.reconcile.id", "bulkinvite.rows", "bulkinvite.scanned", "bulkinvite.stale", "bulkinvite.sweep.id",
	"clerk.trace_id", "error.type", "http.request.method", "http.response.status_code", "server.address", "server.port", "url.template",
}

// known fails the test where spans say what is not on the list, or the list has
// what is not in the documentation.
func (c *collector) known(t *testing.T) {
	t.Helper()
	docs, err := os.ReadFile("../../docs/monitoring.md")
	must.OK(t, err)
	for _, key := range spanKeys {
		if !bytes.Contains(docs, []byte("`"+key+"`")) {
			t.Errorf("docs/monitoring.md lacks %s", key)
		}
	}
	for _, s := range c.spans {
		for key := range says(s) {
			if !slices.Contains(spanKeys, key) {
				t.Errorf("%s says %s", s.GetName(), key)
			}
		}
		if len(s.GetEvents()) > 0 || s.GetStatus().GetMessage() != "" {
			t.Errorf("%s has words in it: %v, %v", s.GetName(), s.GetEvents(), s.GetStatus())
		}
	}
}

// TestTraces: a run's traces are the ledger's attempts and reads with Clerk's
// trace ids, each request below what sent it, and nobody is in them.
func TestTraces(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	b := newBench(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url)
	b.run("send", "--sandbox", "--yes", b.file("marked.csv", marked(0, 23)+markAddress+" no address,"+markName+"\n")).want(t, exitRows)

	c.mu.Lock()
	defer c.mu.Unlock()
	if !maps.Equal(c.services, map[string]bool{"bulkinvite": true}) {
		t.Errorf("the service is called %v", c.services)
	}
	c.known(t)
	(&private{bench: b}).clean("the traces", string(c.raw))
	if bytes.Contains(c.raw, []byte(sandboxKey)) {
		t.Error("the key is in the traces")
	}
	if spans := c.named("import"); len(spans) != 1 || !maps.Equal(says(spans[0]), map[string]string{"bulkinvite.batch.id": "1", "bulkinvite.rows": "24"}) {
		t.Errorf("of the import: %v", spans)
	}
	parents := map[string]*tracepb.Span{}
	for _, s := range c.spans {
		parents[string(s.GetTraceId())+string(s.GetSpanId())] = s
	}
	got := map[string]bool{}
	for _, s := range c.spans {
		if s.GetKind() != tracepb.Span_SPAN_KIND_CLIENT {
			continue
		}
		said := says(s)
		parent := parents[string(s.GetTraceId())+string(s.GetParentSpanId())]
		if parent != nil && parent.GetName() == "invite" {
			above := says(parent)
			if above["bulkinvite.attempt.id"] != said["bulkinvite.attempt.id"] || above["bulkinvite.batch.ids"] != "[1]" {
				t.Errorf("%v is below %v", said, above)
			}
			if s.GetStartTimeUnixNano() < parent.GetStartTimeUnixNano() || s.GetEndTimeUnixNano() > parent.GetEndTimeUnixNano() {
				t.Errorf("attempt %s: the request is not within its span", said["bulkinvite.attempt.id"])
			}
			said["people"] = above["bulkinvite.people"]
		}
		got[fmt.Sprint(parent.GetName(), s.GetName(), said["bulkinvite.attempt.id"], said["bulkinvite.read.id"], said["people"], said["http.response.status_code"], said["clerk.trace_id"])] = true
	}
	pool := open(t, b.url)
	rows, err := pool.Query(t.Context(), `
		select 'invite' || case call when 'bulk' then 'POST /v1/invitations/bulk' else 'POST /v1/invitations' end || id ||
			(select count(*) from attempt_people p where p.attempt_id = a.id) || http_status || trace_id from attempts a
		union all
		select 'preflight' || case call when 'users' then 'GET /v1/users' else 'GET /v1/invitations' end || id || http_status || trace_id from reads`)
	must.OK(t, err)
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(t, err)
	if len(want) < 6 {
		t.Errorf("the run made %d requests: too few to tell", len(want))
	}
	for _, one := range want {
		if !got[one] {
			t.Errorf("no span of %s", one)
		}
	}
	if t.Failed() {
		t.Logf("%q", slices.Sorted(maps.Keys(got)))
	}
}

// TestTracesTurnedOff: where traces are turned off, no collector is dialled.
func TestTracesTurnedOff(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	for _, off := range []string{"OTEL_SDK_DISABLED=TRUE", "OTEL_TRACES_EXPORTER=none"} {
		b := newBench(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, off)
		b.run("send", "--sandbox", "--yes", b.file("two.csv", people(2))).want(t, exitOK)
		if n := c.dialled.Load(); n > 0 {
			t.Errorf("%s: the collector was dialled %d times", off, n)
		}
	}
}

// TestTracesAreOptIn: nothing is set up unless the variables ask for it.
func TestTracesAreOptIn(t *testing.T) {
	all := []string{otelDisabled, otelExporter, otelEndpoint, otelTracesEndpoint, otelProtocol, otelTracesProtocol}
	const nowhere = "http://127.0.0.1:1"
	for _, c := range []struct {
		env  map[string]string
		want bool
		says string // part of the one line in the log; empty: none
	}{
		{nil, false, ""},
		{map[string]string{"OTEL_SERVICE_NAME": "invites"}, false, ""},
		{map[string]string{otelEndpoint: nowhere}, true, ""},
		{map[string]string{otelTracesEndpoint: nowhere + "/v1/traces"}, true, ""},
		{map[string]string{otelExporter: "otlp"}, true, ""},
		{map[string]string{otelExporter: "console,otlp", otelEndpoint: nowhere}, true, ""},
		{map[string]string{otelExporter: "none", otelEndpoint: nowhere}, false, ""},
		{map[string]string{otelExporter: "console"}, false, ""},
		{map[string]string{otelExporter: "zipkin", otelEndpoint: nowhere}, false, "asks for others"},
		{map[string]string{otelDisabled: "true", otelEndpoint: nowhere}, false, ""},
		{map[string]string{otelDisabled: "false", otelEndpoint: nowhere}, true, ""},
		{map[string]string{otelProtocol: "grpc", otelEndpoint: nowhere}, false, "over HTTP alone"},
		{map[string]string{otelProtocol: "grpc", otelTracesProtocol: "http/protobuf", otelEndpoint: nowhere}, true, ""},
	} {
		t.Run(fmt.Sprint(c.env), func(t *testing.T) {
			for _, name := range all {
				t.Setenv(name, c.env[name])
			}
			var log bytes.Buffer
			p := &program{log: slog.New(slog.NewTextHandler(&log, nil))}
			must.OK(t, p.startTraces())
			if on := len(p.closers) > 0; on != c.want || !on && exporting() {
				t.Errorf("traces are on: %t, want %t; a goroutine for them: %t", on, c.want, exporting())
			}
			if err := p.close(); err != nil || exporting() {
				t.Errorf("closed: %v, and a goroutine is left: %t", err, exporting())
			}
			if lines := strings.Count(log.String(), "\n"); !strings.Contains(log.String(), c.says) || lines > 0 != (c.says != "") || lines > 1 {
				t.Errorf("the log says %q, want one line with %q", log.String(), c.says)
			}
		})
	}
}

// exporting reports whether a goroutine of OpenTelemetry's runs.
func exporting() bool {
	stacks := make([]byte, 1<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("go.opentelemetry.io/otel/sdk/trace."))
}

// TestCollectorAway: a collector that refuses or never answers changes neither
// the exit status nor the time, and the log says it once.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	must.OK(t, refusing.Close())
	b := newBench(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+refusing.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY=1")
	o := b.run("send", "--sandbox", "--yes", b.file("people.csv", people(40))).want(t, exitOK)
	if n := strings.Count(o.err, `"msg":"traces`); n != 1 || !strings.Contains(o.err, "traces are not delivered") || strings.Contains(o.err, refusing.Addr().String()+"/") {
		t.Errorf("the log speaks of traces %d times, want once, without the URL:\n%s", n, o.err)
	}

	asked := make(chan time.Time, 100)
	ended := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- time.Now()
		<-ended
	}))
	defer silent.Close()
	defer close(ended)
	b = newBench(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+silent.URL)
	o = b.run("send", "--sandbox", "--yes", b.file("people.csv", people(40))).want(t, exitOK)
	over := time.Now()
	if strings.Count(o.err, "traces were not delivered")+strings.Count(o.err, "traces are not delivered") != 1 {
		t.Errorf("the log does not say once that traces are lost:\n%s", o.err)
	}
	select {
	case last := <-asked:
		// The exporter itself would wait for ten seconds, and then try again.
		if waited := over.Sub(last); waited > flushWithin+5*time.Second {
			t.Errorf("the run waited %s for the collector", waited)
		}
	default:
		t.Error("the collector was not asked")
	}
}

// failing is an exporter that fails when told to.
type failing struct {
	sdktrace.SpanExporter
	err error
}

func (f *failing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return f.err }

// TestTellerTellsOnce: the end and the beginning of delivery are told, and not
// where the collector is or all that it says.
func TestTellerTellsOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := &failing{}
	x := &teller{SpanExporter: f, log: slog.New(slog.NewTextHandler(&log, nil))}
	two := tracetest.SpanStubs{{Name: "a"}, {Name: "b"}}.Snapshots()
	for _, err := range []error{nil, errors.New(`Post "https://collector.example/planted": refused ` + strings.Repeat("x", 9000)), errors.New("refused"), nil, nil, errors.New("refused")} {
		f.err = err
		if err := x.ExportSpans(t.Context(), two); err != nil {
			t.Errorf("the SDK is told too: %v", err)
		}
	}
	if text := log.String(); strings.Count(text, "level=WARN") != 2 || strings.Count(text, "delivered again\" lost=4") != 1 || strings.Count(text, "\n") != 3 || strings.Contains(text, "planted") || len(text) > 1000 {
		t.Errorf("the log says:\n%s", text)
	}
}
