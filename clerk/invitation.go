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

// Link is an invitation's url: a sign-up ticket, a secret. It prints as a word of
// its own wherever it might be printed; Reveal gives it to whoever asked for it.
type Link string

// String hides the link.
func (l Link) String() string {
	if l == "" {
		return ""
	}
	return "[link]"
}

// GoString hides the link.
func (l Link) GoString() string { return l.String() }

// MarshalText hides the link, from logs and JSON.
func (l Link) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Reveal returns the link itself.
func (l Link) Reveal() string { return string(l) }

// Invitation is an application invitation as Clerk shows it.
type Invitation struct {
	ID    string // inv_…
	Email string // as Clerk writes it, which need not be as it was asked for
	// Status is pending, accepted, revoked or expired.
	Status  string
	Revoked bool
	// CreatedAt and UpdatedAt are Clerk's clock, in milliseconds, UTC; zero: not told.
	CreatedAt, UpdatedAt time.Time
	// ExpiresAt is zero where Clerk names no end.
	ExpiresAt time.Time
	// Link is kept of an invitation that was just made without a mail, and of no
	// other: it goes no further than the bytes of the answer.
	Link Link
}

// User is a user of the instance.
type User struct {
	ID     string // user_…
	Emails []string
}

var (
	// errShape says that a body is JSON, but not of the kind that was asked for.
	errShape = errors.New("not the answer that was asked for")
	errEmpty = errors.New("an empty body")
)

// unread is what the readers below have in common. The SDK leaves a reader
// alone where the body is empty, so each must tell whether it saw one.
type unread struct {
	done bool
}

// Read implements the SDK's ResponseReader. The response is not kept: it holds
// the invitations' urls.
func (*unread) Read(*sdk.APIResponse) {}

func (u *unread) complete() bool { return u.done }

// reader takes the body of a success.
type reader interface {
	sdk.ResponseReader
	json.Unmarshaler
	complete() bool
}

type invitationReader struct {
	unread
	one   bool // a single invitation is wanted, with this id unless it is empty
	id    string
	links bool // the links are kept
	list  []Invitation
	// total is -1 where Clerk gave a bare array.
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
		// An item that can't be read may be the very one that is looked for: without
		// it the answer would prove an absence that is none.
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

// page reads a list in either of the forms that the API uses for one: a bare
// array, whose total is -1, or {data, total_count}.
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
	// No data with a total of nought is an empty list; anything else is no list.
	if wire.Total == nil || wire.Data == nil && *wire.Total != 0 {
		return nil, 0, errShape
	}
	return wire.Data, *wire.Total, nil
}

// wireRefusal is the body of an error. Its messages are not read: they may name
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

// names are the addresses that an error is about.
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

// words is a string or an array of strings; anything else is none of them. An
// odd meta must not cost us the code beside it.
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

// token returns s if it is a plain word of at most 128 characters, as Clerk's
// ids, codes and statuses are, and otherwise nothing: what is stored, logged and
// put into paths must not be whatever an answer happens to hold.
func token(s string) string {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.:", r))
	}
	if len(s) > 128 || strings.ContainsFunc(s, odd) {
		return ""
	}
	return s
}
