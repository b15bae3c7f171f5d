package clerk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

const (
	testPrefix = "sk_test_"
	livePrefix = "sk_live_"
)

// ErrKey says that a secret key is missing or does not have the form of Clerk's. It never contains
// the key.
var ErrKey = errors.New("no usable Clerk secret key: want one that begins with sk_test_ or sk_live_")

// CheckKey returns ErrKey unless key has the form of a Clerk secret key: sk_test_ or sk_live_, then
// one or more printable ASCII characters without spaces, since the key has to fit a header. Only
// Clerk can say whether the key is valid.
func CheckKey(key string) error {
	secret, test := strings.CutPrefix(key, testPrefix)
	if !test {
		var live bool
		if secret, live = strings.CutPrefix(key, livePrefix); !live {
			return ErrKey
		}
	}
	if secret == "" || strings.ContainsFunc(secret, unprintable) {
		return ErrKey
	}
	return nil
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// Fingerprint names a key without revealing it: the first 16 hexadecimal digits of its SHA-256.
// Only databases of earlier versions identify an instance by it.
func Fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}
