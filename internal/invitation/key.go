package invitation

import (
	"errors"
	"strings"

	"golang.org/x/net/idna"
)

// The lengths in octets that RFC 1035 (2.3.4) allows for a label and a name. Longer ones go to the
// IDNA library.
const (
	maxLabel  = 63
	maxDomain = 253
)

var (
	errNoAddress = errors.New("no address: it has no name and domain around an @")
	errNoDomain  = errors.New("no address: its domain is not valid")
)

// Key returns the key of the person that an address belongs to: the address in lower case, with its
// domain in IDNA's ASCII form (RFC 5891). It keeps plus signs and dots. They have no meaning at
// some providers only, and at the others removing them would withhold an invitation from another
// person. The error does not repeat the address.
func Key(email string) (string, error) {
	at := strings.LastIndexByte(email, '@')
	if at < 1 || at == len(email)-1 {
		return "", errNoAddress
	}
	domain, ok := ASCIIDomain(email[at+1:])
	if !ok {
		return "", errNoDomain
	}
	local := strings.ToLower(email[:at])
	if local == email[:at] && domain == email[at+1:] {
		return email, nil // nearly always; it saves a copy
	}
	return local + "@" + domain, nil
}

// ASCIIDomain returns a domain in lower case and in IDNA's ASCII form (RFC 5891, Lookup profile).
// It returns false if the domain has no such form. Domains that are ASCII and in lower case
// already, as nearly all are, do not need the IDNA library.
func ASCIIDomain(domain string) (string, bool) {
	if simpleDomain(domain) {
		return domain, true
	}
	name, err := idna.Lookup.ToASCII(domain)
	if err != nil || name == "" {
		return "", false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" {
			return "", false
		}
	}
	return name, true
}

// simpleDomain reports whether a domain is its own ASCII form: labels of lower-case letters, digits
// and single inner hyphens.
func simpleDomain(domain string) bool {
	if len(domain) > maxDomain {
		return false
	}
	before, label := byte('.'), 0
	for i := 0; i < len(domain); i++ {
		c := domain[i]
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			label++
		case c == '-' && before != '.' && before != '-':
			label++
		case c == '.' && before != '.' && before != '-':
			label = 0
		default:
			return false
		}
		if label > maxLabel {
			return false
		}
		before = c
	}
	return before != '.' && before != '-'
}
