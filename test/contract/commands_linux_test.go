package contract_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

var _ = promised("help: says the same", []string{
	"Other programs are written against this page: add to it rather than change it. `--help` says the same.",
	"| `help COMMAND` | as `COMMAND --help` |",
}, func(c *check) {
	text, err := readContract()
	if err != nil {
		c.Fatal(err)
	}
	b := c.bare()
	c.saw("--help", "COMMAND --help", "help COMMAND")
	squeezed := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	flag := regexp.MustCompile("`(--[a-z-]+)")
	variable := regexp.MustCompile("`(--[a-z-]+)[^`]*`,? \\(?(?:`[^`]+`, )?`(BULKINVITE_[A-Z_]+)`")
	byDefault := regexp.MustCompile("`(--[a-z-]+)[^`]*`,? \\(`([0-9][^`]*)`")
	settings := map[string]setting{}
	for _, s := range settingsOf(c) {
		settings[s.flag] = s
	}
	rows := tableRows(text, "command")
	if len(rows) < 30 {
		c.Fatalf("the table of commands has %d rows", len(rows))
	}
	for _, cells := range rows {
		for _, m := range backticks.FindAllStringSubmatch(cells[0], -1) {
			var command []string
			for _, w := range strings.Fields(m[1]) {
				if w == strings.ToLower(w) && !strings.ContainsAny(w, "[-") {
					command = append(command, w)
				}
			}
			if len(command) == 0 || command[0] == "help" { // --version has no help
				continue
			}
			help := squeezed(b.run(append(command, "--help")...).want(exitOK).out)
			if other := squeezed(b.run(append([]string{"help"}, command...)...).want(exitOK).out); other != help {
				c.Errorf("help %v differs from %v --help", command, command)
			}
			if !strings.HasPrefix(help, "Usage: bulkinvite "+strings.Join(command, " ")) {
				c.Errorf("%v --help: %s", command, help)
			}
		}
		// If a row has several commands, one of them must have the flag.
		var help string
		for _, m := range backticks.FindAllStringSubmatch(cells[0], -1) {
			command, _, _ := strings.Cut(m[1], " -")
			var words []string
			for _, w := range strings.Fields(command) {
				if w == strings.ToLower(w) && !strings.ContainsAny(w, "[-") {
					words = append(words, w)
				}
			}
			if len(words) > 0 && words[0] != "help" {
				_, flags, _ := strings.Cut(squeezed(b.run(append(words, "--help")...).want(exitOK).out), "Flags: ")
				help += " " + flags
			}
		}
		own := strings.Split(cells[0]+cells[1], "`work --purge-older-than")[0]
		for _, m := range flag.FindAllStringSubmatch(own, -1) {
			if cells[0] == "`serve`" && m[1] == "--openid-issuer" ||
				m[1] == "--on-duplicate" && !strings.Contains(cells[0], "send") ||
				m[1] == "--draft" && strings.Contains(cells[0], "start") ||
				m[1] == "--version" ||
				settings[strings.TrimPrefix(m[1], "--")].flag != "" {
				continue // a setting, or a flag of another command that the row mentions
			}
			if !strings.Contains(help, m[1]+" ") &&
				!strings.Contains(help, "--[no-]"+strings.TrimPrefix(m[1], "--")) {
				c.Errorf("the help of %s lacks %s", cells[0], m[1])
			}
		}
		for _, m := range variable.FindAllStringSubmatch(own, -1) {
			if !strings.Contains(help, "($"+m[2]+")") {
				c.Errorf("the help of %s lacks %s's variable %s", cells[0], m[1], m[2])
			}
		}
		for _, m := range byDefault.FindAllStringSubmatch(own, -1) {
			at := strings.Index(help, m[1]+" ")
			if at < 0 || !strings.Contains(strings.SplitN(help[at:], " --", 2)[0], "Default: "+m[2]+".") {
				c.Errorf("the help of %s says of %s another default than %s", cells[0], m[1], m[2])
			}
		}
	}
	help := squeezed(b.run("--help").want(exitOK).out) + squeezed(b.run("batches", "--help").want(exitOK).out)
	for name, s := range settings {
		if !strings.Contains(help, "--"+name+" ") && !strings.Contains(help, "--"+name+"=") {
			c.Errorf("help lacks the setting --%s", name)
		}
		if s.variable != "" && name != "clerk-key-file" && !strings.Contains(help, "$"+s.variable) {
			c.Errorf("help lacks the variable %s", s.variable)
		}
	}
})

