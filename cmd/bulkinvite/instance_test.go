package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/clerk/sandbox"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
	"bulkinvite/internal/postgres/postgrestest"
)

// TestForeignInstanceAnswer points the program at servers that are not Clerk, or
// not the whole of it: each is refused before anything is written, with what
// answered and what to set.
func TestForeignInstanceAnswer(t *testing.T) {
	t.Parallel()
	stand := newStand(t, sandbox.Config{})
	b := newBench(t, keyVariable+"=sk_live_foreign")
	file := b.file("two.csv", people(2))
	const secret = "tok_secret_of_the_body"
	for name, tt := range map[string]struct {
		status      int
		contentType string
		location    string
		body        string
		url         string // empty: a server that answers as above
		says        []string
	}{
		"a proxy's page": {status: 404, contentType: "text/html; charset=utf-8", body: "<h1>" + secret + "</h1>",
			says: []string{"404", "text/html", "not_json"}},
		"Clerk's 404": {status: 404, contentType: "application/json",
			body: `{"errors":[{"code":"resource_not_found","message":"` + secret + `"}]}`,
			says: []string{"404", "application/json", "resource_not_found"}},
		"a portal's page": {status: 200, contentType: "text/html", body: secret, says: []string{"200", "text/html"}},
		"another API": {status: 200, contentType: "application/json",
			body: `{"id":"` + secret + `","environment_type":"production"}`,
			says: []string{"200", "application/json", "not_clerk"}},
		"no environment": {status: 200, contentType: "application/json", body: `{"id":"ins_1","note":"` + secret + `"}`,
			says: []string{"200", "not_clerk"}},
		"a login redirect": {status: 302, contentType: "text/html", location: "/login?t=" + secret,
			says: []string{"302", "redirect"}},
		"no content type": {status: 403, body: secret, says: []string{"403"}},
		"no /v1":          {url: strings.TrimSuffix(stand.url, "/v1"), says: []string{"404"}},
	} {
		url := tt.url
		if url == "" {
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if tt.contentType != "" {
					w.Header().Set("Content-Type", tt.contentType)
				}
				if tt.location != "" {
					w.Header().Set("Location", tt.location)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body)) // a client that hung up fails the test elsewhere
			}))
			t.Cleanup(other.Close)
			url = other.URL
		}
		o := b.run("send", "--yes", "--json", "--clerk-url", url, file)
		if o.exit != exitFailed {
			t.Errorf("%s: exit status %d, want %d: %s%s", name, o.exit, exitFailed, o.out, o.err)
			continue
		}
		e := decode[errorDocument](t, o).Error
		told := strings.Contains(e.Remedy, "CLERK_API_URL") && strings.Contains(e.Remedy, "https://api.clerk.com/v1")
		if e.Code != "not_clerk" || !told {
			t.Errorf("%s: %+v", name, e)
		}
		for _, want := range append(tt.says, url) {
			if !strings.Contains(e.Message, want) {
				t.Errorf("%s: it does not say %q: %s", name, want, e.Message)
			}
		}
		if strings.Contains(o.out+o.err, secret) || strings.Contains(o.out+o.err, "foreign") {
			t.Errorf("%s: the body or the key is told: %s%s", name, o.out, o.err)
		}
	}
	expect.Equal(t, "instances made", must.Read[int](t, open(t, b.url), `select count(*) from instances`), 0)
	stand.mailed(t, 0)
}

