// Package sandbox simulates Clerk's Backend API for invitations, with state. The demo, the tests
// and the rehearsal of a real file use it.
//
// It answers the calls that the program makes in Clerk's form, with Clerk's errors and limits. It
// keeps a mailbox that shows how many mails each address got. It breaks requests on demand (see
// [Fault]), and has a switch for each fact that Clerk does not document (see [Switches]).
//
// Clerk's calls are under /v1. The sandbox's own calls are under /sandbox and need no key and no
// budget:
//
//	GET    /sandbox/mailbox      mails by address; ?address=a@example.com for one
//	GET    /sandbox/stats        requests by call and status, and the most in any window
//	GET    /sandbox/requests     each request with its time; ?call=create for one call
//	GET    /sandbox/invitations  every invitation in its true state, without list lag
//	POST   /sandbox/invitations  a JSON list of addresses or [Seed] objects; no mail goes out
//	POST   /sandbox/users        the same, for users
//	POST   /sandbox/accept       {"addresses":[…]} or {"fraction":0.2,"seed":1}
//	GET    /sandbox/config       the limits, switches and lists in force
//	POST   /sandbox/config       changes the settings that the JSON object names
//	GET    /sandbox/faults       the faults in force
//	POST   /sandbox/faults       a JSON list of [Fault] objects replaces them
//	DELETE /sandbox/faults       clears them
//
// Invitations, users, mails and the times of requests are state: with a StateFile they survive a
// SIGKILL at any time. Limits, switches and faults are settings: each process starts with those of
// its Config.
//
// It may import loopback only, and shares no other code with package clerk. Start reading at [New];
// call.go answers Clerk's calls.
package sandbox

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Config says how a sandbox behaves. The zero Config works: state in memory only, Clerk's limits in
// sliding windows, any well-formed key.
type Config struct {
	// StateFile is the journal that keeps the state. Its directory must exist. The file contains
	// addresses and only grows. Empty means that the state is in memory only.
	StateFile string

	// Limits are the limits of each kind of call. A zero limit is Clerk's own.
	Limits Limits
	// WindowMode is "sliding" (the default) or "fixed".
	WindowMode string
	// Switches decides what Clerk's documentation leaves open.
	Switches Switches
	// Faults are the faults that the process starts with.
	Faults []Fault
	// Acceptance lets people accept their invitations after some time.
	Acceptance Acceptance
	// Blocked lists who may not be invited: addresses, or "*@" and a domain.
	Blocked []string

	// Environment is "production" or "development". If it is empty, the key of the request decides,
	// as at Clerk: sk_live_ means production, sk_test_ development.
	Environment string
	// InstanceID is the instance's id, which begins with ins_. The default is "ins_sandbox".
	InstanceID string
	// Key, if set, is the only valid key. Otherwise any key is valid that begins with sk_test_ or
	// sk_live_.
	Key string

	// Users and Invitations are addresses of users, and of people with a pending invitation, from
	// the start. SeedFile names a JSON file with more, in the form {"users":[…],"invitations":[…]}
	// with addresses or [Seed] objects. They are added only while the state is empty, so that a
	// restarted sandbox does not add them twice.
	Users, Invitations []string
	SeedFile           string

	// Now is the sandbox's clock. Several goroutines call it. The default is time.Now. The delays
	// of faults use the machine's clock in any case.
	Now func() time.Time
	// Log gets a debug line for each request, without addresses. Nil means no log.
	Log *slog.Logger
}

// Acceptance lets a share of the invited people accept after some time.
type Acceptance struct {
	// Fraction is the share of people who accept, 0 to 1. Only their address and the Seed decide
	// who accepts.
	Fraction float64 `json:"fraction"`
	// After is how long after the invitation they accept.
	After Duration `json:"after"`
	// Seed selects which people accept.
	Seed uint64 `json:"seed"`
}

// Server is a sandbox. Create one with [New].
type Server struct {
	now  func() time.Time
	log  *slog.Logger
	done chan struct{} // closed by Close, which ends all delays

	environment, instanceID, key string

	mu       sync.Mutex
	closed   bool
	settings settings
	faults   []*rule
	state    *state
	journal  *journal
}

// settings are what POST /sandbox/config can change.
type settings struct {
	Limits     Limits     `json:"limits"`
	WindowMode string     `json:"window_mode"`
	Switches   Switches   `json:"switches"`
	Acceptance Acceptance `json:"acceptance"`
	Blocked    []string   `json:"blocked"`
}

// New returns a sandbox with the state in its StateFile. It fails with [ErrInUse] if another
// process uses that file. It also fails for a file that is not a journal or is damaged before its
// last line.
func New(c Config) (*Server, error) {
	s := &Server{
		now:         c.Now,
		log:         c.Log,
		done:        make(chan struct{}),
		environment: c.Environment,
		instanceID:  cmp.Or(c.InstanceID, "ins_sandbox"),
		key:         c.Key,
		settings:    settings{c.Limits, c.WindowMode, c.Switches, c.Acceptance, c.Blocked},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	switch s.environment {
	case "", "production", "development":
	default:
		return nil, fmt.Errorf("sandbox: environment %q: want production or development", s.environment)
	}
	if rest, ok := strings.CutPrefix(s.instanceID, "ins_"); !ok || rest == "" {
		return nil, fmt.Errorf("sandbox: instance id %q: it must begin with ins_, as Clerk's do", s.instanceID)
	}
	if err := s.settings.check(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	var err error
	if s.faults, err = newRules(c.Faults); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	s.state = newState(&s.settings)
	if s.journal, err = openJournal(c.StateFile, s.state.apply); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if s.state.empty() {
		if err := s.plant(c); err != nil {
			return nil, errors.Join(fmt.Errorf("sandbox: %w", err), s.journal.close())
		}
	}
	return s, nil
}

// Close ends the delays of waiting requests, which then change nothing, and releases the state
// file. Later requests get no answer: their connections are closed.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.done)
	if err := s.journal.close(); err != nil {
		return fmt.Errorf("sandbox: close state: %w", err)
	}
	return nil
}

// Handler serves Clerk's calls under /v1 and the sandbox's own under /sandbox.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, c := range calls {
		mux.Handle(pattern, s.serve(c))
	}
	s.control(mux)
	return mux
}

// commit adds a fact to the state and to the journal's buffer. The next flush writes it to the
// file, before any answer that could show it.
func (s *Server) commit(r *record) {
	s.state.apply(r)
	s.journal.append(r)
}

// plant adds a Config's seeds to an empty state.
func (s *Server) plant(c Config) error {
	lists := seedLists{Users: addresses(c.Users), Invitations: addresses(c.Invitations)}
	if c.SeedFile != "" {
		data, err := os.ReadFile(c.SeedFile)
		if err != nil {
			return fmt.Errorf("read seeds: %w", err)
		}
		var more seedLists
		if err := strict(bytes.NewReader(data), &more); err != nil {
			return fmt.Errorf("read seeds: %s: %w", c.SeedFile, err)
		}
		lists.Users = append(lists.Users, more.Users...)
		lists.Invitations = append(lists.Invitations, more.Invitations...)
	}
	r, err := plant(lists, s.now())
	if err != nil || len(r.Users)+len(r.Invitations) == 0 {
		return err
	}
	s.commit(r)
	return s.journal.flush()
}
