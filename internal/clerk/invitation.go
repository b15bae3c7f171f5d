package clerk

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	sdk "github.com/clerk/clerk-sdk-go/v2"
)

// Link is an invitation's url: a sign-up ticket, which is a secret. It prints as [link] everywhere.
// Only Reveal returns the link itself.
type Link string

// String returns [link], or nothing for an empty link.
func (l Link) String() string {
	if l == "" {
		return ""
	}
	return "[link]"
}

// GoString returns what String returns.
func (l Link) GoString() string { return l.String() }

// MarshalText keeps the link out of logs and JSON.
func (l Link) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Reveal returns the link itself.
func (l Link) Reveal() string { return string(l) }

// Invitation is an application invitation as Clerk shows it.
type Invitation struct {
	ID    string // inv_…
	Email string // as Clerk writes it, which may differ from the request
	// Status is pending, accepted, revoked or expired.
	Status string
	// Revoked is Clerk's revoked flag, which is separate from Status.
	Revoked bool
	// CreatedAt and UpdatedAt are on Clerk's clock, in milliseconds, UTC. Zero means not told.
	CreatedAt, UpdatedAt time.Time
	// ExpiresAt is zero if the invitation does not expire.
	ExpiresAt time.Time
	// Link is set only for an invitation that was just created without a mail. For all others it is
	// dropped while the answer is read.
	Link Link
}

// User is a user of the instance.
type User struct {
	ID string // user_…
	// Emails are the user's addresses, as Clerk writes them.
	Emails []string
}

var (
	// errShape says that a body is JSON, but not of the kind that was asked for.
	errShape = errors.New("not the answer that was asked for")
	errEmpty = errors.New("an empty body")
)

// unread is the common part of the readers below. The SDK does not call a reader if the body is
// empty, so each must report whether it has seen a body.
type unread struct {
	done bool
}

// Read implements the SDK's ResponseReader. It does not keep the response, which contains the
// invitations' urls.
func (*unread) Read(*sdk.APIResponse) {}

func (u *unread) complete() bool { return u.done }

// reader decodes the body of a success.
type reader interface {
	sdk.ResponseReader
	json.Unmarshaler
	complete() bool
}

type invitationReader struct {
	unread
	one   bool // a single invitation is expected, with this id unless id is empty
	id    string
	links bool // keep the links
	list  []Invitation
	// total is -1 if Clerk sent a bare array.
	total int
}

func (r *invitationReader) UnmarshalJSON(body []byte) error {
	items := []*wireInvitation{}
	if r.one {
		items = append(items, nil)
		if err := json.Unmarshal(body, &items[0]); err != nil {
			return err
		}
	} else {
		var err error
		if items, r.total, err = page[wireInvitation](body); err != nil {
			return err
		}
	}
	r.list = make([]Invitation, 0, len(items))
	for _, item := range items {
		// An item that can't be read may be the one that is looked for. Without it the answer would
		// seem to prove that an invitation does not exist.
		if item == nil || token(item.ID) == "" || r.id != "" && item.ID != r.id {
			return errShape
		}
		made := item.invitation()
		if r.links {
			made.Link = Link(item.URL)
		}
		r.list = append(r.list, made)
	}
	r.done = true
	return nil
}

type wireInvitation struct {
	ID           string `json:"id"`
	EmailAddress string `json:"email_address"`
	Revoked      bool   `json:"revoked"`
	Status       string `json:"status"`
	CreatedAt    int64  `json:"created_at"`
	UpdatedAt    int64  `json:"updated_at"`
	ExpiresAt    int64  `json:"expires_at"`
	URL          string `json:"url"`
}

func (w *wireInvitation) invitation() Invitation {
	return Invitation{
		ID: w.ID, Email: w.EmailAddress, Status: token(w.Status), Revoked: w.Revoked,
		CreatedAt: milliseconds(w.CreatedAt), UpdatedAt: milliseconds(w.UpdatedAt), ExpiresAt: milliseconds(w.ExpiresAt),
	}
}

func milliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

type userReader struct {
	unread
	list []User
}

func (r *userReader) UnmarshalJSON(body []byte) error {
	type wireUser struct {
		ID             string `json:"id"`
		EmailAddresses []struct {
			EmailAddress string `json:"email_address"`
		} `json:"email_addresses"`
	}
	items, _, err := page[wireUser](body)
	if err != nil {
		return err
	}
	r.list = make([]User, 0, len(items))
	for _, item := range items {
		if item == nil || token(item.ID) == "" {
			return errShape
		}
		user := User{ID: item.ID}
		for _, e := range item.EmailAddresses {
			user.Emails = append(user.Emails, e.EmailAddress)
		}
		r.list = append(r.list, user)
	}
	r.done = true
	return nil
}

type instanceReader struct {
	unread
	ID          string
	Environment string
}

func (r *instanceReader) UnmarshalJSON(body []byte) error {
	var wire struct {
		ID          string `json:"id"`
		Environment string `json:"environment_type"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return err
	}
	rest, ok := strings.CutPrefix(token(wire.ID), "ins_")
	if !ok || rest == "" || wire.Environment != "production" && wire.Environment != "development" {
		return errShape
	}
	r.ID, r.Environment = wire.ID, wire.Environment
	r.done = true
	return nil
}

// page decodes a list in both forms that the API uses: a bare array, whose total is -1, or an object
// with data and total_count.
func page[T any](body []byte) ([]*T, int, error) {
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		var items []*T
		err := json.Unmarshal(body, &items)
		return items, -1, err
	}
	var wire struct {
		Data  []*T `json:"data"`
		Total *int `json:"total_count"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return nil, 0, err
	}
	// No data with a total of zero is an empty list. Anything else is not a list.
	if wire.Total == nil || wire.Data == nil && *wire.Total != 0 {
		return nil, 0, errShape
	}
	return wire.Data, *wire.Total, nil
}

// wireRefusal is the body of an error. Its messages are not decoded, because they may contain
// addresses.
type wireRefusal struct {
	Errors  []wireError `json:"errors"`
	TraceID string      `json:"clerk_trace_id"`
}

type wireError struct {
	Code string `json:"code"`
	Meta struct {
		EmailAddresses words `json:"email_addresses"`
		Identifiers    words `json:"identifiers"`
		Param          words `json:"param_name"`
	} `json:"meta"`
}

// names returns the addresses that an error is about.
func (e wireError) names() []string { return slices.Concat(e.Meta.EmailAddresses, e.Meta.Identifiers) }

// parseRefusal returns a refusal without errors for JSON of another shape.
func parseRefusal(body []byte) (wireRefusal, error) {
	if !json.Valid(body) {
		return wireRefusal{}, errShape
	}
	var r wireRefusal
	if err := json.Unmarshal(body, &r); err != nil {
		return wireRefusal{}, nil
	}
	return r, nil
}

// words is a string or an array of strings. It is empty for anything else, so that an unexpected
// meta does not lose the code next to it.
type words []string

func (w *words) UnmarshalJSON(body []byte) error {
	var one string
	if json.Unmarshal(body, &one) == nil {
		if one != "" {
			*w = words{one}
		}
		return nil
	}
	var many []string
	if json.Unmarshal(body, &many) == nil {
		*w = many
	}
	return nil
}

// token returns s if it is a plain word of at most 128 characters, as Clerk's ids, codes and
// statuses are, and otherwise the empty string. What is stored, logged and put into paths must not
// be arbitrary text from an answer.
func token(s string) string {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.:", r))
	}
	if len(s) > 128 || strings.ContainsFunc(s, odd) {
		return ""
	}
	return s
}
