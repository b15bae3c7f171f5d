package web

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
)

// whileHeld has requests wait for a batch, until all of them do, does something
// to it before any of them, and lets them go on. It returns when they are answered.
func (b *bench) whileHeld(batch int64, first func(pgx.Tx) error, requests ...func()) {
	b.t.Helper()
	tx, err := b.pool.Begin(b.t.Context())
	must.OK(b.t, err)
	defer tx.Rollback(b.t.Context()) // it is over where all went well
	must.Exec(b.t, tx, `select from batches where id = $1 for update`, batch)
	var all sync.WaitGroup
	for _, ask := range requests {
		all.Go(ask)
	}
	b.until("everybody waits for the batch", func() bool {
		return b.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == len(requests)
	})
	must.OK(b.t, first(tx))
	must.OK(b.t, tx.Commit(b.t.Context()))
	all.Wait()
}

// TestStartTakesLastOptions: options that change while somebody starts a draft are
// those that it is started with, by the page and by the API; what the page's form
// says itself counts as later.
func TestStartTakesLastOptions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w, s := b.as("olga"), b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	s.csv("", "email\nb@example.com\n").want(http.StatusCreated)
	change := func(batch int64) func(tx pgx.Tx) error {
		return func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `update batches set canary = 1, priority = 3, options = '{"redirect_url": "https://app.example.com/late"}' where id = $1`, batch)
			return err
		}
	}
	b.whileHeld(1, change(1), func() { s.post("/batches/1/start", "").want(http.StatusOK) })
	b.whileHeld(2, change(2), func() { w.post("/batches/2/start", url.Values{"canary": {""}}).want(http.StatusSeeOther) })
	for id, canary := range map[int64]int{1: 1, 2: 0} {
		batch, err := batch.Batch(t.Context(), b.server.pool, id)
		if err != nil || batch.State != invitation.Running || batch.Canary != canary || batch.Priority != 3 || batch.Options.RedirectURL != "https://app.example.com/late" {
			t.Errorf("%+v, %v", batch, err)
		}
	}
	if jobs := b.count(`select count(*) from river_job where kind = 'invite' and priority = 3`); jobs != 3 {
		t.Errorf("%d jobs have the priority of their batch", jobs)
	}
}

// TestOptionsAreNotLost: of two people who change different options of a draft at
// once, neither undoes what the other did.
func TestOptionsAreNotLost(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w, s := b.as("olga"), b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	b.whileHeld(1, func(pgx.Tx) error { return nil },
		func() { s.ask(http.MethodPatch, "/batches/1/options", jsonType, `{"canary":1}`).want(http.StatusOK) },
		func() { w.post("/batches/1/options", url.Values{"priority": {"4"}}).want(http.StatusSeeOther) },
		func() {
			s.ask(http.MethodPatch, "/batches/1/options", jsonType, `{"expires_in_days":9}`).want(http.StatusOK)
		})
	batch, err := batch.Batch(t.Context(), b.server.pool, 1)
	if err != nil || batch.Canary != 1 || batch.Priority != 4 || batch.Options.ExpiresInDays != 9 {
		t.Errorf("%+v, %v", batch, err)
	}
	if n := b.count(`select count(*) from events where action = 'set'`); n != 3 {
		t.Errorf("%d events of three changes", n)
	}
}

// TestStartCountsLastRows: a file that was read in another way while somebody
// starts it is not started with the number of people that it had before.
func TestStartCountsLastRows(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Real = true })
	w, s := b.as("olga"), b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	reread := func(tx pgx.Tx) error {
		b2 := &invitation.Batch{ID: 1, Encoding: "UTF-8", Delimiter: ";", Columns: []string{"E-Mail-Adresse"}, Rows: 1, Blank: 3}
		if err := batch.EmptyDraft(t.Context(), tx, 1); err != nil {
			return err
		}
		if err := batch.DescribeDraft(t.Context(), tx, b2); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `insert into results (batch_id, instance_id, row_number, line, original, email, key) values (1, $1, 1, 2, '{jane2@example.com}', 'jane2@example.com', 'jane2@example.com')`, b.server.cfg.Instance.ID)
		return err
	}
	b.whileHeld(1, reread,
		func() {
			s.post("/batches/1/start", `{"people":2}`).refused(http.StatusConflict, "not the number of people: 1")
		},
		func() {
			w.post("/batches/1/start", url.Values{"people": {"2"}}).want(http.StatusConflict).says("not the number of people: 1")
		})
	s.post("/batches/1/start", `{"people":1}`).want(http.StatusOK)
	if batch, err := batch.Batch(t.Context(), b.server.pool, 1); err != nil || batch.Rows != 1 || batch.Blank != 3 {
		t.Errorf("%+v, %v", batch, err)
	}
}

