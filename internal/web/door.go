package web

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"
)

// door lets users in by their passwords, and slows down who guesses.
type door struct {
	users   map[string]User
	unknown string // the hash for a name that is no user's
	tries   tries
	turns   chan struct{} // held while a password is hashed
}

// All together never hash on more than half of the machine; who finds no turn for
// five seconds is told so.
const turnTime = 5 * time.Second

func newDoor(users []User) *door {
	d := &door{users: map[string]User{}, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	d.tries.seed = maphash.MakeSeed()
	most := 0
	for _, u := range users {
		d.users[u.Name] = u
		if cost, err := bcrypt.Cost([]byte(u.Hash)); err == nil {
			most = max(most, cost)
		}
	}
	d.unknown = unknownUser(cmp.Or(most, hashCost))
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
	hash := d.unknown
	if known {
		hash = u.Hash
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return User{}, errWrongPassword
	}
	return u, nil
}

// tryLimit is how many tries count at once, and how long each takes to come back.
type tryLimit struct {
	atOnce int
	every  time.Duration
}

// The limits of tries. The one for a name from an address keeps a guesser from
// holding up the user whose name it is. The others bound what many addresses, or
// many names, come to; they are wide enough for an office behind one address.
var (
	perPair    = tryLimit{10, 10 * time.Second}
	perAddress = tryLimit{100, time.Second}
	perName    = tryLimit{100, 10 * time.Second}
	inTotal    = tryLimit{1000, 200 * time.Millisecond}
)

// trySlots is how many limiters each kind of limit has.
const trySlots = 1 << 12

// tries counts tries to sign in. Each address, name and pair of both has a slot by
// its hash, so that memory is bounded and no number of tries makes the server forget
// another one. Two that share a slot share its limit. The hash's seed is random: nobody
// can find a name that shares somebody's slot.
type tries struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots [4][trySlots]*rate.Limiter
}

// allow counts a try before anything is done for it, so that one that is aborted
// counts too. It reports false, and counts nothing, where one of the limits is
// reached.
func (t *tries) allow(from, name string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var limiters [4]*rate.Limiter
	for i, of := range [4]struct {
		key   string
		limit tryLimit
	}{{"", inTotal}, {from, perAddress}, {name, perName}, {from + "\x00" + name, perPair}} {
		slot := &t.slots[i][maphash.String(t.seed, of.key)%trySlots]
		if *slot == nil {
			*slot = rate.NewLimiter(rate.Every(of.limit.every), of.limit.atOnce)
		}
		limiters[i] = *slot
		if limiters[i].TokensAt(now) < 1 {
			return false
		}
	}
	for _, l := range limiters {
		l.AllowN(now, 1)
	}
	return true
}

// from returns where a request comes from: an address, or for IPv6 the /64 network,
// which one customer has. Each proxy appends the address that it was asked from to
// X-Forwarded-For. So the header is read from its end, for as long as it is a trusted
// proxy that speaks; what stands before that, anybody may have written.
func (s *Server) from(r *http.Request) string {
	address, ok := hostAddress(r.RemoteAddr)
	if !ok {
		return r.RemoteAddr
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for len(forwarded) > 0 && s.trusts(address) {
		last := len(forwarded) - 1
		before, ok := hostAddress(strings.TrimSpace(forwarded[last]))
		if !ok {
			break
		}
		address, forwarded = before, forwarded[:last]
	}
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address.String()
}

func (s *Server) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// hostAddress reads an address that may have a port.
func hostAddress(text string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	address, err := netip.ParseAddr(text)
	return address.Unmap().WithZone(""), err == nil
}
