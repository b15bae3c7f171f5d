// Package clerk calls Clerk's Backend API for invitations through the official SDK. Each method
// sends one request, never repeats it, and classifies the answer by what it proves.
//
// A request is bound to the deadline of its context. The transport checks the deadline on the wall
// clock immediately before each write, so a process that was stopped, or a machine that slept,
// sends nothing after it. The kernel discards what was written and not delivered by the deadline.
// (If the process can't close its connection any more, this holds on Linux only.) If the context
// has no deadline, the call gets 20 s.
//
// It may import loopback only, so it knows nothing of batches and rows. Start reading at [Client]
// here and at classify in class.go.
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

	sdk "github.com/clerk/clerk-sdk-go/v2"
	"github.com/clerk/clerk-sdk-go/v2/invitation"
	"github.com/clerk/clerk-sdk-go/v2/user"

	"bulkinvite/internal/loopback"
)

const (
	// DefaultURL is the base URL of Clerk's Backend API.
	DefaultURL = sdk.APIURL
	// MaxUsers is how many addresses one Users call may ask for. The limit is Clerk's.
	MaxUsers = 100
	// MaxPage is the largest page of a list, in items. The limit is Clerk's; its default is 10.
	MaxPage = 500
	// requestTimeout applies to a call whose context has no deadline.
	requestTimeout = 20 * time.Second
)

var (
	// ErrURL says that the URL is not one of an API: it must be https://host/path.
	ErrURL = errors.New("not the URL of an API: want https://host/v1")
	// ErrInsecureURL says that the key would travel unencrypted to another machine.
	ErrInsecureURL = errors.New("http:// is allowed on loopback only, use https://")
)

// Config says which instance to call, and how. All fields but Key may be zero.
type Config struct {
	// Key is the instance's secret key, sk_test_… or sk_live_….
	Key string
	// URL is the API's base URL, including /v1. Zero means DefaultURL. http:// is allowed on
	// loopback only.
	URL string
	// Dial opens a connection to a server in this process. If it is nil, connections go over the
	// network, through the proxy that the environment names, if any.
	Dial func(context.Context) (net.Conn, error)
	// Log gets a line for each call at debug level. Nil means no log.
	Log *slog.Logger
	// Now is the clock that is compared with deadlines. Nil means time.Now.
	Now func() time.Time
	// Answered is called with each answer before the call returns, also with NotSent. Nil means no
	// function. It is not called for a call that fails a check of this package (invalid_id,
	// no_addresses, too_many_addresses): that is a mistake of the caller and no request, and it says
	// nothing about Clerk or the network, which metrics and alerts judge by these answers.
	Answered func(Answer)
}

// Format keeps the key out of everything that prints a Config.
func (Config) Format(s fmt.State, _ rune) {
	// The printer reports a failed write.
	_, _ = io.WriteString(s, "clerk.Config")
}

// LogValue keeps the key out of the log.
func (Config) LogValue() slog.Value { return slog.StringValue("clerk.Config") }

// Client calls one instance. It is safe for concurrent use.
type Client struct {
	backend  sdk.Backend
	place    place
	log      *slog.Logger
	now      func() time.Time
	answered func(Answer)
	live     bool
}

// New returns a client. It makes no call: the first call shows whether the key is valid. It fails
// with ErrKey, ErrURL or ErrInsecureURL.
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

// parseURL leaves the URL out of its errors, since it may contain a password.
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

// Live reports whether the key belongs to a production instance, whose mail is real.
func (c *Client) Live() bool { return c.live }

// Format keeps the key out of everything that prints a Client.
func (c *Client) Format(s fmt.State, _ rune) {
	// The printer reports a failed write.
	_, _ = io.WriteString(s, "clerk.Client")
}

