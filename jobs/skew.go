package jobs

import (
	"sync"
	"time"
)

// skewAge is how long a reading of Clerk's clock counts at least. It counts for twice as long at
// most.
const skewAge = 10 * time.Minute

// skew is how far PostgreSQL's clock is ahead of Clerk's, by the Date headers of Clerk's recent
// answers. Each answer says only that the offset is within its round trip and one second. Clerk's
// machines may differ, and a clock may be set. So skew keeps the widest span that any recent answer
// allows.
type skew struct {
	mu          sync.Mutex
	since       time.Time // when now began
	now, before span
}

// span is the range of the offset, from the least to the most.
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

// read adds the Date header of an answer. ended is PostgreSQL's time after the answer came, took is
// the duration of the request, and at is this process's time of the reading.
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

// bounds returns how far PostgreSQL's clock is ahead at least and at most. Both are zero before the
// first answer.
func (s *skew) bounds() (least, most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.now.and(s.before)
	return all.least, all.most
}
