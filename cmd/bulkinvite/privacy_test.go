package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// The marks of what must stay private: parts of addresses, of names, of the key.
const (
	markAddress = "zqmark"
	markName    = "zqname"
	markKey     = "zqkeyzq"
	markTicket  = "accept?ticket=" // of the URL of each invitation
)

// marked is a file of people whose every cell is marked.
func marked(from, to int) string {
	var b strings.Builder
	b.WriteString("email,Name\n")
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%s%d@%s.example,%s %d\n", markAddress, i, markAddress, markName, i)
	}
	return b.String()
}

func markedPerson(i int) string { return fmt.Sprintf("%s%d@%s.example", markAddress, i, markAddress) }

// private are the commands and what they print on standard error, at debug level.
type private struct {
	*bench
	ran map[string]bool
}

// run runs a command and looks through its standard error. What standard output
// says is for the person who asked.
func (p *private) run(args ...string) outcome {
	p.t.Helper()
	return p.runWith("", args...)
}

func (p *private) runWith(stdin string, args ...string) outcome {
	p.t.Helper()
	p.ran[args[0]] = true
	if len(args) > 1 {
		p.ran[args[0]+" "+args[1]] = true // where commands have commands
	}
	o := p.bench.runWith(stdin, args...)
	if ill := args[0] == "doctor" && o.exit == exitFailed; !ill && !slices.Contains([]int{exitOK, exitRows, exitHeld}, o.exit) {
		p.t.Errorf("%v: exit status %d\n%s%s", args[:1], o.exit, o.out, o.err)
	}
	p.log(args[0], o.err)
	return o
}

// log looks through a log, whose lines say nothing but what is on the list.
func (p *private) log(of, text string) {
	p.t.Helper()
	p.clean("the log of "+of, text)
	knownKeys(p.t, readLog(p.t, text))
}

// clean fails the test where a text says what must stay private.
func (p *private) clean(what, text string) {
	p.t.Helper()
	p.lacks(what, text, markAddress, markName, markKey, markTicket)
}

func (p *private) lacks(what, text string, marks ...string) {
	p.t.Helper()
	for _, mark := range marks {
		if at := strings.Index(strings.ToLower(text), mark); at >= 0 {
			p.t.Errorf("%s says %s: …%s…", what, mark, text[max(0, at-150):min(len(text), at+80)])
		}
	}
}

