package jobs

import (
	"testing"
	"time"
)

// The worst reading of the last minutes counts, whatever the last one says, and
// is forgotten after a while.
func TestSkew(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	type reading struct {
		after       time.Duration // since the test began
		ahead, took time.Duration // by the answer's Date; the round trip
	}
	quick := reading{0, 500 * time.Millisecond, 200 * time.Millisecond}
	slow := reading{time.Minute, 20 * time.Second, 19 * time.Second}
	behind := reading{time.Minute, -30 * time.Second, time.Second} // another machine of Clerk's, or a clock that was set
	at := func(r reading, after time.Duration) reading { r.after = after; return r }
	for name, test := range map[string]struct {
		readings    []reading
		least, most time.Duration
	}{
		"none":                           {nil, 0, 0},
		"one":                            {[]reading{quick}, -700 * time.Millisecond, 500 * time.Millisecond},
		"a slow one, then a quick one":   {[]reading{slow, at(quick, 2*time.Minute)}, -700 * time.Millisecond, 20 * time.Second},
		"one behind, then a quick one":   {[]reading{behind, at(quick, 2*time.Minute)}, -32 * time.Second, 500 * time.Millisecond},
		"still known after ten minutes":  {[]reading{slow, at(quick, 12*time.Minute)}, -700 * time.Millisecond, 20 * time.Second},
		"forgotten after twenty":         {[]reading{slow, at(quick, 12*time.Minute), at(quick, 23*time.Minute)}, -700 * time.Millisecond, 500 * time.Millisecond},
		"forgotten after a long silence": {[]reading{slow, at(quick, time.Hour)}, -700 * time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s skew
			for _, r := range test.readings {
				at := began.Add(r.after)
				s.read(at.Add(-r.ahead), at, r.took, at)
			}
			if least, most := s.bounds(); least != test.least || most != test.most {
				t.Errorf("from %s to %s, want from %s to %s", least, most, test.least, test.most)
			}
		})
	}
}
