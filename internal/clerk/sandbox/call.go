package sandbox

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Clerk's limits, from its OpenAPI specification and its documentation of metadata.
const (
	maxBulk     = 10
	maxDays     = 365
	defaultDays = 30
	maxMetadata = 8 << 10 // bytes
	maxPage     = 500
	defaultPage = 10
	maxEmails   = 100 // in one GET /users
)

// invite is one item of a create or bulk call.
type invite struct {
	email          string
	metadata       json.RawMessage
	notify         bool
	ignoreExisting bool
	days           int
	problem        *problem
}

func parseOne(body []byte) ([]invite, *problem) {
	in, ok := parseInvite(body)
	if !ok {
		return nil, bodyInvalid()
	}
	return []invite{in}, nil
}

func parseBulk(body []byte) ([]invite, *problem) {
	var items []json.RawMessage
	if err := json.Unmarshal(body, &items); err != nil || len(items) == 0 {
		return nil, bodyInvalid()
	}
	if len(items) > maxBulk {
		return nil, bulkSizeExceeded()
	}
	invites := make([]invite, len(items))
	for i, item := range items {
		var ok bool
		if invites[i], ok = parseInvite(item); !ok {
			return nil, bodyInvalid()
		}
	}
	return invites, nil
}

// parseInvite decodes one item. ok is false if the item is not a JSON object.
func parseInvite(body []byte) (invite, bool) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return invite{}, false
	}
	in := invite{notify: true, days: defaultDays}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		raw := fields[name]
		if string(raw) == "null" {
			continue
		}
		if p := in.set(name, raw); p != nil && in.problem == nil {
			in.problem = p
		}
	}
	if in.email == "" && in.problem == nil {
		in.problem = paramMissing("email_address")
	}
	return in, true
}

func (in *invite) set(name string, raw json.RawMessage) *problem {
	var text string
	var err error
	switch name {
	case "email_address":
		if err := json.Unmarshal(raw, &in.email); err != nil || in.email != "" && !validAddress(in.email) {
			return formatInvalid(name)
		}
	case "public_metadata":
		if raw[0] != '{' {
			return valueInvalid(name)
		}
		if len(raw) > maxMetadata {
			return tooLarge(name, maxMetadata)
		}
		in.metadata = raw
	case "redirect_url":
		err = json.Unmarshal(raw, &text)
		u, bad := url.Parse(text)
		if err != nil || bad != nil {
			return formatInvalid(name)
		}
		// Clerk's documentation: "a full URL or a path"
		web, path := u.Scheme == "http" || u.Scheme == "https", strings.HasPrefix(text, "/")
		if u.Opaque != "" || u.Scheme == "" && !path || web && u.Host == "" || u.Scheme == "javascript" || u.Scheme == "data" {
			return formatInvalid(name)
		}
	case "notify":
		err = json.Unmarshal(raw, &in.notify)
	case "ignore_existing":
		err = json.Unmarshal(raw, &in.ignoreExisting)
	case "expires_in_days":
		if err = json.Unmarshal(raw, &in.days); err == nil && (in.days < 1 || in.days > maxDays) {
			return valueInvalid(name)
		}
	case "template_slug":
		if err = json.Unmarshal(raw, &text); err == nil && text != "invitation" && text != "waitlist_invitation" {
			return valueInvalid(name)
		}
	default:
		return paramUnknown(name)
	}
	if err != nil {
		return valueInvalid(name)
	}
	return nil
}

// validAddress is a simple check of this package. How Clerk checks addresses is not known.
func validAddress(address string) bool {
	a, err := mail.ParseAddress(address)
	if err != nil || a.Address != address || len(address) > 254 {
		return false
	}
	_, domain, _ := strings.Cut(address, "@")
	return strings.Contains(domain, ".") && !strings.HasPrefix(domain, ".") && !strings.HasSuffix(domain, ".")
}

// invitationBody is an invitation in the form that Clerk returns.
type invitationBody struct {
	Object         string          `json:"object"`
	ID             string          `json:"id"`
	EmailAddress   string          `json:"email_address"`
	PublicMetadata json.RawMessage `json:"public_metadata"`
	Revoked        bool            `json:"revoked"`
	Status         string          `json:"status"`
	URL            string          `json:"url"`
	ExpiresAt      int64           `json:"expires_at"`
	CreatedAt      int64           `json:"created_at"`
	UpdatedAt      int64           `json:"updated_at"`
}

