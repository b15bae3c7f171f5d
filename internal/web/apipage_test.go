package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/ledger"
	"bulkinvite/internal/must"
	"bulkinvite/internal/report"
	"bulkinvite/internal/revocation"
	"bulkinvite/internal/words"
)

// onThePage says of each route of the page which operations of the API do the same;
// none where it is about the page itself.
var onThePage = map[string]string{
	"GET /healthz":                   "",
	"GET /readyz":                    "",
	"GET /static/{name}":             "",
	"GET /login":                     "",
	"POST /login":                    "",
	"POST /logout":                   "",
	"GET " + openIDPath:              "",
	"GET " + openIDReturn:            "",
	"GET /metrics":                   "", // for scripts itself
	riverPrefix + "/":                "", // of jobs, which come and go with the rows
	"/":                              "",
	"GET /{$}":                       "list-batches",
	"GET /uploads/{id}":              "get-upload",
	"GET /batches/{id}":              "get-batch get-draft get-options get-undo list-rows list-problems list-problem-kinds",
	"GET /batches/{id}/live":         "watch-batch",
	"GET /batches/{id}/plan":         "get-draft",
	"GET /batches/{id}/rows":         "list-rows",
	"GET /batches/{id}/course":       "get-course",
	"GET /batches/{id}/rows/{row}":   "get-row get-row-story",
	"GET /batches/{id}/results.csv":  "get-results get-results-csv",
	"GET /batches/{id}/problems":     "list-problems list-problem-kinds",
	"GET /batches/{id}/problems.csv": "get-problems-csv",
	"GET /people":                    "find-people get-person",
	"POST /people":                   "find-people get-person",
	"GET /sweeps":                    "list-sweeps list-schedules",
	"GET /sweeps/{id}":               "get-sweep list-revocations",
	"GET /drift":                     "list-drift get-reconcile",
	"GET /budget":                    "get-budget",
	"GET /events":                    "list-events",
	"POST /uploads":                  "create-batch",
	"POST /uploads/{id}":             "create-batch set-columns",
	"POST /batches/{id}/start":       "start-batch",
	"POST /batches/{id}/options":     "set-options",
	"POST /batches/{id}/pause":       "pause-batch",
	"POST /batches/{id}/resume":      "resume-batch",
	"POST /batches/{id}/cancel":      "cancel-batch",
	"POST /batches/{id}/discard":     "discard-batch",
	"POST /batches/{id}/retry":       "retry-batch",
	"POST /batches/{id}/undo":        "undo-batch",
	"POST /sweeps/{id}/allow":        "allow-sweep",
	"POST /sweeps/{id}/stop":         "stop-sweep",
}

// inForms says of each field of the page's forms what the API calls it, and where;
// nothing where it is about the page itself.
var inForms = map[string]string{
	"name": "", "password": "", "next": "", "once": "", // signing in
	"file":      "create-batch body",
	"again":     "create-batch again",
	"email":     "set-columns map",
	"delimiter": "set-columns delimiter", "encoding": "set-columns encoding",
	"column":  "set-columns map",
	"meaning": "set-columns map",
	"people":  "start-batch people", "undelivered": "start-batch allow_undelivered",
	"invitations":  "undo-batch invitations",
	"rejected":     "retry-batch rejected",
	"redirect_url": "set-options redirect_url", "expires_in_days": "set-options expires_in_days", "on_duplicate": "set-options on_duplicate",
	"revoke_after_days": "set-options revoke_after_days", "priority": "set-options priority", "canary": "set-options canary",
	"start_at": "set-options start_at", "hours": "set-options hours", "tz": "set-options tz",
	"q": "find-people q", "after": "find-people after", "outcome": "list-rows outcome", "status": "list-rows status", "kind": "list-drift kind", "batch": "list-events batch",
	"viewport": "", "color-scheme": "", "htmx-config": "", // of the page's head
}

