package contract_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bulkinvite/internal/postgres/postgrestest"
)

// A setting is a row of the contract's table of settings.
type setting struct {
	flag     string // without the leading dashes
	variable string // empty if it has none
	defaults []string
	off      bool // a switch that is off by default
	none     bool // has no default
}

func settingsOf(t testing.TB) []setting {
	t.Helper()
	text, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	var list []setting
	for _, cells := range tableRows(text, "flag") {
		s := setting{flag: strings.TrimPrefix(strings.Trim(cells[0], "`"), "--")}
		if m := backticks.FindStringSubmatch(cells[1]); m != nil {
			s.variable = m[1]
		}
		for _, m := range backticks.FindAllStringSubmatch(cells[2], -1) {
			s.defaults = append(s.defaults, m[1])
		}
		s.off, s.none = strings.HasPrefix(cells[2], "off"), strings.HasPrefix(cells[2], "none")
		list = append(list, s)
	}
	if len(list) < 10 {
		t.Fatalf("the table of settings has %d rows", len(list))
	}
	return list
}

// values has three different values of each setting: for the flag, the variable and the file.
var values = map[string][3]string{
	"database-url":    {"postgres://flag/x", "postgres://variable/x", "postgres://file/x"},
	"data-dir":        {"/flag", "/variable", "/file"},
	"postgres-from":   {"https://flag.example", "https://variable.example", "https://file.example"},
	"clerk-key-file":  {"/flag.key", "sk_test_variable", "/file.key"},
	"clerk-url":       {"https://flag.example/v1", "https://variable.example/v1", "https://file.example/v1"},
	"sandbox":         {"true", "", "true"},
	"limit-create":    {"11/1h", "12/1h", "13/1h"},
	"limit-bulk":      {"11/1h", "12/1h", "13/1h"},
	"limit-general":   {"11/10s", "12/10s", "13/10s"},
	"settle":          {"11s", "12s", "13s"},
	"request-timeout": {"11s", "12s", "13s"},
	"recover-after":   {"11s", "12s", "13s"},
	"log-format":      {"text", "json", "text"},
	"log-level":       {"debug", "warn", "error"},
	"json":            {"true", "", "true"},
	"yes":             {"true", "", "true"},
}

// bare returns a bench without a database. The command config needs none.
func (c *check) bare(env ...string) *bench {
	c.Helper()
	b := &bench{check: c, dir: c.TempDir()}
	b.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "TZ=UTC"}
	return b.with(env...)
}

// config returns the settings that `config --json` prints, by name.
func (b *bench) config(args ...string) map[string]object {
	b.Helper()
	all := map[string]object{}
	for _, one := range b.run(append([]string{"config", "--json"}, args...)...).want(exitOK).objects() {
		one.has(b, "name string, value string, from string, where string")
		name, _ := one["name"].(string)
		all[name] = one
	}
	return all
}

// is fails the test unless a setting has the given value from the given source.
func (c *check) is(got map[string]object, name, value, from, where string) {
	c.Helper()
	if o := got[name]; o["value"] != value || o["from"] != from || o["where"] != where {
		c.Errorf("--%s: %v, want value %q, from %q, where %q", name, o, value, from, where)
	}
}

