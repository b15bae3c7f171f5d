package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/ratelimit"
)

// plant plants invitations and returns their ids by address.
func (b *bundle) plant(seeds ...sandbox.Seed) map[string]string {
	b.t.Helper()
	list := make([]map[string]any, len(seeds))
	for i, s := range seeds {
		list[i] = map[string]any{"email": s.Email, "age": time.Duration(s.Age).String()}
		if s.Status != "" {
			list[i]["status"] = s.Status
		}
	}
	text, err := json.Marshal(list)
	must.OK(b.t, err)
	b.sandbox.Tell("invitations", string(text))
	var all []struct{ ID, Email string }
	b.sandbox.Ask("invitations", &all)
	ids := map[string]string{}
	for _, one := range all {
		ids[one.Email] = one.ID
	}
	return ids
}

// has makes rows of people, each with an invitation and what we know of it, decided
// an hour ago.
func (b *bundle) has(outcome, status string, ids map[string]string) int64 {
	b.t.Helper()
	people := slices.Sorted(maps.Keys(ids))
	batch := b.batch(len(people), func(i int) string { return people[i] })
	for i, p := range people {
		b.exec(`update results set outcome = $3, status = $4, status_at = now() - interval '1 hour', decided_at = now() - interval '1 hour', clerk_invitation_id = $5,
			invited_at = now() - interval '1 hour', attempt_id = 1 where batch_id = $1 and row_number = $2`, batch, i+1, outcome, status, ids[p])
	}
	b.exec(`update batches set state = 'done' where id = $1`, batch)
	return batch
}

func (b *bundle) reconcile() *ledger.Reconcile {
	b.t.Helper()
	r, err := b.worker(Config{Settle: quick.Settle}).Reconcile(b.t.Context(), "maria")
	must.OK(b.t, err)
	return r
}

const month = sandbox.Duration(31 * 24 * time.Hour) // what is older has expired

// TestReconcileLearnsStatus holds what Clerk says against what the rows say,
// in each pair of words.
func TestReconcileLearnsStatus(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	at := map[string]sandbox.Seed{"pending": {}, "accepted": {Status: "accepted"}, "revoked": {Status: "revoked"}, "expired": {Age: month}}
	want := map[string]string{ // by what the row says and what Clerk says
		"pending pending": "pending", "pending accepted": "accepted", "pending revoked": "revoked", "pending expired": "expired",
		"expired pending": "expired", "expired accepted": "accepted", "expired revoked": "revoked", "expired expired": "expired",
		"accepted pending": "accepted", "accepted accepted": "accepted", "accepted revoked": "accepted", "accepted expired": "accepted",
		"revoked pending": "revoked", "revoked accepted": "revoked", "revoked revoked": "revoked", "revoked expired": "revoked",
	}
	batches := map[string]int64{}
	for _, outcome := range []string{"invited", "already_invited"} {
		for pair := range want {
			ours, clerks, _ := strings.Cut(pair, " ")
			s := at[clerks]
			s.Email = strings.ReplaceAll(pair, " ", "-") + "@" + strings.ReplaceAll(outcome, "_", "-") + ".example"
			ids := b.plant(s)
			batches[outcome+" "+pair] = b.has(outcome, ours, map[string]string{s.Email: ids[s.Email]})
		}
	}
	r := b.reconcile()
	if !r.Complete || r.Requests != 2 || r.Scanned != 32 || r.Learned != (ledger.Learned{Accepted: 4, Expired: 2, Revoked: 4}) {
		t.Errorf("%+v", r)
	}
	for name, batch := range batches {
		_, pair, _ := strings.Cut(name, " ")
		ours, _, _ := strings.Cut(pair, " ")
		b.is(want[pair], `select status from results where batch_id = $1`, batch)
		b.is(fmt.Sprint(want[pair] != ours), `select status_read_id is not null and status_at > now() - interval '1 minute' from results where batch_id = $1`, batch)
	}
	// What is over by our own row must not be open at Clerk.
	b.is("3", `select count(*) from drift where kind = 'pending_again' and ended_at is null and batch_id is not null`)
	b.is("0", `select count(*) from drift where kind <> 'pending_again'`)
	if again := b.reconcile(); again.Learned != (ledger.Learned{}) || again.Drift != r.Drift {
		t.Errorf("the second time: %+v, after %+v", again, r)
	}
	b.is("0", `select count(*) from reads r where not exists (select from results where status_read_id = r.id)`)
}

