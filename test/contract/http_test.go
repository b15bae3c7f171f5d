package contract_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// operations has the API's operations with the role that each needs.
var operations = []struct{ method, path, role string }{
	{"GET", "/batches", "auditor"},
	{"POST", "/batches", "operator"},
	{"GET", "/batches/{batch}", "auditor"},
	{"POST", "/batches/{batch}/cancel", "operator"},
	{"PUT", "/batches/{batch}/columns", "operator"},
	{"GET", "/batches/{batch}/course", "auditor"},
	{"POST", "/batches/{batch}/discard", "operator"},
	{"GET", "/batches/{batch}/draft", "auditor"},
	{"GET", "/batches/{batch}/live", "auditor"},
	{"GET", "/batches/{batch}/options", "auditor"},
	{"PATCH", "/batches/{batch}/options", "operator"},
	{"POST", "/batches/{batch}/pause", "operator"},
	{"GET", "/batches/{batch}/problems", "auditor"},
	{"GET", "/batches/{batch}/problems.csv", "auditor"},
	{"GET", "/batches/{batch}/problems/kinds", "auditor"},
	{"GET", "/batches/{batch}/results", "auditor"},
	{"GET", "/batches/{batch}/results.csv", "auditor"},
	{"POST", "/batches/{batch}/resume", "operator"},
	{"POST", "/batches/{batch}/retry", "operator"},
	{"GET", "/batches/{batch}/rows", "auditor"},
	{"GET", "/batches/{batch}/rows/{row}", "auditor"},
	{"GET", "/batches/{batch}/rows/{row}/story", "auditor"},
	{"POST", "/batches/{batch}/start", "operator"},
	{"GET", "/batches/{batch}/undo", "auditor"},
	{"POST", "/batches/{batch}/undo", "operator"},
	{"GET", "/budget", "auditor"},
	{"GET", "/drift", "auditor"},
	{"GET", "/events", "auditor"},
	{"GET", "/people", "auditor"},
	{"GET", "/people/{email}", "auditor"},
	{"GET", "/reconcile", "auditor"},
	{"GET", "/schedules", "auditor"},
	{"GET", "/sweeps", "auditor"},
	{"GET", "/sweeps/{sweep}", "auditor"},
	{"POST", "/sweeps/{sweep}/allow", "operator"},
	{"GET", "/sweeps/{sweep}/revocations", "auditor"},
	{"POST", "/sweeps/{sweep}/stop", "operator"},
	{"GET", "/uploads/{upload}", "auditor"},
}

// at returns the URL of an operation, with values for the parameters in its path.
func (s *server) at(path string) string {
	return s.base + "/api/v1" + strings.NewReplacer("{batch}", "1", "{row}", "1", "{sweep}", "1", "{upload}", "1",
		"{email}", "ann@example.com").Replace(path)
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// token makes a token with a role and returns its text.
func (b *bench) token(name, role string) string {
	b.Helper()
	text, _ := b.run("token", "create", name, "--role", role, "--json").want(exitOK).object()["token_text"].(string)
	return text
}

// signIn uses the server's sign-in link and returns the client that is signed in.
func (s *server) signIn() *http.Client {
	s.Helper()
	_, errs := s.wrote()
	_, link, _ := strings.Cut(errs, "Sign in, once:")
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, strings.Fields(link)[0], nil)
	if err != nil {
		s.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
		s.Fatalf("sign in: %d, %v", answer.StatusCode, err)
	}
	return client
}

// problemDocument is the shape of every error of the API.
var problemDocument = keyed(fields{"type": exactly(`"about:blank"`), "title": text, "status": integer,
	"detail": text, "remedy?": text,
	"errors?": list(keyed(fields{"location?": text, "message": text})), "batch?": integer, "columns?": list(text)})

// problem sends a request that must be refused with a status and an error document, and returns the
// header of the answer.
func (s *server) problem(want int, method, url string, header http.Header, body string) http.Header {
	s.Helper()
	status, answered, text := exchange(s.check, method, url, header, body)
	if kind := answered.Get("Content-Type"); status != want || kind != "application/problem+json" {
		s.Errorf("%s %s: %d %s, want %d and application/problem+json\n%s", method, url, status, kind, want, text)
		return answered
	}
	s.documents().hold(method+" "+url, "problem", both(problemDocument, func(r *reading, path string, doc any) {
		if amount(doc, "status") != int64(want) || at(doc, "title") != http.StatusText(want) {
			r.fail(path, "%v is not about %d", doc, want)
		}
	}), decode(s.check, text))
	return answered
}

