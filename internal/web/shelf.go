package web

import (
	"context"
	"fmt"
	"sync"
	"time"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/report"
)

// shelf keeps what is dear to count. What is small is counted each time that
// somebody asks; of what is large the last count is given, and counted anew in the
// background once that costs no more than a hundredth of the time since: counting a
// batch of a million rows takes a hundredth of a core, however many ask.
type shelf[V any] struct {
	mu  sync.Mutex
	all map[int64]*kept[V]
}

// counting counts something, and says of how many rows it is.
type counting[V any] func(context.Context) (value V, rows int, err error)

// largeFrom is how many rows are too many to be counted each time.
const largeFrom = 5000

// kept is a count, and what it is of: with another stamp it is of something else.
type kept[V any] struct {
	value  V
	stamp  string
	at     time.Time
	cost   time.Duration
	anew   bool // it is being counted
	looked time.Time
}

// shelfLife is how long a count is kept that nobody asks for.
const shelfLife = time.Hour

// get returns what count does, or has done lately for the same stamp.
func (h *shelf[V]) get(ctx context.Context, s *Server, id int64, stamp string, count counting[V]) (V, error) {
	h.mu.Lock()
	k := h.all[id]
	if k == nil || k.stamp != stamp {
		h.mu.Unlock()
		return h.fill(ctx, id, stamp, count)
	}
	defer h.mu.Unlock()
	k.looked = time.Now()
	if !k.anew && time.Since(k.at) > lookShare*k.cost {
		k.anew = true
		s.work.Go(func() {
			if _, err := h.fill(s.life, id, stamp, count); err != nil && s.life.Err() == nil {
				s.log.Warn("count again", "id", id, "error", err)
			}
		})
	}
	return k.value, nil
}

// fill counts, and keeps what comes of it if it is large.
func (h *shelf[V]) fill(ctx context.Context, id int64, stamp string, count counting[V]) (V, error) {
	began := time.Now()
	value, rows, err := count(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if k := h.all[id]; k != nil {
			k.anew = false
		}
		return value, err
	}
	for other, k := range h.all {
		if time.Since(k.looked) > shelfLife {
			delete(h.all, other)
		}
	}
	if rows < largeFrom {
		delete(h.all, id)
		return value, nil
	}
	if h.all == nil {
		h.all = map[int64]*kept[V]{}
	}
	h.all[id] = &kept[V]{value: value, stamp: stamp, at: time.Now(), cost: time.Since(began), looked: time.Now()}
	return value, nil
}

// forget drops what is kept of a batch.
func (h *shelf[V]) forget(id int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, id)
}

// warm counts the large batches of the list's first page, so that whoever asks for
// it first does not wait for that.
func (s *Server) warm() {
	if _, err := s.batchLines(s.life, 0, pageRows+1); err != nil && s.life.Err() == nil {
		s.log.Warn("count the batches", "error", err)
	}
}

// tally counts the rows of a batch, or gives a count of them that is not old.
func (s *Server) tally(ctx context.Context, id int64, state invitation.State, finished *time.Time) (invitation.Tally, error) {
	stamp := fmt.Sprint(state, finished != nil && !finished.IsZero())
	return s.tallies.get(ctx, s, id, stamp, func(ctx context.Context) (invitation.Tally, int, error) {
		t, err := report.Tally(ctx, s.pool, id)
		return t, t.Rows(), err
	})
}

// keptDocument is a document of a batch, and when its rows were counted.
type keptDocument struct {
	report.Document
	at time.Time
}

// document says where a batch stands, with a count of its rows that is not old. Its
// state is always that of now.
func (s *Server) document(ctx context.Context, id int64) (keptDocument, error) {
	b, err := batch.Batch(ctx, s.pool, id)
	if err != nil {
		return keptDocument{}, err
	}
	stamp := fmt.Sprint(b.State, b.Reason, b.PausedBy, b.FinishedAt)
	return s.documents.get(ctx, s, id, stamp, func(ctx context.Context) (keptDocument, int, error) {
		at := s.now()
		d, _, err := report.ReadDocument(ctx, s.pool, id, s.cfg.Limits)
		if err != nil {
			return keptDocument{}, 0, err
		}
		return keptDocument{*d, at}, d.Rows, nil
	})
}

// loads counts who waits in the running batches of an instance, in the same way.
func (s *Server) loads(ctx context.Context, instance int64) ([]invitation.Load, error) {
	running, err := report.RunningBatches(ctx, s.pool, instance)
	if err != nil {
		return nil, err
	}
	count := func(ctx context.Context) (all []invitation.Load, people int, err error) {
		all, err = report.Loads(ctx, s.pool, instance)
		for _, l := range all {
			people += l.People
		}
		return all, people, err
	}
	return s.waiting.get(ctx, s, instance, fmt.Sprint(running), count)
}