var _ = promised("settings precedence: flag, variable, file, default", []string{
	"A flag wins over its variable, a variable over the configuration file (`--config`, YAML with a flag's name for each key: `limit-create: 50/1h`).",
	"A variable that is set to nothing counts as not set.",
	"| `--database-url` | `DATABASE_URL` | none: a private PostgreSQL under the data directory |",
	"| `--data-dir` | `BULKINVITE_DATA_DIR` |",
	"| `--postgres-from` | `BULKINVITE_POSTGRES_FROM` | `https://repo1.maven.org/maven2`:",
	"| `--clerk-key-file` | `CLERK_SECRET_KEY`",
	"| none | | `--clerk-url` | `CLERK_API_URL` | `https://api.clerk.com/v1`,",
	"| `--sandbox` | | off:",
	"| `--limit-create` | `BULKINVITE_LIMIT_CREATE` | `100/1h` |",
	"| `--limit-bulk` | `BULKINVITE_LIMIT_BULK` | `25/1h` |",
	"| `--limit-general` | `BULKINVITE_LIMIT_GENERAL` | `1000/10s`, on development instances `100/10s` |",
	"| `--settle` | `BULKINVITE_SETTLE` | `15s` |",
	"| `--request-timeout` | `BULKINVITE_REQUEST_TIMEOUT` | `20s` |",
	"| `--recover-after` | `BULKINVITE_RECOVER_AFTER` | `20s` |",
	"| `--log-format` | `BULKINVITE_LOG_FORMAT` | `text` on a terminal, else `json` |",
	"| `--log-level` | `BULKINVITE_LOG_LEVEL` | `info`;",
	"| `--json` | | off | | `--yes` | | off:",
	"| `--config` | `BULKINVITE_CONFIG` | none |",
}, func(c *check) {
	settings := settingsOf(c)
	var file strings.Builder
	var flags, variables, empty []string
	dir := c.TempDir()
	path := filepath.Join(dir, "bulkinvite.yaml")
	for _, s := range settings {
		v, ok := values[s.flag]
		if s.flag == "config" {
			flags, variables, empty = append(
				flags,
				"--config="+path,
			), append(
				variables,
				s.variable+"="+path,
			), append(
				empty,
				s.variable+"=",
			)
			continue
		}
		if !ok || (v[1] == "") != (s.variable == "") {
			c.Fatalf("no values for --%s (variable %q)", s.flag, s.variable)
		}
		fmt.Fprintf(&file, "%s: %s\n", s.flag, v[2])
		flags = append(flags, "--"+s.flag+"="+v[0])
		if s.variable != "" {
			variables, empty = append(variables, s.variable+"="+v[1]), append(empty, s.variable+"=")
		}
	}
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		c.Fatal(err)
	}
	none := c.bare()
	all := none.with(variables...)

	// With all sources, the flag wins.
	got := all.config(flags...)
	for _, s := range settings {
		if s.flag != "config" {
			c.is(got, s.flag, values[s.flag][0], "flag", "")
		}
	}
	c.is(got, "config", path, "flag", "")
	// Without flags, the variable wins. If a setting has no variable, the file does.
	got = all.config()
	for _, s := range settings {
		switch v := values[s.flag]; {
		case s.flag == "config":
			c.is(got, "config", path, "environment", s.variable)
		case s.flag == "clerk-key-file": // the variable holds the key itself, so the file's key file does not count
			c.is(got, s.flag, "none", "default", "")
			c.is(got, s.variable, "set, and hidden", "environment", s.variable)
		case s.flag == "json": // --json is given on the command line
		case s.variable == "":
			c.is(got, s.flag, v[2], "file", path)
		default:
			c.is(got, s.flag, v[1], "environment", s.variable)
		}
	}
	// Only the file, also with variables that are empty.
	for _, b := range []*bench{none, none.with(empty...)} {
		got = b.config("--config", path)
		for _, s := range settings {
			if s.flag != "config" && s.flag != "json" {
				c.is(got, s.flag, values[s.flag][2], "file", path)
			}
		}
	}
	// A flag wins over the file. Without both, the defaults of the table apply.
	got = none.config("--config", path, "--settle", "21s")
	c.is(got, "settle", "21s", "flag", "")
	for _, b := range []*bench{none, none.with(empty...)} {
		got = b.config()
		for _, s := range settings {
			o := got[s.flag]
			if o["from"] != "default" && s.flag != "json" {
				c.Errorf("--%s: %v, want the default", s.flag, o)
			}
			value, _ := o["value"].(string)
			var want string
			switch {
			case s.flag == "database-url":
				want = "a private PostgreSQL in " + filepath.Join(got["data-dir"]["value"].(string), "postgres")
			case s.flag == "data-dir", s.flag == "json":
				continue // another promise tests the data directory; --json is given
			case s.flag == "limit-general":
				want = s.defaults[0] + "; on development instances " + s.defaults[1]
			case s.flag == "log-format":
				want = s.defaults[0] + " on a terminal, else " + s.defaults[1]
			case s.flag == "log-level":
				want = s.defaults[0] + "; " + s.defaults[1] + " in doctor, and where send talks to a terminal"
			case s.off:
				want = "false"
			case s.none:
				want = "none"
			default:
				want = s.defaults[0]
			}
			if value != want {
				c.Errorf("--%s: the default is %q, want %q", s.flag, value, want)
			}
		}
	}
	// The file of --config is YAML with the names of flags as keys.
	small := filepath.Join(dir, "small.yaml")
	if err := os.WriteFile(small, []byte("limit-create: 50/1h\n"), 0o600); err != nil {
		c.Fatal(err)
	}
	c.saw("limit-create: 50/1h")
	c.is(none.config("--config", small), "limit-create", "50/1h", "file", small)
	if err := os.WriteFile(small, []byte("limit-creates: 50/1h\n"), 0o600); err != nil {
		c.Fatal(err)
	}
	none.run("config", "--json", "--config", small).refused(exitUsage, "usage")
})