// refuses reports whether a status means that the caller lacks a permission.
func refuses(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

var _ = promised("who may call the API",
	[]string{"Without a valid session or token: 401; without the role, or from another site: 403; errors are " +
		"`application/problem+json`."},
	func(c *check) {
		_, b := c.hired()
		b.run("import", "--draft", "--yes", b.people("ann@example.com")).want(exitOK)
		s := b.serve()
		auditor, revoked, expired := b.token("reads", "auditor"), b.token("revoked", "operator"),
			b.token("expired", "operator")
		var number int
		if err := b.sql().QueryRow(b.Context(),
			`select id from api_tokens where name = 'revoked'`).Scan(&number); err != nil {
			c.Fatal(err)
		}
		b.run("token", "revoke", fmt.Sprint(number)).want(exitOK)
		b.exec(`update api_tokens set created_at = now() - interval '2 hours', expires_at = now() - interval '1 ` +
			`hour' where name = 'expired'`)
		for _, o := range operations {
			url := s.at(o.path)
			for _, header := range []http.Header{nil, bearer("biv_nobody"), bearer(revoked), bearer(expired)} {
				a := s.problem(http.StatusUnauthorized, o.method, url, header, "")
				if a.Get("WWW-Authenticate") == "" {
					c.Errorf("%s %s: a 401 without WWW-Authenticate", o.method, url)
				}
			}
			if o.role == "operator" {
				s.problem(http.StatusForbidden, o.method, url, bearer(auditor), "")
				other := bearer(s.token)
				other.Set("Origin", "https://evil.example")
				s.problem(http.StatusForbidden, o.method, url, other, "")
			} else if status, text := request(c, o.method, url, bearer(auditor), ""); refuses(status) {
				c.Errorf("%s %s: an auditor gets %d %s", o.method, url, status, text)
			}
		}
		for _, o := range operations { // an operator may do everything
			if status, text := request(c, o.method, s.at(o.path), bearer(s.token), ""); refuses(status) {
				c.Errorf("%s %s: an operator gets %d %s", o.method, o.path, status, text)
			}
		}

		// A session permits the same as a token, but not from another site, and not after it was
		// ended.
		signedIn := s.signIn()
		asks := func(method, path, origin string, want int) {
			c.Helper()
			r, err := http.NewRequestWithContext(c.Context(), method, s.base+path, nil)
			if err != nil {
				c.Fatal(err)
			}
			r.Header.Set("Origin", origin)
			answer, err := signedIn.Do(r)
			if err != nil {
				c.Fatal(err)
			}
			if err := answer.Body.Close(); err != nil || answer.StatusCode != want {
				c.Errorf("%s %s from %s in a session: %d, %v; want %d", method, path, origin, answer.StatusCode,
					err, want)
			}
		}
		asks("GET", "/api/v1/batches", s.base, http.StatusOK)
		asks("POST", "/api/v1/batches/1/retry", "https://evil.example", http.StatusForbidden)
		b.run("sessions", "end", "--all").want(exitOK)
		asks("GET", "/api/v1/batches", s.base, http.StatusUnauthorized)
	})

var _ = promised("the API describes itself",
	[]string{"`openapi.json`, `openapi.yaml` and `docs` describe all of it to anybody; [api.md](api.md) goes the " +
		"whole way."},
	func(c *check) {
		_, b := c.hired()
		s := b.serve()
		var described [3]any
		for i, name := range []string{"openapi.json", "openapi.yaml"} {
			status, text := request(c, "GET", s.base+"/api/v1/"+name, nil, "")
			if status != http.StatusOK {
				c.Fatalf("%s: %d %s", name, status, text)
			}
			if err := yaml.Unmarshal([]byte(text), &described[i]); err != nil {
				c.Fatal(err)
			}
		}
		page, err := os.ReadFile(openapiFile)
		if err != nil {
			c.Fatal(err)
		}
		if err := yaml.Unmarshal(page, &described[2]); err != nil {
			c.Fatal(err)
		}
		for i, one := range described {
			got, err := json.Marshal(one)
			want, err2 := json.Marshal(described[2])
			if err != nil || err2 != nil || !bytes.Equal(got, want) {
				c.Errorf("description %d is not that of docs/openapi.yaml (%v, %v)", i, err, err2)
			}
		}
		if status, header, text := exchange(c, "GET", s.base+"/api/v1/docs", nil, ""); status != http.StatusOK ||
			!strings.HasPrefix(header.Get("Content-Type"), "text/html") || !strings.Contains(text,
			"/api/v1/batches") {
			c.Errorf("docs: %d %v", status, header)
		}
		// operations must have every operation of the API, so that the test calls all of them.
		var paths struct {
			Paths map[string]map[string]any `json:"paths"`
		}
		if err := yaml.Unmarshal(page, &paths); err != nil {
			c.Fatal(err)
		}
		var theirs, ours []string
		for path, methods := range paths.Paths {
			for method := range methods {
				theirs = append(theirs, strings.ToUpper(method)+" "+strings.TrimPrefix(path, "/api/v1"))
			}
		}
		guide, err := os.ReadFile("../../docs/api.md")
		if err != nil {
			c.Fatal(err)
		}
		for _, o := range operations {
			ours = append(ours, o.method+" "+o.path)
			last := o.path[strings.LastIndex(o.path, "/"):]
			if !strings.Contains(last, "{") && !strings.Contains(string(guide), last) {
				c.Errorf("api.md has no %s", o.path)
			}
		}
		slices.Sort(theirs)
		slices.Sort(ours)
		if !slices.Equal(theirs, ours) {
			c.Errorf("the API has the operations\n%s\nwant\n%s", strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
		}
	})

const openapiFile = "../../docs/openapi.yaml"

// schemas has the schemas of docs/openapi.yaml. Its objects allow no keys that they do not
// describe.
var schemas = sync.OnceValues(func() (*jsonschema.Compiler, error) {
	page, err := os.ReadFile(openapiFile)
	if err != nil {
		return nil, err
	}
	text, err := yaml.YAMLToJSON(page)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	closeObjects(doc)
	c := jsonschema.NewCompiler()
	return c, c.AddResource("api.json", doc)
})

func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, has := v["properties"].(map[string]any)
		if _, open := v["additionalProperties"]; has && !open && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, one := range v {
			closeObjects(one)
		}
	case []any:
		for _, one := range v {
			closeObjects(one)
		}
	}
}

