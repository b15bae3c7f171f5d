package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"bulkinvite/internal/must"
)

// signIn tries a name and a password, with what proxies have put into
// X-Forwarded-For.
func (b *bench) signIn(forwarded, name, word string) answer {
	b.t.Helper()
	w := b.browser()
	form := url.Values{"name": {name}, "password": {word}}
	r := w.request(http.MethodPost, "/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-For", forwarded)
	return w.do(r)
}

// TestTriesAreLimited: who guesses is slowed down, and nobody else is: not
// another name, nor the same name from elsewhere.
func TestTriesAreLimited(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	try := func(from, name, word string) answer {
		t.Helper()
		return b.signIn("203.0.113.9, "+from, name, word) // the proxy's own word is the last
	}
	for i := range perPair.atOnce {
		try(fmt.Sprintf("2001:db8::%d", i), "olga", "guess").want(http.StatusUnauthorized)
	}
	// Now the right one is refused too: else a guess would be told from a wrong one.
	a := try("2001:db8::ffff", "olga", password).want(http.StatusTooManyRequests).says("Too many tries")
	if a.header.Get("Retry-After") != "10" {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	try("2001:db8::1", "alex", password).want(http.StatusSeeOther)
	try("192.0.2.1", "olga", password).want(http.StatusSeeOther)
	b.now = b.now.Add(perPair.every)
	try("2001:db8::1", "olga", password).want(http.StatusSeeOther)
}

// TestForwardedForIsNotBelieved: what a client says of where it comes from gives
// it no tries, whether or not browsers reach the server by another URL.
func TestForwardedForIsNotBelieved(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.URL = &url.URL{Scheme: "http", Host: "invite.test"} })
	for i := range 10 {
		b.signIn(fmt.Sprintf("192.0.2.%d", i), "olga", "guess").want(http.StatusUnauthorized)
	}
	b.signIn("192.0.2.10", "olga", "guess").want(http.StatusTooManyRequests)
}

