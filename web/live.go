package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"bulkinvite/invitation"
)

// A batch that is watched is looked at once a second, or less often where a look
// takes long: a watched batch costs a hundredth of a core at most, however many
// watch it.
const (
	lookEvery  = time.Second
	lookSeldom = 10 * time.Second // at one that is over, and whose invitations may still be accepted
	lookShare  = 100
	aliveEvery = 15 * time.Second // a word into a silent stream, so that no proxy thinks it dead
)

// watches are the batches that somebody watches: one goroutine looks at each,
// for all who do.
type watches struct {
	mu  sync.Mutex
	all map[watched]*watch
}

// watched is what somebody watches: a batch, in the form of the page or the API.
type watched struct {
	batch int64
	api   bool
}

// watch is a batch that is watched.
type watch struct {
	stop     context.CancelFunc
	watchers int
	mu       sync.Mutex
	text     []byte        // what the page shows; nil: not known yet
	at       time.Time     // when the look began that saw it
	joined   time.Time     // when the last joined who waits for a look; zero: nobody waits
	changed  chan struct{} // closed when there is another text, or the first for who joined
}

// join begins to watch a batch; leave ends it.
func (s *Server) join(id watched) (w *watch, leave func()) {
	s.watches.mu.Lock()
	defer s.watches.mu.Unlock()
	w = s.watches.all[id]
	if w == nil {
		ctx, stop := context.WithCancel(s.life)
		w = &watch{stop: stop, changed: make(chan struct{})}
		s.watches.all[id] = w
		s.work.Go(func() { s.look(ctx, id, w) })
	}
	w.watchers++
	w.mu.Lock()
	w.joined = time.Now()
	w.mu.Unlock()
	return w, func() {
		s.watches.mu.Lock()
		defer s.watches.mu.Unlock()
		if w.watchers--; w.watchers == 0 {
			w.stop()
			delete(s.watches.all, id)
		}
	}
}

// look looks at a batch until nobody watches it.
func (s *Server) look(ctx context.Context, id watched, w *watch) {
	tell := s.livePart
	if id.api {
		tell = s.liveDocument
	}
	for ctx.Err() == nil {
		began := time.Now()
		wait := lookEvery
		text, state, err := tell(ctx, id.batch)
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("look at a watched batch", "batch", id.batch, "error", err)
			wait = lookSeldom
		case err == nil:
			w.show(text, began)
			if state != invitation.Running && state != invitation.Paused {
				wait = lookSeldom
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(wait, lookShare*time.Since(began))):
		}
	}
}

// livePart is the part of a batch's page that changes.
func (s *Server) livePart(ctx context.Context, id int64) ([]byte, invitation.State, error) {
	b, err := s.store.Batch(ctx, id)
	if err != nil {
		return nil, "", err
	}
	view := batchView{Batch: b}
	if view.Standing, err = s.standing(ctx, b); err != nil {
		return nil, "", err
	}
	var text bytes.Buffer
	if err := pages()["batch"].ExecuteTemplate(&text, "standing", view); err != nil {
		return nil, "", fmt.Errorf("write where batch %d stands: %w", id, err)
	}
	return text.Bytes(), b.State, nil
}

func (w *watch) show(text []byte, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	awaited := !w.joined.IsZero() && at.After(w.joined)
	w.at = at
	if bytes.Equal(text, w.text) && !awaited {
		return
	}
	if awaited {
		w.joined = time.Time{}
	}
	w.text = text
	close(w.changed)
	w.changed = make(chan struct{})
}

// now is what a look showed that began after a moment, nil where none did, and
// what tells when there is another.
func (w *watch) now(after time.Time) (text []byte, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.at.After(after) {
		return nil, w.changed
	}
	return w.text, w.changed
}

// live streams where a batch stands, as server-sent events, until who watches is
// gone, is signed out, or the server stops: the page then connects again.
func (s *Server) live(out http.ResponseWriter, r *http.Request, who *visitor) error {
	b, err := s.batchAt(r)
	if err != nil {
		return err
	}
	end, err := s.beginLive(out, who)
	if err != nil {
		return err
	}
	defer end()
	s.stream(out, r, watched{batch: b.ID})
	return nil
}

// stream sends what is watched, and again whenever it has changed. A page shows
// how it is already, and must not be set back to a look from before: it may have
// come of an action that others watched since. A script is told at once.
func (s *Server) stream(out http.ResponseWriter, r *http.Request, id watched) {
	var since time.Time
	if !id.api {
		since = time.Now()
	}
	w, leave := s.join(id)
	defer leave()
	h := out.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies that know it pass each event on at once
	stream := http.NewResponseController(out)
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	var shown []byte
	for {
		text, changed := w.now(since)
		if text != nil && !bytes.Equal(text, shown) {
			shown = text
			if _, err := out.Write(event(text)); err != nil {
				return // who watched is gone
			}
		}
		extend(out, patience)
		if stream.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-alive.C:
			// Whoever was signed out meanwhile sees no more.
			if who, err := s.identify(r); err != nil || who == nil {
				return // the page finds out when it connects again
			}
			if _, err := out.Write([]byte(":\n\n")); err != nil {
				return // who watched is gone
			}
		case <-r.Context().Done():
			return
		case <-s.life.Done():
			return
		}
	}
}

// event writes a text as a server-sent event without a name, which htmx swaps in.
func event(text []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}
