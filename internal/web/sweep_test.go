package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/internal/revocation"
	"bulkinvite/jobs"
	"bulkinvite/ratelimit"
)

// sweep begins a sweep of so many invitations out of a hundred; more than
// thirty are held.
func (b *bench) sweep(targets int) *revocation.Sweep {
	b.t.Helper()
	sw := &revocation.Sweep{InstanceID: b.server.cfg.Instance.ID, Kind: revocation.KindRescind, StartedBy: "maria", Apply: true, Scanned: 100}
	var all []ledger.Target
	for i := range targets {
		all = append(all, ledger.Target{Person: ledger.Person{Key: fmt.Sprintf("p%d@example.com", i), InvitationID: fmt.Sprintf("inv_%03d", i)}})
	}
	err := pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error { return jobs.BeginSweep(b.t.Context(), tx, sw, all) })
	must.OK(b.t, err)
	return sw
}

const revokeJobs = `select count(*) from river_job where kind = 'revoke'`

// TestAllowSweep: a held sweep stands on top, revokes nothing by being looked at,
// and begins when an operator allows it, once.
func TestAllowSweep(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	olga, alex := b.as("olga"), b.as("alex")
	olga.get("/sweeps").want(http.StatusOK).says("No sweeps yet", "No night was swept yet", "None: ")
	sw := b.sweep(60)
	path := fmt.Sprintf("/sweeps/%d", sw.ID)
	page := olga.get("/sweeps").want(http.StatusOK).says("is held", "would revoke 60 of 100 pending invitations", "More than 30 at a time", `action="`+path+`/allow"`)
	if strings.Index(page.body, "is held") > strings.Index(page.body, "All sweeps") {
		t.Error("the held sweep is not on top")
	}
	first := olga.get(path).want(http.StatusOK).says("held", "p0@example.com", "inv_049", "not decided yet")
	if strings.Contains(first.body, "inv_050") {
		t.Error("a page has more than 50 invitations")
	}
	olga.get(path+"?after=inv_049").want(http.StatusOK).says("inv_050", "inv_059")

	if body := alex.get("/sweeps").want(http.StatusOK).body + alex.get(path).want(http.StatusOK).body; strings.Contains(body, "/allow") || strings.Contains(body, "/stop") {
		t.Error("an auditor is offered to allow it")
	}
	for _, action := range []string{"/allow", "/stop"} {
		alex.post(path+action, nil).want(http.StatusForbidden)
		olga.post("/sweeps/99"+action, nil).want(http.StatusNotFound)
	}
	if n := b.count(revokeJobs); n != 0 {
		t.Fatalf("%d jobs before anybody allowed it", n)
	}
	a := olga.post(path+"/allow", nil).want(http.StatusSeeOther)
	olga.follow(a).want(http.StatusOK).says("going on", "allowed by <bdi>olga</bdi>", "Allowed. Workers revoke", "No worker runs")
	if n := b.count(revokeJobs); n != 60 {
		t.Errorf("%d jobs, want one for each of 60", n)
	}
	olga.post(path+"/allow", nil).want(http.StatusConflict).says("going on")
	if n := b.count(`select count(*) from events where action = 'sweep_allowed' and actor = 'olga'`); n != 1 {
		t.Errorf("%d events say that it was allowed", n)
	}
	olga.post(path+"/stop", nil).want(http.StatusSeeOther)
	olga.post(path+"/stop", nil).want(http.StatusConflict).says("is done")
	olga.get(path).want(http.StatusOK).says("left when it was stopped")
}

// TestSweepsGoBack pages through the sweeps, and shows the nights.
func TestSweepsGoBack(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("alex")
	for range pageRows + 2 {
		b.sweep(1)
	}
	b.exec(`update sweeps set night = '2026-03-04 02:00Z', scanned = 7, revoked = 1, finished_at = now() where id = 3`)
	b.exec(`insert into schedules (instance_id, expression, tz) values ($1, '0 2 * * *', 'Europe/Berlin')`, b.server.cfg.Instance.ID)
	page := w.get("/sweeps").want(http.StatusOK).says(`href="/sweeps/52"`, `href="/sweeps?before=3"`, `<a href="/sweeps/3">sweep 3</a> looked at 7 pending invitations, revoked 1`, "Europe/Berlin", "none runs now")
	if strings.Contains(page.body, `href="/sweeps/2"`) {
		t.Error("the first page has more than 50")
	}
	w.get("/sweeps?before=3").want(http.StatusOK).says(`href="/sweeps/2"`, `href="/sweeps/1"`)
	for _, bad := range []string{"/sweeps?before=x", "/sweeps?before=-1", "/drift?kind=odd", "/drift?after=inv_1", "/drift?after=inv_1&seen=now&instance=1"} {
		w.get(bad).want(http.StatusUnprocessableEntity)
	}
	for _, bad := range []string{"/sweeps/99", "/sweeps/x", "/sweeps/99999999999999999999"} {
		w.get(bad).want(http.StatusNotFound)
	}
}