// TestReconcileFindsDrift plants each kind of drift, and what looks like it.
func TestReconcileFindsDrift(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	ids := b.plant(
		sandbox.Seed{Email: "mine@example.com"}, sandbox.Seed{Email: "somebodys@example.com"}, sandbox.Seed{Email: "old@example.com", Age: month},
		sandbox.Seed{Email: "joined@example.com", Status: "accepted"}, sandbox.Seed{Email: "taken@example.com", Status: "revoked"},
		sandbox.Seed{Email: "inflight@example.com"}, sandbox.Seed{Email: "second@example.com"})
	batch := b.has("invited", "pending", map[string]string{"mine@example.com": ids["mine@example.com"]})
	gone := b.has("invited", "accepted", map[string]string{"gone@example.com": "inv_gone"})
	b.has("invited", "pending", map[string]string{"new@example.com": "inv_new"})
	b.exec(`update results set decided_at = now() + interval '1 minute' where clerk_invitation_id = 'inv_new'`) // the list may lag
	// An attempt of the row of another invitation made this one before.
	b.has("invited", "pending", map[string]string{"second@example.com": "inv_second"})
	b.exec(`insert into attempts (instance_id, bucket, call, worker_id, deadline, resolved_at, resolution) values ($1, 'create', 'create', 'w', now(), now(), 'answered')`, b.instance.ID)
	b.exec(`insert into attempt_people (attempt_id, instance_id, key, batch_id, row_number, open, answer, clerk_invitation_id)
		select 1, instance_id, key, batch_id, row_number, false, 'created', $1 from results where clerk_invitation_id = 'inv_second'`, ids["second@example.com"])
	// A request is under way, or its answer was lost.
	b.batch(1, func(int) string { return "inflight@example.com" })
	b.exec(`insert into attempts (instance_id, bucket, call, worker_id, deadline) values ($1, 'create', 'create', 'w', now() + interval '1 hour')`, b.instance.ID)
	b.exec(`insert into attempt_people (attempt_id, instance_id, key) values (2, $1, 'inflight@example.com')`, b.instance.ID)

	r := b.reconcile()
	if !r.Complete || r.Drift != (ledger.DriftCounts{Unexplained: 4, Gone: 2}) {
		t.Fatalf("%+v", r)
	}
	b.is("joined@example.com accepted, old@example.com expired, somebodys@example.com pending, taken@example.com revoked",
		`select string_agg(key || ' ' || status, ', ' order by key) from drift where kind = 'unexplained'`)
	b.is(fmt.Sprintf("gone@example.com %d", gone), `select key || ' ' || batch_id from drift where clerk_invitation_id = 'inv_gone'`)

	// Again: the same, and when it was seen first stays.
	b.exec(`update drift set first_seen = first_seen - interval '1 day', last_seen = last_seen - interval '1 hour'`)
	b.accept("somebodys@example.com")
	if again := b.reconcile(); again.Drift != r.Drift {
		t.Errorf("the second time: %+v", again)
	}
	b.is("6", `select count(*) from drift where last_seen - first_seen > interval '23 hours' and ended_at is null`)
	b.is("accepted", `select status from drift where key = 'somebodys@example.com'`)

	// What has been explained, or is there again, is drift no more.
	b.exec(`update results set clerk_invitation_id = $2 where batch_id = $1`, gone, ids["somebodys@example.com"])
	if last := b.reconcile(); last.Drift != (ledger.DriftCounts{Unexplained: 3, Gone: 1}) {
		t.Errorf("after it was mended: %+v", last)
	}
	b.is("2", `select count(*) from drift where ended_at is not null`)
	// And it may come back.
	b.exec(`update results set clerk_invitation_id = 'inv_gone' where batch_id = $1`, gone)
	if last := b.reconcile(); last.Drift != r.Drift {
		t.Errorf("after it came back: %+v", last)
	}
	b.is("pending", `select status from results where batch_id = $1`, batch)
}

// TestReconcileOfAPart takes nothing for gone that it did not look for.
func TestReconcileOfAPart(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	seeds := make([]sandbox.Seed, 600)
	for i := range seeds {
		seeds[i].Email = person(i)
	}
	ids := b.plant(seeds...)
	delete(ids, person(0))
	b.has("invited", "pending", ids)
	b.has("invited", "pending", map[string]string{"gone@example.com": "inv_gone"})
	if r := b.reconcile(); r.Drift != (ledger.DriftCounts{Unexplained: 1, Gone: 1}) || r.Requests != 3+2 { // two by id
		t.Fatalf("%+v", r)
	}
	b.exec(`update results set status = 'pending', clerk_invitation_id = clerk_invitation_id || 'x' where clerk_invitation_id <> 'inv_gone' and row_number <= 5`)
	b.sandbox.Tell("faults", `[{"call":"list","kind":"status","status":500}]`)
	b.accept(person(0), person(7))
	r, err := b.worker(quick).Reconcile(t.Context(), "maria")
	if err == nil || r.Complete {
		t.Errorf("%v: %+v", err, r)
	}
	b.is("2", `select count(*) from drift where ended_at is null`)
	b.is("true", `select error is not null and not complete and finished_at is not null from reconciles order by id desc limit 1`)
	b.sandbox.Tell("faults", "[]")
	if r := b.reconcile(); r.Drift != (ledger.DriftCounts{Unexplained: 6, Gone: 6}) || r.Accepted != 1 {
		t.Errorf("%+v", r)
	}
}

