package web

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"bulkinvite/importer"
	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/report"
)

// script asks the API with a token, and holds every answer against the API's own
// description.
type script struct {
	*browser
	token string
	spec  *huma.OpenAPI
}

// script makes a token for a role; none for nobody.
func (b *bench) script(role Role) *script {
	b.t.Helper()
	s := &script{browser: b.browser(), spec: b.server.api.huma.OpenAPI()}
	if role != "" {
		var err error
		s.token, err = CreateToken(b.t.Context(), b.pool, "hr-"+string(role), role, "olga", time.Now().Add(time.Hour))
		must.OK(b.t, err)
	}
	return s
}

func (s *script) ask(method, path, kind, body string) answer {
	s.t.Helper()
	r := s.request(method, apiRoot+path, strings.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return s.send(r)
}

func (s *script) send(r *http.Request) answer {
	s.t.Helper()
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	a := s.do(r)
	a.what = r.Method + " " + r.URL.RequestURI()
	described(s.t, s.bench, r, a)
	return a
}

func (s *script) get(path string) answer { s.t.Helper(); return s.ask(http.MethodGet, path, "", "") }

func (s *script) post(path, body string) answer {
	s.t.Helper()
	return s.ask(http.MethodPost, path, jsonType, body)
}

func (s *script) csv(query, text string) answer {
	s.t.Helper()
	return s.ask(http.MethodPost, "/batches?"+query, "text/csv", text)
}

// into reads the answer's document.
func into[T any](a answer) T {
	a.t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s: %v\n%s", a.what, err, a.body)
	}
	return v
}

// refused fails the test unless the answer is a problem with words of what happened and
// of what to do.
func (a answer) refused(status int, texts ...string) answer {
	a.t.Helper()
	a.want(status)
	p := into[problem](a)
	if a.header.Get("Content-Type") != "application/problem+json" || p.Status != status || p.Title != http.StatusText(status) || p.Type != "about:blank" || p.Detail == "" {
		a.t.Errorf("%s: %s is no problem of RFC 9457:\n%s", a.what, a.header.Get("Content-Type"), a.body)
	}
	if p.Remedy == "" && status != http.StatusNotFound {
		a.t.Errorf("%s: nothing says what to do:\n%s", a.what, a.body)
	}
	return a.says(texts...)
}

var update = flag.Bool("update", false, "write the golden files anew")

var compiled sync.Map // the schemas of the API by their place in its description

// described holds an answer against the description of the API.
func described(t *testing.T, b *bench, r *http.Request, a answer) {
	t.Helper()
	text := b.browser().get(apiRoot + "/openapi.json").body
	var spec struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]json.RawMessage `json:"content"`
			} `json:"responses"`
		} `json:"paths"`
	}
	must.OK(t, json.Unmarshal([]byte(text), &spec))
	_, pattern := b.server.api.mux.Handler(r)
	_, path, _ := strings.Cut(pattern, " ")
	op, ok := spec.Paths[path][strings.ToLower(r.Method)]
	if !ok {
		return // nowhere
	}
	status := fmt.Sprint(a.status)
	answer, ok := op.Responses[status]
	if !ok {
		status = "default"
		answer, ok = op.Responses[status]
	}
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	media := kind
	if !ok || answer.Content[kind] == nil {
		if media = a.header.Get("Content-Type"); !ok || answer.Content[media] == nil {
			t.Errorf("%s: %d %s is not described", a.what, a.status, media)
			return
		}
	}
	if !strings.HasSuffix(kind, "json") {
		return
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1").Replace
	place := "api.json#/paths/" + escape(path) + "/" + strings.ToLower(r.Method) + "/responses/" + status + "/content/" + escape(media) + "/schema"
	schema, ok := compiled.Load(place)
	if !ok {
		whole, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		must.OK(t, err)
		c := jsonschema.NewCompiler()
		must.OK(t, c.AddResource("api.json", whole))
		one, err := c.Compile(strings.NewReplacer("{", "%7B", "}", "%7D").Replace(place))
		must.OK(t, err)
		schema = one
		compiled.Store(place, one)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(a.body))
	if err != nil {
		t.Errorf("%s: %v", a.what, err)
		return
	}
	if err := schema.(*jsonschema.Schema).Validate(document); err != nil {
		t.Errorf("%s is not as described: %v\n%s", a.what, err, a.body)
	}
}