var _ = promised("settings: where the data is by default", []string{
	"`$XDG_DATA_HOME/bulkinvite` or `~/.local/share/bulkinvite`; macOS `~/Library/Application Support/bulkinvite`; as root `/var/lib/bulkinvite` |",
}, func(c *check) {
	where := func(root bool, env ...string) string {
		b := c.bare(env...)
		cmd := b.command("config", "--json")
		if !root && os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			cmd.Dir = "/"
		}
		out, err := cmd.Output()
		if err != nil {
			c.Fatal(err)
		}
		for _, one := range asObjects(c, decode(c, string(out))) {
			if one["name"] == "data-dir" {
				value, _ := one["value"].(string)
				return value
			}
		}
		return ""
	}
	home := "/home/of/maria"
	want := home + "/.local/share/bulkinvite"
	if got := where(false, "HOME="+home); got != want {
		c.Errorf("without variables: %s, want %s", got, want)
	}
	if got := where(false, "HOME="+home, "XDG_DATA_HOME=/xdg"); got != "/xdg/bulkinvite" {
		c.Errorf("$XDG_DATA_HOME: %s", got)
	}
	if os.Geteuid() == 0 {
		if got := where(true, "HOME="+home, "XDG_DATA_HOME=/xdg"); got != "/var/lib/bulkinvite" {
			c.Errorf("as root: %s", got)
		}
	}
	// These tests run on Linux, so no test checks the path on macOS.
	c.saw(
		"$XDG_DATA_HOME/bulkinvite",
		"~/.local/share/bulkinvite",
		"~/Library/Application Support/bulkinvite",
		"/var/lib/bulkinvite",
	)
})

var _ = testedElsewhere("settings: PostgreSQL is fetched where there is none", []string{
	"the Maven repository that the private PostgreSQL's binaries are fetched from, once, where none is installed; a terminal is asked first, unless `--yes`",
}, "the built program looks for PostgreSQL where this machine has one; a test can't take it away",
	"cmd/bulkinvite/fetch_test.go TestFetchAsks", "cmd/bulkinvite/fetch_test.go TestFetchPostgres")

