package invitation

import (
	"fmt"
	"strings"

	"golang.org/x/net/idna"
)

// Key names the person that an address belongs to: the address in lower case,
// with its domain in IDNA's ASCII form (RFC 5891). Plus signs and dots are kept:
// that they mean nothing is true at some providers only, and whoever folds them
// withholds an invitation from somebody else.
func Key(email string) (string, error) {
	at := strings.LastIndexByte(email, '@')
	if at < 1 || at == len(email)-1 {
		return "", fmt.Errorf("no address: it has no name and domain around an @")
	}
	domain, err := idna.Lookup.ToASCII(email[at+1:])
	if err != nil {
		return "", fmt.Errorf("no address: its domain is not valid")
	}
	return strings.ToLower(email[:at]) + "@" + strings.ToLower(domain), nil
}
