package main

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"testing"

	"bulkinvite/internal/must"
)

// exported are settings as a person who works with the program has them in
// their shell.
var exported = []string{
	"BULKINVITE_LIMIT_CREATE=1/1h", "BULKINVITE_SETTLE=1h", "BULKINVITE_LOG_LEVEL=error", "CLERK_SECRET_KEY=sk_test_x",
	"CLERK_API_URL=http://127.0.0.1:1/v1", "DATABASE_URL=postgres://nowhere", "PGHOST=nowhere", "PGOPTIONS=-c search_path=nowhere",
	"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1",
}

// The settings of the person who runs the tests change none of their results.
func TestExportedSettings(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must.OK(t, err)
	c := exec.CommandContext(t.Context(), self, "-test.count=1", "-test.run=^(TestConfig|TestConfigFileFaults|TestDefaults)$")
	c.Env = slices.Concat(os.Environ(), exported, []string{programFile + "=" + programPath(t)})
	if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("with settings exported: %v\n%s", err, out)
	}
}