var _ = promised("settings: the key is never a flag, and Clerk says whether it is good", []string{
	"`CLERK_SECRET_KEY` (the key itself; it is never a flag)",
	"A key is any `sk_test_…` or `sk_live_…`; whether it is good, Clerk says, before anything is written.",
}, func(c *check) {
	k := c.clerk()
	b := c.bench("CLERK_API_URL="+k.url, "BULKINVITE_SETTLE=1ms")
	file := b.people("a@example.com")
	for _, flag := range []string{"--clerk-key", "--clerk-secret-key", "--key"} {
		b.run("config", "--json", flag, "sk_test_x").refused(exitUsage, "usage")
	}
	b.run("send", "--yes", "--json", file).refused(exitFailed, "clerk_key")
	b.with("CLERK_SECRET_KEY=pk_test_x").run("send", "--yes", "--json", file).refused(exitFailed, "clerk_key")
	k.ask(http.MethodPost, "/sandbox/faults", `[{"call":"instance","kind":"status","status":401}]`)
	b.with("CLERK_SECRET_KEY=sk_live_bad").run("send", "--yes", "--json", file).refused(exitFailed, "clerk_key")
	var n int
	if err := b.sql().QueryRow(c.Context(), `select (select count(*) from batches) + (select count(*) from instances)`).Scan(&n); err != nil ||
		n != 0 {
		c.Errorf("%d batches and instances, %v", n, err)
	}
	k.ask(http.MethodDelete, "/sandbox/faults", "")
	keys := b.file("key", "sk_live_of-a-file\n")
	for i, test := range []struct {
		b    *bench
		args []string
		want string
	}{
		{b.with("CLERK_SECRET_KEY=sk_test_y"), nil, "development"},
		{b.with("CLERK_SECRET_KEY=sk_live_y"), nil, "production"},
		{b.with("CLERK_SECRET_KEY=sk_test_y"), []string{"--clerk-key-file", keys}, "production"},
	} {
		other := test.b.with("DATABASE_URL=" + postgrestest.URL(c))
		o := other.run(append([]string{"send", "--yes", "--json", file}, test.args...)...).want(exitOK).object()
		if o["environment"] != test.want {
			c.Errorf("%d: %v, want %s", i, o["environment"], test.want)
		}
	}
})

var _ = promised("settings: Clerk's address", []string{
	"`https://api.clerk.com/v1`, with the `/v1`; `http://` on loopback only |",
	"An answer to `GET /instance` other than a 200 with an `ins_…` id is refused (1, `not_clerk`).",
}, func(c *check) {
	if config := c.bare().config(); config["clerk-url"]["value"] != "https://api.clerk.com/v1" {
		c.Errorf("%v", config["clerk-url"])
	}
	k := c.clerk()
	b := c.bench(k.env("sk_live_x")...)
	file := b.people("a@example.com")
	for _, url := range []string{"http://example.com/v1", "http://192.0.2.1/v1", "ftp://127.0.0.1/v1"} {
		b.run("send", "--yes", "--json", "--clerk-url", url, file).refused(exitUsage, "clerk_url")
	}
	b.run("send", "--yes", "--json", "--clerk-url", strings.TrimSuffix(k.url, "/v1"), file).
		refused(exitFailed, "not_clerk")
	for _, answer := range []struct {
		status int
		body   string
	}{
		{404, `{"errors":[{"code":"resource_not_found","message":"no"}]}`},
		{200, `{"id":"acct_1","environment_type":"production"}`},
		{200, `{"environment_type":"production"}`},
		{200, `<html>`},
		{403, `no`},
	} {
		var asked string
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.Method + " " + r.URL.Path
			w.WriteHeader(answer.status)
			_, _ = w.Write([]byte(answer.body)) // if the client has gone, the check below fails
		}))
		b.run("send", "--yes", "--json", "--clerk-url", other.URL+"/v1", file).refused(exitFailed, "not_clerk")
		other.Close()
		if asked != "GET /v1/instance" {
			c.Errorf("it asked for %s", asked)
		}
	}
	c.saw("GET /instance", "ins_…")
	b.run("send", "--yes", "--json", file).want(exitOK)
})

var _ = promised("settings: a database that holds the key's instance twice", []string{
	"A database that holds the key's instance twice, as earlier versions could leave it, is refused too (4, `two_instances`; [operating.md](operating.md#one-key-two-instances)).",
}, func(c *check) {
	k := c.clerk()
	b := c.bench(k.env("sk_live_two")...)
	b.run("send", "--yes", b.people("a@example.com")).want(exitOK)
	sum := sha256.Sum256([]byte("sk_live_two"))
	b.exec(`with made as (insert into instances (clerk_id, environment) values ($1, 'production') returning id)
		insert into batches (instance_id, file_name, file_sha256, file_bytes, encoding, delimiter, columns, actor, state)
		select id, 'x', '\x00', 1, 'UTF-8', ',', '{email}', 'maria', 'done' from made`, "key:"+hex.EncodeToString(sum[:8]))
	for _, args := range [][]string{{"work", "--until-idle"}, {"send", "--yes", b.people("b@example.com")}, {"reconcile"}} {
		b.run(append(args, "--json")...).refused(exitHeld, "two_instances")
	}
})

