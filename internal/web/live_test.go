package web

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/must"
)

// TestLive watches a batch by many eyes: each sees it change, one look is made
// for all, and none when nobody watches.
func TestLive(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	const eyes = 20
	seen := make(chan string, 10*eyes)
	for range eyes {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		t.Cleanup(cancel)
		r := w.request(http.MethodGet, "/batches/1/live", nil).WithContext(ctx)
		response, err := w.http.Do(r)
		must.OK(t, err)
		go func() {
			defer response.Body.Close() // it was only read
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
			case <-time.After(time.Minute): // a look is waited for a hundred times as long as one takes
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
// before, which may be from before what they have just done, but the next one.
func TestLiveShowsNoPast(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	id := watched{batch: 1}
	seen, leave := b.server.join(id)
	defer leave()
	text, first, next := b.server.look(id, seen)
	if !strings.Contains(string(text), `data-state="running"`) || next.Sub(first) < lookEvery {
		t.Fatalf("the first look shows %s; the next is after %s", text, next.Sub(first))
	}
	b.exec(`update batches set state = 'paused', paused_by = 'person'`)
	since := time.Now()
	if text, at, _ := b.server.look(id, seen); at.After(since) || !strings.Contains(string(text), `data-state="running"`) {
		t.Errorf("before the next look is due, there is %s", text)
	}
	seen.next = since // as time goes by
	if text, at, _ := b.server.look(id, seen); !at.After(since) || !strings.Contains(string(text), `data-state="paused"`) {
		t.Errorf("after a look there is %s", text)
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
		must.OK(t, err)
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
