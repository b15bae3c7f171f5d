package jobs

import (
	"testing"
	"time"

	"bulkinvite/clerk/sandbox"
)

// With the settings that nobody changed, what a killed process leaves goes on within
// a minute: its rows once it is declared dead, and its requests once they are read.
func TestDefaultsRecoverWithinAMinute(t *testing.T) {
	t.Parallel()
	w := &Worker{cfg: Config{}.withDefaults()}
	const reading = 10 * time.Second // two lists, and the wait for a lease
	heartbeat := w.heartbeat()
	if dead := w.cfg.RecoverAfter + 2*heartbeat; dead > time.Minute {
		t.Errorf("its rows go on after %s", dead)
	}
	if read := w.cfg.RequestTimeout + w.cfg.Settle + w.idlePoll() + reading; read > time.Minute {
		t.Errorf("its requests are settled after %s", read)
	}
	if gone := 10*time.Second + 3*5*time.Second; w.cfg.RecoverAfter+gone+heartbeat > time.Minute { // see postgres.Open
		t.Errorf("a machine that is gone is found dead after %s", w.cfg.RecoverAfter+gone+heartbeat)
	}
}

// The session of a process' own lock is prepared as those of the pool are.
func TestLockSessionIsPrepared(t *testing.T) {
	t.Parallel()
	b := setup(t, sandbox.Config{})
	conn, err := b.worker(quick).session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var source string
	err = conn.QueryRow(t.Context(), `select source from pg_settings where name = 'tcp_keepalives_idle'`).Scan(&source)
	if closing := conn.Close(t.Context()); err == nil {
		err = closing
	}
	if err != nil || source != "session" {
		t.Errorf("keepalives are of the %s: %v", source, err)
	}
}
