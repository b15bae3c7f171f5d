package jobs

import (
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/ledger"
)

// BenchmarkSpansOff is what a claimed request costs where nothing is traced.
func BenchmarkSpansOff(b *testing.B) {
	t := &ticket{}
	t.AttemptID, t.People = 1, make([]ledger.Person, bulkSize)
	b.ReportAllocs()
	for b.Loop() {
		ctx, span := beginInvite(b.Context(), t, time.Time{})
		if clerk.About(ctx, "attempt", t.AttemptID) == nil || span.IsRecording() {
			b.Fatal("it is traced")
		}
		span.End()
	}
}
