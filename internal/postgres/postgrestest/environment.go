package postgrestest

import (
	"fmt"
	"os"
	"strings"
)

// settings are the prefixes of the variables that configure the program, its connections to
// PostgreSQL and its traces.
var settings = []string{"BULKINVITE_", "CLERK_", "DATABASE_URL", "PG", "OTEL_"}

// ClearEnvironment removes the variables that configure the program from this process, so that
// tests do not depend on what the user has exported. [Main] calls it. Other packages that run the
// program or a server call it first in TestMain.
func ClearEnvironment() error {
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !configures(name) {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("clear %s: %w", name, err)
		}
	}
	return nil
}

func configures(name string) bool {
	for _, start := range settings {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}
