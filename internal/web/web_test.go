package web

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/batch"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/ratelimit"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// users are an operator and an auditor; their hashes are cheap, so that tests
// don't wait for them.
var users = func() []User {
	var all []User
	for name, role := range map[string]Role{"olga": Operator, "alex": Auditor} {
		u, err := newUser(name, role, password, 4)
		if err != nil {
			panic(err)
		}
		all = append(all, u)
	}
	return all
}()

const password = "correct horse"

// bench is a server over a database of its own.
type bench struct {
	t      *testing.T
	pool   *pgxpool.Pool
	server *Server
	url    string
	now    time.Time
}

func setup(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, pool: postgrestest.New(t), now: time.Now()}
	instance, err := batch.EnsureInstance(t.Context(), b.pool, "ins_test", "production")
	must.OK(t, err)
	cfg := Config{
		Instance: instance, Users: users, Now: func() time.Time { return b.now },
		Limits: func(string) invitation.Limits {
			return invitation.Limits{Create: ratelimit.DefaultCreate, Bulk: ratelimit.DefaultBulk, General: ratelimit.DefaultProduction}
		},
	}
	if change != nil {
		change(&cfg)
	}
	b.server, err = New(b.pool, cfg)
	must.OK(t, err)
	b.serve(b.server)
	return b
}

// serve has a server listen until the test ends, and asks it from now on.
func (b *bench) serve(server *Server) {
	web := httptest.NewServer(server.Handler())
	b.t.Cleanup(func() {
		web.Close()
		server.end()
		server.work.Wait()
	})
	b.server, b.url = server, web.URL
}

// browser keeps cookies, and follows no redirect.
type browser struct {
	*bench
	http *http.Client
}

func (b *bench) browser() *browser {
	jar, err := cookiejar.New(nil)
	must.OK(b.t, err)
	return &browser{b, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// as is a browser that somebody has signed in with.
func (b *bench) as(name string) *browser {
	b.t.Helper()
	w := b.browser()
	w.post("/login", url.Values{"name": {name}, "password": {password}}).want(http.StatusSeeOther)
	return w
}

type answer struct {
	t        *testing.T
	what     string
	status   int
	header   http.Header
	body     string
	location string
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: %d, want %d\n%s", a.what, a.status, status, a.body)
	}
	return a
}

// says fails the test unless the body holds a text.
func (a answer) says(texts ...string) answer {
	a.t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			a.t.Errorf("%s does not say %q:\n%s", a.what, text, a.body)
		}
	}
	return a
}

func (w *browser) do(r *http.Request) answer {
	w.t.Helper()
	response, err := w.http.Do(r)
	must.OK(w.t, err)
	defer response.Body.Close() // it was only read
	body, err := io.ReadAll(response.Body)
	must.OK(w.t, err)
	return answer{w.t, r.Method + " " + r.URL.Path, response.StatusCode, response.Header, string(body), strings.TrimPrefix(response.Header.Get("Location"), w.url)}
}

func (w *browser) request(method, path string, body io.Reader) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, body)
	must.OK(w.t, err)
	r.Header.Set("Accept", "text/html,*/*;q=0.8") // as browsers do
	return r
}

func (w *browser) get(path string) answer {
	w.t.Helper()
	return w.do(w.request(http.MethodGet, path, nil))
}