var _ = promised("settings: the stand-in inside the program", []string{
	"off: the stand-in inside the program instead of Clerk, with its state in `sandbox/state.jsonl` under the data directory; it listens on no port |",
}, func(c *check) {
	b := c.bench()
	// Without --sandbox the program uses Clerk, which needs a key.
	b.run("send", "--yes", "--json", b.people("a@example.com")).refused(exitFailed, "clerk_key")
	o := b.run("send", "--sandbox", "--yes", "--json", b.people("a@example.com")).want(exitOK).object()
	if o["environment"] != "sandbox" {
		c.Errorf("environment: %v", o["environment"])
	}
	state, err := os.ReadFile(filepath.Join(b.dir, "sandbox", "state.jsonl"))
	if err != nil || !strings.Contains(string(state), "a@example.com") {
		c.Errorf("the sandbox's state: %v\n%s", err, state)
	}
	c.saw("sandbox/state.jsonl")
	s := b.serve("--sandbox", "--work")
	if all := listening(c, s.Process.Pid); len(all) != 1 || !strings.HasSuffix(s.base, fmt.Sprint(":", all[0])) {
		c.Errorf("serve --sandbox --work at %s listens on the ports %v", s.base, all)
	}
})

var _ = promised("settings: limits", []string{
	"A limit is `N/DURATION`, `none` (there is none) or `off` (the call is not used; not both creates, and not the general limit).",
	"`1000/10s`, on development instances `100/10s` |",
}, func(c *check) {
	k := c.clerk("--limit-create", "none", "--limit-bulk", "none")
	b := c.bench(k.env("sk_live_x")...)
	requests := func(prefix string, args ...string) object {
		c.Helper()
		args = append([]string{"send", "--yes", "--json", b.people(some(prefix, 12)...)}, args...)
		return b.run(args...).want(exitOK).object().object(c, "requests")
	}
	if r := requests("a", "--limit-bulk", "off"); r.int(c, "bulk") != 0 || r.int(c, "create") != 12 {
		c.Errorf("--limit-bulk off: %v", r)
	}
	if r := requests("b", "--limit-create", "off"); r.int(c, "create") != 0 || r.int(c, "bulk") < 2 {
		c.Errorf("--limit-create off: %v", r)
	}
	// The window allows one bulk call. The other people go one by one.
	if r := requests("c", "--limit-bulk", "1/1h", "--limit-create", "none"); r.int(c, "bulk") > 1 ||
		r.int(c, "create") < 2 {
		c.Errorf("--limit-bulk 1/1h: %v", r)
	}
	c.saw("N/DURATION")
	for _, wrong := range [][]string{
		{"--limit-create", "off", "--limit-bulk", "off"}, {"--limit-general", "off"},
		{"--limit-create", "100"}, {"--limit-create", "0/1h"}, {"--limit-create", "lots"},
	} {
		b.run(append([]string{"config", "--json"}, wrong...)...).refused(exitUsage, "usage")
	}
	limit := func(b *bench, bucket string, args ...string) string {
		c.Helper()
		for _, instance := range b.run(append([]string{"limits", "--json"}, args...)...).want(exitOK).objects() {
			for _, one := range asObjects(c, instance["limits"]) {
				if one["bucket"] == bucket {
					return fmt.Sprint(one["limit"])
				}
			}
		}
		return "there is none"
	}
	for _, bucket := range []string{"create", "bulk", "general"} {
		for _, value := range []string{"7/1m0s", "none", "off"} {
			if bucket == "general" && value == "off" {
				continue
			}
			if got := limit(b, bucket, "--limit-"+bucket, value); got != value && got+"0s" != value {
				c.Errorf("--limit-%s %s: %s", bucket, value, got)
			}
		}
	}
	if got := limit(b, "general"); got != "1000/10s" {
		c.Errorf("the general limit of a production instance: %s", got)
	}
	b = c.bench(k.env("sk_test_x")...)
	b.run("send", "--yes", b.people("d@example.com")).want(exitOK)
	if got := limit(b, "general"); got != "100/10s" {
		c.Errorf("the general limit of a development instance: %s", got)
	}
})

