package importer

import (
	"fmt"
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
		slots += len(p.shards[i].rows)
	}
	if bytes := float64(slots*20) / rows; bytes > 28 {
		t.Errorf("%.1f bytes a row", bytes)
	}
}
