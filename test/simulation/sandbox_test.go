package simulation

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// standing chooses how long a worker stands still: shorter than its leases, longer than them, or so
// long that others settle its open attempts by reading.
func standing(dice *rand.Rand) time.Duration {
	switch settled := requestTimeout + settleTime; dice.IntN(3) {
	case 0:
		return between(dice, second, 5*second)
	case 1:
		return between(dice, 5*second, 2*recoverAfter)
	default:
		return between(dice, settled+3*second, 2*settled+6*second)
	}
}

// made is an invitation as the sandbox has it.
type made struct {
	ID     string
	Email  string
	Status string
	Mailed bool
}

// door counts a person's mails and usable invitations at the sandbox.
type door struct {
	mails   int
	pending int // our invitations that are pending or accepted
}

// control calls one of the sandbox's own endpoints.
func (r *run) control(method, path, body string, into any) {
	w := httptest.NewRecorder()
	r.sandbox.Handler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if w.Code != http.StatusOK {
		r.wrong("the sandbox answers %s %s with %d: %s", method, path, w.Code, w.Body)
		return
	}
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			r.wrong("the sandbox' answer can't be read: %v", err)
		}
	}
}

// invitations returns all invitations at the sandbox.
func (r *run) invitations() (all []made) {
	r.control("GET", "/sandbox/invitations", "", &all)
	return all
}

// mails returns the number of mails by address.
func (r *run) mails() map[string]int {
	var box struct{ Addresses map[string]int }
	r.control("GET", "/sandbox/mailbox", "", &box)
	return box.Addresses
}

// stands returns the mails and usable invitations of some people.
func (r *run) stands(emails []string) map[string]door {
	s := map[string]door{}
	mails := r.mails()
	for _, email := range emails {
		s[email] = door{mails: mails[email]}
	}
	for _, m := range r.invitations() {
		if one, ok := s[m.Email]; ok && m.Mailed && (m.Status == "pending" || m.Status == "accepted") {
			one.pending++
			s[m.Email] = one
		}
	}
	return s
}

// mailed checks that a request mailed nobody twice, and nobody who had a usable invitation of ours.
func (r *run) mailed(q *request, before map[string]door) {
	for email, after := range r.stands(q.emails) {
		switch was := before[email]; {
		case after.mails == was.mails:
		case after.mails > was.mails+1:
			r.wrong("attempt %d mailed somebody twice", q.ledger.attempt)
		case was.pending > 0:
			r.wrong("attempt %d mailed somebody whose invitation of ours stands (%s)", q.ledger.attempt, email)
		case was.mails > 0:
			r.rare.count("somebody was mailed again, after their invitation was revoked")
		}
	}
}
