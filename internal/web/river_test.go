package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/clerk/sandbox/sandboxtest"
	"bulkinvite/internal/must"
	"bulkinvite/jobs"
)

// TestRiverPage: operators alone see River's page, what they change there is in
// the events under their name, and another site can change nothing.
func TestRiverPage(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	olga, alex := b.as("olga"), b.as("alex")
	page := olga.get("/river/").want(http.StatusOK).says(`id="root"`)
	if got := page.header.Get("Content-Security-Policy"); !strings.Contains(got, "script-src 'self';") || !strings.Contains(got, "style-src 'self' 'unsafe-inline'") {
		t.Errorf("policy: %s", got)
	}
	_, script, _ := strings.Cut(page.body, `<script type="module" src="`)
	script, _, _ = strings.Cut(script, `"`)
	if a := olga.get(script).want(http.StatusOK); !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
		t.Errorf("%s: %s", script, a.header.Get("Cache-Control"))
	}
	olga.get("/river/api/queues?limit=10").want(http.StatusOK)
	olga.get("/river/api/features").want(http.StatusOK).says(`"job_list_hide_args_by_default":true`)
	olga.get("/").want(http.StatusOK).says(`href="/river/"`)

	for _, path := range []string{"/river/", "/river/jobs", "/river/api/jobs", script} {
		alex.get(path).want(http.StatusForbidden)
		b.browser().get(path).want(http.StatusSeeOther)
	}
	if strings.Contains(alex.get("/").body, "/river/") {
		t.Error("an auditor is shown the way")
	}
	remove := func(w *browser, from string) answer {
		r := w.request(http.MethodPost, "/river/api/jobs/delete", strings.NewReader(`{"ids":["7"]}`))
		if from != "" {
			r.Header.Set("Sec-Fetch-Site", from)
		}
		return w.do(r)
	}
	remove(olga, "cross-site").want(http.StatusForbidden).says("another site")
	remove(alex, "").want(http.StatusForbidden)
	remove(b.browser(), "").want(http.StatusUnauthorized)
	if n := b.count(`select count(*) from events`); n != 0 {
		t.Errorf("%d events of what was refused", n)
	}
	remove(olga, "same-origin").want(http.StatusNotFound)
	if n := b.count(`select count(*) from events where action = 'river_jobs_delete' and actor = 'olga' and details = '{"jobs": [7]}'`); n != 1 {
		t.Error("what was asked for is not in the events")
	}
}

// TestDeletedJobsAreMadeAgain deletes the jobs of a batch on River's page while a
// worker waits for its start: every row is sent all the same.
func TestDeletedJobsAreMadeAgain(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	stand := sandboxtest.New(t, sandbox.Config{})
	w := b.as("olga")
	w.draft("hires.csv", "email\na@example.com\nb@example.com\nc@example.com\n")
	w.post("/batches/1/start", url.Values{"people": {"3"}}).want(http.StatusSeeOther)
	ids := must.Read[[]string](t, b.pool, `select array_agg(id::text) from river_job where kind = 'invite'`)
	if len(ids) != 3 {
		t.Fatalf("%d jobs", len(ids))
	}
	body := strings.NewReader(`{"ids":["` + strings.Join(ids, `","`) + `"]}`)
	w.do(w.request(http.MethodPost, "/river/api/jobs/delete", body)).want(http.StatusOK)
	if n := b.count(`select count(*) from river_job where kind = 'invite'`); n != 0 {
		t.Fatalf("%d jobs are left", n)
	}
	api, err := clerk.New(clerk.Config{Key: "sk_test_secret", URL: stand.URL})
	must.OK(t, err)
	worker, err := jobs.New(b.pool, api, jobs.Config{Instance: b.server.cfg.Instance})
	must.OK(t, err)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	err = worker.Run(ctx, func(ctx context.Context) (bool, error) { return jobs.Idle(ctx, b.pool, b.server.cfg.Instance.ID) })
	must.OK(t, err)
	if n := b.count(`select count(*) from results where outcome = 'invited'`); n != 3 {
		t.Errorf("%d of 3 were invited", n)
	}
}
