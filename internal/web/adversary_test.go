package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/report"
	"bulkinvite/internal/web/openidtest"
)

// odd is what somebody may put where a word or a number is asked for.
var odd = append([]string{"\x00", "a\x00b", "\xff\xfe", "a\xc3", "-1", "9223372036854775808", "1e9", "'", "%", "\r\nX: y"}, nasty...)

// fill puts something in the place of each name of a pattern's path.
func fillIn(path, with string) string {
	for {
		i, j := strings.Index(path, "{"), strings.Index(path, "}")
		if i < 0 {
			return path
		}
		path = path[:i] + with + path[j+1:]
	}
}

// uncompressed saves these thousands of requests half of the server's work. Other tests read compressed pages.
var uncompressed = &http.Transport{DisableCompression: true}

// values are what fields hold: they keep what was typed, whatever it is.
var values = regexp.MustCompile(` value="[^"]*"`)

// bearable fails the test where an answer is the server's own fault, or a page shows
// markup or marks that turn text around as they came.
func (a answer) bearable() {
	a.t.Helper()
	page := strings.HasPrefix(a.header.Get("Content-Type"), "text/html")
	if a.status >= http.StatusInternalServerError {
		a.t.Errorf("%.200s: %d\n%.500s", a.what, a.status, a.body)
	}
	if page && (strings.Contains(a.body, "<script>alert") || strings.Contains(values.ReplaceAllString(a.body, ""), "\u202e")) {
		shown := values.ReplaceAllString(a.body, "")
		at := max(strings.Index(shown, "\u202e"), strings.Index(shown, "<script>alert"))
		a.t.Errorf("%.200s lets markup through: %q", a.what, shown[max(0, at-200):min(len(shown), at+60)])
	}
}

// TestOddWords asks every page and every operation for what nobody would type, in
// each part of the address: nothing of it is the server's fault, and nothing is done.
func TestOddWords(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w, s := b.as("olga"), b.script(Operator)
	w.http.Transport = uncompressed
	s.csv("", messy).want(http.StatusCreated)
	b.sweep(60)
	before := b.count(`select count(*) from events`)
	ask := func(method, path string) {
		if !strings.HasSuffix(strings.Split(path, "?")[0], "/live") {
			a := w.do(w.request(method, path, nil))
			a.what = method + " " + path
			a.bearable()
		}
	}
	names := []string{"q", "email", "after", "before", "code", "outcome", "status", "kind", "batch", "done", "next", "once"}
	for _, pattern := range b.server.patterns {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok || path == "/logout" || strings.HasPrefix(path, "/static") {
			continue
		}
		for _, text := range odd {
			if strings.Contains(path, "{") && path != "/{$}" && len(text) < 1000 {
				ask(method, fillIn(path, url.PathEscape(text)))
			}
			if method == http.MethodGet {
				for _, name := range names {
					ask(method, fillIn(strings.TrimSuffix(path, "{$}"), "1")+"?"+url.Values{name: {text}}.Encode())
				}
			}
		}
	}
	for _, text := range odd {
		ask(http.MethodGet, "/drift?"+url.Values{"after": {"x"}, "seen": {"2026-11-23T10:00:00Z"}, "after_kind": {text}, "instance": {"1"}}.Encode())
		ask(http.MethodGet, "/drift?"+url.Values{"after": {text}, "seen": {"0000-01-01T00:00:00Z"}, "after_kind": {"gone"}, "instance": {"1"}}.Encode())
	}
	for path, item := range s.spec.Paths {
		for _, op := range operationsOf(item) {
			for _, text := range odd {
				if strings.Contains(path, "{") && len(text) < 1000 {
					ask(op.Method, fillIn(path, url.PathEscape(text)))
				}
				for _, p := range op.Parameters {
					if p.In == "query" && op.Method == http.MethodGet {
						ask(op.Method, fillIn(path, "1")+"?"+url.Values{p.Name: {text}}.Encode())
					}
				}
			}
		}
	}
	for _, raw := range []string{"/people?q=%zz", "/people?%zz", "/?;", "/batches/%31", "//batches/1", "/batches/../batches/1", "/batches/1/", "/batches/1%2Frows", apiRoot + "/people?q=%zz", apiRoot + "/batches/1%2Frows", apiRoot + "//batches"} {
		r := w.request(http.MethodGet, "/", nil)
		r.URL.Opaque = raw
		a := w.do(r)
		a.what = raw
		a.bearable()
	}
	if n := b.count(`select count(*) from events`); n != before {
		t.Errorf("%d things were done", n-before)
	}
}

