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

// ErrKey says that a secret key is missing or is not one of Clerk's. It never
// carries the key.
var ErrKey = errors.New("no usable Clerk secret key: want one that begins with sk_test_ or sk_live_")

// CheckKey returns ErrKey unless key looks like a secret key of Clerk's:
// sk_test_ or sk_live_, and at least one more printable ASCII character and no
// other, since it has to fit a header. Whether it is a good one, Clerk alone
// can say.
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

// Fingerprint names a key without giving it away: the first 16 hexadecimal
// digits of its SHA-256. Only databases of earlier versions know an instance by it.
func Fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}