// TestAPIDoesWhatThePageDoes lists the routes of the page and the fields of its
// forms, and finds each in the API; and nothing in the API that no page shows.
func TestAPIDoesWhatThePageDoes(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.Metrics, c.URL, c.OpenID = http.NotFoundHandler(), &url.URL{Scheme: "http", Host: "invite.test"}, &OpenID{Issuer: "http://127.0.0.1:1"}
	})
	takes := map[string]map[string]bool{} // fields by operation
	spec := b.server.api.huma.OpenAPI()
	for _, item := range spec.Paths {
		for _, op := range operationsOf(item) {
			fields := map[string]bool{}
			for _, f := range op.Parameters {
				fields[f.Name] = true
			}
			if op.RequestBody != nil {
				fields["body"] = true
				for _, media := range op.RequestBody.Content {
					if schema := spec.Components.Schemas.Map()[strings.TrimPrefix(media.Schema.Ref, schemaPrefix)]; schema != nil {
						for name := range schema.Properties {
							fields[name] = true
						}
					}
				}
			}
			takes[op.OperationID] = fields
		}
	}
	shown := map[string]bool{}
	for _, pattern := range b.server.patterns {
		operations, known := onThePage[pattern]
		if !known {
			t.Errorf("nobody has said what of the API does what %s does", pattern)
		}
		for _, id := range strings.Fields(operations) {
			if shown[id] = true; takes[id] == nil {
				t.Errorf("%s: the API has no %s", pattern, id)
			}
		}
	}
	if len(onThePage) != len(b.server.patterns) {
		t.Errorf("%d routes, %d are spoken of", len(b.server.patterns), len(onThePage))
	}
	for id := range takes {
		if !shown[id] {
			t.Errorf("no page does what %s does", id)
		}
	}
	fields := regexp.MustCompile(`\sname="([^"{]+)"`)
	entries, err := files.ReadDir("templates")
	must.OK(t, err)
	for _, e := range entries {
		text, err := files.ReadFile("templates/" + e.Name())
		must.OK(t, err)
		for _, found := range fields.FindAllStringSubmatch(string(text), -1) {
			at, known := inForms[found[1]]
			if !known {
				t.Errorf("%s: nobody has said what the API calls %s", e.Name(), found[1])
			}
			if id, name, _ := strings.Cut(at, " "); at != "" && !takes[id][name] {
				t.Errorf("%s: %s of the API does not take %s", e.Name(), id, name)
			}
		}
	}
}

// TestAPIProblems: the rows that can't be sent come by their kinds, in words, and
// each with what the check found.
func TestAPIProblems(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", "email,name\nx,A\ngood@example.com,B\ny,C\n,D\nz,E\n").want(http.StatusCreated)
	kinds := into[[]problemKind](s.get("/batches/1/problems/kinds").want(http.StatusOK))
	if len(kinds) != 2 || kinds[0].Code != "no_at" || kinds[0].Count != 3 || kinds[0].Words != words.Problems["no_at"] || kinds[1].Words != "no address" || !strings.Contains(kinds[0].Remedy, "@") {
		t.Errorf("%+v", kinds)
	}
	a := s.get("/batches/1/problems?code=no_at&limit=2").want(http.StatusOK).says(`"cells":["x","A"]`, `"line":2`, `"column":"email"`)
	rows := into[[]problemRow](a)
	if len(rows) != 2 || rows[1].Row != 3 || a.header.Get("Link") != `</api/v1/batches/1/problems?after=3&code=no_at&limit=2>; rel="next"` {
		t.Errorf("%+v, %s", rows, a.header.Get("Link"))
	}
	if rows = into[[]problemRow](s.get("/batches/1/problems?after=3").want(http.StatusOK)); len(rows) != 2 || rows[0].Code != "missing_email" {
		t.Errorf("%+v", rows)
	}
	s.get("/batches/1/problems?code=nothing").refused(http.StatusUnprocessableEntity)
	s.get("/batches/9/problems").refused(http.StatusNotFound)
	s.get("/batches/9/problems/kinds").refused(http.StatusNotFound)
}

