package rig

import "testing"

func TestHighWater(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"Name:\tbulkinvite\nVmPeak:\t 2000 kB\nVmHWM:\t   56160 kB\nVmRSS:\t 100 kB\n": 56160 << 10,
		"Name:\tbulkinvite\nState:\tZ (zombie)\n":                                      0,
	} {
		if got, err := highWater([]byte(text)); err != nil || got != want {
			t.Errorf("%d, %v of %q", got, err, text)
		}
	}
}