var _ = promised("settings: the schema is brought up to date, unless it is newer", []string{
	"Every command that works in the database brings its schema up to date first (`doctor` and `check` only look); only a schema newer than the program is refused.",
}, func(c *check) {
	k := c.clerk()
	pool := postgrestest.Empty(c)
	b := c.bench(k.env("sk_test_x")...).with("DATABASE_URL=" + pool.Config().ConnString())
	tables := func() (n int) {
		c.Helper()
		if err := pool.QueryRow(c.Context(), `select count(*) from pg_tables where schemaname = 'public'`).Scan(&n); err != nil {
			c.Fatal(err)
		}
		return n
	}
	file := b.people("a@example.com")
	b.run("doctor", "--json").want(exitOK)
	b.run("check", "--json", file).want(exitOK)
	if n := tables(); n != 0 {
		c.Errorf("doctor and check have made %d tables", n)
	}
	b.run("batches", "--json").want(exitOK)
	if n := tables(); n == 0 {
		c.Error("batches has not brought the schema up to date")
	}
	if _, err := pool.Exec(c.Context(), `insert into goose_db_version (version_id, is_applied) values (99990101000000, true)`); err != nil {
		c.Fatal(err)
	}
	for _, args := range [][]string{{"batches"}, {"send", "--yes", file}, {"status", "1"}, {"work", "--until-idle"}, {"migrate"}} {
		b.run(append(args, "--json")...).refused(exitFailed, "database_newer")
	}
	b.run("check", "--json", file).want(exitOK)
})

var _ = promised("settings: what goes to standard output, and what to standard error", []string{
	"Results go to standard output. Logs, progress, warnings and errors go to standard error, which off a terminal names rows, lines and columns and never a cell's content.",
	"With `--json` standard output has one JSON document and nothing else, also for an error: `{\"error\":{\"code\":\"…\",\"message\":\"…\",\"remedy\":\"…\"}}`.",
}, func(c *check) {
	k := c.clerk("--block", "rejected@secret.example")
	b := c.bench(k.env("sk_live_x")...)
	file := b.file(
		"secret.csv",
		"email,First,public_metadata.team\nanna@secret.example,Zaphod,Magrathea\nnot an address,Trillian,Betelgeuse\nrejected@secret.example,Marvin,Vogon\nanna@secret.example,Ford,Prefect\n",
	)
	for _, args := range [][]string{
		{"check", file}, {"send", "--yes", "--log-level", "debug", file}, {"results", "1"}, {"why", "anna@secret.example"},
		{"audit", "--email", "anna@secret.example"}, {"send", "--yes", "--again", file}, {"send", "--yes", file},
		{"erase", "anna@secret.example", "--yes"}, {"why", "nobody@secret.example"}, {"nobody@secret.example"},
	} {
		o := b.run(args...)
		for _, cell := range []string{"secret.example", "Zaphod", "Trillian", "Marvin", "Magrathea", "not an address"} {
			if strings.Contains(o.err, cell) {
				c.Errorf("%v: standard error has a cell's %q:\n%s", args, cell, o.err)
			}
		}
		if (o.exit == exitOK || o.exit == exitRows) != (o.out != "") {
			c.Errorf("%v: exit status %d, and on standard output: %q", args, o.exit, o.out)
		}
		if o.exit != exitOK && o.exit != exitRows && o.err == "" {
			c.Errorf("%v: exit status %d, and nothing on standard error", args, o.exit)
		}
	}
	long := b.file("long.csv", "email,First\na@secret.example,"+strings.Repeat("Zaphod", 50)+"\n")
	for _, name := range []string{"line 2", "long.csv"} {
		if o := b.run("check", "--max", "cell=100", long).want(exitUsage); !strings.Contains(o.err, name) ||
			strings.Contains(o.err, "Zaphod") {
			c.Errorf("a cell that is too long: %s", o.err)
		}
	}
	b.run("check", b.file("none.csv", "First,Last\nZaphod,x\n")).want(exitUsage).says("Found: First, Last")
	if o := b.run("check", file).want(exitRows); logLine.MatchString(o.out) {
		c.Errorf("a log is on standard output: %s", o.out)
	}
	// Each kind of error is one JSON document.
	for _, args := range [][]string{
		{"status", "99"}, {"nothing"}, {"check", "/does/not/exist"}, {"send", file}, {"why", "nobody@example.com"},
		{"erase", "rejected@secret.example"}, {"pause", "1"}, {"batches", "--database-url", "postgres://127.0.0.1:1/x"},
	} {
		o := b.run(append(args, "--json")...)
		doc := o.object()
		doc.has(c, "error object")
		doc.object(c, "error").has(c, "code string, message string, remedy string")
		if o.exit == exitOK {
			c.Errorf("%v: exit status 0", args)
		}
	}
	c.saw("{\"error\":{\"code\":\"…\",\"message\":\"…\",\"remedy\":\"…\"}}")
})