// shifter is Clerk with others at work: after each page of the default list,
// invitations that are further up leave it, and new ones come.
func (b *bundle) shifter(after func(page int)) {
	b.t.Helper()
	var pages atomic.Int32
	inner := b.sandbox.Handler()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		if r.Method == http.MethodGet && r.URL.Path == "/v1/invitations" && r.URL.Query().Get("status") == "" {
			after(int(pages.Add(1)))
		}
	}))
	b.t.Cleanup(proxy.Close)
	b.url = proxy.URL + "/v1"
}

func TestReconcileWhileTheListShifts(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{Limits: sandbox.Limits{General: sandbox.Limit{N: -1}}})
	seeds := make([]sandbox.Seed, 2000)
	for i := range seeds {
		seeds[i] = sandbox.Seed{Email: person(i), Age: sandbox.Duration(time.Duration(i+1) * time.Minute)}
	}
	ids := b.plant(seeds...)
	batch := b.has("invited", "pending", ids)
	api, err := clerk.New(clerk.Config{Key: "sk_test_other", URL: b.url})
	must.OK(t, err)
	revoked, made := 0, 0
	b.shifter(func(page int) {
		for range map[int]int{1: 1, 2: 30, 3: 0, 4: 200, 5: 3}[page] {
			if a := api.Revoke(t.Context(), ids[person(revoked)]); a.Class != clerk.Success {
				t.Errorf("revoke: %v", a)
			}
			revoked++
		}
		var come []sandbox.Seed
		for range map[int]int{3: 40, 5: 3}[page] {
			come = append(come, sandbox.Seed{Email: fmt.Sprintf("new%d@example.com", made)})
			made++
		}
		if len(come) > 0 {
			b.plant(come...)
		}
	})
	r := b.reconcile()
	if !r.Complete || r.Drift.Gone != 0 || r.Scanned < 2000 || r.Revoked != revoked || revoked != 234 {
		t.Errorf("%d were revoked and %d made meanwhile: %+v", revoked, made, r)
	}
	b.is("1766", `select count(*) from results where batch_id = $1 and status = 'pending'`, batch)
}

// TestReconcileByWorkers: as often as it should be, whoever does it.
func TestReconcileByWorkers(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	cfg := quick
	cfg.ReconcileEvery = 500 * time.Millisecond
	failed := make(chan error, 3)
	for range 3 {
		w := b.worker(cfg)
		go func() {
			failed <- w.Run(ctx, func(ctx context.Context) (done bool, err error) {
				err = b.pool.QueryRow(ctx, `select count(*) >= 4 from reconciles where complete`).Scan(&done)
				return done, err
			})
		}()
	}
	for range 3 {
		must.OK(t, <-failed)
	}
	b.is("true", `select bool_and(gap is null or gap >= interval '500 ms') from (select started_at - lag(started_at) over (order by started_at) as gap from reconciles where complete) g`)
	// One that waited for the lock while another was at it has nothing left to do.
	if r, err := b.worker(cfg).reconciler.reconcile(ctx, "late", time.Hour); r != nil || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	b.is("true", `select min(r.started_at) >= min(i.created_at) + interval '500 ms' from reconciles r, instances i`)
}

// TestReconcileGuardsNoClaim: it keeps nothing of people who wait, so no claim
// may rely on it.
func TestReconcileGuardsNoClaim(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	batch := b.batch(1, person)
	b.plant(sandbox.Seed{Email: person(0)}, sandbox.Seed{Email: person(1), Status: "revoked"})
	w := b.worker(Config{Create: ratelimit.Limit{N: 1, Window: time.Hour}})
	if _, err := w.Reconcile(t.Context(), "maria"); err != nil {
		t.Fatal(err)
	}
	must.OK(t, w.presence.register(t.Context()))
	if _, err := w.reader.pass(t.Context(), ledger.ReadPending, time.Time{}); err != nil {
		t.Fatal(err)
	}
	b.exec(`update reads set worker_id = $1`, w.id)
	cases, err := w.reader.load(t.Context(), []invitation.RowID{{Batch: batch, Row: 1}})
	if err != nil || !cases[0].Coverage.Invitations.IsZero() {
		t.Errorf("%v: %+v", err, cases[0].Coverage)
	}
}

