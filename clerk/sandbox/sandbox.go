// Package sandbox is a stateful stand-in for Clerk's Backend API for
// invitations: the demo, the tests and the rehearsal of a real file run
// against it.
//
// It answers the calls that the program makes with Clerk's shapes, errors and
// limits, keeps a mailbox that tells how many mails each address got, breaks
// on demand (see [Fault]), and has a switch for each thing that Clerk does not
// document (see [Switches]).
//
// Calls of Clerk stand under /v1; the stand-in's own calls, which need no key
// and no budget, under /sandbox:
//
//	GET    /sandbox/mailbox      mails by address; ?address=a@example.com for one
//	GET    /sandbox/stats        requests by call and status, and the most in any window
//	GET    /sandbox/requests     each request with its time; ?call=create for one call
//	GET    /sandbox/invitations  every invitation as it stands, list lag or not
//	POST   /sandbox/invitations  a JSON list of addresses or [Seed] objects; no mail goes out
//	POST   /sandbox/users        the same, for users
//	POST   /sandbox/accept       {"addresses":[…]} or {"fraction":0.2,"seed":1}
//	GET    /sandbox/config       the limits, switches and lists in force
//	POST   /sandbox/config       changes those that the JSON object names
//	GET    /sandbox/faults       the faults in force
//	POST   /sandbox/faults       a JSON list of [Fault] objects replaces them
//	DELETE /sandbox/faults       clears them
//
// Invitations, users, mails and the times of requests are state: with a
// StateFile they outlive kill -9 at any time. Limits, switches and faults are
// settings: each process begins with those of its Config.
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

// Config says how a stand-in behaves. The zero Config works: memory only,
// Clerk's limits in sliding windows, any well-formed key.
type Config struct {
	// StateFile is the journal that the state is kept in, in a directory that
	// is there; the file holds the addresses, and only grows. Empty: memory
	// only.
	StateFile string

	// Limits are the limits of each kind of call; a zero one is Clerk's own.
	Limits Limits
	// WindowMode is "sliding" (the default) or "fixed".
	WindowMode string
	// Switches settles what Clerk leaves open.
	Switches Switches
	// Faults are the faults that the process begins with.
	Faults []Fault
	// Acceptance lets people accept their invitations as time goes by.
	Acceptance Acceptance
	// Blocked lists what may not be invited: an address, or "*@" and a domain.
	Blocked []string

	// Environment is "production", "development", or empty: by the key of the
	// request, as at Clerk (sk_live_ production, sk_test_ development).
	Environment string
	// InstanceID is the instance's id, which begins with ins_; default "ins_sandbox".
	InstanceID string
	// Key, if set, is the only key taken. Otherwise any that begins with
	// sk_test_ or sk_live_ is.
	Key string

	// Users and Invitations are addresses that are users, or have a pending
	// invitation, from the start; SeedFile names a JSON file with more, in the
	// form {"users":[…],"invitations":[…]} of addresses or [Seed] objects.
	// They are planted only while the state is empty, so that a stand-in that
	// is started again does not plant them twice.
	Users, Invitations []string
	SeedFile           string

	// Now is the stand-in's clock, asked by several goroutines at once; default
	// time.Now. The delays of faults run on the machine's clock all the same.
	Now func() time.Time
	// Log gets a debug line for each request, without addresses; default none.
	Log *slog.Logger
}

// Acceptance lets a share of the invited people accept after a while.
type Acceptance struct {
	// Fraction is the share of people who accept, 0 to 1. Who they are depends
	// on their address and the Seed alone.
	Fraction float64 `json:"fraction"`
	// After is how long after the invitation they do.
	After Duration `json:"after"`
	Seed  uint64   `json:"seed"`
}

// Server is a stand-in for Clerk. Make one with [New].
type Server struct {
	now  func() time.Time
	log  *slog.Logger
	done chan struct{} // closed by Close: delays end

	environment, instanceID, key string

	mu       sync.Mutex
	closed   bool
	settings settings
	faults   []*rule
	state    *state
	journal  *journal
}

// settings are what POST /sandbox/config may change.
type settings struct {
	Limits     Limits     `json:"limits"`
	WindowMode string     `json:"window_mode"`
	Switches   Switches   `json:"switches"`
	Acceptance Acceptance `json:"acceptance"`
	Blocked    []string   `json:"blocked"`
}

// New makes a stand-in, taking up the state that its StateFile holds. It fails
// with [ErrInUse] where another process has that file, and for a file that is
// no journal or is damaged before its end.
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

// Close ends the delays of requests that still wait, which then change
// nothing, and gives the state file back. Requests that come later are cut.
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

// Handler serves Clerk's calls under /v1 and the stand-in's own under
// /sandbox.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, c := range calls {
		mux.Handle(pattern, s.serve(c))
	}
	s.control(mux)
	return mux
}

// commit takes a fact into the state and the journal's buffer. It is on disk
// after the next flush, which comes before any answer that could show it.
func (s *Server) commit(r *record) {
	s.state.apply(r)
	s.journal.append(r)
}

// plant puts a Config's seeds into an empty state.
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
