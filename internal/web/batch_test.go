package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
)

// sent is a batch of four rows, as if a worker had been at it: one invited, one
// accepted, one rejected, and one that waits.
func (w *browser) sent() {
	w.t.Helper()
	w.draft("hires.csv", "email\na@example.com\nb@example.com\nc@example.com\nd@example.com\n").want(http.StatusOK)
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	w.exec(`update results set outcome = 'invited', decided_at = now(), invited_at = now() - interval '1 hour', clerk_invitation_id = 'inv_' || row_number,
		status = case row_number when 1 then 'pending' else 'accepted' end, status_at = now() where row_number < 3`)
	w.exec(`update results set outcome = 'rejected', reason = 'form_param_format_invalid', decided_at = now() where row_number = 3`)
}

// TestUndo: as many invitations are typed as there are to revoke; the rest is
// cancelled, and a second undo is the first.
func TestUndo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.sent()
	w.draft("draft.csv", "email\nx@example.com\n").want(http.StatusOK)
	w.post("/batches/2/undo", url.Values{"invitations": {"0"}}).want(http.StatusConflict).says("can&#39;t be undone")
	w.get("/batches/1").want(http.StatusOK).says("Undo…", "1 invitation that nobody has accepted is revoked", "1 person is not invited any more", "Type the number of invitations to revoke: 1")
	b.as("alex").post("/batches/1/undo", url.Values{"invitations": {"1"}}).want(http.StatusForbidden)
	for _, typed := range []string{"", "2", "all"} {
		w.post("/batches/1/undo", url.Values{"invitations": {typed}}).want(http.StatusConflict).says("not the number of invitations to revoke: 1")
	}
	if n := b.count(`select count(*) from sweeps`); n != 0 {
		t.Fatalf("%d sweeps of what was refused", n)
	}
	for range 2 {
		w.post("/batches/1/undo", url.Values{"invitations": {"1"}}).want(http.StatusSeeOther)
	}
	if n := b.count(`select count(*) from sweeps where kind = 'undo' and apply and started_by = 'olga' and batch_id = 1`); n != 1 {
		t.Errorf("%d sweeps", n)
	}
	if n := b.count(`select count(*) from revocations v join river_job j on j.kind = 'revoke' and j.args->>'invitation' = v.clerk_invitation_id where v.clerk_invitation_id = 'inv_1'`); n != 1 {
		t.Errorf("%d revocations with a job", n)
	}
	if n := b.count(`select count(*) from results r join batches b on b.id = r.batch_id and b.state = 'cancelled' and b.finished_at is not null where r.outcome = 'cancelled' and r.row_number = 4`); n != 1 {
		t.Error("who waited is not cancelled")
	}
	w.get("/batches/1").want(http.StatusOK).says("Being undone", "by <bdi>olga</bdi>", "0 of 1 invitation revoked")

	w.draft("waits.csv", "email\ny@example.com\n").want(http.StatusOK)
	w.post("/batches/3/start", nil).want(http.StatusSeeOther)
	w.post("/batches/3/undo", url.Values{"invitations": {"all"}}).want(http.StatusConflict).says("not the number of invitations to revoke: 0")
}

// TestCourse draws what there is, and nothing of nothing.
func TestCourse(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("empty.csv", "email\nx@example.com\n").want(http.StatusOK)
	w.get("/batches/1/course").want(http.StatusOK).says("Nobody has been invited yet")
	b.exec(`update results set outcome = 'invited', decided_at = now(), invited_at = now() - interval '10 hours', clerk_invitation_id = 'inv_1', status = 'accepted', status_at = now() - interval '5 hours'`)
	w.get("/batches/1/course").want(http.StatusOK).says("1 person invited and 1 accepted", `class="l-invited" points="0,100 6,0 12,0`, `class="l-accepted" points="0,100 6,100 12,100`, "600,0")
}

