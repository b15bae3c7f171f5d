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
			for lines := bufio.NewScanner(response.Body); lines.Scan(); {
				if _, state, ok := strings.Cut(lines.Text(), `data-state="`); ok {
					seen <- strings.Split(state, `"`)[0]
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
