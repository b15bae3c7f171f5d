package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

// control adds the sandbox's own calls. If one fails, the answer is a 400 with {"error":"…"}.
func (s *Server) control(mux *http.ServeMux) {
	for pattern, do := range map[string]func(*http.Request) (any, error){
		"GET /sandbox/mailbox":      s.mailbox,
		"GET /sandbox/stats":        s.stats,
		"GET /sandbox/requests":     s.requests,
		"GET /sandbox/invitations":  s.everyInvitation,
		"POST /sandbox/invitations": s.plantInvitations,
		"POST /sandbox/users":       s.plantUsers,
		"POST /sandbox/accept":      s.acceptNow,
		"GET /sandbox/config":       s.config,
		"POST /sandbox/config":      s.configure,
		"GET /sandbox/faults":       s.listFaults,
		"POST /sandbox/faults":      s.setFaults,
		"DELETE /sandbox/faults":    s.clearFaults,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			status := http.StatusOK
			body, err := s.locked(r, do)
			if err != nil {
				status, body = http.StatusBadRequest, map[string]string{"error": err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			if err := json.NewEncoder(w).Encode(body); err != nil {
				s.log.Debug("sandbox answer not delivered", "call", pattern, "error", err)
			}
		})
	}
}

// locked runs one of the sandbox's own calls. Acceptances that are due happen before it, and its
// changes are written to the file before it answers.
func (s *Server) locked(r *http.Request, do func(*http.Request) (any, error)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the sandbox is closed")
	}
	s.mature(s.now())
	body, err := do(r)
	if err != nil {
		return nil, err
	}
	return body, s.journal.flush()
}