var _ = promised("send: until every row is decided, and on after a crash or Ctrl-C", []string{
	"| `send FILE` | check, plan, confirm, import, work until every row is decided, report. `-` reads standard input. Given again with the same file after a crash or Ctrl-C, it goes on with that batch |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	o := b.runWith("email\nin@example.com\nnot an address\n", "send", "-", "--yes", "--json").want(exitRows).object()
	if o.int(c, "rows") != 2 || o.int(c, "undecided") != 0 || o["state"] != "done" ||
		k.mails()["in@example.com"] != 1 {
		c.Errorf("standard input: %v", o)
	}
	c.saw("-")
	o2 := b.sit(answers("Type the number of people to invite them: ", "2"), "send", b.people("x@example.com", "y@example.com")).
		want(exitOK)
	if plan, report := strings.Index(o2.out, "2  to invite"), strings.Index(o2.out, "is done"); plan < 0 ||
		report < plan {
		c.Errorf("no plan, or no report: %s", o2.out)
	}
	// One request leaves. The other people wait for the limit.
	file := b.people(some("p", 4)...)
	slow := []string{
		"send",
		"--yes",
		"--json",
		"--limit-create",
		"1/1h",
		"--limit-bulk",
		"off",
		"--recover-after",
		"1s",
		file,
	}
	b.exec(`delete from attempt_people`) // requests that count against the limit
	b.exec(`update results set attempt_id = null`)
	b.exec(`delete from attempts`)
	p := b.start(slow...)
	for len(k.mails()) < 4 {
		time.Sleep(10 * time.Millisecond)
	}
	if err := p.Process.Kill(); err != nil {
		c.Fatal(err)
	}
	p.wait()
	p = b.start(slow...)
	b.awaits(1, fmt.Sprintf(`select count(*) from workers where pid = %d`, p.Process.Pid))
	p.end(syscall.SIGINT).want(exitInterrupted)
	o = b.run("send", "--yes", "--json", file).want(exitOK).object()
	if o.int(c, "batch") != 3 || o.object(c, "outcomes").int(c, "invited") != 4 {
		c.Errorf("%v", o)
	}
	for address, n := range k.mails() {
		if n != 1 {
			c.Errorf("%s got %d mails", address, n)
		}
	}
})