var compiling sync.Mutex

// timesInZone matches times with an offset.
var timesInZone = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+[+-][0-9:]+"`)

// described checks an answer against docs/openapi.yaml.
func (c *check) described(method, path string, status int, text string) {
	c.Helper()
	escaped := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace
	compiling.Lock()
	defer compiling.Unlock()
	all, err := schemas()
	if err != nil {
		c.Fatal(err)
	}
	schema, err := all.Compile(fmt.Sprintf("api.json#/paths/%s/%s/responses/%d/content/%s/schema",
		escaped("/api/v1"+path), strings.ToLower(method), status, escaped("application/json")))
	if err != nil {
		c.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = schema.Validate(document)
	}
	if err != nil {
		c.Errorf("%s %s is not as docs/openapi.yaml has it: %v\n%.1000s", method, path, err, text)
	}
	for _, at := range timesInZone.FindAllString(text, -1) {
		c.Errorf("%s %s has the time %s, which is not in UTC", method, path, at)
	}
}

var _ = promised("the API answers with the documents of the commands",
	[]string{"`serve` answers with the same documents under `/api/v1`: `batches` (`GET`, and `POST` for a file), " +
		"`batches/{id}` (as `status`), `…/draft` (as `check`), `…/rows`, `…/results` and `…/results.csv` (as " +
		"`results`), `…/live`, " +
		"`…/start`, `…/pause`, `…/resume`, `…/cancel`, `…/retry` (`?rejected=true` as `--rejected`), `…/undo`, " +
		"`people/{email}` (as `why`), `sweeps`, `drift`, `budget`, `events`."},
	func(c *check) {
		k, b := c.hired()
		b.run("send", "--yes", b.file("hires.csv", hires)).want(exitRows)
		k.ask("POST", "/sandbox/invitations", `["stranger@example.com"]`)
		b.run("sweep").want(exitOK)
		b.run("reconcile").want(exitOK)
		b.until(1, `select count(*) from batches where certificate is not null`)
		worker := b.start("work", "--sweep-at", "0 2 * * *", "--tz", "Europe/Berlin")
		b.until(1, `select count(*) from schedules`)
		worker.end(syscall.SIGTERM).want(exitOK)
		s := b.serve()
		d := c.documents()

		// ask makes a call that must have the given status and an answer as in docs/openapi.yaml.
		ask := func(method, path, kind, body string, want int, numbers ...string) any {
			c.Helper()
			header := bearer(s.token)
			header.Set("Content-Type", kind)
			url := s.base + "/api/v1" + strings.NewReplacer(numbers...).Replace(path)
			path, _, _ = strings.Cut(path, "?")
			status, text := request(c, method, url, header, body)
			if status != want {
				c.Fatalf("%s %s: %d %s", method, url, status, text)
			}
			c.described(method, path, status, text)
			return decode(c, text)
		}
		get := func(path string, numbers ...string) any {
			c.Helper()
			return ask("GET", path, "", "", http.StatusOK, numbers...)
		}
		post := func(path, body string, numbers ...string) any {
			c.Helper()
			return ask("POST", path, "application/json", body, http.StatusOK, numbers...)
		}
		same := func(got any, args ...string) {
			c.Helper()
			if want := b.run(append(args, "--json")...).want(exitOK).doc(); fmt.Sprint(got) != fmt.Sprint(want) {
				c.Errorf("the API and bulkinvite %s differ:\n%v\n%v", strings.Join(args, " "), got, want)
			}
		}
		one := []string{"{batch}", "1"}
		same(get("/batches/{batch}", one...), "status", "1")
		same(get("/batches"), "batches")
		same(get("/batches/{batch}/results", one...), "results", "1")
		same(get("/people/{email}", "{email}", "ann@example.com"), "why", "ann@example.com")
		same(get("/batches/{batch}/rows/{row}/story", "{batch}", "1", "{row}", "1"), "why", "ann@example.com")
		same(get("/sweeps"), "sweep", "--list")
		same(get("/sweeps/{sweep}", "{sweep}", "1"), "sweep", "1")
		same(get("/drift"), "drift")
		if status, text := request(c, "GET", s.at("/batches/{batch}/results.csv"), bearer(s.token),
			""); status != http.StatusOK || text != b.run("results", "1", "--format", "csv").want(exitOK).out {
			c.Errorf("results.csv: %d %s", status, text)
		}
		if status, text := request(c, "GET", s.at("/batches/{batch}/live"), bearer(s.token),
			""); status != http.StatusOK || !strings.HasPrefix(text, "data: {") {
			c.Errorf("live: %d %s", status, text)
		} else {
			d.hold("live", "batch", batchDocument, decode(c, strings.TrimPrefix(text, "data: ")))
		}
		row := auditKeys.with(fields{"actor": nil, "file_name": nil, "environment": nil})
		delete(row, "actor")
		delete(row, "file_name")
		delete(row, "environment")
		d.hold("rows", "row", list(keyed(row)), get("/batches/{batch}/rows", one...))
		d.hold("row", "row", keyed(row.with(fields{"cells": list(keyed(fields{"column": text, "value": text}))})),
			get("/batches/{batch}/rows/{row}", "{batch}", "1", "{row}", "1"))
		for _, path := range []string{"/budget", "/events", "/events?batch=1", "/people?q=ann", "/reconcile",
			"/schedules", "/batches/{batch}/course", "/batches/{batch}/undo", "/batches/{batch}/problems",
			"/batches/{batch}/problems/kinds", "/sweeps/{sweep}/revocations"} {
			get(path, "{batch}", "1", "{sweep}", "1")
		}

		// Upload a file as a draft, look at it, start it, and stop it in each way.
		header := ask("POST", "/batches?file_name=more.csv", "text/csv",
			hires+"New,new@example.com,IT\nOther,other@example.com,IT\n", http.StatusCreated)
		c.holds(header, "batch 2, state draft, file_name more.csv, rows 10")
		two := []string{"{batch}", "2"}
		draft := get("/batches/{batch}/draft", two...)
		d.hold("draft", "draft", keyed(checkKeys.with(fields{"batch": integer, "to_invite": integer,
			"lapsed": integer, "looking": boolean,
			"asked_clerk": boolean, "lookup_problem": orNull(text), "confirm": boolean, "undelivered": boolean})),
			draft)
		c.holds(draft, "rows 10, blank 1, invalid 1, duplicate_row 1, confirm true, problems[0].code no_at")
		get("/uploads/{upload}", "{upload}", "1")
		get("/batches/{batch}/options", two...)
		ask("PATCH", "/batches/{batch}/options", "application/json", `{"expires_in_days":14}`, http.StatusOK, two...)
		ask("PUT", "/batches/{batch}/columns", "application/json", `{"map":{"email":"email"}}`, http.StatusOK, two...)
		s.problem(http.StatusConflict, "POST", s.base+"/api/v1/batches/2/start", bearer(s.token), `{"people":1}`)
		b.until(0, `select count(*) from batches b where id = 2 and state <> 'draft'`)
		var started any
		for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // the server is looking people up
			draft = get("/batches/{batch}/draft", two...)
			if at(draft, "looking") == false || time.Now().After(late) {
				break
			}
		}
		started = post("/batches/{batch}/start", fmt.Sprintf(`{"people":%d}`, amount(draft, "to_invite")), two...)
		d.hold("start", "batch", batchDocument, started)
		c.holds(started, "batch 2, state running")
		c.holds(post("/batches/{batch}/pause", "", two...), "state paused, paused_by person")
		c.holds(post("/batches/{batch}/resume", "", two...), "state running")
		c.holds(post("/batches/{batch}/cancel", "", two...), "state cancelled, undecided 0")
		c.holds(post("/batches/{batch}/retry", "", one...), "state done, undecided 0")
		c.holds(post("/batches/{batch}/retry?rejected=true", "", one...), "state running, undecided 1")
		undo := get("/batches/{batch}/undo", one...)
		c.holds(undo, "invitations 3")
		swept := post("/batches/{batch}/undo", `{"invitations":3}`, one...)
		d.hold("undo", "sweep", sweepDocument, swept)
		c.holds(swept, "kind undo, batch 1, apply true")
		ask("POST", "/sweeps/{sweep}/stop", "application/json", "", http.StatusOK, "{sweep}",
			fmt.Sprint(amount(swept, "sweep")))
		ask("POST", "/batches?file_name=third.csv&again=true", "text/csv", "email\nthird@example.com\n",
			http.StatusCreated)
		c.holds(post("/batches/{batch}/discard", "", "{batch}", "3"), "state cancelled")
		b.exec(`insert into sweeps (id, instance_id, kind, started_by, apply, held, threshold) overriding system ` +
			`value values (99, 1, 'sweep', 'maria', true, true, 1)`)
		c.holds(post("/sweeps/{sweep}/allow", "", "{sweep}", "99"), "sweep 99, held false")
		c.saw("batches/{id}", "status", "check", "why", "people/{email}", "--rejected")

		// These requests are refused with an error document.
		api := s.base + "/api/v1"
		for _, r := range []struct {
			want               int
			method, path, body string
		}{
			{http.StatusBadRequest, "POST", "/batches/1/start", `{"people":`},
			{http.StatusNotFound, "GET", "/batches/99", ""},
			{http.StatusNotFound, "GET", "/nothing", ""},
			{http.StatusMethodNotAllowed, "DELETE", "/batches/1", ""},
			{http.StatusConflict, "POST", "/batches/2/resume", ""},
			{http.StatusUnprocessableEntity, "GET", "/batches?limit=0", ""},
			{http.StatusUnprocessableEntity, "PATCH", "/batches/2/options", `{"unknown":1}`},
			{http.StatusRequestEntityTooLarge, "POST", "/batches/1/start", strings.Repeat(" ", 70<<10)},
		} {
			header := bearer(s.token)
			if r.body != "" {
				header.Set("Content-Type", "application/json")
			}
			if answered := s.problem(r.want, r.method, api+r.path, header,
				r.body); r.want == http.StatusMethodNotAllowed && answered.Get("Allow") == "" {
				c.Error("a 405 without Allow")
			}
		}
		wrong := bearer(s.token)
		wrong.Set("Content-Type", "text/plain")
		s.problem(http.StatusUnsupportedMediaType, "POST", api+"/batches/1/start", wrong, "x")
		s.end(syscall.SIGTERM).want(exitOK)
	})

