package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

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
		got := (&program{settings: &c.settings}).limits(environment).General.String()
		expect.Equal(t, "general limit in "+environment, got, want)
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