// TestAPIOptions: what is read is what can be written again.
func TestAPIOptions(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	first := s.get("/batches/1/options").want(http.StatusOK).says(`"priority":2`, `"on_duplicate":"skip"`, `"start_at":""`)
	set := `{"redirect_url":"https://app.example.com/in","template":"hello","expires_in_days":14,"priority":1,"canary":1,"on_duplicate":"resend","revoke_after_days":7,"start_at":"2036-11-24T07:00:00Z","hours":"8-18","tz":"Europe/Berlin"}`
	s.ask(http.MethodPatch, "/batches/1/options", jsonType, set).want(http.StatusOK)
	if a := s.get("/batches/1/options").want(http.StatusOK); strings.TrimSpace(a.body) != set {
		t.Errorf("%s", a.body)
	}
	s.ask(http.MethodPatch, "/batches/1/options", jsonType, first.body).want(http.StatusOK)
	if a := s.get("/batches/1/options").want(http.StatusOK); a.body != first.body {
		t.Errorf("%s", a.body)
	}
	s.get("/batches/9/options").refused(http.StatusNotFound)
}

// TestAPIRevocations: each invitation of a sweep, page by page.
func TestAPIRevocations(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	sw := b.sweep(60)
	at := fmt.Sprintf("/sweeps/%d", sw.ID)
	b.exec(`update revocations set outcome = 'skipped', reason = 'stopped', decided_at = now() where clerk_invitation_id = 'inv_000'`)
	if lines := into[[]revocation.RevocationLine](s.get(at+"/revocations?limit=2").want(http.StatusOK).says(`"outcome":"skipped","reason":"stopped"`, `"batch_id":null`)); len(lines) != 2 || lines[1].Outcome != nil || lines[1].Key != "p1@example.com" {
		t.Errorf("%+v", lines)
	}
	seen := 0
	for next := at + "/revocations?limit=7"; next != ""; {
		a := s.get(next).want(http.StatusOK)
		seen += len(into[[]revocation.RevocationLine](a))
		link, _, _ := strings.Cut(a.header.Get("Link"), ">")
		next = strings.TrimPrefix(link, "<"+apiRoot)
	}
	if seen != 60 {
		t.Errorf("%d of 60", seen)
	}
	s.get("/sweeps/9/revocations").refused(http.StatusNotFound)
	s.get(at + "/revocations?after=" + strings.Repeat("x", 201)).refused(http.StatusUnprocessableEntity)
	if held := into[[]revocation.SweepDocument](s.get("/sweeps?held=true").want(http.StatusOK)); len(held) != 1 || held[0].Sweep != sw.ID {
		t.Errorf("held: %+v", held)
	}
	s.post(at+"/stop", "").want(http.StatusOK)
	for _, path := range []string{"/sweeps?held=true", "/sweeps?batch=1"} {
		if body := strings.TrimSpace(s.get(path).want(http.StatusOK).body); body != "[]" {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// TestAPIRest: the undo that could be, how a batch went, when the next sweep is,
// when Clerk was last read, and when requests return.
func TestAPIRest(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.now = time.Date(2026, 11, 22, 20, 11, 0, 0, time.UTC)
	s := b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	s.get("/batches/1/course").want(http.StatusOK).says(`{"from":null,"to":null,"steps":[],"last_hour":0}`)
	s.post("/batches/1/start", "").want(http.StatusOK)
	b.exec(`update results set outcome = 'invited', status = 'pending', clerk_invitation_id = 'inv_1', invited_at = now(), decided_at = now() where row_number = 1`)
	s.get("/batches/1/undo").want(http.StatusOK).says(`{"invitations":1,"waiting":1,"follow_ups":[],"sweep":null}`)
	if c := into[course](s.get("/batches/1/course").want(http.StatusOK)); c.From == nil || len(c.Steps) != courseSteps || c.Steps[courseSteps-1].Invited != 1 {
		t.Errorf("%+v", c)
	}
	s.post("/batches/1/undo", `{"invitations":1}`).want(http.StatusOK)
	s.get("/batches/1/undo").want(http.StatusOK).says(`"waiting":0`, `"kind":"undo"`)
	if of := into[[]revocation.SweepDocument](s.get("/sweeps?batch=1").want(http.StatusOK)); len(of) != 1 || of[0].Kind != revocation.KindUndo {
		t.Errorf("%+v", of)
	}
	for _, path := range []string{"/batches/9/undo", "/batches/9/course"} {
		s.get(path).refused(http.StatusNotFound)
	}
	if body := strings.TrimSpace(s.get("/schedules").want(http.StatusOK).body); body != "[]" {
		t.Errorf("%s", body)
	}
	id := b.server.cfg.Instance.ID
	b.exec(`insert into schedules (instance_id, expression, tz) values ($1, '0 2 * * *', 'UTC')`, id)
	s.get("/schedules").want(http.StatusOK).says(`[{"expression":"0 2 * * *","tz":"UTC","environment":"production","workers":0,"next_at":"2026-11-23T02:00:00Z"}]`)
	s.get("/reconcile").refused(http.StatusNotFound, "every 15 minutes")
	b.exec(`insert into reconciles (instance_id, worker_id, started_by, finished_at, complete, error, scanned, gone) values ($1, 'w', 'olga', now(), false, 'Clerk answered 500', 7, 2)`, id)
	s.get("/reconcile").want(http.StatusOK).says(`"complete":false`, `"scanned":7`, `"gone":2`, `"started_by":"olga"`, `"error":"Clerk answered 500"`)
	for _, kind := range []string{"gone", "unexplained"} {
		b.exec(`insert into drift (instance_id, kind, clerk_invitation_id, key, status, first_seen, last_seen) values ($1, $2, 'inv_' || $2, 'a@example.com', 'pending', now(), now())`, id, kind)
	}
	if d := into[[]report.Drift](s.get("/drift?kind=gone").want(http.StatusOK)); len(d) != 1 || d[0].Kind != ledger.Gone {
		t.Errorf("%+v", d)
	}
	s.get("/drift?kind=odd").refused(http.StatusUnprocessableEntity, "query.kind")
	b.exec(`insert into workers (id, instance_id, host, pid, version, lock_key) values ('w', $1, 'h', 1, '1', 1)`, id)
	b.exec(`insert into attempts (instance_id, worker_id, bucket, call, started_at, deadline, answered_at) values ($1, 'w', 'create', 'create', now(), now() + interval '20 seconds', now())`, id)
	budget := into[budget](s.get("/budget").want(http.StatusOK))
	at := slices.IndexFunc(budget.Limits, func(l limitBudget) bool { return l.Bucket == "create" })
	if l := budget.Limits[at]; budget.Workers != 1 || len(l.Returns) != 1 || l.Returns[0].Requests != 1 || !l.Returns[0].At.Equal(*l.NextAt) {
		t.Errorf("%+v", budget)
	}
}

// TestProblemKindsEverywhere: the page, the API's description and the story of a row
// call a problem by the same words.
func TestProblemKindsEverywhere(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", "email\nnobody\n").want(http.StatusOK).says("no @ in the address <b>1</b>")
	doc := w.get(apiRoot + "/openapi.yaml").want(http.StatusOK)
	for _, code := range slices.Sorted(maps.Keys(words.Problems)) {
		if !strings.Contains(strings.Join(strings.Fields(doc.body), " "), code+": "+words.Problems[code]) {
			t.Errorf("the API's description does not say that %s is: %s", code, words.Problems[code])
		}
	}
}
