package invitation

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// MaxRedirectURL is the maximum length of a redirect_url in bytes. Clerk documents no limit.
// Browsers and mail programs cut longer links.
const MaxRedirectURL = 2048

// MaxExpiresInDays is the longest validity of an invitation in days, according to Clerk's API
// specification.
const MaxExpiresInDays = 365

// OptionError says that an option of a batch is not valid. It does not repeat the value, so it can
// be logged.
type OptionError struct {
	Option  string // its name in JSON, in files and in Clerk's API, such as redirect_url
	Problem string // what is wrong, for people; it continues a sentence that begins with Option
	Remedy  string // an instruction
}

// Error returns the option and the problem.
func (e *OptionError) Error() string { return e.Option + " " + e.Problem }

// maxRevokeAfter is about a hundred years.
const maxRevokeAfter = 36500 * 24 * time.Hour

// Validate returns an [OptionError] for the first option of the batch that is not valid. Commands,
// the page and the API all call it.
func (b *Batch) Validate() error {
	if err := b.Options.Validate(); err != nil {
		return err
	}
	switch {
	case b.Priority < 1 || b.Priority > 4:
		return &OptionError{"priority", "must be 1 to 4", "1 goes first."}
	case b.Canary < 0:
		return &OptionError{"canary", "must be a number of people", "Write 1 or more, or leave it out."}
	case b.Duplicates != "" && b.Duplicates != Skip && b.Duplicates != Resend:
		return &OptionError{"on_duplicate", "must be skip or resend", "Leave it out to skip them."}
	case b.Duplicates == Resend && b.LinksFile != "":
		return &OptionError{"on_duplicate", "can't be resend where links go to a file", "It would mail people: take skip."}
	case b.RevokeAfter < 0 || b.RevokeAfter > maxRevokeAfter:
		return &OptionError{"revoke_after", "must be 1 to 36500 days", "Leave it out to have the sweep's own age."}
	}
	return nil
}

// Validate returns an [OptionError] for the first option that Clerk would refuse. The importer
// calls the same checks for each row.
func (o Options) Validate() error {
	if o.RedirectURL != "" {
		if err := CheckRedirectURL(o.RedirectURL); err != nil {
			return err
		}
	}
	if o.ExpiresInDays != 0 {
		return CheckExpiresInDays(o.ExpiresInDays)
	}
	return nil
}

// CheckExpiresInDays returns an [OptionError] unless days is 1 to [MaxExpiresInDays].
func CheckExpiresInDays(days int) error {
	if days >= 1 && days <= MaxExpiresInDays {
		return nil
	}
	return &OptionError{"expires_in_days", fmt.Sprintf("can't be %d", days),
		fmt.Sprintf("Write 1 to %d, or leave it out.", MaxExpiresInDays)}
}

// notAnApps are schemes that lead to no page and no app, because browsers handle them specially.
// Clerk refuses those that run code (prohibited_redirect_url).
var notAnApps = []string{
	"about", "blob", "data", "file", "filesystem", "ftp", "javascript", "vbscript", "view-source", "ws", "wss",
}

// CheckRedirectURL returns an [OptionError] unless an invitation can lead to text. Clerk documents
// "a full URL or a path". Valid are an address that begins with https:// or http://, an app's link
// such as myapp://welcome, and a path that begins with one slash.
func CheckRedirectURL(text string) error {
	if len(text) > MaxRedirectURL {
		return &OptionError{"redirect_url", "is too long", "2,048 characters are enough."}
	}
	if !leads(text) {
		return &OptionError{"redirect_url", "must be a web address, an app's link or a path",
			"Write it like https://app.example.com/welcome, myapp://welcome or /welcome."}
	}
	return nil
}

func leads(text string) bool {
	// Browsers treat a backslash as a slash, so /\example.com leads to another site.
	bad := func(r rune) bool { return isBlank(r) || r == '\\' || r == unicode.ReplacementChar }
	if text == "" || strings.ContainsFunc(text, bad) {
		return false
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return false
	case u.Scheme == "":
		return strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//")
	case u.Scheme == "http", u.Scheme == "https":
		return u.Hostname() != ""
	case strings.Trim(u.Scheme, "htps") == "": // misspelled: htps, htttps
		return false
	}
	return strings.HasPrefix(text[len(u.Scheme):], ":/") && !slices.Contains(notAnApps, u.Scheme)
}

// isBlank reports whether a character is invisible.
func isBlank(r rune) bool { return r == ' ' || !unicode.IsPrint(r) || r == '\u2800' || r == '\u3164' }

// SameOptions reports whether two batches have the same options.
func (b *Batch) SameOptions(o *Batch) bool {
	return b.Options == o.Options && b.Priority == o.Priority && b.Canary == o.Canary && cmp.Or(b.Duplicates, Skip) == cmp.Or(o.Duplicates, Skip) &&
		b.StartAt.Equal(o.StartAt) && b.Hours == o.Hours && b.RevokeAfter == o.RevokeAfter
}