func decode(r *http.Request, into any) error {
	if err := strict(r.Body, into); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

func (s *Server) mailbox(r *http.Request) (any, error) {
	box := struct {
		Mails     int            `json:"mails"`
		Addresses map[string]int `json:"addresses"`
		Doubled   []string       `json:"doubled"`
	}{Addresses: map[string]int{}, Doubled: []string{}}
	one := strings.ToLower(r.URL.Query().Get("address"))
	for address, n := range s.state.mails {
		if one != "" && address != one {
			continue
		}
		box.Mails += n
		box.Addresses[address] = n
		if n > 1 {
			box.Doubled = append(box.Doubled, address)
		}
	}
	slices.Sort(box.Doubled)
	return box, nil
}

// stats returns how many requests of each call got which status, and the highest number of requests
// that arrived in any window of each limit's length. "cut" counts closed connections. "open" counts
// requests without an answer so far, and those whose answer was lost in a crash.
func (s *Server) stats(*http.Request) (any, error) {
	requests := map[string]map[string]int{}
	for name, n := range s.state.arrivals {
		requests[name] = map[string]int{}
		for status, answered := range s.state.answers[name] {
			requests[name][status] = answered
			n -= answered
		}
		if n > 0 {
			requests[name]["open"] = n
		}
	}
	type most struct {
		Limit    Limit    `json:"limit"`
		Window   Duration `json:"window"`
		Requests int      `json:"requests"`
	}
	largest := map[bucket]most{}
	for _, b := range buckets {
		limit := s.settings.Limits.of(b, s.environment)
		largest[b] = most{limit, Duration(limit.Window), s.state.meters[b].most}
	}
	return map[string]any{"requests": requests, "largest": largest, "invitations": len(s.state.invitations), "users": len(s.state.users)}, nil
}

func (s *Server) requests(r *http.Request) (any, error) {
	name := r.URL.Query().Get("call")
	list := []entry{}
	for _, e := range s.state.log {
		if name == "" || e.Call == name {
			list = append(list, *e)
		}
	}
	return list, nil
}

// everyInvitation returns the true state without lag, limit or pages, oldest first.
func (s *Server) everyInvitation(*http.Request) (any, error) {
	type body struct {
		ID        string    `json:"id"`
		Email     string    `json:"email"`
		Status    string    `json:"status"`
		Mailed    bool      `json:"mailed"`
		CreatedAt time.Time `json:"created_at"`

		Metadata json.RawMessage `json:"public_metadata,omitempty"`
	}
	s.state.sort()
	list := []body{}
	for _, in := range s.state.invitations {
		list = append(list, body{in.ID, in.Email, in.statusAt(s.now().UnixMilli(), 0), in.Mailed, time.UnixMilli(in.Created).UTC(), in.Metadata})
	}
	return list, nil
}

func (s *Server) plantUsers(r *http.Request) (any, error) {
	var lists seedLists
	if err := decode(r, &lists.Users); err != nil {
		return nil, err
	}
	return s.plantLists(lists)
}

func (s *Server) plantInvitations(r *http.Request) (any, error) {
	var lists seedLists
	if err := decode(r, &lists.Invitations); err != nil {
		return nil, err
	}
	return s.plantLists(lists)
}

func (s *Server) plantLists(lists seedLists) (any, error) {
	record, err := plant(lists, s.now())
	if err != nil {
		return nil, err
	}
	s.commit(record)
	return map[string]int{"users": len(record.Users), "invitations": len(record.Invitations)}, nil
}

// acceptNow accepts the pending invitations of the given addresses, or a share of all pending ones
// that the seed selects.
func (s *Server) acceptNow(r *http.Request) (any, error) {
	var ask struct {
		Addresses []string `json:"addresses"`
		Fraction  float64  `json:"fraction"`
		Seed      uint64   `json:"seed"`
	}
	if err := decode(r, &ask); err != nil {
		return nil, err
	}
	if ask.Fraction < 0 || ask.Fraction > 1 {
		return nil, fmt.Errorf("fraction %v: want 0 to 1", ask.Fraction)
	}
	s.state.sort()
	ms := s.now().UnixMilli()
	var chosen []*invitation
	for _, address := range ask.Addresses {
		for _, in := range s.state.byKey[strings.ToLower(address)] {
			if s.state.same(in.Email, address) && in.statusAt(ms, 0) == pending {
				chosen = append(chosen, in)
			}
		}
	}
	if ask.Fraction > 0 {
		chosen = append(chosen, s.share(ask.Fraction, ask.Seed, ms)...)
	}
	if len(chosen) > 0 {
		s.accept(chosen, ms)
	}
	return map[string]int{"accepted": len(chosen)}, nil
}

func (s *Server) share(fraction float64, seed uint64, ms int64) []*invitation {
	var open []*invitation
	for _, in := range s.state.invitations {
		if in.statusAt(ms, 0) == pending {
			open = append(open, in)
		}
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	return open[:int(math.Round(fraction*float64(len(open))))]
}

func (s *Server) config(*http.Request) (any, error) { return s.settings, nil }

// configure changes the settings that the request names. Then the windows are counted again from
// the log with the new settings.
func (s *Server) configure(r *http.Request) (any, error) {
	changed := s.settings
	changed.Blocked = slices.Clone(changed.Blocked)
	if err := decode(r, &changed); err != nil {
		return nil, err
	}
	if err := changed.check(); err != nil {
		return nil, err
	}
	s.settings = changed
	s.state.measure()
	return s.settings, nil
}

func (s *Server) listFaults(*http.Request) (any, error) {
	faults := make([]Fault, len(s.faults))
	for i, r := range s.faults {
		faults[i] = r.Fault
	}
	return faults, nil
}

func (s *Server) setFaults(r *http.Request) (any, error) {
	var faults []Fault
	if err := decode(r, &faults); err != nil {
		return nil, err
	}
	rules, err := newRules(faults)
	if err != nil {
		return nil, err
	}
	s.faults = rules
	return s.listFaults(r)
}

func (s *Server) clearFaults(r *http.Request) (any, error) {
	s.faults = nil
	return s.listFaults(r)
}
