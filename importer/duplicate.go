package importer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
)

// people remembers for each key the row that has it, in about 24 bytes a row.
//
// It keeps 128 bits of a keyed SHA-256 instead of the key. Two people whose
// hashes met would be one to it, and the second would lose the invitation: with
// 64 bits that happens once in some hundred thousand files of ten million rows,
// and can be brought about by whoever knows the hash; with 128 secret ones,
// once in 10^24.
//
// The table is cut into shards that grow on their own by an eighth, so that no
// moment needs twice the memory.
type people struct {
	secret [32]byte
	buf    []byte
	shards [256]shard
	// options has a fingerprint of a row's own options, for files that have such
	// columns. It only feeds a warning, for which 64 bits will do.
	options map[int32]uint64
	seed    maphash.Seed
}

type fingerprint [16]byte

// shard is a hash table with open addressing; row 0 marks a free slot.
type shard struct {
	prints []fingerprint
	rows   []int32
	used   int
}

func newPeople() *people {
	p := &people{options: map[int32]uint64{}, seed: maphash.MakeSeed()}
	rand.Read(p.secret[:]) // it never fails: crypto/rand ends the program instead
	return p
}

// first gives the number of the row that came first with a key, and remembers
// row where there was none.
func (p *people) first(key string, row int) (earlier int, found bool) {
	p.buf = append(append(p.buf[:0], p.secret[:]...), key...)
	sum := sha256.Sum256(p.buf)
	s := &p.shards[sum[16]]
	if s.used*10 >= len(s.rows)*9 {
		s.grow()
	}
	print := fingerprint(sum[:16])
	i := s.slot(print)
	if s.rows[i] != 0 {
		return int(s.rows[i]), true
	}
	s.prints[i], s.rows[i] = print, int32(row)
	s.used++
	return 0, false
}

// slot finds where a fingerprint is, or the free slot where it belongs.
func (s *shard) slot(print fingerprint) int {
	i := int(binary.LittleEndian.Uint64(print[:]) % uint64(len(s.rows)))
	for s.rows[i] != 0 && s.prints[i] != print {
		if i++; i == len(s.rows) {
			i = 0
		}
	}
	return i
}

func (s *shard) grow() {
	old := *s
	size := len(old.rows) + len(old.rows)/8 + 8
	s.prints, s.rows = make([]fingerprint, size), make([]int32, size)
	for i, row := range old.rows {
		if row != 0 {
			j := s.slot(old.prints[i])
			s.prints[j], s.rows[j] = old.prints[i], row
		}
	}
}

// keepOptions remembers what a row that stands asks for.
func (p *people) keepOptions(row *Row) {
	if print := p.optionsOf(row); print != 0 {
		p.options[int32(row.Number)] = print
	}
}

// differs tells whether a duplicate asks for something else than the row that stands.
func (p *people) differs(row *Row) bool {
	return p.options[int32(row.DuplicateOf)] != p.optionsOf(row)
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