// TestNobodyIsNamed runs every command, and asks every page, over files of marked
// people while Clerk's answers are lost and garbled, and finds no mark in logs,
// metrics, traces, jobs, events and error texts.
func TestNobodyIsNamed(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Config{})
	c := newCollector(t)
	b := newBench(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "CLERK_API_URL="+s.url, "CLERK_SECRET_KEY=sk_live_"+markKey, "BULKINVITE_SETTLE=1ms", "BULKINVITE_LOG_LEVEL=debug", "BULKINVITE_LOG_FORMAT=json")
	p := &private{b, map[string]bool{}}
	s.Tell("users", `["`+markedPerson(3)+`"]`)
	s.Tell("invitations", `["`+markedPerson(4)+`","`+markedPerson(90)+`"]`)
	s.Tell("faults", `[{"kind":"cut_after","call":"bulk","first":1},{"kind":"status","status":502,"html":true,"call":"create","first":1},
		{"kind":"status","status":422,"call":"bulk","address":"`+markedPerson(5)+`"},{"kind":"status","status":422,"call":"create","address":"`+markedPerson(5)+`"}]`)
	all := b.file("all.csv", marked(0, 30)+markAddress+" no address,"+markName+"\n"+
		markAddress+"@"+markAddress+"–x.example,"+markName+"\n"+markAddress+"@x.local\n"+markedPerson(1)+","+markName+"\n")

	p.run("check", all)
	p.run("check", "--preflight", "--json", all)
	p.run("send", "--yes", all)
	p.run("import", "--yes", "--draft", b.file("draft.csv", marked(20, 40)))
	p.run("start", "2")
	p.run("pause", "2")
	p.run("resume", "2")
	p.run("work", "--until-idle")
	p.run("retry", "2")
	p.run("import", "--yes", "--draft", b.file("given-up.csv", marked(40, 50)))
	p.run("cancel", "--yes", "3")
	p.run("reconcile")
	for _, args := range [][]string{{"drift"}, {"batches"}, {"status", "1"}, {"results", "1"}, {"results", "1", "--format", "csv"}, {"audit", "--email", markedPerson(2)}, {"why", markedPerson(2)},
		{"verify", "1"}, {"sweep", "--older-than", "1ms"}, {"sweep", "--list"}, {"rescind", "--email", markedPerson(6), "--apply"}, {"correct", "1", "8", "--email", markedPerson(80), "--yes"},
		{"resend", "1", "--pending-for", "1ms", "--yes"}, {"migrate"}, {"config"}, {"version"}, {"completion", "bash"}, {"token", "create", "marked"}, {"token", "list"}, {"token", "revoke", "1"}, {"sessions", "list"}, {"sessions", "end", "--all"},
		{"limits"}, {"limits", "show"}, {"limits", "thaw"}, {"doctor"}, {"doctor", "--after-restore"}} {
		p.run(args...)
	}
	dump := filepath.Join(t.TempDir(), "all.bulkinvite")
	p.run("dump", dump)
	p.run("load", dump) // refused: the database has rows
	p.runWith("the password is "+markKey+"\n", "user", "maria")
	p.sandbox()
	p.serve()
	p.run("work", "--until-idle")
	p.run("undo", "2", "--yes")
	p.run("erase", markedPerson(1), "--revoke", "--yes")
	p.database(t, []string{"attempt_people", "drift", "results", "revocations", "sightings"})
	p.run("purge", "--older-than", "1ms", "--yes")

	c.mu.Lock()
	defer c.mu.Unlock()
	p.clean("the traces", string(c.raw))
	c.known(t)
	for _, name := range []string{"import", "lookup", "preflight", "invite", "settle", "revoke", "sweep", "reconcile"} {
		if len(c.named(name)) == 0 {
			t.Errorf("the traces have no span of %s", name)
		}
	}
	var whole cli
	parser, err := newParser(&whole, io.Discard)
	must.OK(t, err)
	for _, command := range parser.Model.Leaves(false) {
		if name := strings.TrimPrefix(command.Path(), "bulkinvite "); !p.ran[name] {
			t.Errorf("%s is not tried", name)
		}
	}
}

// sandbox has the stand-in be a server, for marked people and with a marked key,
// and looks through its log.
func (p *private) sandbox() {
	p.t.Helper()
	p.ran["sandbox"] = true
	state := filepath.Join(p.t.TempDir(), "state.jsonl")
	c := p.command("sandbox", "--listen", "127.0.0.1:0", "--json", "--state", state, "--user", markedPerson(1), "--pending", markedPerson(2))
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.StdoutPipe()
	must.OK(p.t, err)
	must.OK(p.t, c.Start())
	var said struct{ URL string }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		p.t.Fatalf("%v: %s", err, &log)
	}
	there := *p.bench
	there.env = append(there.env[:len(there.env):len(there.env)], "CLERK_API_URL="+said.URL, "DATABASE_URL="+postgrestest.URL(p.t))
	(&private{&there, p.ran}).run("send", "--yes", p.file("rehearsed.csv", marked(0, 5)))
	must.OK(p.t, c.Process.Signal(syscall.SIGTERM))
	if err := c.Wait(); err != nil {
		p.t.Errorf("the sandbox after SIGTERM: %v", err)
	}
	p.log("the sandbox", log.String())
}

// visit is a request to the server. Where it is refused for want of the number of
// people, the answer names that, and it is sent again with it.
type visit struct{ method, path, kind, body string }

