package jobs

import (
	"testing"
	"time"

	"bulkinvite/internal/lease"
)

// With the settings that nobody changed, what a killed process leaves goes on within
// a minute: its rows once it is declared dead, and its requests once they are read.
func TestDefaultsRecoverWithinAMinute(t *testing.T) {
	t.Parallel()
	cfg := Config{}.withDefaults()
	const reading = 10 * time.Second // two lists, and the wait for a lease
	heartbeat := cfg.heartbeat()
	if dead := cfg.RecoverAfter + 2*heartbeat; dead > time.Minute {
		t.Errorf("its rows go on after %s", dead)
	}
	if read := cfg.RequestTimeout + cfg.Settle + cfg.idlePoll() + reading; read > time.Minute {
		t.Errorf("its requests are settled after %s", read)
	}
	if taken := lease.TTL + reading; cfg.RequestTimeout+cfg.Settle+cfg.idlePoll()+taken > time.Minute {
		t.Errorf("a task whose holder died goes on after %s", taken)
	}
}
