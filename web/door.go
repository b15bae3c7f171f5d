package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"
)

// door lets users in by their passwords, and slows down who guesses.
type door struct {
	users map[string]User
	tries tries
	turns chan struct{} // held while a password is hashed
}

// Ten tries for a name from an address at once, then one every ten seconds. All
// together never hash on more than half of the machine; who finds no turn for
// five seconds is told so.
const (
	triesAtOnce = 10
	tryEvery    = 10 * time.Second
	turnTime    = 5 * time.Second
)

func newDoor(users []User) *door {
	d := &door{users: map[string]User{}, tries: tries{all: map[[sha256.Size]byte]*rate.Limiter{}}, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	for _, u := range users {
		d.users[u.Name] = u
	}
	return d
}

var (
	errWrongPassword = errors.New("name and password do not belong together")
	errTooManyTries  = errors.New("too many tries")
	errNoTurn        = refuse(http.StatusServiceUnavailable, "Try again in a moment.", "Too many people sign in at once.")
)

// open returns the user whose password it is. from is where the try comes from.
func (d *door) open(ctx context.Context, from, name, password string, now time.Time) (User, error) {
	if !d.tries.allow(from, name, now) {
		return User{}, errTooManyTries
	}
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	select {
	case d.turns <- struct{}{}:
		defer func() { <-d.turns }()
	case <-ctx.Done():
		return User{}, errNoTurn
	}
	u, known := d.users[name]
	hash := nobody
	if known {
		hash = u.Hash
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return User{}, errWrongPassword
	}
	return u, nil
}

// tries counts tries by the address that they come from and the name that they
// are for: whoever guesses holds up nobody else, not even the user whose name it
// is.
type tries struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*rate.Limiter
}

// triesKept is of how many addresses and names tries are kept at most.
const triesKept = 1 << 14

func (t *tries) allow(from, name string, now time.Time) bool {
	key := sha256.Sum256([]byte(from + "\x00" + name))
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.all[key]
	if l == nil {
		if len(t.all) >= triesKept {
			t.drop(now)
		}
		l = rate.NewLimiter(rate.Every(tryEvery), triesAtOnce)
		t.all[key] = l
	}
	return l.AllowN(now, 1)
}

// drop forgets those that have all their tries back and, where that is not half
// of all, others: memory does not grow with what is tried.
func (t *tries) drop(now time.Time) {
	for key, l := range t.all {
		if l.TokensAt(now) >= triesAtOnce {
			delete(t.all, key)
		}
	}
	for key := range t.all {
		if len(t.all) <= triesKept/2 {
			return
		}
		delete(t.all, key)
	}
}

// from is where a request comes from: an address, or for IPv6 the network that
// one customer has. Where the configured URL says that a proxy stands between,
// it is what that has put at the end of X-Forwarded-For.
func (s *Server) from(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if passed := r.Header.Values("X-Forwarded-For"); s.cfg.URL != nil && len(passed) > 0 {
		last := passed[len(passed)-1]
		host = strings.TrimSpace(last[strings.LastIndex(last, ",")+1:])
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if address = address.Unmap(); address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address.String()
}
