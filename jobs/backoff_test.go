package jobs

import (
	"testing"
	"time"
)

// TestBackoff holds the waits that docs/protocol.md promises: after failures in a row they double from a second to a
// minute, begin anew after a success, and keep the worker's pace; a person is left alone for two seconds, doubled for
// each answer that decided nothing, for a quarter of an hour at most, spread by half.
func TestBackoff(t *testing.T) {
	t.Parallel()
	for second, factor := range map[time.Duration]time.Duration{time.Second: 1000, time.Millisecond: 1} {
		c := Config{Second: second}
		waits := c.afterFailures()
		for range 2 {
			for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
				if got := waits.NextBackOff(); got != want*factor*time.Millisecond {
					t.Errorf("at %v a second, after %d failures: %v", second, i+1, got)
				}
			}
			waits.Reset()
		}
		for tries, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900} {
			want *= factor * time.Millisecond
			least, most := want, time.Duration(0)
			for range 200 {
				got := c.backoff(tries)
				least, most = min(least, got), max(most, got)
			}
			if least < want/2 || most > want*3/2+1 || least > want*3/4 || most < want*5/4 {
				t.Errorf("at %v a second, after %d tries: %v to %v, want half to one and a half of %v", second, tries, least, most, want)
			}
		}
	}
}
