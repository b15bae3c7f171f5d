package jobs

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
)

// TestListsSlowerThanFresh reads lists for longer than a read stays fresh. Each
// list alone takes longer than that, so that the first has ended too long ago by
// the time the second has.
func TestListsSlowerThanFresh(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited, Faults: []sandbox.Fault{
		{Call: "list", Kind: sandbox.FaultSlow, Delay: sandbox.Duration(200 * time.Millisecond)}}})
	seeds := make([]sandbox.Seed, 1500)
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
	b.want(batch, tally{"invited": 5, "already_invited": 15})
	b.is("0", `select count(*) from attempts a join attempt_people p on p.attempt_id = a.id where p.answer = 'exists'`)
	expect.Text(t, log.String(), "reading the lists of invitations is slow, and nobody is invited meanwhile")
}

// TestReadDuringImport reads Clerk between the moment that an import says its
// batch started at and its commit. Such a read can't see the import's rows, so it
// keeps nothing of their people and guards no claim of theirs.
func TestReadDuringImport(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: unlimited})
	b.plant(sandbox.Seed{Email: person(0), Age: sandbox.Duration(time.Hour)})
	w := b.worker(quick)
	must.OK(t, w.presence.register(t.Context()))
	batch := b.batchWhile(2, person, func() {
		back := time.Now().Add(-time.Hour)
		for _, err := range []error{b.passed(w, ledger.ReadPending, time.Time{}),
			b.passed(w, ledger.ReadAll, back), b.passed(w, ledger.ReadRevoked, back)} {
			must.OK(t, err)
		}
	})
	cases, err := w.reader.load(t.Context(), []invitation.RowID{{Batch: batch, Row: 1}})
	if err != nil || !cases[0].Coverage.Invitations.IsZero() {
		t.Errorf("%v: reads from before the commit guard the batch: %+v", err, cases[0].Coverage)
	}
	b.run(w, batch)
	b.is("already_invited, invited", `select string_agg(outcome, ', ' order by row_number) from results where batch_id = $1`, batch)
	b.is("0", `select count(*) from attempt_people where answer = 'exists'`)
	b.is("true", `select bool_and(reads_from > started_at) from batches where id = $1`, batch)
}

func (b *bundle) passed(w *Worker, call string, back time.Time) error {
	_, err := w.reader.pass(b.t.Context(), call, back)
	return err
}
