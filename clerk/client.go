// Package clerk calls Clerk's Backend API for invitations through the official
// SDK: one request for each method, never repeated, its answer classified by
// what it proves.
//
// A request is bound to the deadline of its context, which is checked on the
// wall clock at the very write: a process that was stopped, or a machine that
// slept, sends nothing after it. What was written and not delivered by then, the
// kernel drops (for a process that can't close its connection any more: on Linux).
// A context without a deadline gives the call 20 s.
package clerk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bulkinvite/internal/loopback"

	sdk "github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/clerk/clerk-sdk-go/v2/user"
)

const (
	// DefaultURL is where Clerk's Backend API is.
	DefaultURL = sdk.APIURL
	// MaxUsers is how many addresses one Users call may ask for.
	MaxUsers = 100
	// MaxPage is the longest page of a list.
	MaxPage = 500
	// requestTimeout bounds a call whose context sets no deadline.
	requestTimeout = 20 * time.Second
)

var (
	// ErrURL says that the API's URL is none: it must be https://host/path.
	ErrURL = errors.New("not the URL of an API: want https://host/v1")
	// ErrInsecureURL says that the key would travel unencrypted to another machine.
	ErrInsecureURL = errors.New("http:// is allowed on loopback only, use https://")
)

// Config says whom to call. All but Key may be left zero.
type Config struct {
	// Key is the instance's secret key, sk_test_… or sk_live_….
	Key string
	// URL is the API's base, with the /v1. Zero: DefaultURL. http:// is allowed on
	// loopback only.
	URL string
	// Dial opens the connections, to a server in this process. Zero: they go over the
	// network, and through a proxy where the environment names one.
	Dial func(context.Context) (net.Conn, error)
	// Log gets a line for each call at debug level. Zero: none.
	Log *slog.Logger
	// Now is the clock that deadlines are held against. Zero: time.Now.
	Now func() time.Time
	// Answered is told every answer, before the call returns. Zero: nobody is.
	Answered func(Answer)
}

// Format keeps the key out of whatever prints a Config.
func (Config) Format(s fmt.State, _ rune) {
	// A failed write is the printer's to report.
	_, _ = io.WriteString(s, "clerk.Config")
}

// LogValue keeps the key out of the log.
func (Config) LogValue() slog.Value { return slog.StringValue("clerk.Config") }

// Client calls one instance. It may be used by any number of goroutines.
type Client struct {
	backend  sdk.Backend
	place    place
	log      *slog.Logger
	now      func() time.Time
	answered func(Answer)
	live     bool
}

// New returns a client. It calls nobody: whether the key is good, the first
// call tells. It fails with ErrKey, ErrURL or ErrInsecureURL.
func New(config Config) (*Client, error) {
	if err := CheckKey(config.Key); err != nil {
		return nil, err
	}
	if config.URL == "" {
		config.URL = DefaultURL
	}
	at, err := parseURL(config.URL)
	if err != nil {
		return nil, err
	}
	c := &Client{place: newPlace(at), log: config.Log, now: config.Now, answered: config.Answered, live: strings.HasPrefix(config.Key, livePrefix)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.answered == nil {
		c.answered = func(Answer) {}
	}
	c.backend = sdk.NewBackend(&sdk.BackendConfig{
		HTTPClient: &http.Client{Transport: newTransport(config.Dial)},
		URL:        &config.URL,
		Key:        &config.Key,
	})
	return c, nil
}

// parseURL leaves the URL out of its errors, since it may hold a password.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, ErrURL
	}
	switch {
	case loopback.Secure(u):
		return u, nil
	case u.Scheme == "http":
		return nil, ErrInsecureURL
	}
	return nil, ErrURL
}

// Live reports whether the key is a production instance's: its mail is real.
func (c *Client) Live() bool { return c.live }

// Format keeps the key out of whatever prints a Client.
func (c *Client) Format(s fmt.State, _ rune) {
	// A failed write is the printer's to report.
	_, _ = io.WriteString(s, "clerk.Client")
}

// Invite is one person to invite. Zero fields are not sent, and Clerk's
// defaults hold. ignore_existing is never sent: it would mail again whoever was
// mailed already.
type Invite struct {
	Email string
	// RedirectURL is where the person goes from the mail.
	RedirectURL string
	// ExpiresInDays is 1 to 365; Clerk's default is 30.
	ExpiresInDays int
	// PublicMetadata is a JSON object. It is readable in the invited person's browser.
	PublicMetadata json.RawMessage
	// Template is invitation or waitlist_invitation.
	Template string
	// Notify false makes Clerk send no mail; its default is true.
	Notify *bool
}

func (i Invite) params() *invitation.CreateParams {
	p := &invitation.CreateParams{EmailAddress: i.Email, Notify: i.Notify}
	if i.RedirectURL != "" {
		p.RedirectURL = &i.RedirectURL
	}
	if i.ExpiresInDays != 0 {
		p.ExpiresInDays = sdk.Int64(int64(i.ExpiresInDays))
	}
	if len(i.PublicMetadata) != 0 {
		p.PublicMetadata = &i.PublicMetadata
	}
	if i.Template != "" {
		p.TemplateSlug = &i.Template
	}
	return p
}

// unmailed reports whether Clerk sends no mail for it.
func (i Invite) unmailed() bool { return i.Notify != nil && !*i.Notify }

// Create invites one person: POST /invitations, of which Clerk takes 100 an hour.
func (c *Client) Create(ctx context.Context, invite Invite) Answer {
	r := &invitationReader{one: true, links: invite.unmailed()}
	a := c.do(ctx, callCreate, 1, http.MethodPost, "/invitations", invite.params(), r)
	return a.showing(r)
}