func (w *browser) post(path string, form url.Values) answer {
	w.t.Helper()
	r := w.request(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.do(r)
}

// upload sends a file as the form does.
func (w *browser) upload(name, text string) answer {
	w.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", name)
	must.OK(w.t, err)
	_, _ = io.WriteString(part, text)
	must.OK(w.t, form.Close())
	r := w.request(http.MethodPost, "/uploads", &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	return w.do(r)
}

// follow goes where an answer leads until a page is there.
func (w *browser) follow(a answer) answer {
	w.t.Helper()
	for a.status == http.StatusSeeOther {
		path := a.location
		a = w.get(path)
		a.what = "GET " + path
		a.location = path + a.location
		if a.status == http.StatusSeeOther {
			a.location = strings.TrimPrefix(a.location, path)
		}
	}
	return a
}

// people is a file of so many addresses: p00@example.com, p01@example.com and so on.
func people(n int) string {
	var text strings.Builder
	text.WriteString("email\n")
	for i := range n {
		fmt.Fprintf(&text, "p%02d@example.com\n", i)
	}
	return text.String()
}

// draft uploads a file and waits until it is a draft, whose page it returns.
func (w *browser) draft(name, text string) answer {
	w.t.Helper()
	return w.checked(w.upload(name, text))
}

// again has an upload read in another way, and waits until it is.
func (w *browser) again(path string, form url.Values) answer {
	w.t.Helper()
	return w.checked(w.post(path, form))
}

// checked waits until an upload is checked, and returns the page of what came of it.
func (w *browser) checked(a answer) answer {
	w.t.Helper()
	a = w.follow(a.want(http.StatusSeeOther))
	w.until("the file is checked", func() bool {
		if !strings.Contains(a.body, `id="checking"`) {
			return true
		}
		path := a.location
		if a = w.follow(w.get(path)); a.location == "" {
			a.location = path // it is still being checked
		}
		return false
	})
	return a
}

// until waits for something, as long as a busy machine may take.
func (b *bench) until(what string, done func() bool) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("it never comes to this: %s", what)
		}
	}
}

func (b *bench) count(sql string, args ...any) int {
	b.t.Helper()
	return must.Read[int](b.t, b.pool, sql, args...)
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	postgrestest.Plant(b.t, b.pool, sql, args...)
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	if a := w.get("/batches/7?x=1").want(http.StatusSeeOther); a.location != "/login?next=%2Fbatches%2F7%3Fx%3D1" {
		t.Errorf("nobody is sent to %s", a.location)
	}
	w.post("/batches/7/start", nil).want(http.StatusUnauthorized)
	script := w.request(http.MethodGet, "/batches", nil)
	script.Header.Set("Accept", "*/*")
	w.do(script).want(http.StatusUnauthorized)
	for _, wrong := range []url.Values{{"name": {"olga"}, "password": {"wrong"}}, {"name": {"nobody"}, "password": {password}}, {}} {
		w.post("/login", wrong).want(http.StatusUnauthorized).says("do not belong together")
	}
	for next, want := range map[string]string{"/people": "/people", "//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "": "/"} {
		if a := w.post("/login", url.Values{"name": {"olga"}, "password": {password}, "next": {next}}).want(http.StatusSeeOther); a.location != want {
			t.Errorf("next=%q leads to %s, want %s", next, a.location, want)
		}
	}
	w.get("/").want(http.StatusOK).says("olga · operator", "Sign out")
	w.post("/logout", nil).want(http.StatusSeeOther)
	w.get("/").want(http.StatusSeeOther)
	if n := b.count(`select count(*) from web_sessions where user_name = 'olga'`); n != 4 {
		t.Errorf("%d sessions are left of five", n)
	}
}

// TestSessionsEnd: a session ends when it is not used, however young; when it
// is old, however used; and with its user.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for name, sql := range map[string]string{
		"idle":    `update web_sessions set used_at = clock_timestamp() - interval '8 hours 1 minute'`,
		"old":     `update web_sessions set created_at = clock_timestamp() - interval '72 hours 1 minute'`,
		"no user": `update web_sessions set user_name = 'gone'`,
	} {
		w := b.as("olga")
		b.exec(`update web_sessions set used_at = clock_timestamp() - interval '7 hours', created_at = clock_timestamp() - interval '71 hours'`)
		w.get("/").want(http.StatusOK)
		if n := b.count(`select count(*) from web_sessions where used_at < clock_timestamp() - interval '1 minute'`); n != 0 {
			t.Errorf("%s: the use was not noted", name)
		}
		b.exec(sql)
		w.get("/").want(http.StatusSeeOther)
		b.exec(`delete from web_sessions`)
	}
}

func TestLinkSignsInOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.Users = nil })
	var told []string
	b.server.Link("root", func(path string) { told = append(told, path) })
	b.browser().get("/login").want(http.StatusOK).says("a link that signs you in once")
	w := b.browser()
	// What looks at links beforehand does not use this one up.
	w.do(w.request(http.MethodHead, told[0], nil)).want(http.StatusOK)
	w.get("/").want(http.StatusSeeOther)
	w.get(told[0]).want(http.StatusSeeOther)
	w.get("/").want(http.StatusOK).says("root · operator")
	b.browser().get(told[0]).want(http.StatusForbidden)
	if len(told) != 2 {
		t.Fatalf("%d links were told, want a new one after the first", len(told))
	}
	b.browser().get(told[1]).want(http.StatusSeeOther)
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	plain := setup(t, nil).as("olga").get("/").header
	if got := plain.Get("Content-Security-Policy"); got != policy || strings.Contains(got, "unsafe") {
		t.Errorf("policy: %s", got)
	}
	if plain.Get("Strict-Transport-Security") != "" {
		t.Error("plain http speaks of TLS")
	}
	behind := setup(t, func(c *Config) { c.URL = &url.URL{Scheme: "https", Host: "invite.example.com"} })
	a := behind.browser().post("/login", url.Values{"name": {"olga"}, "password": {password}}).want(http.StatusSeeOther)
	cookie := a.header.Get("Set-Cookie")
	for _, part := range []string{"__Host-bulkinvite=", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie lacks %s: %s", part, cookie)
		}
	}
	if a.header.Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS behind TLS")
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.browser()
	w.get("/healthz").want(http.StatusOK)
	w.get("/readyz").want(http.StatusOK)
	b.server.end()
	w.get("/healthz").want(http.StatusOK)
	w.get("/readyz").want(http.StatusServiceUnavailable)
}

