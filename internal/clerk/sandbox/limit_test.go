package sandbox

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"
)

// sent sends n creates one after another, without moving the clock, and returns their statuses.
func (b *bench) sent(n int) (statuses []int) {
	b.Helper()
	for range n {
		b.server.mu.Lock()
		number := b.server.state.requests
		b.server.mu.Unlock()
		statuses = append(statuses, b.post("/v1/invitations", item("n"+strconv.Itoa(number)+"@example.com")).status)
	}
	return statuses
}

func TestSlidingWindow(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Limits: Limits{Create: Limit{2, 10 * time.Second}}})
	same(t, "first", b.sent(1), []int{200})
	b.clock.advance(6 * time.Second)
	same(t, "second and third", b.sent(2), []int{200, 429})
	r := b.post("/v1/invitations", item("x@example.com"))
	r.wants(t, 429, "too_many_requests")
	same(t, "Retry-After", r.header.Get("Retry-After"), "4")
	b.clock.advance(4*time.Second - time.Nanosecond)
	same(t, "just before", b.sent(1), []int{429})
	b.clock.advance(time.Nanosecond)
	same(t, "one returned", b.sent(2), []int{200, 429})
	b.clock.advance(6 * time.Second)
	same(t, "the other returned", b.sent(2), []int{200, 429})
}

func TestFixedWindows(t *testing.T) {
	t.Parallel()
	for alignment, want := range map[string][]int{
		// The clock starts at 12:00:03, so windows end at :10 or at :13.
		"epoch": {200, 200},
		"first": {429, 429},
	} {
		b := setup(t, Config{WindowMode: "fixed", Switches: Switches{Alignment: alignment}, Limits: Limits{Create: Limit{2, 10 * time.Second}}})
		b.clock.advance(3 * time.Second)
		same(t, alignment+": at first", b.sent(3), []int{200, 200, 429})
		b.clock.advance(7 * time.Second)
		same(t, alignment+": at :10", b.sent(2), want)
		b.clock.advance(3 * time.Second)
		if alignment == "first" {
			same(t, alignment+": at :13", b.sent(3), []int{200, 200, 429})
		} else {
			same(t, alignment+": at :13", b.sent(1), []int{429})
		}
	}
}

func TestBucketsAreApart(t *testing.T) {
	t.Parallel()
	one := Limit{1, time.Minute}
	b := setup(t, Config{Limits: Limits{one, one, one}})
	id := b.invite("a@example.com").ID
	b.post("/v1/invitations", item("b@example.com")).wants(t, 429, "too_many_requests")
	same(t, "bulk", b.post("/v1/invitations/bulk", items("b@example.com")).status, 200)
	b.post("/v1/invitations/bulk", items("c@example.com")).wants(t, 429, "too_many_requests")
	same(t, "revoke", b.post("/v1/invitations/"+id+"/revoke", "").status, 200)
	for _, path := range []string{"/v1/invitations", "/v1/users", "/v1/users/count", "/v1/instance"} {
		b.get(path).wants(t, 429, "too_many_requests")
	}
	same(t, "our own calls", b.mailbox().Mails, 2)
}

func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key, method, path, body string
		n                       int
		next                    time.Duration
	}{
		{"sk_test_a", "POST", "/v1/invitations", "{", 100, time.Hour},
		{"sk_test_a", "POST", "/v1/invitations/bulk", "[", 25, time.Hour},
		{"sk_test_a", "GET", "/v1/instance", "", 100, 10 * time.Second},
		{"sk_live_a", "GET", "/v1/instance", "", 1000, 10 * time.Second},
	} {
		b := setup(t, Config{})
		b.key = test.key
		for i := range test.n {
			if r := b.do(test.method, test.path, test.body); r.status == 429 {
				t.Fatalf("%s %s: request %d of %d: 429", test.method, test.path, i+1, test.n)
			}
		}
		r := b.do(test.method, test.path, test.body)
		r.wants(t, 429, "too_many_requests")
		same(t, "Retry-After", r.header.Get("Retry-After"), strconv.Itoa(int(test.next.Seconds())))
	}
}

func TestWhatCountsSwitches(t *testing.T) {
	t.Parallel()
	limits := Limits{Create: Limit{2, 10 * time.Second}}
	for _, mode := range []string{"sliding", "fixed"} {
		for _, free := range []bool{false, true} {
			b := setup(t, Config{WindowMode: mode, Limits: limits, Switches: Switches{RefusedAreFree: free, Alignment: "first"}})
			for range 2 {
				b.post("/v1/invitations", "{}").wants(t, 422, "form_param_missing")
			}
			want := []int{429}
			if free {
				want = []int{200, 200, 429}
			}
			same(t, mode+": refused", b.sent(len(want)), want)
		}
		for _, count := range []bool{false, true} {
			b := setup(t, Config{WindowMode: mode, Limits: limits, Switches: Switches{ThrottledCount: count, Alignment: "first"}})
			same(t, mode, b.sent(2), []int{200, 200})
			b.clock.advance(9 * time.Second)
			same(t, mode, b.sent(2), []int{429, 429})
			b.clock.advance(time.Second)
			// In a fixed window, refused requests end with the window.
			want := 200
			if count && mode == "sliding" {
				want = 429
			}
			same(t, mode+": after the refused", b.sent(1), []int{want})
		}
	}
}