// TestDrift pages through more drift than a page holds, all of it found at one
// moment, and meets each once.
func TestDrift(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("alex")
	w.get("/drift").want(http.StatusOK).says("was not held against the rows yet", "No drift")
	const all = 2*pageRows + 1
	b.exec(`insert into drift (instance_id, kind, clerk_invitation_id, key, status, first_seen, last_seen)
		select $1, case when n % 2 = 0 then 'gone' else 'unexplained' end, 'inv_' || lpad(n::text, 3, '0'), 'p' || n || '@example.com', 'pending', '2026-01-02 03:04:05.678901Z', now()
		from generate_series(1, $2) n`, b.server.cfg.Instance.ID, all)
	b.exec(`insert into reconciles (instance_id, worker_id, started_by, finished_at, complete, error, scanned) values ($1, 'w', 'every 15m', now(), false, 'refused', 812)`, b.server.cfg.Instance.ID)
	met := map[string]int{}
	path, pages := "/drift", 0
	for ; path != ""; pages++ {
		a := w.get(path).want(http.StatusOK).says("812 invitations", "did not read everything (refused)")
		for i := range all {
			met[fmt.Sprint(i+1)] += strings.Count(a.body, fmt.Sprintf(">inv_%03d<", i+1))
		}
		path = ""
		if _, rest, more := strings.Cut(a.body, `href="/drift?after=`); more {
			query, _, _ := strings.Cut(rest, `"`)
			path = "/drift?after=" + strings.ReplaceAll(query, "&amp;", "&")
		}
	}
	for id, n := range met {
		if n != 1 {
			t.Errorf("invitation %s was met %d times", id, n)
		}
	}
	if pages != 3 {
		t.Errorf("%d pages", pages)
	}
	if gone := w.get("/drift?kind=gone").want(http.StatusOK); strings.Contains(gone.body, "inv_101") || !strings.Contains(gone.body, "inv_100") || !strings.Contains(gone.body, "kind=gone") == (all/2 > pageRows) {
		t.Error("the kind is not held to")
	}
}

// TestBudget draws what weighs where it returns, and what is frozen.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("alex")
	w.get("/budget").want(http.StatusOK).says("<b>25</b> of 25 left", "<b>100</b> of 100 left", "<b>1,000</b> of 1,000 left", "Nothing weighs on it")
	id := b.server.cfg.Instance.ID
	b.exec(`insert into attempts (instance_id, bucket, call, worker_id, started_at, deadline, answered_at, resolved_at, resolution)
		select $1, 'bulk', 'bulk', 'w', now() - ago, now() - ago + interval '20s', now() - ago, now(), 'answered' from unnest(array['59 minutes', '30 minutes', '2 hours']::interval[]) ago`, id)
	b.exec(`insert into leases (instance_id, worker_id, tokens, use_by, settled_at) values ($1, 'w', 50, now(), now() - interval '2 seconds'), ($1, 'w', 7, now(), now() - interval '1 minute')`, id)
	b.exec(`update buckets set frozen_until = now() + interval '30 minutes', frozen_reason = 'rate_limited', frozen_at = now() where instance_id = $1 and name = 'create'`, id)
	a := w.get("/budget").want(http.StatusOK).says("<b>23</b> of 25 left", "<b>0</b> of 100 left", "<b>950</b> of 1,000 left", "Frozen until", "rate_limited", `class="frozen" width="49`)
	if n := strings.Count(a.body, `class="tick"`); n != 3 {
		t.Errorf("%d ticks, want two bulk requests and one block", n)
	}
	b.exec(`insert into workers
		(id, instance_id, host, pid, version, lock_key, limit_create, limit_bulk, limit_general)
		values ('w_1', $1, 'h', 1, 'v', 1, '50/1h', '25/1h', '1000/10s'),
		       ('w_2', $1, 'h', 2, 'v', 1, '100/1h', '25/1h', '1000/10s')`, id)
	w.get("/budget").want(http.StatusOK).
		says("<b>0</b> of 50 left", "different limits", "w_1 (h, pid 1): create 50/1h")
	b.exec(`delete from workers`)
	r := w.request(http.MethodGet, "/budget", nil)
	r.Header.Set("HX-Target", "div#strips")
	if part := w.do(r).want(http.StatusOK).says("<b>23</b> of 25 left").body; strings.Contains(part, "<html") {
		t.Error("the poll gets the whole page")
	}
	if n := w.post("/budget", url.Values{}).status; n != http.StatusMethodNotAllowed && n != http.StatusNotFound {
		t.Errorf("POST: %d", n)
	}
}

// TestDrawStrip puts requests where they return.
func TestDrawStrip(t *testing.T) {
	t.Parallel()
	limit := ratelimit.Limit{N: 25, Window: time.Hour}
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	whole := limit.Weight()
	weighing := singles([]time.Duration{whole, whole / 2, whole / 2, 0, -time.Second})
	st := drawStrip(usage{Frozen: now.Add(2 * whole), Limit: limit, Weighing: weighing}, now)
	want := []int{0, 0, 500, 500, 996}
	for i, tick := range st.Ticks {
		if tick.X != want[i] || tick.H != 100 {
			t.Errorf("tick %d stands at %d, want %d", i, tick.X, want[i])
		}
	}
	if st.Until != 1000 {
		t.Errorf("frozen for %d of a thousand", st.Until)
	}
	sum := 0
	for i, r := range st.Returns {
		sum += r.Requests
		if i > 0 && !r.At.After(st.Returns[i-1].At) {
			t.Errorf("returns are out of order: %v", st.Returns)
		}
	}
	if sum != 5 {
		t.Errorf("%d requests return, want 5", sum)
	}
}