// TestOddForms sends every form with what nobody would type in each field.
func TestOddForms(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w, s := b.as("olga"), b.script(Operator)
	w.http.Transport = uncompressed
	s.csv("", messy).want(http.StatusCreated)
	columns := []string{"Name", "E-Mail-Adresse", "Zweite"}
	for _, text := range odd {
		for _, name := range append(slices.Collect(maps.Keys(inForms)), "template") { // which no form has, and a form could
			for _, path := range []string{"/batches/1/options", "/batches/1/undo", "/uploads/1", "/login"} {
				form := url.Values{name: {text}}
				switch {
				case name == "again" || path == "/login" && name != "password" && name != "next":
					continue // it counts as a try
				case name == "column":
					form = url.Values{"column": {text, "E-Mail-Adresse"}, "meaning": {"metadata", "email"}}
				case name == "meaning":
					form = url.Values{"column": columns, "meaning": {text, "email", ""}}
				case path == "/login":
					form.Set("name", text)
				}
				a := w.post(path, form)
				a.what = fmt.Sprintf("%s %q", path, form)
				a.bearable()
			}
		}
		for _, name := range optionNames {
			a := s.ask(http.MethodPatch, "/batches/1/options", jsonType, fmt.Sprintf(`{%q:%s}`, name, quoted(text)))
			a.what = fmt.Sprintf("PATCH %s %q", name, text)
			a.bearable()
			r := s.request(http.MethodPost, apiRoot+"/batches?"+url.Values{name: {text}, "map": {text + "=" + text}}.Encode(), strings.NewReader("email\nx@example.com\n"))
			r.Header.Set("Content-Type", "text/csv")
			a = s.send(r)
			a.bearable()
		}
		for _, name := range []string{"revoke_on", "delimiter", "encoding"} {
			a := s.ask(http.MethodPut, "/batches/1/columns", jsonType, fmt.Sprintf(`{%q:%s}`, name, quoted(text)))
			a.what = fmt.Sprintf("PUT %s %q", name, text)
			a.bearable()
		}
		r := s.request(http.MethodPost, apiRoot+"/batches", strings.NewReader("email\n"))
		r.Header.Set("Content-Type", "text/csv")
		if r.Header.Set("Idempotency-Key", text); !strings.ContainsAny(text, "\x00\r") {
			s.send(r).bearable()
		}
		a := s.ask(http.MethodPut, "/batches/1/columns", jsonType, fmt.Sprintf(`{"map":{%s:%s}}`, quoted(text), quoted(text)))
		a.what = fmt.Sprintf("PUT map %q", text)
		a.bearable()
	}
	for path, body := range map[string]string{"/login": "name=%zz", "/batches/1/options": "canary=%zz", "/batches/1/start": "%zz", "/batches/1/undo": ";", "/uploads/1": "%"} {
		r := w.request(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w.do(r).want(http.StatusBadRequest).says("could not be read")
		w.post(path, url.Values{"x": {strings.Repeat("x", 1<<20)}}).want(http.StatusRequestEntityTooLarge).says("more than this form takes")
	}
	if n := b.count(`select count(*) from batches where state <> 'draft'`); n != 0 {
		t.Errorf("%d batches are under way", n)
	}
}

// quoted writes a text as JSON has it, bytes that are no text among them.
func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\x00", `\u0000`, "\r", `\r`, "\n", `\n`).Replace(text) + `"`
}

// TestOddMethods: a path that is there says what it takes.
func TestOddMethods(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", messy).want(http.StatusOK)
	taken := map[string][]string{}
	for _, pattern := range b.server.patterns {
		if method, path, ok := strings.Cut(pattern, " "); ok {
			taken[path] = append(taken[path], method)
		}
	}
	for path, methods := range taken {
		if slices.Contains(methods, http.MethodGet) {
			methods = append(methods, http.MethodHead)
		}
		slices.Sort(methods)
		for _, method := range []string{"DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW", "POST", "GET"} {
			if slices.Contains(methods, method) {
				continue
			}
			a := w.do(w.request(method, fillIn(strings.TrimSuffix(path, "{$}"), "1"), nil))
			a.what = method + " " + path
			if a.want(http.StatusMethodNotAllowed).says("It takes "); a.header.Get("Allow") != strings.Join(methods, ", ") {
				t.Errorf("%s: Allow: %s, want %s", a.what, a.header.Get("Allow"), methods)
			}
		}
	}
	w.do(w.request("DELETE", "/nothing", nil)).want(http.StatusNotFound)
}

// TestOtherOrigins asks every route that takes a POST from other sites, with the
// cookie of somebody who may; and as an auditor, who is offered no start on any page.
func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	olga, alex := b.as("olga"), b.as("alex")
	olga.draft("hires.csv", messy).want(http.StatusOK)
	sw := b.sweep(60)
	before, sessions := b.count(`select count(*) from events`), b.count(`select count(*) from web_sessions`)
	posts := 0
	for _, pattern := range b.server.patterns {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			method, path = http.MethodPost, pattern // those that take any
		}
		if method != http.MethodPost {
			continue
		}
		posts++
		at := fillIn(path, "1")
		if strings.HasPrefix(path, "/sweeps") {
			at = fillIn(path, fmt.Sprint(sw.ID))
		}
		for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-fetch-site": "same-site", "Origin": "https://evil.example", "origin": "null"} {
			r := olga.request(http.MethodPost, at, strings.NewReader("people=2"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set(name, value)
			a := olga.do(r).want(http.StatusForbidden)
			if a.what += " " + value; !strings.HasPrefix(path, riverPrefix) {
				a.says("another site")
			}
		}
		if path == "/people" { // it only looks for them
			alex.post(at, nil).want(http.StatusOK)
			b.browser().post(at, nil).want(http.StatusUnauthorized)
		} else if path != "/login" && path != "/logout" && path != "/" {
			alex.post(at, nil).want(http.StatusForbidden).says("not change anything")
			b.browser().post(at, nil).want(http.StatusUnauthorized)
		}
	}
	if posts < 13 {
		t.Errorf("only %d routes take a POST", posts)
	}
	page := alex.get("/batches/1").want(http.StatusOK).says("jane@example.com").body
	expect.NoText(t, page, `<button class="primary"`, "/start")
	if n, m := b.count(`select count(*) from events`), b.count(`select count(*) from web_sessions`); n != before || m != sessions {
		t.Errorf("%d things were done, %d sessions of %d", n-before, m, sessions)
	}
}

// TestOddTargets: a page that is asked for a part of another page is shown whole,
// and each page answers whatever part is asked of it.
func TestOddTargets(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.http.Transport = uncompressed
	w.draft("hires.csv", messy).want(http.StatusOK)
	w.draft("more.csv", "email\na@example.com\n").want(http.StatusOK)
	w.post("/batches/2/start", nil).want(http.StatusSeeOther)
	b.exec(`insert into sweeps (instance_id, kind, started_by, apply) values ($1, 'sweep', 'maria', true)`, b.server.cfg.Instance.ID)
	targets := []string{"nothing"}
	for _, page := range pages() {
		for _, part := range page.Templates() {
			if name, ok := strings.CutPrefix(part.Name(), "part-"); ok && !strings.HasSuffix(name, ".html") && !slices.Contains(targets, name) {
				targets = append(targets, name)
			}
		}
	}
	for _, pattern := range b.server.patterns {
		path, ok := strings.CutPrefix(pattern, "GET ")
		if !ok || strings.HasPrefix(path, "/river") || strings.HasPrefix(path, "/api") || strings.HasSuffix(path, "/live") {
			continue
		}
		for _, batch := range []string{"1", "2"} {
			path := fillIn(strings.TrimSuffix(path, "{$}"), batch)
			whole := 0
			for _, target := range targets {
				r := w.request(http.MethodGet, path, nil)
				r.Header.Set("HX-Request", "true")
				r.Header.Set("HX-Target", "div#"+target)
				a := w.do(r)
				if whole == 0 {
					whole = a.status
				}
				if a.status != whole {
					t.Errorf("%s for %s: %d, want %d: %.200s", path, target, a.status, whole, a.body)
				}
			}
		}
	}
}

// TestHugeHeaders: a head of more than a page would ever have is refused before
// anything is read of it.
func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	served := make(chan error, 1)
	go func() { served <- b.server.Serve(t.Context(), listener) }()
	for length, want := range map[int]string{1 << 10: "200 OK", 64 << 10: "431 Request Header Fields Too Large"} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		must.OK(t, err)
		_, err = fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: %s\r\n\r\n", strings.Repeat("x", length))
		text, read := io.ReadAll(conn)
		if err != nil || read != nil || !strings.HasPrefix(string(text), "HTTP/1.1 "+want) {
			t.Errorf("%d bytes: %v, %v, %.100s", length, err, read, text)
		}
		_ = conn.Close()
	}
	expect.OK(t, listener.Close())
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the server ended: %v", err)
	}
}

// TestOddFiles uploads files whose names and heads are made to harm whoever reads
// them, on the page or in a spreadsheet.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w, s := b.as("olga"), b.script(Operator)
	for i, text := range odd {
		cell := `"` + strings.NewReplacer(`"`, `""`, "\x00", "0").Replace(strings.ToValidUTF8(text, "?")) + `"`
		r := s.request(http.MethodPost, apiRoot+"/batches", strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\""+strings.NewReplacer(`"`, `\"`, "\r\n", "").Replace(text)+
			"\"\r\n\r\nemail,"+cell+",name\n"+fmt.Sprintf("a%d@example.com,", i)+cell+","+cell+"\nbad,"+cell+","+cell+"\n\r\n--x--\r\n"))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		a := s.send(r)
		if a.bearable(); a.status != http.StatusCreated {
			continue // it is refused, in words: see bearable
		}
		id := into[report.Document](a).Batch
		for _, path := range []string{"", "/rows/1", "/rows/2", "/problems"} {
			a := w.get(fmt.Sprintf("/batches/%d%s", id, path)).want(http.StatusOK)
			a.bearable()
		}
		for _, path := range []string{"/results.csv", "/problems.csv"} {
			for line := range strings.Lines(w.get(fmt.Sprintf("/batches/%d%s", id, path)).want(http.StatusOK).body) {
				if strings.Contains(line, ",=cmd") || strings.Contains(line, `,"=cmd`) || strings.HasPrefix(strings.TrimPrefix(line, "\ufeff"), "=") {
					t.Errorf("%s has a formula: %s", path, line)
				}
			}
		}
	}
	for _, text := range odd { // no column of addresses: the page names those that may be
		if head := strings.NewReplacer(`"`, `""`, "\x00", "0").Replace(strings.ToValidUTF8(text, "?")); len(head) < 1000 {
			w.draft("none.csv", "\""+head+"\",other\nx@example.com,y\n").bearable()
		}
	}
	for _, path := range []string{"/", "/events"} {
		w.get(path).want(http.StatusOK).bearable()
	}
	s.get("/batches").want(http.StatusOK).bearable()
}

