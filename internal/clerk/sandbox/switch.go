package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Duration is a time.Duration that is text in JSON: "1.5s".
type Duration time.Duration

// UnmarshalText parses what time.ParseDuration parses.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: want a number and a unit, like 1.5s", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText returns the text that UnmarshalText parses.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns d without zero units at the end: 1h instead of 1h0m0s.
func (d Duration) String() string { return brief(time.Duration(d)) }

// Switches decides what Clerk's documentation leaves open. A client must be right under every
// setting. If a field has named values, the first one is the default, and an empty field means the
// default.
type Switches struct {
	// Bulk is what happens to the valid items of a bulk call that has an invalid one:
	// "all_or_nothing"; "partial": they are created, but the answer is the error; "partial_200":
	// they are created, and the answer is a 200 with them.
	Bulk string `json:"bulk"`
	// Offenders says which people the error of a bulk call names: "all", "first", "none".
	Offenders string `json:"offenders"`
	// BulkOrder is the order of a bulk answer: "same", "reversed", "shuffled".
	BulkOrder string `json:"bulk_order"`
	// Twice is what happens if one bulk call has the same address twice: "refuse" (as a duplicate);
	// "both": two invitations and two mails; "one": the second item is ignored.
	Twice string `json:"twice"`
	// ExistingUser is what happens if a user is invited: "refused", "refused_unless_ignored"
	// (ignore_existing allows it), "allowed".
	ExistingUser string `json:"existing_user"`
	// CaseSensitive makes J@x.com and j@x.com two people.
	CaseSensitive bool `json:"case_sensitive"`
	// UsersExact makes GET /users find an address only in the user's own spelling, which is usually
	// in lower case.
	UsersExact bool `json:"users_exact"`
	// ExpiredBlocks makes an expired invitation block a new one.
	ExpiredBlocks bool `json:"expired_blocks"`
	// ExpiredNotRevocable refuses to revoke an expired invitation, with 404 and resource_not_found.
	ExpiredNotRevocable bool `json:"expired_not_revocable"`

	// Alignment is where fixed windows begin: "epoch" (at multiples of their length since 1970),
	// "first" (at the first request after the previous window).
	Alignment string `json:"alignment"`
	// RefusedAreFree makes requests not count if the answer is a 4xx other than 429.
	RefusedAreFree bool `json:"refused_are_free"`
	// ThrottledCount makes requests count if the answer is a 429.
	ThrottledCount bool `json:"throttled_count"`
	// RetryAfter is the form of that header in a 429: "seconds", "date", "none".
	RetryAfter string `json:"retry_after"`

	// Query is how query= matches an address: "substring", "exact".
	Query string `json:"query"`
	// ListLag is how long lists don't show a new invitation, and show a revoked or accepted one as
	// it was before.
	ListLag Duration `json:"list_lag"`

	// MailCap is how many mails are sent in a calendar month (UTC). Further mails are silently not
	// sent, as on a development instance after 100. Zero means no cap.
	MailCap int `json:"mail_cap"`
	// Quota refuses each create with 403 and this code: empty (no refusal), "user_quota_exceeded",
	// "quota_exceeded".
	Quota string `json:"quota"`
	// NotSupported refuses each create, because the instance accepts no e-mail addresses.
	NotSupported bool `json:"not_supported"`
}

// fill sets the defaults, so that the rest of the package compares with one value.
func (w *Switches) fill() error {
	return errors.Join(
		choose("bulk", &w.Bulk, "all_or_nothing", "partial", "partial_200"),
		choose("offenders", &w.Offenders, "all", "first", "none"),
		choose("bulk_order", &w.BulkOrder, "same", "reversed", "shuffled"),
		choose("twice", &w.Twice, "refuse", "both", "one"),
		choose("existing_user", &w.ExistingUser, "refused", "refused_unless_ignored", "allowed"),
		choose("alignment", &w.Alignment, "epoch", "first"),
		choose("retry_after", &w.RetryAfter, "seconds", "date", "none"),
		choose("query", &w.Query, "substring", "exact"),
		choose("quota", &w.Quota, "", "user_quota_exceeded", "quota_exceeded"),
	)
}

func choose(name string, value *string, values ...string) error {
	if *value == "" {
		*value = values[0]
		return nil
	}
	if slices.Contains(values, *value) {
		return nil
	}
	return fmt.Errorf("%s %q: want one of %s", name, *value, strings.Join(values, ", "))
}

// check sets the defaults and refuses invalid values.
func (c *settings) check() error {
	err := errors.Join(
		c.Limits.check(),
		choose("window_mode", &c.WindowMode, "sliding", "fixed"),
		c.Switches.fill(),
	)
	if c.Acceptance.Fraction < 0 || c.Acceptance.Fraction > 1 {
		err = errors.Join(err, fmt.Errorf("acceptance fraction %v: want 0 to 1", c.Acceptance.Fraction))
	}
	if c.Acceptance.After < 0 || c.Switches.ListLag < 0 || c.Switches.MailCap < 0 {
		err = errors.Join(err, errors.New("acceptance after, list_lag, mail_cap: want no negative number"))
	}
	return err
}

// blocks reports whether the block list contains an address or its domain.
func (c *settings) blocks(address string) bool {
	key := strings.ToLower(address)
	_, domain, _ := strings.Cut(key, "@")
	return slices.ContainsFunc(c.Blocked, func(entry string) bool {
		entry = strings.ToLower(entry)
		return entry == key || entry == "*@"+domain
	})
}