// Invite is one person to invite. Zero fields are not sent, so Clerk's defaults apply. The program
// never sends ignore_existing, because it would mail people again.
type Invite struct {
	// Email is the address to invite.
	Email string
	// RedirectURL is where the link in the mail leads.
	RedirectURL string
	// ExpiresInDays is 1 to 365. Clerk's default is 30.
	ExpiresInDays int
	// PublicMetadata is a JSON object. The invited person can read it in the browser.
	PublicMetadata json.RawMessage
	// Template is invitation or waitlist_invitation.
	Template string
	// Notify set to false makes Clerk send no mail. Clerk's default is true.
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

// unmailed reports whether Clerk sends no mail for the invitation.
func (i Invite) unmailed() bool { return i.Notify != nil && !*i.Notify }

// Create invites one person: POST /invitations. Clerk's limit is 100 an hour for each instance.
func (c *Client) Create(ctx context.Context, invite Invite) Answer {
	r := &invitationReader{one: true, links: invite.unmailed()}
	a := c.do(ctx, callCreate, 1, http.MethodPost, "/invitations", invite.params(), r)
	return a.showing(r)
}

// Bulk invites up to ten people: POST /invitations/bulk. Clerk's limit is 25 an hour for each
// instance. A success may contain fewer invitations than were asked for, in any order: match them
// by address.
func (c *Client) Bulk(ctx context.Context, invites []Invite) Answer {
	p := &invitation.BulkCreateParams{Invitations: make([]*invitation.CreateParams, 0, len(invites))}
	for _, i := range invites {
		p.Invitations = append(p.Invitations, i.params())
	}
	r := &invitationReader{links: len(invites) > 0 && invites[0].unmailed()}
	a := c.do(ctx, callBulk, len(invites), http.MethodPost, "/invitations/bulk", p, r)
	return a.showing(r)
}

// Revoke revokes the pending invitation id: POST /invitations/{id}/revoke.
func (c *Client) Revoke(ctx context.Context, id string) Answer {
	if id == "" || id[0] == '.' || token(id) == "" {
		return c.unsent(callRevoke, "invalid_id")
	}
	r := &invitationReader{one: true, id: id}
	a := c.do(ctx, callRevoke, 1, http.MethodPost, "/invitations/"+id+"/revoke", nil, r)
	return a.showing(r)
}

// ListQuery selects a page of the list of invitations.
type ListQuery struct {
	// Status is pending, accepted, revoked or expired. Empty means all but revoked: Clerk lists
	// revoked invitations only if asked for them.
	Status string
	// Offset is how many invitations to skip.
	Offset int
	// Query is an address or an id that the invitations match. Empty means all.
	Query string
	// Limit is the size of the page, at most MaxPage. Zero means MaxPage; Clerk's own default is
	// 10.
	Limit int
}

// ListAnswer is a page of invitations, newest first.
type ListAnswer struct {
	Answer
	// Total is the length of the whole list, or -1 if Clerk did not tell it.
	Total int
}

// Invitations reads one page of the list of invitations, newest first: GET /invitations.
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

// UsersAnswer is the answer to Users.
type UsersAnswer struct {
	Answer
	// Users are the users that have one of the addresses.
	Users []User
}

// Users reads which of the addresses, 1 to MaxUsers, belong to users: GET /users. It does not use
// the SDK's own list of users, which makes a second request to count them.
func (c *Client) Users(ctx context.Context, emails []string) UsersAnswer {
	switch {
	case len(emails) == 0: // Clerk would list all users
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

// InstanceAnswer is the answer to Instance.
type InstanceAnswer struct {
	Answer
	ID          string // ins_…
	Environment string // production or development
}

// Instance reads which instance the key belongs to: GET /instance. The id stays the same when the
// key is rotated. A 200 without an id and environment in Clerk's form is Lost, with the code
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

// do sends one request and evaluates the answer. people is how many people the call is for.
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
		err = errEmpty // the SDK accepts an empty body
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

// unsent returns the answer to a call that this package refuses to send.
func (c *Client) unsent(call, code string) Answer {
	now := c.now()
	a := Answer{Call: call, Class: BadCall, Code: code, Begun: now, Ended: now}
	a.Err = a.failure(nil)
	return a
}

// showing adds the invitations to a success.
func (a Answer) showing(r *invitationReader) Answer {
	if a.Class == Success {
		a.Invitations = r.list
	}
	return a
}