func (in *invitation) body(status string) invitationBody {
	b := invitationBody{
		Object: "invitation", ID: in.ID, EmailAddress: in.Email, PublicMetadata: in.Metadata,
		Revoked: status == revoked, Status: status,
		ExpiresAt: in.Expires, CreatedAt: in.Created, UpdatedAt: in.Created,
	}
	if b.PublicMetadata == nil {
		b.PublicMetadata = json.RawMessage("{}")
	}
	if status == in.Status && in.Changed != 0 {
		b.UpdatedAt = in.Changed
	}
	ticket := sha256.Sum256([]byte(in.ID))
	b.URL = "https://sandbox.invalid/v1/tickets/accept?ticket=" + hex.EncodeToString(ticket[:16])
	return b
}

func (s *Server) create(req *request, now time.Time) (any, *problem) {
	ms := now.UnixMilli()
	if _, p := s.judge(req.invites, ms, false); p != nil {
		return nil, p
	}
	return s.issue(req.invites, ms)[0].body(pending), nil
}

func (s *Server) bulk(req *request, now time.Time) (any, *problem) {
	ms := now.UnixMilli()
	good, p := s.judge(req.invites, ms, true)
	w := s.settings.Switches
	if p != nil && (w.Bulk == "all_or_nothing" || len(good) == 0) {
		return nil, p
	}
	bodies := make([]invitationBody, len(good))
	for i, in := range s.issue(good, ms) {
		bodies[i] = in.body(pending)
	}
	if p != nil && w.Bulk == "partial" {
		return nil, p
	}
	switch w.BulkOrder {
	case "reversed":
		slices.Reverse(bodies)
	case "shuffled":
		rand.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	}
	return bodies, nil
}

// judge returns the items that can be created, and the problem with the others. A bulk call gets
// one problem: the first check that refuses an item decides it, in the order form, block list,
// users, invitations.
func (s *Server) judge(items []invite, ms int64, bulk bool) (good []invite, p *problem) {
	w := s.settings.Switches
	if w.NotSupported {
		return nil, notSupported()
	}
	if w.Quota != "" {
		return nil, quotaExceeded(w.Quota)
	}
	good = items
	sieve := func(bad func(i int, in invite) bool, make func(offenders []string, first invite) *problem) {
		var kept []invite
		var offenders []invite
		for i, in := range good {
			if bad(i, in) {
				offenders = append(offenders, in)
			} else {
				kept = append(kept, in)
			}
		}
		if len(offenders) > 0 && p == nil {
			p = make(s.named(offenders, bulk), offenders[0])
		}
		good = kept
	}
	sieve(func(_ int, in invite) bool { return in.problem != nil },
		func(_ []string, first invite) *problem { return first.problem })
	sieve(func(_ int, in invite) bool { return s.settings.blocks(in.email) },
		func(offenders []string, _ invite) *problem { return notAllowed(offenders) })
	sieve(func(_ int, in invite) bool { return s.taken(in) },
		func([]string, invite) *problem { return identifierExists() })
	candidates := good
	sieve(func(i int, in invite) bool {
		return !in.ignoreExisting && (s.state.standing(in.email, ms) || w.Twice == "refuse" && s.repeats(candidates, i))
	}, func(offenders []string, _ invite) *problem { return duplicateRecord(offenders) })
	if w.Twice == "one" {
		all := good
		good = nil
		for i, in := range all {
			if !s.repeats(all, i) {
				good = append(good, in)
			}
		}
	}
	return good, p
}

// named returns the addresses that an error names; nil means none.
func (s *Server) named(offenders []invite, bulk bool) []string {
	var names []string
	for _, in := range offenders {
		names = append(names, in.email)
	}
	if bulk {
		switch s.settings.Switches.Offenders {
		case "first":
			return names[:1]
		case "none":
			return nil
		}
	}
	return names
}

// taken reports whether an address is refused because it belongs to a user.
func (s *Server) taken(in invite) bool {
	w := s.settings.Switches
	if w.ExistingUser == "allowed" || w.ExistingUser == "refused_unless_ignored" && in.ignoreExisting {
		return false
	}
	return s.state.user(in.email) != nil
}

