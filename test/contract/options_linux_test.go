package contract_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A wire is a proxy between the program and the sandbox that records requests.
type wire struct {
	url   string
	mu    sync.Mutex
	asked []string          // METHOD PATH of each request
	made  map[string]object // last item of a request body, by address
}

func (k *clerk) wire() *wire {
	k.Helper()
	to, err := url.Parse(strings.TrimSuffix(k.url, "/v1"))
	if err != nil {
		k.Fatal(err)
	}
	w := &wire{made: map[string]object{}}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		r.Host = to.Host
		w.keep(r.Method+" "+r.URL.Path, body)
		proxy.ServeHTTP(out, r)
	}))
	k.Cleanup(server.Close)
	w.url = server.URL + "/v1"
	return w
}

func (w *wire) keep(call string, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, call)
	var list []object
	if json.Unmarshal(body, &list) != nil {
		var one object
		if json.Unmarshal(body, &one) != nil {
			return
		}
		list = []object{one}
	}
	for _, one := range list {
		w.made[fmt.Sprint(one["email_address"])] = one
	}
}

// of returns the last request item for an address.
func (w *wire) of(address string) object {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made[address]
}

// times returns how often a call was made.
func (w *wire) times(call string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.asked {
		if one == call {
			n++
		}
	}
	return n
}

var _ = promised("options: what is asked of Clerk", []string{
	"Options of `send` and `import`: `--redirect-url` (an address, an app's link such as `myapp://welcome`, or a path such as `/welcome`), `--expires-in-days` (1 to 365), `--template`,",
	"`--map NAME=COLUMN` (`email`, `redirect_url`, `expires_in_days`, `public_metadata.NAME`; the column by its header, or by its number: `#7`, unless a header is that to the letter), `--metadata COLUMN,…`,",
	"A column goes into Clerk's `public_metadata` only where its header is `public_metadata.NAME`, or `--map` or `--metadata` says so.",
}, func(c *check) {
	k := c.clerk()
	w := k.wire()
	b := c.bench("CLERK_API_URL="+w.url, "CLERK_SECRET_KEY=sk_live_x", "BULKINVITE_SETTLE=1ms")
	asked := func(address, key string, want any) {
		c.Helper()
		if got := fmt.Sprint(w.of(address)[key]); got != fmt.Sprint(want) {
			c.Errorf("%s: %s is %v, want %v", address, key, got, want)
		}
	}
	for i, to := range []string{"https://app.example.com/hello", "myapp://welcome", "/welcome"} {
		address := fmt.Sprintf("to%d@example.com", i)
		b.run("send", "--yes", "--redirect-url", to, "--expires-in-days", "14", "--template", "waitlist_invitation", b.people(address)).
			want(exitOK)
		asked(address, "redirect_url", to)
		asked(address, "expires_in_days", 14)
		asked(address, "template_slug", "waitlist_invitation")
	}
	for _, wrong := range [][]string{{"--redirect-url", "javascript:alert(1)"}, {"--redirect-url", "a b"}, {"--expires-in-days", "0"}, {"--expires-in-days", "366"}} {
		for _, command := range []string{"send", "import"} {
			if o := b.run(append([]string{command, "--yes", "--json", b.people("x@example.com")}, wrong...)...); o.exit != exitUsage {
				c.Errorf("%s %v: exit status %d", command, wrong, o.exit)
			}
		}
	}
	b.run("import", "--draft", "--yes", "--expires-in-days", "1", b.people("d1@example.com")).want(exitOK)
	b.run("import", "--draft", "--yes", "--expires-in-days", "365", "--redirect-url", "/x", "--template", "invitation", b.people("d2@example.com")).
		want(exitOK)
	c.saw("1 to 365")

	const text = "email,redirect_url,expires_in_days,public_metadata.team,note,Office\n%s@example.com,/own,7,red,secret,Oslo\n"
	b.run("send", "--yes", b.file("a.csv", fmt.Sprintf(text, "plain"))).want(exitOK)
	asked("plain@example.com", "redirect_url", "/own")
	asked("plain@example.com", "expires_in_days", 7)
	asked("plain@example.com", "public_metadata", map[string]any{"team": "red"})
	b.run("send", "--yes", "--metadata", "note,Office", b.file("b.csv", fmt.Sprintf(text, "named"))).want(exitOK)
	asked("named@example.com", "public_metadata", map[string]any{"team": "red", "note": "secret", "Office": "Oslo"})
	const other = "Who,Where,Days,Shade\n%s@example.com,/there,9,blue\n"
	b.run("send", "--yes", "--map", "email=Who", "--map", "redirect_url=Where", "--map", "expires_in_days=Days", "--map", "public_metadata.color=Shade",
		b.file("c.csv", fmt.Sprintf(other, "mapped"))).
		want(exitOK)
	asked("mapped@example.com", "redirect_url", "/there")
	asked("mapped@example.com", "expires_in_days", 9)
	asked("mapped@example.com", "public_metadata", map[string]any{"color": "blue"})
	b.run("send", "--yes", "--map", "email=#7", b.file("number.csv", "a,b,c,d,e,f,g\n,,,,,,seventh@example.com\n")).
		want(exitOK)
	b.run("send", "--yes", "--map", "email=#7", b.file("letter.csv", "#7,b,c,d,e,f,g\nfirst@example.com,,,,,,no\n")).
		want(exitOK)
	for _, address := range []string{"seventh@example.com", "first@example.com"} {
		asked(address, "email_address", address)
	}
	c.saw("#7")
	c.saw("public_metadata.NAME", "--metadata COLUMN,…", "--map NAME=COLUMN", "public_metadata")
	o := b.run("check", "--json", "--map", "email=Who", "--metadata", "Shade", b.file("d.csv", fmt.Sprintf(other, "checked"))).
		want(exitOK).
		object()
	if o.int(c, "valid") != 1 {
		c.Errorf("check: %v", o)
	}
})

