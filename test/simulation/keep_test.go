package simulation

import (
	"errors"
	"net"
	"testing"
	"time"
)

// TestDeadWorkerKeepsNoConnection checks that keep closes a connection of a worker that died while
// it connected.
func TestDeadWorkerKeepsNoConnection(t *testing.T) {
	t.Parallel()
	n := &node{dead: true, conns: map[net.Conn]bool{}}
	near, far := net.Pipe()
	kept := make(chan error, 1)
	go func() {
		_, err := n.keep(&toPostgres{Conn: near, n: n})
		kept <- err
	}()
	select {
	case err := <-kept:
		if !errors.Is(err, errDead) {
			t.Errorf("keep: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("keep waits for itself")
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}
