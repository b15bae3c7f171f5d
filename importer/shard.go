package importer

import "math/bits"

// shard is a hash table with open addressing whose entries stand in the order of
// their hashes, each at its home or before it (Amble and Knuth, Ordered hash
// tables, 1974). A search ends at the first that is less, which is near even
// where seven eighths are taken.
//
// It grows where it is: new pages come behind the others, and entries only ever
// move towards them. Nothing is left behind for the garbage collector, and no
// moment needs memory twice.
type shard struct {
	pages []*page
	front uint // the places before the first home, for those who find it taken; the very first stays free
	used  uint
}

// page has 4 KiB.
type page [256]entry

// spareFront is how many places stand before the first home. Where they don't do,
// there will be more.
const spareFront = 32

func (s *shard) places() uint { return uint(len(s.pages) * len(page{})) }

func (s *shard) at(i uint) *entry { return &s.pages[i/uint(len(page{}))][i%uint(len(page{}))] }

// home is where an entry belongs: the higher its hash, the further behind.
func (s *shard) home(e entry) uint {
	home, _ := bits.Mul64(e.high, uint64(s.places()-s.front))
	return s.front + uint(home)
}

// first gives the row of the entry that came first with a hash, and keeps e where
// there was none.
func (s *shard) first(e entry) (earlier int, found bool) {
	switch {
	case s.pages == nil:
		s.grow(1, spareFront)
	case s.used*8 >= (s.places()-s.front)*7:
		s.grow(max(1, len(s.pages)/8), s.front)
	}
	i := s.home(e)
	for e.before(*s.at(i)) { // no free place is after any
		i--
	}
	if at := s.at(i); at.same(e) && at.low != 0 {
		return int(at.row()), true
	}
	s.used++
	for ; e.low != 0; i-- { // who is less makes room
		at := s.at(i)
		*at, e = e, *at
	}
	if s.at(0).low != 0 {
		s.grow(1, s.front+uint(len(page{})))
	}
	return 0, false
}

// grow adds pages, and takes the entries from the last to the first to where they
// belong now. No place is before the old one, so that none is taken yet.
func (s *shard) grow(pages int, front uint) {
	i := s.places()
	for range pages {
		s.pages = append(s.pages, new(page))
	}
	s.front = front
	next := s.places()
	for i > 0 {
		i--
		at := s.at(i)
		if e := *at; e.low != 0 {
			*at = entry{}
			next = min(next-1, s.home(e))
			*s.at(next) = e
		}
	}
}
