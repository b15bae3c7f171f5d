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

// tracer makes the worker's spans. It does nothing until the program sets a provider. It does not
// trace each River job, because that would be a span for each row, and most jobs find their row
// decided. It traces claimed requests and reads.
var tracer = otel.Tracer("bulkinvite/jobs")

// The attributes of spans. They are ids and numbers only; see docs/monitoring.md.
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

// beginInvite begins the span of a claimed request at the time when its claim began.
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

// endSpan ends a span. It does not include the text of an error. That is for the log, which removes
// addresses.
func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