var _ = promised("options: how a file is read, and its limits", []string{
	"`--delimiter`, `--encoding`, `--max WHAT=N` (`BULKINVITE_MAX=\"rows=5000;file=1048576\"`; `rows`, `columns`, `cell`, `line`, `file`).",
	"A setting of a command stands in the configuration file under the command: `check: {max: rows=5000}`.",
}, func(c *check) {
	b := c.bare()
	odd := b.file("odd.csv", "email;Name\na@example.com;J\xf6rg, the 2nd\n")
	o := b.run("check", "--json", "--delimiter", "semicolon", "--encoding", "windows-1252", odd).want(exitOK).object()
	if o["delimiter"] != ";" && o["delimiter"] != "semicolon" ||
		!strings.EqualFold(fmt.Sprint(o["encoding"]), "windows-1252") ||
		o.int(c, "valid") != 1 {
		c.Errorf("%v", o)
	}
	if o := b.run("check", "--json", "--delimiter", "comma", odd); o.exit == exitOK {
		c.Errorf("read with commas all the same: %s", o.out)
	}
	file := b.people(some("a", 6)...)
	for what, n := range map[string]int{"rows": 5, "columns": 1, "cell": 10, "line": 10, "file": 50} {
		text := file
		if what == "columns" {
			text = odd
		}
		b.run("check", "--json", "--max", fmt.Sprintf("%s=%d", what, n), text).want(exitUsage)
		b.with(fmt.Sprintf("BULKINVITE_MAX=%s=%d", what, n)).run("check", "--json", text).want(exitUsage)
		b.run("check", "--json", "--max", what+"=1000", text).want(exitOK)
	}
	b.with("BULKINVITE_MAX=rows=5000;file=1048576").run("check", "--json", file).want(exitOK)
	c.saw("--max WHAT=N", `BULKINVITE_MAX="rows=5000;file=1048576"`, "check: {max: rows=5000}")
	b.with("BULKINVITE_MAX=rows=5000;file=50").run("check", "--json", file).want(exitUsage)
	for max, exit := range map[string]int{"rows=5000": exitOK, "rows=5": exitUsage} {
		b.run("check", "--json", "--config", b.file("c.yaml", "check: {max: "+max+"}\n"), file).want(exit)
	}
	b.run("check", "--json", "--config", b.file("c.yaml", "max: rows=5000\n"), file).refused(exitUsage, "usage")
	b.run("check", "--json", "--max", "pages=3", file).want(exitUsage)
})

