package erased

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strconv"

	"bulkinvite/internal/db"
	"bulkinvite/internal/invitation"
)

// Hasher computes the hashes that docs/audit.md specifies: hashes of records, and keyed hashes of
// private data. It is not safe for concurrent use.
type Hasher struct {
	key  []byte // hash_key.value
	text []byte
}

// NewHasher returns a hasher that uses the key in the database. Only the keyed hashes need it.
func NewHasher(ctx context.Context, q db.Queryer) (*Hasher, error) {
	h := &Hasher{}
	if err := q.QueryRow(ctx, `select value from hash_key`).Scan(&h.key); err != nil {
		return nil, fmt.Errorf("read the key of the hashes: %w", err)
	}
	return h, nil
}

// record encodes fields as netstrings: the length in bytes, a colon, the field and a comma. NULL is
// a hyphen. So no two records have the same text.
func (h *Hasher) record(fields []*string) []byte {
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

// Next returns the chain after one more record.
func (h *Hasher) Next(chain invitation.Hash, fields []*string) invitation.Hash {
	sum := sha256.New()
	sum.Write(chain[:])
	sum.Write(h.record(fields))
	return invitation.Hash(sum.Sum(nil))
}

// Private returns the keyed hash of a row's private cells.
func (h *Hasher) Private(cells []*string) invitation.Hash {
	mac := hmac.New(sha256.New, h.key)
	mac.Write(h.record(cells))
	return invitation.Hash(mac.Sum(nil))
}

// Pointers returns texts in the form that records and private cells have. None of them is NULL.
func Pointers(texts []string) []*string {
	list := make([]*string, len(texts))
	for i := range texts {
		list[i] = &texts[i]
	}
	return list
}

// PrivateCells are the cells of row r that an erasure removes.
const PrivateCells = `array[r.email, r.key, r.redirect_url, r.public_metadata::text, cardinality(r.notes)::text] || r.notes || array[cardinality(r.original)::text] || r.original`