// repeats reports whether an earlier item has the same address.
func (s *Server) repeats(items []invite, i int) bool {
	return slices.ContainsFunc(items[:i], func(in invite) bool { return s.state.same(in.email, items[i].email) })
}

// issue creates invitations and counts their mails.
func (s *Server) issue(items []invite, ms int64) []*invitation {
	month, room := s.state.monthMails, s.settings.Switches.MailCap
	if monthOf(ms) != s.state.month {
		month = 0
	}
	r := &record{Op: opInvite}
	for _, item := range items {
		in := newInvitation(item.email, ms, item.days)
		in.Metadata = item.metadata
		if item.notify && (room == 0 || month < room) {
			in.Mailed = true
			month++
		}
		r.Invitations = append(r.Invitations, in)
	}
	s.commit(r)
	return r.Invitations
}

func (s *Server) revoke(req *request, now time.Time) (any, *problem) {
	in := s.state.byID[req.id]
	if in == nil || in.Status == deleted {
		return nil, notFound()
	}
	switch in.statusAt(now.UnixMilli(), 0) {
	case accepted:
		return nil, alreadyAccepted()
	case revoked:
		return nil, alreadyRevoked()
	case expired:
		if s.settings.Switches.ExpiredNotRevocable {
			return nil, notFound()
		}
	}
	s.commit(&record{Op: opRevoke, At: now.UnixNano(), IDs: []string{in.ID}})
	return in.body(revoked), nil
}

// remove deletes an invitation of any status.
func (s *Server) remove(req *request, now time.Time) (any, *problem) {
	in := s.state.byID[req.id]
	if in == nil || in.Status == deleted {
		return nil, notFound()
	}
	s.commit(&record{Op: opDelete, At: now.UnixNano(), IDs: []string{in.ID}})
	return map[string]any{"object": "invitation", "id": in.ID, "deleted": true}, nil
}

// paging parses limit and offset.
func paging(query url.Values) (limit, offset int, p *problem) {
	limit = defaultPage
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return 0, 0, valueInvalid("limit")
		}
		limit = n
	}
	if text := query.Get("offset"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return 0, 0, valueInvalid("offset")
		}
		offset = n
	}
	return limit, offset, nil
}

func (s *Server) list(req *request, now time.Time) (any, *problem) {
	limit, offset, p := paging(req.query)
	if p != nil {
		return nil, p
	}
	// Without a status, the list contains all but revoked invitations.
	statuses := []string{pending, accepted, expired}
	if asked := req.query["status"]; len(asked) > 0 {
		for _, status := range asked {
			if !slices.Contains(append(statuses, revoked), status) {
				return nil, valueInvalid("status")
			}
		}
		statuses = asked
	}
	ordered, p := s.ordered(req.query.Get("order_by"))
	if p != nil {
		return nil, p
	}
	ms, lag := now.UnixMilli(), time.Duration(s.settings.Switches.ListLag).Milliseconds()
	matches := s.matcher(req.query.Get("query"))
	paginated := req.query.Get("paginated") == "true"
	page, total := []invitationBody{}, 0
	for in := range ordered {
		status := in.statusAt(ms, lag)
		if in.Created+lag > ms || !slices.Contains(statuses, status) || !matches(in) {
			continue
		}
		total++
		if total > offset && len(page) < limit {
			page = append(page, in.body(status))
		} else if len(page) == limit && !paginated {
			break // only a paginated answer has the total
		}
	}
	if paginated {
		return map[string]any{"data": page, "total_count": total}, nil
	}
	return page, nil
}

// ordered yields all invitations in the requested order; the default is newest first. Only the
// orders by creation need no sorting.
func (s *Server) ordered(by string) (func(func(*invitation) bool), *problem) {
	s.state.sort()
	all := s.state.invitations
	// A plus sign in a query is decoded to a space.
	column := strings.TrimLeft(by, "+ -")
	down := strings.HasPrefix(by, "-")
	switch column {
	case "":
		down = true
	case "created_at":
	case "email_address":
		all = slices.SortedStableFunc(slices.Values(all), func(a, b *invitation) int { return cmp.Compare(a.Email, b.Email) })
	case "expires_at":
		all = slices.SortedStableFunc(slices.Values(all), func(a, b *invitation) int { return cmp.Compare(a.Expires, b.Expires) })
	default:
		return nil, valueInvalid("order_by")
	}
	if !down {
		return slices.Values(all), nil
	}
	return func(yield func(*invitation) bool) {
		for _, in := range slices.Backward(all) {
			if !yield(in) {
				return
			}
		}
	}, nil
}