func TestRetryAfterSwitch(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{"seconds": "3", "date": "Sun, 22 Nov 2026 12:00:03 GMT", "none": ""} {
		b := setup(t, Config{Limits: Limits{Create: Limit{1, 2500 * time.Millisecond}}, Switches: Switches{RetryAfter: setting}})
		b.invite("a@example.com")
		r := b.post("/v1/invitations", item("b@example.com"))
		r.wants(t, 429, "too_many_requests")
		same(t, setting, r.header.Get("Retry-After"), want)
	}
}

// TestWindowsAgainstAModel compares the windows with a model that counts all requests each time.
func TestWindowsAgainstAModel(t *testing.T) {
	t.Parallel()
	const length, n = 1000, 5
	for seed := range uint64(200) {
		dice := rand.New(rand.NewPCG(seed, 1))
		sliding, fixed := &window{length: length}, &window{length: length, fixed: true, epoch: true}
		var passed [2][]int64
		at := int64(1_700_000_000_000)
		for range 200 {
			at += dice.Int64N(400)
			for i, w := range []*window{sliding, fixed} {
				count := 0
				for _, earlier := range passed[i] {
					if i == 0 && earlier > at-length || i == 1 && earlier/length == at/length {
						count++
					}
				}
				wait := w.wait(at, n)
				if (wait == 0) != (count < n) {
					t.Fatalf("seed %d, mode %d: wait %d while %d count", seed, i, wait, count)
				}
				if wait == 0 {
					w.add(at)
					if dice.IntN(10) == 0 {
						w.drop(at)
					} else {
						passed[i] = append(passed[i], at)
					}
					continue
				}
				later := *w // a look ahead removes what is past by then
				if later.wait(at+int64(wait)-1, n) == 0 || later.wait(at+int64(wait), n) != 0 {
					t.Fatalf("seed %d, mode %d: a wait of %d is not exact", seed, i, wait)
				}
			}
		}
	}
}

func TestStatsFindTheFullestWindow(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Limits: Limits{Create: Limit{3, 10 * time.Second}}})
	b.sent(2)
	b.clock.advance(9 * time.Second)
	b.sent(3) // 5 within 10 s; 2 of them are refused
	b.clock.advance(time.Second)
	b.sent(1) // the first two are out of the window by now
	b.key = "none"
	b.post("/v1/invitations", item("a@example.com"))
	b.key = "sk_test_x"
	b.post("/sandbox/faults", `[{"kind":"refuse"}]`)
	if _, err := b.try("POST", "/v1/invitations", item("a@example.com")); err == nil {
		t.Error("not refused")
	}
	var stats struct {
		Requests map[string]map[string]int
		Largest  map[string]struct {
			Limit    Limit
			Window   Duration
			Requests int
		}
		Invitations, Users int
	}
	b.ok("GET", "/sandbox/stats", "", &stats)
	same(t, "requests", stats.Requests, map[string]map[string]int{"create": {"200": 4, "429": 2, "401": 1, "cut": 1}})
	largest := stats.Largest["create"]
	if largest.Limit != (Limit{3, 10 * time.Second}) || largest.Window != Duration(10*time.Second) || largest.Requests != 5 {
		t.Errorf("largest %+v", largest)
	}
	same(t, "invitations", stats.Invitations, 4)
	var log []entry
	b.ok("GET", "/sandbox/requests?call=create", "", &log)
	same(t, "requests logged", len(log), 8)
	if first := log[0]; first.N != 1 || first.Status != 200 || !first.At.Equal(b.clock.now().Add(-10*time.Second)) || len(first.Trace) != 32 {
		t.Errorf("first request %+v", first)
	}
	if last := log[7]; last.Fault != FaultRefuse || last.Status != 0 {
		t.Errorf("last request %+v", last)
	}
	b.ok("GET", "/sandbox/requests?call=bulk", "", &log)
	same(t, "bulk requests", len(log), 0)
}

func TestLimitsChangeAtRunTime(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sent(3)
	b.configure(`{"limits":{"create":"3/10s"}}`)
	same(t, "under the new limit", b.sent(1), []int{429})
	b.clock.advance(10 * time.Second)
	same(t, "a window later", b.sent(4), []int{200, 200, 200, 429})
	b.configure(`{"limits":{"create":"none"},"window_mode":"fixed"}`)
	same(t, "without", b.sent(101), slices.Repeat([]int{200}, 101)) // 100 is the default
	var got settings
	b.ok("GET", "/sandbox/config", "", &got)
	if got.Limits.Create.N != -1 || got.WindowMode != "fixed" || got.Switches.Bulk != "all_or_nothing" {
		t.Errorf("config %+v", got)
	}
	for _, body := range []string{`{"limit":{}}`, `{"limits":{"create":"0/1h"}}`, `{"switches":{"bulk":"x"}}`, `{"window_mode":"x"}`, `{`} {
		if r := b.post("/sandbox/config", body); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, r.status)
		}
	}
	same(t, "after bad requests", b.sent(1), []int{200})
}