// TestAPILargeBatch: the rows of a large batch are counted once for all who ask, which
// the answer says, but not over a change of its state.
func TestAPILargeBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", people(largeFrom)).want(http.StatusCreated)
	stands := func(state invitation.State, undecided, cancelled int) {
		t.Helper()
		a := s.get("/batches/1").want(http.StatusOK)
		d := into[report.Document](a)
		if d.State != state || d.Undecided != undecided || d.Outcomes[invitation.Cancelled] != cancelled || a.header.Get("Age") != "0" {
			t.Errorf("%s, %d undecided, %v, %s s ago; want %s, %d", d.State, d.Undecided, d.Outcomes, a.header.Get("Age"), state, undecided)
		}
	}
	stands(invitation.Draft, largeFrom, 0)
	s.post("/batches/1/start", fmt.Sprintf(`{"people":%d}`, largeFrom)).want(http.StatusOK)
	stands(invitation.Running, largeFrom, 0)
	b.server.documents.mu.Lock()
	b.server.documents.all[1].cost = time.Hour // so that nobody counts anew
	b.server.documents.mu.Unlock()
	b.exec(`update results set outcome = 'cancelled', decided_at = now() where row_number = 1`)
	stands(invitation.Running, largeFrom, 0)
	s.post("/batches/1/cancel", "").want(http.StatusOK)
	stands(invitation.StateCancelled, 0, largeFrom)
}

