package importer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// people remembers for each key the row that has it, in about 20 bytes a row.
//
// It keeps 104 bits of a keyed SHA-256 instead of the key: 8 choose a shard, the
// others stand in it. Two people whose hashes met would be one to it, and the
// second would lose the invitation: with 64 bits that happens once in some
// hundred thousand files of ten million rows, and can be brought about by whoever
// knows the hash; with 104 secret ones, once in 10^17.
//
// The table is cut into shards that grow on their own by a quarter, so that no
// moment needs twice the memory.
type people struct {
	secret [16]byte // so that secret and key are one block of SHA-256 for most keys
	buf    []byte
	shards [256]shard
	// options has a fingerprint of a row's own options, for files that have such
	// columns. It only feeds a warning, for which 64 bits will do.
	options map[int32]uint64
	seed    maphash.Seed
}

// shard is a hash table with open addressing whose entries stand in the order of
// their hashes, each at its home or behind it (Amble and Knuth, Ordered hash
// tables, 1974). A search ends at the first that is greater, which is near even
// where nine tenths are taken, and growing copies from front to back.
type shard struct {
	entries []entry // the homes, and some places behind for those who find the last ones taken; the last is free
	homes   int
	used    int
}

// entry has 16 bytes; row 0 marks a free place.
type entry struct {
	high uint64
	low  uint32
	row  int32
}

// behind is how many places a shard has behind its homes. Where they don't do,
// it gets more.
const behind = 32

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
	e := entry{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint32(sum[8:]), int32(row)}
	return p.shards[sum[12]].first(e)
}

func (s *shard) first(e entry) (earlier int, found bool) {
	if s.used*10 >= s.homes*9 {
		s.grow()
	}
	i := s.home(e)
	for s.entries[i].row != 0 && s.entries[i].before(e) {
		i++
	}
	if at := s.entries[i]; at.row != 0 && at.high == e.high && at.low == e.low {
		return int(at.row), true
	}
	end := i
	for s.entries[end].row != 0 {
		end++
	}
	copy(s.entries[i+1:], s.entries[i:end])
	s.entries[i] = e
	s.used++
	s.keepEnd(end)
	return 0, false
}

// home is where an entry belongs: the higher its hash, the further behind.
func (s *shard) home(e entry) int {
	home, _ := bits.Mul64(e.high, uint64(s.homes))
	return int(home)
}

func (e entry) before(f entry) bool { return e.high < f.high || e.high == f.high && e.low < f.low }

func (s *shard) grow() {
	old := s.entries
	s.homes += s.homes/4 + 8
	s.entries = make([]entry, s.homes+behind)
	next := 0
	for _, e := range old {
		if e.row != 0 {
			next = max(next, s.home(e))
			s.entries[next] = e
			s.keepEnd(next)
			next++
		}
	}
}

// keepEnd keeps the last place free when one was taken.
func (s *shard) keepEnd(taken int) {
	if taken == len(s.entries)-1 {
		s.entries = append(s.entries, entry{})
	}
}

// place finds whether a valid row is the first of its person. It fails where the
// row is not, and asks for something else than the first, whose options stand.
func (p *people) place(row *Row) (same bool) {
	earlier, found := p.first(row.Key, row.Number)
	asks := p.optionsOf(row)
	if found {
		row.DuplicateOf = earlier
		return p.options[int32(earlier)] == asks
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
