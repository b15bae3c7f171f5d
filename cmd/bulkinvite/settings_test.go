package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

// TestPrecedence: a flag wins over its variable, a variable over the file, the
// file over the default. It sets variables, and so runs by itself.
func TestPrecedence(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	text := "limit-create: 1/1h\nlimit-bulk: 2/1h\nlimit-general: 3/1s\nsettle: 4s\nclerk-key-file: /from/file\nsandbox: true\n"
	must.OK(t, os.WriteFile(config, []byte(text), 0o600))
	t.Setenv("BULKINVITE_CONFIG", config)
	t.Setenv("BULKINVITE_LIMIT_CREATE", "10/1h")
	t.Setenv("BULKINVITE_LIMIT_BULK", "20/1h")
	t.Setenv("BULKINVITE_REQUEST_TIMEOUT", "")
	t.Setenv(keyVariable, "sk_test_x")
	must.OK(t, dropEmptyVariables())
	c := parse(t, "--limit-create", "100/2h", "batches")
	for _, tt := range []struct{ name, got, want string }{
		{"flag", c.LimitCreate.String(), "100/2h"},
		{"variable", c.LimitBulk.String(), "20/1h"},
		{"file", c.LimitGeneral.String(), "3/1s"},
		{"file, a duration", c.Settle.String(), "4s"},
		{"default, though the variable is there and empty", c.RequestTimeout.String(), "20s"},
		{"the key's variable before the file's key file", c.ClerkKeyFile, ""},
	} {
		expect.Equal(t, fmt.Sprintf("%s", tt.name), tt.got, tt.want)
	}
	if !c.settings.Sandbox {
		t.Error("the file's switch is not on")
	}
}

func parse(t *testing.T, args ...string) *cli {
	t.Helper()
	var c cli
	parser, err := newParser(&c, io.Discard)
	must.OK(t, err)
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestDefaults(t *testing.T) {
	c := parse(t, "batches")
	if c.LimitCreate.String() != "100/1h" || c.LimitBulk.String() != "25/1h" || c.LimitGeneral != nil || c.Settle != 15*time.Second ||
		c.RequestTimeout != 20*time.Second || c.RecoverAfter != 20*time.Second || c.ClerkURL != "https://api.clerk.com/v1" {
		t.Errorf("%+v", c.settings)
	}
	for environment, want := range map[string]string{"production": "1000/10s", "development": "100/10s", "sandbox": "1000/10s"} {
		expect.Equal(t, fmt.Sprintf("general limit in %s", environment), c.generalLimit(environment).String(), want)
	}
}

func TestConfigFileFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, says string }{
		{"no such flag", "limit-creates: 1/1h\n", "limit-creates"},
		{"a command's flag among the settings", "sweep-at: 0 2 * * *\n", "below the command's name"},
		{"no such flag of a command", "work:\n  sweep-att: 0 2 * * *\n", "sweep-att"},
		{"a command without flags", "work: true\n", "work is a command"},
		{"no YAML", "limit-create: [\n", "YAML"},
		{"bad value", "limit-create: lots\n", "100/1h"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			must.OK(t, os.WriteFile(path, []byte(tt.text), 0o600))
			var c cli
			parser, err := newParser(&c, io.Discard)
			must.OK(t, err)
			if _, err = parser.Parse([]string{"--config", path, "batches"}); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want one that says %q", err, tt.says)
			}
		})
	}
}
