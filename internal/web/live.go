package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// A batch that is watched is looked at once a second, or less often where a look
// takes long: a watched batch costs a hundredth of a core at most, however many
// watch it.
const (
	lookEvery  = time.Second
	lookSeldom = 10 * time.Second // at one that is over, and whose invitations may still be accepted
	lookShare  = 100
	lookRarest = time.Minute      // however long a look takes: a page must not stay silent for longer
	aliveEvery = 15 * time.Second // a word into a silent stream, so that no proxy thinks it dead
)

// watches are the batches that somebody watches.
type watches struct {
	mu  sync.Mutex
	all map[watched]*watch
}

// watched is what somebody watches: a batch, in the form of the page or the API.
type watched struct {
	batch int64
	api   bool
}

// watch is what the last look at a batch showed, for all who watch it. Whoever is
// the first to find that the next look is due makes it.
type watch struct {
	watchers int // guarded by watches
	mu       sync.Mutex
	text     []byte
	at       time.Time // when the look began; zero: there was none
	next     time.Time // when the next is due
}

// join begins to watch a batch; leave ends it.
func (s *Server) join(id watched) (w *watch, leave func()) {
	s.watches.mu.Lock()
	defer s.watches.mu.Unlock()
	w = s.watches.all[id]
	if w == nil {
		w = &watch{}
		s.watches.all[id] = w
	}
	w.watchers++
	return w, func() {
		s.watches.mu.Lock()
		defer s.watches.mu.Unlock()
		if w.watchers--; w.watchers == 0 {
			delete(s.watches.all, id)
		}
	}
}

// look returns what the last look showed, when it began, and when the next is due. It
// looks where that is now.
func (s *Server) look(id watched, w *watch) (text []byte, at, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if began := time.Now(); !began.Before(w.next) {
		within, cancel := context.WithTimeout(s.life, aliveEvery) // all who watch wait for it
		defer cancel()
		text, state, err := s.livePart(within, id)
		wait := lookSeldom
		switch {
		case err == nil:
			if state == invitation.Running || state == invitation.Paused {
				wait = lookEvery
			}
			wait = max(wait, min(lookShare*time.Since(began), lookRarest))
			w.text, w.at = text, began
		case s.life.Err() == nil:
			s.log.Warn("look at a watched batch", "batch", id.batch, "error", err)
		}
		w.next = time.Now().Add(wait)
	}
	return w.text, w.at, w.next
}

// livePart is what changes of a batch: a part of its page, or its document.
func (s *Server) livePart(ctx context.Context, id watched) ([]byte, invitation.State, error) {
	if id.api {
		d, _, err := report.ReadDocument(ctx, s.pool, id.batch, s.cfg.Limits)
		if err != nil {
			return nil, "", err
		}
		text, err := json.Marshal(d)
		return text, d.State, err
	}
	b, err := batch.Batch(ctx, s.pool, id.batch)
	if err != nil {
		return nil, "", err
	}
	view := batchView{Batch: b}
	if view.Standing, err = s.standing(ctx, b); err != nil {
		return nil, "", err
	}
	var text bytes.Buffer
	if err := pages()["batch"].ExecuteTemplate(&text, "standing", view); err != nil {
		return nil, "", fmt.Errorf("write where batch %d stands: %w", b.ID, err)
	}
	return text.Bytes(), b.State, nil
}

// live streams where a batch stands, as server-sent events, until who watches is
// gone, is signed out, or the server stops: the page then connects again.
func (s *Server) live(w http.ResponseWriter, r *http.Request, who *visitor, b *invitation.Batch) error {
	send, err := s.watch(&exchange{w, r, who}, watched{batch: b.ID})
	if err == nil {
		send()
	}
	return err
}

// watch begins one of its user's live streams, which send then writes.
func (s *Server) watch(e *exchange, id watched) (send func(), err error) {
	end, err := s.lives.begin(e.w, e.who.Name)
	return func() {
		defer end()
		s.stream(e.w, e.r, id)
	}, err
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
		text, at, next := s.look(id, w)
		if at.After(since) && !bytes.Equal(text, shown) {
			shown = text
			if _, err := out.Write(eventText(text)); err != nil {
				return // who watched is gone
			}
		}
		extend(out, patience)
		if stream.Flush() != nil {
			return
		}
		select {
		case <-time.After(time.Until(next)):
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

// eventText writes a text as a server-sent event without a name, which htmx swaps in.
func eventText(text []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}
