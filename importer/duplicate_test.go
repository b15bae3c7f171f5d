package importer

import (
	"fmt"
	"testing"
)

func TestPeople(t *testing.T) {
	t.Parallel()
	const rows = 100_000
	p := newPeople()
	key := func(row int) string { return fmt.Sprintf("p%d@x.com", row) }
	for row := 1; row <= rows; row++ {
		if first := p.first(key(row), row); first != row {
			t.Fatalf("row %d is said to be row %d", row, first)
		}
	}
	for row := 1; row <= rows; row += 7 {
		if first := p.first(key(row), rows+row); first != row {
			t.Fatalf("row %d is said to be row %d", row, first)
		}
	}
}