var _ = promised("check: the plan alone", []string{
	"| `check FILE` | the plan alone: writes nothing, sends nothing, needs no key, starts no database (asks one that is named or runs already whom it knows); `--preflight` reads at Clerk, with the key, who is a user or invited already and would be skipped; `--problems OUT` writes the bad rows alone, in the file's own shape, to be mended and sent, to a file that does not exist yet ([files.md](files.md)) |",
}, func(c *check) {
	k, b := c.stage("sk_live_x", "--user", "user@example.com", "--pending", "pending@example.com")
	b.run("send", "--yes", b.people("known@example.com")).want(exitOK)
	mails := len(k.mails())
	file := b.file(
		"all.csv",
		"note,email\na,user@example.com\nb,pending@example.com\nc,known@example.com\nd,no address\ne,new@example.com\n",
	)
	state := `select hashtext(string_agg(query_to_xml(
			format('select md5(string_agg(t::text, E''\n'' order by t::text)) from %I t', relname), true, true, '')::text, '' order by relname))
		from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`
	before := b.count(state)
	alone := b.with("DATABASE_URL", "CLERK_SECRET_KEY", "CLERK_API_URL")
	o := alone.run("check", "--json", file).want(exitRows).object()
	if o.int(c, "rows") != 5 || o.int(c, "invalid") != 1 || o.object(c, "plan").int(c, "to_send") != 4 {
		c.Errorf("%v", o)
	}
	if left, err := os.ReadDir(b.dir); err != nil || len(left) != 0 {
		c.Errorf("in the data directory: %v, %v", left, err)
	}
	alone.run("check", "--json", "--preflight", file).refused(exitFailed, "clerk_key")
	o = b.run("check", "--json", file).want(exitRows).object()
	if o.int(c, "already_invited") != 1 || o.object(c, "plan").int(c, "to_send") != 3 {
		c.Errorf("with a database that is named: %v", o)
	}
	o = b.run("check", "--json", "--preflight", file).want(exitRows).object()
	if o.int(c, "already_invited") != 2 || o.int(c, "already_registered") != 1 ||
		o.object(c, "plan").int(c, "to_send") != 1 {
		c.Errorf("--preflight: %v", o)
	}
	out := filepath.Join(c.TempDir(), "bad.csv")
	alone.run("check", "--json", "--problems", out, file).want(exitRows)
	text, err := os.ReadFile(out)
	if err != nil {
		c.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff"))).ReadAll()
	if err != nil || len(rows) != 2 || strings.Join(rows[0][len(rows[0])-2:], " ") != "note email" ||
		strings.Join(rows[1][len(rows[1])-2:], " ") != "d no address" {
		c.Errorf("--problems: %v, %v", rows, err)
	}
	if o := alone.run("check", "--json", "--problems", out, file); o.exit != exitUsage {
		c.Errorf("--problems to a file that is there: exit status %d", o.exit)
	}
	if after := b.count(state); after != before {
		c.Error("a table has changed")
	}
	if n := len(k.mails()); n != mails {
		c.Errorf("%d mails", n)
	}
	mended := b.file("mended.csv", strings.Replace(string(text), "no address", "mended@example.com", 1))
	b.run("send", "--yes", "--json", mended).want(exitOK)
	if k.mails()["mended@example.com"] != 1 {
		c.Error("the mended file was not sent")
	}
})

var _ = promised("import: leaves the work to workers", []string{
	"| `import FILE` | check, plan, confirm, and leave the work to workers elsewhere; `--draft` leaves it unstarted |",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	file := b.people("a@example.com")
	b.run("import", "--json", file).refused(exitHeld, "not_confirmed")
	if o := b.run("import", "--yes", "--json", file).want(exitOK).
		object(); o["state"] != "running" || o.int(c, "undecided") != 1 {
		c.Errorf("%v", o)
	}
	draft := b.people("b@example.com")
	o := b.sit(answers("Type the number of people", "1"), "import", "--draft", draft).want(exitOK)
	o.says("1  to invite")
	if d := b.run("status", "2", "--json").want(exitOK).object(); d["state"] != "draft" {
		c.Errorf("--draft: %v", d)
	}
	b.run("work", "--until-idle").want(exitOK)
	k.pending("a@example.com")
})

var _ = promised("work: any number of workers, that sweep, reconcile and tell", []string{
	"| `work` | a worker, any number of them; `--until-idle` ends when nothing is left; `--sweep-at \"0 2 * * *\"`, `--tz ZONE`, `--sweep-older-than AGE` (`14d`), `--sweep-scope ours\\|all`; `--reconcile-every TIME` (`15m`, `BULKINVITE_RECONCILE_EVERY`; 0: never); `--metrics-listen ADDRESS` (`BULKINVITE_METRICS_LISTEN`; none) serves `/metrics` and `/healthz` to whoever asks; `--webhook-url URL` (`BULKINVITE_WEBHOOK_URL`; none), signed with `BULKINVITE_WEBHOOK_SECRET` |",
}, func(c *check) {
	told := make(chan http.Header, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { told <- r.Header }))
	c.Cleanup(hook.Close)
	k, b := c.stage("sk_live_x")
	b.run("import", "--yes", b.people(some("a", 30)...)).want(exitOK)
	// Run two workers at the same time. Each must end when nothing is left.
	first, second := b.start("work", "--until-idle"), b.start("work", "--until-idle")
	first.wait().want(exitOK)
	second.wait().want(exitOK)
	for address, n := range k.mails() {
		if n != 1 {
			c.Errorf("%s got %d mails", address, n)
		}
	}
	if n := len(k.mails()); n != 30 {
		c.Errorf("%d of 30 were mailed", n)
	}
	k.ask(http.MethodPost, "/sandbox/invitations", `["else@example.com"]`)
	b.run("work", "--json", "--sweep-at", "nightly").refused(exitUsage, "usage")
	b.run("work", "--json", "--sweep-at", "0 2 * * *", "--tz", "Nowhere/Else").refused(exitUsage, "usage")
	b.run("work", "--json", "--sweep-scope", "theirs").refused(exitUsage, "usage")
	b.run("work", "--json", "--reconcile-every", "-1s").refused(exitUsage, "usage")
	b.run("work", "--until-idle", "--sweep-at", "0 2 * * *", "--tz", "Europe/Berlin").want(exitOK)

	// A sweep runs at its time, by default of our invitations that are 14 days old. The default
	// interval of reconcile is 15 minutes.
	minute := "@every 1s" // robfig/cron's form of an interval
	b.exec(`insert into reconciles (instance_id, worker_id, started_by, started_at, finished_at, complete)
		select id, 'w', 'maria', clock_timestamp() - interval '14 minutes', clock_timestamp() - interval '14 minutes', true from instances`)
	w := b.with("BULKINVITE_METRICS_LISTEN=127.0.0.1:0").start("work", "--sweep-at", minute)
	b.awaits(
		1,
		`select least(1, count(*))::int from sweeps where finished_at is not null and older_than = interval '14 days' and scope = 'ours' and apply`,
	)
	w.await(`"serving metrics"`)
	_, log := w.wrote()
	address := regexp.MustCompile(`"serving metrics","address":"([^"]+)"`).FindStringSubmatch(log)[1]
	for _, path := range []string{"/metrics", "/healthz"} {
		if status, text := request(c, http.MethodGet, "http://"+address+path, nil, ""); status != http.StatusOK {
			c.Errorf("%s: %d %s", path, status, text)
		}
	}
	w.end(syscall.SIGTERM).want(exitOK)
	if n := b.count(`select count(*) from reconciles`); n != 1 {
		c.Errorf("%d reconciles, 14 minutes after the last", n)
	}
	b.exec(`update reconciles set started_at = started_at - interval '2 minutes'`)
	w = b.with("BULKINVITE_RECONCILE_EVERY=0").start("work")
	w.await(`"working"`)
	w.end(syscall.SIGTERM).want(exitOK)
	w = b.start("work")
	b.awaits(2, `select count(*) from reconciles where complete`)
	if ports := listening(c, w.Process.Pid); len(ports) != 0 {
		c.Errorf("a worker listens on %v by default", ports)
	}
	w.end(syscall.SIGTERM).want(exitOK)
	c.saw("0", "14d", "15m")
	w = b.start(
		"work",
		"--reconcile-every",
		"0",
		"--sweep-at",
		minute,
		"--sweep-older-than",
		"1ms",
		"--sweep-scope",
		"all",
		"--tz",
		"Europe/Berlin",
		"--metrics-listen",
		"127.0.0.1:0",
	)
	w.await(`"serving metrics"`)
	b.awaits(1, `select least(1, count(*))::int from sweeps where older_than = interval '1 ms' and scope = 'all'`)
	w.end(syscall.SIGTERM).want(exitOK)
	c.saw("--sweep-scope ours\\|all", `--sweep-at "0 2 * * *"`)

	// The webhook gets signed notices.
	b.with("BULKINVITE_WEBHOOK_SECRET=whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0").
		run("work", "--until-idle", "--webhook-url", hook.URL).
		want(exitOK)
	for len(told) > 0 {
		<-told // notices of earlier events
	}
	b.run("import", "--yes", b.people("w@example.com")).want(exitOK)
	hooked := b.with(
		"BULKINVITE_WEBHOOK_URL="+hook.URL,
		"BULKINVITE_WEBHOOK_SECRET=whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0",
	)
	w = hooked.start("work")
	select {
	case h := <-told:
		if !strings.HasPrefix(h.Get("Webhook-Signature"), "v1,") || h.Get("Webhook-Id") == "" {
			c.Errorf("a notice without a signature: %v", h)
		}
	case <-time.After(patience):
		c.Error("nothing was told")
	}
	w.end(syscall.SIGTERM).want(exitOK)
	b.with("BULKINVITE_WEBHOOK_URL="+hook.URL).run("work", "--until-idle", "--json").want(exitUsage)
})

