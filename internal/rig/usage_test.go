package rig

import (
	"os"
	"testing"
	"time"
)

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

// TestCPUTime computes until the kernel has counted it.
func TestCPUTime(t *testing.T) {
	t.Parallel()
	before, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatalf("processor time is read from /proc, which Linux has: %v", err)
	}
	for began := time.Now(); time.Since(began) < 10*time.Second; {
		after, err := CPUTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			return
		}
	}
	t.Errorf("busy for 10 s, and still %s", before)
}

// TestRecord checks that windows count from the first create.
func TestRecord(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1_700_000_000, 0)
	r := &Record{Requests: []Request{
		{At: begin.Add(-time.Second), Call: "users", Status: 200},
		{At: begin, Call: "bulk", Status: 200}, {At: begin.Add(time.Second), Call: "create", Status: 429},
	}}
	for _, after := range []time.Duration{0, 5999, 6000} {
		r.Invitations = append(r.Invitations, Invitation{CreatedAt: begin.Add(after * time.Millisecond)})
	}
	if got := r.Invited(6 * time.Second); got != 2 {
		t.Errorf("%d invited in the first window, want 2", got)
	}
	if r.Answered(429) != 1 || len(r.Sent(Creates...)) != 2 {
		t.Errorf("%d answers of 429 and %d creates, want 1 and 2", r.Answered(429), len(r.Sent(Creates...)))
	}
	if got := (&Record{}).Invited(time.Hour); got != 0 {
		t.Errorf("%d invited where nothing happened, want 0", got)
	}
}
