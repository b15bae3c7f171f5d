package jobs

import (
	"sync"
	"time"
)

// skewAge is for how long a reading of Clerk's clock counts, at least; twice as long at most.
const skewAge = 10 * time.Minute

// skew is how far Postgres' clock is ahead of Clerk's, by the Date headers of
// Clerk's answers of the last minutes. Each says no more than that the offset lies
// within its round trip and a second; Clerk's machines may differ; and a clock may
// be set. So it is kept as the widest span that any recent answer allows.
type skew struct {
	mu          sync.Mutex
	since       time.Time // when now began
	now, before span
}

// span is from the least to the most that the offset can be.
type span struct {
	least, most time.Duration
	known       bool
}

func (s span) and(o span) span {
	switch {
	case !s.known:
		return o
	case !o.known:
		return s
	}
	return span{min(s.least, o.least), max(s.most, o.most), true}
}

// read takes up a Date header: of an answer that had come by a time of Postgres',
// took so long, and was read at a time of this process.
func (s *skew) read(date, ended time.Time, took time.Duration, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Sub(s.since) > skewAge {
		s.before = s.now
		if at.Sub(s.since) > 2*skewAge {
			s.before = span{}
		}
		s.since, s.now = at, span{}
	}
	most := ended.Sub(date)
	s.now = s.now.and(span{most - took - time.Second, most, true}) // Date has whole seconds, rounded down
}

// bounds returns the least and the most that Postgres' clock is ahead; zero before
// the first answer.
func (s *skew) bounds() (least, most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.now.and(s.before)
	return all.least, all.most
}
