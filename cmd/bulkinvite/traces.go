package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr/funcr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// flushWithin is how long the program waits at its end for the last traces to be
// taken.
const flushWithin = 2 * time.Second

// The variables of OpenTelemetry's specification that say whether there are
// traces, and where they go. The libraries read these and others by themselves.
const (
	otelDisabled       = "OTEL_SDK_DISABLED"
	otelExporter       = "OTEL_TRACES_EXPORTER"
	otelEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	otelTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	otelProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	otelTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
)

// tracesVariables are those that config shows where they are set.
var tracesVariables = []string{otelDisabled, otelExporter, otelEndpoint, otelTracesEndpoint, otelProtocol, otelTracesProtocol, "OTEL_SERVICE_NAME"}

// traced reports whether traces are wanted. The specification would send them to
// localhost where nothing is set; here somebody has to ask for them.
func (p *program) traced() bool {
	if strings.EqualFold(os.Getenv(otelDisabled), "true") {
		return false
	}
	exporters := strings.Split(os.Getenv(otelExporter), ",")
	asked := os.Getenv(otelEndpoint)+os.Getenv(otelTracesEndpoint) != ""
	switch {
	case slices.Contains(exporters, "none"):
		return false
	case slices.Contains(exporters, "otlp"):
	case !asked:
		return false
	case exporters[0] != "":
		p.log.Warn("traces are sent by OTLP alone, and "+otelExporter+" asks for others", "exporter", os.Getenv(otelExporter))
		return false
	}
	if cmp.Or(os.Getenv(otelTracesProtocol), os.Getenv(otelProtocol)) == "grpc" {
		p.log.Warn("traces are sent by OTLP over HTTP alone, so that there are none: set " + otelTracesProtocol + "=http/protobuf, and the endpoint for it, whose port is 4318 as a rule")
		return false
	}
	return true
}

// startTraces has the spans of this process sent where the variables say. Without
// them nothing is set up, and spans are not made.
func (p *program) startTraces() error {
	if !p.traced() {
		return nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { p.log.Warn("traces", "error", bare(err.Error())) }))
	otel.SetLogger(funcr.New(func(_, text string) { p.log.Warn("traces", "error", bare(text)) }, funcr.Options{})) // its errors alone
	from, err := resource.New(context.Background(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("bulkinvite"), semconv.ServiceVersion(built().Version)), resource.WithFromEnv())
	if err != nil {
		return usage(err)
	}
	exporter, err := otlptracehttp.New(context.Background()) // dials nobody
	if err != nil {
		return usage(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(from), sdktrace.WithBatcher(&teller{SpanExporter: exporter, log: p.log}))
	otel.SetTracerProvider(provider)
	p.onClose(func() error {
		within, cancel := context.WithTimeout(context.Background(), flushWithin)
		defer cancel()
		if err := provider.Shutdown(within); err != nil {
			p.log.Warn("the last traces were not delivered", "error", bare(err.Error()))
		}
		return nil // the work does not fail by its traces
	})
	return nil
}

// teller says once that traces are not delivered, and once that they are again.
// The SDK would say it each time, every five seconds.
type teller struct {
	sdktrace.SpanExporter
	log  *slog.Logger
	lost int // spans, since the last delivery
}

// ExportSpans sends spans. The SDK calls it from one place at a time.
func (t *teller) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := t.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && t.lost == 0:
		t.log.Warn("traces are not delivered; the work goes on without", "error", bare(err.Error()))
	case err == nil && t.lost > 0:
		t.log.Info("traces are delivered again", "lost", t.lost)
	}
	if t.lost += len(spans); err == nil {
		t.lost = 0
	}
	return nil // it is told
}

// collectorURL finds the collector's address in an error. There are those that
// take a key in it.
var collectorURL = regexp.MustCompile(`https?://[^\s"]+`)

// bare is the text of an error without the collector's address, and cut short: it
// may quote a page.
func bare(text string) string {
	const most = 200
	text = collectorURL.ReplaceAllString(text, "...")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
