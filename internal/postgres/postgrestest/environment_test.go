package postgrestest

import "testing"

func TestConfigures(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"BULKINVITE_SETTLE": true, "CLERK_SECRET_KEY": true, "DATABASE_URL": true, "PGHOST": true, "OTEL_SDK_DISABLED": true,
		"PATH": false, "HOME": false, "TMPDIR": false, "GOFLAGS": false, "TZ": false,
	} {
		if got := configures(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}