// TestFrom: X-Forwarded-For is read from its end, as long as it is a trusted proxy
// that says so.
func TestFrom(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"10.0.0.1:80", nil, "10.0.0.1"},
		{"10.0.0.1:80", []string{"192.0.2.1"}, "192.0.2.1"},
		{"[::ffff:10.0.0.1]:80", []string{"192.0.2.1"}, "192.0.2.1"},
		{"[fd00::1]:80", []string{"2001:db8:1:2::3"}, "2001:db8:1:2::/64"},
		{"192.0.2.9:80", []string{"192.0.2.1"}, "192.0.2.9"},                     // no trusted proxy
		{"10.0.0.1:80", []string{"203.0.113.1, 192.0.2.1"}, "192.0.2.1"},         // the client's own word before it
		{"10.0.0.1:80", []string{"203.0.113.1", "192.0.2.1"}, "192.0.2.1"},       // the same, in two headers
		{"10.0.0.1:80", []string{"192.0.2.1, 10.0.0.2,10.0.0.3"}, "192.0.2.1"},   // several proxies
		{"10.0.0.1:80", []string{"192.0.2.1, 192.0.2.2, 10.0.0.3"}, "192.0.2.2"}, // one of them not trusted
		{"10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},              // from within
		{"10.0.0.1:80", []string{"192.0.2.1:4711"}, "192.0.2.1"},                 // some write the port
		{"10.0.0.1:80", []string{"[2001:db8:1:2::3]:4711"}, "2001:db8:1:2::/64"}, //
		{"10.0.0.1:80", []string{"192.0.2.1, unknown"}, "10.0.0.1"},              // no address: the proxy itself
		{"10.0.0.1:80", []string{""}, "10.0.0.1"},                                //
		{"10.0.0.1:80", []string{"fe80::1%eth0"}, "fe80::/64"},                   //
		{"@", []string{"192.0.2.1"}, "@"},                                        // a Unix socket
	} {
		r := httptest.NewRequest(http.MethodPost, "/login", nil)
		r.RemoteAddr = c.remote
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := s.from(r); got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

// guess tries a name with a request that is aborted at once, and reports whether
// it counted as a try: no turn was left for it, and none is taken.
func guess(t *testing.T, d *door, from, name string, now time.Time) bool {
	t.Helper()
	ctx, abort := context.WithCancel(t.Context())
	abort()
	_, err := d.open(ctx, from, name, "guess", now)
	if !errors.Is(err, errNoTurn) && !errors.Is(err, errTooManyTries) {
		t.Fatal(err)
	}
	return errors.Is(err, errNoTurn)
}

// busyDoor is a door without a turn to hash.
func busyDoor() *door {
	d := newDoor(users)
	for range cap(d.turns) {
		d.turns <- struct{}{}
	}
	return d
}

// TestTriesAreNotFlushed: whoever has used up their tries gets none back by trying
// other names, from wherever.
func TestTriesAreNotFlushed(t *testing.T) {
	t.Parallel()
	d, now := busyDoor(), time.Now()
	for guess(t, d, "192.0.2.1", "olga", now) {
	}
	for i := range 40_000 {
		guess(t, d, fmt.Sprintf("198.51.%d.%d", i%100, i/100), fmt.Sprint(i), now)
		guess(t, d, "192.0.2.1", fmt.Sprint(i), now)
	}
	if guess(t, d, "192.0.2.1", "olga", now) {
		t.Error("the tries came back")
	}
}

// guesses returns how many tries of a thousand and more count at one moment.
func guesses(t *testing.T, d *door, now time.Time, from, name func(i int) string) int {
	t.Helper()
	n := 0
	for i := range 3000 {
		if guess(t, d, from(i), name(i), now) {
			n++
		}
	}
	return n
}

// TestTriesAreLimitedTogether: for a name from many addresses, from an address for
// many names, and in total.
func TestTriesAreLimitedTogether(t *testing.T) {
	t.Parallel()
	one := func(text string) func(int) string { return func(int) string { return text } }
	many := func(i int) string { return fmt.Sprintf("198.51.%d.%d", i%100, i/100) }
	for name, c := range map[string]struct {
		from, name func(int) string
		limit      tryLimit
	}{
		"a name": {many, one("olga"), perName}, "an address": {one("192.0.2.1"), many, perAddress}, "in total": {many, many, inTotal},
	} {
		d, now := busyDoor(), time.Now()
		// Names and addresses share slots by chance: a few tries may meet a slot that is used up.
		if n := guesses(t, d, now, c.from, c.name); n > c.limit.atOnce || n < c.limit.atOnce*9/10 {
			t.Errorf("%s: %d tries count, of %d", name, n, c.limit.atOnce)
		}
		if n := guesses(t, d, now.Add(5*c.limit.every), c.from, c.name); n > 5 || n < 4 {
			t.Errorf("%s: %d tries came back, want 5", name, n)
		}
	}
	// Others still sign in, where it is not all together that is too much.
	d, now := busyDoor(), time.Now()
	guesses(t, d, now, one("192.0.2.1"), many)
	if !guess(t, d, "192.0.2.2", "olga", now) {
		t.Error("an address holds up another")
	}
}

// TestUnknownUser: a name that nobody has takes as long to refuse as the slowest user's.
func TestUnknownUser(t *testing.T) {
	t.Parallel()
	for want, costs := range map[int][]int{hashCost: nil, 4: {4}, 6: {4, 6, 5}} {
		var users []User
		for i, cost := range costs {
			u, err := newUser(fmt.Sprintf("user%d", i), Operator, password, cost)
			must.OK(t, err)
			users = append(users, u)
		}
		hash := []byte(newDoor(users).unknown)
		if cost, err := bcrypt.Cost(hash); err != nil || cost != want {
			t.Errorf("users of costs %v: an unknown name costs %d (%v), want %d", costs, cost, err, want)
		}
		if want < hashCost {
			if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
				t.Errorf("comparing with it ends with %v", err)
			}
		}
	}
}