// TestAPIWay goes the whole way: nothing is sent before the start, and whatever
// was done stands under the token's name.
func TestAPIWay(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	up := s.csv("file_name=hires.csv&redirect_url=https://app.example.com/in&priority=1", messy).want(http.StatusCreated)
	if up.header.Get("Location") != apiRoot+"/batches/1" {
		t.Errorf("the draft is at %s", up.header.Get("Location"))
	}
	d := into[report.Document](up)
	if d.Batch != 1 || d.State != invitation.Draft || d.Rows != 4 || d.FileName != "hires.csv" || d.Undecided != 2 || d.Outcomes[invitation.Invalid] != 1 || d.Outcomes[invitation.DuplicateRow] != 1 {
		t.Errorf("%s", up.body)
	}
	if n := b.count(`select count(*) from river_job`); n != 0 {
		t.Errorf("a draft has %d jobs", n)
	}
	s.csv("", messy).refused(http.StatusConflict, `"batch":1`, "batch 1 already")
	moved := into[report.Document](s.ask(http.MethodPut, "/batches/1/columns", jsonType, `{"map":{"email":"Zweite"}}`).want(http.StatusOK))
	if moved.Batch != 1 || moved.Undecided != 2 || moved.Outcomes[invitation.Invalid] != 2 {
		t.Errorf("read by another column: %+v", moved.Report)
	}
	s.ask(http.MethodPut, "/batches/1/columns", jsonType, `{"map":{"email":"No such"}}`).refused(http.StatusUnprocessableEntity)
	s.ask(http.MethodPut, "/batches/1/columns", jsonType, `{"map":{"email":"E-Mail-Adresse"}}`).want(http.StatusOK)
	s.ask(http.MethodPatch, "/batches/1/options", jsonType, `{"expires_in_days":14,"canary":1}`).want(http.StatusOK)
	batch, err := batch.Batch(t.Context(), b.server.pool, 1)
	if err != nil || batch.Options != (invitation.Options{RedirectURL: "https://app.example.com/in", ExpiresInDays: 14}) || batch.Priority != 1 || batch.Canary != 1 {
		t.Errorf("%+v, %v", batch, err)
	}
	draft := into[struct {
		importer.Check
		ToInvite int  `json:"to_invite"`
		Confirm  bool `json:"confirm"`
	}](s.get("/batches/1/draft").want(http.StatusOK).says(`"row":2`, `"code":"no_at"`))
	if draft.Rows != 4 || draft.Valid != 2 || draft.ToInvite != 2 || draft.Plan.ToSend != 2 || len(draft.Problems) != 1 || draft.Columns.Mapped["email"] != "E-Mail-Adresse" || draft.Confirm {
		t.Errorf("draft: %+v", draft)
	}
	s.post("/batches/1/start", `{"people":3}`).refused(http.StatusConflict, "not the number of people: 2")
	if d := into[report.Document](s.post("/batches/1/start", `{"people":2}`).want(http.StatusOK)); d.State != invitation.Running || d.Plan == nil || d.ETA == nil {
		t.Errorf("started: %+v", d)
	}
	s.post("/batches/1/start", "").refused(http.StatusConflict, "is running")
	s.get("/batches/1/draft").refused(http.StatusConflict, "no draft any more")
	s.ask(http.MethodPatch, "/batches/1/options", jsonType, `{"canary":2}`).refused(http.StatusConflict)
	s.ask(http.MethodPut, "/batches/1/columns", jsonType, `{}`).refused(http.StatusConflict)
	for _, step := range []struct {
		action string
		state  invitation.State
	}{{"pause", invitation.Paused}, {"resume", invitation.Running}, {"cancel", invitation.StateCancelled}} {
		if d := into[report.Document](s.post("/batches/1/"+step.action, "").want(http.StatusOK)); d.State != step.state {
			t.Errorf("%s: %s", step.action, d.State)
		}
		s.post("/batches/1/"+step.action, "").refused(http.StatusConflict)
	}
	if n := b.count(`select count(*) from events where batch_id = 1 and actor <> 'token:hr-operator' and action in ('imported', 'set', 'started', 'paused', 'resumed', 'cancelled')`); n != 0 {
		t.Errorf("%d events stand under another name", n)
	}
	if lines := into[[]report.BatchLine](s.get("/batches").want(http.StatusOK)); len(lines) != 1 || lines[0].Actor != "token:hr-operator" {
		t.Errorf("batches: %+v", lines)
	}
	s.get("/batches/1").want(http.StatusOK).says(`"cancelled":2`)
	s.get("/batches/1/results").want(http.StatusOK).says(`"bulkinvite_outcome":"cancelled"`, `"Name":"Jane"`)
	if a := s.get("/batches/1/results.csv?outcome=invalid").want(http.StatusOK); strings.Count(a.body, "\r\n") != 2 || a.body != s.get("/batches/1/problems.csv").body {
		t.Errorf("results.csv:\n%s", a.body)
	}
	s.get("/batches/1/rows/1").want(http.StatusOK).says(`{"column":"E-Mail-Adresse","value":"jane@example.com"}`)
	s.get("/batches/1/rows/1/story").want(http.StatusOK).says(`"key":"jane@example.com"`)
	s.get("/batches/1/rows/2/story").refused(http.StatusNotFound)
	s.get("/people/" + url.PathEscape("Jane@Example.com")).want(http.StatusOK).says(`"outcome":"duplicate_row"`)
	s.get("/uploads/1").want(http.StatusOK).says(`"state":"draft","batch":1`)
	s.get("/budget").want(http.StatusOK).says(`"bucket":"bulk"`, `"limit":"25/1h"`, `"free":100`)
	for _, path := range []string{"/sweeps", "/drift"} {
		if body := strings.TrimSpace(s.get(path).want(http.StatusOK).body); body != "[]" {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// TestAPIForm: a file comes as a form too, and a workbook's name is the form's.
func TestAPIForm(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	form := func(field, name string) answer {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		part, err := w.CreateFormFile(field, name)
		must.OK(t, err)
		_, _ = io.WriteString(part, "email\na@example.com\n")
		must.OK(t, w.Close())
		return s.ask(http.MethodPost, "/batches?file_name=other.csv", w.FormDataContentType(), body.String())
	}
	form("upload", "x.csv").refused(http.StatusUnprocessableEntity, "the part named file")
	form("file", "hires.csv").want(http.StatusCreated).says(`"file_name":"hires.csv"`)
	s.ask(http.MethodPost, "/batches", "multipart/form-data; boundary=x", "--x--").refused(http.StatusUnprocessableEntity, "no file")
	s.ask(http.MethodPost, "/batches", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nemail\n").refused(http.StatusBadRequest, "cut off")
}

// TestAPIPages: a list leads to its next page until there is none, whatever comes
// and goes in front of it.
func TestAPIPages(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", "email\na@example.com\nb@example.com\nc@example.com\nx\ne@example.com\n").want(http.StatusCreated)
	s.csv("", "email\nf@example.com\n").want(http.StatusCreated)
	b.exec(`insert into sweeps (instance_id, kind, started_by, scope, apply, scanned, stale, threshold, held) select $1, 'sweep', 'olga', 'ours', true, 30, 25, 20, true from generate_series(1, 3)`, b.server.cfg.Instance.ID)
	for first, want := range map[string]int{"/batches?limit=1": 2, "/batches/1/rows?limit=2": 5, "/batches/1/rows?limit=3&outcome=undecided": 4, "/batches/1/rows?limit=1&q=a": 1,
		"/people?q=&limit=2": 0, "/people?q=%20&limit=2": 0, "/events?limit=1": 3, "/events?limit=1&batch=2": 1, "/sweeps?limit=2": 3} {
		seen := map[string]bool{}
		for next := first; next != ""; {
			a := s.get(next)
			if strings.HasPrefix(next, "/people?limit") || strings.Contains(next, "q=&") {
				a.refused(http.StatusUnprocessableEntity)
				break
			}
			for _, one := range into[[]json.RawMessage](a.want(http.StatusOK)) {
				seen[string(one)] = true
			}
			link, rel, _ := strings.Cut(a.header.Get("Link"), ">; ")
			if next = strings.TrimPrefix(link, "<"+apiRoot); link != "" && rel != `rel="next"` {
				t.Fatalf("%s leads to %s", first, a.header.Get("Link"))
			}
		}
		if len(seen) != want {
			t.Errorf("%s has %d, want %d", first, len(seen), want)
		}
	}
	if people := into[[]report.PersonLine](s.get("/people?q=A@EX").want(http.StatusOK)); len(people) != 1 || people[0].Key != "a@example.com" {
		t.Errorf("%+v", people)
	}
}

// TestAPISweeps: a held sweep is allowed or stopped once.
func TestAPISweeps(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	b.exec(`insert into sweeps (instance_id, kind, started_by, scope, apply, scanned, stale, threshold, held) select $1, 'sweep', 'olga', 'ours', true, 30, 25, 20, true from generate_series(1, 2)`, b.server.cfg.Instance.ID)
	s.get("/sweeps/1").want(http.StatusOK).says(`"state":"held"`)
	s.post("/sweeps/1/allow", "").want(http.StatusOK).says(`"allowed_by":"token:hr-operator"`, `"held":false`)
	s.post("/sweeps/1/allow", "").refused(http.StatusConflict, "Sweep 1 is")
	s.post("/sweeps/2/stop", "").want(http.StatusOK).says(`"state":"done"`)
	s.post("/sweeps/2/stop", "").refused(http.StatusConflict)
	s.post("/sweeps/9/stop", "").refused(http.StatusNotFound)
	if n := b.count(`select count(*) from events where actor = 'token:hr-operator' and action in ('sweep_allowed', 'sweep_stopped')`); n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestAPIUndo: with the right number what was sent is taken back, once.
func TestAPIUndo(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	s.post("/batches/1/undo", `{"invitations":0}`).refused(http.StatusConflict, "draft")
	s.post("/batches/1/start", "").want(http.StatusOK)
	b.exec(`update results set outcome = 'invited', status = 'pending', clerk_invitation_id = 'inv_1', invited_at = now(), decided_at = now() where row_number = 1`)
	s.post("/batches/1/undo", "").refused(http.StatusBadRequest)
	s.post("/batches/1/undo", `{"invitations":2}`).refused(http.StatusConflict, "to revoke: 1")
	sw := s.post("/batches/1/undo", `{"invitations":1}`).want(http.StatusOK).says(`"kind":"undo"`, `"batch":1`, `"stale":1`, `"started_by":"token:hr-operator"`)
	if again := s.post("/batches/1/undo", `{"invitations":1}`).want(http.StatusOK); again.body != sw.body {
		t.Errorf("another sweep: %s", again.body)
	}
	s.get("/batches/1").want(http.StatusOK).says(`"state":"cancelled"`)
}

// TestAPIWhoMay asks for every operation that is described, as nobody, as an
// auditor, and from another site.
func TestAPIWhoMay(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	expired := b.script(Auditor)
	b.exec(`update api_tokens set expires_at = now() where hash = $1`, hashOf(expired.token))
	nobody, auditor, operator, olga := b.script(""), b.script(Auditor), b.script(Operator), b.as("olga")
	operator.csv("", messy).want(http.StatusCreated)
	b.exec(`insert into sweeps (instance_id, kind, started_by, apply) values ($1, 'sweep', 'maria', true)`, b.server.cfg.Instance.ID)
	b.exec(`insert into reconciles (instance_id, worker_id, started_by, finished_at, complete) values ($1, 'w', 'maria', now(), true)`, b.server.cfg.Instance.ID)
	writes := 0
	for path, item := range nobody.spec.Paths {
		for _, op := range operationsOf(item) {
			method := op.Method
			at := strings.TrimPrefix(strings.NewReplacer("{batch}", "1", "{row}", "1", "{upload}", "1", "{sweep}", "1", "{email}", "jane@example.com").Replace(path), apiRoot)
			if got := nobody.ask(method, at, "", "").refused(http.StatusUnauthorized, "send a token").header.Get("WWW-Authenticate"); got != `Bearer realm="bulkinvite"` {
				t.Errorf("WWW-Authenticate: %s", got)
			}
			if got := expired.ask(method, at, "", "").refused(http.StatusUnauthorized).header.Get("WWW-Authenticate"); !strings.Contains(got, "invalid_token") {
				t.Errorf("WWW-Authenticate: %s", got)
			}
			if method == "GET" {
				if !strings.HasSuffix(path, "/live") {
					if op.OperationID == "find-people" {
						at += "?q=jane"
					}
					auditor.get(at).want(http.StatusOK)
					olga.get(apiRoot + at).want(http.StatusOK) // by the page's cookie
				}
				continue
			}
			writes++
			auditor.ask(method, at, jsonType, "{}").refused(http.StatusForbidden, "not change anything")
			r := olga.request(method, apiRoot+at, nil)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			a := olga.do(r)
			a.refused(http.StatusForbidden, "another site")
		}
	}
	if writes < 10 {
		t.Errorf("only %d operations change something", writes)
	}
	if n := b.count(`select count(*) from events where action not in ('imported', 'token_created')`); n != 0 {
		t.Errorf("%d things were done", n)
	}
}

// TestAPIBadInput: the right status, words, and nothing done.
func TestAPIBadInput(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.MaxUpload = 1 << 20 })
	s := b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	before := b.count(`select count(*) from events`)
	for _, c := range []struct {
		method, path, kind, body string
		want                     int
		says                     string
	}{
		{"GET", "/nowhere", "", "", 404, "docs lists"},
		{"GET", "", "", "", 404, ""},
		{"GET", "/batches/", "", "", 404, ""},
		{"DELETE", "/batches/1", "", "", 405, "It takes GET, HEAD"},
		{"GET", "/batches/1/start", "", "", 405, "POST"},
		{"GET", "/batches/0", "", "", 422, "path.batch"},
		{"GET", "/batches/x", "", "", 422, "path.batch"},
		{"GET", "/batches/9223372036854775808", "", "", 422, "path.batch"},
		{"GET", "/batches/7", "", "", 404, "no batch of that number"},
		{"GET", "/batches/7/rows", "", "", 404, ""},
		{"GET", "/batches/7/live", "", "", 404, ""},
		{"GET", "/batches/7/results.csv", "", "", 404, ""},
		{"GET", "/batches/1/rows/99", "", "", 404, "no row 99"},
		{"GET", "/batches/1/rows?limit=1001", "", "", 422, "query.limit"},
		{"GET", "/batches/1/rows?limt=1", "", "", 422, "query.limt"},
		{"GET", "/batches/1/rows?outcome=sent", "", "", 422, "no outcome"},
		{"GET", "/batches/1/rows?status=sent", "", "", 422, "no status"},
		{"GET", "/batches/1/results?outcome=undecided", "", "", 422, "Undecided rows"},
		{"GET", "/batches/1/rows?q=" + strings.Repeat("x", 400), "", "", 422, "query.q"},
		{"GET", "/people", "", "", 422, "query.q"},
		{"GET", "/people/nobody", "", "", 422, "name@example.com"},
		{"GET", "/people/nobody@example.com", "", "", 404, "Nobody by that address"},
		{"GET", "/uploads/99", "", "", 404, ""},
		{"GET", "/sweeps/99", "", "", 404, "sweep"},
		{"POST", "/batches/7/start", "", "", 404, ""},
		{"POST", "/batches/1/retry", "", "", 409, "draft"},
		{"POST", "/batches/1/start", jsonType, "{", 400, "body"},
		{"POST", "/batches/1/start", jsonType, "[1]", 422, "expected object"},
		{"POST", "/batches/1/start", jsonType, `{"people":"two"}`, 422, "body.people"},
		{"POST", "/batches/1/start", jsonType, `{"people":2,"peoples":2}`, 422, "body.peoples"},
		{"POST", "/batches/1/start", "text/plain", `{}`, 415, "application/json"},
		{"POST", "/batches/1/start", jsonType, strings.Repeat(" ", maxJSON+1), 413, ""},
		{"PATCH", "/batches/1/options", jsonType, "", 400, "body"},
		{"PATCH", "/batches/1/options", jsonType, `{"priority":5}`, 422, "body.priority"},
		{"PATCH", "/batches/1/options", jsonType, `{"redirect_url":"ftp://x"}`, 422, "https://"},
		{"PATCH", "/batches/7/options", jsonType, `{}`, 404, ""},
		{"PUT", "/batches/7/columns", jsonType, `{}`, 404, ""},
		{"POST", "/batches", "", "email\na@example.com\n", 415, "text/csv"},
		{"POST", "/batches", "application/x-www-form-urlencoded", "email\na@example.com\n", 415, "curl -F file"},
		{"POST", "/batches", jsonType, `[]`, 415, "text/csv"},
		{"POST", "/batches", "text/csv", "", 422, ""},
		{"POST", "/batches", "text/csv", "Name,Abteilung\nJane,HR\n", 422, "No e-mail column"},
		{"POST", "/batches", "text/csv", strings.Repeat("email\n", 1<<18), 413, "larger than 1048576 bytes"},
		{"POST", "/batches?map=email", "text/csv", "email\n", 422, "NAME=COLUMN"},
		{"POST", "/batches?map=email=a&map=email=b", "text/csv", "email\n", 422, "once"},
		{"POST", "/batches?expires_in_days=366", "text/csv", "email\n", 422, "query.expires_in_days"},
		{"POST", "/batches?redirect_url=here", "text/csv", "email\n", 422, "https://"},
		{"POST", "/batches?encoding=klingon", "text/csv", "email\na@example.com\n", 422, ""},
	} {
		s.ask(c.method, c.path, c.kind, c.body).refused(c.want, c.says)
	}
	if a := s.ask("DELETE", "/batches/1", "", ""); a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow: %s", a.header.Get("Allow"))
	}
	if n := b.count(`select count(*) from events`); n != before {
		t.Errorf("%d things were done", n-before)
	}
	if n := b.count(`select count(*) from batches`); n != 1 {
		t.Errorf("%d batches", n)
	}
}

// TestAPICutOff: of a file or a body that is cut off nothing is kept.
func TestAPICutOff(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	for path, kind := range map[string]string{"/batches": "text/csv", "/batches/1/start": jsonType} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		must.OK(t, err)
		_, err = fmt.Fprintf(conn, "POST %s%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nIdempotency-Key: k\r\nContent-Type: %s\r\nContent-Length: 1000\r\n\r\n{\"people\":2", apiRoot, path, s.token, kind)
		must.OK(t, err)
		must.OK(t, conn.(*net.TCPConn).CloseWrite())
		text, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 400 ") || !strings.Contains(string(text), "cut off") {
			t.Errorf("%s: %v\n%s", path, err, text)
		}
		_ = conn.Close()
	}
	if up, started := b.count(`select count(*) from uploads`), b.count(`select count(*) from batches where state <> 'draft'`); up != 1 || started != 0 {
		t.Errorf("%d uploads, %d started", up, started)
	}
}

