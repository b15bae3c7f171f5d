package main

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkinvite/internal/must"
)

// TestProxySwallows checks that nothing is acknowledged and no connection is made or broken while
// packets are lost. What was written in that time arrives when the network is back.
func TestProxySwallows(t *testing.T) {
	t.Parallel()
	p, c := echoed(t)
	say(t, c, "one")
	hear(t, c, "one")
	p.set(swallowed)
	must.OK(t, p.failed())
	say(t, c, "two")
	if n := unacknowledged(t, c); n != len("two") {
		t.Fatalf("%d bytes are not acknowledged, want %d", n, len("two"))
	}
	dialing, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if x, err := (&net.Dialer{}).DialContext(dialing, "tcp", p.listener.Addr().String()); err == nil {
		t.Fatal("a connection was made while every packet is lost", x.Close())
	}
	p.set(open)
	hear(t, c, "two") // the kernel sends it again
	must.OK(t, p.close())
}

// unacknowledged returns how many bytes of a connection the peer has not acknowledged. It waits a
// moment first, so that a peer could acknowledge them.
func unacknowledged(t *testing.T, c net.Conn) int {
	t.Helper()
	time.Sleep(100 * time.Millisecond) // the absence of an acknowledgement can only be waited for
	raw, err := c.(*net.TCPConn).SyscallConn()
	must.OK(t, err)
	var n int
	var asking error
	if err := raw.Control(func(fd uintptr) { n, asking = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || asking != nil {
		t.Fatal(err, asking)
	}
	return n
}