var _ = promised("serve: the page and the JSON API", []string{
	"| `serve` | the page and the JSON API: `--listen` (`127.0.0.1:8080`), `--work`, `--reconcile-every` and `--webhook-url` as `work`, `--users-file` (`BULKINVITE_USERS_FILE`; `BULKINVITE_USERS` holds the same lines), `--url` (`BULKINVITE_URL`), `--trusted-proxy CIDR` (`BULKINVITE_TRUSTED_PROXY`; none; repeatable: the networks of proxies whose `X-Forwarded-For` counts), `--upload-quota SIZE` (`BULKINVITE_UPLOAD_QUOTA`; `8GiB`), how much the uploaded files that drafts keep may take in the database, beyond which an upload gets 507, and `--openid-issuer` with its companions ([web.md](web.md#signing-in-with-an-identity-provider)). Off loopback it needs users or a provider |",
}, func(c *check) {
	_, b := c.stage("sk_live_x")
	refused := func(b *bench, code string, args ...string) {
		c.Helper()
		b.run(append([]string{"serve", "--json"}, args...)...).refused(exitUsage, code)
	}
	for _, listen := range []string{":0", "0.0.0.0:0", "192.0.2.1:0"} {
		refused(b, "users", "--listen", listen)
	}
	refused(b, "openid", "--openid-issuer", "https://login.example.com")
	refused(b, "openid", "--openid-issuer", "https://login.example.com", "--openid-client-id", "x")
	refused(
		b,
		"openid",
		"--openid-issuer",
		"https://login.example.com",
		"--openid-client-id",
		"x",
		"--url",
		"https://x.example.com",
	)
	refused(
		b,
		"openid",
		"--openid-issuer",
		"http://login.example.com",
		"--openid-client-id",
		"x",
		"--url",
		"https://x.example.com",
		"--openid-operators",
		"hr",
	)
	refused(b, "trusted_proxy", "--trusted-proxy", "10.0.0.7")
	refused(b.with("BULKINVITE_TRUSTED_PROXY=10.0.0.7"), "trusted_proxy")
	refused(b, "usage", "--reconcile-every", "-1s")
	refused(b, "usage", "--upload-quota", "0")
	if o := b.run("serve", "--json", "--webhook-url", "http://192.0.2.1/x"); o.exit != exitUsage {
		c.Errorf("--webhook-url without a secret: %d", o.exit)
	}

	// By default it listens on 127.0.0.1:8080, or says that the port is taken.
	p := b.start("serve", "--json")
	p.await("127.0.0.1:8080")
	_ = p.Process.Kill() // an error means that it has ended
	p.wait()

	users := b.runWith("correct horse battery", "user", "maria", "--role", "operator").want(exitOK).out
	login := func(base, password string) int {
		c.Helper()
		header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Origin": {base}}
		status, _ := request(c, http.MethodPost, base+"/login", header, "name=maria&password="+password)
		return status
	}
	start := func(b *bench, args ...string) (*process, string) {
		c.Helper()
		p := b.start(append([]string{"serve", "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)...)
		p.await(`"serving"`)
		_, log := p.wrote()
		port := listening(c, p.Process.Pid)[0]
		return p, regexp.MustCompile(`"serving","address":"([^"]+)"`).FindStringSubmatch(log)[1] + fmt.Sprintf(
			" http://127.0.0.1:%d",
			port,
		)
	}
	for _, one := range []struct {
		b    *bench
		args []string
	}{
		{b.with("BULKINVITE_USERS=" + users), nil},
		{b.with("BULKINVITE_USERS_FILE=" + b.file("users", users)), nil},
		{b, []string{"--users-file", b.file("users", users), "--url", "http://127.0.0.1:1"}},
		{b.with("BULKINVITE_URL=http://localhost:1", "BULKINVITE_USERS="+users), nil},
	} {
		p, at := start(one.b, one.args...)
		said, base, _ := strings.Cut(at, " ")
		_, log := p.wrote()
		if strings.Contains(log, "Sign in, once") {
			c.Errorf("%v: a link for everybody, though there are users", one.args)
		}
		if asked := strings.HasSuffix(said, ":1"); asked != (strings.Contains(strings.Join(append(one.b.env, one.args...), " "), "/127.0.0.1:1") ||
			strings.Contains(strings.Join(one.b.env, " "), "localhost:1")) {
			c.Errorf("it says that it serves at %s", said)
		}
		if said == base {
			if status := login(base, "wrong"); status == http.StatusSeeOther {
				c.Errorf("%v: signed in with a wrong password", one.args)
			}
			if status := login(base, "correct+horse+battery"); status != http.StatusSeeOther {
				c.Errorf("%v: signing in: %d", one.args, status)
			}
		}
		p.end(syscall.SIGTERM).want(exitOK)
	}
	off := b.with("BULKINVITE_USERS="+users).
		start("serve", "--listen", "0.0.0.0:0", "--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8")
	off.await(`"serving"`)
	base := fmt.Sprintf("http://127.0.0.1:%d", listening(c, off.Process.Pid)[0])
	// Failed logins are counted by address, which is the one that a trusted proxy reports.
	guess := func(base, from string, n int) (last int) {
		c.Helper()
		for range n {
			header := http.Header{
				"Content-Type":    {"application/x-www-form-urlencoded"},
				"Origin":          {base},
				"X-Forwarded-For": {from},
			}
			if last, _ = request(c, http.MethodPost, base+"/login", header, "name=tom&password=wrong"); last == http.StatusTooManyRequests {
				break
			}
		}
		return last
	}
	if first, second := guess(base, "192.0.2.1", 20), guess(base, "192.0.2.2", 1); first != http.StatusTooManyRequests ||
		second != http.StatusUnauthorized {
		c.Errorf("behind a trusted proxy: %d after some guesses, and then %d from elsewhere", first, second)
	}
	direct := b.with("BULKINVITE_USERS="+users).start("serve", "--listen", "127.0.0.1:0")
	direct.await(`"serving"`)
	base = fmt.Sprintf("http://127.0.0.1:%d", listening(c, direct.Process.Pid)[0])
	if first, second := guess(base, "192.0.2.1", 20), guess(base, "192.0.2.2", 1); first != http.StatusTooManyRequests ||
		second != http.StatusTooManyRequests {
		c.Errorf(
			"without a trusted proxy: %d after some guesses, and then %d with another X-Forwarded-For",
			first,
			second,
		)
	}
	direct.end(syscall.SIGTERM).want(exitOK)
	off.end(syscall.SIGTERM).want(exitOK)

	s := b.with("BULKINVITE_UPLOAD_QUOTA=1").serve("--work")
	header := http.Header{"Authorization": {"Bearer " + s.token}, "Content-Type": {"text/csv"}}
	if status, text := request(c, http.MethodPost, s.base+"/api/v1/batches?file_name=a.csv", header, "email\na@example.com\n"); status != http.StatusInsufficientStorage {
		c.Errorf("beyond the quota: %d %s", status, text)
	}
	s.end(syscall.SIGTERM).want(exitOK)
	is := b.config()
	if _, set := is["serve upload-quota"]; set {
		c.Errorf("%v", is["serve upload-quota"])
	}
	c.saw("8GiB") // the promise about --help compares it
})

var _ = promised("serve: the page and the API answer, and --work works", []string{
	"| `serve` | the page and the JSON API: `--listen` (`127.0.0.1:8080`), `--work`, `--reconcile-every` and `--webhook-url` as `work`,",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("import", "--yes", b.people("a@example.com")).want(exitOK)
	s := b.serve("--work", "--reconcile-every", "100ms")
	b.awaits(1, `select count(*) from results where outcome = 'invited'`)
	k.ask(http.MethodPost, "/sandbox/accept", `{"addresses":["a@example.com"]}`)
	b.awaits(1, `select count(*) from results where status = 'accepted'`)
	if status, text := request(c, http.MethodGet, s.base+"/login", nil, ""); status != http.StatusOK ||
		!strings.Contains(text, "<html") {
		c.Errorf("the page: %d", status)
	}
	if list := asObjects(c, s.get("/api/v1/batches")); len(list) != 1 {
		c.Errorf("%v", list)
	}
})

var _ = promised("user: a line for the file of users", []string{
	"| `user NAME` | reads a password and prints a line for the file of users; `--role auditor\\|operator` |",
}, func(c *check) {
	b := c.bare()
	for role, args := range map[string][]string{"auditor": nil, "operator": {"--role", "operator"}} {
		o := b.runWith("correct horse battery\n", append([]string{"user", "maria"}, args...)...).want(exitOK)
		if !strings.HasPrefix(o.out, "maria:"+role+":$2") || strings.Count(o.out, "\n") != 1 {
			c.Errorf("%v: %q", args, o.out)
		}
	}
	b.runWith("correct horse battery\n", "user", "maria", "--role", "auditor").want(exitOK)
	b.runWith("correct horse battery\n", "user", "maria", "--role", "admin", "--json").refused(exitUsage, "usage")
})

var _ = promised("token: made, listed and revoked", []string{
	"| `token create NAME`, `token list`, `token revoke TOKEN` | makes a token for scripts (`--role auditor\\|operator`, `--expires 90d`) and prints it once; `--json`: `token_text`, `name`, `role`, `expires_at`. Lists them, without their texts: `token`, `name`, `role`, `created_by`, `created_at`, `expires_at`, `used_at`, `revoked_at`. Makes one worthless at once. A name is refused (4, `token_exists`) while a token of that name is good |",
}, func(c *check) {
	_, b := c.stage("sk_live_x")
	s := b.serve()
	made := b.run("token", "create", "hr", "--role", "operator", "--expires", "90d", "--json").want(exitOK).object()
	made.has(c, "token_text string, name string, role string, expires_at time")
	b.run("token", "create", "hr", "--json").refused(exitHeld, "token_exists")
	plain := b.run("token", "create", "plain").want(exitOK)
	if !strings.HasPrefix(plain.out, "biv_") || strings.Contains(plain.err, strings.TrimSpace(plain.out)) {
		c.Errorf("%q, %q", plain.out, plain.err)
	}
	get := func(token any) int {
		c.Helper()
		status, _ := request(
			c,
			http.MethodGet,
			s.base+"/api/v1/batches",
			http.Header{"Authorization": {fmt.Sprint("Bearer ", token)}},
			"",
		)
		return status
	}
	if status := get(made["token_text"]); status != http.StatusOK {
		c.Errorf("a token that is good: %d", status)
	}
	listed := b.run("token", "list", "--json").want(exitOK)
	if strings.Contains(listed.out, "biv_") {
		c.Errorf("the list has the tokens' texts: %s", listed.out)
	}
	for _, one := range listed.objects() {
		one.has(
			c,
			"token int, name string, role string, created_by string, created_at time, expires_at time, used_at time|null, revoked_at time|null",
		)
		at, _ := time.Parse(time.RFC3339, fmt.Sprint(one["created_at"]))
		until, _ := time.Parse(time.RFC3339, fmt.Sprint(one["expires_at"]))
		if until.Sub(at).Round(time.Minute) != 90*24*time.Hour {
			c.Errorf("by default it is good for %s", until.Sub(at))
		}
		want := map[any]string{"contract": "operator", "hr": "operator", "plain": "auditor"}[one["name"]]
		if one["role"] != want {
			c.Errorf("%v, want the role %s", one, want)
		}
	}
	b.run("token", "revoke", "2").want(exitOK)
	if status := get(made["token_text"]); status != http.StatusUnauthorized {
		c.Errorf("a token that was revoked: %d", status)
	}
	b.run("token", "create", "hr", "--role", "auditor").want(exitOK)
	b.run("token", "revoke", "99", "--json").want(exitUsage)
	c.saw("--role auditor\\|operator")
})

var _ = promised("sessions: listed and ended", []string{
	"| `sessions list`, `sessions end SESSION`, `sessions end --user NAME`, `sessions end --all` | lists who is signed in to the page, the newest first: `session`, `user`, `role` (at sign-in), `via` (`password`, `link`, `openid`), `created_at`, `used_at`, `ends_at`. Signs people out at once; `--json`: `ended`, the numbers of the sessions. 2 where there is no session of that number; 0 where a user has none; `--actor` |",
}, func(c *check) {
	_, b := c.stage("sk_live_x")
	s := b.serve()
	_, errs := s.wrote()
	link := s.base + "/login" + strings.Fields(strings.SplitN(errs, "/login", 2)[1])[0]
	if status, _ := request(c, http.MethodGet, link, nil, ""); status != http.StatusSeeOther {
		c.Errorf("the link: %d", status)
	}
	b.awaits(1, `select count(*) from web_sessions`)
	b.exec(
		`insert into web_sessions (hash, user_name, role, via) values ('a', 'maria', 'auditor', 'password'), ('b', 'maria', 'operator', 'openid'), ('c', 'tom', 'auditor', 'password')`,
	)
	list := b.run("sessions", "list", "--json").want(exitOK).objects()
	last := 99
	var via []string
	for _, one := range list {
		one.has(c, "session int, user string, role string, via string, created_at time, used_at time, ends_at time")
		if n := one.int(c, "session"); n > last {
			c.Errorf("not the newest first: %v", list)
		} else {
			last = n
		}
		via = append(via, fmt.Sprint(one["via"]))
	}
	if got := strings.Join(via, " "); got != "password openid password link" {
		c.Errorf("via: %s", got)
	}
	ended := func(args ...string) string {
		c.Helper()
		o := b.run(append([]string{"sessions", "end", "--json", "--actor", "olga"}, args...)...).want(exitOK).object()
		o.has(c, "ended array")
		return fmt.Sprint(o["ended"])
	}
	for _, one := range [][2]string{{"1", "[1]"}, {"--user=maria", "[2 3]"}, {"--user=maria", "[]"}, {"--all", "[4]"}} {
		if got := ended(one[0]); got != one[1] {
			c.Errorf("%s ended %s, want %s", one[0], got, one[1])
		}
	}
	b.run("sessions", "end", "1").want(exitUsage)
	b.run("sessions", "end", "99", "--json").want(exitUsage)
	if n := b.count(`select count(*) from events where actor = 'olga' and action = 'sessions_ended'`); n != 3 {
		c.Errorf("%d events of olga, want 3", n)
	}
	if n := len(b.run("sessions", "list", "--json").want(exitOK).objects()); n != 0 {
		c.Errorf("%d are signed in", n)
	}
	c.saw("sessions end --user NAME")
})