var _ = promised("options: who has an invitation already, and the same file", []string{
	"`--on-duplicate skip|resend` (who has a pending invitation is left alone, or it is revoked and they are invited again, once in three days),",
	"`--again` (the same file once more), `--include-erased` (people who were erased too),",
	"`--allow-undelivered` (past the 100 mails that a development instance delivers in a month), `--actor` (default: the login name).",
}, func(c *check) {
	k, b := c.stage("sk_live_x", "--pending", "a@example.com")
	outcomes := func(args ...string) object {
		c.Helper()
		return b.run(append([]string{"send", "--yes", "--json"}, args...)...).
			want(exitOK).
			object().
			object(c, "outcomes")
	}
	file := b.people("a@example.com", "b@example.com")
	if o := outcomes("--on-duplicate", "skip", file); o.int(c, "already_invited") != 1 || o.int(c, "invited") != 1 {
		c.Errorf("skip: %v", o)
	}
	if k.standing()["pending a@example.com"] != 1 || k.mails()["a@example.com"] != 0 {
		c.Errorf("skip did not leave it alone: %v", k.standing())
	}
	b.run("send", "--yes", "--json", file).refused(exitHeld, "same_file")
	if o := outcomes("--again", "--on-duplicate", "resend", file); o.int(c, "invited") != 2 {
		c.Errorf("resend: %v", o)
	}
	if s := k.standing(); s["revoked a@example.com"] != 1 || s["pending a@example.com"] != 1 ||
		k.mails()["a@example.com"] != 1 {
		c.Errorf("resend: %v", s)
	}
	for _, ago := range []struct {
		interval string
		want     int
	}{{"2 days 23 hours", 1}, {"2 hours", 2}} {
		b.exec(`update results set revoke_sent = revoke_sent - $1::interval`, ago.interval)
		outcomes("--again", "--on-duplicate", "resend", file)
		if n := k.mails()["a@example.com"]; n != ago.want {
			c.Errorf("%d mails after %s more, want %d", n, ago.interval, ago.want)
		}
	}
	if o := outcomes("--again", file); o.int(c, "invited") != 0 {
		c.Errorf("--again: %v", o)
	}
	b.run("erase", "b@example.com", "--revoke", "--yes").want(exitOK)
	again := b.people("b@example.com", "c@example.com")
	if o := outcomes(again); o.int(c, "cancelled") != 1 || o.int(c, "invited") != 1 {
		c.Errorf("after an erasure: %v", o)
	}
	if o := outcomes("--again", "--include-erased", again); o.int(c, "invited") != 1 ||
		k.standing()["pending b@example.com"] != 1 {
		c.Errorf("--include-erased: %v", o)
	}
	b.run("import", "--yes", "--draft", "--actor", "olga", b.people("d@example.com")).want(exitOK)
	self, err := user.Current()
	if err != nil {
		c.Fatal(err)
	}
	list := b.run("batches", "--json").want(exitOK).objects()
	if list[0]["actor"] != "olga" || list[1]["actor"] != self.Username {
		c.Errorf("actors: %v, %v; want olga, %s", list[0]["actor"], list[1]["actor"], self.Username)
	}
	d := c.bench(k.env("sk_test_x")...)
	d.run("import", "--yes", "--draft", d.people(some("h", 100)...)).want(exitOK)
	many := d.people(some("m", 101)...)
	for _, command := range []string{"send", "import"} {
		d.run(command, "--yes", "--json", many).refused(exitHeld, "undelivered")
	}
	d.run("import", "--yes", "--draft", "--allow-undelivered", many).want(exitOK)
	c.saw("--on-duplicate skip|resend")
})

var _ = promised("options: a new version of a roster, and when invitations are taken back", []string{
	"`--roster BATCH` (the file is a new version of that batch's: whom it lacks is taken back), `--allow` (more of them than the threshold), `--revoke-after AGE` (how long an invitation of it may be pending before a sweep takes it back),",
	"`--revoke-on COLUMN` (the day after which a sweep takes the invitation back),",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	b.run("send", "--yes", b.people(some("a", 30)...)).want(exitOK)
	b.run("send", "--yes", "--json", "--roster", "1", b.people("a000@example.com", "b@example.com")).
		refused(exitHeld, "threshold")
	two := append(some("a", 28), "new@example.com")
	b.run("send", "--yes", "--roster", "1", b.people(two...)).want(exitOK)
	k.pending(two...)
	b.run("send", "--yes", "--roster", "1", "--allow", b.people("a000@example.com", "b@example.com")).want(exitOK)
	k.pending("a000@example.com", "b@example.com", "new@example.com")
	// All invitations are of about the same age. A sweep revokes the one whose batch says so and the
	// one whose day has passed.
	b.run("send", "--yes", "--revoke-after", "1ms", b.people("soon@example.com")).want(exitOK)
	b.run("send", "--yes", "--revoke-after", "90d", b.people("late@example.com")).want(exitOK)
	days := fmt.Sprintf("email,Last\npast@example.com,%s\ncoming@example.com,%s\n",
		time.Now().AddDate(0, 0, 5).Format(time.DateOnly), time.Now().AddDate(0, 0, 9).Format(time.DateOnly))
	b.run("send", "--yes", "--revoke-on", "Last", b.file("days.csv", days)).want(exitOK)
	b.exec(`update results set revoke_on = revoke_on - 7`) // as if a week had passed
	b.run("sweep", "--apply").want(exitOK)
	s := k.standing()
	if s["revoked soon@example.com"] != 1 || s["pending late@example.com"] != 1 ||
		s["pending coming@example.com"] != 1 ||
		s["revoked past@example.com"] != 1 {
		c.Errorf("after a sweep: %v", s)
	}
})