// hide answers a list of invitations as the sandbox does, without those hidden.
func hide(t *testing.T, sandbox http.Handler, w http.ResponseWriter, r *http.Request, hidden ...string) {
	rec := httptest.NewRecorder()
	sandbox.ServeHTTP(rec, r)
	var list struct {
		Data  []map[string]any `json:"data"`
		Total int              `json:"total_count"`
	}
	expect.OK(t, json.Unmarshal(rec.Body.Bytes(), &list))
	list.Data = slices.DeleteFunc(list.Data, func(i map[string]any) bool { return slices.Contains(hidden, i["id"].(string)) })
	list.Total = len(list.Data)
	w.Header().Set("Content-Type", "application/json")
	expect.OK(t, json.NewEncoder(w).Encode(list))
}

// TestGoneNeedsReadsByID: a list that lacks an invitation does not make it gone.
// Only reads of that invitation by its id do, in every status, that begin a settle
// time after the lists were read.
func TestGoneNeedsReadsByID(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	ids := b.plant(sandbox.Seed{Email: "deleted@example.com"}, sandbox.Seed{Email: "lagging@example.com"},
		sandbox.Seed{Email: "there@example.com"},
		sandbox.Seed{Email: "taken@example.com", Status: "revoked"}, sandbox.Seed{Email: "joined@example.com"})
	direct := b.url
	inner := b.sandbox.Handler()
	var listed, byID atomic.Int64 // when the last list was answered, and an invitation was asked for by its id first
	hidden := []string{ids["lagging@example.com"], ids["taken@example.com"]}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/v1/invitations" || r.URL.Query().Get("query") != "" {
			if r.URL.Query().Get("query") != "" {
				byID.CompareAndSwap(0, time.Now().UnixNano())
			}
			inner.ServeHTTP(w, r)
			return
		}
		defer func() { listed.Store(time.Now().UnixNano()) }()
		hide(t, inner, w, r, hidden...)
	}))
	t.Cleanup(proxy.Close)
	b.url = proxy.URL + "/v1"
	pending := b.has("invited", "pending", ids)
	b.exec(`update results set status = 'accepted' where clerk_invitation_id = $1`, ids["joined@example.com"])
	for _, person := range []string{"deleted@example.com", "joined@example.com"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, direct+"/invitations/"+ids[person], nil)
		must.OK(t, err)
		req.Header.Set("Authorization", "Bearer sk_test_secret")
		resp, err := http.DefaultClient.Do(req)
		must.OK(t, err)
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Fatalf("delete %s: %s", person, resp.Status)
		}
	}
	r := b.reconcile()
	if !r.Complete || r.Deleted != 1 || r.Revoked != 1 || r.Drift.Gone != 4 {
		t.Errorf("%+v", r)
	}
	b.is("deleted gone, joined accepted, lagging pending, taken revoked, there pending",
		`select string_agg(split_part(key, '@', 1) || ' ' || status, ', ' order by key) from results where batch_id = $1`, pending)
	if waited := time.Duration(byID.Load() - listed.Load()); waited < quick.Settle {
		t.Errorf("read by id %v after the lists, which may lag for %v", waited, quick.Settle)
	}
	b.is("true", `select bool_and(p.items = 0 and p.call = 'by_id' and p.http_status = 200 and g.items = 0 and g.call = 'by_id_revoked' and g.complete)
		from results r join reads g on g.id = r.status_read_id join reads p on p.id = g.pass_id where r.status = 'gone'`)
	// What is shown again is pending again.
	b.exec(`update results set status = 'gone' where clerk_invitation_id = $1`, ids["there@example.com"])
	if r := b.reconcile(); r.Deleted != 0 {
		t.Errorf("the second time: %+v", r)
	}
	b.is("pending", `select status from results where clerk_invitation_id = $1`, ids["there@example.com"])
}

// TestGoneNeedsTheQueryKept: something in between that drops the query answers with a
// page of others, which does not prove that an invitation is gone.
func TestGoneNeedsTheQueryKept(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	ids := b.plant(sandbox.Seed{Email: "hidden@example.com"}, sandbox.Seed{Email: "there@example.com"})
	inner := b.sandbox.Handler()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/v1/invitations" {
			inner.ServeHTTP(w, r)
			return
		}
		query := r.URL.Query()
		query.Del("query")
		r.URL.RawQuery = query.Encode()
		hide(t, inner, w, r, ids["hidden@example.com"])
	}))
	t.Cleanup(proxy.Close)
	b.url = proxy.URL + "/v1"
	batch := b.has("invited", "pending", ids)
	if _, err := b.worker(Config{Settle: quick.Settle}).Reconcile(t.Context(), "maria"); err == nil {
		t.Error("an answer with others passes for that to a query by id")
	}
	b.is("2", `select count(*) from results where batch_id = $1 and status = 'pending'`, batch)
}
