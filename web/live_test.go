package web

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLive watches a batch by many eyes: each sees it change, one goroutine looks
// for all, and none looks when nobody does.
func TestLive(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	const eyes = 20
	seen := make(chan string, 10*eyes)
	for range eyes {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		t.Cleanup(cancel)
		r := w.request(http.MethodGet, "/batches/1/live", nil).WithContext(ctx)
		response, err := w.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer response.Body.Close() //nolint:errcheck // it was only read
			last := ""
			for lines := bufio.NewScanner(response.Body); lines.Scan(); {
				if _, state, ok := strings.Cut(lines.Text(), `data-state="`); ok {
					if state, _, _ = strings.Cut(state, `"`); state != last {
						seen <- state
					}
					last = state
				}
			}
			seen <- "end"
		}()
	}
	await := func(want string) {
		t.Helper()
		for range eyes {
			select {
			case got := <-seen:
				if got != want {
					t.Fatalf("somebody sees %q, want %q", got, want)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("not everybody sees %q", want)
			}
		}
	}
	await("running")
	b.server.watches.mu.Lock()
	watched, watchers := len(b.server.watches.all), b.server.watches.all[watched{batch: 1}].watchers
	b.server.watches.mu.Unlock()
	if watched != 1 || watchers != eyes {
		t.Errorf("%d batches are looked at, for %d eyes", watched, watchers)
	}
	// The state changes behind the server's back, as when another process works.
	b.exec(`update batches set state = 'paused', paused_by = 'person'`)
	await("paused")
	b.server.end()
	await("end")
	b.server.work.Wait()
	w.get("/batches/99/live").want(http.StatusNotFound)
}

// TestLiveShowsNoPast: who begins to watch what others watch sees no look from
// before, which may be from before what they have just done.
func TestLiveShowsNoPast(t *testing.T) {
	t.Parallel()
	w := &watch{changed: make(chan struct{})}
	w.show([]byte("paused"), time.Now())
	since := time.Now()
	w.joined = since
	if text, _ := w.now(since); text != nil {
		t.Fatalf("somebody who comes now sees %s", text)
	}
	if text, _ := w.now(time.Time{}); string(text) != "paused" {
		t.Errorf("a script sees %q", text)
	}
	_, changed := w.now(since)
	w.show([]byte("paused"), since.Add(-time.Second)) // a look that began before
	select {
	case <-changed:
		t.Error("a look from before ends the wait")
	default:
	}
	w.show([]byte("paused"), since.Add(time.Second))
	select {
	case <-changed:
	default:
		t.Fatal("whoever came waits for ever, since nothing is another")
	}
	if text, _ := w.now(since); string(text) != "paused" {
		t.Errorf("after a look it sees %q", text)
	}
}

// TestLiveAfterAction: whoever holds a batch that others watch is not shown it
// as it was before.
func TestLiveAfterAction(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	first := func() string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel) // it goes on watching
		response, err := w.http.Do(w.request(http.MethodGet, "/batches/1/live", nil).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() }) // it was only read
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if _, state, ok := strings.Cut(lines.Text(), `data-state="`); ok {
				state, _, _ = strings.Cut(state, `"`)
				return state
			}
		}
		return "nothing"
	}
	if state := first(); state != "running" {
		t.Fatalf("somebody sees %s", state)
	}
	w.post("/batches/1/pause", nil).want(http.StatusSeeOther)
	if state := first(); state != "paused" {
		t.Errorf("who paused it sees %s", state)
	}
}