// TestOneIdentity puts a proxy before Clerk that answers GET /instance with a
// page of its own for a while: the same file is not accepted a second time, and
// an outage makes no second identity either.
func TestOneIdentity(t *testing.T) {
	t.Parallel()
	stand := newStand(t, sandbox.Config{})
	to, err := url.Parse(strings.TrimSuffix(stand.url, "/v1"))
	must.OK(t, err)
	var status atomic.Int64
	through := httputil.NewSingleHostReverseProxy(to)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := status.Load(); s != 0 && r.URL.Path == "/v1/instance" {
			http.Error(w, "<html>the gateway's own page</html>", int(s))
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	b := newBench(t, keyVariable+"=sk_live_one", "CLERK_API_URL="+proxy.URL+"/v1")
	file := b.file("two.csv", people(2))
	b.run("send", "--yes", file).want(t, exitOK)
	for _, s := range []int64{404, 502} {
		status.Store(s)
		b.run("send", "--yes", file).want(t, exitFailed)
		b.run("work", "--until-idle").want(t, exitFailed)
	}
	status.Store(0)
	b.run("send", "--yes", file).want(t, exitHeld)
	expect.Equal(t, "instances", must.Read[int](t, open(t, b.url), `select count(*) from instances`), 1)
	stand.mailed(t, 2)
}

// TestFingerprintInstanceAdopted starts from a database of the time when the
// key's fingerprint could stand for an instance: it becomes the instance that
// Clerk names, with its files, people and budgets.
func TestFingerprintInstanceAdopted(t *testing.T) {
	t.Parallel()
	stand := newStand(t, sandbox.Config{InstanceID: "ins_adopts"})
	const key = "sk_live_adopts"
	b := newBench(t, keyVariable+"="+key, "CLERK_API_URL="+stand.url)
	file := b.file("two.csv", people(2))
	b.run("send", "--yes", file).want(t, exitOK)
	pool := open(t, b.url)
	postgrestest.Plant(t, pool, `update instances set clerk_id = 'key:`+clerk.Fingerprint(key)+`'`)
	postgrestest.Plant(t, pool, `insert into instances (clerk_id, environment)
		values ('key:0123456789abcdef', 'production')`) // another key's
	// check and doctor only look.
	plan := decode[struct {
		Known int `json:"already_invited"`
	}](t, b.run("check", "--preflight", "--json", file).want(t, exitOK))
	expect.Equal(t, "people that check knows", plan.Known, 2)
	decode[diagnosis](t, b.run("doctor", "--json").want(t, exitOK)).has(t, "instance", verdictWarning, "fingerprint")
	if n := must.Read[int](t, open(t, b.url), `select count(*) from instances where clerk_id = 'ins_adopts'`); n != 0 {
		t.Fatal("doctor or check has renamed the instance")
	}
	held := decode[errorDocument](t, b.run("send", "--yes", "--json", file).want(t, exitHeld))
	expect.Text(t, held.Error.Message, "batch 1 already")
	if n := must.Read[int](t, open(t, b.url), `select count(*) from instances
		where clerk_id = 'ins_adopts' and id = (select instance_id from batches)`); n != 1 {
		t.Error("the batch's instance has not become Clerk's")
	}
	expect.Equal(t, "instances", must.Read[int](t, open(t, b.url), `select count(*) from instances`), 2)
	decode[document](t, b.run("send", "--yes", "--json", "--again", file).want(t, exitOK))
	stand.mailed(t, 2)
}

// TestTwoIdentities has a database in which one key made two instances. Their
// files, people and budgets are apart, so a start is refused until a person has
// decided; one that holds nothing is no obstacle.
func TestTwoIdentities(t *testing.T) {
	t.Parallel()
	stand := newStand(t, sandbox.Config{InstanceID: "ins_two"})
	const key = "sk_live_two"
	b := newBench(t, keyVariable+"="+key, "CLERK_API_URL="+stand.url)
	pool := open(t, b.url)
	b.run("send", "--yes", b.file("two.csv", people(2))).want(t, exitOK)
	postgrestest.Plant(t, pool, `insert into instances (clerk_id, environment)
		values ('key:`+clerk.Fingerprint(key)+`', 'production')`)
	b.run("work", "--until-idle").want(t, exitOK) // it holds nothing
	postgrestest.Plant(t, pool, `update batches
		set instance_id = (select id from instances where clerk_id like 'key:%')`)
	postgrestest.Plant(t, pool, `insert into batches
		(instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
		select id, 'x', '\x00', 1, 'UTF-8', ',', '{email}', 'maria', 'done' from instances where clerk_id = 'ins_two'`)
	for _, args := range [][]string{
		{"work", "--until-idle"},
		{"send", "--yes", b.file("more.csv", people(3))},
		{"serve", "--listen", "127.0.0.1:0"},
	} {
		o := b.run(append(args, "--json")...).want(t, exitHeld)
		e := decode[errorDocument](t, o).Error
		told := strings.Contains(e.Message, "ins_two") && strings.Contains(e.Remedy, "retired:")
		if e.Code != "two_instances" || !told {
			t.Errorf("%s: %+v", args[0], e)
		}
	}
	decode[diagnosis](t, b.run("doctor", "--json").want(t, exitFailed)).has(t, "instance", verdictWrong, "retired:")
	stand.mailed(t, 2)
	// As the remedy says.
	postgrestest.Plant(t, pool, `update instances set clerk_id = 'retired:' || clerk_id
		where clerk_id = 'key:`+clerk.Fingerprint(key)+`'`)
	b.run("work", "--until-idle").want(t, exitOK)
}
