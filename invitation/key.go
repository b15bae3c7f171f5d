package invitation

import (
	"errors"
	"strings"

	"golang.org/x/net/idna"
)

// The lengths in octets that RFC 1035 (2.3.4) allows a label and a name; a longer
// one is left to the library to judge.
const (
	maxLabel  = 63
	maxDomain = 253
)

var (
	errNoAddress = errors.New("no address: it has no name and domain around an @")
	errNoDomain  = errors.New("no address: its domain is not valid")
)

// Key names the person that an address belongs to: the address in lower case,
// with its domain in IDNA's ASCII form (RFC 5891). Plus signs and dots are kept:
// that they mean nothing is true at some providers only, and whoever folds them
// withholds an invitation from somebody else. The error does not repeat the
// address.
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
		return email, nil // as nearly all are; it saves a copy of each
	}
	return local + "@" + domain, nil
}

// ASCIIDomain gives a domain in IDNA's ASCII form (RFC 5891, Lookup profile) and
// lower case, and false where it has none. What is ASCII and in lower case
// already, as nearly all domains are, takes a short way.
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

// simpleDomain tells whether a domain is its own ASCII form: labels of small
// letters, digits and single hyphens inside. Others go to the library.
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
