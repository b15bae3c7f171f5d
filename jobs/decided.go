package jobs

import (
	"sync"

	"bulkinvite/invitation"
)

// decided remembers rows that this process has seen invited, which is final:
// most jobs find their row decided by another job's request, and need not ask the
// database. It forgets the older ones; those are asked for.
type decided struct {
	mu       sync.Mutex
	new, old map[invitation.RowID]struct{}
}

// rememberedRows is about how many rows are remembered, twice at the most.
const rememberedRows = 50_000

func (d *decided) add(row invitation.RowID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.new == nil || len(d.new) == rememberedRows {
		d.old, d.new = d.new, make(map[invitation.RowID]struct{})
	}
	d.new[row] = struct{}{}
}

// forget is for rows that the database has undecided: one that took over from
// another may lack what that had committed last.
func (d *decided) forget(row invitation.RowID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.new, row)
	delete(d.old, row)
}

func (d *decided) has(row invitation.RowID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, yes := d.new[row]
	if !yes {
		_, yes = d.old[row]
	}
	return yes
}
