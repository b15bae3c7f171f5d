package jobs

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracer makes the spans of what a worker does. It does nothing until the program
// names a provider. A span of each River job would be one of each row, and most
// jobs find their row decided: what is traced is the requests that were claimed,
// and what reads.
var tracer = otel.Tracer("bulkinvite/jobs")

// What spans say. Ids and numbers alone: see docs/monitoring.md.
const (
	spanAttempt  = attribute.Key("bulkinvite.attempt.id")
	spanAttempts = attribute.Key("bulkinvite.attempts")
	spanBatch    = attribute.Key("bulkinvite.batch.id")
	spanBatches  = attribute.Key("bulkinvite.batch.ids")
	spanCall     = attribute.Key("bulkinvite.call")
	spanPeople   = attribute.Key("bulkinvite.people")
	spanSweep    = attribute.Key("bulkinvite.sweep.id")
	spanStale    = attribute.Key("bulkinvite.stale")
	spanHeld     = attribute.Key("bulkinvite.held")
	spanScanned  = attribute.Key("bulkinvite.scanned")
	spanPass     = attribute.Key("bulkinvite.reconcile.id")
	spanComplete = attribute.Key("bulkinvite.complete")
)

// beginInvite begins the span of a claimed request, as of when its claim began.
func beginInvite(ctx context.Context, t *ticket, began time.Time) (context.Context, trace.Span) {
	ctx, span := tracer.Start(ctx, "invite", trace.WithTimestamp(began))
	if span.IsRecording() {
		batches := make([]int64, len(t.People))
		for i, p := range t.People {
			batches[i] = p.Batch
		}
		slices.Sort(batches)
		span.SetAttributes(spanAttempt.Int64(t.AttemptID), spanCall.String(t.Call), spanPeople.Int(len(t.People)), spanBatches.Int64Slice(slices.Compact(batches)))
	}
	return ctx, span
}

// endSpan ends a span. What an error says is for the log, which keeps addresses
// out of it.
func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
