package invitation

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Hash is a SHA-256. Its text form is 64 hexadecimal digits.
type Hash [sha256.Size]byte

// String returns the 64 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns the 64 hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(h) {
		return fmt.Errorf("no hash: it has 64 hexadecimal digits")
	}
	copy(h[:], b)
	return nil
}

// hasher computes the hashes that docs/audit.md specifies: hashes of records, and keyed hashes of
// private data. It is not safe for concurrent use.
type hasher struct {
	key  []byte // hash_key.value
	text []byte
}

func newHasher(ctx context.Context, q Queryer) (*hasher, error) {
	h := &hasher{}
	if err := q.QueryRow(ctx, `select value from hash_key`).Scan(&h.key); err != nil {
		return nil, fmt.Errorf("read the key of the hashes: %w", err)
	}
	return h, nil
}

// record encodes fields as netstrings: the length in bytes, a colon, the field and a comma. NULL is
// a hyphen. So no two records have the same text.
func (h *hasher) record(fields []*string) []byte {
	h.text = h.text[:0]
	for _, f := range fields {
		if f == nil {
			h.text = append(h.text, '-')
			continue
		}
		h.text = strconv.AppendInt(h.text, int64(len(*f)), 10)
		h.text = append(append(append(h.text, ':'), *f...), ',')
	}
	return h.text
}

// next returns the chain after one more record.
func (h *hasher) next(chain Hash, fields []*string) Hash {
	sum := sha256.New()
	sum.Write(chain[:])
	sum.Write(h.record(fields))
	return Hash(sum.Sum(nil))
}

// private returns the keyed hash of a row's private cells.
func (h *hasher) private(cells []*string) Hash {
	mac := hmac.New(sha256.New, h.key)
	mac.Write(h.record(cells))
	return Hash(mac.Sum(nil))
}

func pointers(texts []string) []*string {
	list := make([]*string, len(texts))
	for i := range texts {
		list[i] = &texts[i]
	}
	return list
}

// privateCells are the cells of row r that an erasure removes.
const privateCells = `array[r.email, r.key, r.redirect_url, r.public_metadata::text, cardinality(r.notes)::text] || r.notes || array[cardinality(r.original)::text] || r.original`