func TestParseUsers(t *testing.T) {
	t.Parallel()
	olga := users[0].String()
	for text, want := range map[string]string{
		"":                                       "",
		"# nobody\n\n":                           "",
		olga + "\n":                              "",
		"olga:operator":                          "line 1: a user is written",
		"\nolga:boss:$2a$04$x":                   "line 2: user olga: the role is",
		"olga:operator:secret":                   "line 1: user olga: what follows",
		"o lga:auditor:x":                        "line 1: a user is written",
		olga + " " + olga:                        "there twice",
		strings.Replace(olga, "$04$", "$20$", 1): "of a cost up to 15",
	} {
		_, err := ParseUsers(strings.NewReader(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, c := range []struct {
		name     string
		role     Role
		password string
	}{{"a b", Auditor, password}, {"a", "boss", password}, {"a", Auditor, "short"}, {"a", Auditor, strings.Repeat("x", 73)}} {
		if u, err := NewUser(c.name, c.role, c.password); err == nil {
			t.Errorf("%+v made %s", c, u)
		}
	}
}

// nasty is what somebody may put into a cell.
var nasty = []string{`"><script>alert(1)</script>`, "=cmd|' /C calc'!A0", "\u202egnp.exe", strings.Repeat("x", 10<<10)}

func TestNastyCells(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	text := "email,name\n"
	for i, cell := range nasty {
		text += fmt.Sprintf("a%d@example.com,%q\n", i, strings.ReplaceAll(cell, `"`, `""`))
	}
	text = strings.ReplaceAll(text, `\"`, `"`)
	page := w.draft(`"><script>alert(2)</script>.csv`, text).want(http.StatusOK)
	paths := []string{page.location, "/", "/events", "/people?q=a", "/people?q=%22%3E%3Cscript%3E", "/batches/1/rows?q=%3Cscript%3E"}
	for i := range nasty {
		paths = append(paths, fmt.Sprintf("/batches/1/rows/%d", i+1))
	}
	for _, path := range paths {
		a := w.get(path).want(http.StatusOK)
		if strings.Contains(a.body, "<script>") || strings.Contains(a.body, "\u202e") {
			t.Errorf("%s lets a cell's own markup through", path)
		}
	}
	w.get("/batches/1/results.csv").want(http.StatusOK).says(`'=cmd|`)
}

// TestOddAddresses asks for what is not there.
func TestOddAddresses(t *testing.T) {
	t.Parallel()
	w := setup(t, nil).as("olga")
	for path, want := range map[string]int{
		"/batches/99": 404, "/batches/0": 404, "/batches/x": 404, "/batches/99999999999999999999": 404, "/batches/99/rows": 404, "/batches/99/rows/1": 404,
		"/batches/99/results.csv": 404, "/uploads/99": 404, "/nothing": 404, "/static/nothing": 404, "/events?batch=x": 404,
		"/batches/99/problems.csv": 404, "/people?q=" + strings.Repeat("a", 400): 422,
	} {
		w.get(path).want(want)
	}
	for path, want := range map[string]int{"/batches/99/start": 404, "/batches/99/cancel": 404, "/uploads/99": 404, "/uploads": 415, "/": 405} {
		if a := w.post(path, nil); a.status != want && !(path == "/" && a.status == 404) {
			t.Errorf("POST %s: %d, want %d", path, a.status, want)
		}
	}
}

// TestNastyEvidence shows what came from Clerk, from a command line and from a
// worker's own words, each as bad as a cell.
func TestNastyEvidence(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	id := b.server.cfg.Instance.ID
	for i, text := range nasty {
		b.exec(`insert into drift (instance_id, kind, clerk_invitation_id, key, status, first_seen, last_seen) values ($1, 'unexplained', $3 || $2, $2, $2, now(), now())`, id, text[:min(len(text), 900)], fmt.Sprint(i))
		b.exec(`insert into reconciles (instance_id, worker_id, started_by, finished_at, complete, error) values ($1, 'w', $2, now(), false, $2)`, id, text)
		b.exec(`insert into schedules (instance_id, expression, tz) values ($1, $2, '')`, id, fmt.Sprintf("%d 2 * * *", i))
		b.exec(`insert into sweeps (instance_id, kind, started_by, apply, held, threshold, allowed_by, skipped) values ($1, 'sweep', $2, true, true, 1, $2, jsonb_build_object($2::text, 1))`, id, text)
		b.exec(`insert into revocations (sweep_id, clerk_invitation_id, instance_id, key, outcome, reason, decided_at) values ($1, $3, $4, $3, 'failed', $2, now())`, i+1, text, text[:min(len(text), 900)], id)
		b.exec(`update buckets set frozen_until = now() + interval '1 hour', frozen_reason = $1, frozen_at = now()`, text)
		b.post(w, "/login", url.Values{"name": {text[:min(len(text), 5000)]}, "password": {"x"}, "next": {text[:min(len(text), 1000)]}})
		for _, path := range []string{"/sweeps", fmt.Sprintf("/sweeps/%d", i+1), "/drift", "/budget", "/events", "/people?email=" + url.QueryEscape(text[:min(len(text), 300)])} {
			a := w.get(path).want(http.StatusOK)
			if strings.Contains(a.body, "<script>") || strings.Contains(a.body, "\u202e") {
				t.Errorf("%s lets markup through", path)
			}
		}
	}
	w.post("/login", url.Values{"name": {strings.Repeat("x", 10<<10)}}).want(http.StatusRequestEntityTooLarge)
}

// post signs in with something nasty, and looks at what the page says of it.
func (b *bench) post(w *browser, path string, form url.Values) {
	b.t.Helper()
	if a := w.post(path, form).want(http.StatusUnauthorized); strings.Contains(a.body, "<script>") {
		b.t.Error("the page for signing in lets markup through")
	}
}

// TestFirstPaint adds up what the home page and all that it names take on the way.
func TestFirstPaint(t *testing.T) {
	t.Parallel()
	w := setup(t, nil).as("olga")
	fetch := func(path string) answer {
		t.Helper()
		r := w.request(http.MethodGet, path, nil)
		r.Header.Set("Accept-Encoding", "gzip") // asked for by hand, it is not unpacked
		a := w.do(r).want(http.StatusOK)
		if a.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s is not compressed", path)
		}
		return a
	}
	page := fetch("/")
	sum := len(page.body)
	links := regexp.MustCompile(`(?:href|src)="(/static/[^"]+)"`).FindAllStringSubmatch(w.get("/").body, -1)
	for _, link := range links {
		a := fetch(link[1])
		sum += len(a.body)
		if got := a.header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: Cache-Control: %s", link[1], got)
		}
	}
	t.Logf("%d bytes in %d answers", sum, 1+len(links))
	if len(links) < 4 || sum > 50<<10 {
		t.Errorf("the first page takes %d bytes in %d answers, want 50 KB at most", sum, 1+len(links))
	}
}

// TestAnotherInstance: what belongs to another instance of Clerk is there to be
// read, but a rehearsal can't start what goes to people.
func TestAnotherInstance(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	w := b.as("olga")
	page := w.draft("hires.csv", "email\na@example.com\n").want(http.StatusOK).says("/start")
	sw := b.sweep(60)
	rehearsal, err := batch.EnsureInstance(t.Context(), b.pool, "sandbox", "sandbox")
	must.OK(t, err)
	b.server.cfg.Instance = rehearsal
	if a := w.get(page.location).want(http.StatusOK).says("a@example.com", "another instance"); strings.Contains(a.body, "/start\"") {
		t.Error("the page offers to start it")
	}
	w.post("/batches/1/start", url.Values{"people": {"1"}}).want(http.StatusConflict).says("another instance of Clerk")
	w.post(fmt.Sprintf("/sweeps/%d/allow", sw.ID), nil).want(http.StatusConflict).says("another instance of Clerk")
	w.post("/batches/1/undo", url.Values{"invitations": {"0"}}).want(http.StatusConflict).says("another instance of Clerk")
	if n := b.count(`select count(*) from river_job where kind <> 'notice'`); n != 0 {
		t.Errorf("%d jobs were made", n)
	}
}

// TestPeopleAreFoundByPost: no page leads to an address that has a person's in it,
// which proxies would log.
func TestPeopleAreFoundByPost(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.as("olga").draft("hires.csv", people(pageRows+1)).want(http.StatusOK)
	b.exec(`insert into drift (instance_id, kind, clerk_invitation_id, key, status, first_seen, last_seen)
		values ($1, 'unexplained', 'inv_1', 'drift@example.com', 'pending', now(), now())`, b.server.cfg.Instance.ID)
	w := b.as("alex")
	w.get("/people").want(http.StatusOK).says(`method="post" action="/people"`)
	pages := []answer{
		w.post("/people", url.Values{"q": {"p"}}).want(http.StatusOK).says(`name="email" value="p00@example.com"`, `name="after" value="p49@example.com"`),
		w.post("/people", url.Values{"q": {"p"}, "after": {"p49@example.com"}}).want(http.StatusOK).says("p50@example.com"),
		w.post("/people", url.Values{"email": {"p07@example.com"}}).want(http.StatusOK).says("<h2><bdi>p07@example.com"),
		w.get("/drift").want(http.StatusOK).says(`name="email" value="drift@example.com"`),
	}
	for _, page := range pages {
		if at := regexp.MustCompile(`(href|action|hx-get)="[^"]*(@|%40)[^"]*"`).FindString(page.body); at != "" {
			t.Errorf("%s leads to %s", page.what, at)
		}
	}
}