// Bulk invites up to ten people: POST /invitations/bulk, of which Clerk takes 25
// an hour. A success may hold fewer invitations than were asked for, in any
// order: match them by address.
func (c *Client) Bulk(ctx context.Context, invites []Invite) Answer {
	p := &invitation.BulkCreateParams{Invitations: make([]*invitation.CreateParams, 0, len(invites))}
	for _, i := range invites {
		p.Invitations = append(p.Invitations, i.params())
	}
	r := &invitationReader{links: len(invites) > 0 && invites[0].unmailed()}
	a := c.do(ctx, callBulk, len(invites), http.MethodPost, "/invitations/bulk", p, r)
	return a.showing(r)
}

// Revoke takes back the pending invitation id: POST /invitations/{id}/revoke.
func (c *Client) Revoke(ctx context.Context, id string) Answer {
	if id == "" || id[0] == '.' || token(id) == "" {
		return c.unsent(callRevoke, "invalid_id")
	}
	r := &invitationReader{one: true, id: id}
	a := c.do(ctx, callRevoke, 1, http.MethodPost, "/invitations/"+id+"/revoke", nil, r)
	return a.showing(r)
}

// ListQuery is a page of the list of invitations.
type ListQuery struct {
	// Status is pending, accepted, revoked or expired. Zero: all but the revoked
	// ones, which Clerk shows only when asked for.
	Status string
	Offset int
	// Query is an address or an id that the invitations match. Zero: all.
	Query string
	// Limit is at most MaxPage. Zero: MaxPage, since Clerk's own default is 10.
	Limit int
}

// ListAnswer is a page of invitations, newest first.
type ListAnswer struct {
	Answer
	// Total is how many the whole list has; -1: Clerk did not say.
	Total int
}

// Invitations reads a page of the list, newest first: GET /invitations.
func (c *Client) Invitations(ctx context.Context, q ListQuery) ListAnswer {
	if q.Limit == 0 {
		q.Limit = MaxPage
	}
	p := &invitation.ListParams{OrderBy: sdk.String("-created_at")}
	p.Limit, p.Offset = sdk.Int64(int64(q.Limit)), sdk.Int64(int64(q.Offset))
	if q.Status != "" {
		p.Statuses = []string{q.Status}
	}
	if q.Query != "" {
		p.Query = sdk.String(q.Query)
	}
	r := &invitationReader{}
	a := c.do(ctx, callInvitations, 1, http.MethodGet, "/invitations?paginated=true", p, r)
	return ListAnswer{Answer: a.showing(r), Total: r.total}
}

// UsersAnswer is the users found.
type UsersAnswer struct {
	Answer
	Users []User
}

// Users reads which of the addresses, 1 to MaxUsers, belong to users: GET /users.
// The SDK's own list of users makes a second request to count them, and is not
// used for that.
func (c *Client) Users(ctx context.Context, emails []string) UsersAnswer {
	switch {
	case len(emails) == 0: // Clerk would show everybody
		return UsersAnswer{Answer: c.unsent(callUsers, "no_addresses")}
	case len(emails) > MaxUsers:
		return UsersAnswer{Answer: c.unsent(callUsers, "too_many_addresses")}
	}
	p := &user.ListParams{EmailAddresses: emails}
	p.Limit = sdk.Int64(MaxPage)
	r := &userReader{}
	a := c.do(ctx, callUsers, 1, http.MethodGet, "/users", p, r)
	if a.Class != Success {
		return UsersAnswer{Answer: a}
	}
	return UsersAnswer{Answer: a, Users: r.list}
}

// InstanceAnswer is the instance that the key belongs to.
type InstanceAnswer struct {
	Answer
	ID          string // ins_…
	Environment string // production or development
}

// Instance asks which instance the key belongs to: GET /instance. The id stays the same when the
// key is rotated. A 200 without an id and an environment of Clerk's is Lost, with the code
// not_json or not_clerk. Clerk's specification has this call for every instance
// (https://clerk.com/docs/reference/backend-api, bapi 2026-05-12), so nothing replaces its answer.
func (c *Client) Instance(ctx context.Context) InstanceAnswer {
	r := &instanceReader{}
	a := c.do(ctx, callInstance, 1, http.MethodGet, "/instance", nil, r)
	if a.Class != Success {
		return InstanceAnswer{Answer: a}
	}
	return InstanceAnswer{Answer: a, ID: r.ID, Environment: r.Environment}
}

// do sends one request, about so many people, and reads what became of it.
func (c *Client) do(ctx context.Context, call string, people int, method, path string, params sdk.Params, into reader) Answer {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	ctx, span := c.place.begin(ctx, call, method)
	begun := c.now()
	x, ctx := newExchange(ctx, c.now)
	x.people = people
	req := sdk.NewAPIRequest(method, path)
	if params != nil {
		req.SetParams(params)
	}
	err := c.backend.Call(ctx, req, into)
	if err == nil && !into.complete() {
		err = errEmpty // which the SDK lets pass
	}
	a := x.answer(call, err)
	a.Begun, a.Ended = begun, c.now()
	end(span, a)
	log := c.log
	if of, ok := ctx.Value(aboutKey{}).(about); ok {
		log = log.With(of.what, of.id)
	}
	log.DebugContext(ctx, "called Clerk", "answer", a)
	c.answered(a)
	return a
}

// unsent is the answer to a call that is not worth sending.
func (c *Client) unsent(call, code string) Answer {
	now := c.now()
	a := Answer{Call: call, Class: BadCall, Code: code, Begun: now, Ended: now}
	a.Err = a.failure(nil)
	return a
}

// showing adds what a success shows.
func (a Answer) showing(r *invitationReader) Answer {
	if a.Class == Success {
		a.Invitations = r.list
	}
	return a
}
