package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Seed is a user, or an invitation, that is there without a call having made
// it. In JSON it may be the address alone.
type Seed struct {
	Email string `json:"email"`
	// CreatedAt is when it was made; Age says the same counted back from now.
	// Neither: now.
	CreatedAt time.Time `json:"created_at"`
	Age       Duration  `json:"age"`
	// ExpiresInDays (default 30) and Status ("pending", the default,
	// "accepted" or "revoked") are an invitation's.
	ExpiresInDays int    `json:"expires_in_days"`
	Status        string `json:"status"`
}

// seedLists is what a seed file holds.
type seedLists struct {
	Users       []Seed `json:"users"`
	Invitations []Seed `json:"invitations"`
}

// UnmarshalJSON reads an object or an address.
func (s *Seed) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &s.Email)
	}
	type plain Seed
	return strict(bytes.NewReader(data), (*plain)(s))
}

// strict reads one JSON value and refuses fields that it does not know.
func strict(in io.Reader, into any) error {
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func addresses(list []string) []Seed {
	seeds := make([]Seed, len(list))
	for i, email := range list {
		seeds[i].Email = email
	}
	return seeds
}

func (s Seed) created(now time.Time) int64 {
	if !s.CreatedAt.IsZero() {
		return s.CreatedAt.UnixMilli()
	}
	return now.Add(-time.Duration(s.Age)).UnixMilli()
}

// plant is the record that plants seeds. Who accepted an invitation is a user.
func plant(lists seedLists, now time.Time) (*record, error) {
	r := &record{Op: opSeed, At: now.UnixNano()}
	for i, s := range lists.Users {
		if !validAddress(s.Email) {
			return nil, fmt.Errorf("seed: user %d: no e-mail address", i+1)
		}
		r.Users = append(r.Users, newUser(s.Email, s.created(now)))
	}
	for i, s := range lists.Invitations {
		in, err := s.invitation(now)
		if err != nil {
			return nil, fmt.Errorf("seed: invitation %d: %w", i+1, err)
		}
		r.Invitations = append(r.Invitations, in)
		if in.Status == accepted {
			r.Users = append(r.Users, newUser(in.Email, in.Changed))
		}
	}
	return r, nil
}

func (s Seed) invitation(now time.Time) (*invitation, error) {
	days := cmp.Or(s.ExpiresInDays, defaultDays)
	if !validAddress(s.Email) {
		return nil, errors.New("no e-mail address")
	}
	if days < 1 || days > maxDays {
		return nil, fmt.Errorf("expires_in_days %d: want 1 to %d", days, maxDays)
	}
	in := newInvitation(s.Email, s.created(now), days)
	switch s.Status {
	case "", pending:
	case accepted, revoked:
		in.Status, in.Changed = s.Status, in.Created
	default:
		return nil, fmt.Errorf("status %q: want pending, accepted or revoked", s.Status)
	}
	return in, nil
}