var _ = promised("the limits of downloads and streams",
	[]string{"A user may have 4 downloads (`results`, `results.csv`, `problems.csv`, `drift`) and 32 `live` " +
		"streams at a time from one server, of the page and the API together; one more: 429 with `Retry-After`. A " +
		"download has each row once, in order, as it was when it was read: rows that are decided meanwhile may be " +
		"of different moments."},
	func(c *check) {
		_, b := c.hired()
		const rows = 1500
		var file strings.Builder
		file.WriteString("email,Note\n")
		for i := range rows {
			fmt.Fprintf(&file, "p%d@example.com,%s\n", i, strings.Repeat("x", 8000)) // more than all buffers hold
		}
		b.run("import", "--yes", b.file("large.csv", file.String())).want(exitOK)
		s := b.serve()
		user := s.signIn()
		user.Transport = &http.Transport{DialContext: func(ctx context.Context, network,
			address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			}
			return conn, err
		}}
		begin := func(path string) *http.Response {
			c.Helper()
			r, err := http.NewRequestWithContext(c.Context(), http.MethodGet, s.base+path, nil)
			if err != nil {
				c.Fatal(err)
			}
			answer, err := user.Do(r)
			if err != nil {
				c.Fatal(err)
			}
			c.Cleanup(func() { _ = answer.Body.Close() }) // it may be closed already
			c.trace.add(path)
			return answer
		}
		goes := func(path string) *http.Response {
			c.Helper()
			answer := begin(path)
			if answer.StatusCode != http.StatusOK {
				c.Fatalf("%s: %d", path, answer.StatusCode)
			}
			return answer
		}
		refused := func(path string) {
			c.Helper()
			answer := begin(path)
			if answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
				c.Errorf("%s: %d, Retry-After %q; want 429", path, answer.StatusCode,
					answer.Header.Get("Retry-After"))
			}
			c.trace.add(fmt.Sprintf("Retry-After %d", answer.StatusCode))
			if err := answer.Body.Close(); err != nil {
				c.Error(err)
			}
		}
		all := goes("/api/v1/batches/1/results")
		comma := goes("/api/v1/batches/1/results.csv")
		page := goes("/batches/1/results.csv")
		goes("/batches/1/results.csv")
		for _, path := range []string{"/api/v1/batches/1/results", "/api/v1/batches/1/results.csv",
			"/api/v1/batches/1/problems.csv", "/api/v1/drift", "/batches/1/results.csv"} {
			refused(path)
		}
		s.get("/api/v1/drift") // of another user

		// Decide rows in the middle of the downloads.
		b.exec(`update results set outcome = 'rejected', reason = 'x', decided_at = now() where row_number % 2 = 0`)
		var got []object
		decoded, err := io.ReadAll(all.Body)
		if err != nil {
			c.Fatal(err)
		}
		got = asObjects(c, decode(c, string(decoded)))
		if len(got) != rows {
			c.Errorf("%d rows, want %d", len(got), rows)
		}
		for i, row := range got {
			if amount(row, "bulkinvite_row") != int64(i+1) {
				c.Fatalf("row %v came as number %d", row["bulkinvite_row"], i+1)
			}
		}
		for _, download := range []*http.Response{comma, page} {
			records, err := csv.NewReader(download.Body).ReadAll()
			if err != nil || len(records) != rows+1 {
				c.Fatalf("%d records, %v", len(records), err)
			}
			for i, record := range records[1:] {
				if number := record[slices.Index(records[0], "bulkinvite_row")]; number != fmt.Sprint(i+1) {
					c.Fatalf("row %s came as number %d", number, i+1)
				}
			}
		}
		// The server notices the end of the downloads a moment later.
		for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			answer := begin("/api/v1/drift")
			if answer.StatusCode == http.StatusOK {
				break
			}
			if time.Now().After(late) {
				c.Fatalf("no download may begin once others have ended: %d", answer.StatusCode)
			}
		}

		for range 16 {
			goes("/api/v1/batches/1/live")
			goes("/batches/1/live")
		}
		refused("/api/v1/batches/1/live")
		refused("/batches/1/live")
		if status, _ := request(c, "GET", s.at("/batches/{batch}/live"), bearer(s.token),
			""); status != http.StatusOK {
			c.Errorf("another user: %d", status)
		}
	})
