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
	for row := 1; row <= rows; row++ {
		if earlier, found := p.first(fmt.Sprintf("p%d@x.com", row), row); found {
			t.Fatalf("row %d is said to be row %d", row, earlier)
		}
	}
	for row := 1; row <= rows; row += 7 {
		if earlier, found := p.first(fmt.Sprintf("p%d@x.com", row), rows+row); !found || earlier != row {
			t.Fatalf("row %d: found %v, %d", row, found, earlier)
		}
	}
	slots := 0
	for i := range p.shards {
		slots += cap(p.shards[i].entries)
	}
	if bytes := float64(slots*16) / rows; bytes > 24 {
		t.Errorf("%.1f bytes a row", bytes)
	}
}

// TestShard finds entries again wherever they meet: at one home, at the last one,
// and where only the lower half of the hash differs.
func TestShard(t *testing.T) {
	t.Parallel()
	var s shard
	var all []entry
	for i := range 500 {
		row := int32(3 * i)
		all = append(all, entry{^uint64(0), uint32(i * 7919 % 500), row + 1}, entry{uint64(i) << 54, 0, row + 2}, entry{0, uint32(i), row + 3})
	}
	all = slices.DeleteFunc(all, func(e entry) bool { return e.row == 2 }) // its hash is 0, as another's
	for _, e := range all {
		if earlier, found := s.first(e); found {
			t.Fatalf("row %d is said to be row %d", e.row, earlier)
		}
	}
	for _, e := range all {
		if earlier, found := s.first(entry{e.high, e.low, -1}); !found || earlier != int(e.row) {
			t.Fatalf("row %d: found %v, %d", e.row, found, earlier)
		}
	}
	if s.used != len(all) {
		t.Errorf("%d entries of %d", s.used, len(all))
	}
}
