package jobs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"bulkinvite/clerk/sandbox"
)

// TestListsSlowerThanFresh reads lists for longer than a read stays fresh. Each
// list alone takes longer than that, so that the first has ended too long ago by
// the time the second has.
func TestListsSlowerThanFresh(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{
		{Call: "list", Kind: sandbox.FaultSlow, Delay: sandbox.Duration(200 * time.Millisecond)}}})
	seeds := make([]sandbox.Seed, 2500)
	for i := range seeds {
		seeds[i].Email = person(1000 + i)
	}
	b.plant(seeds...)
	batch := b.batch(20, func(i int) string { return person(995 + i) }) // 15 of them are invited already
	b.exec(`update batches set started_at = started_at - interval '1 hour' where id = $1`, batch)
	cfg := quick
	cfg.fresh = 500 * time.Millisecond
	var log bytes.Buffer
	w := b.worker(cfg)
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	b.run(w, batch)
	if got := b.outcomes(batch); got["invited"] != 5 || got["already_invited"] != 15 {
		t.Errorf("outcomes %v, want 5 invited and 15 already_invited", got)
	}
	b.is("0", `select count(*) from attempts a join attempt_people p on p.attempt_id = a.id where p.answer = 'exists'`)
	if !strings.Contains(log.String(), "reading the lists of invitations is slow, and nobody is invited meanwhile") {
		t.Errorf("nothing warned: %s", &log)
	}
}