// visits are all that there is to ask of the server, in an order in which each
// can be done. $A is a draft of the API, $P one of the page, $D and $E drafts
// that nobody wants, $S a sweep that is held.
func visits() []visit {
	const form, asJSON, api = "application/x-www-form-urlencoded", "application/json", "/api/v1"
	get := func(paths ...string) (list []visit) {
		for _, path := range paths {
			list = append(list, visit{http.MethodGet, path, "", ""})
		}
		return list
	}
	post := func(kind, body string, paths ...string) (list []visit) {
		for _, path := range paths {
			list = append(list, visit{http.MethodPost, path, kind, body})
		}
		return list
	}
	return slices.Concat(
		get("/healthz", "/readyz", "/metrics", "/static/page.js", "/login", "/", "/batches/1", "/batches/1/rows", "/batches/1/rows?q="+markAddress, "/batches/1/rows/2", "/batches/1/course", "/batches/1/results.csv",
			"/people?q="+markedPerson(2), "/people?q="+markAddress, "/sweeps", "/sweeps/1", "/drift", "/budget", "/events", "/river/", "/river/api/jobs?limit=100", "/"+markedPerson(2)),
		post(form, "q="+markedPerson(2), "/people"), post(form, "q="+markAddress, "/people"),
		post(form, "name="+markedPerson(1)+"&password="+markKey, "/login"), post(form, "", "/logout"),
		post("", "", "/sweeps/$S/allow", "/sweeps/$S/stop", api+"/sweeps/$S/allow", api+"/sweeps/$S/stop"),

		get("/uploads/2", "/batches/$P", "/batches/$P/plan", "/batches/$P/problems", "/batches/$P/problems.csv"),
		post(form, "email=Name", "/uploads/2"), post(form, "email=email", "/uploads/2"), post(form, "expires_in_days=14", "/batches/$P/options"), post(form, "redirect_url="+markedPerson(1), "/batches/$P/options"),
		post(form, "people=N", "/batches/$P/start"), post("", "", "/batches/$P/pause", "/batches/$P/resume", "/batches/$P/retry", "/batches/$P/cancel"), get("/batches/$P/live"), post(form, "invitations=N", "/batches/2/undo"),

		get(api+"/docs", api+"/openapi.json", api+"/openapi.yaml", api+"/batches", api+"/uploads/1", api+"/batches/$A", api+"/batches/$A/draft", api+"/batches/$A/options", api+"/batches/$A/problems", api+"/batches/$A/problems/kinds", api+"/batches/$A/problems.csv"),
		[]visit{{http.MethodPut, api + "/batches/$A/columns", asJSON, `{"map":{"email":"` + markName + `"}}`}, {http.MethodPut, api + "/batches/$A/columns", asJSON, `{"map":{"email":"email"}}`},
			{http.MethodPatch, api + "/batches/$A/options", asJSON, `{"redirect_url":"` + markedPerson(1) + `"}`}, {http.MethodPatch, api + "/batches/$A/options", asJSON, `{"expires_in_days":14}`}},
		post(asJSON, `{"people":N}`, api+"/batches/$A/start"), post("", "", api+"/batches/$A/pause", api+"/batches/$A/resume", api+"/batches/$A/retry", api+"/batches/$A/cancel"),
		get(api+"/batches/$A/live", api+"/batches/1/rows", api+"/batches/1/rows/2", api+"/batches/1/rows/2/story", api+"/batches/1/results", api+"/batches/1/results.csv", api+"/people?q="+markAddress,
			api+"/people/"+markedPerson(2), api+"/people/"+markAddress, api+"/drift", api+"/budget", api+"/events", api+"/sweeps", api+"/sweeps/1", api+"/sweeps/1/revocations", api+"/reconcile", api+"/schedules", api+"/batches/1/course", api+"/batches/1/undo"),
		post(asJSON, `{"invitations":N}`, api+"/batches/1/undo"),
		post("", "", "/batches/$D/discard", api+"/batches/$E/discard"),
	)
}

// refusing are the routes that refuse whatever is asked of them here: nobody is
// there, and nothing has failed.
var refusing = []string{"/", "POST /login", "POST /batches/{id}/retry", "POST /api/v1/batches/{batch}/retry"}