var _ = promised("settings: --yes answers every confirmation", []string{
	"off: answers every confirmation |",
}, func(c *check) {
	k := c.clerk()
	b := c.bench(k.env("sk_live_x")...)
	file := b.people("a@example.com", "b@example.com", "c@example.com")
	for _, one := range []struct {
		before [][]string
		args   []string
	}{
		{nil, []string{"send", file}},
		{nil, []string{"import", b.people("d@example.com")}},
		{nil, []string{"cancel", "2"}},
		{nil, []string{"resend", "1", "--pending-for", "1ms"}},
		{nil, []string{"correct", "1", "1", "--email", "e@example.com"}},
		{nil, []string{"erase", "b@example.com"}},
		{nil, []string{"undo", "1"}},
		{nil, []string{"purge", "--older-than", "1ms"}},
	} {
		b.run(append(one.args, "--json")...).refused(exitHeld, "not_confirmed")
		b.run(append(one.args, "--json", "--yes")...).want(exitOK)
	}
})

var logLine = regexp.MustCompile(`(?m)^(\{"time":|time=)`)

var _ = promised("settings: the form and the level of the log", []string{
	"`text` on a terminal, else `json` | | `--log-level` | `BULKINVITE_LOG_LEVEL` | `info`; `warn` in `doctor`, and where `send`, `import`, `resend` and `correct` talk to a terminal |",
}, func(c *check) {
	k := c.clerk()
	b := c.bench(k.env("sk_test_x")...)
	o := b.run("send", "--yes", b.people("a@example.com")).want(exitOK)
	if !strings.HasPrefix(o.err, `{"time":`) || !strings.Contains(o.err, `"level":"INFO"`) ||
		strings.Contains(o.err, `"level":"DEBUG"`) {
		c.Errorf("off a terminal: %s", o.err)
	}
	c.saw("info")
	// Check the default levels of commands that would log something at a lower level.
	if o := b.run("doctor").want(exitOK); strings.Contains(o.err, `"INFO"`) {
		c.Errorf("doctor: %s", o.err)
	}
	b.run("doctor", "--log-level", "debug").want(exitOK).says(`"level":"DEBUG"`)
	for _, args := range [][]string{
		{"send", "--yes", b.people("b@example.com")}, {"import", "--yes", b.people("c@example.com")},
		{"resend", "1", "--yes", "--pending-for", "1ms"}, {"correct", "1", "1", "--yes", "--email", "d@example.com"},
	} {
		if o := b.sit(func(*terminal) {}, args...).want(exitOK); logLine.MatchString(o.out) {
			c.Errorf("%v logs what is no warning to a terminal: %s", args, o.out)
		}
		other := append(slices.Clone(args), "--log-level", "info")
		if args[0] != "send" {
			continue
		}
		other[2] = b.people("e@example.com")
		if o := b.sit(func(*terminal) {}, other...).want(exitOK); !strings.Contains(o.out, "level=INFO") ||
			strings.Contains(o.out, `{"time"`) {
			c.Errorf("%v: no log in text: %s", other, o.out)
		}
	}
	c.saw("text", "warn")
})
