package importer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
)

// people remembers which row named each person first, in about 40 bytes a row.
//
// It keeps 128 bits of a keyed SHA-256 instead of the address. Two people with the
// same hash would count as one, and the second would get no invitation. The secret
// key means that nobody can choose addresses for which that happens.
type people struct {
	secret [16]byte // secret and key fit into one block of SHA-256 for most keys
	buf    []byte
	rows   map[[16]byte]int32 // the number of the person's first row
	// options has a fingerprint of each row's own options. It only decides about a
	// warning, for which 64 bits are enough.
	options map[int32]uint64
	seed    maphash.Seed
}

func newPeople() *people {
	p := &people{rows: map[[16]byte]int32{}, options: map[int32]uint64{}, seed: maphash.MakeSeed()}
	rand.Read(p.secret[:]) // it never fails: crypto/rand ends the program instead
	return p
}

// first returns the number of the row that named a person first, which is row
// itself if none did before.
func (p *people) first(key string, row int) int {
	p.buf = append(append(p.buf[:0], p.secret[:]...), key...)
	sum := sha256.Sum256(p.buf)
	hash := [16]byte(sum[:])
	if earlier, found := p.rows[hash]; found {
		return int(earlier)
	}
	p.rows[hash] = int32(row)
	return row
}

// place marks a valid row as a duplicate if an earlier row named the person. It
// reports whether the row asks for the same options as that row, whose options count.
func (p *people) place(row *Row) (same bool) {
	asks := p.optionsOf(row)
	if first := p.first(row.Key, row.Number); first != row.Number {
		row.DuplicateOf = first
		return p.options[int32(first)] == asks
	}
	if asks != 0 {
		p.options[int32(row.Number)] = asks
	}
	return true
}

// optionsOf is 0 for a row that has no options.
func (p *people) optionsOf(row *Row) uint64 {
	if row.RedirectURL == "" && row.ExpiresInDays == 0 && len(row.PublicMetadata) == 0 && row.RevokeOn.IsZero() {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(p.seed)
	h.WriteString(row.RedirectURL)
	h.Write(binary.AppendUvarint([]byte{0}, uint64(row.ExpiresInDays)))
	h.Write(row.PublicMetadata)
	h.Write(binary.AppendVarint([]byte{0}, row.RevokeOn.Unix()))
	return max(h.Sum64(), 1)
}
