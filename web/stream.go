package web

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// How many answers a user may be sent at a time by one server. A download holds a
// page of rows in memory, and no connection to the database; a live page holds
// neither, but its batch is looked at once a second.
const (
	maxDownloads = 4
	maxLive      = 32
	streamRetry  = 10 * time.Second // what a client that has too many is told to wait
)

// streams counts the answers that users are being sent, by the user's name.
type streams struct {
	mu   sync.Mutex
	open map[string]int
}

// begin counts one more for a user, unless they have that many already; end, which
// is to be called once, counts it off.
func (s *streams) begin(user string, most int) (end func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[user] >= most {
		return nil, false
	}
	if s.open == nil {
		s.open = map[string]int{}
	}
	s.open[user]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[user]--; s.open[user] == 0 {
			delete(s.open, user)
		}
	}, true
}

// beginDownload counts a download of a user, or refuses it with 429 and Retry-After.
func (s *Server) beginDownload(w http.ResponseWriter, who *visitor) (end func(), err error) {
	end, ok := s.downloads.begin(who.Name, maxDownloads)
	if !ok {
		return nil, tooMany(w, "Wait until one of them ends, or stop one.",
			"You have %d downloads under way, which is the most at a time.", maxDownloads)
	}
	return end, nil
}

// beginLive counts a live page of a user, or refuses it with 429 and Retry-After.
func (s *Server) beginLive(w http.ResponseWriter, who *visitor) (end func(), err error) {
	end, ok := s.lives.begin(who.Name, maxLive)
	if !ok {
		return nil, tooMany(w, "Close some of them.", "You watch %d batches already, which is the most at a time.", maxLive)
	}
	return end, nil
}

func tooMany(w http.ResponseWriter, remedy, format string, args ...any) error {
	w.Header().Set("Retry-After", strconv.Itoa(int(streamRetry.Seconds())))
	return refuse(http.StatusTooManyRequests, remedy, format, args...)
}
