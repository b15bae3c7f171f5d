package importer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
)

// people remembers for each key the row that has it, in about 19 bytes a row.
//
// It keeps 104 bits of a keyed SHA-256 instead of the key: 8 choose a shard, the
// others stand in it. Two people whose hashes met would be one to it, and the
// second would lose the invitation: with 64 bits that happens once in some
// hundred thousand files of ten million rows, and can be brought about by whoever
// knows the hash; with 104 secret ones, once in 10^17.
type people struct {
	secret [16]byte // so that secret and key are one block of SHA-256 for most keys
	buf    []byte
	shards [256]shard
	hashes []hashed // of the rows that were met
	sum    uint64   // of what was read ahead of need
	// options has a fingerprint of a row's own options, for files that have such
	// columns. It only feeds a warning, for which 64 bits will do.
	options map[int32]uint64
	seed    maphash.Seed
}

// hashed is an entry and the shard that it belongs to.
type hashed struct {
	entry
	shard uint8
}

// entry is 96 bits of a hash, and in low's lower half the row that has it; 0 marks
// a free place.
type entry struct{ high, low uint64 }

func (e entry) row() int32 { return int32(e.low) }

func (e entry) before(f entry) bool {
	return e.high < f.high || e.high == f.high && e.low>>32 < f.low>>32
}

func (e entry) same(f entry) bool { return e.high == f.high && e.low>>32 == f.low>>32 }

func newPeople() *people {
	p := &people{options: map[int32]uint64{}, seed: maphash.MakeSeed()}
	rand.Read(p.secret[:]) // it never fails: crypto/rand ends the program instead
	return p
}

func (p *people) hash(key string, row int) hashed {
	p.buf = append(append(p.buf[:0], p.secret[:]...), key...)
	sum := sha256.Sum256(p.buf)
	return hashed{entry{binary.BigEndian.Uint64(sum[:]), uint64(binary.BigEndian.Uint32(sum[8:]))<<32 | uint64(row)}, sum[12]}
}

// meet readies the rows that are to be placed next. It reads where each is going
// to be looked for: memory answers many such reads in the time of one, while a
// search waits for its own.
func (p *people) meet(rows []Row) {
	p.hashes = p.hashes[:0]
	for i := range rows {
		var h hashed
		if rows[i].Problem == nil {
			h = p.hash(rows[i].Key, rows[i].Number)
		}
		p.hashes = append(p.hashes, h)
	}
	for _, h := range p.hashes {
		if s := &p.shards[h.shard]; s.pages != nil {
			p.sum += s.at(s.home(h.entry)).low
		}
	}
}

// place finds whether a valid row, one of those that were met, is the first of its
// person. It fails where the row is not, and asks for something else than the
// first, whose options stand.
func (p *people) place(row *Row, h hashed) (same bool) {
	earlier, found := p.shards[h.shard].first(h.entry)
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
