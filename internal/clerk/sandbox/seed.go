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

// Seed is a user or an invitation that exists without a call. In JSON it may be just the address.
type Seed struct {
	// Email is the address.
	Email string `json:"email"`
	// CreatedAt is when it was created. If it is zero, Age decides.
	CreatedAt time.Time `json:"created_at"`
	// Age is how long before now it was created.
	Age Duration `json:"age"`
	// ExpiresInDays is an invitation's, 1 to 365. Zero means 30.
	ExpiresInDays int `json:"expires_in_days"`
	// Status is an invitation's: "pending", "accepted" or "revoked". Empty means "pending".
	Status string `json:"status"`
}

// seedLists is the content of a seed file.
type seedLists struct {
	Users       []Seed `json:"users"`
	Invitations []Seed `json:"invitations"`
}

// UnmarshalJSON decodes an object or an address.
func (s *Seed) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &s.Email)
	}
	type plain Seed
	return strict(bytes.NewReader(data), (*plain)(s))
}

// strict decodes one JSON value and refuses unknown fields.
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

// plant returns the record that adds seeds. A person who accepted an invitation is a user too.
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
