package ratelimit_test

import (
	"encoding"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"bulkinvite/ratelimit"
)

var (
	_ encoding.TextUnmarshaler = (*ratelimit.Limit)(nil)
	_ encoding.TextMarshaler   = ratelimit.Limit{}
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want ratelimit.Limit
		form string // what String gives
	}{
		{"100/1h", ratelimit.Limit{N: 100, Window: time.Hour}, "100/1h"},
		{"25/3.6s", ratelimit.Limit{N: 25, Window: 3600 * time.Millisecond}, "25/3.6s"},
		{"1/1ms", ratelimit.Limit{N: 1, Window: time.Millisecond}, "1/1ms"},
		{"1000/10s", ratelimit.Limit{N: 1000, Window: 10 * time.Second}, "1000/10s"},
		{"5/60s", ratelimit.Limit{N: 5, Window: time.Minute}, "5/1m"},
		{"none", ratelimit.Limit{None: true}, "none"},
		{"off", ratelimit.Limit{Off: true}, "off"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			got, err := ratelimit.Parse(tt.in)
			if err != nil || got != tt.want {
				t.Fatalf("Parse(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			}
			if got.String() != tt.form {
				t.Errorf("%+v.String() = %q, want %q", got, got.String(), tt.form)
			}
			if again, err := ratelimit.Parse(got.String()); err != nil || again != got {
				t.Errorf("Parse(%q) = %+v, %v; want what it was made of", got.String(), again, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "0", "abc", "100", "100/", "/1h", "0/1h", "-1/1h", "1.5/1h", "10/0s", "10/-1s", "10/h", "10/3600", "100/1h/2",
		"None", "OFF", " 100/1h", "100 / 1h", "99999999999999999999/1h", "1e3/1h",
	} {
		want := fmt.Sprintf("%q is no limit: write N/DURATION such as 100/1h, or none, or off", in)
		if l, err := ratelimit.Parse(in); err == nil || err.Error() != want {
			t.Errorf("Parse(%q) = %+v, %v; want %s", in, l, err, want)
		}
	}
}

func TestLimitAsText(t *testing.T) {
	t.Parallel()
	in := map[string]ratelimit.Limit{"create": {N: 100, Window: time.Hour}}
	text, err := json.Marshal(in)
	if err != nil || string(text) != `{"create":"100/1h"}` {
		t.Fatalf("marshalled: %s, %v", text, err)
	}
	var out map[string]ratelimit.Limit
	if err := json.Unmarshal(text, &out); err != nil || out["create"] != in["create"] {
		t.Errorf("unmarshalled: %+v, %v", out, err)
	}
	var l ratelimit.Limit
	if err := l.UnmarshalText([]byte("10/0s")); err == nil {
		t.Error("10/0s was taken for a limit")
	}
}

func TestInterval(t *testing.T) {
	for d, want := range map[time.Duration]string{
		500 * time.Millisecond: "500ms", 5 * time.Second: "5s", 30 * time.Second: "30s", 50 * time.Second: "50s", 3600 * time.Millisecond: "3.6s",
		time.Minute: "1m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", 15 * time.Minute: "15m", 30 * time.Minute: "30m", 20*time.Minute + 30*time.Second: "20m30s",
		time.Hour: "1h", 70 * time.Minute: "1h10m",
		90 * time.Minute: "1h30m", time.Hour + 30*time.Second: "1h0m30s", 20 * time.Hour: "20h", 100 * time.Hour: "100h",
	} {
		got := ratelimit.Interval(d)
		if got != want {
			t.Errorf("%s is written %q, want %q", d, got, want)
		}
		if back, err := time.ParseDuration(got); err != nil || back != d {
			t.Errorf("%q is read as %s, %v", got, back, err)
		}
	}
}

// The margin is max(window/1000, 5 ms).
func TestWeight(t *testing.T) {
	t.Parallel()
	for window, want := range map[time.Duration]time.Duration{
		time.Millisecond:        6 * time.Millisecond,
		time.Second:             1005 * time.Millisecond,
		5 * time.Second:         5005 * time.Millisecond,
		6 * time.Second:         6006 * time.Millisecond,
		time.Hour:               time.Hour + 3600*time.Millisecond,
		3600 * time.Millisecond: 3605 * time.Millisecond,
	} {
		if got := (ratelimit.Limit{N: 1, Window: window}).Weight(); got != want {
			t.Errorf("a request weighs %v on a window of %v, want %v", got, window, want)
		}
	}
}