// TestIdempotencyKey: a file that is sent again with its key is the same batch,
// however often at once; with another file, other options or by somebody else the key is another.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	send := func(s *script, query, text string) answer {
		r := s.request(http.MethodPost, apiRoot+"/batches?"+query, strings.NewReader(text))
		r.Header.Set("Content-Type", "text/csv")
		r.Header.Set("Idempotency-Key", "monday")
		return s.send(r)
	}
	var made, busy int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 12 {
		group.Go(func() {
			a := send(s, "file_name=a.csv", messy)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case a.status == http.StatusCreated && a.header.Get("Location") == apiRoot+"/batches/1":
				made++
			case a.status == http.StatusConflict && strings.Contains(a.body, "under way"):
				busy++
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	group.Wait()
	if batches := b.count(`select count(*) from batches`); batches != 1 || made == 0 || made+busy != 12 {
		t.Errorf("%d batches; %d times made, %d busy", batches, made, busy)
	}
	send(s, "file_name=a.csv", messy).want(http.StatusCreated).says(`"batch":1`)
	s.ask(http.MethodPut, "/batches/1/columns", jsonType, `{"map":{"email":"Zweite"}}`).want(http.StatusOK)
	s.ask(http.MethodPut, "/batches/1/columns", jsonType, `{"map":{"email":"None"}}`).refused(http.StatusUnprocessableEntity)
	// Those that were refused as busy may have used up numbers.
	upload := fmt.Sprintf("/uploads/%d", b.count(`select id from uploads where batch_id = 1`))
	s.get(upload).want(http.StatusOK).says(`"state":"draft","batch":1`, `"status":422`)
	send(s, "file_name=a.csv", messy).want(http.StatusCreated).says(`"batch":1`, `"state":"draft"`)
	s.post("/batches/1/cancel", "").want(http.StatusOK)
	send(s, "file_name=a.csv", messy).want(http.StatusCreated).says(`"batch":1`, `"state":"cancelled"`)
	for query, text := range map[string]string{"file_name=a.csv": messy + "x;x@example.com;\n", "file_name=b.csv": messy, "file_name=a.csv&priority=1": messy} {
		send(s, query, text).refused(http.StatusUnprocessableEntity, "another file, or with other options")
	}
	other := b.script("")
	other.token, _ = CreateToken(t.Context(), b.pool, "other", Operator, "olga", time.Now().Add(time.Hour))
	send(other, "file_name=a.csv", "email\nother@example.com\n").want(http.StatusCreated).says(`"batch":2`)

	// One that comes still is waited for; one that died with its server is not.
	b.exec(`update uploads set received_at = null, batch_id = null where id = (select min(id) from uploads)`)
	send(s, "file_name=a.csv", messy).refused(http.StatusConflict, "under way")
	b.exec(`update uploads set came_at = now() - interval '61 seconds' where received_at is null`)
	send(s, "file_name=a.csv", messy).want(http.StatusCreated).says(`"batch":3`)
}

// TestAPILive: what is watched comes at once, and again when it changes, until
// the token ends.
func TestAPILive(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := b.script(Operator)
	s.csv("", messy).want(http.StatusCreated)
	s.post("/batches/1/start", "").want(http.StatusOK) // a draft is looked at every ten seconds only
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+apiRoot+"/batches/1/live", nil)
	must.OK(t, err)
	r.Header.Set("Authorization", "Bearer "+s.token)
	response, err := s.http.Do(r)
	must.OK(t, err)
	defer response.Body.Close() // it is only read
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("it is %s", kind)
	}
	events := make(chan report.Document)
	go func() {
		defer close(events)
		var d report.Document
		stream := json.NewDecoder(&dataOf{r: response.Body})
		for stream.Decode(&d) == nil {
			events <- d
			d = report.Document{}
		}
	}()
	if d := <-events; d.Report == nil || d.State != invitation.Running || d.Plan == nil {
		t.Fatalf("first: %+v", d)
	}
	s.post("/batches/1/pause", "").want(http.StatusOK)
	last := invitation.Running
	for d := range events {
		if last = d.State; last == invitation.Paused {
			break
		}
	}
	if last != invitation.Paused {
		t.Errorf("the last event shows a batch that is %s", last)
	}
	b.server.end()
	for range events { // until the stream ends
	}
}