// matcher returns the filter for query=, which matches an address or a whole id.
func (s *Server) matcher(query string) func(*invitation) bool {
	w := s.settings.Switches
	fold := func(text string) string {
		if w.CaseSensitive {
			return text
		}
		return strings.ToLower(text)
	}
	query = strings.TrimSpace(query)
	wanted := fold(query)
	return func(in *invitation) bool {
		switch {
		case query == "" || in.ID == query:
			return true
		case w.Query == "exact":
			return fold(in.Email) == wanted
		}
		return strings.Contains(fold(in.Email), wanted)
	}
}

// userBody is a user in the form that Clerk returns, with the fields that a client like this
// program uses.
type userBody struct {
	ID                    string             `json:"id"`
	Object                string             `json:"object"`
	FirstName             *string            `json:"first_name"`
	LastName              *string            `json:"last_name"`
	PrimaryEmailAddressID string             `json:"primary_email_address_id"`
	EmailAddresses        []emailAddressBody `json:"email_addresses"`
	PublicMetadata        struct{}           `json:"public_metadata"`
	CreatedAt             int64              `json:"created_at"`
	UpdatedAt             int64              `json:"updated_at"`
}

type emailAddressBody struct {
	ID           string            `json:"id"`
	Object       string            `json:"object"`
	EmailAddress string            `json:"email_address"`
	Verification map[string]string `json:"verification"`
	LinkedTo     []struct{}        `json:"linked_to"`
}

func (u *user) body() userBody {
	address := "idn_" + strings.TrimPrefix(u.ID, "user_")
	return userBody{
		ID: u.ID, Object: "user", PrimaryEmailAddressID: address,
		EmailAddresses: []emailAddressBody{{
			ID: address, Object: "email_address", EmailAddress: u.Email,
			Verification: map[string]string{"status": "verified", "strategy": "ticket"}, LinkedTo: []struct{}{},
		}},
		CreatedAt: u.Created, UpdatedAt: u.Created,
	}
}

// asked returns the users that a GET /users is about, newest first.
func (s *Server) asked(query url.Values) ([]*user, *problem) {
	emails := query["email_address"]
	if len(emails) > maxEmails {
		return nil, valueInvalid("email_address")
	}
	var users []*user
	for _, email := range emails {
		u := s.state.user(email)
		if u != nil && s.settings.Switches.UsersExact && u.Email != email {
			continue
		}
		if u != nil && !slices.Contains(users, u) {
			users = append(users, u)
		}
	}
	if len(emails) == 0 {
		users = slices.Clone(s.state.users)
	}
	slices.SortStableFunc(users, func(a, b *user) int { return cmp.Compare(b.Created, a.Created) })
	return users, nil
}

func (s *Server) listUsers(req *request, _ time.Time) (any, *problem) {
	limit, offset, p := paging(req.query)
	if p != nil {
		return nil, p
	}
	users, p := s.asked(req.query)
	if p != nil {
		return nil, p
	}
	bodies := []userBody{}
	for _, u := range users[min(offset, len(users)):min(offset+limit, len(users))] {
		bodies = append(bodies, u.body())
	}
	return bodies, nil
}

// countUsers answers GET /users/count, which the official Go SDK calls after each list of users.
func (s *Server) countUsers(req *request, _ time.Time) (any, *problem) {
	users, p := s.asked(req.query)
	if p != nil {
		return nil, p
	}
	return map[string]any{"object": "total_count", "total_count": len(users)}, nil
}

func (s *Server) instance(req *request, _ time.Time) (any, *problem) {
	return map[string]any{"object": "instance", "id": s.instanceID, "environment_type": req.environment, "allowed_origins": nil}, nil
}

func (s *Server) unknown(*request, time.Time) (any, *problem) { return nil, notFound() }
