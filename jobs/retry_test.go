package jobs

import (
	"testing"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
	"bulkinvite/ratelimit"
)

// TestRetryLeavesWithdrawnRows rescinds a person whose request is under way, and which Clerk then rejects. A retry
// leaves that row out: no worker claims a row that was withdrawn. If the rescind was stopped, the retry takes it,
// unless another one withdrew the row too.
func TestRetryLeavesWithdrawnRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stopped, twice bool
		mails          int
	}{"done": {}, "stopped": {stopped: true, mails: 1}, "one of two stopped": {stopped: true, twice: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, sandbox.Config{Limits: unlimited, Blocked: []string{person(0), person(1)}})
			id := b.batch(2, person)
			b.exec(`update batches set preflight = false where id = $1`, id)
			w := b.worker(Config{Bulk: ratelimit.Limit{Off: true}})
			tickets := b.claims(w, 2)

			sw := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true}
			if _, err := Rescind(t.Context(), b.pool, sw, persons(0)); err != nil {
				t.Fatal(err)
			}
			if c.twice {
				again := &revocation.Sweep{InstanceID: b.instance.ID, Kind: revocation.KindRescind, StartedBy: "olga", Apply: true}
				if _, err := Rescind(t.Context(), b.pool, again, persons(0)); err != nil {
					t.Fatal(err)
				}
			}
			for _, ticket := range tickets {
				w.sender.send(t.Context(), ticket)
			}
			if got := b.outcomes(id)["rejected"]; got != 2 {
				t.Fatalf("%d rows were rejected, want 2: %v", got, b.outcomes(id))
			}
			if c.stopped {
				b.stop(sw.ID)
			}
			if err := revocation.FinishSweeps(t.Context(), b.pool, b.instance.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := batch.Finish(t.Context(), b.pool, b.instance.ID); err != nil {
				t.Fatal(err)
			}

			b.sandbox.Tell("config", `{"blocked":[]}`)
			b.retry(id, invitation.Rejected)
			b.run(b.worker(quick), id)
			mails := b.mails()
			if mails[person(0)] != c.mails || mails[person(1)] != 1 {
				t.Errorf("%d mails for the person who was rescinded, want %d; %d for the other, want 1",
					mails[person(0)], c.mails, mails[person(1)])
			}
			b.is("done", `select state from batches where id = $1`, id)
			b.proven(id)
		})
	}
}

// retry opens the failed rows of a batch again, and those with the outcomes in also.
func (b *bundle) retry(batch int64, also ...invitation.Outcome) {
	b.t.Helper()
	_, err := Retry(b.t.Context(), b.pool, b.read(batch), "maria", also...)
	must.OK(b.t, err)
}