var _ = promised("options: links instead of mails", []string{
	"`--no-notify` with `--links FILE` (Clerk mails nobody; the links go to that file and nowhere else),",
	"The file of `--links` is CSV with `row`, `email`, `invitation`, `link`, mode 0600, and only added to; of two lines of an address the last counts. A batch that was begun with it is gone on with by `send` of the same file with the same `--links`; workers leave it alone, and `resend` and `correct` refuse it (4).",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	file, out := b.people("a@example.com", "b@example.com", "c@example.com"), filepath.Join(c.TempDir(), "links.csv")
	args := []string{"send", "--yes", "--json", "--no-notify", "--links", out, "--log-level", "debug", file}
	b.run("send", "--yes", "--json", "--no-notify", file).want(exitUsage)
	b.run("send", "--yes", "--json", "--links", out, file).want(exitUsage)
	p := b.start(append(args, "--limit-create", "1/1h", "--limit-bulk", "off")...)
	b.awaits(1, `select count(*) from results where outcome = 'invited'`)
	p.end(syscall.SIGINT).want(exitInterrupted)
	before, err := os.ReadFile(out)
	if err != nil {
		c.Fatal(err)
	}
	worker := b.start("work")
	worker.await(`"working"`)
	b.run("import", "--yes", b.people("mailed@example.com")).want(exitOK)
	b.awaits(1, `select count(*) from results where outcome = 'invited' and email = 'mailed@example.com'`)
	worker.end(syscall.SIGTERM).want(exitOK)
	if n := b.count(`select count(*) from results where batch_id = 1 and outcome is null`); n != 2 {
		c.Errorf("a worker left %d people, want 2", n)
	}
	b.run("send", "--yes", "--json", file).want(exitUsage)
	o := b.run(args...).want(exitOK)
	if o.object().object(c, "outcomes").int(c, "invited") != 3 {
		c.Errorf("%s", o.out)
	}
	text, err := os.ReadFile(out)
	if err != nil || !strings.HasPrefix(string(text), string(before)) ||
		!strings.HasPrefix(string(text), "row,email,invitation,link\n") {
		c.Errorf("%v: %s", err, text)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		c.Errorf("%v, %v", info, err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil || len(rows) != 4 {
		c.Errorf("%v, %v", rows, err)
	}
	if n := len(k.mails()); k.mails()["a@example.com"] != 0 || k.mails()["mailed@example.com"] != 1 {
		c.Errorf("%d were mailed: %v", n, k.mails())
	}
	for _, row := range rows[1:] {
		if !strings.HasPrefix(row[2], "inv_") || !strings.HasPrefix(row[3], "http") ||
			k.standing()["pending "+row[1]] != 1 {
			c.Errorf("%v", row)
		}
		if strings.Contains(o.out+o.err, row[3]) ||
			b.count(
				`select count(*) from (select query_to_xml('select * from results', true, false, '')::text as x) t where x like '%' || $1 || '%'`,
				row[3],
			) != 0 {
			c.Errorf("the link of row %s is somewhere else", row[0])
		}
	}
	c.saw("link", "row", "invitation", "--links FILE", "0600", "4")
	b.run("resend", "1", "--yes", "--json", "--pending-for", "1ms").want(exitHeld)
	b.run("correct", "1", "1", "--yes", "--json", "--email", "right@example.com").want(exitHeld)
})

var _ = testedElsewhere("options: of two lines with links the last counts", []string{
	"of two lines of an address the last counts.",
}, "two lines come about where a program is killed between Clerk's answer and its record", "cmd/bulkinvite/links_test.go TestLinksAreNotLost")

var _ = promised("options: when people are invited", []string{
	"Of these and `check`: `--priority 1-4`, `--start-at TIME`, `--hours FROM-TO`, `--tz ZONE`,",
	"- `--start-at`: `2026-11-24T08:00:00+01:00` (RFC 3339), `2026-11-24 08:00` in `--tz`, or `08:00`, the next one. A time that is past is now.",
	"- `--hours 8-18`: from 8:00 up to 18:00 in `--tz`; `22-6` is the night. The zone is kept with the batch, so that the hours stay where they are when the clocks are changed. A batch whose zone PostgreSQL does not know any more, as after an upgrade of it, pauses (`paused_by` `zone`).",
	"- `--tz`: an IANA name such as `Europe/Berlin`; also the zone of the times that the command shows. Default: the machine's.",
}, func(c *check) {
	k, b := c.stage("sk_live_x")
	n := 0
	draft := func(b *bench, args ...string) int {
		c.Helper()
		n++
		o := b.run(append([]string{"import", "--draft", "--yes", "--json", b.people(fmt.Sprintf("d%d@example.com", n))}, args...)...).
			want(exitOK).
			object()
		return o.int(c, "batch")
	}
	starts := func(batch int) time.Time {
		c.Helper()
		var at *time.Time
		if err := b.sql().QueryRow(c.Context(), `select start_at from batches where id = $1`, batch).Scan(&at); err != nil ||
			at == nil {
			c.Fatalf("batch %d starts at %v, %v", batch, at, err)
		}
		return at.UTC()
	}
	for _, one := range []struct {
		b    *bench
		at   string
		tz   []string
		want string
	}{
		{b, "2096-11-24T08:00:00+01:00", nil, "2096-11-24T07:00:00Z"},
		{b, "2096-11-24 08:00", []string{"--tz", "Europe/Berlin"}, "2096-11-24T07:00:00Z"},
		{b, "2096-07-24 08:00", []string{"--tz", "America/New_York"}, "2096-07-24T12:00:00Z"},
		{b.with("TZ=Asia/Kathmandu"), "2096-11-24 08:00", nil, "2096-11-24T02:15:00Z"},
	} {
		if got := starts(draft(one.b, append([]string{"--start-at", one.at}, one.tz...)...)).Format(time.RFC3339); got != one.want {
			c.Errorf("--start-at %s %v: %s, want %s", one.at, one.tz, got, one.want)
		}
	}
	now := time.Now().UTC()
	if got := starts(draft(b, "--start-at", "08:00", "--tz", "UTC")); got.Hour() != 8 || got.Minute() != 0 ||
		got.Before(now) ||
		got.After(now.Add(24*time.Hour+time.Minute)) {
		c.Errorf("--start-at 08:00 at %s: %s", now, got)
	}
	b.run("send", "--yes", "--start-at", "2020-11-24T08:00:00+01:00", b.people("past@example.com")).want(exitOK)
	b.run("send", "--yes", "--start-at", "2020-11-24 08:00", b.people("past2@example.com")).want(exitOK)
	for _, wrong := range [][]string{{"--start-at", "soon"}, {"--hours", "8"}, {"--hours", "8-25"}, {"--tz", "Nowhere/Else", "--hours", "8-18"}, {"--priority", "5"}, {"--priority", "0"}} {
		for _, command := range []string{"import", "check"} {
			args := append([]string{command, "--json", b.people("x@example.com")}, wrong...)
			if o := b.run(args...); o.exit != exitUsage {
				c.Errorf("%v: exit status %d", args, o.exit)
			}
		}
	}

	// The hours are those of the zone, in winter and in summer.
	for day, want := range map[string]string{"2096-01-10": "2096-01-10T07:00:00Z", "2096-07-10": "2096-07-10T06:00:00Z"} {
		batch := draft(b, "--start-at", day+" 03:00", "--hours", "8-18", "--tz", "Europe/Berlin")
		if eta := b.run("start", fmt.Sprint(batch), "--json").want(exitOK).
			object()["eta"]; !strings.HasPrefix(fmt.Sprint(eta), strings.TrimSuffix(want, "0:00Z")) {
			c.Errorf("on %s it would be over at %v, want %s", day, eta, want)
		}
		b.run("cancel", fmt.Sprint(batch), "--yes").want(exitOK)
	}
	// Test hours of day and night from zones where it is day or night now.
	local := func(hour int) string { // returns a zone where it is that hour
		offset := (hour-time.Now().UTC().Hour()+36)%24 - 12
		if offset == 0 {
			return "Etc/GMT"
		}
		return fmt.Sprintf("Etc/GMT%+d", -offset) // POSIX zones have the opposite sign
	}
	c.saw(
		"--hours FROM-TO",
		"--hours 8-18",
		"22-6",
		"2026-11-24T08:00:00+01:00",
		"2026-11-24 08:00",
		"08:00",
		"--priority 1-4",
	)
	send := func(address, hours, tz, priority string) {
		c.Helper()
		b.run("import", "--yes", "--hours", hours, "--tz", tz, "--priority", priority, b.people(address)).want(exitOK)
	}
	send("night-by-day@example.com", "22-6", local(12), "1")
	send("day-by-night@example.com", "8-18", local(1), "1")
	send("night@example.com", "22-6", local(1), "4")
	send("day@example.com", "8-18", local(12), "3")
	w := b.start("work", "--limit-bulk", "off")
	b.awaits(
		2,
		`select count(*) from results where outcome = 'invited' and email in ('night@example.com', 'day@example.com')`,
	)
	first := b.count(
		`select batch_id::int from results where email in ('night@example.com', 'day@example.com') order by attempt_id limit 1`,
	)
	if b.count(`select priority::int from batches where id = $1`, first) != 3 {
		c.Error("priority 4 went before 3")
	}
	if m := k.mails(); m["night-by-day@example.com"]+m["day-by-night@example.com"] != 0 {
		c.Errorf("outside their hours: %v", m)
	}
	b.exec(
		`update batches set tz = 'Nowhere/Gone' where id = (select max(batch_id) from results where email = 'day-by-night@example.com')`,
	)
	b.awaits(1, `select count(*) from batches where paused_by = 'zone'`)
	w.end(syscall.SIGTERM).want(exitOK)
	gone := b.count(`select id::int from batches where paused_by = 'zone'`)
	if o := b.in(gone, "paused"); o["paused_by"] != "zone" {
		c.Errorf("%v", o)
	}
	// Times are shown in --tz, by default in the machine's zone.
	waits := b.run("import", "--yes", "--json", "--start-at", "2096-11-24T08:00:00Z", b.people("waits@example.com")).
		want(exitOK).
		object().
		int(c, "batch")
	shown := func(b *bench, args ...string) string {
		return b.run(append([]string{"status", fmt.Sprint(waits)}, args...)...).want(exitOK).out
	}
	if a, z := shown(b.with("TZ=Asia/Kathmandu")), shown(b, "--tz", "Asia/Kathmandu"); a != z || a == shown(b) {
		c.Errorf("in Kathmandu: %s, %s; in UTC: %s", a, z, shown(b))
	}
})

var _ = promised("options: a canary", []string{
	"`--canary N`, `--no-preflight`,",
	"- `--canary N`: N people are invited, then the batch pauses (`paused_by` `canary`). `send` on a terminal shows what came of it and asks. With `--yes` it goes on by itself if none of them was `failed` or `rejected`; otherwise it ends with 4. `resume` goes on.",
}, func(c *check) {
	k, b := c.stage("sk_live_x", "--block", "r000@example.com")
	b.sit(answers("Type the number", "5", "Go on with the other 3 people? [y/N]", "n"), "send", "--canary", "2", b.people(some("a", 5)...)).
		want(exitHeld).
		says("invited             2")
	if o := b.in(1, "paused"); o["paused_by"] != "canary" || o.int(c, "undecided") != 3 || len(k.mails()) != 2 {
		c.Errorf("%v", o)
	}
	b.run("resume", "1").want(exitOK)
	b.run("work", "--until-idle").want(exitOK)
	b.in(1, "done")
	b.sit(answers("Type the number", "3", "Go on with the other 2 people? [y/N]", "y"), "send", "--canary", "1", b.people(some("b", 3)...)).
		want(exitOK)
	if o := b.run("send", "--yes", "--json", "--no-preflight", "--canary", "2", b.people(some("c", 5)...)).want(exitOK).
		object(); o["state"] != "done" {
		c.Errorf("%v", o)
	}
	if n := b.count(`select count(*) from events where action = 'paused' and details->>'by' = 'canary'`); n != 3 {
		c.Errorf("%d pauses of canaries, want 3", n)
	}
	bad := b.people(some("r", 5)...)
	b.run("send", "--yes", "--json", "--canary", "2", bad).refused(exitHeld, "paused")
	if o := b.in(4, "paused"); o.object(c, "outcomes").int(c, "rejected") != 1 ||
		o.object(c, "outcomes").int(c, "failed") != 0 {
		c.Errorf("%v", o)
	}
	c.saw("4", "resume", "send")
})

var _ = promised("options: Clerk is read before the plan is shown", []string{
	"- `send` and `import` read at Clerk who needs no invitation before they show the plan, for files of up to 10,000 people, unless `--no-preflight`.",
}, func(c *check) {
	k := c.clerk("--user", "p00000@example.com")
	w := k.wire()
	b := c.bench("CLERK_API_URL="+w.url, "CLERK_SECRET_KEY=sk_live_x")
	var list []string
	for i := range 10_001 {
		list = append(list, fmt.Sprintf("p%05d@example.com", i))
	}
	for _, one := range []struct {
		people int
		args   []string
		read   bool
	}{{10_000, nil, true}, {10_001, nil, false}, {10, []string{"--no-preflight"}, false}, {11, nil, true}} {
		for _, command := range []string{"send", "import"} {
			before := w.times("GET /v1/users")
			// Nobody confirms, so the command ends after the plan.
			o := b.run(append([]string{command, b.people(list[:one.people]...)}, one.args...)...).want(exitHeld)
			read := w.times("GET /v1/users") > before
			if read != one.read || read != strings.Contains(o.err, `"already_registered":1`) {
				c.Errorf("%s of %d people %v: read %t\n%s", command, one.people, one.args, read, o.err)
			}
		}
	}
})

var _ = promised("options: send of a file whose batch is paused", []string{
	"`send` of a file whose batch is paused: by a person, it is refused (4); by a canary, by the breaker (more than a fifth of at least twenty people were rejected or failed) by Clerk (a quota) or for its time zone, it asks before it goes on; `--yes` answers.",
}, func(c *check) {
	blocked := []string{}
	for _, address := range some("r", 20) {
		blocked = append(blocked, "--block", address)
	}
	k, b := c.stage("sk_live_x", blocked...)
	file := b.people("a@example.com", "b@example.com")
	b.run("import", "--yes", file).want(exitOK)
	b.run("pause", "1").want(exitOK)
	b.run("send", "--yes", "--json", file).refused(exitHeld, "paused")
	for _, by := range []string{"canary", "breaker", "clerk", "zone"} {
		b.exec(`update batches set state = 'paused', paused_by = $1 where id = 1`, by)
		b.run("send", "--json", file).refused(exitHeld, "paused")
		b.sit(answers("[y/N]", "n"), "send", file).want(exitHeld)
		b.in(1, "paused")
	}
	b.sit(answers("[y/N]", "y"), "send", file).want(exitOK)
	k.pending("a@example.com", "b@example.com")
	// Four of twenty are a fifth, which is not too many. Eight are.
	many := func(bad, all int) string {
		return b.people(append(some("r", bad), some(fmt.Sprintf("good%d-", bad), all-bad)...)...)
	}
	b.run("send", "--yes", "--limit-bulk", "off", many(4, 20)).want(exitRows)
	broken := append(
		[]string{"send", "--yes", "--json", "--limit-bulk", "off", "--limit-create"},
		"22/3s",
		many(8, 40),
	)
	b.run(broken...).refused(exitHeld, "paused")
	if o := b.in(3, "paused"); o["paused_by"] != "breaker" {
		c.Errorf("%v", o)
	}
	b.run(broken...).want(exitRows)
	b.in(3, "done")
	c.saw("4", "send")
})

var _ = testedElsewhere("options: a database that goes away", []string{
	"A database that goes away while `send` works is waited for, 15 minutes, with a warning each 10 s; the private one is given up after `--recover-after`.",
}, "the wait is of minutes, and a server of its own has to be ended and started again",
	"cmd/bulkinvite/outage_test.go TestPostgresAwayForLong", "cmd/bulkinvite/vigil_test.go TestVigil")