// TestRescindWaitsForReading: somebody who is rescinded while a draft's file is read
// in another way is taken out of what was read.
func TestRescindWaitsForReading(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	instance := b.server.cfg.Instance.ID
	reread := func(tx pgx.Tx) error {
		if err := batch.EmptyDraft(t.Context(), tx, 1); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `insert into results (batch_id, instance_id, row_number, line, original, email, key)
			values (1, $1, 7, 2, '{jane@example.com}', 'jane@example.com', 'jane@example.com')`, instance)
		return err
	}
	b.whileHeld(1, reread, func() {
		sw := &revocation.Sweep{InstanceID: instance, Kind: revocation.KindRescind, StartedBy: "olga", Apply: true,
			Allow: true}
		w, err := jobs.Rescind(t.Context(), b.server.pool, sw, []string{"jane@example.com"})
		if err != nil || len(w.Waiting) != 1 {
			t.Errorf("%+v, %v", w, err)
		}
	})
	if n := b.count(`select count(*) from results
		where batch_id = 1 and row_number = 7 and outcome = 'cancelled' and reason = 'withdrawn'`); n != 1 {
		t.Error("who was rescinded is still to be invited")
	}
}

// TestStartBeforeReadAgain: a draft that is started before its file is read in
// another way is sent as it was, and whoever wanted it read so is told.
func TestStartBeforeReadAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w, s := b.as("olga"), b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	s.csv("map=email=email", "a,email\nx@example.com,y@example.com\n").want(http.StatusCreated)
	for range checksAtOnce {
		b.server.checks.turns <- struct{}{} // no file is read meanwhile
	}
	var all sync.WaitGroup
	all.Go(func() {
		s.ask(http.MethodPut, "/batches/1/columns", jsonType, `{"map":{"email":"Zweite"}}`).refused(http.StatusConflict, "Batch 1 is running", `"batch":1`)
	})
	all.Go(func() {
		w.again("/uploads/2", url.Values{"column": {"a", "email"}, "meaning": {"email", ""}}).want(http.StatusOK).says("before its file was read again", "y@example.com")
	})
	b.until("both files wait to be read", func() bool { return b.count(`select count(*) from uploads where checked_at is null`) == 2 })
	s.post("/batches/1/start", `{"people":2}`).want(http.StatusOK)
	s.post("/batches/2/start", `{"people":1}`).want(http.StatusOK)
	for range checksAtOnce {
		<-b.server.checks.turns
	}
	all.Wait()
	if n := b.count(`select count(*) from results where email in ('jane@example.com', 'ana@example.com', 'y@example.com') and outcome is null`); n != 3 {
		t.Errorf("%d of three people are as they were", n)
	}
	s.get("/uploads/1").want(http.StatusOK).says(`"state":"draft","batch":1`, "is running")
}

// TestDiscardAgainstStart: a draft that was discarded is not sent, and one that
// somebody started first is not stopped by who meant to discard a draft. Every row
// is accounted for.
func TestDiscardAgainstStart(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	for batch := 1; batch <= 6; batch++ {
		s.csv("", fmt.Sprintf("email\na%[1]d@example.com\nb%[1]d@example.com\n", batch)).want(http.StatusCreated)
		var started, discarded answer
		path := fmt.Sprintf("/batches/%d", batch)
		b.whileHeld(int64(batch), func(pgx.Tx) error { return nil },
			func() { started = s.post(path+"/start", "") },
			func() { discarded = s.post(path+"/discard", "") })
		jobs, cancelled := b.count(`select count(*) from river_job where kind = 'invite'`), b.count(`select count(*) from results where batch_id = $1 and outcome = 'cancelled'`, batch)
		b.exec(`delete from river_job`)
		if started.status == http.StatusOK {
			discarded.refused(http.StatusConflict, "running")
		} else {
			started.refused(http.StatusConflict, "cancelled")
		}
		if first := started.status == http.StatusOK; first != (discarded.status == http.StatusConflict) || jobs != map[bool]int{true: 2}[first] || cancelled != map[bool]int{false: 2}[first] {
			t.Errorf("batch %d: start %d, discard %d; %d jobs, %d rows cancelled", batch, started.status, discarded.status, jobs, cancelled)
		}
	}
	// In this order, whoever was faster above.
	s.csv("", messy).want(http.StatusCreated)
	s.post("/batches/7/start", "").want(http.StatusOK)
	s.post("/batches/7/discard", "").refused(http.StatusConflict, "Batch 7 is running: it can't be discarded")
	if n := b.count(`select count(*) from results where batch_id = 7 and outcome is null`); n != 2 {
		t.Errorf("%d rows of a batch that was started go on", n)
	}
}

// TestFormSentTwiceLate: a start that comes once more shows the batch, also one
// that is over by then; one of a draft that was discarded does not.
func TestFormSentTwiceLate(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	b.exec(`update results set outcome = 'rejected', decided_at = now() where outcome is null`)
	b.exec(`update batches set state = 'done', finished_at = now()`)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	w.draft("more.csv", "email\na@example.com\n").want(http.StatusOK)
	w.post("/batches/2/cancel", nil).want(http.StatusSeeOther)
	w.post("/batches/2/start", nil).want(http.StatusConflict).says("Batch 2 is cancelled")
}