// serve asks everything that there is to ask of the server, and looks through
// its log, its metrics and its events. Pages may name people to who is signed in;
// the key and the URLs of invitations they may not.
func (p *private) serve() {
	p.t.Helper()
	p.ran["serve"] = true
	s := p.bench.serve()
	file := func(from int) string {
		return marked(from, from+10) + markAddress + " no address," + markName + "\n"
	}
	asked := map[string]bool{} // method and path of what was done
	ask := func(v visit) (status int, text string) {
		p.t.Helper()
		status, text = s.ask(v.method, v.path, v.kind, v.body)
		if status >= http.StatusInternalServerError {
			p.t.Errorf("%s %s: %d %s", v.method, v.path, status, text)
		}
		path, _, _ := strings.Cut(v.path, "?")
		asked[v.method+" "+path] = asked[v.method+" "+path] || status < http.StatusBadRequest
		p.lacks(v.method+" "+path, text, markKey, markTicket)
		return status, text
	}
	pool := open(p.t, p.url)
	newest := func(sql string) string {
		id := must.Read[int64](p.t, pool, sql)
		return strconv.FormatInt(id, 10)
	}
	ask(visit{http.MethodPost, "/api/v1/batches?file_name=by-the-api.csv", "text/csv", file(60)})
	api := newest(`select max(id) from batches`)
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("file", "by-the-page.csv")
	if err == nil {
		_, err = io.WriteString(part, file(70))
	}
	must.OK(p.t, errors.Join(err, parts.Close()))
	ask(visit{http.MethodPost, "/uploads", parts.FormDataContentType(), form.String()})
	var drafts []string // to be discarded
	for _, from := range []int{80, 90} {
		ask(visit{http.MethodPost, "/api/v1/batches?file_name=unwanted.csv", "text/csv", file(from)})
		drafts = append(drafts, newest(`select max(id) from batches`))
	}
	for _, v := range visits() {
		if strings.HasSuffix(v.path, "/allow") {
			p.run("sweep", "--older-than", "1ms", "--apply", "--yes")
		}
		v.path = strings.NewReplacer("$A", api, "$D", drafts[0], "$E", drafts[1], "$P", newest(`select batch_id from uploads where id = 2`), "$S", newest(`select max(id) from sweeps where kind = 'sweep'`)).Replace(v.path)
		if at := strings.Index(v.body, "N}"); at >= 0 || strings.HasSuffix(v.body, "=N") {
			_, text := s.ask(v.method, v.path, v.kind, strings.Replace(v.body, "N", "9999", 1))
			number := regexp.MustCompile(`Type (\d+)|number of [a-z ]+: (\d+)`).FindStringSubmatch(text)
			if number == nil {
				p.t.Fatalf("%s %s names no number: %s", v.method, v.path, text)
			}
			v.body = strings.Replace(v.body, "N", number[1]+number[2], 1)
		}
		_, text := ask(v)
		if v.path == "/events" || v.path == "/metrics" || strings.HasPrefix(v.path, "/river/") {
			p.clean(v.path, text)
		}
	}
	_, spec := s.ask(http.MethodGet, "/api/v1/openapi.json", "", "")
	for _, route := range routes(p.t, spec) {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(asked)), func(what string) bool {
			return isRoute(route, what) && (asked[what] || slices.Contains(refusing, route))
		}) {
			p.t.Errorf("%s is not tried, or was refused", route)
		}
	}
	p.log("serve", s.stop())
}

// routes are the patterns of what the server answers: of the pages as they stand
// in its source, of the API as it describes itself.
func routes(t *testing.T, spec string) []string {
	t.Helper()
	var list []string
	for _, m := range regexp.MustCompile(`"((?:(?:GET|POST) )?/[^"]*)"(?::|, s\.|, assets|, func)`).FindAllStringSubmatch(readFile(t, "../../internal/web/web.go"), -1) {
		list = append(list, m[1])
	}
	var described struct {
		Paths map[string]map[string]any
	}
	must.OK(t, json.Unmarshal([]byte(spec), &described))
	for path, methods := range described.Paths {
		for method := range methods {
			list = append(list, strings.ToUpper(method)+" "+path)
		}
	}
	if len(list) < 60 {
		t.Fatalf("only %d routes were found: %v", len(list), list)
	}
	return list
}

// isRoute tells whether a request is one of a route's.
func isRoute(route, request string) bool {
	if !strings.Contains(route, " ") {
		route = "GET " + route + markedPerson(2) // whatever is nowhere else
	}
	pattern := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(strings.TrimSuffix(route, "{$}")), "[^/]+")
	return regexp.MustCompile("^" + pattern + "$").MatchString(request)
}

// database looks through every table, River's too. Addresses may be in those that
// docs/tables.md names, and nowhere else; key and urls are nowhere.
func (p *private) database(t *testing.T, mayName []string) {
	t.Helper()
	pool := open(t, p.url)
	rows, _ := pool.Query(t.Context(), `select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE' order by 1`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must.OK(t, err)
	for _, table := range tables {
		for _, mark := range []string{markAddress, markName, markKey, markTicket, markedPerson(1)} {
			n := must.Read[int](t, pool,
				`select count(*) from `+pgx.Identifier{table}.Sanitize()+` t where position($1 in lower(t::text)) > 0`, mark)
			if known := slices.Contains(mayName, table) && (mark == markAddress || mark == markName); n > 0 && !known {
				t.Errorf("%s says %s in %d rows", table, mark, n)
			}
		}
	}
}