// TestPagesBeyondTheRows: a page of rows that has none leads to the nearest that
// has some.
func TestPagesBeyondTheRows(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	w.draft("hires.csv", "email\na@example.com\nb@example.com\n").want(http.StatusOK)
	for _, c := range []struct{ path, leads string }{
		{"/batches/1/rows?before=1", `href="/batches/1/rows?"`}, {"/batches/1/rows?after=2147483647", `href="/batches/1/rows?before=2147483647"`},
		{"/batches/1/rows?after=2", `href="/batches/1/rows?before=3"`}, {"/batches/1/rows?before=2&q=b", `href="/batches/1/rows?after=1&amp;q=b"`},
	} {
		w.get(c.path).want(http.StatusOK).says(c.leads)
	}
	for path, name := range map[string]string{"/batches/1/rows?": "a@example.com", "/batches/1/rows?before=3": "b@example.com", "/batches/1/rows?after=1&q=b": "b@example.com"} {
		w.get(path).want(http.StatusOK).says(name)
	}
}

// TestRiverRefuses: parameters that River's page does not expect are no fault of the
// server.
func TestRiverRefuses(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	b := setup(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	w := b.as("olga")
	for _, path := range []string{"/river/api/jobs?limit=", "/river/api/queues?limit=", "/river/api/jobs?state=running&limit="} {
		for _, limit := range []string{"0", "00", "-0", "%2B0", "-1", "1001", "x", "99999999999999999999"} {
			if a := w.get(path + limit); a.status != http.StatusBadRequest {
				t.Errorf("%s%s: %d", path, limit, a.status)
			}
		}
		w.get(path + "1000").want(http.StatusOK)
	}
	for _, path := range []string{"/river/api/jobs?priorities=9", "/river/api/jobs?state=x", "/river/api/jobs?ids=x"} {
		if a := w.get(path); a.status >= http.StatusInternalServerError {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Error(log)
	}
}

// TestNobodyWritesErrors: an ERROR calls somebody, so that no request of somebody
// who is not signed in may write one.
func TestNobodyWritesErrors(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	p := openidtest.New(t)
	b := setup(t, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(log, nil))
		c.URL = &url.URL{Scheme: "http", Host: "invite.test"}
		c.OpenID = &OpenID{Issuer: p.URL, ClientID: openidtest.ClientID, Scopes: []string{"openid"}, Operators: []string{"hr"}}
	})
	w := b.browser()
	back := begin(w, p, "/")
	p.Close()
	w.get("/login/openid/return?" + back.Encode()).want(http.StatusBadGateway)
	b.server.provider.told = nil
	w.get("/login/openid").want(http.StatusBadGateway)
	for range cap(b.server.door.turns) {
		b.server.door.turns <- struct{}{}
	}
	form := url.Values{"name": {"olga"}, "password": {password}}
	r := w.request(http.MethodPost, "/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // without it, no turn comes for five seconds
	defer cancel()
	recorded(t, b.server.Handler(), r.WithContext(soon)).want(http.StatusServiceUnavailable)
	b.pool.Close()
	for _, path := range []string{"/", apiRoot + "/batches", "/nothing", "/metrics"} {
		r := w.request(http.MethodGet, path, nil)
		r.AddCookie(&http.Cookie{Name: "bulkinvite", Value: "x"})
		w.do(r).want(http.StatusInternalServerError)
		r = w.request(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+tokenPrefix+"x")
		w.do(r).want(http.StatusInternalServerError)
	}
	if text := log.String(); strings.Contains(text, "level=ERROR") || strings.Count(text, "level=WARN") < 11 {
		t.Error(text)
	}
}