// TestStates: the page says in words where a batch stands, whatever that is.
func TestStates(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.sent()
	w.get("/batches/1").want(http.StatusOK).says("No worker runs", "done about", "1 accepted", `hx-get="/batches/1/rows?"`)
	b.exec(`insert into workers (id, instance_id, host, pid, version, lock_key) values ('w', 1, 'h', 1, 'v', 1)`)
	b.exec(`with a as (insert into attempts (instance_id, bucket, call, worker_id, deadline, answered_at, resolved_at, resolution) values (1, 'create', 'create', 'w', now(), now(), now(), 'answered') returning id)
		insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, closed_at, resolution) select id, 1, 'a@example.com', 1, 1, false, 'created', now(), 'answered' from a`)
	w.get("/batches/1").want(http.StatusOK).says("up to 350 people an hour, 1 in the last hour", "99 of 100 left · all ")
	b.exec(`update buckets set frozen_until = now() + interval '1 hour', frozen_reason = 'Clerk said so', frozen_at = now() where name = 'bulk'`)
	w.get("/batches/1").want(http.StatusOK).says("Clerk said to slow down: no bulk requests until", "Clerk said so", "frozen until")
	for change, says := range map[string]string{
		`state = 'paused', paused_by = 'person', state_reason = null`:                         "Paused by a person. Nothing more is sent",
		`state = 'paused', paused_by = 'canary', state_reason = 'the first 5 were asked for'`: "It waits for a word: the first 5 were asked for",
		`state = 'paused', paused_by = 'breaker', state_reason = '9 of 20 were rejected'`:     "It stopped by itself: 9 of 20 were rejected",
		`state = 'paused', paused_by = 'clerk', state_reason = 'user_quota_exceeded'`:         "It stopped by itself: user_quota_exceeded",
		`state = 'cancelled', paused_by = null, state_reason = null, finished_at = null`:      "The answers of 1 row are awaited",
		`state = 'done', paused_by = null, state_reason = null, finished_at = now()`:          "1 row needs somebody to look",
	} {
		b.exec(`update batches set ` + change)
		w.get("/batches/1").want(http.StatusOK).says(says)
	}
	b.exec(`update batches set state = 'done', paused_by = null, state_reason = null, finished_at = now()`)
	b.exec(`update results set outcome = 'failed', reason = null, decided_at = now() where row_number in (3, 4)`)
	w.get("/batches/1").want(http.StatusOK).says("Retry 2 failed rows")
	w.post("/batches/1/retry", nil).want(http.StatusSeeOther)
	w.get("/batches/1").want(http.StatusOK).says("running", "<b>2</b> undecided")

	b.exec(`update results set outcome = case row_number when 3 then 'failed' else 'rejected' end, reason = null, decided_at = now() where row_number in (3, 4)`)
	w.get("/batches/1").want(http.StatusOK).says("Retry 1 failed row<", "Retry 1 rejected row too")
	w.post("/batches/1/retry", url.Values{"rejected": {"true"}}).want(http.StatusSeeOther)
	w.get("/batches/1?done=retry-rejected").want(http.StatusOK).says("<b>2</b> undecided", "The failed and rejected rows are taken up again")
}

// TestBatchPages: the list goes on page by page.
func TestBatchPages(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.exec(`insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
		select 1, 'file ' || i, '', 0, '', '', '{}', 'olga', 'draft' from generate_series(1, 60) i`)
	w := b.as("olga")
	a := w.get("/").want(http.StatusOK).says("file 60<", "file 11<", `href="/?before=11"`)
	if strings.Contains(a.body, "file 10<") {
		t.Error("the first page has more than fifty")
	}
	a = w.get("/?before=11").want(http.StatusOK).says("file 10<", "file 1<", "the newest")
	if strings.Contains(a.body, "older batches") {
		t.Error("the last page leads on")
	}
	w.get("/?before=x").want(http.StatusNotFound)
}

// TestShelf: what is small is counted each time; what is large once, until it is
// of something else or has become old, and then in the background.
func TestShelf(t *testing.T) {
	t.Parallel()
	s := setup(t, nil).server
	shelf := shelf[int]{}
	value, counts := 9, make(chan int, 10)
	get := func(stamp string) int {
		n, err := shelf.get(t.Context(), s, 1, stamp, func(context.Context) (int, int, error) {
			counts <- value
			return value, value * largeFrom / 10, nil
		})
		must.OK(t, err)
		return n
	}
	for _, c := range []struct {
		value  int
		stamp  string
		want   int
		counts int
	}{{9, "a", 9, 1}, {8, "a", 8, 1}, {10, "a", 10, 1}, {20, "a", 10, 0}, {30, "b", 30, 1}} {
		value = c.value
		if n := get(c.stamp); n != c.want || len(counts) != c.counts {
			t.Errorf("%+v: %d, counted %d times", c, n, len(counts))
		}
		for len(counts) > 0 {
			<-counts
		}
	}
	value = 40
	shelf.mu.Lock()
	shelf.all[1].at, shelf.all[1].cost = time.Now().Add(-time.Minute), time.Millisecond
	shelf.mu.Unlock()
	if n := get("b"); n != 30 {
		t.Errorf("who asks waits for %d", n)
	}
	<-counts
	s.work.Wait()
	if n := get("b"); n != 40 {
		t.Errorf("it stays at %d", n)
	}
}

// TestLargeBatch: the counts of a large batch are kept, but not over a change of
// its state.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("large.csv", people(largeFrom)).want(http.StatusOK).says("Invite 5,000 people")
	w.get("/").want(http.StatusOK).says("5,000")
	w.post("/batches/1/start", nil).want(http.StatusSeeOther)
	w.get("/batches/1").want(http.StatusOK).says("<b>0</b> of 5,000 decided", "done about")
	w.post("/batches/1/cancel", nil).want(http.StatusSeeOther)
	w.get("/batches/1").want(http.StatusOK).says("<b>5,000</b> of 5,000 decided")
	b.server.tallies.forget(1)
	b.server.warm()
	if n := len(b.server.tallies.all); n != 1 {
		t.Errorf("%d batches are counted before anybody asks", n)
	}
	if l, err := b.server.batchLines(t.Context(), 0, 1); err != nil || l[0].Outcomes[invitation.Cancelled] != largeFrom {
		t.Errorf("%+v, %v", l, err)
	}
}
