package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestConfig: each setting is shown with its value and where that is from, in
// the order of precedence.
func TestConfig(t *testing.T) {
	t.Parallel()
	b := newBench(t, "BULKINVITE_LIMIT_BULK=20/1h", "CLERK_SECRET_KEY=sk_live_planted", "BULKINVITE_RECONCILE_EVERY=9m",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://me:planted@127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS=authorization=planted")
	path := filepath.Join(t.TempDir(), "bulkinvite.yaml")
	text := "limit-create: 5/1h\nlimit-bulk: 6/1h\nsettle: 4s\nrequest-timeout: 9s\nwork:\n  sweep-at: 0 2 * * *\n  reconcile-every: 1m\nsandbox:\n  listen: 127.0.0.1:9999\n"
	must.OK(t, os.WriteFile(path, []byte(text), 0o600))
	list := decode[[]inForce](t, b.run("config", "--config", path, "--settle", "7s", "--json").want(t, exitOK))
	for _, want := range []inForce{
		{"settle", "7s", "flag", ""},
		{"limit-bulk", "20/1h", "environment", "BULKINVITE_LIMIT_BULK"},
		{"limit-create", "5/1h", "file", path},
		{"request-timeout", "9s", "file", path},
		{"recover-after", "20s", "default", ""},
		{"limit-general", "1000/10s; on development instances 100/10s", "default", ""},
		{"work sweep-at", "0 2 * * *", "file", path},
		{"sandbox listen", "127.0.0.1:9999", "file", path}, // the section of a command that is a setting too
		{"work reconcile-every", "9m", "environment", "BULKINVITE_RECONCILE_EVERY"},
		{keyVariable, "set, and hidden", "environment", keyVariable},
		{otelEndpoint, "http://me:xxxxx@127.0.0.1:1", "environment", otelEndpoint},
		{"OTEL_EXPORTER_OTLP_HEADERS", "set, and hidden", "environment", "OTEL_EXPORTER_OTLP_HEADERS"},
	} {
		if !slices.Contains(list, want) {
			t.Errorf("lacks %+v", want)
		}
	}
	if t.Failed() {
		t.Logf("%+v", list)
	}
}

// TestConfigHidesSecrets: a password is in no form of a database's address, and
// neither the key nor the users are shown.
func TestConfigHidesSecrets(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://bulkinvite:planted@db/bulkinvite",
		"postgres://db/bulkinvite?user=a&password=planted&sslpassword=planted",
		"host=db user=a password=planted",
		"host=db password = 'planted \\' planted' user=a",
		"postgres://a:plan%ted@db/planted", // no URL: a slip in the password
	} {
		b := newBench(t, keyVariable+"=sk_live_planted", usersVariable+"=maria:operator:planted")
		b.env = append(b.env, "DATABASE_URL="+url)
		for _, args := range [][]string{{"config"}, {"config", "--json"}} {
			o := b.run(args...).want(t, exitOK)
			if strings.Contains(o.out+o.err, "planted") {
				t.Errorf("%s: a secret is shown:\n%s%s", url, o.out, o.err)
			}
			expect.Text(t, o.out, "database-url", keyVariable)
		}
	}
}

// TestCompletion asks the program as a shell does.
func TestCompletion(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for line, want := range map[string]string{
		"bulkinvite st":                     "start status",
		"bulkinvite sweep --scope a":        "all",
		"bulkinvite work --sweep-":          "--sweep-at --sweep-older-than --sweep-scope",
		"bulkinvite completion z":           "zsh",
		"bulkinvite check testdata/help-ch": "testdata/help-check.golden",
	} {
		asking := *b
		asking.env = append(slices.Clone(b.env), "COMP_LINE="+line)
		words := strings.Fields(asking.run().want(t, exitOK).out)
		slices.Sort(words)
		expect.Equal(t, fmt.Sprintf("%q goes on with", line), strings.Join(words, " "), want)
	}
}
