package importer

import (
	"fmt"
	"slices"
	"testing"
)

func TestPeople(t *testing.T) {
	t.Parallel()
	const rows = 200_000
	p := newPeople()
	first := func(key, row int) (earlier int, found bool) {
		h := p.hash(fmt.Sprintf("p%d@x.com", key), row)
		return p.shards[h.shard].first(h.entry)
	}
	for row := 1; row <= rows; row++ {
		if earlier, found := first(row, row); found {
			t.Fatalf("row %d is said to be row %d", row, earlier)
		}
	}
	for row := 1; row <= rows; row += 7 {
		if earlier, found := first(row, rows+row); !found || earlier != row {
			t.Fatalf("row %d: found %v, %d", row, found, earlier)
		}
	}
	places := uint(0)
	for i := range p.shards {
		places += p.shards[i].places()
	}
	if bytes := float64(places*16) / rows; bytes > 24 {
		t.Errorf("%.1f bytes a row", bytes)
	}
}

// TestShard finds entries again wherever they meet: at one home, at the last one,
// and where only the lower half of the hash differs.
func TestShard(t *testing.T) {
	t.Parallel()
	var s shard
	var all []entry
	with := func(high uint64, low, row int) entry { return entry{high, uint64(low)<<32 | uint64(row)} }
	for i := range 500 {
		row := 3 * i
		all = append(all, with(^uint64(0), i*7919%500, row+1), with(uint64(i)<<54, 0, row+2), with(0, i, row+3))
	}
	all = slices.DeleteFunc(all, func(e entry) bool { return e.row() == 2 }) // its hash is 0, as another's
	for _, e := range all {
		if earlier, found := s.first(e); found {
			t.Fatalf("row %d is said to be row %d", e.row(), earlier)
		}
	}
	for _, e := range all {
		if earlier, found := s.first(entry{e.high, e.low | 1<<31}); !found || earlier != int(e.row()) {
			t.Fatalf("row %d: found %v, %d", e.row(), found, earlier)
		}
	}
	if int(s.used) != len(all) {
		t.Errorf("%d entries of %d", s.used, len(all))
	}
}