// dataOf reads the data of server-sent events.
type dataOf struct {
	r    io.Reader
	rest []byte
	line []byte
}

func (d *dataOf) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		var b [1]byte
		if _, err := io.ReadFull(d.r, b[:]); err != nil {
			return 0, err
		}
		if b[0] != '\n' {
			d.line = append(d.line, b[0])
			continue
		}
		if data, ok := bytes.CutPrefix(d.line, []byte("data: ")); ok {
			d.rest = bytes.Clone(data)
		}
		d.line = d.line[:0]
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// TestOpenAPI holds the description against docs/openapi.yaml, and asks for it and
// its page as anybody may.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	yaml := w.get(apiRoot + "/openapi.yaml").want(http.StatusOK).body
	const golden = "../../docs/openapi.yaml"
	if *update {
		must.OK(t, os.WriteFile(golden, []byte(yaml), 0o644))
	}
	want, err := os.ReadFile(golden)
	must.OK(t, err)
	if yaml != string(want) {
		t.Error("the API is another than docs/openapi.yaml says. If that is meant: go test ./internal/web -run TestOpenAPI -update")
	}
	w.get(apiRoot + "/openapi.json").want(http.StatusOK).says(`"openapi": "3.1.0"`)
	page := w.get(apiRoot+"/docs").want(http.StatusOK).says("<code>POST /api/v1/batches</code>", "Idempotency-Key", "list of BatchLine")
	for _, item := range b.server.api.huma.OpenAPI().Paths {
		for _, op := range operationsOf(item) {
			page.says(`<section id="`+op.OperationID+`">`, `<a href="#`+op.OperationID+`">`)
		}
	}
	for name := range b.server.api.huma.OpenAPI().Components.Schemas.Map() {
		page.says(`<section id="schema-` + name + `">`)
	}
	for _, not := range []string{"<script", "<style", "http://", "https://cdn", " style="} {
		if strings.Contains(page.body, not) {
			t.Errorf("the page has %s", not)
		}
	}
}
