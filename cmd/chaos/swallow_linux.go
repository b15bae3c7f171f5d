package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// swallow makes the kernel drop every packet that arrives for a TCP socket before it acknowledges
// it, or ends that. The peer sees a network that loses everything: a connection that is not closed,
// no acknowledgements, and no answer to a keepalive or an attempt to connect. It needs no
// privileges: a socket filter (socket(7), SO_ATTACH_FILTER) that accepts nothing is enough.
func swallow(socket any, yes bool) error {
	if t, ok := socket.(*net.TCPConn); ok {
		// A keepalive of this side would get through and show the peer that the connection lives.
		if err := t.SetKeepAlive(!yes); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("swallow packets: %w", err)
		}
	}
	c, ok := socket.(syscall.Conn)
	if !ok {
		return errors.New("swallow packets: no socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("swallow packets: %w", err)
	}
	var setting error
	err = raw.Control(func(fd uintptr) {
		if yes {
			nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
			setting = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
			return
		}
		setting = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		if errors.Is(setting, unix.ENOENT) { // the connection is closed or never had a filter
			setting = nil
		}
	})
	if errors.Is(err, net.ErrClosed) {
		return nil // the connection ended by itself
	}
	if err := errors.Join(err, setting); err != nil {
		return fmt.Errorf("swallow packets: %w", err)
	}
	return nil
}
